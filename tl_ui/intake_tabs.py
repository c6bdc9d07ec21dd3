"""Where pictures come from: files and folders of this computer, the camera class by class, the Hugging Face Hub."""

from collections.abc import Callable, Iterator
from html import escape as esc
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import Dependency

from tl_core.events import Event
from tl_core.hub_data.fetch import fetch, reachable
from tl_ui.handlers import PRIVATE, speaks
from tl_ui.parts import class_builder, forms
from tl_ui.parts.folder_picker import folder_picker, picked
from tl_ui.remembered import owner_of
from tl_ui.words import language_of, say
from tl_ui.workspace import Memory, Workspace

# Data sets of the Hub that are small or taken in part, with plain classes, by the name of what they show in words/.
_OFFERED = {
    "leaves": "AI-Lab-Makerere/beans",
    "pets": "microsoft/cats_vs_dogs",
    "things": "uoft-cs/cifar10",
    "clothes": "zalando-datasets/fashion_mnist",
}
_NAMES = 2  # of several uploaded files that stand for all


class IntakeTabs:
    """Draws the tabs; after each of the events `taken` the memory names a new set that is being read, after `emptied`
    none."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._work = work
        self.taken: list[Dependency] = []
        with gr.Tabs(elem_id="sources"):
            with gr.Tab(t("data.tab.files"), id="files"):
                gr.Markdown(t("data.how"), elem_id="data-how")
                with gr.Row(elem_classes=["tl-sources"]):
                    upload = gr.File(
                        label=t("data.upload"), show_label=False, file_count="multiple", elem_id="upload", height=170
                    )
                    folder = folder_picker("folder", work.settings)
                gr.Markdown(t("data.limits"), elem_classes=["tl-quiet"])
            with gr.Tab(t("data.tab.builder"), id="builder"):
                gr.Markdown(t("data.builder.how"))
                self.builder = class_builder.class_builder("builder")
            with gr.Tab(t("data.tab.hub"), id="hub") as hub:
                gr.Markdown(t("data.hub.how"))
                with gr.Row():
                    repo = gr.Textbox(label=t("data.hub.name"), elem_id="hub-name", scale=3)
                    get = gr.Button(t("data.hub.fetch"), elem_id="hub-fetch", scale=1)
                offers = forms.form("hub-offers")
        self.taken.append(upload.upload(self.take, [upload, memory], memory, **PRIVATE))
        self.emptied = upload.clear(self.forget, memory, memory, **PRIVATE)
        elsewhere = [memory, upload]  # what the file box shows is not what is read then
        self.taken.append(folder.picked(self.take_folder, memory, elsewhere, **PRIVATE))
        class_builder.on_act(self.builder, self.collect, memory, [self.builder, memory], **PRIVATE)
        self.taken.append(self.builder.use(self.take_collected, memory, elsewhere, **PRIVATE))
        hub.select(self.offer, None, offers, **PRIVATE, concurrency_limit=8)
        chosen = forms.on_act(offers, self.take_offer, memory, elsewhere, **PRIVATE)
        self.taken.append(chosen)
        for asked in (get.click, repo.submit):
            self.taken.append(asked(self.take_from_hub, [repo, memory], elsewhere, **PRIVATE))

    @speaks
    def take(self, files: list[str] | None, memory: Memory) -> Memory:
        """Start reading uploaded files."""
        if not files:
            return memory
        given = [(Path(file).name, Path(file)) for file in files]
        names = ", ".join(name for name, _ in given[:_NAMES]) + (f" + {len(given) - _NAMES}" if given[_NAMES:] else "")
        return _reading(memory, self._work.sets.take(given, names, owner=owner_of(memory)))

    @speaks
    def take_folder(self, request: gr.Request, memory: Memory, event: gr.EventData) -> tuple[Memory, None]:
        """Start reading folders that the browser has sent file by file."""
        files = picked(event, self._work.settings)
        if not files:
            raise gr.Error(say(language_of(request), "part.folder.failed"), print_exception=False)
        tops = dict.fromkeys(rel.split("/")[0] for rel, _ in files)
        return _reading(memory, self._work.sets.take(files, ", ".join(list(tops)[:3]), owner=owner_of(memory))), None

    def show_collected(self, memory: Memory, request: gr.Request) -> Any:
        """What was collected class by class before the page was loaded."""
        return class_builder.shown(self._work.sets.collection(memory.get("collected")), language_of(request))

    @speaks
    def collect(self, request: gr.Request, memory: Memory, event: gr.EventData) -> tuple[Any, Memory]:
        """Do something to the collection, which is begun if need be."""
        sets, key = self._work.sets, memory.get("collected")
        if sets.collection(key) is None:
            key = sets.new_collection(owner_of(memory))
        collection = sets.collection(key)
        assert collection is not None
        return class_builder.apply(collection, event, language_of(request)), {**memory, "collected": key}

    @speaks
    def take_collected(self, memory: Memory, request: gr.Request) -> tuple[Memory, None]:
        """Start reading what was collected."""
        language, collection = language_of(request), self._work.sets.collection(memory.get("collected"))
        if collection is None:
            raise gr.Error(say(language, "error.gone"), print_exception=False)
        key = self._work.sets.take(collection.files(), say(language, "data.collected"), owner=owner_of(memory))
        return _reading(memory, key), None

    def offer(self, request: gr.Request) -> str:
        """Some data sets that are worth a try, as buttons; nothing where the Hub cannot be reached."""
        if not reachable():
            return ""
        language = language_of(request)
        rows = "".join(
            f"<li>{forms.button('offer', esc(say(language, f'data.hub.{name}')), repo=repo)}</li>"
            for name, repo in _OFFERED.items()
        )
        return f'<p class="tl-quiet">{esc(say(language, "data.hub.offers"))}</p><ul class="tl-offers">{rows}</ul>'

    @speaks
    def take_offer(self, memory: Memory, event: gr.EventData) -> tuple[Memory, Any]:
        """Start fetching one of those."""
        repo = forms.read(event).data.get("repo", "")
        return self._fetching(repo, memory) if repo in _OFFERED.values() else (memory, gr.skip())

    @speaks
    def take_from_hub(self, request: gr.Request, repo: str, memory: Memory) -> tuple[Memory, Any]:
        """Start fetching a data set from the Hub."""
        if not repo.strip():
            raise gr.Error(say(language_of(request), "data.hub.empty"), print_exception=False)
        return self._fetching(repo, memory)

    def _fetching(self, repo: str, memory: Memory) -> tuple[Memory, Any]:
        settings = self._work.settings

        def fetched(folder: Path, should_stop: Callable[[], bool]) -> Iterator[Event]:
            return fetch(repo, folder, settings, should_stop=should_stop)

        return _reading(memory, self._work.sets.fetch(repo.strip(), fetched, owner=owner_of(memory))), None

    def forget(self, memory: Memory) -> Memory:
        """The person took the files away: nothing chosen, as at the start."""
        self._work.sets.cancel(str(memory.get("set", "")))
        return _reading(memory, "")


def _reading(memory: Memory, key: str) -> Memory:
    return {**memory, "set": key, "run": "", "step": 1}
