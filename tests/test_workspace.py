"""What the page's buttons do, without a browser: uploads become sets, keys open only what is theirs."""

import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.children import children_running, decoders
from tests.conftest import Zipper, picture
from tests.pace import in_time, until
from tests.test_archives import full_overlap
from tl_core.data.closer_look import CloserLook
from tl_core.data.edits import Drop, LeaveOut, Rename
from tl_core.errors import OneClassError
from tl_core.events import Event, Failed, PicturesReady, Progress
from tl_core.jobs.belongings import OWNER
from tl_core.jobs.runs import CLAIMED, EventLog, folder_of, new_key
from tl_core.settings import Settings
from tl_core.training.plan import Wishes
from tl_ui.sets import NAME
from tl_ui.thumbnails import strip, thumbnail
from tl_ui.workspace import Workspace


@pytest.fixture
def work(settings: Settings) -> Iterator[Workspace]:
    made = Workspace(settings)
    yield made
    until(lambda: not made.sets.busy)
    made.sets.close()


def take(work: Workspace, file: Path, name: str) -> str:
    return work.sets.take([(name, file)], name)


def folder(work: Workspace, key: str) -> Path:
    found = folder_of(work.settings.sets_dir, key)
    assert found is not None
    return found


def test_an_upload_becomes_a_set_and_is_not_kept(work: Workspace, make_zip: Zipper) -> None:
    upload = make_zip({"a": 5, "b": 5})
    key = take(work, upload, "my pets.zip")
    assert work.sets.name(key) == "my pets.zip"
    until(lambda: work.sets.images(key))
    until(lambda: not (folder(work, key) / "uploads").exists())
    assert upload.exists()  # what the visitor's other tab may still need
    assert isinstance(EventLog(folder(work, key)).new()[-1], PicturesReady)
    assert not work.sets.lost(key)


def test_case_95_two_uploads_of_the_same_file_are_two_sets(work: Workspace, make_zip: Zipper) -> None:
    upload = make_zip({"a": 5, "b": 5})
    one, two = take(work, upload, "x.zip"), take(work, upload, "x.zip")
    until(lambda: work.sets.images(one) and work.sets.images(two))
    shutil.rmtree(folder(work, one))
    assert work.sets.images(one) is None and work.sets.images(two) is not None


def test_a_refused_upload_leaves_its_sentence_only(work: Workspace, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"no zip")
    key = take(work, tmp_path / "x.zip", "holiday.zip")
    until(lambda: EventLog(folder(work, key)).new())
    last = EventLog(folder(work, key)).new()[-1]
    assert isinstance(last, Failed) and "“holiday.zip” is not a zip file" in last.text
    until(lambda: {file.name for file in folder(work, key).iterdir()} == {NAME, OWNER, CLAIMED, "events.jsonl"})


def test_cancelling_removes_everything(work: Workspace, make_zip: Zipper) -> None:
    key = take(work, make_zip({"a": 400, "b": 400}), "x.zip")
    work.sets.cancel(key)
    until(lambda: work.sets.name(key) is None)
    assert list(work.settings.sets_dir.iterdir()) == []


def test_a_reading_cut_off_by_a_restart_is_noticed(settings: Settings) -> None:
    key = new_key()
    work = Workspace(settings)  # as after the restart
    folder(work, key).mkdir(parents=True)
    (folder(work, key) / NAME).write_text("x.zip")
    assert work.sets.lost(key)
    EventLog(folder(work, key)).append(Progress("reading", 3, 9, 1.0))
    assert work.sets.lost(key)


