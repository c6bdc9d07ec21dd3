"""Part of step 4: try the model on one picture."""

from pathlib import Path
from typing import Any

import gradio as gr

from tl_core.errors import PictureError
from tl_ui import figures
from tl_ui.handlers import PREDICT, bundle_of, speaks
from tl_ui.words import language_of, say
from tl_ui.workspace import Memory, Workspace

PICTURES = ["image", ".heic", ".heif", ".avif"]


class TryStep:
    """Draws the part and wires it."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._work = work
        one = gr.File(
            label=t("use.one_upload"), show_label=False, file_types=PICTURES, elem_id="one-upload", height=150
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
        one.change(self.predict_one, [one, memory], [picture, strange, answer], **PREDICT)

    @speaks
    def predict_one(self, file: str | None, memory: Memory, request: gr.Request) -> tuple[Any, Any, Any]:
        """One picture, whether it is like anything that was taught, and what the model sees in it."""
        if file is None:
            return gr.update(value=None, visible=False), "", gr.update(value=None, visible=False)
        predictor = self._work.predictor(bundle_of(self._work, memory, request))
        pixels = self._work.decode([Path(file)])[0]
        if isinstance(pixels, str):
            raise PictureError(name=Path(file).name, reason=say(language_of(request), f"skip.{pixels}"))
        found = predictor.predict([pixels])[0]
        note = figures.message("warn", say(language_of(request), "use.strange")) if found.strange else ""
        return gr.update(value=pixels, visible=True), note, gr.update(value=dict(found.ranking), visible=True)
