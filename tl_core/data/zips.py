"""A zip's files by one reading of its directory, every number of which is checked before it is used.

Why not the standard library's: which attacks it notices depends on the interpreter's version (overlapping entries from
3.11.8, forged sizes not yet: CVE-2024-0450, CVE-2025-8291, cpython #151307), it cuts names at NUL, unpacks bzip2 and
LZMA without a bound, and builds a list of every entry before anyone can count. Written from PKWARE's APPNOTE 6.3.10.
"""

import bz2
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from tl_core.data.layout import looks_like_picture
from tl_core.data.listing import Listing, Member, UnreadableEntryError, check_count, name_encoding, too_large
from tl_core.data.unpack import UNPACK_ERRORS, DictionaryTooLargeError, Inflate, unpacked, zip_lzma
from tl_core.errors import (
    BrokenArchiveError,
    EmptyArchiveError,
    NotAnArchiveError,
    PasswordError,
    SplitArchiveError,
    UnsafeArchiveError,
)
from tl_core.settings import Settings

SPANNED = b"PK\x07\x08"  # how the first of several parts starts
_LOCAL, _CENTRAL, _END, _END64, _LOCATOR64 = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_END_RECORD = struct.Struct("<4sHHHHIIH")
_END64_RECORD = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR_RECORD = struct.Struct("<4sIQI")
_CENTRAL_RECORD = struct.Struct("<4s6H3I5H2I")
_LOCAL_RECORD = struct.Struct("<4s5H3I2H")
_TAIL = 65_557  # bytes at the end in which the end record has to lie
_MAX_DIRECTORY_BYTES = 32_000_000  # 640 for each of 50,000 entries
_FULL = 0xFFFFFFFF  # a 32-bit field that says: see the 64-bit one
_STORED, _DEFLATED, _BZIP2, _LZMA = 0, 8, 12, 14
_METHODS = (_STORED, _DEFLATED, _BZIP2, _LZMA)
_ENCRYPTED, _UTF8 = 0x1, 0x800
_STORED_PIECE = 1 << 24  # bytes


@dataclass(frozen=True)
class _Directory:
    """Where the list of entries lies, and how far everything lies behind where it says (junk in front of the zip)."""

    at: int
    size: int
    shift: int


@dataclass(frozen=True)
class _Entry:
    """One entry as the directory describes it. `raw` is its name in bytes, `offset` that of its local header."""

    raw: bytes
    name: str  # "" where the zip does not say in which encoding `raw` is
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    mode: int
    offset: int


