"""Pictures and what is known about them, written as they come: generated names, original bytes, one table. Runs in
the limited child.

    <folder>/train/000001.jpg  validation/000002.png  test/…  more/…      (`more` is any other split)
    <folder>/metadata.jsonl    {"file_name": "train/000001.jpg", "split": "train", "label": "cat", …}

Names and values from the Hub are text inside that JSON and nothing else.
"""

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tl_core.data.layout import part_of
from tl_core.data.tables import MOST_BYTES
from tl_core.errors import plain
from tl_core.settings import Settings

METADATA = "metadata.jsonl"
_TABLE_BYTES = MOST_BYTES - 1_000_000  # what the reader of tables takes, and some room
_FOLDERS = {"train": "train", "val": "validation", "test": "test"}
_MAGIC = (  # where, what, ending
    (0, b"\xff\xd8\xff", "jpg"),
    (0, b"\x89PNG", "png"),
    (8, b"WEBP", "webp"),
    (0, b"GIF8", "gif"),
    (0, b"BM", "bmp"),
    (0, b"II*\0", "tif"),
    (0, b"MM\0*", "tif"),
    (4, b"ftypavi", "avif"),
    (4, b"ftyp", "heic"),
)


class FullError(Exception):
    """There is no room for another picture."""


class Harvest:
    """The folder as it fills. `say` sends a line to the parent; `room` is bytes that may be written."""

    def __init__(self, folder: Path, settings: Settings, room: int, say: Callable[..., None]) -> None:
        self.folder, self.settings, self.say = folder, settings, say
        self.room = room
        self.total = 0
        self.done = 0  # pictures looked at, left out ones included
        self.taken = 0
        self.lost = 0  # empty, too large or unreadable
        self._table = (folder / METADATA).open("w", encoding="utf-8")

    def expect(self, total: int) -> None:
        self.total = total
        self.say(done=0, total=total)

    def name(self, split: str, head: bytes) -> tuple[str, Path]:
        """A new picture's name in the table, and its path. `head` are its first bytes."""
        folder = _FOLDERS.get(part_of(split) or "", "more")
        (self.folder / folder).mkdir(exist_ok=True)
        self.taken += 1
        name = f"{folder}/{self.taken:06}.{ending(head)}"
        return name, self.folder / name

    def picture(self, split: str, data: bytes | memoryview) -> str | None:
        """Keep one picture; its name in the table, None when it is left out. Raises FullError."""
        self.done += 1
        self.say(done=self.done, total=self.total)
        if not 0 < len(data) <= self.settings.max_picture_bytes:
            self.lost += 1
            return None
        self.pay(len(data))
        name, path = self.name(split, bytes(data[:16]))
        path.write_bytes(data)
        return name

    def pay(self, count: int) -> None:
        """Count bytes that are written. Raises FullError when there is no room for them."""
        if count > self.room:
            raise FullError
        self.room -= count

    def row(self, name: str, split: str, values: Mapping[str, str]) -> None:
        """What is known about a picture that was kept, as much of it as has room in the table; in order."""
        line: dict[str, Any] = {"file_name": name, "split": plain(split)}
        room = _TABLE_BYTES // max(1, self.total) - len(json.dumps(line))
        for key, value in values.items():
            room -= len(json.dumps([key, value])) + 2
            if room < 0:
                break
            line.setdefault(f"{key} (own)" if key in line else key, value)
        self._table.write(json.dumps(line) + "\n")

    def close(self) -> None:
        self._table.close()


def ending(head: bytes) -> str:
    """The file ending for a picture that begins so; "bin" for what is none."""
    return next((end for at, magic, end in _MAGIC if head[at : at + len(magic)] == magic), "bin")


def spread(count: int, keep: int, seed: int = 0) -> list[int]:
    """`keep` of the numbers below `count`, one at random from each of as many equal stretches; in order.

    Chance within the stretch, since every third of a table that goes cat, dog, cow, cat… would be cats only.
    """
    if keep >= count:
        return list(range(count))
    rng = random.Random(seed)
    return [rng.randrange(i * count // keep, (i + 1) * count // keep) for i in range(keep)]


def evenly(count: int, keep: int) -> list[int]:
    """`keep` of the numbers below `count`, each in the middle of one of as many equal stretches; in order."""
    return [(2 * i + 1) * count // (2 * keep) for i in range(keep)] if keep < count else list(range(count))


def shares(counts: Mapping[str, int], keep: int) -> dict[str, int]:
    """How many to keep of each split so that they are `keep` in all, in proportion, at least one of each."""
    total = sum(counts.values())
    if keep >= total:
        return dict(counts)
    return {split: min(count, max(1, count * keep // total)) for split, count in counts.items()}
