"""Colours of 16 bits a sample, which Pillow alone would cut to their high byte (SECURITY case 48)."""

import itertools
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.conftest import encode
from tests.pace import in_time
from tests.test_decode import SETTINGS
from tl_core.data.decode import PictureProblemError, decode

COLOURS = {2: 4, 3: 2, 4: 6}  # PNG's colour type by samples a pixel


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_rows(samples: np.ndarray, kind: int = 0, *, interlaced: bool = False) -> bytes:
    """PNG's rows, each behind its filter: 0, none, or 1, the difference from the pixel before it."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows, step = b"", 2 * samples.shape[2]
    for part in [samples[y::down, x::right] for x, y, right, down in passes] if interlaced else [samples]:
        raw = np.frombuffer(part.astype(">u2").tobytes(), np.uint8).reshape(len(part), -1)
        if kind == 1:
            raw = raw - np.pad(raw, ((0, 0), (step, 0)))[:, :-step]
        rows += b"".join(bytes([kind]) + row.tobytes() for row in raw)
    return rows


def png16(
    samples: np.ndarray, *extra: bytes, kind: int = 0, interlaced: bool = False, rows: bytes | None = None
) -> bytes:
    """A PNG of 16 bits a sample, of which Pillow can write only the grey ones."""
    height, width, count = samples.shape
    content = png_rows(samples, kind, interlaced=interlaced) if rows is None else rows
    chunks = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, COLOURS[count], 0, 0, interlaced))]
    chunks += [chunk(item[:4], item[4:]) for item in extra]
    chunks += [chunk(b"IDAT", zlib.compress(content)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff16(
    samples: np.ndarray,
    order: str = "<",
    *,
    packed: bool = False,
    planes: bool = False,
    alpha: int = 2,
    colours: int = 2,
) -> bytes:
    """A TIFF of 16 bits a sample in two strips (a plane), packed with deflate or not."""
    height, width, count = samples.shape
    half = height // 2
    layers = [samples[..., i] for i in range(count)] if planes else [samples]
    strips = [part.astype(order + "u2").tobytes() for layer in layers for part in (layer[:half], layer[half:])]
    strips = [zlib.compress(strip) for strip in strips] if packed else strips
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("H", [width]),
        257: ("H", [height]),
        258: ("H", [16] * count),
        259: ("H", [8 if packed else 1]),
        262: ("H", [colours]),
        273: ("I", [0] * len(strips)),
        277: ("H", [count]),
        278: ("H", [half]),
        279: ("I", [len(strip) for strip in strips]),
        284: ("H", [1 + planes]),
    }
    if count == 4 and colours == 2:
        tags[338] = ("H", [alpha])
    behind = 8 + 2 + 12 * len(tags) + 4
    values_at, table, values = behind, b"", b""
    first = behind + sum(len(v) * (2 if k == "H" else 4) for k, v in tags.values())
    tags[273] = ("I", list(itertools.accumulate([first, *map(len, strips[:-1])])))
    for tag, (kind, numbers) in tags.items():
        content = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
        table += struct.pack(order + "HHI", tag, 3 if kind == "H" else 4, len(numbers))
        table += content.ljust(4, b"\0") if len(content) <= 4 else struct.pack(order + "I", values_at + len(values))
        values += content if len(content) > 4 else b""
    head = struct.pack(order + "2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(tags))
    return (head + table + b"\0" * 4 + values).ljust(first, b"\0") + b"".join(strips)


def ramp(top: int, count: int, *, alpha: int = 65_535) -> np.ndarray:
    """(50, 300, count): up to `top` from left to right; the second colour runs the other way; alpha is even."""
    up = np.tile(np.linspace(0, top, 300).astype(np.uint16), (50, 1))
    samples = np.stack([up, up[:, ::-1], up, up][:count] if count > 2 else [up, up], -1)
    if count in (2, 4):
        samples[..., -1] = alpha
    return samples


WRITERS = {
    "48-bit PNG": lambda top: png16(ramp(top, 3)),
    "48-bit PNG, filtered": lambda top: png16(ramp(top, 3), kind=1),
    "48-bit PNG, interlaced": lambda top: png16(ramp(top, 3), interlaced=True),
    "64-bit PNG": lambda top: png16(ramp(top, 4)),
    "64-bit PNG, interlaced": lambda top: png16(ramp(top, 4), interlaced=True),
    "64-bit PNG, alpha of the same depth": lambda top: png16(ramp(top, 4, alpha=top)),
    "grey PNG with alpha": lambda top: png16(ramp(top, 2)),
    "grey PNG with alpha, interlaced": lambda top: png16(ramp(top, 2), interlaced=True, kind=1),
    "48-bit TIFF": lambda top: tiff16(ramp(top, 3)),
    "48-bit TIFF, big endian": lambda top: tiff16(ramp(top, 3), ">"),
    "48-bit TIFF, packed": lambda top: tiff16(ramp(top, 3), packed=True),
    "48-bit TIFF, packed, big endian": lambda top: tiff16(ramp(top, 3), ">", packed=True),
    "48-bit TIFF in planes": lambda top: tiff16(ramp(top, 3), planes=True),
    "48-bit TIFF in planes, big endian": lambda top: tiff16(ramp(top, 3), ">", planes=True),
    "64-bit TIFF": lambda top: tiff16(ramp(top, 4), packed=True),
    "64-bit TIFF, premultiplied": lambda top: tiff16(ramp(top, 4), ">", alpha=1),
    "64-bit TIFF, no alpha": lambda top: tiff16(ramp(top, 4), alpha=0),
}


@pytest.mark.parametrize("top", [65_535, 16_383, 4_095, 1_023, 255])
@pytest.mark.parametrize("kind", WRITERS)
def test_case_48_deep_colours_are_scaled_by_the_bits_in_use(kind: str, top: int) -> None:
    decoded = decode(WRITERS[kind](top), SETTINGS)
    grey = "grey" in kind
    expected = np.round(ramp(top, 3)[..., [0, 0, 0] if grey else [0, 1, 2]] * (255 / top))
    assert decoded.traits == ("deep",)
    assert np.abs(decoded.pixels - expected).max() <= 1
    assert len(np.unique(decoded.pixels)) >= 200 and decoded.pixels.mean() > 100


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if "same depth" not in kind])
def test_case_48_colours_that_use_all_16_bits_keep_their_high_byte(kind: str) -> None:
    pixels = decode(WRITERS[kind](60_000), SETTINGS).pixels
    expected = ramp(60_000, 3)[..., [0, 0, 0] if "grey" in kind else [0, 1, 2]] >> 8
    assert np.abs(pixels.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("order", "<>")
def test_case_48_packed_planes_are_coarse_but_not_dark(order: str) -> None:
    """libtiff gives Pillow no low byte there."""
    pixels = decode(tiff16(ramp(4_095, 3), order, packed=True, planes=True), SETTINGS).pixels
    expected = np.round(ramp(4_095, 3) * (255 / 4_095))
    assert np.abs(pixels - expected).max() <= 16 and pixels.mean() > 100


def test_case_48_planes_that_pillow_cannot_take_apart_are_named() -> None:
    with pytest.raises(PictureProblemError, match="unsupported_picture"):
        decode(tiff16(ramp(4_095, 4), planes=True, colours=5), SETTINGS)


def test_case_48_the_factor_is_one_for_all_colours() -> None:
    samples = ramp(4_000, 3) // np.array([1, 4, 40], np.uint16)
    pixels = decode(png16(samples), SETTINGS).pixels
    assert np.abs(pixels - samples * (255 / 4_095)).max() <= 1


def test_case_48_a_dark_picture_of_8_bits_written_with_16_stays_dark() -> None:
    dark = ramp(40, 3)
    for data in (png16(dark * 257), tiff16(dark * 257, packed=True)):
        assert (decode(data, SETTINGS).pixels == dark).all()


def test_case_48_deep_inks_become_the_colours_of_shallow_ones() -> None:
    inks = np.random.default_rng(0).integers(0, 256, (40, 60, 4)).astype(np.uint16)
    inks[0, 0] = 255
    expected = decode(encode(Image.fromarray(inks.astype(np.uint8), "CMYK"), "tif"), SETTINGS).pixels
    pixels = decode(tiff16(inks * 16, colours=5), SETTINGS).pixels  # 12 bits
    assert np.abs(pixels.astype(int) - expected).max() <= 2


def test_case_49_deep_alpha_is_laid_on_white() -> None:
    for top, count in itertools.product((65_535, 4_095), (2, 4)):
        samples = ramp(top, count, alpha=top)
        samples[25:, :, -1] = 0
        samples[:10, :, -1] = top // 2
        decoded = decode(png16(samples), SETTINGS)
        assert decoded.traits == ("transparent", "deep") and (decoded.pixels[25:] == 255).all()
        assert decoded.pixels[15, 0, 0] == 0 and abs(int(decoded.pixels[5, 0, 0]) - 128) <= 1


def test_case_49_an_even_veil_over_deep_colours_is_not_taken_for_fewer_bits() -> None:
    pixels = decode(png16(ramp(65_535, 4, alpha=16_383)), SETTINGS).pixels
    assert abs(int(pixels[0, 0, 0]) - 191) <= 1


@pytest.mark.parametrize("high", [60_000, 4_000])
def test_case_49_a_deep_colour_called_transparent_is_white_by_all_of_its_bits(high: int) -> None:
    samples = np.zeros((8, 8, 3), np.uint16) + np.array([70, 700, high], np.uint16)
    samples[4:, :, 0] = 71
    decoded = decode(png16(samples, b"tRNS" + struct.pack(">3H", 70, 700, high)), SETTINGS)
    assert (decoded.pixels[:4] == 255).all() and (decoded.pixels[4:, :, 0] < 10).all()
    assert decoded.traits == ("transparent", "deep")


def test_case_51_deep_colours_are_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode(png16(ramp(4_095, 3), b"eXIf" + exif.tobytes()), SETTINGS)
    assert decoded.pixels.shape == (300, 50, 3) and decoded.traits == ("turned", "deep")
    assert decoded.pixels[0, :, 0].max() == 0 and decoded.pixels[-1, :, 0].min() == 255


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_case_52_a_deep_png_with_bad_rows_is_damaged_at_once(count: int, interlaced: bool) -> None:
    started = time.process_time()
    for top in (4_095, 65_535):
        samples = ramp(top, count)
        rows = png_rows(samples, interlaced=interlaced)
        last = 1 + 300 * 2 * count
        wrong_filter = rows[:-last] + b"\x07" + rows[1 - last :]
        for bad in (wrong_filter, b"", rows[: len(rows) // 2], rows[: -25 * last], rows[:-last], rows[:-1]):
            with pytest.raises(PictureProblemError, match="damaged"):
                decode(png16(samples, rows=bad, interlaced=interlaced), SETTINGS)
    assert in_time(time.process_time() - started, 0.5)


def test_case_52_data_behind_a_deep_pngs_last_row_is_left_alone() -> None:
    """As behind one of 8 bits: the picture is whole."""
    samples = ramp(4_095, 3)
    swollen = png16(samples, rows=png_rows(samples) + b"\0" * 200_000_000)
    started = time.process_time()
    assert (decode(swollen, SETTINGS).pixels == decode(png16(samples), SETTINGS).pixels).all()
    assert in_time(time.process_time() - started, 0.2)


@pytest.mark.parametrize("packed", [False, True])
def test_case_52_a_cut_deep_tiff_is_damaged(packed: bool) -> None:
    data = tiff16(np.random.default_rng(0).integers(0, 4_096, (50, 60, 3)), packed=packed)
    for at in range(0, len(data) - 1, 997):
        with pytest.raises(PictureProblemError, match="damaged"):
            decode(data[:at] if at > 8 else data[:8], SETTINGS)


def test_case_52_a_deep_png_with_a_flipped_bit_is_right_or_named() -> None:
    data = png16(np.random.default_rng(0).integers(0, 4_096, (30, 30, 3)))
    expected, named = decode(data, SETTINGS).pixels, 0
    for at in range(8, len(data), 17):
        flipped = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
        try:
            assert (decode(flipped, SETTINGS).pixels == expected).all(), at
        except PictureProblemError:
            named += 1
    assert named > 0.9 * len(range(8, len(data), 17))
