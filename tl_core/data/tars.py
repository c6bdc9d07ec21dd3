"""A tar's files, plain or inside gzip, bzip2 or xz: listed in one pass and read in a second, never unpacked to disk.

Why not the standard library's: it reads whatever length a header claims into memory, goes back and forth in the file
(and for ever with a negative size: CVE-2025-8194), and unpacks xz with any dictionary. Here every step is forward, and
what is unpacked is counted while it streams. Reads v7, ustar, pax and GNU tar; sparse files are named and left out.
POSIX.1-2017 pax (https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html), GNU tar manual "Standard".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from tl_core.data.listing import (
    MAX_PATH,
    Beat,
    Listing,
    Member,
    UnreadableEntryError,
    check_count,
    name_encoding,
    too_large,
)
from tl_core.data.unpack import UNPACK_ERRORS, DictionaryTooLargeError, PackedStream
from tl_core.errors import (
    BrokenArchiveError,
    CompressionError,
    EmptyArchiveError,
    OtherArchiveError,
    SplitArchiveError,
)
from tl_core.settings import Settings

_BLOCK = 512
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_MAX_EXTENDED = 1_000_000  # bytes of a pax header or long name that are read; longer ones are passed over
_HEADERS_PER_ENTRY = 4  # a long name, a long link name, a pax header and the entry itself
_KINDS = {b"\x1f\x8b\x08": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
_REGULAR, _LINKS, _DEVICES, _FOLDERS = b"0\x007", b"12", b"346", b"5D"
_PAX, _LONG_NAME, _SPARSE, _LABEL, _CONTINUED = b"xX", b"L", b"S", b"V", b"M"
_PASSED_OVER = b"gKN"  # defaults for all entries, and names of link targets: nothing we use


class _PlainStream:
    """A file that is not packed, as a `PackedStream`."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.position = 0
        file.seek(0)

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.position += len(data)
        return data

    def skip(self, size: int) -> None:
        self.position += size
        if self.position > self._size:
            raise EOFError
        self._file.seek(self.position)


@dataclass(frozen=True)
class _Entry:
    """One entry: its name in bytes, what is wrong with it ("" when it is a file), and where its data lies."""

    raw: bytes
    code: str
    size: int
    at: int


@dataclass
class _Ahead:
    """What extended headers say about the entry that follows them."""

    name: bytes | None = None
    size: int | None = None
    code: str = ""

    def take(self, records: Iterator[tuple[bytes, bytes]]) -> None:
        for key, value in records:
            if key == b"path" and self.name is None:
                self.name = value
            elif key == b"size":
                self.size = int(value) if value.isdigit() and len(value) < 20 else -1
            elif key.startswith(b"GNU.sparse."):
                self.code = "special_file"
                if key == b"GNU.sparse.name":
                    self.name = value