class Zip:
    """The reader of one open zip file. `head` are its first bytes. Raises IntakeError when it cannot be listed."""

    def __init__(self, file: BinaryIO, size: int, head: bytes, name: str, settings: Settings) -> None:
        self._file, self._size, self._name, self._settings = file, size, name, settings
        self._entries: list[_Entry] = []
        self._directory = self._find_directory(head)

    def close(self) -> None:
        self._file.close()

    def list_into(self, listing: Listing) -> None:
        seen = list(self._read_directory())
        if not seen:
            raise EmptyArchiveError(name=self._name)
        encoding = name_encoding(entry.raw for entry in seen if not entry.name)
        named = [(entry.name or entry.raw.decode(encoding), entry) for entry in seen]
        files = [(n, entry) for n, entry in named if not n.endswith(("/", "\\")) and not stat.S_ISDIR(entry.mode)]
        self._check_ranges([entry for _, entry in files])
        declared, limit = sum(entry.size for _, entry in files), self._settings.max_unpacked
        if declared > limit:
            raise too_large(declared, limit, "of unpacked files", self._name)
        locked = False
        for name, entry in sorted(files, key=lambda pair: pair[0]):
            if entry.flags & _ENCRYPTED:
                locked = True
                listing.skip(name, "password")
            elif (kind := stat.S_IFMT(entry.mode)) not in (0, stat.S_IFREG):
                listing.skip(name, "link" if kind == stat.S_IFLNK else "special_file")
            elif entry.method not in _METHODS:
                listing.skip(name, "unsupported_compression")
            else:
                listing.add(name, entry.size, len(self._entries), self._settings)
                self._entries.append(entry)
        if locked and not any(looks_like_picture(member.name) for member in listing.members):
            raise PasswordError(name=self._name)

    def read(self, member: Member) -> bytes:
        return b"".join(self.pieces(member))

    def pieces(self, member: Member) -> Iterator[bytes]:
        """The bytes of one file, a few megabytes at a time. Raises UnreadableEntryError, at the end too: what came
        before is then worth nothing."""
        entry, crc = self._entries[member.at], 0
        try:
            self._file.seek(entry.offset)
            local = self._file.read(_LOCAL_RECORD.size)
            magic, *_, name_length, extra_length = _LOCAL_RECORD.unpack(local)
            if magic != _LOCAL or self._file.read(name_length) != entry.raw:
                raise ValueError("another file than the directory says")
            self._file.seek(extra_length, 1)
            for piece in self._unpacked(entry):
                crc = zlib.crc32(piece, crc)
                yield piece
        except DictionaryTooLargeError as error:
            raise UnreadableEntryError("unsupported_compression") from error
        except (*UNPACK_ERRORS, struct.error) as error:
            raise UnreadableEntryError("damaged") from error
        if crc != entry.crc:
            raise UnreadableEntryError("damaged")

    def _unpacked(self, entry: _Entry) -> Iterator[bytes]:
        """The bytes of the entry whose data comes next in the file; `size` was bounded when it was listed."""
        if entry.method == _STORED:
            if entry.packed != entry.size:
                raise ValueError("not the size it claims")
            return self._stored(entry.size)
        if entry.method == _LZMA:
            return unpacked(self._file, entry.packed - 9, entry.size, zip_lzma(self._file.read(9)))
        decompressor = Inflate(-15) if entry.method == _DEFLATED else bz2.BZ2Decompressor()
        return unpacked(self._file, entry.packed, entry.size, decompressor)

    def _stored(self, left: int) -> Iterator[bytes]:
        while left:
            piece = self._file.read(min(left, _STORED_PIECE))
            if not piece:
                raise ValueError("not the size it claims")
            left -= len(piece)
            yield piece

    def _find_directory(self, head: bytes) -> _Directory:
        """By the end record, the last of the file: junk behind it, or a whole zip in front of it, changes nothing."""
        start = max(0, self._size - _TAIL - _LOCATOR_RECORD.size - _END64_RECORD.size)
        self._file.seek(start)
        tail = self._file.read()
        at = tail.rfind(_END)
        if at < 0 or len(tail) - at < _END_RECORD.size:
            raise BrokenArchiveError(name=self._name) if head.startswith(_LOCAL) else NotAnArchiveError(name=self._name)
        _, disk, _, _, entries, size, offset, _ = _END_RECORD.unpack_from(tail, at)
        if disk not in (0, 0xFFFF):
            raise SplitArchiveError(name=self._name)
        end, locator = start + at, at - _LOCATOR_RECORD.size
        if locator >= 0 and tail.startswith(_LOCATOR64, locator):
            end = start + locator - _END64_RECORD.size
            entries, size, offset = self._end64(tail, locator, end, (entries, size, offset))
        check_count(entries, self._name, self._settings)
        if size > _MAX_DIRECTORY_BYTES:
            raise too_large(size, _MAX_DIRECTORY_BYTES, "of file names", self._name)
        shift = end - size - offset
        if shift < 0:
            raise BrokenArchiveError(name=self._name)
        return _Directory(end - size, size, shift)

    def _end64(self, tail: bytes, locator: int, end: int, said: tuple[int, int, int]) -> tuple[int, int, int]:
        """Entries, directory size and offset from the 64-bit end record, which must not contradict the 32-bit one,
        nor lie elsewhere than its locator says: readers disagree about such zips (CVE-2025-8291)."""
        at = locator - _END64_RECORD.size
        if at < 0 or not tail.startswith(_END64, at):
            raise UnsafeArchiveError(name=self._name)
        _, length, _, _, _, _, _, entries, size, offset = _END64_RECORD.unpack_from(tail, at)
        _, _, claimed, disks = _LOCATOR_RECORD.unpack_from(tail, locator)
        if disks > 1:
            raise SplitArchiveError(name=self._name)
        limits = (0xFFFF, _FULL, _FULL)
        agreed = all(s in (long, most) for s, long, most in zip(said, (entries, size, offset), limits, strict=True))
        if not agreed or length != _END64_RECORD.size - 12 or claimed + (end - size - offset) != end:
            raise UnsafeArchiveError(name=self._name)
        return entries, size, offset

    def _read_directory(self) -> Iterator[_Entry]:
        """Every entry there is, whatever number the end record gave."""
        self._file.seek(self._directory.at)
        data = self._file.read(self._directory.size)
        at, count = 0, 0
        while at < len(data):
            count += 1
            check_count(count, self._name, self._settings)
            try:
                fields = _CENTRAL_RECORD.unpack_from(data, at)
            except struct.error as error:
                raise BrokenArchiveError(name=self._name) from error
            magic, _, _, flags, method, _, _, crc, packed, size, *lengths, _, _, mode, offset = fields
            ends = [at := at + length for length in (_CENTRAL_RECORD.size, *lengths[:3])]
            if magic != _CENTRAL or ends[3] > len(data):
                raise BrokenArchiveError(name=self._name)
            raw, extra = data[ends[0] : ends[1]], data[ends[1] : ends[2]]
            size, packed, offset, unicode_name = _extra(extra, size, packed, offset, raw)
            name = _utf8(raw) if flags & _UTF8 else unicode_name
            yield _Entry(raw, name, flags, method, crc, packed, size, mode >> 16, offset + self._directory.shift)

    def _check_ranges(self, entries: list[_Entry]) -> None:
        """No two entries may share bytes of the file: the trick of every modern zip bomb (Fifield, WOOT 2019).

        https://www.bamsoftware.com/hacks/zipbomb/
        """
        end = 0
        for entry in sorted(entries, key=lambda entry: entry.offset):
            if entry.offset < end:
                raise UnsafeArchiveError(name=self._name)
            end = entry.offset + _LOCAL_RECORD.size + len(entry.raw) + entry.packed
        if end > self._directory.at:
            raise UnsafeArchiveError(name=self._name)


def _extra(data: bytes, size: int, packed: int, offset: int, raw: bytes) -> tuple[int, int, int, str]:
    """Sizes and offset where they need 64 bits (APPNOTE 4.5.3), and Info-ZIP's name in UTF-8 (4.6.9; "": none)."""
    name, at = "", 0
    while at + 4 <= len(data):
        kind, length = struct.unpack_from("<HH", data, at)
        body = data[at + 4 : at + 4 + length]
        at += 4 + length
        if kind == 0x0001:
            numbers = [int.from_bytes(body[i : i + 8], "little") for i in range(0, len(body) - 7, 8)]
            size = numbers.pop(0) if size == _FULL and numbers else size
            packed = numbers.pop(0) if packed == _FULL and numbers else packed
            offset = numbers.pop(0) if offset == _FULL and numbers else offset
        elif (
            kind == 0x7075 and len(body) > 5 and body[0] == 1 and int.from_bytes(body[1:5], "little") == zlib.crc32(raw)
        ):
            name = _utf8(body[5:])
    return size, packed, offset, name


def _utf8(raw: bytes) -> str:
    """A name that claims to be UTF-8; "" when it is not."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return ""
