"""Uploads as people make them, and as people with bad luck or bad intentions make them."""

import os
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.children import decoders
from tests.conftest import Zipper, encode, picture, shared
from tests.pace import in_time
from tl_core import errors
from tl_core.data import intake
from tl_core.data.edits import LeaveOut
from tl_core.data.imageset import ImageSet
from tl_core.data.intake import decode_files, prepare
from tl_core.data.pixels import PixelStore
from tl_core.data.understand import load, trouble
from tl_core.events import PicturesReady, Progress
from tl_core.settings import Settings


def refused(upload: Path, folder: Path, settings: Settings) -> str:
    """The sentence an upload is refused with; nothing may stay behind."""
    with pytest.raises(errors.IntakeError) as caught:
        list(prepare(upload, folder, settings))
    assert not folder.exists()
    return str(caught.value)


def test_a_zip_of_folders_becomes_a_set(make_zip: Zipper, read_set: Callable[[Path], ImageSet]) -> None:
    upload = make_zip(
        {
            "pets/class 10": 3,
            "pets/class 2": 4,
            "pets/class 2/upper.JPG": picture(50),
            "pets/class 2/really-a-png.jpg": picture(51, ending="png"),
            "pets/class 2/no-ending": picture(52),
            "pets/class 2/notes.txt": b"not a picture",
            "pets/class 10/empty.jpg": b"",
            "pets/class 10/half.jpg": picture(53)[:900],
            "pets/loose.jpg": picture(54),
            "pets/class 10/inner.zip": b"PK\x03\x04",
            "__MACOSX/pets/class 2/._1.jpg": b"junk",
            "pets/class 2/.DS_Store": b"junk",
            "pets/class 2/Thumbs.db": b"junk",
        }
    )
    images = read_set(upload)
    assert images.class_names == ("class 2", "class 10")
    assert images.counts() == (7, 3)
    assert {Path(s.name).name: s.reason for s in images.skipped} == {
        "notes.txt": "not_a_picture",
        "empty.jpg": "empty_file",
        "half.jpg": "damaged",
        "loose.jpg": "no_class_folder",
        "inner.zip": "nested_archive",
    }
    assert images.ignored == 3
    assert PixelStore(images)[0].dtype == np.uint8


def test_real_official_splits_are_kept(read_set: Callable[[Path], ImageSet]) -> None:
    images = read_set(shared("hymenoptera.zip"))
    assert images.class_names == ("ants", "bees")
    assert images.part_counts() == {"train": 244, "val": 153}
    assert not images.skipped


def test_a_folder_reads_like_its_zip(make_zip: Zipper, read_set: Any, tmp_path: Path) -> None:
    upload = make_zip({"a": 3, "b": 3})
    with zipfile.ZipFile(upload) as archive:
        archive.extractall(tmp_path / "folder")
    (tmp_path / "folder" / "a" / "link.jpg").symlink_to("/etc/passwd")
    zipped, plain = read_set(upload, "one"), read_set(tmp_path / "folder", "two")
    assert [p.name for p in zipped.pictures] == [p.name for p in plain.pictures]
    assert all((PixelStore(zipped)[i] == PixelStore(plain)[i]).all() for i in range(6))
    assert [s.reason for s in plain.skipped] == ["link"]


def test_one_class_is_named(make_zip: Zipper, tmp_path: Path, settings: Settings) -> None:
    assert refused(make_zip({"pets/cats": 5}), tmp_path / "set", settings) == (
        "Found one class only: “cats”. At least two are needed, so that there is something to tell apart. "
        "Add a folder with pictures of something else and zip both."
    )


