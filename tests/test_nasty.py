"""The shared collection of hostile and odd files, all of it, through the real intake as one upload."""

import random
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.children import Watch, decoders
from tests.conftest import shared
from tl_core import wording
from tl_core.data.imageset import ImageSet
from tl_core.data.intake import prepare
from tl_core.data.pixels import PixelStore
from tl_core.data.understand import load
from tl_core.errors import IntakeError
from tl_core.settings import Settings

MOST_SECONDS, MOST_MEMORY = 20, 400_000_000


@dataclass
class Walked:
    """What became of each file, by its path in the collection: pixels, or the reason why not."""

    images: ImageSet
    outcomes: dict[str, np.ndarray | str]
    categories: dict[str, list[str]]
    seconds: float
    memory: int

    def used(self, *words: str) -> dict[str, np.ndarray]:
        """Pictures whose path has one of the words in it."""
        chosen = {name: out for name, out in self.outcomes.items() if any(word in name for word in words)}
        assert chosen and not {n: out for n, out in chosen.items() if isinstance(out, str)}
        return {name: out for name, out in chosen.items() if not isinstance(out, str)}

    def reasons(self, category: str) -> Counter[str]:
        outs = [self.outcomes[name] for name in self.categories[category] if name in self.outcomes]
        return Counter(out if isinstance(out, str) else "used" for out in outs)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walked]:
    """Every file under a plain name in one of two classes, so that no name decides about it."""
    work = tmp_path_factory.mktemp("nasty")
    categories: defaultdict[str, list[str]] = defaultdict(list)
    names: dict[str, str] = {}
    with zipfile.ZipFile(shared("nasty.zip")) as source, zipfile.ZipFile(work / "all.zip", "w") as upload:
        files = {name.split("/", 1)[-1] if name.startswith("nasty/") else name: name for name in source.namelist()}
        for line in source.read(files["PICK.tsv"]).decode().splitlines():
            category, name = line.split("\t")
            categories[category].append(name)
        for number, name in enumerate(sorted({name for some in categories.values() for name in some})):
            names[f"{'ab'[number % 2]}/{number:03}.file"] = name
            upload.writestr(f"{'ab'[number % 2]}/{number:03}.file", source.read(files[name]))
    settings = Settings(data_dir=work / "data", free_disk_reserve=0)
    started = time.monotonic()
    with Watch() as watch:
        list(prepare(work / "all.zip", work / "set", settings))
    seconds = time.monotonic() - started
    images = load(work / "set")
    store = PixelStore(images)
    outcomes: dict[str, np.ndarray | str] = {names[s.name]: s.reason for s in images.skipped}
    outcomes |= {names[picture.name]: store[i] for i, picture in enumerate(images.pictures)}
    assert len(outcomes) == len(images.pictures) + len(images.skipped) == len(names) - images.ignored
    yield Walked(images, outcomes, dict(categories), seconds, watch.highest)


def test_every_file_is_used_or_named_with_a_reason(walked: Walked) -> None:
    assert len(walked.outcomes) == len({n for names in walked.categories.values() for n in names}) >= 230
    assert {out for out in walked.outcomes.values() if isinstance(out, str)} <= set(wording.SKIP_REASONS)
    assert "crashed" not in {out for out in walked.outcomes.values() if isinstance(out, str)}
    assert not decoders()


def test_time_and_memory_stay_bounded(walked: Walked) -> None:
    assert walked.seconds < MOST_SECONDS
    assert 20_000_000 < walked.memory < MOST_MEMORY


@pytest.mark.parametrize("scene", ["Landscape", "Portrait"])
def test_case_51_photos_stored_in_all_eight_ways_are_one_upright_picture(walked: Walked, scene: str) -> None:
    ways = walked.used(f"exif_orientation/{scene}_")
    assert len(ways) == 9
    upright = ways[f"exif_orientation/{scene}_1.jpg"].astype(int)
    assert (upright.shape[1] > upright.shape[0]) == (scene == "Landscape")
    for name, pixels in ways.items():
        assert pixels.shape == upright.shape, name
        assert np.abs(pixels - upright).mean() < 4, name


