"""Step 3: how good it is, how far to trust that, and the mistakes as pictures."""

from typing import Any

import gradio as gr

from tl_core.data.imageset import RGB, ImageSet
from tl_core.data.pixels import PixelStore
from tl_core.evaluation.metrics import Evaluation
from tl_ui import figures, panel
from tl_ui.handlers import speaks
from tl_ui.thumbnails import thumbnail
from tl_ui.words import language_of, say
from tl_ui.workspace import Memory, Workspace

_MISTAKES_SHOWN = 12


class ResultsStep:
    """Draws the step; `show` fills `outputs` from the run that the memory names."""

    def __init__(self, work: Workspace, t: gr.I18n) -> None:
        self._work = work
        headline = gr.HTML(elem_id="headline")
        self.to_next = gr.Button(t("nav.to_use"), variant="primary", elem_id="to-use")
        note = gr.HTML(elem_id="mistakes-note")
        mistakes = gr.Gallery(
            label=t("results.mistakes"),
            show_label=False,
            columns=4,
            visible=False,
            elem_id="mistakes",
            buttons=[],
            format="jpeg",
        )
        details = gr.HTML(elem_id="details")
        self.back = gr.Button(t("nav.back"), elem_id="back-to-train")
        self.outputs = [headline, note, mistakes, details]

    @speaks
    def show(self, memory: Memory, request: gr.Request) -> tuple[Any, ...]:
        """The result of the run, or a sentence that there is none yet."""
        language = language_of(request)
        report = self._work.report(str(memory.get("run", "")))
        if report is None:
            return figures.message("info", say(language, "use.not_yet")), "", gr.update(visible=False), ""
        scores, images = report.evaluation, self._work.images_of(str(memory.get("run", "")))
        pictures = _mistakes(scores, images, language) if images is not None else []
        note = figures.message("good", say(language, "results.no_mistakes"))
        if scores.mistakes and images is None:
            note = figures.message("info", say(language, "results.no_pictures"))
        elif scores.mistakes:
            note = figures.heading(say(language, "results.mistakes"))
        gallery = gr.update(value=pictures, visible=bool(pictures))
        headline = panel.headline(scores, language)
        if report.went_on:
            headline += figures.message("info", say(language, "results.went_on"))
        return headline, note, gallery, panel.details(scores, language)


def _mistakes(scores: Evaluation, images: ImageSet, language: str) -> list[tuple[RGB, str]]:
    store, shown = PixelStore(images), []
    for mistake in scores.mistakes[:_MISTAKES_SHOWN]:
        truth, predicted = scores.class_names[mistake.truth], scores.class_names[mistake.predicted]
        confidence = round(100 * mistake.confidence)
        caption = say(language, "results.mistake", truth=truth, predicted=predicted, confidence=confidence)
        shown.append((thumbnail(store[mistake.picture]), caption))
    return shown
