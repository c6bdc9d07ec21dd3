"""Part of step 4: the model as a web page, a Python program, an ONNX file …, each checked before it is offered."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from tl_core.errors import TLError
from tl_core.exports.record import KINDS, Export
from tl_ui import figures
from tl_ui.handlers import PRIVATE
from tl_ui.words import error_sentence, language_of, say
from tl_ui.workspace import Memory, Workspace

# One at a time takes half a minute of a processor; who comes second waits.
_EXPORT: dict[str, Any] = {**PRIVATE, "concurrency_id": "export", "concurrency_limit": 2}


class ExportStep:
    """Draws the accordion and wires its button."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._work = work
        with gr.Accordion(t("export.title"), open=False, elem_id="exports"):
            kinds = [(t(f"export.{kind}"), kind) for kind in ("web", "script", "onnx", "int8", "litert", "coreml")]
            assert {kind for _, kind in kinds} == set(KINDS)
            kind = gr.Radio(kinds, value="web", label=t("export.which"), elem_id="export-kind")
            button = gr.Button(t("export.make"), elem_id="export-make")
            told = gr.HTML(elem_id="export-told")
            file = gr.DownloadButton(t("export.download"), visible=False, elem_id="export-download")
        button.click(self.make, [kind, memory], [told, file, button], **_EXPORT)
        kind.change(lambda: ("", gr.update(visible=False)), None, [told, file], **PRIVATE)

    def make(self, kind: str, memory: Memory, request: gr.Request) -> Iterator[tuple[Any, Any, Any]]:
        """Make and check one form of the run's model; then its download and how well it agrees."""
        language, nothing = language_of(request), gr.update(visible=False)
        wanted = next((known for known in KINDS if known == kind), None)
        report = self._work.report(str(memory.get("run", "")))
        if wanted is None or report is None:
            yield figures.message("bad", say(language, "use.not_yet")), nothing, gr.update()
            return
        try:
            for step in self._work.export(str(memory.get("run", "")), wanted):
                if not isinstance(step, Export):
                    name = say(language, f"stage.{step.stage}")
                    count = "" if step.total <= 1 else f": {step.done} / {step.total}"
                    bar = figures.progress_bar(step.done / max(1, step.total), name + count, name)
                    yield bar, nothing, gr.update(interactive=False)
                    continue
                file = nothing
                if step.file:
                    file = gr.update(value=str(self._work.downloads.copy(report.id, Path(step.file))), visible=True)
                yield _told(step, language), file, gr.update(interactive=True)
        except TLError as error:
            yield figures.message("bad", error_sentence(language, error)), nothing, gr.update(interactive=True)


def _told(export: Export, language: str) -> str:
    """How well it agrees with the app, or why it is not offered."""
    found = export.agreement
    numbers = ""
    if found is not None:
        key = "export.agree" if found.yours else "export.agree_drawn"
        difference = "< 0.001" if found.largest < 0.001 else f"{found.largest:.3f}"
        numbers = say(language, key, agree=found.agree, compared=found.compared, difference=difference)
    if export.file:
        return figures.message("good", f"{numbers} {say(language, f'export.{export.kind}_help')}")
    why = say(language, f"export_problem.{export.problem}")
    return figures.message("warn", " ".join(filter(None, (say(language, "export.refused", why=why), numbers))))
