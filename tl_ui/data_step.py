"""Step 1: pictures in, from wherever they are; then what was understood of them, to be looked at and changed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from tl_core.data.understand import trouble
from tl_core.events import Event
from tl_ui import figures, panel, understood
from tl_ui.changes import State, View, asked, opened
from tl_ui.following import Newest
from tl_ui.handlers import FOLLOW, PRIVATE, TO_THE_STEP, speaks
from tl_ui.intake_tabs import IntakeTabs
from tl_ui.living_example import EXAMPLES
from tl_ui.open_step import OpenStep
from tl_ui.opening import NAMES, TAKE, Opening, gallery
from tl_ui.parts import forms
from tl_ui.remembered import owner_of
from tl_ui.words import error_sentence, language_of, say
from tl_ui.workspace import Memory, Workspace, follow_events

_POLL_SECONDS = 0.25
_HIDE, _SHOW = gr.update(visible=False), gr.update(visible=True)


class DataStep:
    """Draws the step and wires its own buttons; `follow` fills `outputs` from the set that the memory names."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._work, self._newest = work, Newest()
        self._memory = memory
        self.welcome = Opening(work, t)
        status = gr.HTML(elem_id="reading")
        cancel = gr.Button(t("data.cancel"), visible=False, elem_id="cancel-reading")
        shown = forms.form("understood", visible=False)
        self._view = gr.State(View())
        skipped = gr.DownloadButton(t("data.skipped_file"), visible=False, elem_id="skipped-file")
        self.to_next = gr.Button(t("nav.to_train"), variant="primary", visible=False, elem_id="to-train")
        others = gr.Markdown(t("data.others"), visible=False, elem_id="others")
        self.tabs = IntakeTabs(work, t, memory)
        gr.Markdown(t("data.no_zip"))
        examples = forms.form("examples", gallery())
        self.opening = OpenStep(work, t, memory)
        self._shown = [shown, self.to_next]
        self.outputs = [status, cancel, *self._shown, skipped, examples, self.welcome.box, others]

        begun = forms.on_act(examples, self.take_example, memory, memory, **PRIVATE)
        first = self.welcome.first.click(self.take_first, memory, memory, **PRIVATE)
        for taken in (*self.tabs.taken, begun, first):
            taken.success(None, None, None, js=TO_THE_STEP)
        for changed in (*self.tabs.taken, self.tabs.emptied, begun, first):
            changed.then(self.follow, self.inputs, self.outputs, **FOLLOW)
        cancel.click(self.cancel, memory, None, **PRIVATE, queue=False)
        forms.on_act(shown, self.change, [memory, self._view], [self._view, *self._shown], **PRIVATE)

    @property
    def inputs(self) -> list[Any]:
        """What `follow` takes."""
        return [self._memory, self._view]

    @speaks
    def take_example(self, memory: Memory, event: gr.EventData) -> Memory:
        """Start reading one of the project's own zips."""
        done = forms.read(event)
        name = done.data.get("name")
        return self._taken(name, memory) if done.act == TAKE and name in NAMES else memory

    @speaks
    def take_first(self, memory: Memory) -> Memory:
        """Start reading the first of them."""
        return self._taken(NAMES[0], memory)

    def _taken(self, name: str, memory: Memory) -> Memory:
        file = EXAMPLES / f"{name}.zip"
        return {
            **memory,
            "set": self._work.sets.take([(file.name, file)], file.name, owner=owner_of(memory)),
            "run": "",
            "step": 1,
        }

    def cancel(self, memory: Memory) -> None:
        self._work.sets.cancel(str(memory.get("set", "")))

    async def follow(self, memory: Memory, view: View, request: gr.Request) -> AsyncIterator[tuple[Any, ...]]:
        """Show how reading goes on until it is over, then what was understood, and once more after a closer look."""
        shown = self._follow(str(memory.get("set", "")), view, language_of(request))
        async for one in self._newest.only(request.session_hash, shown):
            yield one

    async def _follow(self, key: str, view: View, language: str) -> AsyncIterator[tuple[Any, ...]]:
        sets = self._work.sets
        async for shown in self._reading(key, language):
            yield shown
        looking = sets.reading(key) is not None
        while looking:
            found = await asyncio.to_thread(self._understand, key, language)
            if found is None:
                return
            looking = found.looking
            skipped = await asyncio.to_thread(sets.skipped_file, key, found.images, language)
            download = gr.update(value=skipped, visible=skipped is not None)
            shown = await asyncio.to_thread(_show, found, view)
            yield "", _HIDE, *shown, download, gallery(), _HIDE, _SHOW
            while looking and sets.looking(key):
                await asyncio.sleep(_POLL_SECONDS)

    async def _reading(self, key: str, language: str) -> AsyncIterator[tuple[Any, ...]]:
        """The outputs while pictures are being read."""
        sets = self._work.sets
        log, name = sets.log(key), sets.name(key)
        if log is None or name is None:
            yield self._state("", welcome=True)
            return
        seen: list[Event] = []
        while True:
            if follow_events(log, seen) or not seen:
                state = panel.reading(seen, name, language)
                if not state.ready:
                    yield self._state(state.html, running=state.running)
                if not state.running:
                    return
            await asyncio.sleep(_POLL_SECONDS)
            if sets.name(key) is None:  # cancelled: the folder is gone
                yield self._state(figures.message("info", say(language, "data.cancelled")))
                return
            if sets.lost(key):
                yield self._state(figures.message("bad", say(language, "error.gone")))
                return

    def _state(self, html: str, *, running: bool = False, welcome: bool = False) -> tuple[Any, ...]:
        """The outputs while nothing is understood yet; another example cannot be started while one is being read."""
        nothing, greeted = gr.update(value="", visible=False), gr.update(visible=welcome)
        return html, gr.update(visible=running), nothing, _HIDE, _HIDE, gallery(usable=not running), greeted, _HIDE

    @speaks
    def change(self, request: gr.Request, memory: Memory, view: View, event: gr.EventData) -> tuple[Any, ...]:
        """Do what the person did to the set, and show it again."""
        key, done, language = str(memory.get("set", "")), forms.read(event), language_of(request)
        with self._work.sets.changing:
            found = self._understand(key, language)
            if found is None:
                raise gr.Error(say(language, "error.gone"), print_exception=False)
            edits = asked(done, found)
            if edits is not None:
                self._work.sets.change(key, edits)
                found = self._understand(key, language) or found
        view = opened(done, view)
        return view, *_show(found, view)

    def _understand(self, key: str, language: str) -> State | None:
        sets = self._work.sets
        reading, images = sets.reading(key), sets.images(key)
        if reading is None or images is None:
            return None
        problem = trouble(images, self._work.settings)
        sentence = "" if problem is None else error_sentence(language, problem)
        found = sets.findings(key, images)
        return State(reading, images, sets.edits(key), found, sets.looking(key), sentence, language)


def _show(found: State, view: View) -> tuple[Any, Any]:
    """The outputs of `DataStep._shown`."""
    return gr.update(value=understood.html(found, view), visible=True), gr.update(visible=found.usable)
