"""What an upload holds, and the rules every file's name goes through, whatever it came packed in.

Names are hostile text: they are only ever compared, shown (escaped) and read as folders of classes; nothing is written
under one. Used by the readers of folders, zips and tars; does no reading itself.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from tl_core.errors import TooLargeError
from tl_core.settings import Settings

JUNK_FOLDERS = {"__macosx", "@eadir", "$recycle.bin", "system volume information"}
JUNK_FILES = {"thumbs.db", "desktop.ini", "icon\r"}
NESTED = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".lzma")
_MAX_COMPONENT, MAX_PATH = 255, 1_024  # bytes in UTF-8
# "Bär", "Größe", "Äpfel" in a code page of one byte a letter.
_AMONG_LETTERS = re.compile(rb"[A-Za-z][\x80-\xff]{1,2}[A-Za-z]|(?<![\x80-\xff])[\x80-\xff][A-Za-z]{2}")
_DRIVE = re.compile("[A-Za-z]:")
_SHOWN = 255  # characters of a name that is only kept to be shown
_BEAT_EVERY = 0.2  # seconds


class UnreadableEntryError(Exception):
    """One file of the upload cannot be read; `args[0]` is the reason's code."""


@dataclass(frozen=True)
class Member:
    """A file of the upload: its cleaned path, its declared size, and where its reader finds it again."""

    name: str
    size: int
    at: int


@dataclass
class Listing:
    """What an upload holds: files worth reading, files left out with the reason's code, and how much was junk."""

    members: list[Member] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    ignored: int = 0

    def add(self, name: str, size: int, at: int, settings: Settings) -> None:
        """Take a file in, or say why not."""
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts:
            self.ignored += 1
        elif "\0" in name or _DRIVE.fullmatch(parts[0]) or any(len(p) > 1 and not p.strip(".") for p in parts):
            self.skip(name, "name_unusable")
        elif is_junk(parts):
            self.ignored += 1
        elif _too_long(parts, settings.max_depth):
            self.skip(name, "name_too_long")
        elif parts[-1].lower().endswith(NESTED):
            self.skip(name, "nested_archive")
        elif size == 0:
            self.skip(name, "empty_file")
        elif size > settings.max_picture_bytes:
            self.skip(name, "too_large_file")
        else:
            self.members.append(Member(unicodedata.normalize("NFC", "/".join(parts)), size, at))

    def skip(self, name: str, code: str) -> None:
        self.skipped.append((name[:_SHOWN], code))


class Reader(Protocol):
    """One kind of upload: fills a listing, then gives the bytes of its members, asked for in the listing's order."""

    def list_into(self, listing: Listing) -> None: ...

    def read(self, member: Member) -> bytes: ...

    def close(self) -> None: ...


class Beat:
    """Calls `alive` with the number of files seen so far, a few times a second however often it is called itself."""

    def __init__(self, alive: Callable[[int], None]) -> None:
        self._alive, self._due = alive, monotonic() + _BEAT_EVERY
        self.seen = 0

    def __call__(self) -> None:
        if (now := monotonic()) >= self._due:
            self._due = now + _BEAT_EVERY
            self._alive(self.seen)


def is_junk(parts: list[str]) -> bool:
    """Whether a path is something an operating system left behind, never meant as content."""
    lower = [part.lower() for part in parts]
    return any(part in JUNK_FOLDERS or part.startswith(".") for part in lower) or lower[-1] in JUNK_FILES


def _too_long(parts: list[str], max_depth: int) -> bool:
    lengths = [len(part.encode("utf-8", "surrogatepass")) for part in parts]
    return len(parts) - 1 > max_depth or max(lengths) > _MAX_COMPONENT or sum(lengths) + len(parts) - 1 > MAX_PATH


def check_count(entries: int, name: str, settings: Settings) -> None:
    """Raises TooLargeError when an upload holds more entries than allowed, whatever they are."""
    if entries > settings.max_entries:
        raise TooLargeError(found=f"{entries:,}", unit="files", name=name, limit=f"{settings.max_entries:,}")


def too_large(found: int, limit: int, unit: str, name: str, *, at_least: bool = False) -> TooLargeError:
    """The error that states both sizes, in the largest unit that tells them apart."""
    texts = f"{found:,} bytes", f"{limit:,} bytes"
    for size, word in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        short = f"{found / size:,.1f} {word}", f"{limit / size:,.1f} {word}"
        if limit >= size and (at_least or short[0] != short[1]):
            texts = short
            break
    return TooLargeError(found="more than " * at_least + texts[0], unit=unit, name=name, limit=texts[1])


def name_encoding(names: Iterable[bytes]) -> str:
    """How names that do not say so are written: one encoding for the whole upload, or short names would mislead
    (the Chinese "cat" in GBK is a valid "è" in UTF-8).

    GBK and Shift-JIS accept each other's bytes and most Latin names, so the one whose characters are in common use is
    taken (GB 2312; kana and level 1 of JIS X 0208), and letters around a byte speak for a Latin name.
    """
    odd = [name for name in names if not name.isascii()]
    latin = sum(len(_AMONG_LETTERS.findall(name)) for name in odd)
    scores: dict[str, float] = {}
    for encoding, score in (("utf-8", _always), ("gbk", _in_gb2312), ("shift_jis", _in_jis_level_1)):
        try:
            texts = [name.decode(encoding) for name in odd]
        except UnicodeDecodeError:
            continue
        foreign = [character for text in texts for character in text if not character.isascii()]
        scores[encoding] = (sum(map(score, foreign)) - latin) / max(len(foreign), 1)
        if encoding == "utf-8":
            return encoding
    best = max(scores, key=lambda encoding: scores[encoding], default="cp437")
    return best if scores.get(best, 0) >= 0.25 else "cp437"


def _always(character: str) -> float:
    return 1.0


def _in_gb2312(character: str) -> float:
    """1 for a common Chinese character, half for a rare one of two high bytes (Latin names hardly ever have two)."""
    try:
        first, second = character.encode("gbk")
    except ValueError:
        return 0.0
    if 0xA1 <= first <= 0xF7 and second >= 0xA1:
        return 1.0
    return 0.5 if second >= 0x80 else 0.0


def _in_jis_level_1(character: str) -> float:
    """1 for kana and common kanji, half for rare kanji, nothing for what Chinese bytes turn into: half-width kana."""
    try:
        first, second = character.encode("shift_jis")
    except ValueError:
        return 0.0
    code = first << 8 | second
    if 0x829F <= code <= 0x8396 or 0x889F <= code <= 0x9872 or code == 0x815B:
        return 1.0
    return 0.3 if code > 0x9872 else 0.0
