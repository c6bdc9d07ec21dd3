"""Small pictures for the page, from our own pixel stores: as arrays, or as JPEGs inside HTML."""

import base64
import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from tl_core.data.imageset import RGB

_SIDE = 160
_QUALITY = 72
_HEATED = 320
_FOG, _THROUGH_FOG = 128.0, 0.25  # its grey, and how much contrast is left in it


def thumbnail(pixels: RGB) -> RGB:
    """`pixels` small enough to send many of: at most 160 on the longer side, by averaging blocks of pixels."""
    step = max(1, -(-max(pixels.shape[:2]) // _SIDE))
    height, width = (side // step * step for side in pixels.shape[:2])
    if not height or not width:
        return pixels[::step, ::step]
    blocks = pixels[:height, :width].reshape(height // step, step, width // step, step, 3)
    small: RGB = blocks.mean(axis=(1, 3)).astype(np.uint8)
    return small


def jpeg(pixels: RGB) -> str:
    """`pixels` as a data URL, small."""
    return _url(Image.fromarray(thumbnail(pixels)))


def strip(pictures: Sequence[RGB], side: int) -> str:
    """The middles of `pictures` side by side as squares of `side` pixels, one data URL."""
    row = Image.new("RGB", (side * len(pictures), side), "white")
    for at, pixels in enumerate(pictures):
        square = min(pixels.shape[:2])
        top, left = ((length - square) // 2 for length in pixels.shape[:2])
        middle = Image.fromarray(pixels[top : top + square, left : left + square])
        row.paste(middle.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0), (side * at, 0))
    return _url(row)


def heated(framed: RGB, heat: npt.NDArray[np.float32]) -> RGB:
    """(H, W, 3) `framed`, enlarged where it is small, as it is where the (h, w) `heat` in [0, 1] is high and as in grey
    fog where it is low, with a line at one half: contrast and line tell it on any picture and to those who see no
    colours."""
    times = max(1, -(-_HEATED // max(framed.shape[:2])))
    size = (framed.shape[1] * times, framed.shape[0] * times)
    picture = Image.fromarray(framed).resize(size, Image.Resampling.BICUBIC)
    grown = Image.fromarray(np.ascontiguousarray(heat, dtype=np.float32)).resize(size, Image.Resampling.BICUBIC)
    shown = np.clip(np.asarray(grown), 0, 1)
    grey = np.asarray(picture.convert("L"), dtype=np.float32)[:, :, None]
    fog = _FOG + (grey - _FOG) * _THROUGH_FOG
    mixed = fog + shown[:, :, None] * (np.asarray(picture) - fog)
    inside = Image.fromarray((shown >= 0.5).astype(np.uint8))
    smaller, larger = inside.filter(ImageFilter.MinFilter(3)), inside.filter(ImageFilter.MaxFilter(3))
    mixed[np.asarray(larger) != np.asarray(inside)] = 0  # black beside white: one of them is seen on anything
    mixed[np.asarray(smaller) != np.asarray(inside)] = 255
    found: RGB = mixed.round().astype(np.uint8)
    return found


def _url(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"
