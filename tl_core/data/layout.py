"""From the paths in one upload to classes and official splits. Pure: looks at names, never at pictures.

The class is the first folder below the wrapper folders that everything shares, or the one below (else above) a folder
named like a split. So `cats/1.jpg`, `my zip/cats/1.jpg`, `data/train/cats/1.jpg` and `cats/train/1.jpg` all mean cats.
Folder names are only read as splits when one of them means "train": a class may well be called "test".

Before that, folders are read the way people mean them: `flowers/flowers/rose` is `flowers/rose`, `cars_train/audi`
beside `cars_test/audi` is `train/audi`, `cats_train` beside `cats_test` and `dogs_train` is `cats/train`.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from tl_core.data.annotations import Folders, annotations
from tl_core.data.folder_words import is_about, says_nothing
from tl_core.errors import plain

Part = Literal["", "train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")

_PART_WORDS: dict[str, Part] = {
    **dict.fromkeys(("train", "training", "训练", "训练集"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "验证", "验证集"), "val"),
    **dict.fromkeys(("test", "testing", "holdout", "测试", "测试集"), "test"),
}
# As in "training_set", "Test data", "seg_train", "train2017", "test1".
_DECORATED = re.compile(r"(?:seg|dataset|data)?(.+?)(?:set|data|images|pictures|split|\d{1,4})?")
_LONGEST_PART_WORD = 32


@lru_cache(maxsize=4096)
def part_of(folder: str) -> Part | None:
    """The part of a split that a folder's name means, or None."""
    if len(folder) > _LONGEST_PART_WORD:
        return None
    key = re.sub(r"[\s_\-.]+", "", unicodedata.normalize("NFC", folder).casefold())
    found = _DECORATED.fullmatch(key)
    return _PART_WORDS.get(key) or (_PART_WORDS.get(found[1]) if found else None)


_PART_AT_END = re.compile(r"(.+?)[\s_\-.]+([^\s_\-.]+)")
_PART_AT_START = re.compile(r"([^\s_\-.]+)[\s_\-.]+(.+)")


@lru_cache(maxsize=4096)
def affixed_part(name: str) -> tuple[str, Part] | None:
    """("cats", "train") for "cats_train" and "train_cats", ("", "train") for "train"; None when no part is named."""
    if part := part_of(name):
        return "", part
    if len(name) > 255:
        return None
    if (found := _PART_AT_END.fullmatch(name)) and (part := part_of(found[2])):
        return found[1], part
    if (found := _PART_AT_START.fullmatch(name)) and (part := part_of(found[1])):
        return found[2], part
    return None


PICTURE_ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp"),
    *(".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"),
)
_MOST_ABOUT = 0.2  # of all pictures, in folders about a data set

NAME_LENGTH = 64


@dataclass(frozen=True)
class Place:
    """Where a picture belongs: its class as written, and the official part it came in ("" when there is none)."""

    label: str
    part: Part


@dataclass(frozen=True)
class Layout:
    """The folders of an upload as understood. Every path is in both: its place or the code of the reason why it has
    none, and the official part that it lies in whether or not it has a class.

    `inner` is the folder whose own folders may be the classes instead (`read_folders(..., within_inner=True)`): most
    pictures are in folders in it, while the folders beside it have none. "" when there is no such folder. `numbered`:
    the classes are nothing but numbered uploads, which may as well be pieces of one pile.
    """

    places: dict[str, Place | str]
    parts: dict[str, Part]
    inner: str = ""
    numbered: bool = False


def interpret(names: Sequence[str]) -> dict[str, Place | str]:
    """The place of every path, or the reason's code why it has none."""
    return read_folders(names).places


def read_folders(names: Iterable[str], *, trained_elsewhere: bool = False, within_inner: bool = False) -> Layout:
    """How the folders of one upload are to be read. `trained_elsewhere`: another upload holds the part to train on, so
    folders called "test" are a part here without one called "train"."""
    folders = {name: tuple(name.split("/")[:-1]) for name in names}
    beside = annotations(filter(looks_like_picture, folders))
    counts = Counter(folders[name] for name in pictures(folders) if name not in beside)
    meant = {path: path for path in (*counts, *folders.values())}
    renamed = _renamed(counts)
    if renamed:
        meant = {path: _apply(path, renamed) for path in meant}
    paths: Counter[Folders] = Counter()
    for path, count in counts.items():
        paths[meant[path]] += count
    has_parts = _has_parts(paths) or (trained_elsewhere and all(any(map(part_of, path)) for path in paths))
    wrapper = around = _wrapper(paths, has_parts)
    inner = None if has_parts else _inner(paths, around)
    if inner is not None and (inner.meant or within_inner):
        wrapper = inner.wrapper
    found = {path: _place(as_meant, wrapper, around, has_parts) for path, as_meant in meant.items()}
    reading = Layout(
        {name: "annotation" if name in beside else found[path][0] for name, path in folders.items()},
        {name: found[path][1] for name, path in folders.items()},
        inner.wrapper[-1] if inner is not None and not inner.meant else "",
    )
    return without_lonely_classes(without_classes_named_as_parts(reading))


