"""What the bytes of a picture file say of themselves: its format, which way is up, how many pictures are in it.

Reads headers only, never a pixel; every walk is bounded by the file and by a count. `plain_png` and `plain_bmp` give
the same picture without what a decoder may stumble over. Runs in the limited child only.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

_MOST_PARTS = 100_000  # chunks, segments or blocks looked at in one file

_PNG = b"\x89PNG\r\n\x1a\n"
_MAGIC = (
    ("JPEG", b"\xff\xd8\xff"),
    ("PNG", _PNG),
    ("GIF", b"GIF87a"),
    ("GIF", b"GIF89a"),
    ("TIFF", b"II*\0"),
    ("TIFF", b"MM\0*"),
    ("TIFF", b"II+\0"),  # BigTIFF
    ("TIFF", b"MM\0+"),
    ("BMP", b"BM"),
)
_PNG_NEEDED, _PNG_WELCOME = (b"IHDR", b"PLTE", b"IDAT"), (b"tRNS", b"eXIf", b"acTL")
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # a pixel, by type of colour
# Where each pass over an interlaced PNG starts, and its steps, across and down (PNG 3rd edition, 8.1).
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}


class BrokenFileError(ValueError):
    """A file's own structure is damaged."""


def sniff(data: bytes) -> str | None:
    """The Pillow name of the format `data` is in, or None if it is none we read."""
    for kind, magic in _MAGIC:
        if data.startswith(magic):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":  # ISO/IEC 14496-12: size, "ftyp", major brand, version, compatible brands
        brands = data[8 : min(max(int.from_bytes(data[:4], "big"), 12), 256)]
        named = {brands[i : i + 4] for i in range(0, len(brands), 4) if i != 4}
        return "AVIF" if named & _AVIF_BRANDS else "HEIF" if named & _HEIF_BRANDS else None
    return None


def orientation(exif: bytes) -> int:
    """The orientation, 1 to 8, in an EXIF block (a TIFF header and its tags); 1 whenever that is no sense.

    Tag 0x0112, one SHORT (EXIF 2.32, 4.6.4), the first directory only: what browsers honour.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return 1
    start = struct.unpack(order + "I", exif[4:8])[0]
    count = int.from_bytes(exif[start : start + 2], "little" if order == "<" else "big")
    for at in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, values, value = struct.unpack(order + "HHIH", exif[at : at + 10])
        if tag == 0x0112:
            return value if kind == 3 and values == 1 and 1 <= value <= 8 else 1
    return 1


@dataclass(frozen=True)
class JpegHeader:
    """`orientation` as EXIF has it; `adobe`: CMYK is stored inverted; `complete`: it reaches as far as the picture
    data; `scans`: passes over the picture."""

    orientation: int
    adobe: bool
    complete: bool
    scans: int


def jpeg_header(data: bytes) -> JpegHeader:
    """What stands in front of a JPEG's picture data (ISO/IEC 10918-1, annex B)."""
    exif, adobe, framed, at = b"", False, False, 2
    for _ in range(_MOST_PARTS):
        while data[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] == 0xDA:
            break
        size, marker = int.from_bytes(data[at + 2 : at + 4], "big"), data[at + 1]
        if marker == 0xE1 and not exif and data.startswith(b"Exif\0\0", at + 4):
            exif = data[at + 4 : at + 2 + size]
        adobe |= marker == 0xEE and data.startswith(b"Adobe", at + 4)
        framed |= 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)  # says what is coded, and how
        at += 2 + max(size, 2)
    complete = framed and data.startswith(b"\xff\xda", at)
    # In coded data 0xFF is always followed by 0x00 or a restart marker, so that this counts scans and nothing else.
    return JpegHeader(orientation(exif), adobe, complete, data.count(b"\xff\xda", at))


