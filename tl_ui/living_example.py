"""A finished model for the opening page, made here like anybody's: the digits example, trained once when somebody first
looks, kept like every run, and made again when it has gone."""

import json
import logging
import threading
import time
from pathlib import Path

from tl_core.errors import TLError
from tl_core.training.plan import Wishes
from tl_ui.run_report import Report
from tl_ui.workspace import Workspace

# In a checkout they lie at the top; a wheel brings them inside this package.
EXAMPLES = next(folder for parent in Path(__file__).parents[:2] if (folder := parent / "examples").is_dir())
OWNER = "example"  # nobody's key has this hash
_FILE = "example.json"  # in the data folder: the keys of its set and run
_NAME = "digits.zip"
_POLL_SECONDS, _PATIENCE_SECONDS, _RETRY_SECONDS = 0.2, 120.0, 600.0
log = logging.getLogger("transfer_lab.example")


class LivingExample:
    """The model; `wake` has it made where it is not there."""

    def __init__(self, work: Workspace) -> None:
        self._work, self._file = work, work.settings.data_dir / _FILE
        self._making: threading.Thread | None = None
        self._failed = float("-inf")
        self._lock = threading.Lock()

    def report(self) -> Report | None:
        """Its result and bundle; None while it is not made."""
        return self._work.report(self._key())

    def wake(self) -> None:
        """Have it made in the background, unless it is there or being made."""
        with self._lock:
            rested = time.monotonic() - self._failed > _RETRY_SECONDS
            if self.report() is None and not self._under_way() and rested:
                self._making = threading.Thread(target=self._make, name="living-example", daemon=True)
                self._making.start()

    def _under_way(self) -> bool:
        """Whether it is being made, or waits for a trainer that is busy."""
        if self._making is not None and self._making.is_alive():
            return True
        run = self._work.run(self._key())
        return run is not None and not run.over()

    def _key(self) -> str:
        """Of its run; "" where there is none."""
        try:
            return str(json.loads(self._file.read_text(encoding="utf-8"))["run"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def wait(self) -> Report | None:
        """The result, waited for; None when there will be none for now."""
        self.wake()
        end = time.monotonic() + _PATIENCE_SECONDS
        while (found := self.report()) is None and time.monotonic() < end:
            if not self._under_way():
                return self.report()
            time.sleep(_POLL_SECONDS)
        return found

    def _make(self) -> None:
        try:
            taken = self._work.sets.take([(_NAME, EXAMPLES / _NAME)], _NAME, owner=OWNER)
            end = time.monotonic() + _PATIENCE_SECONDS
            while self._work.sets.images(taken) is None and time.monotonic() < end:
                time.sleep(_POLL_SECONDS)
            try:
                key = self._work.start(taken, Wishes(), "cpu", owner=OWNER)
            except TLError:
                self._work.sets.remove(taken)
                raise
            if key is None:
                return
            temporary = self._file.with_suffix(".tmp")
            temporary.write_text(json.dumps({"set": taken, "run": key}), encoding="utf-8")
            temporary.replace(self._file)
            run = self._work.run(key)
            while run is not None and not run.over() and time.monotonic() < end:
                time.sleep(_POLL_SECONDS)
            if run is not None and run.over() and self.report() is None:
                self._failed = time.monotonic()
        except (TLError, OSError) as error:
            self._failed = time.monotonic()
            log.warning("the example could not be made: %s", error)
