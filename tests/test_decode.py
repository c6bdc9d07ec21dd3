"""One decoder for everything: upright, RGB, scaled and not clipped, by content; and it says what it did."""

import io
import struct
import zlib

import numpy as np
import pillow_heif
import pytest
import simplejpeg
from PIL import Image

from tests.conftest import encode
from tl_core.data.decode import TRAITS, PictureProblemError, decode
from tl_core.data.formats import orientation as read_orientation
from tl_core.data.formats import sniff
from tl_core.settings import Settings

SETTINGS = Settings()
pillow_heif.register_heif_opener()  # to write them


def quadrants(size: tuple[int, int] = (120, 80)) -> Image.Image:
    """Red, green, blue and white corners: shows any turn or mirror."""
    width, height = size
    image = Image.new("RGB", size)
    for box, colour in (
        ((0, 0, width // 2, height // 2), (255, 0, 0)),
        ((width // 2, 0, width, height // 2), (0, 255, 0)),
        ((0, height // 2, width // 2, height), (0, 0, 255)),
        ((width // 2, height // 2, width, height), (255, 255, 255)),
    ):
        image.paste(colour, box)
    return image


def corners(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    return pixels[height // 4 :: height // 2, width // 4 :: width // 2].astype(int)


def without_chunks(jpeg: bytes, marker: int) -> bytes:
    """The JPEG without its segments of one kind."""
    kept, at = jpeg[:2], 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        kept += b"" if jpeg[at + 1] == marker else jpeg[at:end]
        at = end
    return kept + jpeg[at:]


UNDO = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif", "avif", "heif"])
@pytest.mark.parametrize("orientation", UNDO)
def test_case_51_a_turned_photo_comes_out_upright(orientation: int, ending: str) -> None:
    upright = quadrants()
    turn = UNDO[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 98} if ending in ("jpg", "webp", "avif", "heif") else {}
    decoded = decode(encode(stored, ending, exif=exif.tobytes(), **options), SETTINGS)
    assert decoded.pixels.shape == (80, 120, 3)
    assert np.abs(corners(decoded.pixels) - corners(np.asarray(upright))).max() < 40
    assert ("turned" in decoded.traits) == (orientation != 1)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", [0, 9, 99, -1])
def test_case_51_a_senseless_orientation_means_upright(orientation: int, ending: str) -> None:
    order, kind = ("<", 3) if orientation >= 0 else (">", 2)  # the last as text
    block = struct.pack(order + "2sHIHHHIHHI", b"II" if order == "<" else b"MM", 42, 8, 1, 0x0112, kind, 1, 0, 0, 0)
    block = block[:18] + struct.pack(order + "H", orientation & 0xFFFF) + block[20:]
    exif: bytes | Image.Exif = b"Exif\0\0" + block
    if ending == "tif":
        exif = Image.Exif()
        exif[0x0112] = max(orientation, 0)
    decoded = decode(encode(quadrants(), ending, exif=exif), SETTINGS)
    assert decoded.pixels.shape == (80, 120, 3) and decoded.traits == ()


def test_case_51_exif_blocks_cut_anywhere_are_read_or_ignored() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "maker", 6
    block = exif.tobytes()
    assert read_orientation(block) == 6
    assert {read_orientation(block[:n]) for n in range(len(block))} <= {1, 6}
    for i in range(len(block)):
        assert 1 <= read_orientation(block[:i] + b"\xff" + block[i + 1 :]) <= 8


@pytest.mark.parametrize("top", [65_535, 4_095, 1_023, 255])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_case_48_every_bit_depth_in_use_is_scaled_not_clipped(top: int, ending: str) -> None:
    ramp = np.tile(np.linspace(0, top, 300).astype(np.uint16), (100, 1))
    decoded = decode(encode(Image.fromarray(ramp), ending), SETTINGS)
    assert decoded.pixels.min() == 0 and decoded.pixels.max() == 255
    assert len(np.unique(decoded.pixels)) >= 250 and decoded.traits == ("deep",)


def test_case_48_one_step_more_does_not_turn_a_picture_black() -> None:
    means = []
    for top in (255, 256, 300):
        ramp = np.tile(np.linspace(0, top, 300).astype(np.uint16), (100, 1))
        means.append(decode(encode(Image.fromarray(ramp), "png"), SETTINGS).pixels.mean())
    assert means[1] > 20 and means[2] > 20


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 1.3), (-2.0, 2.0), (0.0, 70_000.5)])
def test_case_48_float_pictures_fill_the_range(low: float, high: float) -> None:
    ramp = np.tile(np.linspace(low, high, 300, dtype=np.float32), (100, 1))
    pixels = decode(encode(Image.fromarray(ramp), "tif"), SETTINGS).pixels
    assert pixels.min() == 0 and pixels.max() == 255 and len(np.unique(pixels)) >= 250


def test_case_48_one_infinite_sample_does_not_blacken_a_float_picture() -> None:
    ramp = np.tile(np.linspace(0, 1, 300, dtype=np.float32), (100, 1))
    ramp[0, 0], ramp[1, 1], ramp[2, 2] = np.inf, np.nan, -np.inf
    assert decode(encode(Image.fromarray(ramp), "tif"), SETTINGS).pixels[50, 290].min() > 240


@pytest.mark.parametrize("top", [255, 60_000, 2**31 - 1, 2**32 - 1])
def test_case_48_32_bit_integers_are_scaled(top: int) -> None:
    ramp = np.tile(np.linspace(0, top, 300).astype(np.uint32), (100, 1))
    data = bytearray(encode(Image.fromarray(ramp.view(np.int32)), "tif"))
    sign = data.find(struct.pack("<HHI", 339, 3, 1))  # SampleFormat: 1 is without a sign
    assert sign > 0
    data[sign + 8] = 1
    pixels = decode(bytes(data), SETTINGS).pixels[0, :, 0].astype(int)
    assert (np.diff(pixels) >= 0).all() and pixels[0] == 0 and pixels[-1] >= 230


def test_case_49_transparency_is_laid_on_white() -> None:
    layer = Image.new("RGBA", (50, 50), (255, 0, 0, 0))
    layer.paste((0, 0, 255, 255), (0, 0, 25, 50))
    for ending, image in (
        ("png", layer),
        ("png", layer.convert("LA")),
        ("png", layer.quantize()),
        ("webp", layer),
        ("tif", layer),
        ("tif", layer.convert("LA")),
        ("gif", layer),
        ("avif", layer),
        ("heif", layer),
    ):
        decoded = decode(encode(image, ending), SETTINGS)
        assert (decoded.pixels[25, 40] >= 250).all(), ending
        assert decoded.pixels[25, 10].min() < 200 and decoded.traits == ("transparent",), ending


def test_case_49_a_colour_called_transparent_is_white_and_16_bit_grey_too() -> None:
    grey = encode(Image.fromarray(np.full((8, 8), 5_000, np.uint16)), "png")
    body = b"tRNS" + struct.pack(">H", 5_000)
    at = grey.index(b"IDAT") - 4
    chunk = struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body))
    assert (decode(grey[:at] + chunk + grey[at:], SETTINGS).pixels == 255).all()
    flat = Image.new("RGB", (8, 8), (1, 2, 3))
    assert (decode(encode(flat, "png", transparency=(1, 2, 3)), SETTINGS).pixels == 255).all()


def test_case_49_half_transparent_edges_stay_right_when_scaled_down() -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 256, (900, 1200, 4), dtype=np.uint8)
    image = Image.fromarray(samples, "RGBA")
    white = Image.new("RGBA", image.size, "white")
    expected = Image.alpha_composite(white, image).convert("RGB").resize((427, 320), Image.Resampling.BOX)
    pixels = decode(encode(image, "png"), SETTINGS).pixels
    assert pixels.shape == (320, 427, 3)
    assert abs(pixels.mean() - np.asarray(expected).mean()) < 1


def test_an_opaque_picture_with_an_alpha_channel_is_not_called_transparent() -> None:
    assert decode(encode(quadrants().convert("RGBA"), "png"), SETTINGS).traits == ()


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LAB"])
def test_case_50_other_modes_become_rgb(mode: str) -> None:
    image = quadrants().convert("RGB" if mode == "LAB" else mode)
    if mode == "LAB":
        from PIL import ImageCms

        change = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        image = ImageCms.applyTransform(image, change)
    pixels = decode(encode(image, "tif"), SETTINGS).pixels
    expected = np.asarray(quadrants() if mode in ("LAB", "CMYK") else image.convert("RGB"))
    assert np.abs(pixels.astype(int) - expected).max() <= {"LAB": 30, "CMYK": 2}.get(mode, 2)


def inks(image: Image.Image) -> np.ndarray:
    """(H, W, 4) CMYK with as much black as can be, so that every ink has something to say."""
    light = np.asarray(image).astype(float) / 255
    key = light.max(axis=2, keepdims=True)
    colours = light / np.maximum(key, 1e-6)
    return np.round(255 * (1 - np.concatenate([colours, key], axis=2))).astype(np.uint8)


def test_case_50_cmyk_jpegs_have_their_colours_whichever_way_they_are_stored() -> None:
    picture = Image.fromarray(np.asarray(quadrants()) // 2 + 40)
    ink = inks(picture)
    inverted = encode(Image.fromarray(ink, "CMYK"), "jpg", quality=97)  # as Adobe's programs write it
    plain = without_chunks(encode(Image.fromarray(255 - ink, "CMYK"), "jpg", quality=97), 0xEE)
    ycck = simplejpeg.encode_jpeg(255 - ink, quality=97, colorspace="CMYK", colorsubsampling="444")
    assert b"Adobe" in inverted and b"Adobe" not in plain
    assert simplejpeg.decode_jpeg_header(ycck)[2] == "YCCK"
    for data in (inverted, plain, ycck):
        pixels = decode(data, SETTINGS).pixels
        assert np.abs(corners(pixels) - corners(np.asarray(picture))).max() <= 6


@pytest.mark.parametrize("ending", ["avif", "heif", "webp", "bmp", "gif", "tif", "png", "jpg"])
def test_case_54_every_format_is_read_by_content_alone(ending: str) -> None:
    data = encode(quadrants(), ending)
    assert sniff(data) is not None
    assert decode(data, SETTINGS).pixels.shape == (80, 120, 3)


@pytest.mark.parametrize("packing", ["jpeg", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd"])
def test_tiffs_are_read_however_they_are_packed(packing: str) -> None:
    pixels = decode(encode(quadrants(), "tif", compression=packing), SETTINGS).pixels
    assert np.abs(corners(pixels) - corners(np.asarray(quadrants()))).max() <= 8


def test_big_tiffs_and_tiffs_of_either_byte_order_are_known() -> None:
    assert decode(encode(quadrants(), "tif", big_tiff=True), SETTINGS).pixels.shape == (80, 120, 3)
    assert {sniff(head + b"\0" * 8) for head in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")} == {"TIFF"}


def test_big_pictures_are_bounded_and_small_ones_left_alone() -> None:
    assert decode(encode(quadrants((4000, 3000))), SETTINGS).pixels.shape == (320, 427, 3)
    assert decode(encode(quadrants((30, 20)), "png"), SETTINGS).pixels.shape == (20, 30, 3)
    assert max(decode(encode(quadrants((9000, 300)), "png"), SETTINGS).pixels.shape) == SETTINGS.stored_long_side


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_decodes_as_pillow_decodes_it(mode: str) -> None:
    data = encode(quadrants((300, 200)).convert(mode), "jpg", quality=92)
    difference = decode(data, SETTINGS).pixels.astype(int) - np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.abs(difference).max() <= 3


def test_what_is_decoded_can_be_written_as_it_lies() -> None:
    for ending in ("jpg", "png", "tif"):
        for size in ((120, 80), (900, 700)):
            pixels = decode(encode(quadrants(size), ending), SETTINGS).pixels
            assert (
                pixels.dtype == np.uint8
                and pixels.flags.c_contiguous
                and len(pixels.data) == pixels.nbytes // (pixels.shape[1] * pixels.shape[2])
            )


def test_traits_are_those_that_have_words_and_come_in_one_order() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    layer = Image.new("RGBA", (40, 20), (0, 0, 255, 100))
    frames = [Image.new("RGBA", (40, 20), (0, 255, 0, 90))]
    data = encode(layer, "webp", save_all=True, append_images=frames, exif=exif.tobytes(), lossless=True)
    decoded = decode(data, SETTINGS)
    assert decoded.traits == ("turned", "first_frame", "transparent") == TRAITS[:3]
    assert decoded.pixels.shape == (40, 20, 3)


def test_a_jpeg_with_a_sampling_nobody_uses_is_called_what_it_is() -> None:
    data = bytearray(encode(Image.new("RGB", (16, 16), "grey"), "jpg", subsampling=0))
    frame = data.index(b"\xff\xc0")
    data[frame + 11], data[frame + 14] = 0x22, 0x21
    with pytest.raises(PictureProblemError, match="unsupported_picture"):
        decode(bytes(data), SETTINGS)
