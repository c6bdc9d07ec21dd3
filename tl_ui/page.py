"""The whole page: four steps, their Back and Next, and finding everything again after a reload."""

from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.events import Dependency

from tl_core.models.availability import is_local
from tl_core.models.catalogue import CATALOGUE
from tl_core.settings import Settings
from tl_ui.api import Api
from tl_ui.data_step import DataStep
from tl_ui.handlers import FOLLOW, PRIVATE, TO_THE_STEP
from tl_ui.remembered import EMPTY, afresh, restored, with_run
from tl_ui.results_step import ResultsStep
from tl_ui.runs_list import RunsList
from tl_ui.step_history import BACK_IS_A_STEP_BACK, remember
from tl_ui.top_bar import top_bar
from tl_ui.train_step import TrainStep
from tl_ui.use_step import UseStep
from tl_ui.words import DEFAULT, LANGUAGES, LOCALES, say, table
from tl_ui.workspace import Memory, Workspace
from tl_ui.your_data import YourData

# The moment the page is there, before anybody can act on it: this browser has a key of its own, 128 random bits; and a
# run's key that came with a link is the run that is shown. That stands behind the `#`, so that no server and no other
# site ever sees it, and it goes from the address at once.
_BEGIN = """(memory) => {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const key = btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').slice(0, 22);
  addEventListener('hashchange', () => location.hash.startsWith('#run=') && location.reload());
  const linked = location.hash.match(/^#run=([\\w-]{22})$/)?.[1];
  const mine = { ...memory, owner: memory.owner || key };
  if (!linked) return mine;
  history.replaceState(null, '', location.pathname + location.search);
  const sets = [...(memory.sets ?? []), memory.set ?? ''];
  return { ...mine, run: linked, runs: [...(memory.runs ?? []), linked], sets, set: '', base: '', before: '', step: 3 };
}"""
# What the server knows of the memory counts, unless somebody was quicker than it.
_CHECKED = """(checked, memory) =>
  JSON.stringify(checked?.asked) === JSON.stringify(memory) ? checked.found : memory"""


def translations(settings: Settings) -> gr.I18n:
    """The fixed labels in every language, for the browser to choose from."""
    words = {language: table(language) | _filled(language, settings) for language in LANGUAGES}
    return gr.I18n(**{LOCALES[language]: words[language] for language in LANGUAGES})


def _filled(language: str, settings: Settings) -> dict[str, str]:
    """Labels with values that are fixed once the program has started."""
    labels = {
        "data.limits": say(
            language,
            "data.limits",
            pictures=f"{settings.max_pictures:,}",
            size=f"{settings.max_upload / 1e9:.0f} GB",
            classes=f"{settings.max_classes:,}",
            picture_size=f"{settings.max_picture_bytes / 1e6:.0f} MB",
        )
    }
    labels["use.many_help"] = say(language, "use.many_help", limit=f"{settings.max_batch:,}")
    for row in CATALOGUE:
        key = "train.backbone.local" if is_local(row) else "train.backbone.download"
        labels[f"train.backbone.{row.id}"] = say(language, key, title=row.title, size=row.download_mb)
    return labels