@pytest.mark.parametrize(
    "category",
    [
        "exif_orientation_1to8",
        "png_16bit",
        "tiff_16_32_float_lab_cmyk",
        "png_palette",
        "png_alpha",
        "animated_gif",
        "animated_webp",
        "apng",
        "multipage_tiff_mpo",
        "avif",
        "heic_no_plugin",
        "chinese_names",
        "icc_profile",
    ],
)
def test_whatever_a_good_viewer_shows_is_used(walked: Walked, category: str) -> None:
    assert set(walked.reasons(category)) == {"used"}


def test_files_broken_only_where_it_does_not_matter_are_used(walked: Walked) -> None:
    """A cut end mark, wrong profiles and texts, an animation that contradicts itself, a palette that is too long."""
    walked.used("truncated_end_chunk", "unknown_compression_method", "chunk_no_fctl")
    walked.used("pal8oversizepal", "png_decompression_dos", "empty_ancillary_chunks")


def test_case_50_the_colours_of_cmyk_photos(walked: Walked) -> None:
    reasons = walked.reasons("jpeg_cmyk")
    assert reasons["used"] == 12 and set(reasons) <= {"used", "damaged", "unsupported_picture"}
    for name, pixels in walked.used("pil_sample_cmyk", "cmyk-sample-no-icc", "jfif-cmyk-invalid").items():
        red, green, blue = pixels.reshape(-1, 3).mean(axis=0)
        if "pil_sample" in name:  # red letters on black
            assert red > 2 * green and pixels.mean() < 60
        elif "no-icc" in name:  # black on white
            assert red > 150 and abs(red - blue) < 3
        else:  # orange on blue
            assert blue > 1.5 * green


def test_case_48_lab_and_deep_pictures_are_neither_black_nor_white(walked: Walked) -> None:
    for name, pixels in walked.used("16bpc", "10ct_32bit", "16bit.cropped", "hopper.Lab", "16_bit_binary").items():
        assert 20 < pixels.mean() < 235 and pixels.std() > 5, name
    for name, pixels in walked.used("lab-red", "lab-green").items():
        assert np.argmax(pixels.reshape(-1, 3).mean(axis=0)) == (0 if "red" in name else 1)


@pytest.mark.parametrize("category", ["truncated_jpeg", "lfs_pointer_jpg", "zip_attacks", "zip_fuzz", "bombs"])
def test_what_is_no_picture_is_named(walked: Walked, category: str) -> None:
    assert "used" not in walked.reasons(category)
    expected = {
        "truncated_jpeg": {"damaged"},
        "lfs_pointer_jpg": {"not_a_picture"},
        "zip_attacks": {"not_a_picture", "nested_archive"},
        "zip_fuzz": {"not_a_picture"},
        "bombs": {"too_many_pixels", "not_a_picture", "damaged"},
    }
    assert set(walked.reasons(category)) <= expected[category]


def test_as_it_is_packed_it_is_a_set_or_a_named_problem(tmp_path: Path, settings: Settings) -> None:
    upload = shared("nasty.zip")
    with zipfile.ZipFile(upload) as archive:
        files = sum(not entry.is_dir() for entry in archive.infolist())
    try:
        list(prepare(upload, tmp_path / "set", settings))
    except IntakeError as error:
        assert not (tmp_path / "set").exists() and str(error)
        return
    images = load(tmp_path / "set")
    assert len(images.pictures) + len(images.skipped) + images.ignored == files
    assert {skipped.reason for skipped in images.skipped} <= set(wording.SKIP_REASONS)


def test_the_order_of_the_files_changes_nothing(walked: Walked, tmp_path: Path, settings: Settings) -> None:
    """Threads and plugins loaded on the way must not decide: another order, the same pictures."""
    with zipfile.ZipFile(shared("nasty.zip")) as source, zipfile.ZipFile(tmp_path / "again.zip", "w") as upload:
        files = {name.removeprefix("nasty/"): name for name in source.namelist()}
        names = sorted(walked.outcomes)
        random.Random(1).shuffle(names)
        shuffled = {f"{'ab'[i % 2]}/{i:03}.file": name for i, name in enumerate(names)}
        for inside, name in shuffled.items():
            upload.writestr(inside, source.read(files[name]))
    list(prepare(tmp_path / "again.zip", tmp_path / "set", settings))
    images = load(tmp_path / "set")
    store = PixelStore(images)
    assert {shuffled[s.name]: s.reason for s in images.skipped} == {
        name: out for name, out in walked.outcomes.items() if isinstance(out, str)
    }
    for i, picture in enumerate(images.pictures):
        assert (store[i] == walked.outcomes[shuffled[picture.name]]).all()
