"""Step 2: one button, an honest time, live progress, and Stop that keeps the best."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from tl_core.events import Event
from tl_core.jobs.runs import EventLog
from tl_core.models.catalogue import CATALOGUE
from tl_ui import figures, panel
from tl_ui.handlers import FOLLOW, PRIVATE, speaks
from tl_ui.words import duration, language_of, say
from tl_ui.workspace import Memory, Workspace, follow_events

_POLL_SECONDS = 0.3
_HIDE, _SHOW = gr.update(visible=False), gr.update(visible=True)


class TrainStep:
    """Draws the step and wires its own buttons; `follow` fills `outputs` from the run that the memory names."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._work = work
        how = gr.Markdown(t("train.how"))
        self.estimated = gr.Markdown(elem_id="estimate")
        start = gr.Button(t("train.start"), variant="primary", elem_id="start")
        progress = gr.HTML(elem_id="progress")
        stop = gr.Button(t("train.stop"), variant="stop", visible=False, elem_id="stop")
        self.to_next = gr.Button(t("nav.to_results"), variant="primary", visible=False, elem_id="to-results")
        with gr.Accordion(t("train.advanced"), open=False, elem_id="advanced"):
            self.backbone = gr.Dropdown(
                label=t("train.backbone"),
                info=t("train.backbone_info"),
                choices=[(t(f"train.backbone.{name}"), name) for name in ("auto", *(row.id for row in CATALOGUE))],
                value="auto",
                elem_id="backbone",
            )
        self.back = gr.Button(t("nav.back"), elem_id="back-to-data")
        self.outputs = [progress, start, stop, self.to_next, how, self.estimated]

        begun = start.click(self.begin, [memory, self.backbone], memory, **PRIVATE)
        begun.success(self.follow, memory, self.outputs, **FOLLOW)
        stop.click(self.ask_to_stop, memory, stop, **PRIVATE, queue=False)
        self.backbone.change(self.estimate, [memory, self.backbone], self.estimated, **PRIVATE)

    def estimate(self, memory: Memory, backbone_id: str, request: gr.Request) -> str:
        """The sentence that says what Start would cost now."""
        images = self._work.images(str(memory.get("set", "")))
        if images is None:
            return ""
        plan, row = self._work.plan(images, backbone_id)
        language = language_of(request)
        seconds = duration(language, plan.seconds or 0)
        return say(language, "train.estimate", seconds=seconds, title=row.title)

    @speaks
    def begin(self, memory: Memory, backbone_id: str, request: gr.Request) -> Memory:
        """Queue a run."""
        key = self._work.start(str(memory.get("set", "")), backbone_id)
        if key is None:
            raise gr.Error(say(language_of(request), "error.gone"), print_exception=False)
        self._work.warm_up()
        return {**memory, "run": key, "step": 2}

    async def follow(self, memory: Memory, request: gr.Request) -> AsyncIterator[tuple[Any, ...]]:
        """Show how the run goes on until it is over."""
        language, run = language_of(request), self._work.run(str(memory.get("run", "")))
        idle = gr.update(value=say(language, "train.start"), visible=True, variant="primary")
        if run is None:
            yield "", idle, _HIDE, _HIDE, _SHOW, _SHOW
            return
        seen: list[Event] = []
        log, last = EventLog(run.path), None
        while run.path.exists():
            follow_events(log, seen)
            state = panel.training(
                seen,
                language,
                ahead=self._work.ahead(run),
                stopping=run.stop_asked(),
                trouble=self._work.trainer_in_trouble(),
            )
            if state != last:
                last = state
                # Once there is a result, looking at it is the next step, not training again.
                variant = "secondary" if state.finished else "primary"
                again = gr.update(value=say(language, "train.again"), visible=not state.running, variant=variant)
                running = gr.update(visible=state.running, interactive=not run.stop_asked())
                said = gr.update(visible=not state.running and not state.finished)
                yield state.html, again, running, gr.update(visible=state.finished), said, said
            if not state.running:
                return
            await asyncio.sleep(_POLL_SECONDS)
        yield figures.message("bad", say(language, "error.gone")), idle, _HIDE, _HIDE, _SHOW, _SHOW

    def ask_to_stop(self, memory: Memory) -> Any:
        """Ask the worker to finish with what it has."""
        run = self._work.run(str(memory.get("run", "")))
        if run is not None:
            run.ask_to_stop()
        return gr.update(interactive=False)
