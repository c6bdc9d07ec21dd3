"""The whole page: four steps, their Back and Next, and finding everything again after a reload."""

from typing import Any

import gradio as gr

from tl_core.models.availability import is_local
from tl_core.models.catalogue import CATALOGUE
from tl_core.settings import Settings
from tl_ui.data_step import Memory, data_step
from tl_ui.handlers import FOLLOW, PRIVATE
from tl_ui.results_step import results_step
from tl_ui.train_step import train_step
from tl_ui.use_step import use_step
from tl_ui.words import DEFAULT, LANGUAGES, say, table
from tl_ui.workspace import Workspace

# What the browser keeps: the keys of one's set and run, and the step one is at. Unguessable, and worth nothing on disk.
EMPTY: Memory = {"set": "", "run": "", "step": 1}
# A fixed secret and storage key, or the browser's memory would not survive a restart. It hides nothing and need not.
_STORAGE = {"storage_key": "transfer-lab", "secret": "transfer-lab"}
# Uploads of Gradio's own are copied when they are taken, so they may go after a day (checked hourly).
_DELETE_CACHE = (3_600, 86_400)
# The names browsers send for the languages there are words for.
_LOCALES = {"zh": ("zh-CN", "zh-TW")}


def translations(settings: Settings) -> gr.I18n:
    """The fixed labels in every language, for the browser to choose from."""
    words = {language: table(language) | _filled(language, settings) for language in LANGUAGES}
    return gr.I18n(**{locale: words[lang] for lang in LANGUAGES for locale in _LOCALES.get(lang, (lang,))})


def _filled(language: str, settings: Settings) -> dict[str, str]:
    """Labels with values that are fixed once the program has started."""
    labels = {
        "data.limits": say(
            language,
            "data.limits",
            pictures=f"{settings.max_pictures:,}",
            size=f"{settings.max_upload / 1e9:.0f} GB",
            classes=f"{settings.max_classes:,}",
        )
    }
    for row in CATALOGUE:
        key = "train.backbone.local" if is_local(row) else "train.backbone.download"
        labels[f"train.backbone.{row.id}"] = say(language, key, title=row.title, size=row.download_mb)
    return labels


def build(work: Workspace, t: gr.I18n) -> gr.Blocks:
    """The page, ready to be launched with the same `t` as `i18n`."""
    with gr.Blocks(title=say(DEFAULT, "app.title"), analytics_enabled=False, delete_cache=_DELETE_CACHE) as page:
        memory = gr.BrowserState(EMPTY, **_STORAGE)
        gr.Markdown(f"# {say(DEFAULT, 'app.title')}")
        gr.Markdown(t("app.lead"))
        with gr.Walkthrough(selected=1, elem_id="steps") as steps:
            with gr.Step(t("step.data"), id=1):
                data = data_step(work, t, memory)
            with gr.Step(t("step.train"), id=2):
                training = train_step(work, t, memory)
            with gr.Step(t("step.results"), id=3):
                results = results_step(work, t)
            with gr.Step(t("step.use"), id=4):
                use = use_step(work, t, memory)

        estimate_in, estimate_out = training.estimate_io
        moves: list[tuple[gr.Button, int]] = [
            (data.to_next, 2),
            (training.back, 1),
            (training.to_next, 3),
            (results.back, 2),
            (results.to_next, 4),
            (use.back, 3),
        ]
        for button, number in moves:
            moved = button.click(_go_to(number), memory, [memory, steps], **PRIVATE)
            if button is data.to_next:
                moved.then(training.estimate, estimate_in, estimate_out, **PRIVATE)
                moved.then(training.follow, memory, training.outputs, **FOLLOW)
            elif button is training.to_next:
                moved.then(results.show, memory, results.outputs, **PRIVATE)
            elif button is results.to_next:
                moved.then(use.show, memory, use.outputs, **PRIVATE)
        restarted = use.start_over.click(lambda: (EMPTY, gr.Walkthrough(selected=1)), None, [memory, steps], **PRIVATE)
        restarted.then(data.follow, memory, data.outputs, **FOLLOW)

        def restore(memory: Memory) -> tuple[Memory, Any]:
            step = _furthest(work, memory)
            return {**EMPTY, **memory, "step": step}, gr.Walkthrough(selected=step)

        found = page.load(restore, memory, [memory, steps], **PRIVATE)
        found.then(data.follow, memory, data.outputs, **FOLLOW)
        found.then(training.estimate, estimate_in, estimate_out, **PRIVATE)
        found.then(training.follow, memory, training.outputs, **FOLLOW)
        found.then(results.show, memory, results.outputs, **PRIVATE)
        found.then(use.show, memory, use.outputs, **PRIVATE)
    return page


def _go_to(step: int) -> Any:
    def handler(memory: Memory) -> tuple[Memory, Any]:
        return {**memory, "step": step}, gr.Walkthrough(selected=step)

    return handler


def _furthest(work: Workspace, memory: Memory) -> int:
    """The step remembered, or the last one there is something to show for."""
    wanted = memory.get("step")
    step = wanted if isinstance(wanted, int) and 1 <= wanted <= 4 else 1
    if step >= 3 and work.report(str(memory.get("run", ""))) is None:
        step = 2
    if step == 2 and work.images(str(memory.get("set", ""))) is None:
        step = 1
    return step
