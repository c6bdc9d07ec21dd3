"""An `ImageSet`: the classes, pictures and official split that were understood, and what was left out and why."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tl_core.data.layout import Part

RGB = npt.NDArray[np.uint8]

FILE, PIXELS = "imageset.json", "pixels.u8"


@dataclass(frozen=True)
class Picture:
    """One usable picture: its path in the upload, its class, and where its pixels lie in the store.

    `group` is the same for copies of one picture (exact or near), which must never sit on both sides of a split.
    """

    name: str
    label: int
    part: Part
    group: int
    offset: int
    height: int
    width: int


@dataclass(frozen=True)
class Skipped:
    """A file that is not used; `reason` is a code with words in every language."""

    name: str
    reason: str


@dataclass(frozen=True)
class Remark:
    """Something the person should know about the set; `code` names the sentence, `values` fill it."""

    code: str
    values: dict[str, str]


@dataclass(frozen=True)
class ImageSet:
    """A prepared set in `folder`: pixels in `pixels.u8`, all else here. Class order is stored, never re-derived."""

    folder: Path
    source: str
    class_names: tuple[str, ...]
    pictures: tuple[Picture, ...]
    skipped: tuple[Skipped, ...]
    remarks: tuple[Remark, ...]
    ignored: int

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

    def save(self) -> None:
        record = {k: v for k, v in asdict(self).items() if k != "folder"}
        temporary = self.folder / f"{FILE}.tmp"
        temporary.write_text(json.dumps(record), encoding="utf-8")
        temporary.replace(self.folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> "ImageSet":
        """The set saved in `folder`. Raises FileNotFoundError when there is none."""
        record = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return cls(
            folder=folder,
            source=record["source"],
            class_names=tuple(record["class_names"]),
            pictures=tuple(Picture(**row) for row in record["pictures"]),
            skipped=tuple(Skipped(**row) for row in record["skipped"]),
            remarks=tuple(Remark(**row) for row in record["remarks"]),
            ignored=record["ignored"],
        )
