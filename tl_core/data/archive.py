"""Lists and reads the files of an upload (a zip, a folder, or loose files) without trusting a byte of it.

Guards against: overlapping entries and forged sizes (zip bombs), too many entries, entries that are links or devices,
passwords, names that lead elsewhere. Nothing is ever unpacked to disk: an entry is read into memory, bounded.
Does not judge what is inside a file (`decode` does). Runs in the limited child only.
"""

import lzma
import os
import stat
import struct
import unicodedata
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tl_core.errors import (
    BrokenArchiveError,
    EmptyUploadError,
    NotAnArchiveError,
    OtherArchiveError,
    PasswordError,
    TooLargeError,
    UnsafeArchiveError,
)
from tl_core.settings import Settings

JUNK_FOLDERS = {"__macosx", "@eadir", "$recycle.bin", "system volume information"}
JUNK_FILES = {"thumbs.db", "desktop.ini", "icon\r"}
NESTED = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz")
_OTHER_ARCHIVES = (
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!", "rar"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
)
_READABLE_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_READ_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, struct.error)
_MAX_DIRECTORY_BYTES = 16_000_000


class UnreadableEntryError(Exception):
    """One file of the upload cannot be read; `args[0]` is the reason's code."""


@dataclass(frozen=True)
class Member:
    """A file of the upload: its cleaned path, its declared size, and how the source finds it again."""

    name: str
    size: int
    handle: zipfile.ZipInfo | Path


@dataclass
class Listing:
    """What an upload holds: files worth reading, files left out with the reason's code, and how much was junk."""

    members: list[Member] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    ignored: int = 0


class Source:
    """An opened upload. Use as a context manager; `listing` is made on entry, `read` gives one file's bytes.

    `name` is what the person called it. Raises an `IntakeError` on entry when nothing can be read from it.
    """

    def __init__(self, path: Path, name: str, settings: Settings) -> None:
        self.path, self.name, self.settings = path, name, settings
        self.listing = Listing()
        self._zip: zipfile.ZipFile | None = None

    def __enter__(self) -> "Source":
        if self.path.is_dir():
            self._list_folder()
        else:
            self._zip = _open_zip(self.path, self.name, self.settings)
            self._list_zip(self._zip)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._zip is not None:
            self._zip.close()

    def read(self, member: Member) -> bytes:
        """The bytes of one file. Raises UnreadableEntryError with the reason's code."""
        limit = self.settings.max_picture_bytes
        try:
            if isinstance(member.handle, Path):
                with member.handle.open("rb") as file:
                    return file.read(limit)
            assert self._zip is not None
            with self._zip.open(member.handle) as entry:
                return entry.read(limit)
        except PermissionError as error:
            raise UnreadableEntryError("no_permission") from error
        except _READ_ERRORS as error:
            raise UnreadableEntryError("damaged") from error
        except NotImplementedError as error:
            raise UnreadableEntryError("unsupported_compression") from error

    def _add(self, name: str, size: int, handle: zipfile.ZipInfo | Path) -> None:
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts or is_junk(parts):
            self.listing.ignored += 1
        elif ".." in parts or "\0" in name or parts[0].endswith(":"):
            self.listing.skipped.append((name, "name_unusable"))
        elif len(parts) - 1 > self.settings.max_depth or any(len(os.fsencode(part)) > 255 for part in parts):
            self.listing.skipped.append((name[:255], "name_too_long"))
        elif parts[-1].lower().endswith(NESTED):
            self.listing.skipped.append((name, "nested_archive"))
        elif size == 0:
            self.listing.skipped.append((name, "empty_file"))
        elif size > self.settings.max_picture_bytes:
            self.listing.skipped.append((name, "too_large_file"))
        else:
            self.listing.members.append(Member(unicodedata.normalize("NFC", "/".join(parts)), size, handle))

    def _list_folder(self) -> None:

        def unreadable(error: OSError) -> None:
            name = os.path.relpath(str(error.filename), self.path)
            self.listing.skipped.append((name, "no_permission"))

        for folder, below, files in os.walk(self.path, onerror=unreadable):
            below.sort()
            for file in sorted(files):
                path = Path(folder, file)
                name = path.relative_to(self.path).as_posix()
                if path.is_symlink() or not path.is_file():
                    self.listing.skipped.append((name, "link"))
                else:
                    self._add(name, path.stat().st_size, path)
                limit = self.settings.max_entries
                if len(self.listing.members) > limit:
                    raise TooLargeError(found="more", unit="files", name=self.name, limit=limit)

    def _list_zip(self, archive: zipfile.ZipFile) -> None:
        if len(archive.infolist()) > self.settings.max_entries:  # whatever the end record said
            found, limit = f"{len(archive.infolist()):,}", f"{self.settings.max_entries:,}"
            raise TooLargeError(found=found, unit="files", name=self.name, limit=limit)
        entries = [entry for entry in archive.infolist() if not entry.filename.endswith(("/", "\\"))]
        _check_ranges(entries, self.path.stat().st_size, self.name)
        declared = sum(entry.file_size for entry in entries)
        if declared > self.settings.max_unpacked:
            raise TooLargeError(
                found=f"{declared / 1e9:.1f} GB",
                unit="of unpacked files",
                name=self.name,
                limit=f"{self.settings.max_unpacked / 1e9:.1f} GB",
            )
        locked, encoding = 0, _name_encoding(entries)
        for entry in sorted(entries, key=lambda entry: entry.filename):
            raw = _raw_name(entry)
            name = entry.filename if raw is None else raw.decode(encoding)
            mode = entry.external_attr >> 16
            if entry.flag_bits & 0x1:
                locked += 1
                self.listing.skipped.append((name, "password"))
            elif mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                self.listing.skipped.append((name, "link"))
            elif entry.compress_type not in _READABLE_METHODS:
                self.listing.skipped.append((name, "unsupported_compression"))
            else:
                self._add(name, entry.file_size, entry)
        if locked and not self.listing.members:
            raise PasswordError(name=self.name)