def test_case_37_what_a_killed_program_has_half_read_is_never_a_set_and_goes(settings: Settings) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tl_core.settings import Settings;"
        "from tl_ui.workspace import Workspace;"
        "sets = Workspace(Settings(data_dir=Path(sys.argv[1]), free_disk_reserve=0)).sets;"
        "print(sets.take([('x.zip', Path(sys.argv[2]))], 'x.zip'), flush=True); time.sleep(60)"
    )
    upload = settings.data_dir.parent / "x.zip"
    with zipfile.ZipFile(upload, "w") as archive:
        for i in range(1500):
            archive.writestr(f"{'ab'[i % 2]}/{i}.jpg", picture(i % 50, shape=("star", "circle")[i % 2]))
    for moment in (0.02, 0.15, 0.3, 0.6):
        command = [sys.executable, "-c", code, str(settings.data_dir), str(upload)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
        assert process.stdout is not None
        key = process.stdout.readline().strip()
        time.sleep(moment)
        process.kill()
        process.communicate()
        again = Workspace(settings)  # as after the restart
        again.sets.tidy()
        reading, where = again.sets.reading(key), folder(again, key)
        if reading is None:
            assert again.sets.lost(key) and not (where / "set").exists()
        assert not (where / "uploads").exists()


def test_case_39_bombs_uploaded_at_once_leave_room_for_others(
    work: Workspace, make_zip: Zipper, tmp_path: Path
) -> None:
    bomb = tmp_path / "bomb.zip"
    bomb.write_bytes(full_overlap())
    bad = [take(work, bomb, f"{i}.zip") for i in range(20)]
    started = time.monotonic()
    good = take(work, make_zip({"a": 5, "b": 5}), "good.zip")
    most = 0
    while work.sets.images(good) is None:
        most = max(most, len(decoders()))
        assert time.monotonic() - started < 20
        time.sleep(0.01)
    assert most <= 2
    until(lambda: all(EventLog(folder(work, key)).new() for key in bad))
    assert all(isinstance(EventLog(folder(work, key)).new()[-1], Failed) for key in bad)


def test_case_90_another_key_opens_nothing(work: Workspace, make_zip: Zipper) -> None:
    key = take(work, make_zip({"a": 5, "b": 5}), "x.zip")
    until(lambda: work.sets.images(key))
    for other in (new_key(), folder(work, key).name, "", "../" + folder(work, key).name):
        assert work.sets.images(other) is None and work.sets.log(other) is None
        assert work.start(other, "auto") is None
    assert work.report(key) is None and work.run(key) is None  # a set's key is no run's key


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 900, 3), (500, 333, 3), (161, 160, 3)])
def test_any_shape_has_a_thumbnail(shape: tuple[int, int, int]) -> None:
    small = thumbnail(np.full(shape, 77, dtype=np.uint8))
    assert small.size and max(small.shape[:2]) <= 160 and (small == 77).all()
    assert strip([small, small], 20).startswith("data:image/jpeg;base64,")


def test_changes_are_kept_undone_and_belong_to_the_run_that_was_started_with_them(
    work: Workspace, make_zip: Zipper
) -> None:
    key = take(work, make_zip({"a": 6, "b": 6, "c": 6}), "x.zip")
    until(lambda: work.sets.images(key))
    work.sets.change(key, (LeaveOut("c"), Rename("a", "stars"), Drop((0,))))
    again = Workspace(work.settings)  # as after a restart
    images = again.sets.images(key)
    assert images is not None and images.class_names == ("b", "stars") and len(images.pictures) == 11
    run = again.start(key, Wishes())
    assert run is not None
    again.sets.change(key, ())
    back, of_run = again.sets.images(key), again.images_of(run)
    assert back is not None and back.counts() == (6, 6, 6)
    assert of_run is not None and of_run.class_names == ("b", "stars")
    work.sets.change(key, (LeaveOut("c"), LeaveOut("b")))
    with pytest.raises(OneClassError):
        work.start(key, Wishes())


def test_many_archives_and_loose_files_are_one_set(work: Workspace, make_zip: Zipper, tmp_path: Path) -> None:
    ants, bees = make_zip({"x": 4}, "ants.zip"), make_zip({"_": 0, "y": 4}, "bees.zip")
    key = work.sets.take([("ants.zip", ants), ("bees.zip", bees)], "both")
    until(lambda: work.sets.images(key))
    images = work.sets.images(key)
    assert images is not None and images.counts() == (4, 4)
    table = tmp_path / "labels.csv"
    table.write_text("file,label\n" + "".join(f"{i}.jpg,{'odd' if i % 2 else 'even'}\n" for i in range(8)))
    loose = []
    for i in range(8):
        loose.append((f"{i}.jpg", tmp_path / f"{i}.jpg"))
        loose[-1][1].write_bytes(picture(i))
    key = work.sets.take([*loose, ("labels.csv", table)], "loose files")
    until(lambda: work.sets.images(key))
    images = work.sets.images(key)
    assert images is not None and images.class_names == ("even", "odd")


