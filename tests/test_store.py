"""The queue: fair between owners, bounded, one taker a run, and in one piece after anything."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings as with_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.conftest import full_disk
from tl_core.jobs.heartbeat import Watch
from tl_core.jobs.slices import SLICED
from tl_core.jobs.store import FILE, Job, Store
from tl_core.queue_errors import QueueDiskError, QueueFullError, QueueUnreachableError, TooManyRunsError
from tl_core.settings import Settings

ROOT = Path(__file__).parents[1]


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings)


def submit(store: Store, *names: str) -> None:
    """Runs named after their owner and a number: `a1` is the first of owner a."""
    for name in names:
        store.submit(Job(name, name[0], seconds=60.0))


def served(store: Store) -> list[str]:
    """What is taken, one after the other."""
    found = []
    while (job := store.take("w")) is not None:
        found.append(job.id)
        store.finish(job.id, "w")
    return found


def test_case_106_who_asks_for_many_waits_for_himself(store: Store) -> None:
    submit(store, "a1", "a2", "a3", "b1")
    with pytest.raises(TooManyRunsError, match="You have 3 trainings .* more than 3"):
        submit(store, "a4")
    assert store.take("w").id == "a1"  # type: ignore[union-attr]
    assert [job.id for job in store.waiting()] == ["b1", "a2", "a3"]
    store.finish("a1", "w")
    assert served(store) == ["b1", "a2", "a3"]


def test_newcomers_do_not_overtake_those_who_wait_their_turn(settings: Settings) -> None:
    store = Store(replace(settings, max_waiting_per_owner=3))
    submit(store, "a1", "a2")
    assert served(store) == ["a1", "a2"]
    submit(store, "b1", "a3", "c1", "d1", "b2")
    assert served(store) == ["b1", "c1", "d1", "a3", "b2"]
    submit(store, "e1", "a4", "f1")
    assert [job.id for job in store.waiting()].index("a4") <= 2


def test_a_turn_given_up_costs_nothing_later(store: Store) -> None:
    submit(store, "a1", "b1")
    for number in range(2, 12):
        submit(store, f"a{number}")
        assert store.withdraw(f"a{number}")
    assert not store.withdraw("a2") and not store.withdraw("never")
    submit(store, "a20", "c1", "c2")
    assert served(store).index("a20") <= 3


def test_one_of_an_owner_runs_at_a_time_and_others_meanwhile(store: Store) -> None:
    submit(store, "a1", "a2", "b1")
    assert [job.id for job in (store.take("one"), store.take("two")) if job] == ["a1", "b1"]
    assert store.take("three") is None
    store.finish("b1", "two")
    assert store.take("two") is None, "a2 waits for a1 though nobody else is there"
    store.finish("a1", "one")
    assert store.take("two").id == "a2"  # type: ignore[union-attr]


def test_case_107_a_full_queue_is_a_sentence_with_a_time(settings: Settings) -> None:
    store = Store(replace(settings, max_waiting=3))
    submit(store, "a1", "b1", "c1")
    with pytest.raises(QueueFullError, match=r"3 trainings of other people .* about 1 minute"):
        submit(store, "d1")
    store.restore(Job("e1", "e"))  # what is there already is never turned away
    assert len(store.waiting()) == 4


def test_a_run_left_is_the_next_and_a_dead_workers_runs_come_back(store: Store) -> None:
    submit(store, "a1", "b1")
    assert store.take("w").id == "a1"  # type: ignore[union-attr]
    store.give_back("a1", "w")
    assert [job.id for job in store.waiting()] == ["a1", "b1"]
    assert store.take("w").id == "a1"  # type: ignore[union-attr]
    store.finish("a1", "another")  # whose run it is not (any more)
    store.give_back("a1", "another")
    assert [job.id for job in store.running()] == ["a1"]
    assert store.lost("w") == ["a1"] and store.running() == []


def test_sliced_runs_are_only_taken_by_name(store: Store) -> None:
    store.submit(Job("z1", "z", SLICED))
    assert store.take("w", except_for=SLICED) is None
    assert store.take("w", only="other") is None
    assert store.take("w", only="z1").id == "z1"  # type: ignore[union-attr]


def test_asking_for_a_run_writes_nothing_while_there_is_none(store: Store, settings: Settings) -> None:
    submit(store, "a1", "a2")
    store.submit(Job("z1", "z", SLICED))
    store.take("w")
    with contextlib.closing(sqlite3.connect(settings.data_dir / FILE)) as raw:
        before = raw.execute("PRAGMA data_version").fetchone()
        assert store.take("v", except_for=SLICED) is store.take("v", only="a2") is None
        assert raw.execute("PRAGMA data_version").fetchone() == before
        store.beat("w")
        assert raw.execute("PRAGMA data_version").fetchone() != before


def test_going_on_counts_like_beginning(store: Store) -> None:
    submit(store, "a1")
    served(store)
    store.admit("a1")
    store.again("a1", "cpu")
    assert store.waiting()[0].device == "cpu"
    store.again("a1", "auto")  # waits already: nothing happens
    assert store.waiting()[0].device == "cpu"
    store.forget("a1")
    assert store.find("a1") is None and store.of_owner("a") == []


def test_two_takers_never_get_one_run(settings: Settings) -> None:
    setup = Store(settings)
    for number in range(40):
        setup.restore(Job(f"r{number:02}", f"owner{number}"))
    taken: Counter[str] = Counter()

    def take(name: str) -> None:
        mine = Store(settings)
        while (job := mine.take(name)) is not None:
            taken[job.id] += 1
            mine.finish(job.id, name)

    threads = [threading.Thread(target=take, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 40 and set(taken.values()) == {1}


_COMMITS = """
import sys
from pathlib import Path
from tl_core.jobs.store import Job, Store
from tl_core.settings import Settings
store = Store(Settings(data_dir=Path(sys.argv[1])))
for number in range(1000):
    store.restore(Job(f"{sys.argv[2]}-{number:04}", "o"))
    print(number, flush=True)
