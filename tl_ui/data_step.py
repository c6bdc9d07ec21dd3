"""Step 1: pictures in, and what was understood of them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

from tl_core.events import Event
from tl_ui import figures, panel
from tl_ui.handlers import FOLLOW, PRIVATE, speaks
from tl_ui.words import language_of, say
from tl_ui.workspace import Memory, Workspace, follow_events, sample_pictures

EXAMPLES = Path(__file__).parents[1] / "examples"
EXAMPLE_NAMES = ("shapes", "digits")
_POLL_SECONDS = 0.25
_HIDE = gr.update(visible=False)


class DataStep:
    """Draws the step and wires its own buttons; `follow` fills `outputs` from the set that the memory names."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._work = work
        gr.Markdown(t("data.how"))
        upload = gr.File(label=t("data.upload"), show_label=False, file_types=[".zip"], elem_id="upload", height=150)
        gr.Markdown(t("data.limits"), elem_classes=["tl-quiet"])
        gr.Markdown(t("data.no_zip"))
        with gr.Row():
            examples = {name: gr.Button(t(f"data.example.{name}"), elem_id=f"example-{name}") for name in EXAMPLE_NAMES}
        status = gr.HTML(elem_id="reading")
        cancel = gr.Button(t("data.cancel"), visible=False, elem_id="cancel-reading")
        summary = gr.HTML(elem_id="understood")
        self.to_next = gr.Button(t("nav.to_train"), variant="primary", visible=False, elem_id="to-train")
        gallery = gr.Gallery(
            label=t("data.gallery"),
            show_label=False,
            columns=6,
            visible=False,
            elem_id="samples",
            buttons=[],
            format="jpeg",
        )
        self.outputs = [status, cancel, summary, self.to_next, gallery, *examples.values()]

        uploaded = upload.upload(self.take, [upload, memory], memory, **PRIVATE)
        uploaded.then(self.follow, memory, self.outputs, **FOLLOW)
        cleared = upload.clear(self.forget, memory, memory, **PRIVATE)
        cleared.then(self.follow, memory, self.outputs, **FOLLOW)
        for name, button in examples.items():
            name_of_example = gr.State(name)
            taken = button.click(self.take_example, [name_of_example, memory], memory, **PRIVATE)
            taken.then(self.follow, memory, self.outputs, **FOLLOW)
        cancel.click(self.cancel, memory, None, **PRIVATE, queue=False)

    @speaks
    def take(self, file: str | None, memory: Memory) -> Memory:
        """Start reading an uploaded zip."""
        return memory if file is None else self._take(Path(file), memory)

    @speaks
    def take_example(self, name: str, memory: Memory) -> Memory:
        """Start reading one of the project's own zips."""
        return self._take(EXAMPLES / f"{name}.zip", memory)

    def _take(self, file: Path, memory: Memory) -> Memory:
        return {**memory, "set": self._work.take(file, file.name), "run": "", "step": 1}

    def forget(self, memory: Memory) -> Memory:
        """The person took the file away: nothing chosen, as at the start."""
        self.cancel(memory)
        return {**memory, "set": "", "run": "", "step": 1}

    def cancel(self, memory: Memory) -> None:
        self._work.cancel_reading(str(memory.get("set", "")))

    async def follow(self, memory: Memory, request: gr.Request) -> AsyncIterator[tuple[Any, ...]]:
        """Show how reading goes on until it is over, then what was understood."""
        language, key = language_of(request), str(memory.get("set", ""))
        log, name = self._work.set_log(key), self._work.set_name(key)
        if log is None or name is None:
            yield _state("")
            return
        seen: list[Event] = []
        while True:
            if follow_events(log, seen) or not seen:
                state = panel.reading(seen, name, language)
                if state.ready:
                    break
                yield _state(state.html, running=state.running)
                if not state.running:
                    return
            await asyncio.sleep(_POLL_SECONDS)
            if self._work.set_name(key) is None:  # cancelled: the folder is gone
                yield _state(figures.message("info", say(language, "data.cancelled")))
                return
            if self._work.reading_lost(key):
                yield _state(figures.message("bad", say(language, "error.gone")))
                return
        images = await asyncio.to_thread(self._work.images, key)
        if images is not None:
            pictures = gr.update(value=await asyncio.to_thread(sample_pictures, images), visible=True)
            yield "", _HIDE, panel.understood(images, language), gr.update(visible=True), pictures, *_examples(True)


def _state(html: str, *, running: bool = False) -> tuple[Any, ...]:
    """The outputs while nothing is understood yet; another example cannot be started while one is being read."""
    return html, gr.update(visible=running), "", _HIDE, _HIDE, *_examples(not running)


def _examples(usable: bool) -> list[Any]:
    return [gr.update(interactive=usable)] * len(EXAMPLE_NAMES)
