"""Step 4: try the model on new pictures, one or many, and take it home."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from tl_core.errors import OptionError, PictureError
from tl_ui import figures
from tl_ui.export_step import ExportStep
from tl_ui.handlers import PRIVATE, speaks
from tl_ui.share_step import ShareStep
from tl_ui.words import language_of, say
from tl_ui.workspace import Memory, Workspace

if TYPE_CHECKING:  # the page starts without torch
    from tl_core.bundle.predictor import Prediction

_PICTURES = ["image", ".heic", ".heif", ".avif"]
_COLUMNS = ("file", "class", "confidence")
# One prediction at a time: several at once would only take the processor from each other.
_PREDICT: dict[str, Any] = {
    **PRIVATE,
    "show_progress": "minimal",
    "concurrency_id": "predict",
    "concurrency_limit": 1,
}


class UseStep:
    """Draws the step and wires its own buttons; `show` gets the download of the memory's run ready."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._work = work
        with gr.Tab(t("use.one")):
            one = gr.File(
                label=t("use.one_upload"), show_label=False, file_types=_PICTURES, elem_id="one-upload", height=150
            )
            with gr.Row():
                picture = gr.Image(
                    label=t("use.picture"),
                    height=280,
                    buttons=[],
                    visible=False,
                    interactive=False,
                    elem_id="one-picture",
                )
                with gr.Column():
                    strange = gr.HTML(elem_id="one-strange")
                    answer = gr.Label(label=t("use.answer"), num_top_classes=5, visible=False, elem_id="one-answer")
        with gr.Tab(t("use.many"), elem_id="many-tab"):
            many = gr.File(
                label=t("use.many_upload"),
                show_label=False,
                file_types=_PICTURES,
                file_count="multiple",
                elem_id="many-upload",
                height=150,
            )
            answers = gr.HTML(elem_id="many-answers")
            csv = gr.DownloadButton(t("use.csv"), visible=False, elem_id="csv")
        gr.Markdown(t("use.answer_help"), elem_classes=["tl-quiet"])
        self.download = gr.DownloadButton(t("use.download"), variant="primary", elem_id="download", interactive=False)
        gr.Markdown(t("use.download_help"), elem_classes=["tl-quiet"])
        ExportStep(work, t, memory)
        self._share = ShareStep(work, t, memory)
        self.outputs = [self.download, self._share.licence]
        with gr.Row():
            self.back = gr.Button(t("nav.back"), elem_id="back-to-results")
            self.further = gr.Button(t("use.further"), elem_id="train-further")
            self.start_over = gr.Button(t("nav.start_over"), elem_id="start-over")

        one.change(self.predict_one, [one, memory], [picture, strange, answer], **_PREDICT)
        many.change(self.predict_many, [many, memory], [answers, csv], **_PREDICT)

    @speaks
    def predict_one(self, file: str | None, memory: Memory, request: gr.Request) -> tuple[Any, Any, Any]:
        """One picture, whether it is like anything that was taught, and what the model sees in it."""
        if file is None:
            return gr.update(value=None, visible=False), "", gr.update(value=None, visible=False)
        predictor = self._work.predictor(self._bundle(memory, request))
        pixels = self._work.decode([Path(file)])[0]
        if isinstance(pixels, str):
            raise PictureError(name=Path(file).name, reason=say(language_of(request), f"skip.{pixels}"))
        found = predictor.predict([pixels])[0]
        note = figures.message("warn", say(language_of(request), "use.strange")) if found.strange else ""
        return gr.update(value=pixels, visible=True), note, gr.update(value=dict(found.ranking), visible=True)

    @speaks
    def predict_many(self, files: list[str] | None, memory: Memory, request: gr.Request) -> tuple[Any, Any]:
        """Answers for many files, in their order, as a table and as a CSV file to download."""
        if not files:
            return "", gr.update(visible=False)
        language, limit = language_of(request), self._work.settings.max_batch
        if len(files) > limit:
            needed = say(language, "use.many_limit", limit=limit)
            raise OptionError(option=say(language, "use.many"), found=len(files), needed=needed)
        paths = [Path(file) for file in files]
        names, results = self._work.predict_files(self._bundle(memory, request), paths)
        named = [
            (path.name, say(language, f"skip.{result}") if isinstance(result, str) else result)
            for path, result in zip(paths, results, strict=True)
        ]
        rows = [
            [name, result, ""] if isinstance(result, str) else [name, result.label, _sure(result, language)]
            for name, result in named
        ]
        headers = [say(language, f"use.col_{column}") for column in _COLUMNS]
        table = self._work.export_csv(named, names)
        return figures.answers_table(headers, rows), gr.update(value=str(table), visible=True)

    @speaks
    def show(self, memory: Memory, request: gr.Request) -> tuple[Any, Any]:
        """The download button with the run's zip behind it, and the licences to choose from."""
        report = self._work.report(str(memory.get("run", "")))
        if report is None:
            return gr.update(interactive=False), gr.update()
        self._work.warm_up()
        download = gr.update(value=str(self._work.export_bundle(report.bundle)), interactive=True)
        return download, self._share.choices(memory)

    def _bundle(self, memory: Memory, request: gr.Request) -> Path:
        report = self._work.report(str(memory.get("run", "")))
        if report is None:
            raise gr.Error(say(language_of(request), "use.not_yet"), print_exception=False)
        return report.bundle


def _sure(found: "Prediction", language: str) -> str:
    """How sure the model is of its answer, in a word or two."""
    return say(language, "use.strange_short") if found.strange else f"{found.confidence:.0%}"
