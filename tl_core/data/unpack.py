"""Unpacking that stops where it is told: deflate, bzip2 and LZMA with every output and dictionary bounded.

The file objects of the standard library hand out as much as a packed file claims (bzip2 and LZMA inside zips without
any bound) and take any dictionary size; 50 KB can ask for gigabytes. Here the one who asks says how much at most.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

CHUNK = 1 << 16
MAX_DICTIONARY = 150_000_000  # bytes; the strongest setting of xz and 7-Zip's zip takes 65 MB
UNPACK_ERRORS = (zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)
_PIECE = 1 << 18
_PIECE_OF_FILE = 1 << 24
_MAX_STREAMS = 1_000_000  # packed streams one behind the other; parallel packers write one every 64 KB


class DictionaryTooLargeError(Exception):
    """The packed data wants more memory than a picture's archive has reason to."""


class Decompressor(Protocol):
    """What bz2 and lzma give: bounded output, and whether more input is wanted for more."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class Inflate:
    """zlib as a `Decompressor`. `wbits`: -15 for bare deflate (zip), 31 for gzip."""

    def __init__(self, wbits: int) -> None:
        self._zlib = zlib.decompressobj(wbits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        tail = self._zlib.unconsumed_tail
        out = self._zlib.decompress(tail + data if tail else data, max_length)
        self.needs_input = len(out) < max_length  # less than asked for: nothing is held back
        return out


def zip_lzma(header: bytes) -> Decompressor:
    """The decompressor for a zip's LZMA entry from the 9 bytes before its data (APPNOTE 5.8.8).

    Raises ValueError or LZMAError when they are none, DictionaryTooLargeError.
    """
    if len(header) < 9 or header[2:4] != b"\x05\x00" or header[4] >= 9 * 5 * 5:
        raise ValueError("no LZMA properties")
    rest, lc = divmod(header[4], 9)
    pb, lp = divmod(rest, 5)
    size = int.from_bytes(header[5:9], "little")
    if size > MAX_DICTIONARY:
        raise DictionaryTooLargeError
    return lzma.LZMADecompressor(
        lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA1, "dict_size": size, "lc": lc, "lp": lp, "pb": pb}]
    )


def unpacked(file: BinaryIO, packed: int, size: int, decompressor: Decompressor) -> Iterator[bytes]:
    """What the next `packed` bytes of `file` unpack to, piece by piece, which has to be `size` bytes in the end. Raises
    an UNPACK_ERROR."""
    wanted = size + 1  # one more, to notice that there is more
    while wanted and not decompressor.eof:
        data = b""
        if decompressor.needs_input:
            data = file.read(min(packed, CHUNK))
            packed -= len(data)
            if not data:
                break
        piece = _decompress(decompressor, data, min(wanted, _PIECE_OF_FILE))
        wanted -= len(piece)
        yield piece
    if wanted != 1:
        raise ValueError("not the size it claims")


# Magic bytes of the streams a tar may be packed in -> what makes a decompressor for one.
STREAMS: dict[bytes, Callable[[], Decompressor]] = {
    b"\x1f\x8b\x08": lambda: Inflate(31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\x00": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_DICTIONARY),
}


class PackedStream:
    """A gzip, bzip2 or xz file's content, forward only; several streams one behind the other read as one.

    `position` counts unpacked bytes. `over(limit)` is called when more than `limit` have been asked for; `beat` at
    every chunk. Raises an UNPACK_ERROR on damage (EOFError: cut off), DictionaryTooLargeError.
    """

    def __init__(
        self, file: BinaryIO, magic: bytes, limit: int, over: Callable[[], Exception], beat: Callable[[], None]
    ) -> None:
        self._file, self._magic, self._make = file, magic, STREAMS[magic]
        self._limit, self._over, self._beat = limit, over, beat
        self._decompressor: Decompressor | None = self._make()
        self._streams = 1
        self._input = b""
        self._buffer, self._at = b"", 0
        self._made = 0
        file.seek(0)

    @property
    def position(self) -> int:
        return self._made - (len(self._buffer) - self._at)

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end."""
        pieces = []
        while size:
            if self._at == len(self._buffer) and not self._fill():
                break
            piece = self._buffer[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def skip(self, size: int) -> None:
        """Go `size` bytes on. Raises EOFError when there are not as many."""
        while size:
            if self._at == len(self._buffer) and not self._fill():
                raise EOFError
            step = min(size, len(self._buffer) - self._at)
            self._at += step
            size -= step

    def _fill(self) -> bool:
        """The next piece into the buffer; False at the end."""
        while self._decompressor is not None:
            self._beat()
            if self._decompressor.eof and not self._next_stream():
                break
            if self._decompressor.needs_input and not self._input:
                self._input = self._file.read(CHUNK)
                if not self._input:
                    raise EOFError
            data, self._input = self._input, b""
            self._buffer, self._at = _decompress(self._decompressor, data, _PIECE), 0
            self._made += len(self._buffer)
            if self._made > self._limit:
                raise self._over()
            if self._buffer:
                return True
        self._decompressor = None
        return False

    def _next_stream(self) -> bool:
        """Go on behind a finished stream: with the next one, past padding; anything else ends it, as it does gzip."""
        assert self._decompressor is not None
        rest = self._decompressor.unused_data.lstrip(b"\0")
        while len(rest) < len(self._magic) and (more := self._file.read(CHUNK)):
            self._beat()
            rest = (rest + more).lstrip(b"\0")
        if not rest.startswith(self._magic):
            return False
        self._streams += 1
        if self._streams > _MAX_STREAMS:
            raise ValueError("too many streams")
        self._decompressor, self._input = self._make(), rest
        return True


def _decompress(decompressor: Decompressor, data: bytes, most: int) -> bytes:
    try:
        return decompressor.decompress(data, most)
    except lzma.LZMAError as error:
        if "emory usage limit" in str(error):
            raise DictionaryTooLargeError from error
        raise