@pytest.mark.slow
def test_the_closer_look_comes_by_itself(work: Workspace, make_zip: Zipper) -> None:
    same = picture(99)
    key = take(work, make_zip({"a": 6, "b": 6, "a/s.jpg": same, "b/s.jpg": same}), "x.zip")
    until(lambda: work.sets.images(key))
    reading = work.sets.reading(key)
    assert reading is not None
    until(lambda: CloserLook.load(reading.folder), 60)
    until(lambda: not work.sets.looking(key))
    images = work.sets.images(key)
    assert images is not None
    assert "copies_across_classes" in {f.code for f in work.sets.findings(key, images)}


@pytest.mark.slow
def test_many_sets_are_looked_at_closely_one_after_the_other(work: Workspace, make_zip: Zipper) -> None:
    keys = [take(work, make_zip({"a": 4, "b": 4}), f"{i}.zip") for i in range(4)]
    most = 0
    while any(work.sets.images(key) is None or work.sets.looking(key) for key in keys):
        most = max(most, len(children_running("tl_core.review")))
        time.sleep(0.02)
    assert most == 1
    assert all(CloserLook.load(folder(work, key) / "set") for key in keys)


def test_who_waits_for_a_turn_can_cancel_and_slow_fetches_hold_up_no_upload(work: Workspace, make_zip: Zipper) -> None:
    over = threading.Event()

    def slow(into: Path, should_stop: Callable[[], bool]) -> Iterator[Event]:
        over.wait(60)
        yield Progress("fetching", 0, 1)

    fetches = [work.sets.fetch("user/name", slow) for _ in range(3)]
    good = take(work, make_zip({"a": 4, "b": 4}), "x.zip")
    until(lambda: work.sets.images(good))
    work.sets.cancel(fetches[2])
    started = time.monotonic()
    until(lambda: work.sets.name(fetches[2]) is None)
    assert in_time(time.monotonic() - started, 1)
    for key in fetches[:2]:
        work.sets.cancel(key)
    over.set()
    until(lambda: all(work.sets.name(key) is None for key in fetches))


def test_an_archive_is_known_by_its_bytes_and_one_inside_a_folder_is_skipped(
    work: Workspace, make_zip: Zipper, tmp_path: Path
) -> None:
    upload = make_zip({"a": 4, "b": 4})
    key = take(work, upload, "download")
    until(lambda: work.sets.images(key))
    files = [(f"pets/{label}/{i}.jpg", tmp_path / f"{label}{i}.jpg") for label in "ab" for i in range(3)]
    for i, (_, file) in enumerate(files):
        file.write_bytes(picture(i))
    key = work.sets.take([*files, ("pets/backup.zip", upload)], "pets")
    until(lambda: work.sets.images(key))
    images = work.sets.images(key)
    assert images is not None and images.counts() == (3, 3)
    assert [s.reason for s in images.skipped] == ["nested_archive"]


def test_the_list_of_what_is_not_used_is_safe_for_spreadsheets(work: Workspace, make_zip: Zipper) -> None:
    key = take(work, make_zip({"a": 4, "b": 4, "a/=cmd()": b"no picture"}), "x.zip")
    until(lambda: work.sets.images(key))
    images = work.sets.images(key)
    assert images is not None
    path = work.sets.skipped_file(key, images, "en")
    assert path is not None
    lines = Path(path).read_text("utf-8-sig").splitlines()
    assert lines[0] == '"File","Why it is not used"' and len(lines) == 2 and "not a picture" in lines[1]
