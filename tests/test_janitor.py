"""What goes by itself and what never does; what one person has, and all of it deleted at once."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import Zipper, full_disk
from tests.pace import until
from tl_core.data.imageset import ImageSet
from tl_core.jobs.belongings import sign
from tl_core.jobs.janitor import DOWNLOADS, bytes_of, delete_run, sweep, sweep_uploads
from tl_core.jobs.recovery import agree, job_of
from tl_core.jobs.runs import REMOVED, STOP, WORKERS, Request, RunFolder, hashed, held, new_key
from tl_core.jobs.store import FILE, Store
from tl_core.jobs.worker import take
from tl_core.queue_errors import OwnerFullError, QueueUnreachableError
from tl_core.settings import Settings
from tl_core.training.plan import Plan, Wishes
from tl_ui.workspace import Workspace

PLAN = Plan(Wishes(), "built_in", "auto", 1.0)
ANN, BOB = (hashed(new_key()) or "", hashed(new_key()) or "")


@pytest.fixture
def work(settings: Settings) -> Iterator[Workspace]:
    made = Workspace(settings)
    yield made
    until(lambda: not made.sets.busy)
    made.sets.close()


def aged(path: Path, hours: float) -> Path:
    moment = time.time() - hours * 3600
    os.utime(path, (moment, moment))
    return path


def file(path: Path, size: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def run_of(store: Store, settings: Settings, folder: Path, owner: str = "") -> RunFolder:
    run = RunFolder.create(settings, new_key(), Request(str(folder), PLAN, owner=owner))
    job = job_of(run)
    assert job is not None
    store.restore(job)
    return run


def test_case_129_what_is_old_goes_and_what_is_needed_stays(settings: Settings) -> None:
    store, old = Store(settings), settings.keep_hours + 1
    sets = [settings.sets_dir / name for name in ("old", "young", "waiting", "trained")]
    for folder in sets:
        file(folder / "set" / "pixels.u8")
    waiting = run_of(store, settings, sets[2] / "set", ANN)
    trained = run_of(store, settings, sets[3] / "set", BOB)
    assert store.take("w", only=trained.path.name) is not None
    over, new = run_of(store, settings, sets[0] / "set"), run_of(store, settings, sets[1] / "set")
    for run in (over, new):
        store.withdraw(run.path.name)
    downloads = [
        file(settings.web_dir / DOWNLOADS / run.path.name / "r" / "model.zip").parents[1] for run in (over, new)
    ]
    hearts = [file(settings.data_dir / WORKERS / name) for name in ("killed", "alive")]
    for path in (sets[0], *sets[2:], waiting.path, trained.path, over.path, hearts[0]):
        aged(path, old)
    assert sweep(settings, store) == 2
    assert [folder.exists() for folder in sets] == [False, True, True, True]
    assert [heart.exists() for heart in hearts] == [False, True]
    assert [run.path.exists() for run in (waiting, trained, over, new)] == [True, True, False, True]
    assert [folder.exists() for folder in downloads] == [False, True]
    assert store.find(over.path.name) is None and store.find(new.path.name) is not None


def test_on_a_full_disk_deleting_makes_room_though_the_queue_cannot_be_told(settings: Settings) -> None:
    store = Store(settings)
    run, over = run_of(store, settings, settings.sets_dir / "x"), run_of(store, settings, settings.sets_dir / "y")
    store.withdraw(over.path.name)
    aged(over.path, settings.keep_hours + 1)
    with full_disk():
        assert delete_run(settings, store, run) and not run.path.exists()
        assert sweep(settings, store) == 1 and not over.path.exists()
    assert take(run, settings) == "over"
    agree(store, settings)
    assert store.all() == []


def test_what_cannot_be_deleted_keeps_nothing_else_from_going(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tl_core.jobs.store._BUSY_SECONDS", 0.1)
    store = Store(settings)
    stuck, removed = (run_of(store, settings, settings.sets_dir / "x") for _ in range(2))
    (stuck.path / STOP).symlink_to(STOP)  # the system refuses to touch it
    for run in (stuck, removed):
        (run.path / REMOVED).touch()
    old = aged(file(settings.sets_dir / "x" / "name.txt").parent, settings.keep_hours + 1)
    for run in (stuck, removed):
        store.withdraw(run.path.name)
    assert sweep(settings, store) == 2
    assert [path.exists() for path in (stuck.path, removed.path, old)] == [True, False, False]

    upload = aged(file(settings.web_dir / "a" / "pets.zip").parent, 3)
    store.close()
    with contextlib.closing(sqlite3.connect(settings.data_dir / FILE)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(QueueUnreachableError):
            sweep(settings, store)
    assert not upload.exists()


@pytest.mark.parametrize("hours", [2.0, -2.0])
def test_case_128_a_clock_that_jumps_deletes_nothing(
    settings: Settings, hours: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(settings)
    kept = file(settings.sets_dir / "x" / "name.txt").parent
    upload = file(settings.web_dir / ("a" * 64) / "pets.zip").parent
    run = run_of(store, settings, kept / "set")
    store.withdraw(run.path.name)
    now = time.time
    monkeypatch.setattr("time.time", lambda: now() + hours * 3600 - 60)
    assert sweep(settings, store) == 0 and kept.exists() and run.path.exists() and upload.exists()


def test_case_104_what_uploads_leave_behind_goes_and_what_goes_on_stays(settings: Settings) -> None:
    web = settings.web_dir
    broken, going_on = aged(file(web / "tmpabc"), 0.2), file(web / "tmpxyz")
    done, fresh = aged(file(web / ("a" * 64) / "pets.zip").parent, 3), file(web / ("b" * 64) / "pets.zip").parent
    download = aged(file(web / DOWNLOADS / "id" / "k" / "model.zip").parents[2], 3)
    elsewhere = file(settings.data_dir / "elsewhere" / "kept.txt")
    link = web / "link"
    link.symlink_to(elsewhere.parent)
    os.utime(link, (0, 0), follow_symlinks=False)
    sweep_uploads(settings)
    assert not broken.exists() and not done.exists()
    assert going_on.exists() and fresh.exists() and download.exists() and elsewhere.exists()


def test_the_queue_is_made_to_agree_with_the_folders(settings: Settings, tmp_path: Path) -> None:
    store = Store(settings)
    known, gone = run_of(store, settings, tmp_path, ANN), run_of(store, settings, tmp_path, ANN)
    unknown = RunFolder.create(settings, new_key(), Request("x", PLAN, owner=BOB))
    removed = RunFolder.create(settings, new_key(), Request("x", PLAN, owner=BOB))
    (removed.path / REMOVED).touch()
    unreadable = RunFolder.create(settings, new_key(), Request("x", PLAN, owner=BOB))
    (unreadable.path / "request.json").write_text("{")
    for path in gone.path.iterdir():
        path.unlink()
    gone.path.rmdir()
    agree(store, settings)
    assert {job.id: job.owner for job in store.all()} == {known.path.name: ANN, unknown.path.name: BOB}


def test_case_129_everything_of_one_person_goes_at_once_and_nothing_of_another(
    work: Workspace, make_zip: Zipper, tmp_path: Path
) -> None:
    upload = make_zip({"a": 6, "b": 6})
    keys = {owner: work.sets.take([("x.zip", upload)], "x.zip", owner=owner) for owner in (ANN, BOB)}
    until(lambda: all(work.sets.images(key) for key in keys.values()) and not work.sets.busy)
    runs = {owner: work.start(keys[owner], Wishes(), owner=owner) for owner in (ANN, BOB)}
    finished = work.run(runs[ANN] or "")
    assert finished is not None and take(finished, work.settings) == "over"
    report = work.report(runs[ANN] or "")
    assert report is not None
    downloads = [work.downloads.bundle(report.id, report.bundle), work.report_file(runs[ANN] or "", "en")]
    waiting = work.start(keys[ANN], Wishes(), owner=ANN)
    batch = file(work.settings.data_dir / "scratch" / "b1" / "pixels.u8").parent
    sign(batch, ANN)
    assert work.belongings.bytes(ANN) > bytes_of(report.bundle) > 0
    assert work.belongings.may_delete(ANN, finished) and not work.belongings.may_delete(BOB, finished)
    work.remove_everything(ANN)
    assert not any(path.exists() for path in (*downloads, finished.path, batch))
    assert work.run(runs[ANN] or "") is work.run(waiting or "") is work.sets.reading(keys[ANN]) is None
    assert work.belongings.sets(ANN) == work.belongings.runs(ANN) == work.store.of_owner(ANN) == []
    left = [path for path in work.settings.data_dir.rglob("*") if path.is_file()]
    assert not [path for path in left if ANN.encode() in path.read_bytes() and "sqlite" not in path.name]
    assert work.sets.images(keys[BOB]) is not None and work.run(runs[BOB] or "") is not None


def test_case_129_also_what_is_being_read_or_trained(work: Workspace, make_zip: Zipper, images: ImageSet) -> None:
    reading = work.sets.take([("x.zip", make_zip({"a": 300, "b": 300}))], "x.zip", owner=ANN)
    run = run_of(work.store, work.settings, images.folder, ANN)
    lock = held(run.path)
    work.remove_everything(ANN)
    assert work.belongings.runs(ANN) == [] and run.stop_asked()
    until(lambda: work.sets.find(reading) is None)
    os.close(lock)
    until(lambda: not run.path.exists())


def test_case_129_what_cannot_be_deleted_keeps_nothing_else_of_theirs_from_going(
    work: Workspace, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, other = (run_of(work.store, work.settings, images.folder, ANN) for _ in range(2))
    a_set = file(work.settings.sets_dir / "s1" / "pixels.u8").parent
    sign(a_set, ANN)

    def delete(settings: Settings, store: Store, run: RunFolder) -> bool:
        if run.path == stuck.path:
            raise PermissionError(run.path)
        return delete_run(settings, store, run)

    monkeypatch.setattr("tl_core.jobs.belongings.delete_run", delete)
    with pytest.raises(PermissionError):
        work.belongings.delete(ANN)
    assert not other.path.exists() and not a_set.exists() and stuck.path.exists()


def test_a_set_that_cannot_be_looked_at_is_no_reason_not_to_begin(work: Workspace) -> None:
    (odd := work.settings.sets_dir / "odd").mkdir(parents=True)
    (odd / "claimed").mkdir()  # opened as a file: IsADirectoryError
    cut_off = file(work.settings.sets_dir / "s2" / "uploads" / "x.zip")
    work.sets.tidy()
    assert odd.exists() and not cut_off.exists()


@pytest.fixture
def images(make_zip: Zipper, read_set: Callable[[Path], ImageSet]) -> ImageSet:
    return read_set(make_zip({"star": 6, "circle": 6}, "set.zip"))


def test_nobody_fills_the_disk_alone(settings: Settings, make_zip: Zipper) -> None:
    work = Workspace(replace(settings, max_owner_bytes=100_000))
    file(work.settings.sets_dir / "old" / "pixels.u8", 200_000)
    sign(work.settings.sets_dir / "old", ANN)
    upload = make_zip({"a": 6, "b": 6})
    for add in (
        lambda: work.sets.take([("x.zip", upload)], "x.zip", owner=ANN),
        lambda: work.sets.new_collection(ANN),
        lambda: next(iter(work.open_model(upload, "", owner=ANN))),
    ):
        with pytest.raises(OwnerFullError, match="“Your data here”"):
            add()
    work.sets.new_collection(BOB)
    work.sets.new_collection("")  # programs of the time before owners


def test_case_108_a_waiting_run_is_over_the_moment_it_is_stopped(work: Workspace, images: ImageSet) -> None:
    key = new_key()
    run = RunFolder.create(work.settings, key, Request(str(images.folder), PLAN, owner=ANN))
    job = job_of(run)
    assert job is not None
    work.store.submit(job)
    for _ in range(2):
        work.stop(key)
        assert run.over() and work.store.waiting() == []
    assert work.go_on(key) and [job.id for job in work.store.waiting()] == [run.path.name]
    assert not run.over() and not run.stop_asked()
    assert take(run, work.settings) == "over" and work.report(key) is not None
