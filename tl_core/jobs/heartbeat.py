"""Signs of life: given by whoever works on runs, and watched by the others. They are those of a process, from a thread
beside its work: one that died or is frozen is noticed. Work that never ends is ended by its own process (worker.py)."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tl_core.jobs.store import Job, Store
from tl_core.queue_errors import QueueUnreachableError

STALE_SECONDS = 30.0  # without a sign of life
_BEAT_SECONDS = 5.0
_PARTING_SECONDS = 1.0
log = logging.getLogger("transfer_lab.heartbeat")


@contextlib.contextmanager
def beating(store: Store, name: str, heart: Path | None = None) -> Iterator[None]:
    """Meanwhile tell the queue that `name` is alive, and a supervisor by the time of the file `heart`."""
    done = threading.Event()

    def beat() -> None:
        while True:
            try:
                if heart is not None:
                    heart.touch()
                store.beat(name)
            except (OSError, QueueUnreachableError):
                log.warning("no sign of life could be given")
            if done.wait(_BEAT_SECONDS):
                return

    if heart is not None:
        heart.parent.mkdir(parents=True, exist_ok=True)
    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=_PARTING_SECONDS)  # a queue that does not answer holds nobody up


class Watch:
    """Notices workers that give no sign of life any more, by this process's own sense of time."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[int, float]] = {}

    def stale(self, store: Store) -> list[Job]:
        """Runs that are running by the queue's word but have not been heard of for `STALE_SECONDS`. While the queue
        does not answer, nothing can be said of anybody, so counting begins anew. Raises QueueUnreachableError."""
        try:
            running = store.running()
        except QueueUnreachableError:
            self._seen.clear()
            raise
        now, before = time.monotonic(), self._seen
        self._seen = {}
        found = []
        for job in running:
            name = (job.id, job.worker)
            beats, since = before.get(name, (-1, now))
            self._seen[name] = (job.beats, now if beats != job.beats else since)
            if now - self._seen[name][1] > STALE_SECONDS:
                found.append(job)
        return found
