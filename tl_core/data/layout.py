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
PARTS: tuple[Part, ...] = ("train", "val", "test")

_PART_WORDS: dict[str, Part] = {
    **dict.fromkeys(("train", "training", "训练", "训练集"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "验证", "验证集"), "val"),
    **dict.fromkeys(("test", "testing", "holdout", "测试", "测试集"), "test"),
}
# As in "training_set", "Test data", "seg_train", "train2017".
_DECORATED = re.compile(r"(?:seg|dataset|data)?(.+?)(?:set|data|images|pictures|split|\d{4})?")


def part_of(folder: str) -> Part | None:
    """The part of a split that a folder's name means, or None."""
    key = re.sub(r"[\s_\-.]+", "", unicodedata.normalize("NFC", folder).casefold())
    found = _DECORATED.fullmatch(key)
    return _PART_WORDS.get(key) or (_PART_WORDS.get(found[1]) if found else None)


PICTURE_ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp"),
    *(".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"),
)


NAME_LENGTH = 64


@dataclass(frozen=True)
class Place:
    """Where a picture belongs: its class as written, and the official part it came in ("" when there is none)."""

    label: str
    part: Part


def interpret(names: Sequence[str]) -> dict[str, Place | str]:
    """The place of every path, or the reason's code why it has none."""
    folders = {name: tuple(name.split("/")[:-1]) for name in names}
    pictures = [folders[name] for name in names if looks_like_picture(name)] or list(folders.values())
    has_parts = _has_parts(pictures)
    wrapper = _wrapper(pictures, has_parts)
    return {name: _place(folders[name], wrapper, has_parts) for name in names}


def _has_parts(paths: list[tuple[str, ...]]) -> bool:
    """Whether folders called "train" are a part: they hold class folders, or stand in several class folders."""
    above: set[tuple[str, ...]] = set()
    for path in paths:
        for at, folder in enumerate(path):
            if part_of(folder) == "train":
                if len(path) > at + 1:
                    return True
                above.add(path[:at])
    return len(above) > 1


def looks_like_picture(name: str) -> bool:
    return name.lower().endswith(PICTURE_ENDINGS)


def _place(folders: tuple[str, ...], wrapper: tuple[str, ...], has_parts: bool) -> Place | str:
    if has_parts:
        at = next((i for i, folder in enumerate(folders) if part_of(folder)), None)
        if at is None:
            return "outside_parts" if folders else "no_class_folder"
        above = [folder for folder in folders[:at] if folder not in wrapper]
        label = folders[at + 1] if len(folders) > at + 1 else above[-1] if above else None
        return Place(label, part_of(folders[at]) or "") if label else "no_class_folder"
    if wrapper[: len(folders)] == folders:  # beside the classes, not in one
        return "no_class_folder"
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
        if has_parts and part_of(next(iter(following))):
            return shared
        shared += (following.pop(),)


def merge_labels(labels: Iterable[str]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Each label as written -> the class name to show, and the (written, shown) pairs that were merged or cleaned.

    Names equal but for case, accents' encoding, spaces or invisible characters are one class.
    """
    shown: dict[str, str] = {}
    names: dict[str, str] = {}
    changed: list[tuple[str, str]] = []
    for label in sorted(set(labels), key=natural_order):
        clean = plain(unicodedata.normalize("NFC", label), 10_000) or "_"
        if clean.casefold() not in shown:
            shown[clean.casefold()] = _short(clean, set(shown.values()))
        names[label] = shown[clean.casefold()]
        if names[label] != label:
            changed.append((plain(label), names[label]))
    return names, changed


def _short(name: str, taken: set[str]) -> str:
    """`name` within the length that can be shown, told apart from those that begin alike."""
    short, number = plain(name, NAME_LENGTH), 2
    while short in taken:
        short, number = f"{plain(name, NAME_LENGTH - 6)} ({number})", number + 1
    return short


def natural_order(name: str) -> tuple[tuple[int, int | str], ...]:
    """A sort key that puts "class 2" before "class 10"."""
    return tuple((0, int(run)) if run.isdecimal() else (1, run.casefold()) for run in re.findall(r"\d+|\D+", name))
