"""A run in slices of borrowed GPU time, as ZeroGPU Spaces lend it: each goes on where the one before was left.

Between slices a run is a folder and nothing else, so a refusal, a stop or a killed process costs what the slice had
done since its last checkpoint.
"""

import logging
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tl_core import disk
from tl_core.data.closer_look import CloserLook
from tl_core.errors import BorrowedTimeError, GpuInterruptedError, GpuQuotaError, TLError, TrainingCrashedError
from tl_core.events import Failed, Paused
from tl_core.jobs.heartbeat import beating
from tl_core.jobs.runs import REMOVED, EventLog, RunFolder
from tl_core.jobs.store import Store
from tl_core.queue_errors import QueueUnreachableError
from tl_core.settings import Settings, scrubbed_environment
from tl_core.training.plan import Plan

SLICED = "zerogpu"  # the device of a request that the ordinary worker leaves alone
_LOADING = 0.2  # of a slice goes into starting and saving
_LEAST = 15  # seconds: in less, little but starting is done
_STARTING = 8  # seconds that the first slice needs beside those of the plan
_WAIT = 0.5  # seconds between two looks at whose turn it is
_PATIENCE = 3.0  # seconds before the queue or the disk is tried again
_MAX_LOST = 3  # slices that die one after the other, until the run is given up
# What makes the library of ZeroGPU take part in a process.
_BORROWING = "SPACES_ZERO_GPU"
log = logging.getLogger("transfer_lab.slices")

Slice = Callable[[str, int], Literal["paused", "over"]]


def train_slice(path: str, seconds: float, settings: Settings) -> Literal["paused", "over"]:
    """Train the run in the folder `path` for a part of `seconds`, every event into its log; whether there is more to
    do. What goes wrong with the run is its last event."""
    from tl_core.jobs.worker import trained
    from tl_core.training.run import after

    run = RunFolder(Path(path))
    events, last = EventLog(run.path), None
    try:
        for event in trained(run, settings, device="auto", should_pause=after(seconds * (1 - _LOADING))):
            last = event
            if not isinstance(event, Paused):  # for the person it just goes on
                events.append(event)
    except TLError as error:
        events.append(Failed.of(error))
        return "over"
    except Exception as error:
        if (sentence := disk.trouble(error, run.path)) is None:
            raise
        events.append(Failed.of(sentence))
        return "over"
    return "paused" if isinstance(last, Paused) else "over"


def drive(run: RunFolder, run_slice: Slice, settings: Settings) -> None:
    """Run slices until the run is over or time is refused, which is then its last event. `run_slice` may raise
    BorrowedTimeError, and GpuInterruptedError for a slice that died."""
    if not run.claim():
        return
    events = EventLog(run.path)
    try:
        _look_closer(run)
        _drive(run, run_slice, settings)
    except (BorrowedTimeError, TrainingCrashedError) as error:
        events.append(Failed.of(error))
    except Exception as error:
        log.exception("run %s failed", run.path.name)
        events.append(Failed.of(disk.trouble(error, run.path) or error))
    finally:
        run.release()


def _drive(run: RunFolder, run_slice: Slice, settings: Settings) -> None:
    """Run slices until the run is over. Raises BorrowedTimeError and TrainingCrashedError."""
    most = settings.gpu_slice_seconds
    least, lost = min(_LEAST, most), 0
    seconds = max(least, min(most, asked_seconds(run.request().plan)))
    while True:
        try:
            if run_slice(str(run.path), seconds) == "over":
                return
            lost = 0
        except GpuQuotaError:
            if seconds <= least:
                raise
            seconds = max(least, seconds // 2)  # a shorter one may fit into what is left
        except GpuInterruptedError as error:
            lost += 1
            if lost == _MAX_LOST:
                raise TrainingCrashedError(times=_MAX_LOST) from error
            seconds = min(2 * seconds, 2 * most)  # it may have been ended for taking longer than it said


def asked_seconds(plan: Plan) -> int:
    """Of a GPU, for the whole run: by the plan's estimate, with what starting and saving take."""
    return math.ceil(_STARTING + (plan.seconds or 0.0) / (1 - _LOADING))


def drive_in_turn(run: RunFolder, run_slice: Slice, settings: Settings, store: Store, name: str) -> None:
    """Wait for the run's turn among its owner's, then drive it; `name` is what the queue calls whoever does so."""
    id = run.path.name
    try:
        while store.take(name, only=id) is None:
            job = store.find(id)
            if job is None or job.state == "over":
                return
            time.sleep(_WAIT)
    except QueueUnreachableError as error:
        _end(run, error)
        return
    with beating(store, name):
        try:
            drive(run, run_slice, settings)
        except OSError as error:  # not even why it ended could be written down
            log.exception("nothing can be written about run %s", id)
            _end(run, disk.trouble(error, run.path) or error)
    while True:
        try:
            store.finish(id, name)
            return
        except QueueUnreachableError:  # else the owner's other runs would wait for this one
            time.sleep(_PATIENCE)


def _end(run: RunFolder, error: Exception) -> None:
    """Make `error` the last word of a run that has none, as soon as the disk takes it: its page waits for one."""
    while run.path.exists() and not (run.path / REMOVED).exists():
        try:
            if not run.over():
                EventLog(run.path).append(Failed.of(error))
            return
        except OSError:
            time.sleep(_PATIENCE)


def release_orphans(settings: Settings, store: Store) -> None:
    """Sliced runs that a process which is gone was driving: they can be gone on with by their owner."""
    for job in (*store.running(), *store.waiting()):
        run = RunFolder(settings.runs_dir / job.id)
        if job.device == SLICED and run.free():
            if not run.over():  # only the queue had not heard of it
                EventLog(run.path).append(Failed.of(GpuInterruptedError()))
            store.withdraw(job.id)
            store.finish(job.id, job.worker)


def _look_closer(run: RunFolder) -> None:
    """Take the closer look on the processor, if it was not: it needs no GPU, so it must cost none."""
    folder = Path(run.request().set_folder)
    if CloserLook.load(folder) is None:
        environment = {name: value for name, value in scrubbed_environment().items() if name != _BORROWING}
        subprocess.run([sys.executable, "-m", "tl_core.review", str(folder)], env=environment, check=False)