class _Steps:
    """The four steps, drawn; and for each what shows it anew after an event."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._memory = memory
        with gr.Walkthrough(selected=1, elem_id="steps") as self.walk:
            with gr.Step(t("step.data"), id=1) as first:
                self.data = DataStep(work, t, memory)
            with gr.Step(t("step.train"), id=2) as second:
                self.training = TrainStep(work, t, memory)
            with gr.Step(t("step.results"), id=3) as third:
                self.results = ResultsStep(work, t, memory)
                self.runs = RunsList(work, t, memory)
            with gr.Step(t("step.use"), id=4) as fourth:
                self.use = UseStep(work, t, memory)
        for number, step in enumerate((first, second, third, fourth), 1):
            step.select(None, memory, memory, js=remember(number))
        self.yours = YourData(work, t, memory)

    def on_data(self, event: Dependency) -> None:
        event.then(self.data.follow, self.data.inputs, self.data.outputs, **FOLLOW)

    def on_train(self, event: Dependency) -> None:
        event.then(self.training.estimate, self.training.asked, self.training.told, **PRIVATE)
        event.then(self.training.follow, self._memory, self.training.outputs, **FOLLOW)

    def on_results(self, event: Dependency) -> None:
        event.then(self.results.show, self.results.inputs, self.results.outputs, **PRIVATE)
        event.then(self.runs.show, self.runs.inputs, self.runs.outputs, **PRIVATE)

    def on_use(self, event: Dependency) -> None:
        event.then(self.use.show, self._memory, self.use.outputs, **PRIVATE)


def build(work: Workspace, t: gr.I18n) -> gr.Blocks:
    """The page, ready to be launched with the same `t` as `i18n`."""
    title = say(DEFAULT, "app.title")
    with gr.Blocks(title=title, analytics_enabled=False) as page:
        # Without a fixed key and secret the memory would not survive a restart. It hides nothing and need not.
        memory = gr.BrowserState(EMPTY, storage_key="transfer-lab", secret="transfer-lab")
        top_bar(say(DEFAULT, "app.title"))
        steps = _Steps(work, t, memory)
        Api(work)
        _wire(work, memory, steps)
        checked = gr.JSON(visible="hidden", elem_id="checked")
        begun = page.load(None, memory, memory, js=_BEGIN)
        asked = begun.then(_restore(work), memory, [checked, steps.walk], **PRIVATE)
        found = asked.then(None, [checked, memory], memory, js=_CHECKED)
        found.then(None, None, None, js=BACK_IS_A_STEP_BACK)
        found.then(steps.data.welcome.example.wake, None, None, **PRIVATE)
        found.then(steps.data.tabs.show_collected, memory, steps.data.tabs.builder, **PRIVATE)
        for arrive in (steps.on_data, steps.on_train, steps.on_results, steps.on_use):
            arrive(found)
    return page


def _wire(work: Workspace, memory: gr.BrowserState, steps: _Steps) -> None:
    """Everything that leads from one step to another."""
    data, training, results, use, there = steps.data, steps.training, steps.results, steps.use, [memory, steps.walk]
    moves: list[tuple[gr.Button, int, Callable[[Dependency], None] | None]] = [
        (data.to_next, 2, steps.on_train),
        (training.back, 1, None),
        (training.to_next, 3, steps.on_results),
        (results.back, 2, None),
        (results.to_next, 4, steps.on_use),
        (use.back, 3, None),
        (use.batch.to_train, 2, steps.on_train),
    ]
    for button, number, on_arrival in moves:
        moved = button.click(_go_to(number), memory, there, **PRIVATE)
        moved.then(None, None, None, js=TO_THE_STEP)
        if on_arrival is not None:
            on_arrival(moved)
    steps.on_data(use.batch.grown)
    retrained = results.retrain.click(results.train_again, memory, memory, **PRIVATE)
    again = retrained.success(_training_again, memory, [*there, training.to_next], **PRIVATE)
    again.then(None, None, None, js=TO_THE_STEP)
    steps.on_train(again)
    further = use.further.click(_further, memory, there, **PRIVATE)
    further.then(None, None, None, js=TO_THE_STEP)
    steps.on_data(use.start_over.click(_start_over, memory, there, **PRIVATE))
    steps.on_data(steps.yours.deleted.then(_go_to(1), memory, there, **PRIVATE))
    shown = data.opening.opened.success(_opened, memory, there, **PRIVATE)
    shown.then(None, None, None, js=TO_THE_STEP)
    other = steps.runs.opened.then(_shown(work), memory, there, **PRIVATE)
    steps.on_data(other)
    for arrive in (steps.on_train, steps.on_results, steps.on_use):
        arrive(shown)
        arrive(other)


def _restore(work: Workspace) -> Any:
    """What is still there of a memory, beside what was asked about; and the step to go on from."""

    def handler(memory: Memory) -> tuple[dict[str, Memory], Any]:
        found, walk = _shown(work)(memory)
        return {"asked": memory, "found": found}, walk

    return handler


def _shown(work: Workspace) -> Any:
    def handler(memory: Memory) -> tuple[Memory, Any]:
        step = _furthest(work, memory)
        return restored(work, memory) | {"step": step}, gr.Walkthrough(selected=step)

    return handler


def _go_to(step: int) -> Any:
    def handler(memory: Memory) -> tuple[Memory, Any]:
        return {**memory, "step": step}, gr.Walkthrough(selected=step)

    return handler


def _training_again(memory: Memory) -> tuple[Memory, Any, Any]:
    """To the run that was just begun, whose results nobody can look at yet."""
    return *_go_to(2)(memory), gr.update(visible=False)


def _opened(memory: Memory) -> tuple[Memory, Any]:
    """A model made earlier was opened: it is one of the runs, and ready to be used."""
    return with_run(memory, str(memory.get("run", ""))) | {"step": 4}, gr.Walkthrough(selected=4)


def _start_over(memory: Memory) -> tuple[Memory, Any]:
    return afresh(memory), gr.Walkthrough(selected=1)


def _further(memory: Memory) -> tuple[Memory, Any]:
    """To more pictures, with the model that is shown as the one to go on from."""
    return {**memory, "base": memory.get("run", ""), "step": 1}, gr.Walkthrough(selected=1)


def _furthest(work: Workspace, memory: Memory) -> int:
    """The step remembered, or the last one there is something to show for."""
    wanted = memory.get("step")
    step = wanted if isinstance(wanted, int) and 1 <= wanted <= 4 else 1
    if step >= 3 and work.report(str(memory.get("run", ""))) is None:
        step = 2
    if (
        step == 2
        and work.sets.images(str(memory.get("set", ""))) is None
        and work.run(str(memory.get("run", ""))) is None
    ):
        step = 1
    return step
