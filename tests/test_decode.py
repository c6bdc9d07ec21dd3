"""One decoder for everything: upright, RGB, scaled and not clipped, or a reason."""

import io

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tests.conftest import encode
from tl_core.data.decode import PictureProblemError, decode
from tl_core.settings import Settings

SETTINGS = Settings()


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


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", UNDO)
def test_case_51_a_turned_photo_comes_out_upright(orientation: int, ending: str) -> None:
    upright = quadrants()
    turn = UNDO[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 98} if ending in ("jpg", "webp") else {}
    pixels = decode(encode(stored, ending, exif=exif, **options), SETTINGS)
    assert pixels.shape == (80, 120, 3)
    assert np.abs(pixels[20::40, 30::60].astype(int) - np.asarray(upright)[20::40, 30::60]).max() < 40


@pytest.mark.parametrize("orientation", [0, 9, 99])
def test_case_51_a_senseless_orientation_means_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert decode(encode(quadrants(), "jpg", exif=exif), SETTINGS).shape == (80, 120, 3)


@pytest.mark.parametrize("top", [65_535, 4_095, 1_023, 255])
def test_case_48_every_bit_depth_in_use_is_scaled_not_clipped(top: int) -> None:
    ramp = np.tile(np.linspace(0, top, 300).astype(np.uint16), (100, 1))
    pixels = decode(encode(Image.fromarray(ramp), "png"), SETTINGS)
    assert pixels.min() == 0 and pixels.max() == 255
    assert len(np.unique(pixels)) >= 250


def test_case_48_one_step_more_does_not_turn_a_picture_black() -> None:
    means = []
    for top in (255, 256, 300):
        ramp = np.tile(np.linspace(0, top, 300).astype(np.uint16), (100, 1))
        means.append(decode(encode(Image.fromarray(ramp), "png"), SETTINGS).mean())
    assert means[1] > 20 and means[2] > 20


def test_case_48_float_pictures_from_nought_to_one_fill_the_range() -> None:
    ramp = np.tile(np.linspace(0, 1, 300, dtype=np.float32), (100, 1))
    pixels = decode(encode(Image.fromarray(ramp), "tif"), SETTINGS)
    assert pixels.min() == 0 and pixels.max() == 255 and len(np.unique(pixels)) >= 250


def test_case_49_transparency_is_laid_on_white() -> None:
    layer = Image.new("RGBA", (50, 50), (255, 0, 0, 0))
    layer.paste((0, 0, 255, 255), (0, 0, 25, 50))
    for image in (layer, layer.convert("LA"), layer.quantize()):
        pixels = decode(encode(image, "png"), SETTINGS)
        assert (pixels[25, 40] >= 250).all()


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK"])
def test_case_50_other_modes_become_rgb(mode: str) -> None:
    image = quadrants().convert(mode)
    pixels = decode(encode(image, "tif"), SETTINGS)
    expected = np.asarray(image.convert("RGB"))
    assert np.abs(pixels.astype(int) - expected).max() <= 2


def test_case_50_a_cmyk_jpeg_has_the_colours_pillow_gives_it() -> None:
    data = encode(quadrants().convert("CMYK"), "jpg", quality=95)
    assert (
        np.abs(decode(data, SETTINGS).astype(int) - np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).max() <= 2
    )


def test_case_47_animations_give_their_first_frame() -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    assert (decode(out.getvalue(), SETTINGS)[20, 20] == (255, 0, 0)).all()


@pytest.mark.parametrize("ending", ["avif", "heif"])
def test_phone_formats_are_read(ending: str) -> None:
    pillow_heif.register_heif_opener()  # to write one
    assert decode(encode(quadrants(), ending), SETTINGS).shape == (80, 120, 3)


def test_big_pictures_are_bounded_and_small_ones_left_alone() -> None:
    assert decode(encode(quadrants((4000, 3000))), SETTINGS).shape == (320, 427, 3)
    assert decode(encode(quadrants((30, 20)), "png"), SETTINGS).shape == (20, 30, 3)
    assert max(decode(encode(quadrants((9000, 300)), "png"), SETTINGS).shape) == SETTINGS.stored_long_side


def test_a_jpeg_decodes_as_pillow_decodes_it() -> None:
    data = encode(quadrants((300, 200)), "jpg", quality=92)
    difference = decode(data, SETTINGS).astype(int) - np.asarray(Image.open(io.BytesIO(data)))
    assert np.abs(difference).max() <= 3


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty_file"),
        (b"%PDF-1.7", "not_a_picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_a_picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not_a_picture"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "damaged"),
        (b"\xff\xd8\xff" + b"\0" * 50, "damaged"),
    ],
)
def test_case_46_what_is_no_picture_says_so(data: bytes, reason: str) -> None:
    with pytest.raises(PictureProblemError, match=reason):
        decode(data, SETTINGS)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "gif", "tif"])
def test_case_52_a_cut_picture_is_never_silently_grey(ending: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (120, 120, 3), dtype=np.uint8))
    data = encode(noise, ending)
    with pytest.raises(PictureProblemError, match="damaged"):
        decode(data[: len(data) // 2], SETTINGS)
