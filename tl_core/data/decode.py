"""Bytes of a picture -> upright RGB, uint8. The one decoder of training, prediction and thumbnails.

By content, never by name. JPEG goes through libjpeg-turbo (scaled while decoding), the rest through the one Pillow
plugin of its format. Alpha is laid on white, 16-bit and float samples are scaled, animations give their first frame.
Runs in the limited child only; every problem of a file is a `PictureProblemError` with a code. How long one picture
may take is for the parent to decide.
"""

import importlib
import io
import re
import struct
import warnings
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image, ImageFile

from tl_core.data import deep, formats
from tl_core.data.imageset import RGB
from tl_core.settings import Settings

# What was done to a picture that a person may want to know, by code: turned upright by its EXIF orientation; the first
# of several frames or pages; transparency laid on white; 16-bit or float brightness scaled to 8 bits; a slip in the
# file that costs no pixel.
TRAITS = ("turned", "first_frame", "transparent", "deep", "mended")

# Imported when the first such picture comes: HEIF takes a fortieth of a second. `Image.open` would try more formats.
_PLUGINS = {
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "HEIF": ("pillow_heif.as_plugin", "HeifImageFile"),
}
# What Pillow's decoders may raise on hostile bytes (the list of Pillow's own OSS-Fuzz harness, less MemoryError, which
# is about this machine and not about the picture).
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    NotImplementedError,
    OverflowError,
    struct.error,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    RuntimeError,
)
_UNSUPPORTED = re.compile("unsupported|not supported|unknown (?:pixel|raw) mode|subsampling level", re.IGNORECASE)
_NO_MEMORY = re.compile("out of memory|insufficient memory", re.IGNORECASE)
# libjpeg-turbo's words for files whose picture is whole: leftovers behind it, or only the end marker missing.
_SLIPS = re.compile("extraneous bytes before marker 0xd9|Premature end of JPEG file")
_END_OF_JPEG = b"\xff\xd9"
_MOST_SCANS = 500  # passes over one JPEG (libjpeg-turbo's own limit against scan bombs); encoders write about ten


class PictureProblemError(Exception):
    """A file is no usable picture; `args[0]` is the reason's code."""


@dataclass(frozen=True)
class Decoded:
    """(H, W, 3) uint8 RGB, upright, and which of `TRAITS` it has."""

    pixels: RGB
    traits: tuple[str, ...] = ()


def decode(data: bytes, settings: Settings) -> Decoded:
    """The picture in a file's bytes, its sides bounded by the settings. Raises PictureProblemError."""
    if not data:
        raise PictureProblemError("empty_file")
    kind = formats.sniff(data)
    if kind is None:
        raise PictureProblemError("not_a_picture")
    try:
        if kind == "JPEG":
            return _decode_jpeg(data, settings)
        # Pillow checks sizes wherever it makes room for a picture: it warns at this one and refuses at twice that.
        Image.MAX_IMAGE_PIXELS = settings.max_picture_pixels // 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode_other(data, kind, settings)
    except Image.DecompressionBombError as error:
        raise PictureProblemError("too_many_pixels") from error
    except _DECODE_ERRORS as error:
        if _NO_MEMORY.search(str(error)):
            raise MemoryError from error
        unsupported = isinstance(error, NotImplementedError) or _UNSUPPORTED.search(str(error))
        raise PictureProblemError("unsupported_picture" if unsupported else "damaged") from error


