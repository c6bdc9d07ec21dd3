"""Step 3: how good it is, how far to trust that, and the mistakes as pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from tl_core.data.imageset import RGB, ImageSet
from tl_core.data.pixels import PixelStore
from tl_core.evaluation.metrics import Evaluation
from tl_ui import figures, panel
from tl_ui.data_step import Memory
from tl_ui.handlers import speaks
from tl_ui.words import language_of, say
from tl_ui.workspace import Workspace, thumbnail


@dataclass(frozen=True)
class ResultsStep:
    """What other steps and the page's start need of this one."""

    show: Callable[..., Any]
    outputs: list[Any]
    back: gr.Button
    to_next: gr.Button


def results_step(work: Workspace, t: gr.I18n) -> ResultsStep:
    """Draw the step; it is filled by `show` when the person gets there."""
    headline = gr.HTML(elem_id="headline")
    mistakes_note = gr.HTML(elem_id="mistakes-note")
    mistakes = gr.Gallery(
        label=t("results.mistakes"),
        columns=4,
        height="auto",
        visible=False,
        elem_id="mistakes",
        buttons=[],
        format="jpeg",
    )
    details = gr.HTML(elem_id="details")
    to_next = gr.Button(t("nav.to_use"), variant="primary", elem_id="to-use")
    back = gr.Button(t("nav.back"), elem_id="back-to-train")

    @speaks
    def show(memory: Memory, request: gr.Request) -> tuple[Any, ...]:
        language = language_of(request)
        report, images = work.report(str(memory.get("run", ""))), work.images(str(memory.get("set", "")))
        if report is None:
            return figures.message("info", say(language, "use.not_yet")), "", gr.update(visible=False), ""
        scores = report.evaluation
        pictures = _mistakes(scores, images, language) if images is not None else []
        note = "" if scores.mistakes else figures.message("good", say(language, "results.no_mistakes"))
        gallery = gr.update(value=pictures, visible=bool(pictures))
        return panel.headline(scores, language), note, gallery, panel.details(scores, language)

    return ResultsStep(show, [headline, mistakes_note, mistakes, details], back, to_next)


def _mistakes(scores: Evaluation, images: ImageSet, language: str) -> list[tuple[RGB, str]]:
    store = PixelStore(images)
    return [
        (
            thumbnail(store[mistake.picture]),
            say(
                language,
                "results.mistake",
                truth=scores.class_names[mistake.truth],
                predicted=scores.class_names[mistake.predicted],
                confidence=round(100 * mistake.confidence),
            ),
        )
        for mistake in scores.mistakes
    ]