class Tar:
    """The reader of one open tar; `magic` is that of what it is packed in (b"": nothing).

    Raises IntakeError when it holds no tar or cannot be listed.
    """

    def __init__(self, file: BinaryIO, size: int, magic: bytes, name: str, settings: Settings, beat: Beat) -> None:
        self._file, self._size, self._magic = file, size, magic
        self._name, self._settings, self._beat = name, settings, beat
        if not magic and size > settings.max_unpacked:
            raise too_large(size, settings.max_unpacked, "of unpacked files", name)
        self._stream = self._open()
        if magic and not self._starts_like_tar():
            raise OtherArchiveError(name=name, kind=_KINDS[magic])

    def close(self) -> None:
        self._file.close()

    def _open(self) -> PackedStream | _PlainStream:
        if not self._magic:
            return _PlainStream(self._file, self._size)
        limit = self._settings.max_unpacked

        def over() -> Exception:
            return too_large(limit, limit, "of unpacked files", self._name, at_least=True)

        return PackedStream(self._file, self._magic, limit, over, self._beat)

    def _starts_like_tar(self) -> bool:
        try:
            return is_header(self._stream.read(_BLOCK))
        except DictionaryTooLargeError as error:
            raise CompressionError(name=self._name) from error
        except UNPACK_ERRORS as error:
            raise BrokenArchiveError(name=self._name) from error

    def list_into(self, listing: Listing) -> None:
        self._stream = self._open()
        try:
            entries = list(self._entries())
        except DictionaryTooLargeError as error:
            raise CompressionError(name=self._name) from error
        except UNPACK_ERRORS as error:
            raise BrokenArchiveError(name=self._name) from error
        if not entries:
            raise EmptyArchiveError(name=self._name)
        encoding = name_encoding(entry.raw for entry in entries)
        for entry in entries:
            name = entry.raw.decode(encoding)
            if entry.code == "folder":
                continue
            if entry.code:
                listing.skip(name, entry.code)
            else:
                listing.add(name, entry.size, entry.at, self._settings)

    def read(self, member: Member) -> bytes:
        try:
            if self._stream.position > member.at:
                self._stream = self._open()
            self._stream.skip(member.at - self._stream.position)
            data = self._stream.read(member.size)
        except (*UNPACK_ERRORS, DictionaryTooLargeError) as error:
            raise UnreadableEntryError("damaged") from error
        if len(data) != member.size:
            raise UnreadableEntryError("damaged")
        return data

    def _entries(self) -> Iterator[_Entry]:
        """Every entry up to the end mark (or the end of the file, where old programs left it out)."""
        stream, ahead, headers = self._stream, _Ahead(), 0
        while (block := stream.read(_BLOCK)) and block.count(0) < _BLOCK:
            headers += 1
            check_count(headers // _HEADERS_PER_ENTRY, self._name, self._settings)
            self._beat()
            kind, name, size = _header(block)
            if kind in _PASSED_OVER:
                self._pass(size)
            elif kind in _PAX or kind in _LONG_NAME:
                self._extend(ahead, kind, size)
            elif kind in _CONTINUED:
                raise SplitArchiveError(name=self._name)
            else:
                self._beat.seen += 1
                check_count(self._beat.seen, self._name, self._settings)
                yield self._entry(block, kind, name, size, ahead)
                ahead = _Ahead()
        if block and len(block) < _BLOCK:
            raise EOFError
        # To the end of the padding, so that a checksum over everything is looked at too.
        stream.read(20 * _BLOCK)

    def _entry(self, block: bytes, kind: bytes, name: bytes, size: int, ahead: _Ahead) -> _Entry:
        name = name if ahead.name is None else ahead.name
        size = size if ahead.size is None else ahead.size
        if size < 0:
            raise ValueError("negative size")
        code = ahead.code or _code(kind, name)
        if kind in _LINKS or kind in _DEVICES or kind == b"5":
            size = 0  # what they claim, no program writes
        if len(name) > 4 * MAX_PATH:
            name, code = name[:MAX_PATH], code or "name_too_long"
        if kind in _SPARSE:
            more = block[482]
            while more:
                more = (self._stream.read(_BLOCK) or bytes(_BLOCK))[504]
        entry = _Entry(name, code, size, self._stream.position)
        self._pass(size)
        return entry

    def _extend(self, ahead: _Ahead, kind: bytes, size: int) -> None:
        if size > _MAX_EXTENDED:
            ahead.code = "name_too_long"
            self._pass(size)
            return
        whole = size + -size % _BLOCK
        data = self._stream.read(whole)
        if len(data) < whole:
            raise EOFError
        if kind in _LONG_NAME:
            ahead.name = data[:size].rstrip(b"\0")
        else:
            ahead.take(_pax_records(data[:size]))

    def _pass(self, size: int) -> None:
        """Go on behind `size` bytes, to the next full block."""
        self._stream.skip(size + -size % _BLOCK)


def is_header(block: bytes) -> bool:
    """Whether 512 bytes are the header of a tar's entry: their checksum says so, in every dialect."""
    return len(block) == _BLOCK and _octal(block[148:156]) == sum(block) - sum(block[148:156]) + 8 * 32


def _header(block: bytes) -> tuple[bytes, bytes, int]:
    """(kind, name, size) of an entry. Raises ValueError when the block is no header."""
    if not is_header(block):
        raise ValueError("no header")
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].split(b"\0", 1)[0] + b"/" + name
    return block[156:157], name, _number(block[124:136])


def _number(field: bytes) -> int:
    """A size: octal text, or GNU's big-endian binary for 8 GB and more. Raises ValueError, also for negative ones."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    if (number := _octal(field)) is None:
        raise ValueError("no number")
    return number


def _octal(field: bytes) -> int | None:
    found = _OCTAL.fullmatch(field)
    return int(found[1] or b"0", 8) if found else None


def _code(kind: bytes, name: bytes) -> str:
    """Why an entry is left out: "folder" for what is none of the files, "" for a file."""
    if kind in _REGULAR:
        return "folder" if name.endswith(b"/") else ""  # v7 had no kind for folders
    if kind in _FOLDERS or kind in _LABEL:
        return "folder"
    return "link" if kind in _LINKS else "special_file"


def _pax_records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The "length key=value" lines of a pax header. Raises ValueError when they are none."""
    at = 0
    while at < len(data) and data[at]:
        blank = data.find(b" ", at, at + 20)
        length = int(data[at:blank]) if blank > at and data[at:blank].isdigit() else 0
        key, equals, value = data[blank + 1 : at + length - 1].partition(b"=")
        if length < 5 or at + length > len(data) or not equals:
            raise ValueError("no pax record")
        yield key, value
        at += length