def without_classes_named_as_parts(reading: Layout) -> Layout:
    """`reading` as it is, or with parts in place of classes where the classes are called train and test, nothing else:
    then pictures lie in their part without a folder for their class."""
    named: dict[str, Part | None] = {}
    for name in pictures(reading.places):
        if isinstance(place := reading.places[name], Place):
            named[place.label] = part_of(place.label)
    if "train" not in named.values() or None in named.values() or len(set(named.values())) < 2:
        return reading
    places: dict[str, Place | str] = {}
    parts = dict(reading.parts)
    for name, place in reading.places.items():
        if isinstance(place, Place):
            parts[name] = part_of(place.label) or ""
        places[name] = "no_class_folder" if isinstance(place, Place) else place
    return Layout(places, parts)


def without_lonely_classes(reading: Layout) -> Layout:
    """`reading` without the classes that are only in a part not trained on, each the one folder there: `test/images`
    beside `train/cat` and `train/dog` holds pictures whose classes are not told."""
    labels: dict[Part, set[str]] = defaultdict(set)
    for name in pictures(reading.places):
        if isinstance(place := reading.places[name], Place):
            labels[place.part].add(place.label.casefold())
    known = set().union(*(found for part, found in labels.items() if part == "train" or len(found) > 1))
    lonely = {part for part, found in labels.items() if part in ("val", "test") and not found <= known}
    if len(labels["train"]) < 2 or not lonely:
        return reading
    places = {
        name: "no_class_folder"
        if isinstance(place, Place) and place.part in lonely and place.label.casefold() not in known
        else place
        for name, place in reading.places.items()
    }
    return Layout(places, reading.parts, reading.inner)


def pictures(names: Iterable[str]) -> list[str]:
    """Those that look like pictures, or all when none does: only they tell what folders mean."""
    every = list(names)
    return [name for name in every if looks_like_picture(name)] or every


def looks_like_picture(name: str) -> bool:
    return name.lower().endswith(PICTURE_ENDINGS)


def _renamed(paths: Iterable[Folders]) -> dict[Folders, Folders]:
    """Folders that mean something else than their name says: their path -> what stands in place of their name."""
    below: dict[Folders, set[str]] = defaultdict(set)
    for path in paths:
        for at, folder in enumerate(path):
            below[path[:at]].add(folder)
    renamed: dict[Folders, Folders] = {}
    for above, names in below.items():
        if len(names) == 1:
            if above and {name.casefold() for name in names} == {above[-1].casefold()}:
                renamed[(*above, *names)] = ()
            continue
        split = {name: pair for name in names if (pair := affixed_part(name))}
        if len(split) == len(names) and _is_a_split(list(split.values())):
            one = len({what.casefold() for what, _ in split.values()}) == 1
            renamed |= {(*above, name): (part,) if one else (what, part) for name, (what, part) in split.items()}
    return renamed


def _is_a_split(pairs: list[tuple[str, Part]]) -> bool:
    """Whether names that each hold a part are the parts of something: of one thing, or of classes, each with a part to
    train on."""
    whats: dict[str, set[Part]] = defaultdict(set)
    for what, part in pairs:
        whats[what.casefold()].add(part)
    return "" not in whats and all("train" in parts for parts in whats.values()) and len(pairs) > len(whats)


def _apply(path: Folders, renamed: dict[Folders, Folders]) -> Folders:
    out: Folders = ()
    for at, folder in enumerate(path):
        out += renamed.get(path[: at + 1], (folder,))
    return out


