"""Part of step 1: a model made earlier, from its zip or from the Hub, to be used or trained on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from tl_core.errors import TLError
from tl_ui import figures
from tl_ui.handlers import PRIVATE, as_text
from tl_ui.remembered import owner_of
from tl_ui.words import error_sentence, language_of, say
from tl_ui.workspace import Memory, Workspace

_OPEN: dict[str, Any] = {**PRIVATE, "concurrency_id": "open", "concurrency_limit": 2}


class OpenStep:
    """Draws the accordion and wires its button; `opened` is the event after which the memory names the model."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._work = work
        with gr.Accordion(t("open.title"), open=False, elem_id="open"):
            file = gr.File(label=t("open.file"), file_types=[".zip"], elem_id="open-file", height=110)
            repo = gr.Textbox(label=t("open.repo"), info=t("open.repo_info"), max_length=200, elem_id="open-repo")
            token = gr.Textbox(label=t("open.token"), type="password", max_length=300, elem_id="open-token")
            button = gr.Button(t("open.open"), elem_id="open-open")
            told = gr.HTML(elem_id="open-told")
        self.opened = button.click(self.open, [file, repo, token, memory], [told, memory, token], **_OPEN)

    def open(
        self, file: str | None, repo: str, token: str, memory: Memory, request: gr.Request
    ) -> Iterator[tuple[Any, Any, Any]]:
        """Open what was given; the memory then names it as a run, and as what training may go on from."""
        language = language_of(request)
        try:
            if not file and not str(repo).strip():
                raise gr.Error(say(language, "open.nothing"), print_exception=False)
            given = Path(file) if file else None
            for step in self._work.open_model(given, str(repo), token=str(token).strip(), owner=owner_of(memory)):
                if isinstance(step, str):
                    done = {**memory, "run": step, "base": step, "set": ""}
                    yield figures.message("good", say(language, "open.done")), done, ""
                else:
                    label = say(language, f"stage.{step.stage}")
                    yield figures.progress_bar(step.done / max(1, step.total), label, label), gr.skip(), gr.skip()
        except TLError as error:  # the event fails, so that the page stays where it is
            raise gr.Error(as_text(error_sentence(language, error)), print_exception=False) from None
