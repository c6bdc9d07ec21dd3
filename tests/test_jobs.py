"""Runs outlive what started them: real workers, killed for real."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Zipper, full_disk
from tl_core.bundle.bundle import load
from tl_core.data.imageset import ImageSet
from tl_core.events import Event, Failed, Finished, Notice, Progress, Started
from tl_core.jobs import runs
from tl_core.jobs.recovery import job_of, recover
from tl_core.jobs.runs import ATTEMPTS, EventLog, Request, RunFolder, folder_of, new_key
from tl_core.jobs.store import Job, Store
from tl_core.jobs.supervisor import WorkerSupervisor
from tl_core.jobs.worker import MAX_ATTEMPTS, _turn, take, work
from tl_core.settings import Settings
from tl_core.training.plan import Plan, Wishes

PLAN = Plan(Wishes(), "built_in", "auto", 1.0)


@pytest.fixture
def images(make_zip: Zipper, read_set: Callable[[Path], ImageSet]) -> ImageSet:
    return read_set(make_zip({"star": 12, "circle": 12}))


@pytest.fixture
def many(make_zip: Zipper, read_set: Callable[[Path], ImageSet]) -> ImageSet:
    """Enough to be in the middle of them."""
    return read_set(make_zip({"star": 50, "circle": 50}))


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    made = Store(settings)
    yield made
    made.close()


@pytest.fixture
def worker(settings: Settings, store: Store) -> Iterator[WorkerSupervisor]:
    supervisor = WorkerSupervisor(settings, store)
    yield supervisor
    supervisor.close()


def queued(settings: Settings, store: Store, images: ImageSet, plan: Plan = PLAN) -> RunFolder:
    """A run that waits for its turn."""
    run = RunFolder.create(settings, new_key(), Request(str(images.folder), plan))
    job = job_of(run)
    assert job is not None
    store.submit(job)
    return run


def wait_for(run: RunFolder, wanted: Callable[[list[Event]], Any], seconds: float = 90) -> list[Event]:
    log, seen, end = EventLog(run.path), [], time.monotonic() + seconds
    while time.monotonic() < end:
        seen += log.new()
        if wanted(seen):
            return seen
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s; saw {seen[-3:]}")


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def finished(events: list[Event]) -> bool:
    return bool(events) and isinstance(events[-1], Finished | Failed)


def test_a_queued_run_is_trained_in_a_process_without_secrets(
    images: ImageSet, settings: Settings, store: Store, worker: WorkerSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_hosthosthost")
    run = queued(settings, store, images)
    assert [job.id for job in store.waiting()] == [run.path.name]
    worker.start()
    events = wait_for(run, finished)
    assert isinstance(events[-1], Finished)
    load(run.path / "bundle")
    assert store.waiting() == [] and run.over()
    until(lambda: store.running() == [])
    assert b"hf_hosthosthost" not in Path(f"/proc/{worker.pid}/environ").read_bytes()
    assert os.getpriority(os.PRIO_PROCESS, worker.pid) > os.getpriority(os.PRIO_PROCESS, 0), "the page goes first"


def test_case_114_a_killed_worker_is_replaced_and_the_run_goes_on(
    many: ImageSet, settings: Settings, store: Store, worker: WorkerSupervisor
) -> None:
    run = queued(settings, store, many)
    worker.start()
    wait_for(run, lambda seen: any(isinstance(e, Started) for e in seen))
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    events = wait_for(run, finished)
    assert isinstance(events[-1], Finished)
    assert sum(isinstance(e, Started) for e in events) == 2
    load(run.path / "bundle")


@pytest.mark.slow
def test_case_114_a_worker_that_hangs_is_ended_and_the_run_goes_on(
    many: ImageSet, settings: Settings, store: Store, worker: WorkerSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tl_core.jobs.supervisor._HANG_SECONDS", 8.0)
    run = queued(settings, store, many)
    worker.start()
    wait_for(run, lambda seen: any(isinstance(e, Started) for e in seen))
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    assert isinstance(wait_for(run, finished)[-1], Finished)


def test_case_122_on_sigterm_the_run_is_left_in_order_and_is_the_next_to_be_taken(
    many: ImageSet, settings: Settings, store: Store
) -> None:
    first, run = WorkerSupervisor(settings, store), queued(settings, store, many)
    first.start()
    wait_for(run, lambda seen: any(isinstance(e, Progress) and e.stage == "features" for e in seen))
    begun = time.monotonic()
    assert first.pid is not None
    os.kill(first.pid, signal.SIGTERM)  # a second one from `close` does no harm
    first.close()
    assert time.monotonic() - begun < 8 and not run.over()
    assert [job.id for job in store.waiting()] == [run.path.name] and not (run.path / ATTEMPTS).exists()
    second = WorkerSupervisor(settings, store)
    second.start()
    assert isinstance(wait_for(run, finished)[-1], Finished)
    second.close()


def test_case_120_after_a_restart_a_run_nobody_works_on_has_its_turn_again(
    images: ImageSet, settings: Settings, store: Store
) -> None:
    lost, held = queued(settings, store, images), queued(settings, store, images)
    unknown = RunFolder.create(settings, new_key(), Request(str(images.folder), PLAN))
    assert store.take("dead") is not None and store.running()[0].id == lost.path.name
    recover(store, settings)
    assert store.running() == []
    assert {job.id for job in store.waiting()} == {run.path.name for run in (lost, held, unknown)}
    assert store.take("alive") is not None and lost.claim()
    recover(store, settings)
    assert [job.id for job in store.running()] == [lost.path.name], "a live process works on it"
    lost.release()


def test_case_116_a_run_that_takes_too_long_ends_with_the_best_it_has(images: ImageSet, settings: Settings) -> None:
    short = replace(settings, max_run_seconds=0)
    run = RunFolder.create(settings, new_key(), Request(str(images.folder), PLAN))
    assert take(run, short) == "over"
    *_, told, last = EventLog(run.path).new()
    assert isinstance(told, Notice) and told.code == "time_limit"
    assert isinstance(last, Finished) and last.reason == "stopped"


def test_the_time_a_run_may_take_does_not_begin_anew_when_it_is_gone_on_with(
    images: ImageSet, settings: Settings
) -> None:
    run = RunFolder.create(settings, new_key(), Request(str(images.folder), PLAN))
    leave = iter([False] * 3)
    assert take(run, settings, should_pause=lambda: next(leave, True)) == "paused"
    assert 0 < run.seconds_worked() < settings.max_run_seconds
    run.note_worked(settings.max_run_seconds)
    assert take(run, settings) == "over"
    *_, told, last = EventLog(run.path).new()
    assert isinstance(told, Notice) and told.code == "time_limit"
    assert isinstance(last, Finished) and last.reason == "stopped"


_HANGS = """
import sys, threading, time
from pathlib import Path
from tl_core.jobs import worker
from tl_core.jobs.store import Store
from tl_core.settings import Settings

