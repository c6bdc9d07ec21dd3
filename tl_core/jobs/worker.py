"""The process that trains. It imports torch once, measures this machine, then takes runs as their turns come.

    python -m tl_core.jobs.worker NAME

`NAME` is what the queue calls it. It ends when its parent does, after the run it has; on SIGTERM it leaves the run at
the next moment it can be gone on from, and the run is the next to be taken. If it dies during a run, that is taken
again from where it was; after three deaths the run is given up with a sentence. It dies by its own hand when a run
does not end long after its time: then something in it hangs.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from tl_core import disk, redaction
from tl_core.data.understand import load, ready
from tl_core.errors import NothingTrainedError, TLError, TrainingCrashedError
from tl_core.events import Event, Failed, Finished, Paused, Progress
from tl_core.jobs.heartbeat import beating
from tl_core.jobs.runs import TROUBLE, WORKERS, EventLog, RunFolder
from tl_core.jobs.slices import SLICED
from tl_core.jobs.store import Store
from tl_core.queue_errors import QueueUnreachableError
from tl_core.settings import Settings
from tl_core.wording import notice

MAX_ATTEMPTS = 3
_POLL_SECONDS = 0.15
PATIENCE_SECONDS = 3.0  # before the queue is asked again when it did not answer, or a run is held by another process
_EVENT_SECONDS = 0.1  # progress more often than this is not written
OVERTIME_SECONDS = 900.0  # that a run may take to end after its time
_NOTED_SECONDS = 10  # the most of a run's time that a kill makes forgotten
_BEHIND = 5  # so much is the page's processor time worth more than training's, where both want it
log = logging.getLogger("transfer_lab.worker")


def main() -> None:
    redaction.install()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    settings, parent, name = Settings.from_environment(), os.getppid(), sys.argv[1]
    leaving, working = threading.Event(), threading.Event()

    def leave(number: int, frame: object) -> None:
        leaving.set()
        if not working.is_set():
            os._exit(0)  # as below; what was taken just now is given back by the supervisor

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    if hasattr(os, "nice"):  # not on Windows
        os.nice(_BEHIND)
    import tl_core.training.run  # noqa: F401  now, so that the first run starts at once
    from tl_core.doctor import probe

    store = Store(settings)
    (settings.data_dir / TROUBLE).unlink(missing_ok=True)
    probed, held = False, dict[str, float]()
    with beating(store, name, settings.data_dir / WORKERS / name):
        while os.getppid() == parent and not leaving.is_set():
            if not _turn(store, name, settings, leaving, working, held):
                if not probed:  # while nobody waits
                    probe(settings)
                    probed = True
                leaving.wait(_POLL_SECONDS)
    store.close()
    logging.shutdown()
    os._exit(0)  # taking libraries apart takes seconds, which whoever ends this process may not give it


def _turn(
    store: Store,
    name: str,
    settings: Settings,
    leaving: threading.Event,
    working: threading.Event,
    held: dict[str, float],
) -> bool:
    """Take the next run and train it, `working` meanwhile; False when there was none. Until when those that could not
    be worked on are left alone is kept in `held`: they keep their place in the queue, and others come before them."""
    working.clear()
    for id in [id for id, until in held.items() if time.monotonic() > until]:
        del held[id]
    try:
        job = store.take(name, except_for=SLICED, besides=held)
        if job is None:
            return False
        working.set()
        run = RunFolder(settings.runs_dir / job.id)
        with _ending_with(run, settings):
            outcome = take(run, settings, should_pause=leaving.is_set)
    except QueueUnreachableError:
        leaving.wait(PATIENCE_SECONDS)
        return False
    while True:
        try:
            if outcome == "over":
                store.finish(job.id, name)
            else:
                store.give_back(job.id, name)
            break
        except QueueUnreachableError:  # how it ended is in its folder; the queue must hear of it before the next one
            if leaving.wait(PATIENCE_SECONDS):
                break
    if outcome == "held":
        held[job.id] = time.monotonic() + PATIENCE_SECONDS
    return True


@contextlib.contextmanager
def _ending_with(run: RunFolder, settings: Settings) -> Iterator[None]:
    """Ends this process, which the supervisor sees, when the run does not end in its time and the overtime."""

    def end() -> None:
        log.error("run %s does not end; ending its process", run.path.name)
        run.note_worked(settings.max_run_seconds)  # or whoever takes it next would wait as long again
        os._exit(1)

    left = max(0.0, settings.max_run_seconds - run.seconds_worked())
    watchdog = threading.Timer(left + OVERTIME_SECONDS, end)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


def take(
    run: RunFolder, settings: Settings, *, should_pause: Callable[[], bool] = lambda: False
) -> Literal["over", "paused", "held"]:
    """Train `run` until it is over, or left because `should_pause` said so; "held" when another live process has it, or
    when the disk does not even take the news of how it ended: it is then to be tried again in a while."""
    try:
        if not run.claim():
            return "held" if run.path.exists() else "over"
        return "over" if run.over() else work(run, settings, should_pause=should_pause)
    except OSError:
        log.exception("nothing can be written about run %s", run.path.name)
        with contextlib.suppress(OSError):
            run.left_in_order()  # it is the disk that ends these attempts
        return "held" if run.path.exists() else "over"
    finally:
        run.release()


def work(
    run: RunFolder, settings: Settings, *, should_pause: Callable[[], bool] = lambda: False
) -> Literal["over", "paused"]:
    """Train one claimed run, every event into its log; an error becomes its last event."""
    events, started = EventLog(run.path), time.monotonic()
    try:
        if run.count_attempt() > MAX_ATTEMPTS:
            raise TrainingCrashedError(times=MAX_ATTEMPTS)
        written = 0.0
        for event in trained(run, settings, device=run.request().device, should_pause=should_pause):
            if isinstance(event, Paused):
                run.left_in_order()
                log.info("run %s left after %.1f s", run.path.name, time.monotonic() - started)
                return "paused"
            now = time.monotonic()
            if isinstance(event, Progress) and event.done < event.total and now - written < _EVENT_SECONDS:
                continue
            written = now
            events.append(event)
    except TLError as error:
        events.append(Failed.of(error))
    except Exception as error:
        if not run.path.exists():  # its owner deleted it meanwhile
            return "over"
        log.exception("run %s failed", run.path.name)
        events.append(Failed.of(disk.trouble(error, run.path) or error))
    log.info("run %s over after %.1f s", run.path.name, time.monotonic() - started)
    return "over"


def trained(
    run: RunFolder, settings: Settings, *, device: str, should_pause: Callable[[], bool] = lambda: False
) -> Iterator[Event]:
    """A closer look at the set, unless it was taken; then the training, left where `should_pause` says so, and ended
    with the best so far when it takes longer than a run may, those that worked on it before counted. Raises TLError."""
    from tl_core.review import review
    from tl_core.training.run import after, train

    request, too_long = run.request(), after(settings.max_run_seconds - run.seconds_worked())

    def should_stop() -> bool:
        return run.stop_asked() or too_long()

    folder = Path(request.set_folder)
    try:
        yield from review(folder, settings=settings, should_stop=should_stop)
        images = ready(load(folder, request.edits), settings)
    except FileNotFoundError as error:  # its owner deleted it while the run was waiting
        raise NothingTrainedError from error
    training = train(
        images,
        run.path,
        plan=request.plan,
        settings=settings,
        device=device,
        should_stop=should_stop,
        should_pause=should_pause,
    )
    for event in _counted(training, run):
        if isinstance(event, Finished) and too_long() and not run.stop_asked():
            yield notice("time_limit", minutes=max(1, settings.max_run_seconds // 60))
        yield event


def _counted(events: Iterator[Event], run: RunFolder) -> Iterator[Event]:
    """The same events; what they take is added to the time that the run has had, now and then and at the end."""
    before, started = run.seconds_worked(), time.monotonic()
    noted = started
    try:
        for event in events:
            if time.monotonic() - noted > _NOTED_SECONDS:
                noted = time.monotonic()
                run.note_worked(before + noted - started)
            yield event
    finally:
        run.note_worked(before + time.monotonic() - started)


if __name__ == "__main__":
    main()
