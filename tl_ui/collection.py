"""Pictures collected class by class in the browser, kept in a folder so that a reload loses nothing.

    classes.json    the classes in order, their names and their pictures
    pictures/<id>   the files as they came, under names of ours
    thumbs/<id>     small JPEGs of ours; <id>.why where the file cannot be shown

`classes.json` is replaced in one step, after the files it names are there and before those it no longer names go.
Pictures are opened in the limited child only. An id that is not (or no longer) there changes nothing.
"""

import contextlib
import io
import json
import os
import shutil
import threading
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from tl_core import disk
from tl_core.data.imageset import RGB
from tl_core.data.intake import decode_files
from tl_core.errors import CollectionFullError, plain
from tl_core.settings import Settings

_FILE, _PICTURES, _THUMBS = "classes.json", "pictures", "thumbs"
_NAME_LENGTH = 64
_THUMB_SIDE = 112
# One lock for all: a change takes milliseconds, and two tabs of one person must not lose each other's.
_LOCK = threading.Lock()


@dataclass(frozen=True)
class CollectedClass:
    """A class, its name as the person wrote it, and the ids of its pictures, oldest first."""

    id: str
    name: str
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Kept:
    """What classes.json says: the next number to give, bytes of all pictures, and the classes."""

    next: int = 1
    bytes: int = 0
    classes: tuple[CollectedClass, ...] = ()


