"""Mutated pictures and mutated archives through the real intake: nothing but named problems may come out.

TL_FUZZ_SECONDS (6) says how long, TL_FUZZ_SEED (0) where to start; a failure names its round, which alone decides what
is tried, so that `TL_FUZZ_ROUND=n` repeats it.
"""

import io
import os
import random
import struct
import tarfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tests.children import Watch, decoders
from tests.conftest import SHARED, encode, picture
from tl_core import wording
from tl_core.data.imageset import PIXELS
from tl_core.data.intake import prepare
from tl_core.data.understand import load
from tl_core.errors import IntakeError
from tl_core.settings import Settings

SECONDS, SEED = float(os.environ.get("TL_FUZZ_SECONDS", "6")), os.environ.get("TL_FUZZ_SEED", "0")
PICTURES_A_ROUND, MOST_MEMORY = 250, 1_000_000_000
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
pillow_heif.register_heif_opener()  # to write them


def seed_pictures() -> list[bytes]:
    """Small pictures of every format and many inner kinds; real ones beside drawn ones where the machine has them."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).resize((96, 80))
    grey16 = Image.fromarray(rng.integers(0, 4096, (40, 48)).astype(np.uint16))
    alpha = rgb.copy()
    alpha.putalpha(rgb.convert("L"))
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {"save_all": True, "append_images": [Image.fromarray(np.asarray(rgb)[::-1])] * 2}
    made = [encode(rgb, "jpg", exif=exif), encode(rgb, "jpg", progressive=True, restart_marker_blocks=2)]
    made += [encode(rgb.convert(mode), "jpg") for mode in ("L", "CMYK")] + [encode(rgb, "mpo", **more)]
    made += [encode(image, "png") for image in (rgb, alpha, alpha.quantize(), alpha.convert("LA"), grey16)]
    made += [encode(rgb, "png", exif=exif, **more), encode(rgb.convert("1"), "png")]
    made += [encode(image, "bmp") for image in (rgb, alpha, rgb.quantize(16), rgb.convert("1"))]
    made += [encode(rgb, "gif", **more), encode(alpha, "gif"), encode(rgb.convert("L"), "gif")]
    made += [
        encode(alpha, "webp", exif=exif.tobytes()),
        encode(alpha, "webp", lossless=True),
        encode(rgb, "webp", **more),
    ]
    packings = ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "zstd")
    made += [encode(rgb, "tif", compression=packing) for packing in packings]
    made += [encode(rgb.convert("1"), "tif", compression=packing) for packing in ("group3", "group4")]
    made += [encode(rgb.convert(mode), "tif") for mode in ("F", "I", "CMYK", "P", "LA")]
    made += [
        encode(grey16, "tif"),
        encode(rgb.copy(), "tif", exif=exif, save_all=True, append_images=[rgb.rotate(90)]),
        encode(rgb.copy(), "tif", big_tiff=True),
    ]
    made += [
        encode(image, ending, **options) for ending in ("avif", "heif") for image, options in ((alpha, {}), (rgb, more))
    ]
    if (SHARED / "nasty.zip").exists():
        with zipfile.ZipFile(SHARED / "nasty.zip") as archive:
            small = [entry for entry in archive.infolist() if 0 < entry.file_size < 12_000]
            made += [archive.read(entry) for entry in small if not entry.filename.endswith((".tsv", ".zip", ".tar"))]
    return made


def flip(data: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
    return bytes(out)


def cut(data: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    return data[: chance.randrange(1, len(data) + 1)]


def splice(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    other = chance.choice(others)
    at, start = chance.randrange(len(data)), chance.randrange(len(other))
    piece = other[start : start + chance.choice((4, 16, 200, 5_000))]
    return data[:at] + piece + data[at + chance.choice((0, len(piece))) :]


def extreme(data: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    """A number somewhere, mostly near the start where headers are, becomes as large or small as it can be."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 3))):
        size = chance.choice((1, 2, 4, 8))
        at = chance.randrange(max(1, min(len(out), chance.choice((64, 400, len(out)))) - size + 1))
        value = chance.choice((*EXTREMES, chance.getrandbits(32))) & (256**size - 1)
        out[at : at + size] = value.to_bytes(size, chance.choice(("little", "big")))
    return bytes(out)


