"""From the paths in an upload to classes and official splits. Pure: looks at names, never at pictures.

The class is the first folder below the wrapper folders that everything shares, or the one below (else above) a folder
named like a split. So `cats/1.jpg`, `my zip/cats/1.jpg`, `data/train/cats/1.jpg` and `cats/train/1.jpg` all mean cats.
Folder names are only read as splits when one of them means "train": a class may well be called "test".
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tl_core.errors import plain

Part = Literal["", "train", "val", "test"]

PART_NAMES: dict[str, Part] = {
    **dict.fromkeys(("train", "training", "训练", "训练集"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "验证", "验证集"), "val"),
    **dict.fromkeys(("test", "testing", "holdout", "测试", "测试集"), "test"),
}
PICTURE_ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp"),
    *(".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"),
)


@dataclass(frozen=True)
class Place:
    """Where a picture belongs: its class as written, and the official part it came in ("" when there is none)."""

    label: str
    part: Part


def interpret(names: Sequence[str]) -> dict[str, Place | None]:
    """The place of every path; None for a picture in no class folder."""
    folders = {name: tuple(name.split("/")[:-1]) for name in names}
    pictures = [name for name in names if looks_like_picture(name)] or list(names)
    has_parts = any(PART_NAMES.get(_key(part)) == "train" for name in pictures for part in folders[name])
    wrapper = _wrapper([folders[name] for name in pictures], has_parts)
    return {name: _place(folders[name], wrapper, has_parts) for name in names}


def looks_like_picture(name: str) -> bool:
    return name.lower().endswith(PICTURE_ENDINGS)


def _place(folders: tuple[str, ...], wrapper: tuple[str, ...], has_parts: bool) -> Place | None:
    if has_parts:
        at = next((i for i, folder in enumerate(folders) if _key(folder) in PART_NAMES), None)
        if at is not None:
            part = PART_NAMES[_key(folders[at])]
            above = [folder for folder in folders[:at] if folder not in wrapper]
            label = folders[at + 1] if len(folders) > at + 1 else above[-1] if above else None
            return Place(label, part) if label else None
    if wrapper[: len(folders)] == folders:  # beside the classes, not in one
        return None
    below = folders[len(wrapper) :] if folders[: len(wrapper)] == wrapper else folders
    return Place(below[0], "")


def _wrapper(paths: list[tuple[str, ...]], has_parts: bool) -> tuple[str, ...]:
    """The folders around all classes: as long as everything deeper is in one folder that has folders of its own."""
    shared: tuple[str, ...] = ()
    while True:
        deeper = [path for path in paths if len(path) > len(shared)]
        following = {path[len(shared)] for path in deeper}
        if len(following) != 1 or not any(len(path) > len(shared) + 1 for path in deeper):
            return shared
        if has_parts and _key(next(iter(following))) in PART_NAMES:
            return shared
        shared += (following.pop(),)


def _key(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip().casefold()


def merge_labels(labels: Iterable[str]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Each label as written -> the class name to show, and the (written, shown) pairs that were merged or cleaned.

    Names equal but for case, accents' encoding, spaces or invisible characters are one class.
    """
    shown: dict[str, str] = {}
    names: dict[str, str] = {}
    changed: list[tuple[str, str]] = []
    for label in sorted(set(labels), key=natural_order):
        clean = plain(unicodedata.normalize("NFC", label), 64) or "_"
        names[label] = shown.setdefault(clean.casefold(), clean)
        if names[label] != label:
            changed.append((plain(label), names[label]))
    return names, changed


def natural_order(name: str) -> tuple[tuple[int, int | str], ...]:
    """A sort key that puts "class 2" before "class 10"."""
    return tuple((0, int(run)) if run.isdecimal() else (1, run.casefold()) for run in re.findall(r"\d+|\D+", name))
