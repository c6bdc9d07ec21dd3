"""What people who wait are told: how many are before them, and about how long that takes."""

import threading
import time
from dataclasses import dataclass

from tl_core.events import Progress
from tl_core.jobs.runs import EventLog, RunFolder
from tl_core.jobs.store import Job, Store
from tl_core.queue_errors import QueueUnreachableError
from tl_core.settings import Settings

_FRESH_SECONDS = 0.5  # pages that ask within it share one look at the queue


@dataclass(frozen=True)
class Place:
    """Where a run stands: runs `ahead` of it, and the `seconds` until its turn, None while unknown."""

    ahead: int = 0
    seconds: float | None = None


class Line:
    """The queue, looked at for many pages at once."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._waiting: list[Job] = []
        self._running: list[Job] = []

    def place(self, run: RunFolder) -> Place:
        """Where `run` stands; the first place, once it does not wait any more or the queue cannot be asked."""
        with self._lock:
            self._look()
            waiting, running = self._waiting, self._running
        at = next((n for n, job in enumerate(waiting) if job.id == run.path.name), None)
        if at is None:
            return Place()
        before = sum(job.seconds for job in waiting[:at]) + sum(self._left(job) for job in running)
        return Place(at + len(running), before / max(1, len(running)) if running or at else None)

    def _look(self) -> None:
        if time.monotonic() - self._looked < _FRESH_SECONDS:
            return
        try:
            self._waiting, self._running = self._store.waiting(), self._store.running()
        except QueueUnreachableError:
            pass  # what was known last is the best there is
        self._looked = time.monotonic()

    def _left(self, job: Job) -> float:
        """Seconds that a run which is being trained still needs, by its own word."""
        told = [event for event in EventLog(self._settings.runs_dir / job.id).new() if isinstance(event, Progress)]
        left = told[-1].seconds_left if told else None
        return job.seconds if left is None else left
