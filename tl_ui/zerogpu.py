"""ZeroGPU Spaces: the visitor's own GPU minutes, asked for slice by slice through Hugging Face's `spaces` package.

`spaces` decides by the visitor's request whose minutes they are. It finds the request in the context of the event, so
the thread that drives a run is given a copy of that. A slice runs in a process that `spaces` forks; all that comes back
is a word, everything else is in the run's folder.
"""

import contextvars
import os
import threading
from collections.abc import Callable
from typing import Any

from tl_core.errors import BorrowedTimeError, GpuInterruptedError, GpuQuotaError, GpuUnavailableError
from tl_core.jobs.runs import RunFolder
from tl_core.jobs.slices import Slice, drive, release_orphans, train_slice
from tl_core.settings import Settings

ON_ZEROGPU = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
# By the titles of the package's errors (spaces/zero/client.py and wrappers.py, 0.51).
_REFUSALS: dict[str, type[BorrowedTimeError]] = {
    "ZeroGPU quota exceeded": GpuQuotaError,
    "ZeroGPU pending credits exceeded": GpuQuotaError,
    "ZeroGPU illegal duration": GpuQuotaError,
    "ZeroGPU queue timeout": GpuUnavailableError,
    "ZeroGPU client error": GpuUnavailableError,
}


class Borrower:
    """Drives runs on borrowed GPUs. Make one before the page is launched: `spaces` wants to know by then."""

    def __init__(self, settings: Settings) -> None:
        import spaces

        def asked(path: str, seconds: int) -> int:
            return seconds

        @spaces.GPU(duration=asked)
        def slice_of_gpu(path: str, seconds: int) -> str:
            return train_slice(path, seconds, settings)

        self._settings, self._run_slice = settings, _named(slice_of_gpu)
        release_orphans(settings)

    def start(self, run: RunFolder) -> None:
        """Drive the run from here on, on behalf of the visitor whose event this is."""
        context = contextvars.copy_context()
        work = (drive, run, self._run_slice, self._settings)
        threading.Thread(target=context.run, args=work, name="borrowed-gpu", daemon=True).start()


def _named(run_slice: Callable[..., Any]) -> Slice:
    """The package's refusals as errors of ours."""
    import gradio as gr

    def run(path: str, seconds: int) -> Any:
        try:
            return run_slice(path, seconds)
        except gr.Error as error:
            title = str(getattr(error, "title", ""))
            if title in _REFUSALS:
                raise _REFUSALS[title] from None
            raise GpuInterruptedError from None

    return run