@pytest.mark.parametrize(
    ("dogs", "sentence"),
    [
        ({"dogs": 1}, "Class “dogs” has 1 usable picture"),
        ({f"dogs/{i}.jpg": picture(1) for i in range(3)}, "Class “dogs” has 1 usable picture"),
        ({"dogs/1.jpg": picture(1)[:700], "dogs/2.jpg": b"\xff\xd8\xff\0"}, "Class “dogs” has 0 usable pictures"),
    ],
    ids=["one", "case_60_copies_of_one", "case_59_all_broken"],
)
def test_a_class_that_cannot_be_trained_on_is_named_and_can_be_left_out(
    make_zip: Zipper, read_set: Any, settings: Settings, dogs: dict[str, bytes | int], sentence: str
) -> None:
    images = read_set(make_zip({"cats": 5, **dogs, "birds": 5}))
    problem = trouble(images, settings)
    assert problem is not None and sentence in str(problem)
    left = load(images.folder, (LeaveOut("dogs"),))
    assert trouble(left, settings) is None and left.class_names == ("birds", "cats")


def test_only_unreadable_pictures(make_zip: Zipper, tmp_path: Path, settings: Settings) -> None:
    upload = make_zip({"a/1.jpg": picture(1)[:700], "b/2.jpg": picture(2)[:700]})
    assert "None of the 2 pictures" in refused(upload, tmp_path / "set", settings)


def test_only_empty_pictures(make_zip: Zipper, tmp_path: Path, settings: Settings) -> None:
    assert "holds no pictures" in refused(make_zip({"a/1.jpg": b"", "b/2.jpg": b""}), tmp_path / "set", settings)


def test_more_pictures_than_allowed_are_refused_with_both_numbers(
    make_zip: Zipper, tmp_path: Path, settings: Settings
) -> None:
    sentence = refused(make_zip({"a": 5, "b": 5}), tmp_path / "set", replace(settings, max_pictures=9))
    assert sentence == "Found 10 pictures in “pictures.zip”; at most 9 can be used here. Make a smaller zip."


def test_case_41_a_decompression_bomb_is_skipped_by_its_header(make_zip: Zipper, read_set: Any) -> None:
    from PIL import Image

    bomb = encode(Image.new("1", (13_000, 13_000)), "png")
    assert len(bomb) < 100_000
    images = read_set(make_zip({"a": 3, "b": 3, "a/bomb.png": bomb}))
    assert [s.reason for s in images.skipped] == ["too_many_pixels"]


def test_case_44_a_killed_child_costs_nothing_that_was_read(
    make_zip: Zipper, tmp_path: Path, settings: Settings
) -> None:
    upload = make_zip({"a": 150, "b": 150})
    killed = False
    for event in prepare(upload, tmp_path / "set", settings):
        if isinstance(event, Progress) and not killed and event.done < event.total:
            found = subprocess.run(
                ["pgrep", "-P", str(os.getpid()), "-f", "decoder_process"], capture_output=True, text=True
            )
            for pid in found.stdout.split():
                os.kill(int(pid), signal.SIGKILL)
                killed = True
    assert killed
    images = load(tmp_path / "set")
    assert len(images.pictures) + len(images.skipped) == 300
    assert len(images.skipped) <= 1
    # the pixels after the break are those of the right pictures
    with zipfile.ZipFile(upload) as archive:
        (tmp_path / "last.jpg").write_bytes(archive.read(images.pictures[-1].name))
    assert (decode_files([tmp_path / "last.jpg"], settings)[0] == PixelStore(images)[len(images.pictures) - 1]).all()


