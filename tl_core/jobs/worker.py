"""The process that trains. It imports torch once, measures this machine, then takes queued runs in turn.

    python -m tl_core.jobs.worker

It ends when its parent does. If it dies during a run, the next worker finds the run claimed but not over and takes it
again: features are cached, so little is lost; after three deaths the run is given up with a sentence.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tl_core.data.understand import load, ready
from tl_core.errors import NothingTrainedError, TLError, TrainingCrashedError
from tl_core.events import Event, Failed, Progress
from tl_core.jobs.runs import ATTEMPTS, READY, TROUBLE, EventLog, RunFolder, abandoned, queued
from tl_core.jobs.slices import SLICED
from tl_core.settings import Settings

MAX_ATTEMPTS = 3
_POLL_SECONDS = 0.15
_EVENT_SECONDS = 0.1  # progress more often than this is not written
log = logging.getLogger("transfer_lab.worker")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    settings, parent = Settings.from_environment(), os.getppid()
    from tl_core.doctor import probe
    from tl_core.training import run as _  # noqa: F401  imported now, so that the first run starts at once

    (settings.data_dir / READY).write_text(str(os.getpid()))
    (settings.data_dir / TROUBLE).unlink(missing_ok=True)
    for run in abandoned(settings):
        if run.request().device != SLICED:
            take(run, settings)
    probe(settings)
    while os.getppid() == parent:
        mine = [run for run in queued(settings) if run.request().device != SLICED]
        if not any(take(run, settings) for run in mine[:1]):
            time.sleep(_POLL_SECONDS)


def take(run: RunFolder, settings: Settings) -> bool:
    """Train `run` unless another live worker has it or it is over. False when there was nothing to do."""
    if not run.claim():
        return False
    try:
        if run.over():
            return False
        work(run, settings)
        return True
    finally:
        run.release()


def work(run: RunFolder, settings: Settings) -> None:
    """Train one claimed run, every event into its log; an error becomes its last event."""
    events, started = EventLog(run.path), time.monotonic()
    attempt = _count_attempt(run)
    try:
        if attempt > MAX_ATTEMPTS:
            raise TrainingCrashedError(times=MAX_ATTEMPTS)
        written = 0.0
        for event in trained(run, settings, device=run.request().device):
            now = time.monotonic()
            if isinstance(event, Progress) and event.done < event.total and now - written < _EVENT_SECONDS:
                continue
            written = now
            events.append(event)
    except TLError as error:
        events.append(Failed.of(error))
    except Exception:
        if not run.path.exists():  # its owner deleted it meanwhile
            return
        log.exception("run %s failed", run.path.name)
        events.append(Failed("bug", "Something went wrong on our side. Your pictures were not the cause."))
    log.info("run %s over after %.1f s", run.path.name, time.monotonic() - started)


def trained(run: RunFolder, settings: Settings, *, device: str, seconds: float | None = None) -> Iterator[Event]:
    """A closer look at the set, unless it was taken; then the training, for `seconds` where given. Raises TLError."""
    from tl_core.review import review
    from tl_core.training.run import train

    request, stop = run.request(), run.stop_asked
    folder = Path(request.set_folder)
    try:
        yield from review(folder, settings=settings, should_stop=stop)
        images = ready(load(folder, request.edits), settings)
    except FileNotFoundError as error:  # its owner deleted it while the run was waiting
        raise NothingTrainedError from error
    plan = request.plan
    yield from train(images, run.path, plan=plan, settings=settings, device=device, should_stop=stop, seconds=seconds)


def _count_attempt(run: RunFolder) -> int:
    with (run.path / ATTEMPTS).open("a+") as file:
        file.write("x")
        return file.tell()


if __name__ == "__main__":
    main()