class Collection:
    """The collection in `folder`, which need not be there yet."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder, self._settings = folder, settings

    def exists(self) -> bool:
        return (self._folder / _FILE).is_file()

    def start(self, names: Sequence[str]) -> None:
        """Begin with empty classes of these names, unless there is a collection already."""
        with _LOCK:
            if not self.exists():
                self._save(begun(names))

    def classes(self) -> tuple[CollectedClass, ...]:
        return self._load().classes

    def add_class(self, name: str) -> str:
        """A new empty class at the end; gives its id. Raises CollectionFullError."""
        with _LOCK:
            kept = self._load()
            if len(kept.classes) >= self._settings.max_classes:
                raise self._full()
            new = CollectedClass(f"c{kept.next}", plain(name, _NAME_LENGTH))
            self._save(replace(kept, next=kept.next + 1, classes=(*kept.classes, new)))
            return new.id

    def rename(self, class_id: str, name: str) -> None:
        """Give a class another name; an empty one leaves it as it is."""
        if name := plain(name, _NAME_LENGTH):
            self._change(class_id, lambda found: replace(found, name=name))

    def remove_class(self, class_id: str) -> None:
        """Forget a class and its pictures."""
        with _LOCK:
            kept = self._load()
            gone = [picture for one in kept.classes if one.id == class_id for picture in one.pictures]
            self._forget(replace(kept, classes=tuple(one for one in kept.classes if one.id != class_id)), gone)

    def remove_picture(self, class_id: str, picture: str) -> None:
        """Forget one picture of a class."""
        with _LOCK:
            kept = self._load()
            if any(one.id == class_id and picture in one.pictures for one in kept.classes):
                changed = lambda one: replace(one, pictures=tuple(p for p in one.pictures if p != picture))  # noqa: E731
                self._forget(_with(kept, class_id, changed), [picture])

    def add_pictures(self, class_id: str, files: Sequence[Path]) -> tuple[str | None, ...]:
        """Take files into a class; gives each one's id, or None where it is gone or larger than a picture may be.

        Raises CollectionFullError (then none is taken) and DiskFullError.
        """
        with _LOCK:
            kept = self._load()
            if not any(one.id == class_id for one in kept.classes):
                return (None,) * len(files)
            sizes = [file.stat().st_size if file.is_file() else -1 for file in files]
            usable = [0 <= size <= self._settings.max_picture_bytes for size in sizes]
            count = sum(len(one.pictures) for one in kept.classes) + sum(usable)
            total = kept.bytes + sum(size for size, good in zip(sizes, usable, strict=True) if good)
            if count > self._settings.max_pictures or total > self._settings.max_upload:
                raise self._full()
            disk.need(self._folder, self._settings.free_disk_reserve)
            ids = tuple(f"p{kept.next + i}" if good else None for i, good in enumerate(usable))
            (self._folder / _PICTURES).mkdir(exist_ok=True)
            for file, picture in zip(files, ids, strict=True):
                if picture is not None:
                    _take(file, self._path(picture))
            new = tuple(picture for picture in ids if picture is not None)
            kept = replace(kept, next=kept.next + len(files), bytes=total)
            self._save(_with(kept, class_id, lambda one: replace(one, pictures=(*one.pictures, *new))))
            return ids

    def files(self) -> tuple[tuple[str, Path], ...]:
        """("class name/1.jpg", file) of every picture, for intake. Two classes of one name are one class.

        No number is given twice, so that no picture can be taken for one that belongs to another, as masks do.
        """
        every = [(component(one.name), picture) for one in self.classes() for picture in one.pictures]
        return tuple(
            (f"{name}/{number}.jpg", self._path(picture)) for number, (name, picture) in enumerate(every, start=1)
        )

    def ready(self) -> bool:
        """Whether there is enough to go on with: two classes of different names, each with two pictures."""
        counted: dict[str, int] = {}
        for one in self.classes():
            name = component(one.name).casefold()
            counted[name] = counted.get(name, 0) + len(one.pictures)
        return sum(count >= self._settings.min_pictures_per_class for count in counted.values()) >= 2

    def thumbnails(self, pictures: Sequence[str]) -> dict[str, bytes | str]:
        """Small JPEGs by id, or the code of the reason why there is none; ids that are not there are left out.

        May take seconds: files not shown before are decoded in the limited child.
        """
        there = {picture for one in self.classes() for picture in one.pictures}
        wanted = [picture for picture in dict.fromkeys(pictures) if picture in there]
        found = {picture: shown for picture in wanted if (shown := self._kept_thumbnail(picture)) is not None}
        fresh = [picture for picture in wanted if picture not in found and self._path(picture).is_file()]
        if fresh:
            (self._folder / _THUMBS).mkdir(exist_ok=True)
            decoded = decode_files([self._path(picture) for picture in fresh], self._settings)
            for picture, pixels in zip(fresh, decoded, strict=True):
                found[picture] = pixels if isinstance(pixels, str) else _small_jpeg(pixels)
                self._keep_thumbnail(picture, found[picture])
        return found

    def _kept_thumbnail(self, picture: str) -> bytes | str | None:
        base = self._folder / _THUMBS / picture
        with contextlib.suppress(OSError):
            return base.read_bytes()
        with contextlib.suppress(OSError):
            return base.with_suffix(".why").read_text(encoding="utf-8")
        return None

    def _keep_thumbnail(self, picture: str, shown: bytes | str) -> None:
        base = self._folder / _THUMBS / picture
        with contextlib.suppress(OSError):  # removed meanwhile, or no room: it can be made again
            if isinstance(shown, str):
                base.with_suffix(".why").write_text(shown, encoding="utf-8")
            else:
                _replace(base, shown)

    def _path(self, picture: str) -> Path:
        return self._folder / _PICTURES / picture

    def _full(self) -> CollectionFullError:
        limits = self._settings
        return CollectionFullError(
            pictures=f"{limits.max_pictures:,}",
            classes=f"{limits.max_classes:,}",
            size=f"{limits.max_upload / 1e9:g} GB",
        )

    def _change(self, class_id: str, change: Callable[[CollectedClass], CollectedClass]) -> None:
        with _LOCK:
            kept = self._load()
            changed = _with(kept, class_id, change)
            if changed != kept:
                self._save(changed)

    def _forget(self, kept: _Kept, pictures: Sequence[str]) -> None:
        sizes = 0
        for picture in pictures:
            with contextlib.suppress(OSError):
                sizes += self._path(picture).stat().st_size
        self._save(replace(kept, bytes=max(0, kept.bytes - sizes)))
        for picture in pictures:
            thumb = self._folder / _THUMBS / picture
            for file in (self._path(picture), thumb, thumb.with_suffix(".why")):
                file.unlink(missing_ok=True)

    def _load(self) -> _Kept:
        try:
            record = json.loads((self._folder / _FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return _Kept()
        classes = tuple(CollectedClass(one["id"], one["name"], tuple(one["pictures"])) for one in record["classes"])
        return _Kept(record["next"], record["bytes"], classes)

    def _save(self, kept: _Kept) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        classes = [{"id": one.id, "name": one.name, "pictures": one.pictures} for one in kept.classes]
        record = {"next": kept.next, "bytes": kept.bytes, "classes": classes}
        _replace(self._folder / _FILE, json.dumps(record).encode())


def begun(names: Sequence[str]) -> _Kept:
    """What a collection is when it has just begun with classes of these names."""
    classes = tuple(CollectedClass(f"c{i}", plain(name, _NAME_LENGTH)) for i, name in enumerate(names, 1))
    return _Kept(next=len(classes) + 1, classes=classes)


def component(name: str) -> str:
    """A class name as one part of a path: no separators, no control characters, no dot in front, no colon behind."""
    name = unicodedata.normalize("NFC", plain(name, _NAME_LENGTH)).replace("/", "-").replace("\\", "-").rstrip(": ")
    bare = name.lstrip(".")
    return "_" * (len(name) - len(bare)) + bare or "_"


def _with(kept: _Kept, class_id: str, change: Callable[[CollectedClass], CollectedClass]) -> _Kept:
    return replace(kept, classes=tuple(change(one) if one.id == class_id else one for one in kept.classes))


def _take(file: Path, own: Path) -> None:
    own.unlink(missing_ok=True)  # left by a change that did not get as far as classes.json
    try:
        os.link(file, own)
    except OSError:
        shutil.copyfile(file, own)


def _replace(file: Path, content: bytes) -> None:
    temporary = file.with_suffix(".tmp")
    with temporary.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)


def _small_jpeg(pixels: RGB) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((_THUMB_SIDE, _THUMB_SIDE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return out.getvalue()