def _has_parts(paths: Mapping[Folders, int]) -> bool:
    """Whether folders called "train" are a part: they hold class folders, or stand in several class folders; and
    another part is beside one of them, or most pictures are in parts. Else "train" is what goes on rails.

    `paths`: how many pictures are in every folder.
    """
    above: set[Folders] = set()
    beside: set[Folders] = set()
    holds_folders, inside = False, 0
    for path, count in paths.items():
        parts = [part_of(folder) for folder in path]
        inside += count if any(parts) else 0
        for at, part in enumerate(parts):
            if part == "train":
                above.add(path[:at])
                holds_folders |= len(path) > at + 1
            elif part:
                beside.add(path[:at])
    if not holds_folders and len(above) < 2:
        return False
    return not above.isdisjoint(beside) or 2 * inside > sum(paths.values())


def _place(folders: Folders, wrapper: Folders, around: Folders, has_parts: bool) -> tuple[Place | str, Part]:
    """The place of what lies in `folders`. `around` is what is around everything, `wrapper` what is around classes."""
    if has_parts:
        at = next((i for i, folder in enumerate(folders) if part_of(folder)), None)
        if at is None:
            return "outside_parts" if folders else "no_class_folder", ""
        part = part_of(folders[at]) or ""
        above = [folder for folder in folders[:at] if folder not in wrapper]
        label = folders[at + 1] if len(folders) > at + 1 else above[-1] if above else None
        return Place(label, part) if label else "no_class_folder", part
    if wrapper[: len(folders)] == folders:  # beside the classes, not in one
        return "no_class_folder", ""
    if folders[: len(wrapper)] == wrapper:
        return Place(folders[len(wrapper)], ""), ""
    return Place(folders[0], "") if wrapper == around else "no_class_folder", ""


def _wrapper(paths: Iterable[Folders], has_parts: bool) -> Folders:
    """The folders around all classes: as long as everything deeper is in one folder that has folders of its own."""
    shared: Folders = ()
    every = list(paths)
    while True:
        deeper = [path for path in every if len(path) > len(shared)]
        following = {path[len(shared)] for path in deeper}
        if len(following) != 1 or not any(len(path) > len(shared) + 1 for path in deeper):
            return shared
        if has_parts and part_of(next(iter(following))):
            return shared
        shared += (following.pop(),)


@dataclass(frozen=True)
class _Inner:
    """Folders around what may be the classes, though not around everything. `meant`: they must be, since what lies
    beside is about the data set."""

    wrapper: Folders
    meant: bool


def _inner(paths: Mapping[Folders, int], around: Folders) -> _Inner | None:
    """The largest folder in `around` when most pictures are in folders in it and the folders beside it are flat or
    about the data set: `repo/images/cats` beside `repo/docs`."""
    sizes: Counter[str] = Counter()
    for path, count in paths.items():
        if len(path) > len(around):
            sizes[path[len(around)]] += count
    if len(sizes) < 2:
        return None
    largest = max(sizes, key=lambda name: (sizes[name], name))
    within = [path for path in paths if path[: len(around) + 1] == (*around, largest)]
    wrapper = _wrapper(within, False)
    labelled = [path for path in within if len(path) > len(wrapper)]
    if len({path[len(wrapper)] for path in labelled}) < 2 or len(wrapper) <= len(around):
        return None
    total, others = sizes.total(), sizes.total() - sizes[largest]
    if sum(paths[path] for path in labelled) < 0.9 * sizes[largest] or 2 * others >= total:
        return None
    about = all(is_about(name) for name in sizes if name != largest)
    flat = all(len(path) <= len(around) + 1 or path[len(around)] == largest for path in paths)
    meant = about and (says_nothing(largest) or others <= _MOST_ABOUT * total)
    return _Inner(wrapper, meant) if about or flat else None


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
            changed.append((_told(label, names[label]), names[label]))
    return names, changed


def _told(written: str, shown: str) -> str:
    """`written` so that one sees how it differs from `shown`: with what is invisible spelled out, if need be."""
    told = plain(written)
    spelled = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in written)
    return told if told != shown else plain(spelled)


def _short(name: str, taken: set[str]) -> str:
    """`name` within the length that can be shown, told apart from those that begin alike."""
    short, number = plain(name, NAME_LENGTH), 2
    while short in taken:
        short, number = f"{plain(name, NAME_LENGTH - 6)} ({number})", number + 1
    return short


def natural_order(name: str) -> tuple[tuple[tuple[int, int | str], ...], str]:
    """A sort key that puts "class 2" before "class 10". Different names never tie ("Cat" and "cat", "1" and "01"), so
    that a sorted set is the same in every process."""
    runs = re.findall(r"\d+|\D+", name)
    return tuple((0, int(run)) if run.isdecimal() else (1, run.casefold()) for run in runs), name
