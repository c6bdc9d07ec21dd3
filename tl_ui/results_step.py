"""Step 3: how good it is, how far to trust that, the pictures behind every number, and what to do about them."""

import contextlib
import os
from dataclasses import replace
from typing import Any

import gradio as gr

from tl_core.data.pixels import PixelStore
from tl_core.evaluation.answers import Answers
from tl_ui import figures, judged_view, thumbnails
from tl_ui.handlers import PRIVATE, speaks
from tl_ui.judged import State, View, asked, opened, shown_pictures
from tl_ui.parts import forms
from tl_ui.remembered import owner_of, with_run
from tl_ui.runs_view import comparison_html
from tl_ui.words import language_of, say
from tl_ui.workspace import Memory, Workspace


class ResultsStep:
    """Draws the step; `show` fills `outputs` from the run that the memory names."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._work, self._memory = work, memory
        headline = gr.HTML(elem_id="headline")
        compared = gr.HTML(elem_id="compared")
        self.to_next = gr.Button(t("nav.to_use"), variant="primary", elem_id="to-use")
        self.retrain = gr.Button(t("results.retrain"), variant="primary", visible=False, elem_id="retrain")
        shown = forms.form("details", visible=False)
        self._view = gr.State(View())
        report = gr.DownloadButton(t("results.report"), visible=False, elem_id="report")
        self.back = gr.Button(t("nav.back"), elem_id="back-to-train")
        self.outputs = [headline, compared, shown, self.retrain, report]
        forms.on_act(shown, self.change, [memory, self._view], [self._view, shown, self.retrain], **PRIVATE)

    @property
    def inputs(self) -> list[Any]:
        """What `show` takes."""
        return [self._memory, self._view]

    @speaks
    def show(self, memory: Memory, view: View, request: gr.Request) -> tuple[Any, ...]:
        """The result of the run, or a sentence that there is none yet."""
        language, key = language_of(request), str(memory.get("run", ""))
        state = self._state(memory, language)
        if state is None:
            nothing = gr.update(value="", visible=False)
            hidden = gr.update(visible=False)
            return figures.message("info", say(language, "use.not_yet")), "", nothing, hidden, hidden
        compared, before = "", str(memory.get("before", ""))
        if before and before != key and self._work.report(before) is not None:
            told = comparison_html(self._work, [before, key], language)
            compared = f"<details open><summary>{say(language, 'results.before')}</summary>{told}</details>"
        report = gr.update(value=str(self._work.report_file(key, language)), visible=True)
        return judged_view.headline(state), compared, *self._shown(state, view), report

    @speaks
    def change(self, request: gr.Request, memory: Memory, view: View, event: gr.EventData) -> tuple[Any, ...]:
        """Do what the person did to the set, and show the result again."""
        done, language, sets = forms.read(event), language_of(request), self._work.sets
        with sets.changing:
            state = self._state(memory, language)
            if state is None:
                raise gr.Error(say(language, "error.gone"), print_exception=False)
            edits = asked(done, state)
            if edits is not None:
                sets.change(str(memory.get("set", "")), edits)
                state = self._state(memory, language) or state
        view = opened(done, view)
        return view, *self._shown(state, view)

    @speaks
    def train_again(self, memory: Memory, request: gr.Request) -> Memory:
        """Queue a run like the one shown on the changed set, to be compared with it."""
        key, run = str(memory.get("run", "")), self._work.run(str(memory.get("run", "")))
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if run is not None:
                request_of_it = run.request()
                wishes = replace(request_of_it.plan.wishes, start_from="")
                begun = self._work.start(
                    str(memory.get("set", "")), wishes, request_of_it.device, owner=owner_of(memory)
                )
                if begun is not None:
                    self._work.warm_up()
                    return with_run(memory, begun) | {"before": key, "step": 2}
        raise gr.Error(say(language_of(request), "error.gone"), print_exception=False)

    def _shown(self, state: State, view: View) -> tuple[Any, Any]:
        if view.why and state.images is not None:
            state = replace(state, heat=heat(self._work, state, view))
        html = judged_view.html(state, view)
        return gr.update(value=html, visible=True), gr.update(visible=state.editable and state.changes > 0)

    def _state(self, memory: Memory, language: str) -> State | None:
        key, set_key, work = str(memory.get("run", "")), str(memory.get("set", "")), self._work
        report, run = work.report(key), work.run(key)
        if report is None or run is None:
            return None
        images, answers = work.images_of(key), Answers.load(run.path)
        if answers is not None and answers.probabilities.shape[1] != len(report.evaluation.class_names):
            answers = None
        held = images is not None and work.sets.holds(set_key, images.folder)
        current = work.sets.images(set_key) if held else None
        edits = work.sets.edits(set_key) if held else ()
        known = len(os.path.commonprefix([edits, run.request().edits])) if held else 0
        labels = {} if current is None else {p.row: current.class_names[p.label] for p in current.pictures}
        return State(report, answers, images, edits, known, labels, held, language)


def heat(work: Workspace, state: State, view: View) -> dict[int, str]:
    """The pictures that are shown with where the model looked for its answer, by row, as data URLs."""
    from tl_core.bundle.closeup import why

    assert state.images is not None
    store, predictor, found = PixelStore(state.images), work.predictor(state.report.bundle), {}
    for one in shown_pictures(state, view):
        seen = why(predictor, store[one.number], one.called)
        found[state.picture(one).row] = thumbnails.jpeg(thumbnails.heated(seen.framed, seen.heat))
    return found