def plain_png(data: bytes) -> tuple[bytes, bytes, bool]:
    """The same still picture without texts, profiles and animation; its EXIF block; whether there was an animation.

    What is needed to show the picture must be there with the right checksum, else BrokenFileError; everything else may
    be as broken as it likes (PNG 3rd edition, 13.2).
    """
    kept: list[bytes | memoryview] = [_PNG]
    exif, frames, coded = b"", 0, False
    for kind, whole, content in _png_chunks(data):
        if kind == b"IEND":
            break
        if kind not in _PNG_NEEDED and kind not in _PNG_WELCOME:
            continue
        if zlib.crc32(whole[4:-4]) != int.from_bytes(whole[-4:], "big"):
            if kind in _PNG_NEEDED:
                raise BrokenFileError("checksum")
        elif kind == b"acTL":
            frames = int.from_bytes(content[:4], "big")
        elif kind == b"eXIf":
            exif = bytes(content)
        else:
            coded |= kind == b"IDAT"
            kept.append(whole)
    if not coded:
        raise BrokenFileError("no picture data")
    kept.append(b"\0\0\0\0IEND\xaeB`\x82")
    return b"".join(kept), exif, frames > 1


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """(type, the whole chunk, its content) of every chunk that is there in full."""
    view, at = memoryview(data), len(_PNG)
    for _ in range(_MOST_PARTS):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if at + 12 > len(data) or end > len(data):
            return
        yield data[at + 4 : at + 8], view[at:end], view[at + 8 : end - 4]
        at = end


def png_has_all_rows(data: bytes, width: int, height: int) -> bool:
    """Whether a plain PNG's compressed data is as long as its size asks for; takes a megabyte, and the time to inflate.

    A stream that ends well after too few rows is no error to Pillow, which leaves the others black.
    """
    depth, colour, _, _, interlaced = data[24:29]
    bits, needed = depth * _PNG_SAMPLES[colour], 0
    for left, top, right, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // right), -(-(height - top) // down)
        needed += rows * (1 + -(-columns * bits // 8)) if columns else 0
    coded = (content for kind, _, content in _png_chunks(data) if kind == b"IDAT")
    stream = zlib.decompressobj()
    try:
        # In small pieces, since what is left of one is copied for every megabyte that comes out.
        for piece in (content[at : at + 65_536] for content in coded for at in range(0, len(content), 65_536)):
            inflated = stream.decompress(piece, 1 << 20)
            needed -= len(inflated)
            while inflated and needed > 0:
                inflated = stream.decompress(stream.unconsumed_tail, 1 << 20)
                needed -= len(inflated)
            if needed <= 0:
                return True
    except zlib.error:
        pass
    return False


def plain_bmp(data: bytes) -> bytes:
    """The same picture with no more colours in its table than its pixels can name; decoders refuse the surplus."""
    if len(data) < 54:
        return data
    header, bits, colours = (int.from_bytes(data[at : at + size], "little") for at, size in ((14, 4), (28, 2), (46, 4)))
    if header < 40 or bits not in (1, 2, 4, 8) or colours <= 1 << bits:
        return data
    return data[:46] + struct.pack("<I", 1 << bits) + data[50:]


def gif_is_animated(data: bytes) -> bool:
    """Whether a GIF holds a second frame (GIF89a specification, 17 to 26)."""
    pictures, at = 0, 13 + _colour_table(data[10:11])
    for _ in range(_MOST_PARTS):
        block = data[at : at + 1]
        if block == b"\x2c":  # a frame: descriptor, colours, code size, data
            pictures += 1
            if pictures == 2:
                return True
            at = _after_blocks(data, at + 11 + _colour_table(data[at + 9 : at + 10]))
        elif block == b"\x21":
            at = _after_blocks(data, at + 2)
        else:
            return False
    return False


def _colour_table(flags: bytes) -> int:
    """Bytes of the colour table that a flag byte announces."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    """Where the chain of sub-blocks that starts at `at` has ended."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1
