"""What was read from an upload (`Reading`, kept on disk, never changed), and the set made of it (`ImageSet`).

One reading can be understood in several ways: by folders, by a table, after the person has renamed classes or left
pictures out. So pixels are decoded once, and an `ImageSet` is always worked out anew (`understand.py`).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tl_core.data.layout import Part

RGB = npt.NDArray[np.uint8]

FILE, PIXELS, THUMBS = "reading.json", "pixels.u8", "thumbs.u8"
THUMB_SIDE = 16  # of the colour thumbnails that copies are found by


@dataclass(frozen=True)
class Stored:
    """A picture that could be read: its path in the upload and where its pixels lie. Its index in `Reading.stored` is
    its row, by which it is known for good. `digest` is of the file's bytes; `traits` are `decode.TRAITS`."""

    name: str
    digest: str
    offset: int
    height: int
    width: int
    traits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skipped:
    """A file that is not used; `reason` is a code with words in every language."""

    name: str
    reason: str


@dataclass(frozen=True)
class Classes:
    """One way to read the classes (`labelling.Labelling`), as it applies to what is stored.

    `labels` are as written, one a row, None where this way gives none; `empty` are classes of which no picture could be
    read; `skipped` are the files that have no class in this way. `guess`: the person has to confirm it.
    """

    id: str
    kind: str
    values: Mapping[str, str]
    guess: bool
    labels: tuple[str | None, ...]
    parts: tuple[Part, ...]
    empty: tuple[str, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class Reading:
    """All that was read of an upload: pixels in `pixels.u8`, thumbnails in `thumbs.u8`, the rest here. `ways` to read
    the classes are sorted by how likely they are meant; `ignored` counts what an operating system left behind."""

    folder: Path
    source: str
    stored: tuple[Stored, ...]
    ways: tuple[Classes, ...]
    skipped: tuple[Skipped, ...]
    ignored: int

    def way(self, id: str) -> Classes:
        """The way called `id`, or the likeliest where there is none of that name."""
        return next((way for way in self.ways if way.id == id), self.ways[0])

    def save(self) -> None:
        record = {k: v for k, v in asdict(self).items() if k != "folder"}
        temporary = self.folder / f"{FILE}.tmp"
        temporary.write_text(json.dumps(record), encoding="utf-8")
        temporary.replace(self.folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> "Reading":
        """The reading saved in `folder`. Raises FileNotFoundError when there is none."""
        record = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return cls(
            folder=folder,
            source=record["source"],
            stored=tuple(Stored(**row | {"traits": tuple(row["traits"])}) for row in record["stored"]),
            ways=tuple(_classes(row) for row in record["ways"]),
            skipped=tuple(Skipped(**row) for row in record["skipped"]),
            ignored=record["ignored"],
        )


def _classes(record: dict[str, Any]) -> Classes:
    lists = {name: tuple(record[name]) for name in ("labels", "parts", "empty")}
    return Classes(**record | lists | {"skipped": tuple(Skipped(**row) for row in record["skipped"])})


@dataclass(frozen=True)
class Picture:
    """One picture of a set: its path in the upload, its class, and where its pixels lie in the store.

    `group` is the same for copies of one picture (exact or near), which must never sit on both sides of a split;
    `digest` is the same for exact copies. `row` is its index in `Reading.stored`.
    """

    name: str
    label: int
    part: Part
    group: int
    offset: int
    height: int
    width: int
    row: int
    digest: str = ""
    traits: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageSet:
    """A set to train on: `folder` holds the pixels. Class order is stored, never re-derived.

    `merged` are folder names and the class each is shown as, where they differ. `stored` counts the pictures of the
    reading, of which `pictures` may be a selection. `alike` are classes whose pictures are nearly all the same.
    """

    folder: Path
    source: str
    class_names: tuple[str, ...]
    pictures: tuple[Picture, ...]
    skipped: tuple[Skipped, ...]
    merged: tuple[tuple[str, str], ...]
    ignored: int
    stored: int
    alike: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[int, ...]:
        """The row in the store of every picture."""
        return tuple(picture.row for picture in self.pictures)

    def counts(self) -> tuple[int, ...]:
        """Pictures in each class, in class order."""
        totals = [0] * len(self.class_names)
        for picture in self.pictures:
            totals[picture.label] += 1
        return tuple(totals)

    def part_counts(self) -> dict[Part, int]:
        """Pictures in each official part; {"": n} when the upload had none."""
        totals: dict[Part, int] = {}
        for picture in self.pictures:
            totals[picture.part] = totals.get(picture.part, 0) + 1
        return totals
