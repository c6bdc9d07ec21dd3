"""The queue in PostgreSQL, shared by processes that do not know each other. A real server throughout."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.postgres import Server, postgres  # noqa: F401  a fixture
from tl_core.jobs.heartbeat import Watch
from tl_core.jobs.store import FILE, Job, Store, _engine
from tl_core.jobs.supervisor import WorkerSupervisor
from tl_core.queue_errors import QueueFullError, QueueUnreachableError, TooManyRunsError
from tl_core.settings import Settings, scrubbed_environment

Opened = Callable[[Settings], Store]
ROOT = Path(__file__).parents[1]


@pytest.fixture
def shared(settings: Settings, postgres: Server) -> Settings:  # noqa: F811
    return replace(settings, database_url=postgres.fresh())


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Opens queues as processes do, and closes them when the test is over."""
    stores = []

    def open_one(settings: Settings) -> Store:
        stores.append(Store(settings))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def submit(store: Store, *names: str) -> None:
    for name in names:
        store.submit(Job(name, name[0], seconds=60.0))


def test_case_106_turns_are_fair_between_owners_whichever_process_they_asked(shared: Settings, opened: Opened) -> None:
    one, two = opened(shared), opened(shared)
    submit(one, "a1", "a2")
    submit(two, "a3", "b1")
    with pytest.raises(TooManyRunsError):
        submit(two, "a4")
    assert [job.id for job in one.waiting()] == [job.id for job in two.waiting()] == ["a1", "b1", "a2", "a3"]
    assert [job.id for job in (two.take("w2"), one.take("w1")) if job] == ["a1", "b1"]
    assert one.take("w1") is None and two.take("w2") is None
    one.finish("b1", "w2")  # another's
    assert {job.id for job in two.running()} == {"a1", "b1"}
    two.finish("a1", "w2")
    assert one.take("w1").id == "a2"  # type: ignore[union-attr]
    assert not (shared.data_dir / FILE).exists()


def test_case_107_a_full_queue_is_full_for_every_process(shared: Settings, opened: Opened) -> None:
    small = replace(shared, max_waiting=3)
    one, two = opened(small), opened(small)
    submit(one, "a1", "b1")
    submit(two, "c1")
    with pytest.raises(QueueFullError, match="3 trainings"):
        submit(one, "d1")
    assert two.withdraw("b1") and not one.withdraw("b1")
    submit(one, "d1")


