"""Step 4: try the model on new pictures, one or many, take it home and share it."""

from typing import Any

import gradio as gr

from tl_ui.batch_step import BatchStep
from tl_ui.export_step import ExportStep
from tl_ui.handlers import speaks
from tl_ui.share_step import ShareStep
from tl_ui.try_step import TryStep
from tl_ui.workspace import Memory, Workspace


class UseStep:
    """Draws the step and wires its own buttons; `show` gets the download of the memory's run ready."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._work = work
        with gr.Tab(t("use.one")):
            TryStep(work, t, memory)
        with gr.Tab(t("use.many"), elem_id="many-tab"):
            self.batch = BatchStep(work, t, memory)
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

    @speaks
    def show(self, memory: Memory, request: gr.Request) -> tuple[Any, Any]:
        """The download button with the run's zip behind it, and the licences to choose from."""
        report = self._work.report(str(memory.get("run", "")))
        if report is None:
            return gr.update(interactive=False), gr.update()
        self._work.warm_up()
        download = gr.update(value=str(self._work.downloads.bundle(report.id, report.bundle)), interactive=True)
        return download, self._share.choices(memory)
