"""Pictures meant to do harm, and pictures that met with an accident (SECURITY 5.2)."""

import ast
import functools
import io
import random
import struct
import subprocess
import time
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageFile, JpegImagePlugin

from tests.conftest import Zipper, encode, picture
from tests.test_decode import SETTINGS, quadrants
from tl_core.data.decode import Decoded, PictureProblemError, decode
from tl_core.data.intake import decode_files, prepare
from tl_core.settings import Settings

ROOT = Path(__file__).parents[1]
pillow_heif.register_heif_opener()  # to write them


def noise(size: tuple[int, int] = (120, 120)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def reason(data: bytes) -> str | None:
    """Why a file is left out, or None when it is used."""
    try:
        decode(data, SETTINGS)
    except PictureProblemError as problem:
        return str(problem.args[0])
    return None


def seconds(data: bytes) -> float:
    """Of the processor, so that a busy machine does not matter."""
    started = time.process_time()
    reason(data)
    return time.process_time() - started


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, rest: bytes = b"") -> bytes:
    """A PNG's header, and whatever follows."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rest + chunk(b"IEND", b"")


def with_chunks(data: bytes, added: bytes) -> bytes:
    """A PNG with more chunks behind its header."""
    return data[:33] + added + data[33:]


def test_case_41_bombs_are_refused_by_their_size_also_when_predicting(tmp_path: Path, settings: Settings) -> None:
    one_bit = encode(Image.new("1", (13_000, 13_000)), "png")
    colour = png(13_370, 13_370, rest=chunk(b"IDAT", zlib.compress(b"\0" * 1_000_000)))
    assert len(one_bit) < 100_000
    decode(picture(1, ending="png"), SETTINGS)  # the plugin is loaded
    for data in (one_bit, colour):
        assert reason(data) == "too_many_pixels" and seconds(data) < 0.05
    (tmp_path / "bomb.png").write_bytes(one_bit)
    assert decode_files([tmp_path / "bomb.png"], settings) == ["too_many_pixels"]


def test_case_42_sizes_without_data_cost_nothing() -> None:
    jpeg = bytearray(picture(1))
    frame = next(jpeg.find(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in jpeg)
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, 65_500)
    webp = bytearray(encode(noise(), "webp", lossless=True))
    at = webp.index(b"VP8L") + 9
    webp[at : at + 4] = b"\xff\xff\xff\x0f"  # 16,384 x 16,384
    tiff = encode(noise(), "tif").replace(struct.pack("<HHII", 256, 4, 1, 120), struct.pack("<HHII", 256, 4, 1, 9**9))
    bmp, gif = bytearray(encode(noise(), "bmp")), bytearray(encode(noise(), "gif"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    for data in (
        bytes(jpeg),
        png(60_000, 60_000, rest=chunk(b"IDAT", b"x")),
        bytes(webp),
        tiff,
        bytes(bmp),
        bytes(gif),
    ):
        reason(data)  # the plugin is loaded
        assert reason(data) == "too_many_pixels", data[:12]
        assert seconds(data) < 0.05


def test_case_45_no_code_of_ours_lets_pillow_guess_or_opens_an_upload_outside_the_child() -> None:
    """Pillow below 13 decodes JPEG unsafely and gradio holds it there: JPEGs go through simplejpeg, in the child."""
    for path in [*(ROOT / "tl_core").rglob("*.py"), *(ROOT / "tl_ui").rglob("*.py"), ROOT / "app.py"]:
        if path.parent.name == "script_files":  # what people take home and run on their own pictures
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        opens = [
            f for f in calls if isinstance(f, ast.Attribute) and f.attr == "open" and isinstance(f.value, ast.Name)
        ]
        assert not any(f.value.id in ("Image", "PIL") for f in opens if isinstance(f.value, ast.Name)), path
        decoders = {"tl_core.data.decode", "pillow_heif", "simplejpeg"}
        named = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        named |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
        if path.name not in ("decode.py", "decoder_process.py"):
            assert not named & decoders, path


def test_case_45_this_process_opens_no_picture_while_it_reads_an_upload(
    make_zip: Zipper, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = make_zip({"a": 3, "b": 3, "a/x.png": picture(9, ending="png")})
    (tmp_path / "one.jpg").write_bytes(picture(3))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("opened a picture")

    monkeypatch.setattr(Image, "open", refuse)
    monkeypatch.setattr(ImageFile.ImageFile, "__init__", refuse)
    list(prepare(upload, tmp_path / "set", settings))
    assert not isinstance(decode_files([tmp_path / "one.jpg"], settings)[0], str)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_case_45_jpegs_never_reach_pillows_decoder(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(quadrants().convert(mode), "jpg")
    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "__init__", None)
    monkeypatch.setattr(Image, "open", None)
    assert decode(data, SETTINGS).pixels.shape == (80, 120, 3)
    assert reason(data[:300]) == "damaged"


FOREIGN = {
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(x) print\n",
    "eps with a preview": b"\xc5\xd0\xd3\xc6" + b"\0" * 60,
    "pdf": b"%PDF-1.7\n",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "html": b"<!doctype html><script>alert(1)</script>",
    "psd": b"8BPS\0\1" + b"\0" * 60,
    "fits": b"SIMPLE  =                    T" + b" " * 2850,
    "jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 60,
    "j2k": b"\xff\x4f\xff\x51" + b"\0" * 60,
    "ico": b"\0\0\1\0\1\0" + b"\0" * 60,
    "wmf": b"\xd7\xcd\xc6\x9a" + b"\0" * 60,
    "emf": b"\1\0\0\0" + b"\0" * 36 + b" EMF",
    "spider": struct.pack("<27f", *[1.0] * 27),
    "dcx": struct.pack("<I", 0x3ADE68B1) + b"\0" * 60,
    "ppm": b"P6 2 2 255\n" + b"\0" * 12,
    "mp4": b"\0\0\0\x18ftypmp42\0\0\0\0",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_case_46_other_formats_are_refused_unread_and_start_no_program(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    assert reason(FOREIGN[kind]) == "not_a_picture"


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"\xff\xd8\xff" + b"\0" * 50, b"GIF89a", b"BM"]
)
def test_case_46_a_signature_alone_is_no_picture(data: bytes) -> None:
    assert reason(data) == ("damaged" if data else "empty_file")


def test_case_46_a_phones_two_frames_are_its_first(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = quadrants(), Image.new("RGB", (120, 80), "black")
    data = encode(first, "mpo", save_all=True, append_images=[second], quality=95)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    monkeypatch.setattr(Image.Image, "seek", None)
    decoded = decode(data, SETTINGS)
    assert decoded.traits == () and decoded.pixels.mean() > 60


@functools.cache
def animations(frames: int, size: tuple[int, int]) -> dict[str, bytes]:
    """Animations of one still red frame and then many blue ones, spliced rather than encoded."""
    red, blue = Image.new("RGB", size, "red"), Image.new("RGB", size, "blue")
    made: dict[str, bytes] = {}
    two = encode(red, "gif", save_all=True, append_images=[blue], duration=100)
    second = two.rindex(b"\x21\xf9")
    made["gif"] = two[:second] + two[second:-1] * frames + b"\x3b"
    webp = encode(red, "webp", save_all=True, append_images=[blue], lossless=True)
    last = webp.rindex(b"ANMF")
    body = webp[12:last] + webp[last:] * frames
    made["webp"] = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    still, other = encode(red, "png"), encode(blue, "png")
    coded = other[other.index(b"IDAT") + 4 : other.index(b"IEND") - 8]

    def control(number: int) -> bytes:
        return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, *size, 0, 0, 1, 10, 0, 0))

    head = with_chunks(still, chunk(b"acTL", struct.pack(">II", frames + 1, 0)) + control(0))
    more = b"".join(control(2 * i + 1) + chunk(b"fdAT", struct.pack(">I", 2 * i + 2) + coded) for i in range(frames))
    made["png"] = head[:-12] + more + head[-12:]
    return made


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_case_47_of_an_animation_only_the_first_frame_is_decoded(kind: str) -> None:
    few, many = (animations(count, (2000, 2000))[kind] for count in (1, 300))
    assert getattr(Image.open(io.BytesIO(many)), "n_frames", 0) == 301
    decoded = decode(many, SETTINGS)
    assert decoded.traits == ("first_frame",) and (decoded.pixels[10, 10] >= (250, 0, 0)).all()
    assert decoded.pixels[..., 2].max() < 10
    assert seconds(many) < 4 * seconds(few) + 0.3  # 300 more frames of this size would take many times that


def test_case_47_pages_of_a_tiff_are_its_first() -> None:
    pages = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue", "lime")]
    decoded = decode(encode(pages[0], "tif", save_all=True, append_images=pages[1:]), SETTINGS)
    assert decoded.traits == ("first_frame",) and (decoded.pixels[5, 5] == (255, 0, 0)).all()
    assert decode(encode(pages[0], "gif"), SETTINGS).traits == ()


@pytest.mark.parametrize("ending", ["avif", "heif"])
def test_case_47_sequences_give_their_first_picture(ending: str) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    decoded = decode(encode(frames[0], ending, save_all=True, append_images=frames[1:]), SETTINGS)
    assert decoded.traits == ("first_frame",) and decoded.pixels[30, 30, 0] > 200 and decoded.pixels[30, 30, 2] < 60


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "gif", "tif", "bmp", "avif", "heif"])
def test_case_52_a_cut_picture_is_never_silently_grey(ending: str) -> None:
    data = encode(noise(), ending)
    assert reason(data[: len(data) // 2]) == "damaged"


def whole(data: bytes) -> Decoded | None:
    try:
        return decode(data, SETTINGS)
    except PictureProblemError:
        return None


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}], ids=str)
def test_case_52_a_jpeg_cut_anywhere_is_whole_or_named(options: dict[str, bool]) -> None:
    data = encode(noise(), "jpg", quality=80, **options)
    expected = decode(data, SETTINGS).pixels
    for at in [*range(0, len(data), 97), *range(len(data) - 40, len(data))]:
        found = whole(data[:at])
        assert found is None or (found.pixels == expected).all(), at


def test_case_52_slips_that_cost_no_pixel_are_mended_and_said() -> None:
    data = encode(noise(), "jpg", quality=80)
    expected = decode(data, SETTINGS).pixels
    for slipped in (data[:-2], data[:-1], data[:-2] + b"\x12\x34\x56" + data[-2:], data[:-2] + b"\x12\x34"):
        found = decode(slipped, SETTINGS)
        assert found.traits == ("mended",) and (found.pixels == expected).all()
    assert decode(data + b"\0" * 5_000, SETTINGS).traits == ()


def test_case_52_a_png_with_a_flipped_bit_is_right_or_named() -> None:
    data = encode(noise((60, 60)), "png")
    expected, chance, named = decode(data, SETTINGS).pixels, random.Random(0), 0
    for _ in range(300):
        at = chance.randrange(8, len(data))
        found = whole(data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :])
        assert found is None or (found.pixels == expected).all(), at
        named += found is None
    assert named > 280


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_case_52_a_png_whose_data_ends_well_but_early_is_named(mode: str) -> None:
    """Pillow leaves rows black for which there is no data; rows that are black are something else."""
    ground = np.asarray(noise((50, 30)).convert("L"), np.uint16)
    image = Image.fromarray(ground * 257) if mode == "I;16" else Image.fromarray(ground.astype(np.uint8)).convert(mode)
    data = encode(image, "png")
    at, size = data.index(b"IDAT"), int.from_bytes(data[data.index(b"IDAT") - 4 :][:4], "big")
    rows = zlib.decompress(data[at + 4 : at + 4 + size])
    row, rest = len(rows) // 30, data[at + 8 + size :]
    for lost in (1, 2, 29):
        assert reason(data[: at - 4] + chunk(b"IDAT", zlib.compress(rows[: -lost * row])) + rest) == "damaged"
        black = zlib.compress(rows[: -lost * row] + bytes(lost * row))
        assert reason(data[: at - 4] + chunk(b"IDAT", black[:40]) + chunk(b"IDAT", black[40:]) + rest) is None


def test_case_52_long_runs_of_black_are_not_taken_for_missing_rows() -> None:
    for size in ((1, 1), (1024, 1023), (3000, 4000), (1, 1 << 20)):
        for mode in ("1", "L", "RGBA"):
            assert reason(encode(Image.new(mode, size), "png")) is None


def test_what_is_not_needed_to_show_a_png_may_be_broken() -> None:
    data = encode(quadrants(), "png")
    wrong = b"\0\0\0\4zTXtoops\0\0\0\0"
    for broken in (with_chunks(data, wrong), with_chunks(data, chunk(b"iCCP", b"x")), data[:-12], data[:-5]):
        assert (decode(broken, SETTINGS).pixels == np.asarray(quadrants())).all()


def test_a_bitmap_with_more_colours_than_it_can_name_is_read() -> None:
    data = bytearray(encode(quadrants().quantize(16), "bmp"))
    at, colours = struct.unpack("<I", data[10:14])[0], struct.unpack("<I", data[46:50])[0]
    data[10:14] = struct.pack("<I", at + 4 * (300 - colours))
    data[46:50] = struct.pack("<I", 300)
    data[at:at] = b"\1\2\3\0" * (300 - colours)
    pixels = decode(bytes(data), SETTINGS).pixels
    assert np.abs(pixels.astype(int) - np.asarray(quadrants())).max() <= 2


def test_case_53_sizes_at_the_edge_are_read_or_named() -> None:
    assert decode(encode(Image.new("RGB", (1, 1), "red"), "png"), SETTINGS).pixels.tolist() == [[[255, 0, 0]]]
    for ending in ("jpg", "png"):
        assert decode(encode(Image.new("RGB", (65_500, 1), "red"), ending), SETTINGS).pixels.shape == (1, 1280, 3)
    assert decode(encode(Image.new("L", (1, 500_000), 9), "png"), SETTINGS).pixels.shape == (1280, 1, 3)
    for width, height in ((0, 10), (10, 0), (0, 0)):
        assert reason(png(width, height, rest=chunk(b"IDAT", zlib.compress(b"\0" * 40)))) == "damaged"
    assert reason(b"") == "empty_file"


def test_case_54_names_say_nothing(make_zip: Zipper, tmp_path: Path, settings: Settings) -> None:
    names = {
        "a/1.png": "jpg",
        "a/2.JPG": "jpg",
        "b/3": "png",
        "b/4.jpeg.exe": "png",
        "a/5.tif": "webp",
        "b/6.jpg": "gif",
    }
    files = []
    for number, (name, ending) in enumerate(names.items()):
        files.append(tmp_path / Path(name).name)
        files[-1].write_bytes(picture(number, ending=ending))
    assert not any(isinstance(result, str) for result in decode_files(files, settings))


def test_case_55_and_58_what_hides_in_a_picture_stays_behind(make_zip: Zipper, read_set: object) -> None:
    marker = b"SERIAL-0123456789"
    exif = Image.Exif()
    exif[0x010F] = marker.decode()
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (52.0, 30.0, 11.25)
    hidden = {
        "jar.jpg": encode(noise(), "jpg", exif=exif, comment=marker) + b"PK\3\4" + marker,
        "php.png": encode(noise(), "png", exif=exif) + b"<?php " + marker + b"?><script>",
        "pic.webp": encode(noise(), "webp", exif=exif.tobytes()) + marker,
        "pic.gif": encode(noise(), "gif", comment=marker) + marker,
        "pic.tif": encode(noise(), "tif", exif=exif) + marker,
    }
    for name, data in hidden.items():
        plain = encode(noise(), {"jpg": "jpg", "png": "png", "webp": "webp", "gif": "gif", "tif": "tif"}[name[4:]])
        assert marker in data
        assert (decode(data, SETTINGS).pixels == decode(plain, SETTINGS).pixels).all(), name
    content: dict[str, bytes | int] = {"a": 3, "b": 3, **{f"a/{name}": data for name, data in hidden.items()}}
    images = read_set(make_zip(content))  # type: ignore[operator]
    assert not images.skipped
    for file in images.folder.rglob("*"):
        assert not file.is_file() or marker not in file.read_bytes()


def test_case_56_texts_and_profiles_that_swell_cost_nothing() -> None:
    data = encode(quadrants(), "png")
    swollen = zlib.compress(b"\0" * 200_000_000, 9)
    for added in (
        chunk(b"zTXt", b"Comment\0\0" + swollen),
        chunk(b"iCCP", b"icc\0\0" + swollen),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + swollen),
        chunk(b"tEXt", b"k\0v") * 200_000,
    ):
        bomb = with_chunks(data, added)
        assert seconds(bomb) < 1
        assert reason(bomb) in (None, "damaged")
    assert reason(with_chunks(data, chunk(b"zTXt", b"Comment\0\0" + swollen))) is None


def test_case_57_a_jpeg_that_wants_thousands_of_passes_is_refused_at_once() -> None:
    data = encode(noise(), "jpg", progressive=True)
    last = data.rindex(b"\xff\xda")
    bomb = data[:-2] + data[last:-2] * 3_000 + data[-2:]
    assert reason(bomb) == "damaged" and seconds(bomb) < 0.05
