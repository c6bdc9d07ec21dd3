"""Keeps one training worker alive beside the web process, with nothing secret in its environment; and gives runs whose
worker is gone, here or elsewhere, their turn again."""

import contextlib
import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path

from tl_core.jobs.heartbeat import Watch
from tl_core.jobs.runs import TROUBLE, WORKERS, RunFolder
from tl_core.jobs.store import Store
from tl_core.queue_errors import QueueUnreachableError
from tl_core.settings import Settings, scrubbed_environment

_RESTART_SECONDS = 1.0
_STILLBORN = 3  # workers that died before they were ready, one after the other, until people are told
_LOOK_SECONDS = 0.5
_HANG_SECONDS = 22.0  # that a worker's process may give no sign of life
_LEAVING_SECONDS = 5.0  # that a worker is given to leave its run in order
log = logging.getLogger("transfer_lab.supervisor")


class WorkerSupervisor:
    """Starts the worker, and starts it again whenever it dies or its process is frozen, until `close`. Work
    that never ends is ended by its own process: signs of life come from a thread beside it."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self._closing = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._watch = Watch()
        self._thread = threading.Thread(target=self._keep, name="worker-supervisor", daemon=True)

    def start(self) -> None:
        self._settings.data_dir.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def close(self) -> None:
        """Let the worker leave its run in order, and end it."""
        self._closing.set()
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(timeout=_LEAVING_SECONDS)
            except subprocess.TimeoutExpired:  # what it did last is as safe as in any crash
                self._child.kill()
        self._thread.join(timeout=10)

    @property
    def pid(self) -> int | None:
        """The running worker's process id, for tests and operators."""
        return None if self._child is None or self._child.poll() is not None else self._child.pid

    @property
    def healthy(self) -> bool:
        """Whether training can be expected to work."""
        return self._thread.is_alive() and not (self._settings.data_dir / TROUBLE).exists()

    def _keep(self) -> None:
        stillborn = 0
        while not self._closing.is_set():
            try:
                lived = self._one_life()
                if self._closing.is_set():
                    return
                stillborn = 0 if lived else stillborn + 1
                if stillborn == _STILLBORN:
                    (self._settings.data_dir / TROUBLE).touch()
            except OSError:  # a disk that fails, or no room for one more process: the next may do better
                log.exception("the training worker could not be kept")
            self._closing.wait(_RESTART_SECONDS * (1 if stillborn < _STILLBORN else 10))

    def _one_life(self) -> bool:
        """Start a worker and wait for its end; whether it had become ready."""
        name = secrets.token_hex(8)
        heart = self._settings.data_dir / WORKERS / name
        self._child = self._spawn(name)
        status = self._wait(self._child, heart)
        self._lost(name)
        if not self._closing.is_set():
            log.warning("the training worker ended with status %s; starting another", status)
        lived = heart.exists()
        with contextlib.suppress(OSError):  # the sweep finds it
            heart.unlink(missing_ok=True)
        return lived

    def _wait(self, child: "subprocess.Popen[bytes]", heart: Path) -> int:
        """Wait until the worker ends; one that is frozen is ended."""
        last, since = 0, time.monotonic()
        while True:
            try:
                return child.wait(timeout=_LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                beat, now = _beat_of(heart), time.monotonic()
                if beat != last or beat == 0:
                    last, since = beat, now
                elif now - since > _HANG_SECONDS:
                    log.warning("the training worker gives no sign of life; ending it")
                    child.kill()
                self._look_around()

    def _look_around(self) -> None:
        """Runs whose worker is gone without anybody having noticed, as of another machine, are queued again."""
        try:
            for job in self._watch.stale(self._store):
                if RunFolder(self._settings.runs_dir / job.id).free():
                    log.warning("run %s was left by its worker; it is queued again", job.id)
                    self._store.give_back(job.id, job.worker)
        except (OSError, QueueUnreachableError):  # the next look comes soon
            pass

    def _lost(self, name: str) -> None:
        """The worker of that name is gone: what it did is queued again, as soon as the queue answers."""
        while True:
            try:
                self._store.lost(name)
                return
            except QueueUnreachableError:
                if self._closing.wait(_RESTART_SECONDS):
                    return  # whoever starts next notices

    def _spawn(self, name: str) -> "subprocess.Popen[bytes]":
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        command, more = self._program(name)
        more = {"PYTHONPATH": path, **more}
        if self._settings.database_url:  # the worker runs no stranger's code, and takes its runs from there
            more["TL_DATABASE_URL"] = self._settings.database_url
        command = [sys.executable, "-m", *command]
        return subprocess.Popen(command, env=scrubbed_environment(**more), stdin=subprocess.DEVNULL)

    def _program(self, name: str) -> tuple[list[str], dict[str, str]]:
        """The module that works under `name`, its arguments, and what its environment has beside everybody's."""
        return ["tl_core.jobs.worker", name], {"TL_DATA_DIR": str(self._settings.data_dir)}


def _beat_of(heart: Path) -> int:
    """The last sign of life, as a number that only ever changes; 0 while there was none."""
    try:
        return heart.stat().st_mtime_ns
    except OSError:
        return 0
