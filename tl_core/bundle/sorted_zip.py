"""A zip of files sorted by what a model says about them: the files as they came, in a folder for each class.

Class and file names come from strangers, and the zip may be unpacked on any system, so every name in it is made by
`safe_name` and no two in one folder differ only in case (SECURITY: path traversal, device names, look-alikes).
"""

import re
import time
import unicodedata
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tl_core import disk
from tl_core.data.pile import Pile
from tl_core.errors import plain
from tl_core.settings import Settings

if TYPE_CHECKING:  # the page starts without torch
    from tl_core.bundle.predictor import Prediction

# What Windows does not allow in a name, and the names that it keeps for devices, whatever ending they have
# (https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file).
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*", re.IGNORECASE)
_LONGEST = 180  # bytes of a name in UTF-8; 255 is what file systems hold, and a number may follow
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,8}$")


@dataclass(frozen=True)
class FolderNames:
    """What the folders that are no classes are called, in the person's language."""

    unsure: str
    strange: str
    unreadable: str


@dataclass(frozen=True)
class Sorted:
    """How many files are in the zip, and how many could not be kept to be put into it."""

    files: int
    missing: int


def sort_into(
    target: Path,
    pile: Pile,
    found: "Mapping[int, Prediction]",
    folders: FolderNames,
    settings: Settings,
    *,
    least: float,
    table: tuple[str, str],
) -> Sorted:
    """Write the zip at `target`: what is strange, less sure than `least` in [0, 1] or unreadable lies in folders of its
    own. `table` is the name and text of a table put beside the folders. Raises DiskFullError."""
    total = sum(file.original[1] for file in pile.files if file.original is not None)
    disk.need(target.parent, total + settings.free_disk_reserve)
    names = _Names()
    name_of_table = names.take("", table[0])
    classes = sorted({one.label for one in found.values()})
    called = {label: names.take("", label) for label in classes}
    unsure, strange = names.take("", folders.unsure), names.take("", folders.strange)
    unreadable, written, missing = names.take("", folders.unreadable), 0, 0
    with zipfile.ZipFile(target, "w") as archive:  # stored: pictures are packed already
        archive.writestr(_entry(name_of_table), table[1])
        for at, file in enumerate(pile.files):
            answer, data = found.get(at), pile.original(at)
            if data is None or (answer is None and file.picture is not None):  # not answered: it was stopped before
                missing += 1
                continue
            if answer is None:
                folder = unreadable
            elif answer.strange:
                folder = strange
            else:
                folder = unsure if answer.confidence < least else called[answer.label]
            archive.writestr(_entry(f"{folder}/{names.take(folder, _last(file.name))}"), data)
            written += 1
    return Sorted(written, missing)


def safe_name(text: str) -> str:
    """`text` as the name of one file or folder on any system: never a path, a device, hidden, empty or too long."""
    name = _FORBIDDEN.sub("_", plain(unicodedata.normalize("NFC", text), 10_000))
    name = re.sub(r"^[.\s]+", "_", name).rstrip(". ")
    name = _cut(name)
    stem, dot, ending = name.partition(".")
    if _DEVICE.fullmatch(stem):
        name = f"{stem.rstrip()}_{dot}{ending}"
    return name or "_"


def _cut(name: str) -> str:
    """`name` within `_LONGEST` bytes, with the ending it has."""
    ending = found[0] if (found := _ENDING.search(name)) else ""
    stem = name.removesuffix(ending)
    while len(stem.encode()) + len(ending) > _LONGEST:
        stem = stem[:-1]
    return stem.rstrip(". ") + ending if ending else stem.rstrip(". ")


class _Names:
    """The names that are taken in each folder."""

    def __init__(self) -> None:
        self._taken: set[tuple[str, str]] = set()
        self._next: dict[tuple[str, str], int] = {}

    def take(self, folder: str, text: str) -> str:
        """A safe name for `text` that nothing in `folder` has, on systems too where case and forms of a letter do not
        count: "a.jpg", then "a (2).jpg"."""
        name = safe_name(text)
        ending = found[0] if (found := _ENDING.search(name)) else ""
        stem, tried = name.removesuffix(ending), name
        number = self._next.get((folder, _same(name)), 2)
        while (folder, _same(tried)) in self._taken:
            tried, number = f"{stem} ({number}){ending}", number + 1
        self._next[(folder, _same(name))] = number
        self._taken.add((folder, _same(tried)))
        return tried


def _same(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _last(path: str) -> str:
    """The file's own name."""
    return next((part for part in reversed(re.split(r"[/\\]", path)) if part.strip(". ")), "")


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, time.localtime()[:6])
    entry.external_attr = 0o644 << 16
    return entry