def test_case_44_a_picture_that_kills_every_child_is_named_and_left_out(
    make_zip: Zipper, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = intake._child_lines

    def dies_at_two(job: dict[str, Any], *rest: Any) -> Any:
        for line in real(job, *rest):
            if line.get("n") == 2 and 2 not in job["blamed"]:
                return
            yield line

    monkeypatch.setattr(intake, "_child_lines", dies_at_two)
    list(prepare(make_zip({"a": 4, "b": 4}), tmp_path / "set", settings))
    images = load(tmp_path / "set")
    assert [(Path(s.name).name, s.reason) for s in images.skipped] == [("002.jpg", "crashed")]
    assert len(images.pictures) == 7


def test_stopping_leaves_nothing(make_zip: Zipper, tmp_path: Path, settings: Settings) -> None:
    events = list(prepare(make_zip({"a": 50, "b": 50}), tmp_path / "set", settings, should_stop=lambda: True))
    assert not any(isinstance(event, PicturesReady) for event in events)
    assert not (tmp_path / "set").exists()


def test_a_full_disk_is_said_before_anything_is_written(make_zip: Zipper, tmp_path: Path, settings: Settings) -> None:
    full = replace(settings, free_disk_reserve=10**18)
    assert "The disk of this machine is full" in refused(make_zip({"a": 2, "b": 2}), tmp_path / "set", full)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 30 MB of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a disk of its own can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_case_38_a_disk_that_fills_up_is_named_left_clean_and_good_for_a_small_upload(
    make_zip: Zipper, small_disk: Path, settings: Settings
) -> None:
    content: dict[str, bytes | int] = {
        f"{'ab'[i % 2]}/{i}.jpg": picture(i, size=(400, 400), shape=("star", "circle")[i % 2]) for i in range(120)
    }
    assert "The disk of this machine is full" in refused(make_zip(content), small_disk / "set", settings)
    assert list(small_disk.iterdir()) == [] and shutil.disk_usage(small_disk).used < 1_000_000
    list(prepare(make_zip({"a": 3, "b": 3}, "few.zip"), small_disk / "set", settings))
    assert len(load(small_disk / "set").pictures) == 6


def test_cases_40_and_43_reading_has_a_limit_of_time(make_zip: Zipper, tmp_path: Path, settings: Settings) -> None:
    from PIL import Image

    large = encode(Image.new("1", (6_200, 6_200)), "png")  # 38 million pixels in 5 KB
    upload = make_zip({f"{'ab'[i % 2]}/{i}.png": large + bytes(i) for i in range(200)})
    assert upload.stat().st_size < 20_000_000
    started = time.monotonic()
    sentence = refused(upload, tmp_path / "set", replace(settings, max_reading_seconds=2))
    assert "took longer than is allowed here" in sentence and "of 200 pictures" in sentence
    assert time.monotonic() - started < 12 and not decoders()


def test_case_57_a_child_that_hangs_is_replaced(make_zip: Zipper, tmp_path: Path, settings: Settings) -> None:
    stopped: list[int] = []
    for event in prepare(
        make_zip({"a": 60, "b": 60}), tmp_path / "set", replace(settings, decoder_seconds_per_picture=2)
    ):
        if isinstance(event, Progress) and event.done < event.total and not stopped:
            stopped = decoders()
            for child in stopped:
                os.kill(child, signal.SIGSTOP)
    assert stopped and not decoders()
    images = load(tmp_path / "set")
    assert len(images.pictures) + len(images.skipped) == 120 and len(images.skipped) <= 1


def test_a_reading_is_cancelled_within_a_second(make_zip: Zipper, tmp_path: Path, settings: Settings) -> None:
    asked: list[float] = []
    for event in prepare(make_zip({"a": 400, "b": 400}), tmp_path / "set", settings, should_stop=lambda: bool(asked)):
        assert not isinstance(event, PicturesReady)
        if isinstance(event, Progress) and event.done and not asked:
            asked.append(time.monotonic())
    assert asked and in_time(time.monotonic() - asked[0], 1)
    assert not (tmp_path / "set").exists() and not decoders()


def test_loose_files_are_decoded_in_order_with_reasons(tmp_path: Path, settings: Settings) -> None:
    contents = [picture(1), b"", b"text", picture(2)[:800], picture(3, ending="png")]
    files = []
    for number, content in enumerate(contents):
        files.append(tmp_path / f"file {number}")
        files[-1].write_bytes(content)
    results = decode_files(files, settings)
    assert [r if isinstance(r, str) else "ok" for r in results] == [
        "ok",
        "empty_file",
        "not_a_picture",
        "damaged",
        "ok",
    ]
    assert not list((settings.data_dir / "scratch").glob("*"))


def test_hostile_files_of_the_shared_collection_never_break_the_reading(tmp_path: Path, settings: Settings) -> None:
    with zipfile.ZipFile(shared("nasty.zip")) as archive:
        archive.extractall(tmp_path / "nasty")
    files = sorted(path for path in (tmp_path / "nasty").rglob("*") if path.is_file())
    results = decode_files(files, settings)
    assert len(results) == len(files)
    read = [r for r in results if not isinstance(r, str)]
    assert len(read) > 50 and all(r.ndim == 3 and r.shape[2] == 3 for r in read)
    assert not any(isinstance(r, str) and r == "crashed" for r in results)


def test_an_out_folder_with_other_things_in_it_is_left_alone(
    make_zip: Zipper, tmp_path: Path, settings: Settings
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(errors.OptionError, match="with other files in it"):
        list(prepare(make_zip({"a": 3, "b": 3}), mine, settings))
    assert (mine / "thesis.txt").read_text() == "years of work"


def test_the_pictures_themselves_are_never_the_out_folder(
    make_zip: Zipper, read_set: Any, tmp_path: Path, settings: Settings
) -> None:
    with zipfile.ZipFile(make_zip({"a": 3, "b": 3})) as archive:
        archive.extractall(tmp_path / "pictures")
    for folder in (tmp_path / "pictures", tmp_path / "pictures" / "set", tmp_path):
        with pytest.raises(errors.OptionError):
            list(prepare(tmp_path / "pictures", folder, settings))
    assert len(list((tmp_path / "pictures").rglob("*.jpg"))) == 6


def test_case_44_a_child_out_of_memory_costs_no_picture_that_fits_alone(
    make_zip: Zipper, tmp_path: Path, settings: Settings
) -> None:
    from PIL import Image

    # Each takes about 0.3 GB to decode: alone in 0.9 GB of address space it fits, several at a time do not.
    big = encode(Image.new("RGBA", (5_600, 5_600), (200, 30, 30, 128)), "png")
    content: dict[str, bytes | int] = {"a": 4, "b": 4, "a/big1.png": big, "b/small.png": picture(70, ending="png")}
    tight = replace(settings, decoder_memory=900_000_000)
    list(prepare(make_zip(content), tmp_path / "set", tight))
    images = load(tmp_path / "set")
    assert len(images.pictures) + len(images.skipped) == 10
    assert all(s.reason == "crashed" for s in images.skipped)  # never "damaged": nothing is wrong with them
    assert len(images.pictures) >= 9


def test_only_loose_pictures_are_told_about_folders(make_zip: Zipper, tmp_path: Path, settings: Settings) -> None:
    upload = make_zip({"1.jpg": picture(1), "2.jpg": picture(2)})
    assert "Found 2 pictures in “pictures.zip”, but none in the folder of a class" in refused(
        upload, tmp_path / "set", settings
    )


def test_a_disk_that_fills_up_while_reading_is_called_full(
    make_zip: Zipper, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The child may write half of the reserve less than what is free: leave it 1 MB.
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr("tl_core.data.intake.shutil.disk_usage", lambda path: SimpleNamespace(free=10**18))
    nearly_full = replace(settings, free_disk_reserve=2 * free)
    assert "The disk of this machine is full" in refused(make_zip({"a": 30, "b": 30}), tmp_path / "set", nearly_full)


def test_notes_between_the_pictures_do_not_count_as_pictures(
    make_zip: Zipper, tmp_path: Path, settings: Settings
) -> None:
    notes: dict[str, bytes | int] = {f"a/{i}.xml": b"<x/>" for i in range(20)}
    upload = make_zip({"a": 5, "b": 5, **notes})
    list(prepare(upload, tmp_path / "set", replace(settings, max_pictures=10)))
    assert len(load(tmp_path / "set").pictures) == 10