def repeat(data: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    start = chance.randrange(len(data))
    piece = data[start : start + chance.choice((1, 8, 60, 1_000))]
    return data[:start] + piece * chance.choice((2, 20, 500)) + data[start:]


def blank(data: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    at, size = chance.randrange(len(data)), chance.choice((4, 50, 1_000))
    return data[:at] + bytes([chance.choice((0, 0xFF))]) * size + data[at + size :]


Mutation = Callable[[bytes, random.Random, list[bytes]], bytes]
MUTATIONS: tuple[Mutation, ...] = (flip, flip, cut, splice, extreme, extreme, extreme, repeat, blank)


def mutated(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    for _ in range(chance.choice((1, 1, 2, 4))):
        data = chance.choice(MUTATIONS)(data, chance, others) or b"x"
    return with_right_checksums(data) if data.startswith(b"\x89PNG") and chance.random() < 0.8 else data


def with_right_checksums(data: bytes) -> bytes:
    """A PNG whose chunks all pass the first test, so that what is in them is looked at."""
    out, at = data[:8], 8
    while at + 12 <= len(data) and (end := at + 12 + int.from_bytes(data[at : at + 4], "big")) <= len(data):
        out += data[at : end - 4] + struct.pack(">I", zlib.crc32(data[at + 4 : end - 4]))
        at = end
    return out + data[at:]


def seed_archives() -> list[tuple[str, bytes]]:
    """(ending, bytes) of uploads of several kinds, each with two classes."""
    files = {
        f"{label}/{i}.jpg": picture(i, shape=shape) for label, shape in (("a", "star"), ("b", "heart")) for i in (1, 2)
    }
    table = {f"pictures/{n.replace('/', '')}": data for n, data in files.items()}
    table["labels.csv"] = (
        "file,label\n" + "".join(f"{n.split('/')[1]},{n.split('/')[1][0]}\n" for n in table)
    ).encode()
    made = []
    for content in (files, {f"train/{n}": d for n, d in files.items()} | {"test/a/9.jpg": picture(9)}, table):
        for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
            out = io.BytesIO()
            with zipfile.ZipFile(out, "w", packing) as archive:
                archive.comment = b"made by a camera"
                for name, data in content.items():
                    with archive.open(name, "w", force_zip64=packing == zipfile.ZIP_STORED) as entry:
                        entry.write(data)
            made.append(("zip", out.getvalue()))
        for ending, mode in (("tar", "w"), ("tar.gz", "w:gz")):
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode=mode) as tar:
                for name, data in content.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
            made.append((ending, out.getvalue()))
    return made


def mutated_archive(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """Mostly a field of one of a zip's records, chosen at random, becomes something else."""
    records = [at for magic in (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7") for at in _all(data, magic)]
    if not records or chance.random() < 0.3:
        return mutated(data, chance, others)
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 6))):
        size, at = chance.choice((1, 2, 4, 8)), chance.choice(records) + chance.randrange(46)
        value = chance.choice((*EXTREMES, chance.getrandbits(32), len(data), at)) & (256**size - 1)
        out[at : at + size] = value.to_bytes(size, "little")
    return bytes(out)


def _all(data: bytes, magic: bytes) -> Iterator[int]:
    at = data.find(magic)
    while at >= 0:
        yield at
        at = data.find(magic, at + 1)


def rounds() -> Iterator[tuple[int, random.Random]]:
    """Numbered rounds, each with its own chance, until the time is over; at least one."""
    only = os.environ.get("TL_FUZZ_ROUND")
    end, number = time.monotonic() + SECONDS / 2, int(only or 0)
    while True:
        yield number, random.Random(f"{SEED}-{number}")
        number += 1
        if only or time.monotonic() > end:
            return


def judge(upload: Path, folder: Path, settings: Settings, number: int) -> Counter[str]:
    """Outcomes of one upload's files, or of the upload; an AssertionError names the round."""
    beside = {path for path in upload.parent.rglob("*") if folder not in path.parents and path != folder}
    try:
        list(prepare(upload, folder, settings))
    except IntakeError as error:
        assert not folder.exists() and str(error), f"round {number}"
        return Counter([f"refused: {error.code}"])
    except BaseException as error:
        raise AssertionError(f"round {number}: {error!r}") from error
    images = load(folder)
    counts = Counter(skipped.reason for skipped in images.skipped)
    assert set(counts) <= set(wording.SKIP_REASONS), f"round {number}"
    assert len(images.class_names) >= 2 and sum(images.counts()) == len(images.pictures) > 0, f"round {number}"
    size = (folder / PIXELS).stat().st_size
    assert all(p.offset + 3 * p.height * p.width <= size for p in images.pictures), f"round {number}"
    now = {path for path in upload.parent.rglob("*") if folder not in path.parents and path != folder}
    assert now == beside, f"round {number}"
    return counts + Counter(used=len(images.pictures), ignored=images.ignored)


@pytest.fixture
def tight(settings: Settings) -> Settings:
    return replace(settings, decoder_seconds_per_picture=5, max_upload=50_000_000, max_unpacked=200_000_000)


@pytest.mark.timeout(SECONDS + 120)
def test_mutated_pictures_are_used_or_named(tmp_path: Path, tight: Settings) -> None:
    seeds, total, largest = seed_pictures(), Counter[str](), 0
    for number, chance in rounds():
        upload = tmp_path / "upload.zip"
        with zipfile.ZipFile(upload, "w") as archive:
            for i in range(PICTURES_A_ROUND):
                data = mutated(chance.choice(seeds), chance, seeds)
                archive.writestr(f"{'ab'[i % 2]}/{i:04}", data)
            for i in range(4):  # so that there is a set whatever becomes of the others
                archive.writestr(f"{'ab'[i % 2]}/good{i}.jpg", picture(i, shape=("star", "heart")[i % 2]))
        with Watch() as watch:
            counts = judge(upload, tmp_path / "set", tight, number)
        assert sum(counts.values()) == PICTURES_A_ROUND + 4, f"round {number}: {counts}"
        assert not decoders(), f"round {number}"
        total, largest = total + counts, max(largest, watch.highest)
        assert watch.highest < MOST_MEMORY, f"round {number}"
    print(f"mutated pictures: {dict(total)}; a child took {largest / 1e6:.0f} MB at most")  # noqa: T201
    assert total["used"] > 4 and total["damaged"] > 0


@pytest.mark.timeout(SECONDS + 120)
def test_mutated_archives_are_sets_or_named_problems(tmp_path: Path, tight: Settings) -> None:
    seeds, total = seed_archives(), Counter[str]()
    others = [data for _, data in seeds]
    with Watch() as watch:
        for number, chance in rounds():
            ending, data = chance.choice(seeds)
            upload = tmp_path / f"upload.{ending}"
            upload.write_bytes(mutated_archive(data, chance, others))
            total += judge(upload, tmp_path / "set", tight, number)
            assert not decoders(), f"round {number}"
            assert watch.highest < MOST_MEMORY, f"round {number}"
            upload.unlink()
    print(f"mutated archives: {dict(total)}; a child took {watch.highest / 1e6:.0f} MB at most")  # noqa: T201
    assert sum(total.values()) > 5
