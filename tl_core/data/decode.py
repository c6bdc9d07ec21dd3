"""Bytes of a picture -> upright RGB, uint8. The one decoder of training, prediction and thumbnails.

By content, never by name. JPEG goes through libjpeg-turbo (scaled while decoding), the rest through Pillow with an
explicit format. Alpha is laid on white, 16-bit and float samples are scaled, animations give their first frame.
Runs in the limited child only; every problem of a file is a `PictureProblemError` with a code.
"""

import io
import struct
import warnings

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageOps

from tl_core.data.imageset import RGB
from tl_core.settings import Settings

# Header damage must be an error, not a warning; our own limit is lower than Pillow's bomb threshold.
Image.MAX_IMAGE_PIXELS = None

_FTYP_BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIF",
    b"heix": "HEIF",
    b"hevc": "HEIF",
    b"mif1": "HEIF",
    b"msf1": "HEIF",
    b"heim": "HEIF",
}
# What Pillow's decoders may raise on hostile bytes (the list of Pillow's own OSS-Fuzz harness, less MemoryError, which
# is about this machine and not about the picture).
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    NotImplementedError,
    OverflowError,
    Image.DecompressionBombError,
    struct.error,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
)


class PictureProblemError(Exception):
    """A file is no usable picture; `args[0]` is the reason's code."""


def sniff(data: bytes) -> str | None:
    """The Pillow name of the format `data` is in, or None if it is none we read."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    if data[4:8] == b"ftyp":
        return _FTYP_BRANDS.get(data[8:12])
    if data.startswith(b"BM"):
        return "BMP"
    return None


def decode(data: bytes, settings: Settings) -> RGB:
    """(H, W, 3) uint8 RGB of a picture file, upright, its sides bounded by the settings. Raises PictureProblemError."""
    if not data:
        raise PictureProblemError("empty_file")
    kind = sniff(data)
    if kind is None:
        raise PictureProblemError("not_a_picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = _open(data, kind)
            if image.width * image.height > settings.max_picture_pixels:
                raise PictureProblemError("too_many_pixels")
            if min(image.size) < 1:
                raise PictureProblemError("damaged")
            orientation = image.getexif().get(0x0112, 1)
            if kind == "JPEG" and image.mode in ("RGB", "L"):
                picture = Image.fromarray(_decode_jpeg(data, settings))
                picture = _turn(picture, orientation)
            else:
                image.load()
                picture = ImageOps.exif_transpose(_to_rgb(image))
        return np.ascontiguousarray(_bounded(picture, settings))
    except _DECODE_ERRORS as error:
        raise PictureProblemError("damaged") from error


def _open(data: bytes, kind: str) -> Image.Image:
    if kind == "HEIF":
        import pillow_heif  # a tenth of a second to import: only where there is such a picture

        pillow_heif.register_heif_opener()
    # A phone's JPEG with a second frame calls itself MPO; only its first frame is used.
    return Image.open(io.BytesIO(data), formats=("JPEG", "MPO") if kind == "JPEG" else (kind,))


def _decode_jpeg(data: bytes, settings: Settings) -> RGB:
    side = settings.stored_short_side
    # The smallest DCT scale that still has every side at least as long as wanted (factors are libjpeg-turbo's).
    pixels: RGB = simplejpeg.decode_jpeg(data, "RGB", min_height=side, min_width=side, strict=True)
    return pixels


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _turn(picture: Image.Image, orientation: object) -> Image.Image:
    """Upright by the EXIF orientation; anything that is not 2 to 8 means upright already."""
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return picture if turn is None else picture.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB from any mode, keeping the EXIF orientation for the caller to apply."""
    exif = image.getexif()
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        result = Image.fromarray(_scaled_to_bytes(np.asarray(image))).convert("RGB")
    elif "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        result = Image.alpha_composite(white, layer).convert("RGB")
    else:
        result = image.convert("RGB")
    result.info.pop("exif", None)
    if (orientation := exif.get(0x0112)) is not None:
        result.getexif()[0x0112] = orientation
    return result


def _scaled_to_bytes(values: npt.NDArray[np.generic]) -> RGB:
    """16-bit, 32-bit and float samples as uint8, never clipped: by the range that their type and values suggest.

    Integers by the bit depth in use (8, 10, 12, 14 or 16: cameras and microscopes store fewer bits than the file has),
    so that pictures of one instrument are scaled alike; floats by [0, 1] or [0, 255]; anything else by its extremes.
    """
    numbers = np.nan_to_num(values.astype(np.float32), copy=False)
    low, high = float(numbers.min()), float(numbers.max())
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 65_535:
        depth = next(bits for bits in (8, 10, 12, 14, 16) if high < 2**bits)
        low, high = 0.0, float(2**depth - 1)
    numbers -= low
    numbers *= 255 / max(high - low, 1e-12)
    return np.round(numbers, out=numbers).astype(np.uint8)


def _bounded(picture: Image.Image, settings: Settings) -> Image.Image:
    short, long = sorted(picture.size)
    scale = min(settings.stored_short_side / short, settings.stored_long_side / long)
    if scale >= 1:
        return picture
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
