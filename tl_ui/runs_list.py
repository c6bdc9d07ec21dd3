"""Part of step 3: the runs this browser remembers, to be shown again, renamed, deleted or compared."""

from collections import OrderedDict
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import gradio as gr

from tl_core.jobs.runs import REQUEST
from tl_ui.handlers import PRIVATE, speaks
from tl_ui.parts import forms
from tl_ui.parts.forms import Act
from tl_ui.remembered import keys, opened, without_run
from tl_ui.runs_view import MOST_COMPARED, Row, View, comparison_html, list_html, strip_of
from tl_ui.words import language_of, say
from tl_ui.workspace import Memory, Workspace

_STRIPS_KEPT = 200


class RunsList:
    """Draws the list and wires its acts; `show` fills `outputs` from `inputs`. After `opened` the memory names another
    run, so that all that shows one is to be drawn anew."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._work = work
        self._strips: OrderedDict[Path, str] = OrderedDict()
        self._view = gr.State(View())
        with gr.Accordion(t("runs.title"), open=False, visible=False, elem_id="runs") as box:
            shown = forms.form("runs-list")
        run_shown = gr.State("")
        self.inputs, self.outputs = [memory, self._view], [box, shown]
        forms.on_act(shown, self.do, self.inputs, [memory, self._view, run_shown, *self.outputs], **PRIVATE)
        self.opened = run_shown.change(lambda: None, None, None, **PRIVATE)

    @speaks
    def show(self, memory: Memory, view: View, request: gr.Request) -> tuple[Any, Any]:
        """The list as it is now."""
        return self._drawn(memory, view, language_of(request))

    @speaks
    def do(self, request: gr.Request, memory: Memory, view: View, event: gr.EventData) -> tuple[Any, ...]:
        """Do what the person asked for; a run is only ever found by the keys that their browser holds."""
        done, language = forms.read(event), language_of(request)
        before = memory.get("run")
        memory, view = self._done(done, memory, view, language)
        # The time makes it another value each time, also where the same run is opened again later.
        changed = gr.skip() if memory.get("run") == before else f"{memory.get('run')} {datetime.now(timezone.utc)}"
        return memory, view, changed, *self._drawn(memory, view, language)

    def _by_id(self, memory: Memory) -> dict[str, str]:
        """The keys of the runs that are still there by the names of their folders, the oldest first."""
        return {run.path.name: key for key in keys(memory, "runs") if (run := self._work.run(key)) is not None}

    def _done(self, done: Act, memory: Memory, view: View, language: str) -> tuple[Memory, View]:
        by_id, id = self._by_id(memory), done.data.get("run", "")
        key = by_id.get(id, "")
        if done.act == "compare":
            ticked = [one for one in by_id if one in done.fields.get("run", ())]
            if not 2 <= len(ticked) <= MOST_COMPARED:
                raise gr.Error(say(language, "runs.tick_some", most=MOST_COMPARED), print_exception=False)
            return memory, replace(view, compared=tuple(ticked))
        if done.act == "close":
            return memory, replace(view, compared=())
        if done.act == "keep":
            return memory, replace(view, asking="")
        if not key:
            return memory, view
        if done.act == "ask":
            return memory, replace(view, asking=id)
        if done.act == "open":
            return opened(self._work, memory, key), view
        if done.act == "rename" and (run := self._work.run(key)) is not None:
            run.rename(done.field("to"))
        if done.act == "delete" and view.asking == id:
            self._work.remove_run(key)
            self._strips.clear()
            compared = tuple(one for one in view.compared if one != id)
            return without_run(self._work, memory, key), View(compared=compared if len(compared) > 1 else ())
        return memory, view

    def _drawn(self, memory: Memory, view: View, language: str) -> tuple[Any, Any]:
        """The accordion, which is there from the second run on, and the list in it."""
        by_id = self._by_id(memory)
        rows = [row for key in reversed(by_id.values()) if (row := self._row(key, memory, language)) is not None]
        if len(rows) < 2:
            return gr.update(visible=False), ""
        compared = [by_id[one] for one in view.compared if one in by_id]
        table = comparison_html(self._work, compared, language) if len(compared) > 1 else ""
        return gr.update(visible=True), list_html(rows, view, table, language)

    def _row(self, key: str, memory: Memory, language: str) -> Row | None:
        run, report = self._work.run(key), self._work.report(key)
        if run is None:
            return None
        when = "" if report is None else report.created
        asked = run.path / REQUEST
        if not when and asked.exists():
            when = datetime.fromtimestamp(asked.stat().st_mtime, timezone.utc).isoformat()
        running = report is None and not run.over()
        name = run.name() or say(language, "runs.unnamed")
        return Row(run.path.name, name, when, running, report, self._strip(key, run.path), memory.get("run") == key)

    def _strip(self, key: str, folder: Path) -> str:
        """A few of its pictures; looked at once, as a run's pictures never change."""
        if folder not in self._strips:
            images = self._work.images_of(key)
            self._strips[folder] = "" if images is None else strip_of(images)
            while len(self._strips) > _STRIPS_KEPT:
                self._strips.popitem(last=False)
        return self._strips[folder]
