"""Keeps one training worker alive beside the web process, with nothing secret in its environment."""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

from tl_core.jobs.runs import READY, TROUBLE
from tl_core.settings import Settings, scrubbed_environment

_RESTART_SECONDS = 1.0
_STILLBORN = 3  # workers that died before they were ready, one after the other, until people are told
log = logging.getLogger("transfer_lab.supervisor")


class WorkerSupervisor:
    """Starts the worker and starts it again whenever it dies, until `close`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._closing = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name="worker-supervisor", daemon=True)

    def start(self) -> None:
        self._settings.data_dir.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def close(self) -> None:
        """End the worker and wait for it."""
        self._closing.set()
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
        self._thread.join(timeout=10)

    @property
    def pid(self) -> int | None:
        """The running worker's process id, for tests and operators."""
        return None if self._child is None or self._child.poll() is not None else self._child.pid

    def _watch(self) -> None:
        ready, stillborn = self._settings.data_dir / READY, 0
        while not self._closing.is_set():
            ready.unlink(missing_ok=True)
            self._child = self._spawn()
            status = self._child.wait()
            if self._closing.is_set():
                return
            stillborn = 0 if ready.exists() else stillborn + 1
            if stillborn == _STILLBORN:
                (self._settings.data_dir / TROUBLE).touch()
            log.warning("the training worker ended with status %s; starting another", status)
            self._closing.wait(_RESTART_SECONDS * (1 if stillborn < _STILLBORN else 10))

    def _spawn(self) -> "subprocess.Popen[bytes]":
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        environment = scrubbed_environment(PYTHONPATH=path, TL_DATA_DIR=str(self._settings.data_dir))
        return subprocess.Popen(
            [sys.executable, "-m", "tl_core.jobs.worker"], env=environment, stdin=subprocess.DEVNULL
        )
