"""Starting again: on folders of earlier and later versions, on folders that cannot be used, and twice at once."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import Zipper, full_disk
from tl_core.data.imageset import ImageSet
from tl_core.events import Failed, Finished, Started
from tl_core.jobs.belongings import Belongings
from tl_core.jobs.recovery import FORM, agree, job_of, open_folder, recover
from tl_core.jobs.runs import EventLog, Request, RunFolder, new_key
from tl_core.jobs.store import Job, Store
from tl_core.jobs.supervisor import WorkerSupervisor
from tl_core.jobs.worker import take
from tl_core.queue_errors import DataFolderError, NewerDataError
from tl_core.settings import Settings
from tl_core.training.plan import Plan, Wishes
from tl_ui.workspace import Workspace

ROOT = Path(__file__).parents[1]
PLAN = Plan(Wishes(), "built_in", "auto", 1.0)


@pytest.fixture
def images(make_zip: Zipper, read_set: Callable[[Path], ImageSet]) -> ImageSet:
    return read_set(make_zip({"star": 12, "circle": 12}))


def test_case_125_a_folder_that_cannot_be_used_is_named_at_the_start(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        with pytest.raises(DataFolderError, match="TL_DATA_DIR"):
            open_folder(replace(settings, data_dir=folder))
    environment = {**os.environ, "TL_DATA_DIR": "/proc/nowhere"}
    command = [sys.executable, "app.py"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60)
    assert result.returncode == 1 and "“/proc/nowhere” cannot be written to" in result.stderr
    assert "Traceback" not in result.stderr


def test_case_131_what_an_earlier_version_kept_opens(images: ImageSet, settings: Settings) -> None:
    """Before there was a queue: no owner in a request, a mark on whatever was ever begun."""
    keys = [new_key(), new_key(), new_key()]
    finished, waiting, interrupted = (
        RunFolder.create(settings, key, Request(str(images.folder), PLAN)) for key in keys
    )
    assert take(finished, settings) == "over"
    for run in (finished, waiting, interrupted):
        record = json.loads((run.path / "request.json").read_text())
        del record["owner"]
        (run.path / "request.json").write_text(json.dumps(record))
    (interrupted.path / "claimed").touch()
    open_folder(settings)
    store = Store(settings, mend=True)
    recover(store, settings)
    assert {job.id for job in store.waiting()} == {waiting.path.name, interrupted.path.name}
    work = Workspace(settings, store)
    assert work.report(keys[0]) is not None
    work.remove_run(keys[0])
    assert not finished.path.exists()


def test_case_131_what_a_later_version_kept_is_left_alone(settings: Settings) -> None:
    open_folder(settings)
    open_folder(settings)
    (settings.data_dir / "form").write_text(str(FORM + 1))
    with pytest.raises(NewerDataError, match=f"form {FORM + 1}; this one knows {FORM}"):
        open_folder(settings)
    assert (settings.data_dir / "form").read_text() == str(FORM + 1)


def test_a_start_on_a_full_disk_says_so_and_does_not_lock_the_folder(settings: Settings) -> None:
    settings.data_dir.mkdir()
    for left in (None, ""):  # what an earlier version left of it then
        if left is not None:
            (settings.data_dir / "form").write_text(left)
        with full_disk(), pytest.raises(DataFolderError, match="cannot be written to"):
            open_folder(settings)
        assert [path.name for path in settings.data_dir.iterdir()] == ([] if left is None else ["form"])
    open_folder(settings)
    with full_disk():
        open_folder(settings)  # nothing new is to be written
    assert (settings.data_dir / "form").read_text() == str(FORM)


def test_an_opened_model_stays_its_owners_after_a_restart(settings: Settings) -> None:
    store, opened = Store(settings), settings.runs_dir / "opened"
    opened.mkdir(parents=True)
    (opened / "report.json").write_text("{}")
    for id in ("opened", "gone"):
        store.restore(Job(id, "ann", state="over"))
    recover(store, settings)
    assert [run.path for run in Belongings(settings, store).runs("ann")] == [opened]
    assert store.find("gone") is None


def test_a_run_that_another_page_queues_during_a_start_is_not_forgotten(settings: Settings) -> None:
    class Meanwhile(Store):
        """The other page does so at the moment that is worst: right before this one asks what is queued."""

        def all(self) -> list[Job]:
            run = RunFolder.create(settings, new_key(), Request("set", PLAN))
            self.submit(Job(run.path.name, ""))
            return super().all()

    store = Meanwhile(settings)
    agree(store, settings)
    assert len(store.waiting()) == 1


def stopped(work: Workspace) -> tuple[str, RunFolder]:
    """A run that was stopped while it waited."""
    key = new_key()
    run = RunFolder.create(work.settings, key, Request("set", PLAN))
    work.store.submit(Job(run.path.name, ""))
    work.stop(key)
    return key, run


def test_going_on_with_a_run_on_a_full_disk_leaves_it_as_it_was(settings: Settings) -> None:
    work = Workspace(settings)
    key, run = stopped(work)
    with full_disk(), pytest.raises(OSError):
        work.go_on(key)
    assert run.free() and work.store.waiting() == []
    assert work.go_on(key) and [job.id for job in work.store.waiting()] == [run.path.name]


def test_a_run_whose_queue_was_not_told_that_it_goes_on_is_queued_by_a_restart_or_the_next_try(
    settings: Settings,
) -> None:
    work = Workspace(settings)
    key, run = stopped(work)
    over = RunFolder.create(settings, new_key(), Request("set", PLAN))
    EventLog(over.path).append(Failed("bug", ""))
    work.store.restore(Job(over.path.name, "", state="over"))
    for heal in (lambda: work.go_on(key, "cpu"), lambda: recover(work.store, settings)):
        assert run.open_again() and work.store.waiting() == []  # and there it was killed
        heal()
        assert [job.id for job in work.store.waiting()] == [run.path.name]
        work.stop(key)
    assert run.request().device == "cpu"


def test_a_worker_that_says_late_that_a_run_is_over_does_not_end_it_again(settings: Settings) -> None:
    work = Workspace(settings)
    key = new_key()
    run = RunFolder.create(settings, key, Request("set", PLAN))
    work.store.submit(Job(run.path.name, ""))
    assert work.store.take("w") is not None
    EventLog(run.path).append(Failed("bug", ""))
    assert work.go_on(key)
    work.store.finish(run.path.name, "w")
    assert [job.id for job in work.store.waiting()] == [run.path.name]


@pytest.mark.slow
def test_case_127_two_programs_on_one_folder_share_its_runs(images: ImageSet, settings: Settings) -> None:
    stores = [Store(settings), Store(settings)]
    runs = []
    for number in range(4):
        own = settings.data_dir / f"set{number}"  # so that they do not wait for each other's features
        shutil.copytree(images.folder, own)
        run = RunFolder.create(settings, new_key(), Request(str(own), PLAN, owner=str(number)))
        job = job_of(run)
        assert job is not None
        stores[0].submit(job)
        runs.append(run)
    supervisors = [WorkerSupervisor(settings, store) for store in stores]
    for supervisor in supervisors:
        supervisor.start()
    end = time.monotonic() + 120
    while not all(run.over() for run in runs):
        assert time.monotonic() < end
        time.sleep(0.1)
    for supervisor in supervisors:
        supervisor.close()
    for run in runs:
        events = EventLog(run.path).new()
        assert sum(isinstance(event, Started) for event in events) == 1
        assert isinstance(events[-1], Finished) and not any(isinstance(event, Failed) for event in events)