def is_junk(parts: list[str]) -> bool:
    """Whether a path is something an operating system left behind, never meant as content."""
    lower = [part.lower() for part in parts]
    return (
        any(part in JUNK_FOLDERS or part.startswith(".") for part in lower)
        or lower[-1] in JUNK_FILES
        or lower[-1].startswith("._")
    )


def _open_zip(path: Path, name: str, settings: Settings) -> zipfile.ZipFile:
    size = path.stat().st_size
    if size == 0:
        raise EmptyUploadError(name=name)
    if size > settings.max_upload:
        limit = f"{settings.max_upload / 1e9:.1f} GB"
        raise TooLargeError(found=f"{size / 1e9:.1f} GB", unit="", name=name, limit=limit)
    with path.open("rb") as file:
        head = file.read(512)
        for magic, kind in _OTHER_ARCHIVES:
            if head.startswith(magic):
                raise OtherArchiveError(name=name, kind=kind)
        if head[257:262] == b"ustar":
            raise OtherArchiveError(name=name, kind="tar")
        file.seek(max(0, size - 65_557))
        tail = file.read()
        _check_directory(tail, head, path, name, settings)
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, OSError, struct.error, NotImplementedError) as error:
        raise BrokenArchiveError(name=name) from error


def _check_directory(tail: bytes, head: bytes, path: Path, name: str, settings: Settings) -> None:
    """Refuse by the end record, before zipfile builds a list of every entry in memory (PKWARE APPNOTE 4.3.16)."""
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < 22:
        if head.startswith(b"PK\x03\x04"):
            raise BrokenArchiveError(name=name)
        raise NotAnArchiveError(name=name)
    entries, directory = struct.unpack("<HI", tail[at + 10 : at + 16])
    if (locator := tail.rfind(_LOCATOR64, 0, at)) >= 0:  # zipfile believes this record whenever it is there
        with path.open("rb") as file:
            file.seek(struct.unpack("<Q", tail[locator + 8 : locator + 16])[0])
            record = file.read(56)
        if len(record) < 56 or not record.startswith(_END64):
            raise UnsafeArchiveError(name=name)
        entries, directory = struct.unpack("<QQ", record[32:48])
    if entries > settings.max_entries or directory > _MAX_DIRECTORY_BYTES:
        raise TooLargeError(found=f"{entries:,}", unit="files", name=name, limit=f"{settings.max_entries:,}")
    if directory > path.stat().st_size:
        raise BrokenArchiveError(name=name)


def _check_ranges(entries: list[zipfile.ZipInfo], size: int, name: str) -> None:
    """No two entries may share bytes of the file: the trick of every modern zip bomb (Fifield, WOOT 2019).

    https://www.bamsoftware.com/hacks/zipbomb/ ; the interpreter's own check is missing before 3.11.8.
    """
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise UnsafeArchiveError(name=name)
        end = entry.header_offset + 30 + entry.compress_size
    if end > size:
        raise UnsafeArchiveError(name=name)


def _name_encoding(entries: list[zipfile.ZipInfo]) -> str:
    """How names without the UTF-8 flag are written: one encoding for the whole zip, or short names would mislead
    (the Chinese "cat" in GBK is a valid "è" in UTF-8)."""
    raw = [name for entry in entries if (name := _raw_name(entry)) is not None]
    for encoding in ("utf-8", "gbk", "shift_jis"):
        try:
            for name in raw:
                name.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    return "cp437"


def _raw_name(entry: zipfile.ZipInfo) -> bytes | None:
    """The name's bytes where zipfile had to guess (it reads them as cp437); None where the zip says UTF-8."""
    if entry.flag_bits & 0x800:
        return None
    try:
        return entry.filename.encode("cp437")
    except UnicodeEncodeError:  # an Info-ZIP Unicode extra field gave the name
        return None
