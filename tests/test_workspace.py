"""What the page's buttons do, without a browser: uploads become sets, keys open only what is theirs."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Zipper
from tl_core.events import Failed, PicturesReady, Progress
from tl_core.jobs.runs import EventLog, folder_of, new_key
from tl_core.settings import Settings
from tl_ui.workspace import NAME, Workspace, sample_pictures, thumbnail


@pytest.fixture
def work(settings: Settings) -> Workspace:
    return Workspace(settings)


def wait(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def folder(work: Workspace, key: str) -> Path:
    found = folder_of(work.settings.sets_dir, key)
    assert found is not None
    return found


def test_an_upload_becomes_a_set_and_is_not_kept(work: Workspace, make_zip: Zipper) -> None:
    upload = make_zip({"a": 5, "b": 5})
    key = work.take(upload, "my pets.zip")
    assert work.set_name(key) == "my pets.zip"
    wait(lambda: work.images(key))
    wait(lambda: not (folder(work, key) / "upload").exists())
    assert upload.exists()  # what the visitor's other tab may still need
    assert isinstance(EventLog(folder(work, key)).new()[-1], PicturesReady)
    assert not work.reading_lost(key)


def test_case_95_two_uploads_of_the_same_file_are_two_sets(work: Workspace, make_zip: Zipper) -> None:
    upload = make_zip({"a": 5, "b": 5})
    one, two = work.take(upload, "x.zip"), work.take(upload, "x.zip")
    wait(lambda: work.images(one) and work.images(two))
    shutil.rmtree(folder(work, one))
    assert work.images(one) is None and work.images(two) is not None


def test_a_refused_upload_leaves_its_sentence_only(work: Workspace, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"no zip")
    key = work.take(tmp_path / "x.zip", "holiday.zip")
    wait(lambda: EventLog(folder(work, key)).new())
    last = EventLog(folder(work, key)).new()[-1]
    assert isinstance(last, Failed) and "“holiday.zip” is not a zip file" in last.text
    wait(lambda: {file.name for file in folder(work, key).iterdir()} == {NAME, "events.jsonl"})


def test_cancelling_removes_everything(work: Workspace, make_zip: Zipper) -> None:
    key = work.take(make_zip({"a": 400, "b": 400}), "x.zip")
    work.cancel_reading(key)
    wait(lambda: work.set_name(key) is None)
    assert list(work.settings.sets_dir.iterdir()) == []


def test_a_reading_cut_off_by_a_restart_is_noticed(settings: Settings) -> None:
    key = new_key()
    work = Workspace(settings)  # as after the restart
    folder(work, key).mkdir(parents=True)
    (folder(work, key) / NAME).write_text("x.zip")
    assert work.reading_lost(key)
    EventLog(folder(work, key)).append(Progress("reading", 3, 9, 1.0))
    assert work.reading_lost(key)


def test_case_90_another_key_opens_nothing(work: Workspace, make_zip: Zipper) -> None:
    key = work.take(make_zip({"a": 5, "b": 5}), "x.zip")
    wait(lambda: work.images(key))
    for other in (new_key(), folder(work, key).name, "", "../" + folder(work, key).name):
        assert work.images(other) is None and work.set_log(other) is None
        assert work.start(other, "auto") is None
    assert work.report(key) is None and work.run(key) is None  # a set's key is no run's key


def test_samples_show_every_class_small(work: Workspace, make_zip: Zipper) -> None:
    key = work.take(make_zip({f"class {i}": 3 for i in range(5)}), "x.zip")
    wait(lambda: work.images(key))
    images = work.images(key)
    assert images is not None
    samples = sample_pictures(images)
    assert {name for _, name in samples} == set(images.class_names)
    assert all(max(pixels.shape) <= 160 for pixels, _ in samples)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 900, 3), (500, 333, 3), (161, 160, 3)])
def test_any_shape_has_a_thumbnail(shape: tuple[int, int, int]) -> None:
    small = thumbnail(np.full(shape, 77, dtype=np.uint8))
    assert small.size and max(small.shape[:2]) <= 160 and (small == 77).all()