worker.OVERTIME_SECONDS, worker.work = 0.2, lambda *_, **__: time.sleep(600)
settings = Settings(data_dir=Path(sys.argv[1]), max_run_seconds=1)
worker._turn(Store(settings), "w", settings, threading.Event(), threading.Event(), {})
"""


def test_a_run_that_never_ends_costs_its_process_not_the_queue(
    images: ImageSet, settings: Settings, store: Store
) -> None:
    run = queued(settings, store, images)
    command = [sys.executable, "-c", _HANGS, str(settings.data_dir)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1 and "does not end" in ended.stderr
    assert run.free() and not run.over() and run.seconds_worked() == 1, "who takes it next ends it, with its best"
    store.lost("w")  # as the supervisor says when a worker ends
    assert [job.id for job in store.waiting()] == [run.path.name]


def test_a_run_that_kills_every_worker_is_given_up_with_a_sentence(images: ImageSet, settings: Settings) -> None:
    run = RunFolder.create(settings, new_key(), Request(str(images.folder), PLAN))
    (run.path / ATTEMPTS).write_text("x" * MAX_ATTEMPTS)
    work(run, settings)
    last = EventLog(run.path).new()[-1]
    assert isinstance(last, Failed) and last.code == "training_crashed"
    assert "ended unexpectedly 3 times" in last.text


def test_stop_is_a_file_and_keeps_the_best(images: ImageSet, settings: Settings) -> None:
    run = RunFolder.create(settings, new_key(), Request(str(images.folder), PLAN))
    run.ask_to_stop()
    work(run, settings)
    last = EventLog(run.path).new()[-1]
    assert isinstance(last, Finished) and last.reason == "stopped"


def test_a_bug_is_one_fixed_sentence(images: ImageSet, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder.create(settings, new_key(), Request(str(images.folder), PLAN))
    monkeypatch.setattr("tl_core.training.run.train", lambda *a, **k: 1 / 0)
    work(run, settings)
    last = EventLog(run.path).new()[-1]
    assert isinstance(last, Failed) and last.code == "bug" and "division" not in last.text


def test_a_set_deleted_meanwhile_ends_the_run_in_words(settings: Settings) -> None:
    run = RunFolder.create(settings, new_key(), Request("/nowhere", PLAN))
    work(run, settings)
    assert isinstance(EventLog(run.path).new()[-1], Failed)


def test_only_one_process_gets_a_run(images: ImageSet, settings: Settings) -> None:
    run = RunFolder.create(settings, new_key(), Request(str(images.folder), PLAN))
    assert run.claim()
    assert not RunFolder(run.path).claim()


@pytest.mark.parametrize("key", ["", "x", "../../../etc", "a" * 21, "a" * 23, "a/" * 11, None, 5, ["a" * 22]])
def test_case_90_what_is_no_key_finds_no_folder(key: Any, settings: Settings) -> None:
    assert folder_of(settings.runs_dir, key) is None


def test_case_93_keys_are_long_random_and_not_on_disk(images: ImageSet, settings: Settings) -> None:
    key = new_key()
    run = RunFolder.create(settings, key, Request(str(images.folder), PLAN))
    assert len({new_key() for _ in range(1000)}) == 1000
    assert key not in str(run.path)
    assert not any(key.encode() in file.read_bytes() for file in run.path.rglob("*") if file.is_file())


def test_a_half_written_event_is_read_when_it_is_whole(tmp_path: Path) -> None:
    log, event = EventLog(tmp_path), Progress("features", 1, 2, 0.5)
    EventLog(tmp_path).append(event)
    with (tmp_path / runs.EVENTS).open("a") as out:
        out.write('{"kind":"Prog')
        out.flush()
        assert log.new() == [event]
        out.write('ress","stage":"features","done":2,"total":2,"seconds_left":null}\n')
    assert log.new() == [Progress("features", 2, 2, None)]


def test_a_line_cut_by_a_kill_costs_that_line_only(tmp_path: Path) -> None:
    log, event = EventLog(tmp_path), Progress("features", 1, 2, 0.5)
    (tmp_path / runs.EVENTS).write_text('{"kind":"Prog')
    EventLog(tmp_path).append(event)
    assert log.new() == [event]


@pytest.mark.slow
def test_a_run_whose_log_was_cut_does_not_keep_the_next_from_being_trained(
    images: ImageSet, settings: Settings, store: Store, worker: WorkerSupervisor
) -> None:
    broken = queued(settings, store, images)
    (broken.path / runs.EVENTS).write_text('{"kind":"Prog')
    other = queued(settings, store, images)
    worker.start()
    assert isinstance(wait_for(other, finished)[-1], Finished)
    assert isinstance(wait_for(broken, finished)[-1], Finished)


def test_a_run_held_by_a_live_process_is_not_trained_twice(images: ImageSet, settings: Settings) -> None:
    run = RunFolder.create(settings, new_key(), Request(str(images.folder), PLAN))
    assert run.claim()
    again = RunFolder(run.path)
    assert take(again, settings) == "held"
    run.release()
    assert take(again, settings) == "over" and again.over()
    events = len(EventLog(run.path).new())
    assert take(RunFolder(run.path), settings) == "over" and len(EventLog(run.path).new()) == events


def test_workers_that_die_at_birth_are_told_about(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tl_core.jobs.supervisor._RESTART_SECONDS", 0.01)
    monkeypatch.setenv("TL_MAX_UPLOAD", "senseless")  # the worker ends at once, saying so
    supervisor = WorkerSupervisor(settings, store)
    supervisor.start()
    until((settings.data_dir / runs.TROUBLE).exists, 60)
    assert not supervisor.healthy
    supervisor.close()


def test_a_disk_that_fails_does_not_end_the_care_for_workers(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tl_core.jobs.supervisor._RESTART_SECONDS", 0.01)
    (settings.data_dir / runs.WORKERS).touch()  # where a folder should be
    (settings.data_dir / runs.TROUBLE).symlink_to("nowhere/below")
    monkeypatch.setenv("TL_MAX_UPLOAD", "senseless")  # each ends at once
    supervisor = WorkerSupervisor(settings, store)
    supervisor.start()
    pids: set[int] = set()
    until(lambda: pids.add(supervisor.pid or 0) or len(pids - {0}) > 3, 60)
    assert supervisor.healthy
    supervisor.close()


def test_a_run_that_the_disk_takes_nothing_about_is_not_given_up_for_it(images: ImageSet, settings: Settings) -> None:
    run = RunFolder.create(settings, new_key(), Request(str(images.folder), PLAN))
    for _ in range(MAX_ATTEMPTS + 1):
        with full_disk(room=10):  # enough to count attempts
            assert take(run, settings) == "held"
    assert take(run, settings) == "over"
    assert isinstance(EventLog(run.path).new()[-1], Finished)


def test_a_run_that_cannot_be_worked_on_holds_up_no_other(settings: Settings, store: Store) -> None:
    stuck, next_one = (RunFolder.create(settings, new_key(), Request("/nowhere", PLAN)) for _ in range(2))
    for run, owner in ((stuck, "a"), (next_one, "b")):
        store.submit(Job(run.path.name, owner))
    leaving, working, held = threading.Event(), threading.Event(), dict[str, float]()
    assert stuck.claim()
    begun = time.monotonic()
    for _ in range(2):
        assert _turn(store, "w", settings, leaving, working, held)
    assert next_one.over() and time.monotonic() - begun < 3
    assert not _turn(store, "w", settings, leaving, working, held), "tried again in a while"
    stuck.release()
    held[stuck.path.name] = 0.0
    assert _turn(store, "w", settings, leaving, working, held) and stuck.over()
