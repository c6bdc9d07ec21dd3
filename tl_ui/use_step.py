"""Step 4: try the model on new pictures, one or many, and take it home."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from tl_core.errors import OptionError, PictureError
from tl_ui.data_step import Memory
from tl_ui.handlers import speaks
from tl_ui.share_step import share_step
from tl_ui.words import language_of, say
from tl_ui.workspace import Workspace

_PICTURES = ["image", ".heic", ".heif", ".avif"]
# One prediction at a time: several at once would only take the processor from each other.
_PREDICT: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "minimal",
    "concurrency_id": "predict",
    "concurrency_limit": 1,
}


@dataclass(frozen=True)
class UseStep:
    """What the page's start needs of this step."""

    show: Callable[..., Any]
    outputs: list[Any]
    back: gr.Button
    start_over: gr.Button


def use_step(work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> UseStep:
    """Draw the step and wire its own buttons."""
    with gr.Tab(t("use.one")):
        one = gr.File(label=t("use.one_upload"), file_types=_PICTURES, elem_id="one-upload", height=120)
        with gr.Row():
            picture = gr.Image(
                label=t("use.picture"), interactive=False, elem_id="one-picture", height=280, buttons=[], visible=False
            )
            answer = gr.Label(label=t("use.answer"), num_top_classes=5, elem_id="one-answer", visible=False)
        gr.Markdown(t("use.answer_help"), elem_classes=["tl-quiet"])
    with gr.Tab(t("use.many"), elem_id="many-tab"):
        many = gr.File(
            label=t("use.many_upload"), file_types=_PICTURES, file_count="multiple", elem_id="many-upload", height=120
        )
        answers = gr.Dataframe(
            label=t("use.many_table"),
            interactive=False,
            visible=False,
            elem_id="many-answers",
        )
        csv = gr.DownloadButton(t("use.csv"), visible=False, elem_id="csv")
    gr.Markdown(t("use.download_help"), elem_classes=["tl-quiet"])
    download = gr.DownloadButton(t("use.download"), variant="primary", elem_id="download", interactive=False)
    share_step(work, t, memory)
    with gr.Row():
        back = gr.Button(t("nav.back"), elem_id="back-to-results")
        start_over = gr.Button(t("nav.start_over"), elem_id="start-over")

    def bundle_of(memory: Memory, request: gr.Request) -> Path:
        report = work.report(str(memory.get("run", "")))
        if report is None:
            raise gr.Error(say(language_of(request), "use.not_yet"), print_exception=False)
        return report.bundle

    @speaks
    def predict_one(file: str | None, memory: Memory, request: gr.Request) -> tuple[Any, Any]:
        if file is None:
            return gr.update(value=None, visible=False), gr.update(value=None, visible=False)
        predictor = work.predictor(bundle_of(memory, request))
        pixels = work.decode([Path(file)])[0]
        if isinstance(pixels, str):
            raise PictureError(name=Path(file).name, reason=say(language_of(request), f"skip.{pixels}"))
        ranking = dict(predictor.predict([pixels])[0].ranking)
        return gr.update(value=pixels, visible=True), gr.update(value=ranking, visible=True)

    @speaks
    def predict_many(files: list[str] | None, memory: Memory, request: gr.Request) -> tuple[Any, Any]:
        if not files:
            return gr.update(visible=False), gr.update(visible=False)
        if len(files) > work.settings.max_batch:
            limit = f"at most {work.settings.max_batch} at a time are needed"
            raise OptionError(option=say(language_of(request), "use.many"), found=len(files), needed=limit)
        return _table(work, bundle_of(memory, request), [Path(file) for file in files], language_of(request))

    @speaks
    def show(memory: Memory, request: gr.Request) -> Any:
        from tl_core.bundle.bundle import to_zip

        report = work.report(str(memory.get("run", "")))
        if report is None:
            return gr.update(interactive=False)
        work.warm_up()
        return gr.update(value=str(to_zip(report.bundle, work.export_path("my-classifier.zip"))), interactive=True)

    one.change(predict_one, [one, memory], [picture, answer], **_PREDICT)
    many.change(predict_many, [many, memory], [answers, csv], **_PREDICT)
    return UseStep(show, [download], back, start_over)


def _table(work: Workspace, bundle: Path, files: list[Path], language: str) -> tuple[Any, Any]:
    """Answers for many files, in their order, as table rows and as a CSV file to download."""
    from tl_core.bundle.table import predictions_csv

    predictor = work.predictor(bundle)
    decoded = work.decode(files)
    names = predictor.info.class_names
    found = iter(predictor.predict([d for d in decoded if not isinstance(d, str)], top_k=len(names)))
    results = [say(language, f"skip.{d}") if isinstance(d, str) else next(found) for d in decoded]
    named = [(file.name, result) for file, result in zip(files, results, strict=True)]
    path = work.export_path("predictions.csv")
    path.write_text(predictions_csv(named, names), encoding="utf-8")
    rows = [
        [name, result, ""] if isinstance(result, str) else [name, result.label, f"{result.confidence:.0%}"]
        for name, result in named
    ]
    headers = [say(language, f"use.col_{column}") for column in ("file", "class", "confidence")]
    return gr.update(value=rows, headers=headers, visible=True), gr.update(value=str(path), visible=True)
