"""Step 1: pictures in, and what was understood of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from tl_core.events import Event
from tl_ui import panel
from tl_ui.handlers import FOLLOW, PRIVATE, speaks
from tl_ui.words import language_of, say
from tl_ui.workspace import Workspace, follow_events, sample_pictures

EXAMPLES = Path(__file__).parents[1] / "examples"
EXAMPLE_NAMES = ("shapes", "digits")
_POLL_SECONDS = 0.25

Memory = dict[str, Any]


@dataclass(frozen=True)
class DataStep:
    """What other steps and the page's start need of this one."""

    follow: Callable[..., Any]
    outputs: list[Any]
    to_next: gr.Button


def data_step(work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> DataStep:
    """Draw the step and wire its own buttons."""
    gr.Markdown(t("data.how"))
    upload = gr.File(label=t("data.upload"), file_types=[".zip"], elem_id="upload", height=140)
    gr.Markdown(t("data.limits"), elem_classes=["tl-quiet"])
    gr.Markdown(t("data.no_zip"))
    with gr.Row():
        examples = [gr.Button(t(f"data.example.{name}"), elem_id=f"example-{name}") for name in EXAMPLE_NAMES]
    status = gr.HTML(elem_id="reading")
    cancel = gr.Button(t("data.cancel"), visible=False, elem_id="cancel-reading")
    summary = gr.HTML(elem_id="understood")
    gallery = gr.Gallery(
        label=t("data.gallery"), columns=6, height="auto", visible=False, elem_id="samples", buttons=[], format="jpeg"
    )
    to_next = gr.Button(t("nav.to_train"), variant="primary", visible=False, elem_id="to-train")
    outputs = [status, cancel, summary, gallery, to_next]

    async def follow(memory: Memory, request: gr.Request) -> AsyncIterator[tuple[Any, ...]]:
        language, key = language_of(request), str(memory.get("set", ""))
        log, name = work.set_log(key), work.set_name(key)
        if log is None or name is None:
            yield "", gr.update(visible=False), "", gr.update(visible=False), gr.update(visible=False)
            return
        seen: list[Event] = []
        while True:
            if follow_events(log, seen) or not seen:
                state = panel.reading(seen, name, language)
                if state.ready:
                    break
                hidden = gr.update(visible=False)
                yield state.html, gr.update(visible=state.running), "", hidden, hidden
                if not state.running:
                    return
            await asyncio.sleep(_POLL_SECONDS)
            if work.set_name(key) is None:  # cancelled: the folder is gone
                hidden = gr.update(visible=False)
                yield say(language, "data.cancelled"), hidden, "", hidden, hidden
                return
        images = await asyncio.to_thread(work.images, key)
        if images is not None:
            pictures = await asyncio.to_thread(sample_pictures, images)
            shown = gr.update(value=pictures, visible=True)
            yield "", gr.update(visible=False), panel.understood(images, language), shown, gr.update(visible=True)

    @speaks
    def take(file: str | None, memory: Memory) -> Memory:
        if file is None:
            return memory
        path = Path(file)
        return {**memory, "set": work.take(path, path.name), "run": "", "step": 1}

    def take_example(name: str) -> Callable[[Memory], Memory]:
        @speaks
        def handler(memory: Memory) -> Memory:
            zip_file = EXAMPLES / f"{name}.zip"
            return {**memory, "set": work.take(zip_file, zip_file.name), "run": "", "step": 1}

        return handler

    upload.upload(take, [upload, memory], memory, **PRIVATE).then(follow, memory, outputs, **FOLLOW)
    for button, name in zip(examples, EXAMPLE_NAMES, strict=True):
        taken = button.click(take_example(name), memory, memory, **PRIVATE)
        taken.then(follow, memory, outputs, **FOLLOW)
    cancel.click(lambda memory: work.cancel_reading(str(memory.get("set", ""))), memory, None, **PRIVATE, queue=False)
    return DataStep(follow, outputs, to_next)
