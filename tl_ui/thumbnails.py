"""Small pictures for the page, from our own pixel stores: as arrays, or as JPEGs inside HTML."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from tl_core.data.imageset import RGB

_SIDE = 160
_QUALITY = 72


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


def _url(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"