def thumbnail(pixels: RGB, side: int) -> Image.Image:
    """An (H, W, 3) picture at `side` x `side`, for telling copies; in a third of the time of a plain BOX resize.

    Some hundred rows say as much as all of them: on monkeys10, hymenoptera, dtd10 and flowers5 the same copies are
    found as from every pixel.
    """
    few = Image.fromarray(pixels[:: max(1, len(pixels) // (6 * side))])
    return few.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)


def _check_size(width: int, height: int, settings: Settings) -> None:
    if width * height > settings.max_picture_pixels:
        raise PictureProblemError("too_many_pixels")
    if min(width, height) < 1:
        raise PictureProblemError("damaged")


def _decode_jpeg(data: bytes, settings: Settings) -> Decoded:
    """A phone's JPEG with further frames behind it (MPO, gain maps) is a JPEG: nobody misses those."""
    header = formats.jpeg_header(data)
    if not header.complete or header.scans > _MOST_SCANS:
        raise PictureProblemError("damaged")
    height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    _check_size(width, height, settings)
    inks = space in ("CMYK", "YCCK")
    try:
        pixels, mended = _jpeg_pixels(data, "CMYK" if inks else "RGB", settings), False
    except ValueError as error:
        if not _SLIPS.search(str(error)):
            raise
        pixels, mended = _mended_jpeg(data, "CMYK" if inks else "RGB", header, settings), True
    if inks:
        pixels = _from_inks(pixels if header.adobe else 255 - pixels)
    traits = _traits(turned=header.orientation > 1, mended=mended)
    if (
        not traits
        and min(pixels.shape[:2]) <= settings.stored_short_side
        and max(pixels.shape) <= (settings.stored_long_side)
    ):
        return Decoded(pixels)
    return Decoded(_array(_turn(_bounded(Image.fromarray(pixels), settings), header.orientation)), traits)


def _jpeg_pixels(data: bytes, space: str, settings: Settings, *, strict: bool = True) -> RGB:
    """(H, W, 3 or 4) at the smallest DCT scale that still has every side at least as long as wanted."""
    side = settings.stored_short_side
    pixels: RGB = simplejpeg.decode_jpeg(data, space, min_height=side, min_width=side, strict=strict)
    return pixels


def _mended_jpeg(data: bytes, space: str, header: formats.JpegHeader, settings: Settings) -> RGB:
    """A JPEG with a slip, if all of its picture is there. Raises ValueError when some of it is missing.

    With an end marker behind it, libjpeg-turbo finds everything it needs in the one scan or says what is missing. With
    several scans it would take a blurred picture for a whole one.
    """
    if data[-2:] != _END_OF_JPEG:
        if header.scans > 1:
            raise ValueError("cut off")
        data += _END_OF_JPEG
    try:
        return _jpeg_pixels(data, space, settings)
    except ValueError as error:
        if "extraneous bytes before marker 0xd9" not in str(error):
            raise
        return _jpeg_pixels(data, space, settings, strict=False)


def _from_inks(light: RGB) -> RGB:
    """(H, W, 3) RGB of (H, W, 4) inverted CMYK: how much light each ink lets through."""
    colours = light[..., :3].astype(np.uint16)
    colours *= light[..., 3:]
    colours += 127
    colours //= 255
    return colours.astype(np.uint8)


def _decode_other(data: bytes, kind: str, settings: Settings) -> Decoded:
    exif, several = b"", False
    if kind == "PNG":
        data, exif, several = formats.plain_png(data)
    elif kind == "BMP":
        data = formats.plain_bmp(data)
    elif kind == "GIF":
        several = formats.gif_is_animated(data)
    file = _opened(data, kind)
    image: Image.Image = file
    _check_size(*image.size, settings)
    if kind in ("WEBP", "AVIF"):  # AVIF: Pillow says there how the container wants it turned
        exif = image.info.get("exif", b"")
    turn = formats.orientation(exif)
    turned = turn > 1 or _turned_by_its_decoder(image, data, kind)
    several |= kind in ("TIFF", "WEBP", "AVIF", "HEIF") and bool(getattr(image, "is_animated", False))
    deep_colours = deep.has_deep_colours(file, kind)
    if deep_colours:
        image = deep.scaled_colours(file, _opened(data, kind))
    image.load()
    if kind == "PNG" and _may_lack_rows(file) and not formats.png_has_all_rows(data, *file.size):
        raise PictureProblemError("damaged")
    if deep_grey := image.mode in ("I", "F") or image.mode.startswith("I;16"):
        picture, clear = _bounded(Image.fromarray(deep.scaled_grey(image)), settings), False
    elif "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        layer = _bounded(_converted(_converted(image, "RGBA"), "RGBa"), settings)
        picture, clear = _on_white(layer)
    else:
        # Nothing is lost by shrinking grey as grey; colours of other kinds are not to be mixed before they are RGB.
        wanted = "L" if image.mode in ("1", "L") else "RGB"
        picture, clear = _bounded(_converted(image, wanted), settings), False
    traits = _traits(turned=turned, first_frame=several, transparent=clear, deep=deep_colours or deep_grey)
    return Decoded(_array(_turn(picture, turn)), traits)


def _opened(data: bytes, kind: str) -> ImageFile.ImageFile:
    """A picture of which only the header is read yet."""
    module, name = _PLUGINS[kind]
    image: ImageFile.ImageFile = getattr(importlib.import_module(module), name)(io.BytesIO(data))
    return image


def _may_lack_rows(image: Image.Image) -> bool:
    """Whether the row that a loaded PNG ends with is empty, as rows are for which there was no data."""
    last = image.crop((0, image.height - 1, image.width, image.height))
    return bool(image.info.get("interlace")) or last.getbbox() is None


def _traits(**true: bool) -> tuple[str, ...]:
    return tuple(code for code in TRAITS if true.get(code))


def _turned_by_its_decoder(image: Image.Image, data: bytes, kind: str) -> bool:
    """Whether loading turns the picture: Pillow does so for TIFF, libheif for HEIF where the container says so."""
    if kind == "TIFF":
        return image.tag_v2.get(0x0112) in range(2, 9)  # type: ignore[attr-defined]
    if kind == "HEIF":
        return any(box in data[:100_000] for box in (b"irot", b"imir")) and bool(image.info.get("original_orientation"))
    return False


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _turn(picture: Image.Image, orientation: int) -> Image.Image:
    return picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """`image` in `mode`, without the copy that Pillow makes of one that is in it already: it may be 160 MB."""
    return image if image.mode == mode else image.convert(mode)


def _array(picture: Image.Image) -> RGB:
    return np.ascontiguousarray(_converted(picture, "RGB"))


def _on_white(layer: Image.Image) -> tuple[Image.Image, bool]:
    """A premultiplied picture ("RGBa") laid on white, and whether any of it was transparent."""
    samples = np.asarray(layer)
    colours, alpha = samples[..., :3], samples[..., 3:]
    # Scaling rounds each on its own, so that a colour may be one above its alpha.
    laid = np.minimum(colours, alpha) + (255 - alpha)
    return Image.fromarray(laid), bool(alpha.min() < 255)


def _bounded(picture: Image.Image, settings: Settings) -> Image.Image:
    short, long = sorted(picture.size)
    scale = min(settings.stored_short_side / short, settings.stored_long_side / long)
    if scale >= 1:
        return picture
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
