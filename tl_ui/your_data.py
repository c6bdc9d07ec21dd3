"""At the foot of every step: what is kept of a person here, until when, and deleting all of it at once."""

from pathlib import Path

import gradio as gr

from tl_core.jobs.janitor import bytes_of
from tl_ui.handlers import PRIVATE, speaks
from tl_ui.parts import forms
from tl_ui.parts.forms import Act
from tl_ui.remembered import EMPTY, keys, owner_of
from tl_ui.words import language_of, say
from tl_ui.workspace import Memory, Workspace


class YourData:
    """Draws the accordion; `show` fills `outputs` from `inputs`. After `deleted` the memory names nothing any more."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._work = work
        with gr.Accordion(t("yours.title"), open=False, elem_id="your-data") as box:
            shown = forms.form("your-data-list")
        gone = gr.State(0)
        self.inputs, self.outputs = [memory], [shown]
        box.expand(self.show, self.inputs, self.outputs, **PRIVATE)
        forms.on_act(shown, self.do, [memory, gone], [memory, gone, shown], **PRIVATE)
        self.deleted = gone.change(lambda: None, None, None, **PRIVATE)

    @speaks
    def show(self, memory: Memory, request: gr.Request) -> str:
        """How much there is, how long it stays, and the way to be rid of it."""
        return self._told(memory, language_of(request))

    @speaks
    def do(self, request: gr.Request, memory: Memory, times: int, event: gr.EventData) -> tuple[Memory, int, str]:
        """Ask back, or delete everything of this browser's."""
        done, language = forms.read(event), language_of(request)
        if done.act != "delete":
            return memory, times, self._told(memory, language, done)
        self._forget(memory)
        told = f'<p class="tl-message tl-good" role="status">{say(language, "yours.deleted")}</p>'
        return {**EMPTY, "owner": memory.get("owner", "")}, times + 1, told

    def _forget(self, memory: Memory) -> None:
        """Everything that is the owner's, and what else this browser has keys to."""
        work = self._work
        for key in self._run_keys(memory):
            work.remove_run(key)
        for key in _set_keys(memory):
            work.sets.remove(key)
        work.remove_everything(owner_of(memory))

    def _run_keys(self, memory: Memory) -> list[str]:
        """Of the runs that the browser has keys to, those that are not somebody else's."""
        work, owner = self._work, owner_of(memory)
        found = {key: work.run(key) for key in (*keys(memory, "runs"), str(memory.get("run", "")))}
        return [key for key, run in found.items() if run is not None and work.belongings.may_delete(owner, run)]

    def _there(self, memory: Memory) -> tuple[set[Path], set[Path]]:
        """Folders of the sets and of the runs that `_forget` would delete."""
        work, owner = self._work, owner_of(memory)
        sets = {folder for key in _set_keys(memory) if (folder := work.sets.find(key)) is not None}
        runs = {run.path for key in self._run_keys(memory) if (run := work.run(key)) is not None}
        return sets | set(work.belongings.sets(owner)), runs | {run.path for run in work.belongings.runs(owner)}

    def _told(self, memory: Memory, language: str, done: Act | None = None) -> str:
        work, (sets, runs) = self._work, self._there(memory)
        limit = work.settings.max_owner_bytes
        kept = say(
            language,
            "yours.kept",
            sets=len(sets),
            runs=len(runs),
            size=f"{sum(map(bytes_of, sets | runs)) / 1e6:,.0f} MB",
            limit=f"{limit / 1e9:,.0f} GB",
            hours=work.settings.keep_hours,
        )
        parts = [f"<p>{kept}</p>", f"<p>{say(language, 'yours.private')}</p>"]
        if work.settings.forgetful:
            parts.append(f"<p>{say(language, 'yours.forgetful')}</p>")
        if done is not None and done.act == "ask":
            parts.append(f"<p><strong>{say(language, 'yours.sure')}</strong></p>")
            parts.append(forms.button("delete", say(language, "yours.delete_now"), primary=True))
            parts.append(forms.button("keep", say(language, "yours.keep")))
        elif sets or runs:
            parts.append(forms.button("ask", say(language, "yours.delete")))
        return "".join(parts)


def _set_keys(memory: Memory) -> list[str]:
    return [*keys(memory, "sets"), str(memory.get("set", "")), str(memory.get("collected", ""))]