"""


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_case_126_killed_while_it_writes_nothing_committed_is_lost(settings: Settings, kills: int) -> None:
    settings.data_dir.mkdir(parents=True)
    for kill in range(kills):
        command = [sys.executable, "-c", _COMMITS, str(settings.data_dir), str(kill)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stdout is not None
        told = int(process.stdout.readline())
        time.sleep(random.Random(kill).uniform(0.0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        for line in process.stdout.read().split():
            told = int(line)
        process.wait()
        with sqlite3.connect(settings.data_dir / FILE) as raw:
            assert raw.execute("PRAGMA quick_check").fetchone() == ("ok",)
        raw.close()
        known = {job.id for job in Store(settings).all()}
        assert {f"{kill}-{number:04}" for number in range(told + 1)} <= known


def test_case_126_a_writer_waits_for_another(settings: Settings) -> None:
    store = Store(settings)
    other = sqlite3.connect(settings.data_dir / FILE, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(1.5, other.rollback).start()
    begun = time.monotonic()
    submit(store, "a1")
    assert time.monotonic() - begun > 1 and store.find("a1") is not None
    assert [job.id for job in store.waiting()] == ["a1"]


def test_a_database_locked_for_ever_is_a_sentence(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tl_core.jobs.store._BUSY_SECONDS", 0.2)
    store = Store(settings)
    other = sqlite3.connect(settings.data_dir / FILE)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(QueueUnreachableError, match="Nothing is lost"):
        submit(store, "a1")
    other.rollback()
    submit(store, "a1")


@pytest.mark.parametrize("harm", ["text", "middle", "short"])
def test_case_126_a_damaged_file_is_kept_aside_and_begun_anew(settings: Settings, harm: str) -> None:
    store = Store(settings)
    for number in range(200):
        store.restore(Job(f"r{number:03}", "o"))
    store.close()
    file = settings.data_dir / FILE
    with sqlite3.connect(file) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    whole = file.read_bytes()
    middle = whole[:4096] + random.Random(1).randbytes(len(whole) - 4096)
    file.write_bytes({"text": b"no database " * 500, "middle": middle, "short": whole[: len(whole) // 2]}[harm])
    mended = Store(settings, mend=True)
    assert mended.all() == [] and (settings.data_dir / f"{FILE}.damaged-0").exists()
    submit(mended, "a1")
    again = Store(settings, mend=True)
    assert again.find("a1") is not None and not (settings.data_dir / f"{FILE}.damaged-1").exists()


@pytest.mark.parametrize(("trouble", "says"), [("disk", QueueDiskError), ("locked", QueueUnreachableError)])
def test_a_file_that_cannot_be_looked_at_is_not_set_aside(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, trouble: str, says: type[QueueUnreachableError]
) -> None:
    monkeypatch.setattr("tl_core.jobs.store._BUSY_SECONDS", 0.1)
    store, file = Store(settings), settings.data_dir / FILE
    submit(store, "a1")
    store.close()
    with contextlib.closing(sqlite3.connect(file)) as other:
        if trouble == "locked":
            other.execute("PRAGMA locking_mode=EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
        with full_disk() if trouble == "disk" else contextlib.nullcontext(), pytest.raises(says) as told:
            Store(settings, mend=True)
        assert type(told.value) is says
    assert not list(settings.data_dir.glob("*.damaged*"))
    assert Store(settings, mend=True).find("a1") is not None


def test_the_file_is_in_the_data_folder_whatever_that_is_called(settings: Settings) -> None:
    folder = settings.data_dir.with_name("what? 100% #1")
    store = Store(replace(settings, data_dir=folder))
    submit(store, "a1")
    assert (folder / FILE).stat().st_size and not settings.data_dir.with_name("what").exists()


def test_workers_without_a_sign_of_life_are_noticed_by_this_process_own_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(store, "a1", "b1")
    store.take("alive")
    store.take("dead")
    now = [1000.0]
    monkeypatch.setattr("tl_core.jobs.heartbeat.time.monotonic", lambda: now[0])
    watch = Watch()
    for _ in range(8):
        assert watch.stale(store) == [] or now[0] > 1030
        now[0] += 5
        store.beat("alive")
    assert [job.id for job in watch.stale(store)] == ["b1"]


class Queue(RuleBasedStateMachine):
    """Many owners, workers that die, people who change their minds."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self._folder = tempfile.TemporaryDirectory()
        self._store = Store(Settings(data_dir=Path(self._folder.name), max_waiting=6))
        self._asked, self._over, self._gone = set[str](), set[str](), set[str]()
        self._number = 0

    def teardown(self) -> None:
        self._store.close()
        self._folder.cleanup()

    @rule(owner=st.sampled_from("abc"))
    def ask(self, owner: str) -> None:
        self._number += 1
        id = f"{owner}{self._number}"
        try:
            self._store.submit(Job(id, owner))
            self._asked.add(id)
        except (TooManyRunsError, QueueFullError):
            assert self._store.find(id) is None

    @rule(worker=st.sampled_from(["v", "w"]))
    def take(self, worker: str) -> None:
        job = self._store.take(worker)
        assert job is None or job.id in self._asked - self._over - self._gone

    @rule(data=st.data(), how=st.sampled_from(["finish", "give_back", "lost"]))
    @precondition(lambda self: self._store.running())
    def leave(self, data: st.DataObject, how: str) -> None:
        job = data.draw(st.sampled_from(self._store.running()))
        if how == "finish":
            self._store.finish(job.id, job.worker)
            self._over.add(job.id)
        elif how == "give_back":
            self._store.give_back(job.id, job.worker)
        else:
            assert job.id in self._store.lost(job.worker)

    @rule(data=st.data())
    @precondition(lambda self: self._store.waiting())
    def withdraw(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self._store.waiting()))
        assert self._store.withdraw(job.id)
        self._over.add(job.id)

    @rule(data=st.data())
    @precondition(lambda self: self._over - self._gone)
    def again_or_forget(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self._over - self._gone)))
        if data.draw(st.booleans()):
            self._store.forget(id)
            self._gone.add(id)
            return
        try:
            self._store.again(id, "cpu")
            self._over.discard(id)
        except (TooManyRunsError, QueueFullError):
            pass

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        waiting, running = self._store.waiting(), self._store.running()
        active = [job.id for job in (*waiting, *running)]
        assert sorted(active) == sorted(self._asked - self._over - self._gone)
        assert {job.id for job in self._store.all()} == self._asked - self._gone
        assert max(Counter(job.owner for job in running).values(), default=0) <= 1
        assert all(job.worker for job in running) and not any(job.worker for job in waiting)


TestQueue = Queue.TestCase
TestQueue.settings = with_settings(max_examples=25, stateful_step_count=30, deadline=None)
