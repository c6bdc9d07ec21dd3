"""What stands between a button and the core: errors become sentences, and nothing else reaches the person."""

import functools
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from tl_core import disk
from tl_core.errors import TLError
from tl_core.settings import Settings
from tl_ui.words import DEFAULT, error_sentence, language_of, say
from tl_ui.workspace import Memory, Workspace

log = logging.getLogger("transfer_lab.page")

# Every event of the page: not part of a public API, no spinner over the whole page.
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
# Following a run only waits; it must never make others wait.
FOLLOW: dict[str, Any] = {**PRIVATE, "concurrency_limit": None, "trigger_mode": "multiple"}
# One prediction at a time: several at once would only take the processor from each other.
PREDICT: dict[str, Any] = {
    **PRIVATE,
    "show_progress": "minimal",
    "concurrency_id": "predict",
    "concurrency_limit": 1,
}

# After Next, Back or a choice of pictures, what was pressed is gone: the keyboard goes on at the step's name, and the
# eye at the top.
TO_THE_STEP = """() => {
  const step = document.querySelector('#steps [role=tab][aria-selected=true]');
  step?.focus({preventScroll: true});
  window.scrollTo(0, 0);
}"""


def as_text(sentence: str) -> str:
    """`sentence` for a toast, which Gradio draws as HTML: no name in it becomes a tag. Programs are told the same, so
    it is not escaped but parted by a character without width."""
    return sentence.replace("<", "<\u200b")


def speaks(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A `TLError` of a plain handler becomes its sentence in a toast; anything else one fixed sentence with a code."""

    @functools.wraps(handler)
    def wrapped(*args: Any, **named: Any) -> Any:
        request = next((arg for arg in args if isinstance(arg, gr.Request)), None)
        language = language_of(request) if request is not None else DEFAULT
        try:
            return handler(*args, **named)
        except gr.Error:
            raise
        except TLError as error:
            raise gr.Error(as_text(error_sentence(language, error)), print_exception=False) from None
        except Exception as error:
            if (sentence := disk.trouble(error, Settings.from_environment().data_dir)) is not None:
                log.error("%s: %s", handler.__name__, sentence)
                raise gr.Error(as_text(error_sentence(language, sentence)), print_exception=False) from None
            code = secrets.token_hex(2)
            log.exception("bug %s in %s", code, handler.__name__)
            raise gr.Error(say(language, "error.bug", code=code), print_exception=False) from None

    return wrapped


def bundle_of(work: Workspace, memory: Memory, request: gr.Request) -> Path:
    """The bundle of the memory's run, or the sentence that there is none yet."""
    report = work.report(str(memory.get("run", "")))
    if report is None:
        raise gr.Error(say(language_of(request), "use.not_yet"), print_exception=False)
    return report.bundle
