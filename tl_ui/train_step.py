"""Step 2: one button, an honest time, live progress, and Stop that keeps the best."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from tl_core.bundle.markdown import markdown_text
from tl_core.errors import TLError
from tl_core.events import Event
from tl_core.jobs.runs import EventLog
from tl_core.training.plan import Wishes
from tl_ui import figures, panel
from tl_ui.choices import Choices, frames, mirror, wishes
from tl_ui.following import Newest
from tl_ui.handlers import FOLLOW, PRIVATE, speaks
from tl_ui.lessons import lessons
from tl_ui.parts import waiting
from tl_ui.remembered import owner_of, with_run
from tl_ui.words import duration, error_sentence, language_of, say
from tl_ui.workspace import Memory, Workspace, follow_events
from tl_ui.zerogpu import account_for

_POLL_SECONDS = 0.3
log = logging.getLogger("transfer_lab.page")
_NAMED = 8  # classes in a sentence
_HIDE, _SHOW = gr.update(visible=False), gr.update(visible=True)


class TrainStep:
    """Draws the step and wires its own buttons; `follow` fills `outputs` from the run that the memory names."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._work, self._newest = work, Newest()
        how = gr.Markdown(t("train.how"))
        self.choices = Choices(t)
        going_on = gr.Checkbox(
            label=t("train.start_from"),
            info=t("train.start_from_info"),
            value=True,
            visible=False,
            elem_id="going-on",
        )
        self.estimated = gr.Markdown(elem_id="estimate")
        if work.settings.forgetful:
            gr.Markdown(t("yours.forgetful"), elem_id="forgetful")
        start = gr.Button(t("train.start"), variant="primary", elem_id="start")
        progress = gr.HTML(elem_id="progress")
        stop = gr.Button(t("train.stop"), variant="stop", visible=False, elem_id="stop")
        go_on = gr.Button(t("train.go_on"), visible=False, elem_id="go-on")
        on_processor = gr.Button(t("train.on_processor"), visible=False, elem_id="on-processor")
        self.to_next = gr.Button(t("nav.to_results"), variant="primary", visible=False, elem_id="to-results")
        told_later = waiting.waiting("waiting")
        taught = gr.HTML(elem_id="lessons")
        with gr.Accordion(t("train.advanced"), open=False, elem_id="advanced"):
            self.choices.draw_advanced()
        self.back = gr.Button(t("nav.back"), elem_id="back-to-data")
        self.outputs = [
            progress,
            start,
            stop,
            go_on,
            on_processor,
            self.to_next,
            how,
            self.estimated,
            self.choices.effort,
            told_later,
            taught,
        ]
        self.asked = [memory, going_on, *self.choices.inputs]
        self.told = [self.estimated, self.choices.mirror, self.choices.frames, going_on]

        begun = start.click(self.begin, self.asked, [memory, self.to_next], **PRIVATE)
        begun.success(self.follow, memory, self.outputs, **FOLLOW)
        resumed = go_on.click(self.go_on, memory, None, **PRIVATE)
        resumed.success(self.follow, memory, self.outputs, **FOLLOW)
        moved = on_processor.click(self.go_on_here, memory, None, **PRIVATE)
        moved.success(self.follow, memory, self.outputs, **FOLLOW)
        stop.click(self.ask_to_stop, memory, stop, **PRIVATE, queue=False)
        # One event for all choices: a plan for the values of now, whichever of them changed.
        changes = [component.change for component in (going_on, *self.choices.inputs)]
        gr.on(changes, self.estimate, self.asked, self.told, **PRIVATE, trigger_mode="always_last")

    def estimate(self, request: gr.Request, memory: Memory, going_on: bool, *values: Any) -> tuple[str, str, str, Any]:
        """What Start would do now, why so, and what it would cost; and what mirroring and framing do to pictures."""
        language, images = language_of(request), self._work.sets.images(str(memory.get("set", "")))
        if images is None:
            return "", "", "", gr.update(visible=False)
        base = str(memory.get("base", ""))
        offered = gr.update(visible=self._work.report(base) is not None)
        try:
            asked, device = self._wishes(memory, going_on, values)
            plan, row = self._work.plan(images, asked, device)
        except TLError as error:
            return markdown_text(error_sentence(language, error), 400), "", "", offered
        seconds = duration(language, plan.seconds or 0)
        why = " ".join(say(language, f"reason.{reason.code}", **reason.values) for reason in plan.reasons)
        shown = mirror(
            self._work.example_picture(images), say(language, "train.straight"), say(language, "train.mirrored")
        )
        key = "train.estimate" if plan.recipe is None else "train.estimate_most"
        built_in = f"train.title.{row.id}"
        title = say(language, built_in) if row.source == "embedded" else markdown_text(row.title)
        told = f"{say(language, key, seconds=seconds, title=title)} {why}"
        if (plan.seconds or 0) > (most := self._work.settings.max_run_seconds):
            told += " **" + say(language, "train.longer_than_allowed", seconds=duration(language, most)) + "**"
        if self._work.lender(device) is not None:
            told += f" {say(language, 'train.borrowed')} {say(language, f'train.quota.{account_for(plan)}')}"
        if plan.wishes.start_from and (lost := self._work.forgotten(base, images)):
            names = ", ".join(markdown_text(name) for name in lost[:_NAMED])
            told += "\n\n**" + say(language, "train.forgets", count=len(lost), classes=names) + "**"
        return told, shown, frames(images, row, language), offered

    def _wishes(self, memory: Memory, going_on: bool, values: tuple[Any, ...]) -> tuple[Wishes, str]:
        """What is asked for, going on from the model that the memory names where that is wanted."""
        made, device = wishes(values)
        base = str(memory.get("base", "")) if going_on is True else ""
        return self._work.going_on_from(base, made), device

    @speaks
    def begin(self, request: gr.Request, memory: Memory, going_on: bool, *values: Any) -> tuple[Memory, Any]:
        """Queue a run, whose results nobody can look at yet."""
        key = self._work.start(
            str(memory.get("set", "")), *self._wishes(memory, going_on, values), owner=owner_of(memory)
        )
        if key is None:
            raise gr.Error(say(language_of(request), "error.gone"), print_exception=False)
        self._work.warm_up()
        return with_run(memory, key) | {"step": 2}, _HIDE

    @speaks
    def go_on(self, memory: Memory, request: gr.Request) -> None:
        """Queue a stopped run again, from where it was stopped."""
        if not self._work.go_on(str(memory.get("run", ""))):
            raise gr.Error(say(language_of(request), "error.gone"), print_exception=False)

    @speaks
    def go_on_here(self, memory: Memory, request: gr.Request) -> None:
        """Go on on the processor with a run that is lent no GPU any more."""
        if not self._work.go_on(str(memory.get("run", "")), "cpu"):
            raise gr.Error(say(language_of(request), "error.gone"), print_exception=False)

    async def follow(self, memory: Memory, request: gr.Request) -> AsyncIterator[tuple[Any, ...]]:
        """Show how the run goes on until it is over."""
        shown = self._follow(str(memory.get("run", "")), language_of(request))
        async for one in self._newest.only(request.session_hash, shown):
            yield one

    async def _follow(self, key: str, language: str) -> AsyncIterator[tuple[Any, ...]]:
        run = self._work.run(key)
        idle = gr.update(value=say(language, "train.start"), visible=True, variant="primary")
        nothing = (idle, _HIDE, _HIDE, _HIDE, _HIDE, _SHOW, _SHOW, _SHOW, waiting.NOTHING, "")
        if run is None:
            yield "", *nothing
            return
        seen: list[Event] = []
        log, last = EventLog(run.path), None
        taught = asyncio.create_task(asyncio.to_thread(self._lessons, key, language))
        while run.path.exists():
            follow_events(log, seen)
            state = panel.training(
                seen,
                language,
                place=await asyncio.to_thread(self._work.line.place, run),
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
                go_on, usable = gr.update(visible=state.resumable), gr.update(visible=state.usable)
                here, effort = gr.update(visible=state.refused), gr.update(visible=not state.running)
                later = waiting.shown(key, running=state.running, finished=state.finished, percent=state.percent)
                yield state.html, again, running, go_on, here, usable, said, said, effort, later, gr.skip()
            if taught is not None and (taught.done() or not state.running):
                told, taught = await taught, None
                yield *[gr.skip()] * (len(self.outputs) - 1), told
            if not state.running:
                return
            await asyncio.sleep(_POLL_SECONDS)
        yield figures.message("bad", say(language, "error.gone")), *nothing

    def _lessons(self, key: str, language: str) -> str:
        """What happens in the run behind `key`, as HTML; nothing when its pictures are gone."""
        run, images = self._work.run(key), self._work.images_of(key)
        try:
            if run is not None and images is not None:
                return lessons(images, run.request().plan, language)
        except Exception:  # pictures go away meanwhile; whatever it is, the training is still to be followed
            log.info("no lessons for this run", exc_info=True)
        return ""

    def ask_to_stop(self, memory: Memory) -> Any:
        """Ask the worker to finish with what it has."""
        self._work.stop(str(memory.get("run", "")))
        return gr.update(interactive=False)
