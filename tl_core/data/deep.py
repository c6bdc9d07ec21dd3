"""Samples of more than 8 bits -> 8 bits, scaled and never clipped: 16-bit colours, and 16-bit, 32-bit or float grey.

By the bit depth in use, not by the file's: cameras and microscopes store 10, 12 or 14 bits in 16. Runs in the limited
child only.
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageFile

from tl_core.data.imageset import RGB

# A raw mode of Pillow's for 16 bits says which byte of a sample is the high one, the only one that it keeps: last (L),
# first (B), or whichever it is on this machine (N). Under the other letter it keeps the low one.
_OTHER_BYTE = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}


def has_deep_colours(image: ImageFile.ImageFile, kind: str) -> bool:
    """Whether a picture of which only the header is read has several samples a pixel, of 16 bits each."""
    if kind == "PNG":
        return image.mode != "I;16" and any(str(tile.args).endswith(";16B") for tile in image.tile)
    return kind == "TIFF" and image.mode in ("RGB", "RGBA", "CMYK") and set(_tags(image).get(258, ())) == {16}


def scaled_colours(image: ImageFile.ImageFile, again: ImageFile.ImageFile) -> Image.Image:
    """16-bit colours as 8 bits a sample, all colours of a picture by the same factor.

    Pillow keeps the high byte of a sample, which will do if 16 bits are in use. For fewer the same file, opened
    `again`, gives the low bytes. Neither is loaded yet. Where they cannot be had the high ones stand in for them.
    """
    clear = image.info.get("transparency") if image.mode == "RGB" else None
    low_is_lost = _tags(image).get(284) == 2 and any(tile.codec_name == "libtiff" for tile in image.tile)
    _load_bytes(image, low=False)
    highest = [top << 8 | 255 for top in _highest(image)]
    bits = _bits_in_use(max(highest if image.mode == "CMYK" else highest[:3]))
    if bits == 16 and clear is None:
        return image
    low = image if low_is_lost else _load_bytes(again, low=True)
    if not low_is_lost and not any(_highest(ImageChops.difference(image, low))):
        bits = 16  # 8 bits, each written twice: what is dark is meant to be
    bands, is_clear = [], np.full((image.height, image.width), clear is not None)
    for band, top in enumerate(highest):
        values = np.asarray(image.getchannel(band)).astype(np.uint32)
        values <<= 8
        values |= np.asarray(low.getchannel(band))
        if clear is not None:
            is_clear &= values == clear[band]
        white = 2 ** (bits if top < 2**bits else 16) - 1  # 16: alpha that is deeper than the colours
        values *= 255
        values += white // 2
        values //= white
        bands.append(Image.fromarray(values.astype(np.uint8)))
    if clear is None:
        return Image.merge(image.mode, bands)
    return Image.merge("RGBA", [*bands, Image.fromarray(np.where(is_clear, np.uint8(0), np.uint8(255)))])


def _load_bytes(image: ImageFile.ImageFile, *, low: bool) -> Image.Image:
    """`image`, with the high or the low byte of each 16-bit sample loaded, upright if its decoder turns it."""
    order = "L" if getattr(_tags(image), "prefix", b"MM") == b"II" else "B"
    grey = False
    for number, tile in enumerate(image.tile):
        mode, *more = [tile.args] if isinstance(tile.args, str) else tile.args or ()
        if len(mode) == 1:  # a plane, of which Pillow forgets how deep it is
            mode += ";16" + order
        if low and mode == "LA;16B":
            mode, grey = "RGBA", True  # 4 bytes a pixel: grey's two and alpha's two
        elif low:
            # "RGBa" is divided by alpha as it is read. Low bytes by themselves cannot be: right where it is opaque, and
            # elsewhere no worse than none.
            mode = mode[:-1].replace("a", "A") + _OTHER_BYTE[mode[-1]]
        image.tile[number] = tile._replace(args=(mode, *more))
    image.load()
    if grey:
        _, value, _, alpha = image.split()
        return Image.merge("RGBA", (value, value, value, alpha))
    return image


def _tags(image: Image.Image) -> Mapping[int, Any]:
    """A TIFF's; none for other formats."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    return tags


def _highest(image: Image.Image) -> list[int]:
    """Of each band."""
    return [int(top) for _, top in image.getextrema()]  # type: ignore[misc]


def scaled_grey(image: Image.Image) -> RGB:
    """(H, W) uint8 from a loaded picture of 16-bit, 32-bit or float grey; what it calls transparent becomes white."""
    values, tags = np.asarray(image), _tags(image)
    if image.mode == "I" and tags.get(258) == (32,) and tags.get(339, (1,)) == (1,):
        values = values.view(np.uint32)  # TIFF: no sign, which Pillow's mode cannot say
    scaled = _scaled_to_bytes(values)
    if image.mode != "I" and tags.get(262) == 0:  # TIFF: nought is white; Pillow turns only 8 bits round
        scaled = 255 - scaled
    if isinstance(clear := image.info.get("transparency"), int):
        scaled[values == clear] = 255
    return scaled


def _scaled_to_bytes(values: npt.NDArray[np.generic]) -> RGB:
    """16-bit, 32-bit and float samples as uint8, never clipped: by the range that their type and values suggest.

    Whole numbers by the bit depth in use, so that pictures of one instrument are scaled alike; fractions by [0, 1], or
    by their highest; anything else by its extremes.
    """
    numbers = values.astype(np.float32)
    known = numbers[np.isfinite(numbers)] if values.dtype.kind == "f" else numbers
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    np.nan_to_num(numbers, copy=False, nan=low, posinf=high, neginf=low)
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif values.dtype.kind == "f" and low >= 0 and not np.array_equal(known, np.floor(known)):
        low = 0.0
    elif low >= 0 and high <= 65_535:
        low, high = 0.0, float(2 ** _bits_in_use(high) - 1)
    numbers -= low
    numbers *= 255 / max(high - low, 1e-12)
    return np.round(numbers, out=numbers).astype(np.uint8)


def _bits_in_use(highest: float) -> int:
    """The depth that samples up to `highest`, below 65,536, were taken with; 15 is 16 with a sign."""
    return next(bits for bits in (8, 10, 12, 14, 15, 16) if highest < 2**bits)