def test_takers_at_the_same_moment_never_get_one_run(shared: Settings, opened: Opened) -> None:
    setup = opened(shared)
    for number in range(30):
        setup.restore(Job(f"r{number:02}", f"owner{number % 10}"))
    taken: Counter[str] = Counter()
    together: list[int] = []

    def take(name: str) -> None:
        mine, empty = opened(shared), 0
        while empty < 20:
            job = mine.take(name)
            if job is None:
                empty += 1
                time.sleep(0.01)
                continue
            taken[job.id] += 1
            together.append(max(Counter(j.owner for j in mine.running()).values()))
            mine.finish(job.id, name)
        mine.close()

    threads = [threading.Thread(target=take, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 30 and set(taken.values()) == {1}
    assert set(together) == {1}, "no owner has two at once"


def test_processes_that_start_at_once_make_the_tables_together(shared: Settings, opened: Opened) -> None:
    stores: list[Store] = []
    gate = threading.Barrier(6)

    def start() -> None:
        gate.wait()
        stores.append(opened(shared))

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores) == 6
    submit(stores[0], "a1")
    assert [store.take("w") is not None for store in stores].count(True) == 1


def test_what_a_dead_machine_was_doing_is_noticed_by_another(
    shared: Settings, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive, other = opened(shared), opened(shared)
    submit(alive, "a1", "b1")
    alive.take("here")
    alive.take("dead machine")
    now = [1000.0]
    monkeypatch.setattr("tl_core.jobs.heartbeat.time.monotonic", lambda: now[0])
    watch = Watch()
    for _ in range(8):
        found = watch.stale(other)
        now[0] += 5
        alive.beat("here")
    assert [job.id for job in found] == ["b1"] and other.lost("dead machine") == ["b1"]


def test_a_server_that_is_away_for_a_while_is_a_sentence_and_nothing_is_lost(
    shared: Settings,
    opened: Opened,
    postgres: Server,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    store = opened(shared)
    submit(store, "a1", "b1")
    assert store.take("w").id == "a1"  # type: ignore[union-attr]
    watch = Watch()
    assert watch.stale(store) == []
    postgres.stop()
    try:
        for ask in (lambda: store.take("w"), store.waiting, lambda: submit(store, "c1"), lambda: watch.stale(store)):
            with pytest.raises(QueueUnreachableError, match="Nothing is lost") as told:
                ask()
            assert postgres.password not in str(told.value) + repr(told.value.__cause__)
    finally:
        postgres.start()
    assert [job.id for job in store.running()] == ["a1"] and [job.id for job in store.waiting()] == ["b1"]
    store.finish("a1", "w")
    submit(store, "c1")
    assert store.take("w").id == "b1"  # type: ignore[union-attr]
    assert "the queue does not answer" in caplog.text and postgres.password not in caplog.text


def test_case_78_a_wrong_password_is_told_without_it(
    shared: Settings,
    opened: Opened,
    postgres: Server,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrong = shared.database_url.replace(postgres.password, "opensesame")
    with pytest.raises(QueueUnreachableError) as told:
        opened(replace(shared, database_url=wrong))
    out, err = capfd.readouterr()
    assert "opensesame" not in str(told.value) + caplog.text + out + err


def test_case_89_children_do_not_learn_the_password(
    shared: Settings,
    opened: Opened,
    postgres: Server,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TL_DATABASE_URL", shared.database_url)
    assert postgres.password not in str(scrubbed_environment()) + str(shared.to_json())
    assert postgres.password not in repr(opened(shared)._engine.url)


def test_two_web_processes_share_one_queue(shared: Settings, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process asked for and took is seen here, whatever this one had read before."""
    code = (
        "from tl_core.jobs.store import *; s = Store(Settings.from_environment());"
        "s.submit(Job('b1', 'b')); print(s.take('there').id, [j.id for j in s.waiting()])"
    )
    here = opened(shared)
    submit(here, "a1", "a2")
    assert [job.id for job in here.waiting()] == ["a1", "a2"]
    monkeypatch.setenv("TL_DATABASE_URL", shared.database_url)
    there = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=dict(os.environ))
    assert there.stdout.split(" ", 1) == ["a1", "['b1', 'a2']\n"], there.stderr
    assert [(job.id, job.worker) for job in here.running()] == [("a1", "there")]
    assert here.take("here").id == "b1"  # type: ignore[union-attr]


def test_a_connection_that_was_cut_is_not_met_again(shared: Settings, opened: Opened) -> None:
    """As by a firewall, or a server that was started anew between two questions."""
    store = opened(shared)
    submit(store, "a1")
    engine = sa.create_engine(sa.make_url(shared.database_url).set(drivername="postgresql+psycopg"))
    with engine.connect() as db:
        cut = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        assert db.execute(cut).rowcount >= 1
    engine.dispose()
    assert [job.id for job in store.waiting()] == ["a1"]


def test_the_supervisor_gives_its_worker_the_queue_and_nobody_else(shared: Settings, opened: Opened) -> None:
    supervisor = WorkerSupervisor(shared, opened(shared))
    child = supervisor._spawn("w")
    try:
        while not (environment := Path(f"/proc/{child.pid}/environ").read_bytes()):
            time.sleep(0.01)  # the system fills it in a moment after the process has begun
        assert shared.database_url.encode() in environment
        assert shared.database_url.encode() not in Path(f"/proc/{child.pid}/cmdline").read_bytes()
    finally:
        child.kill()
        child.wait()


def test_a_process_that_froze_in_its_turn_holds_up_nobody_for_long(
    shared: Settings, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tl_core.jobs.store._BUSY_SECONDS", 0.5)
    frozen, store = opened(shared), opened(shared)
    turn = frozen._turn()
    turn.__enter__()  # and it does not go on
    begun = time.monotonic()
    while not [job.id for job in store.waiting()]:
        assert time.monotonic() - begun < 5
        with contextlib.suppress(QueueUnreachableError):
            submit(store, "a1")
    with pytest.raises(QueueUnreachableError):  # woken, it finds its turn taken from it
        turn.__exit__(None, None, None)


@pytest.mark.slow
def test_a_machine_that_does_not_answer_is_not_waited_for_long(settings: Settings) -> None:
    """A server that takes the connection and says nothing, as behind a firewall that swallows answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://lab:secret@127.0.0.1:{silent.getsockname()[1]}/x"
        begun = time.monotonic()
        with pytest.raises(sa.exc.OperationalError):
            _engine(replace(settings, database_url=url), None).connect()
    assert time.monotonic() - begun < 9
