"""Step 2: one button, an honest time, live progress, and Stop that keeps the best."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from tl_core.events import Event
from tl_core.jobs.runs import EventLog
from tl_core.models.catalogue import CATALOGUE
from tl_core.wording import duration
from tl_ui import figures, panel
from tl_ui.data_step import Memory
from tl_ui.handlers import FOLLOW, PRIVATE, speaks
from tl_ui.words import language_of, say
from tl_ui.workspace import Workspace, follow_events

_POLL_SECONDS = 0.3


@dataclass(frozen=True)
class TrainStep:
    """What other steps and the page's start need of this one."""

    follow: Callable[..., Any]
    outputs: list[Any]
    estimate: Callable[..., Any]
    estimate_io: tuple[list[Any], list[Any]]
    back: gr.Button
    to_next: gr.Button


def train_step(work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> TrainStep:
    """Draw the step and wire its own buttons."""
    gr.Markdown(t("train.how"))
    estimate_text = gr.Markdown(elem_id="estimate")
    with gr.Row():
        start = gr.Button(t("train.start"), variant="primary", elem_id="start")
        stop = gr.Button(t("train.stop"), variant="stop", visible=False, elem_id="stop")
    progress = gr.HTML(elem_id="progress")
    to_next = gr.Button(t("nav.to_results"), variant="primary", visible=False, elem_id="to-results")
    with gr.Accordion(t("train.advanced"), open=False):
        backbone = gr.Dropdown(
            label=t("train.backbone"),
            info=t("train.backbone_info"),
            choices=[(t(f"train.backbone.{name}"), name) for name in ("auto", *(row.id for row in CATALOGUE))],
            value="auto",
            elem_id="backbone",
        )
    back = gr.Button(t("nav.back"), elem_id="back-to-data")
    outputs = [progress, start, stop, to_next]

    def estimate(memory: Memory, backbone_id: str, request: gr.Request) -> str:
        images = work.images(str(memory.get("set", "")))
        if images is None:
            return ""
        plan, row = work.plan(images, backbone_id)
        return say(language_of(request), "train.estimate", seconds=duration(plan.seconds or 0), title=row.title)

    @speaks
    def begin(memory: Memory, backbone_id: str, request: gr.Request) -> Memory:
        key = work.start(str(memory.get("set", "")), backbone_id)
        if key is None:
            raise gr.Error(say(language_of(request), "error.gone"), print_exception=False)
        work.warm_up()
        return {**memory, "run": key, "step": 2}

    async def follow(memory: Memory, request: gr.Request) -> AsyncIterator[tuple[Any, ...]]:
        language, run = language_of(request), work.run(str(memory.get("run", "")))
        if run is None:
            yield "", gr.update(value=say(language, "train.start"), visible=True), *_hidden(2)
            return
        seen: list[Event] = []
        log, last = EventLog(run.path), None
        while run.path.exists():
            follow_events(log, seen)
            state = panel.training(seen, language, ahead=work.ahead(run), stopping=run.stop_asked())
            if state != last:
                last = state
                again = gr.update(
                    value=say(language, "train.again"), visible=not state.running, variant=_start_variant(state)
                )
                running = gr.update(visible=state.running, interactive=not run.stop_asked())
                yield state.html, again, running, gr.update(visible=state.finished)
            if not state.running:
                return
            await asyncio.sleep(_POLL_SECONDS)
        gone = figures.message("bad", say(language, "error.gone"))
        yield gone, gr.update(value=say(language, "train.start"), visible=True), *_hidden(2)

    def ask_to_stop(memory: Memory) -> Any:
        run = work.run(str(memory.get("run", "")))
        if run is not None:
            run.ask_to_stop()
        return gr.update(interactive=False)

    begun = start.click(begin, [memory, backbone], memory, **PRIVATE)
    begun.success(follow, memory, outputs, **FOLLOW)
    stop.click(ask_to_stop, memory, stop, **PRIVATE, queue=False)
    backbone.change(estimate, [memory, backbone], estimate_text, **PRIVATE)
    return TrainStep(follow, outputs, estimate, ([memory, backbone], [estimate_text]), back, to_next)


def _hidden(count: int) -> list[Any]:
    return [gr.update(visible=False)] * count


def _start_variant(state: panel.TrainPanel) -> str:
    # Once there is a result, looking at it is the next step, not training again.
    return "secondary" if state.finished else "primary"
