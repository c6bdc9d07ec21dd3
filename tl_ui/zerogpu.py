"""ZeroGPU Spaces: the visitor's own GPU minutes, asked for slice by slice through Hugging Face's `spaces` package.

`spaces` decides by the visitor's request whose minutes they are. It finds the request in the context of the event, so
the thread that drives a run is given a copy of that. A slice runs in a process that `spaces` forks; all that comes back
is a word, everything else is in the run's folder.
"""

import contextvars
import logging
import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tl_core.errors import BorrowedTimeError, GpuInterruptedError, GpuQuotaError, GpuUnavailableError
from tl_core.jobs.runs import RunFolder
from tl_core.jobs.slices import Slice, asked_seconds, drive_in_turn, release_orphans, train_slice
from tl_core.jobs.store import Store
from tl_core.settings import Settings
from tl_core.training.plan import Plan

ON_ZEROGPU = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
# By the titles of the package's errors (spaces/zero/client.py and wrappers.py, 0.51).
_REFUSALS: dict[str, type[BorrowedTimeError]] = {
    "ZeroGPU quota exceeded": GpuQuotaError,
    "ZeroGPU pending credits exceeded": GpuQuotaError,
    "ZeroGPU illegal duration": GpuQuotaError,
    "ZeroGPU queue timeout": GpuUnavailableError,
    "ZeroGPU client error": GpuUnavailableError,
}
# Visitors without a token are told of both in one title; this is how the one begins.
_BUSY = "No GPU was available"
# Seconds a day by account, and how many are counted for one at most (huggingface.co/docs/hub/spaces-zerogpu and the
# package's configs.json, both of 2026).
_DAILY = {"anonymous": 120, "free": 300, "pro": 2_400}
_COUNTED = 1.5
log = logging.getLogger("transfer_lab.zerogpu")


def account_for(plan: Plan) -> str:
    """The least account whose GPU time of one day the whole run should fit into, or "none"."""
    needed = asked_seconds(plan) * _COUNTED
    return next((account for account, seconds in _DAILY.items() if needed <= seconds), "none")


class Borrower:
    """Drives runs on borrowed GPUs. Make one before the page is launched: `spaces` wants to know by then.

    `settings` are those of runs on the GPU, whose speeds are remembered apart from the processor's.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        import spaces

        settings = replace(settings, speeds=Path("machine-gpu.json"))

        def asked(path: str, seconds: int) -> int:
            return seconds

        @spaces.GPU(duration=asked)
        def slice_of_gpu(path: str, seconds: int) -> str:
            return train_slice(path, seconds, settings)

        self.settings, self._store, self._run_slice = settings, store, _named(slice_of_gpu)
        release_orphans(settings, store)

    def start(self, run: RunFolder) -> None:
        """Drive the run from here on, on behalf of the visitor whose event this is."""
        context = contextvars.copy_context()
        name = f"borrowed-{secrets.token_hex(8)}"
        work = (drive_in_turn, run, self._run_slice, self.settings, self._store, name)
        threading.Thread(target=context.run, args=work, name="borrowed-gpu", daemon=True).start()


def _named(run_slice: Callable[..., Any]) -> Slice:
    """The package's refusals as errors of ours."""
    import gradio as gr

    def run(path: str, seconds: int) -> Any:
        try:
            return run_slice(path, seconds)
        except gr.Error as error:
            title = str(getattr(error, "title", ""))
            if str(error.message).startswith(_BUSY):
                raise GpuUnavailableError from None
            if title in _REFUSALS:
                raise _REFUSALS[title] from None
            raise GpuInterruptedError from None
        except Exception:  # what the package says of its own service; a slice's own errors are a gr.Error
            log.exception("no GPU was lent")
            raise GpuUnavailableError from None

    return run
