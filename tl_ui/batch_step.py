"""Part of step 4: the model's answers for many pictures, as a table, as sorted folders, and put right by the person."""

import contextlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from tl_core.bundle.batch import answers
from tl_core.bundle.sorted_zip import FolderNames, sort_into
from tl_core.data.edits import Edit
from tl_core.data.imageset import FILE
from tl_core.data.pile import Pile, read_pile
from tl_core.errors import OptionError, TLError
from tl_core.jobs.belongings import sign
from tl_core.jobs.runs import STOP
from tl_ui import batch_view, figures
from tl_ui.batch_view import Batch
from tl_ui.handlers import PRIVATE, bundle_of, speaks
from tl_ui.parts import forms
from tl_ui.remembered import owner_of
from tl_ui.sets import SET
from tl_ui.thumbnails import jpeg, strip
from tl_ui.words import duration, error_sentence, language_of, say
from tl_ui.workspace import Memory, Workspace

if TYPE_CHECKING:  # the page starts without torch
    from tl_core.bundle.predictor import Prediction

# Minutes of a processor: one at a time, and single pictures do not wait for it.
_BATCH: dict[str, Any] = {
    **PRIVATE,
    "concurrency_id": "batch",
    "concurrency_limit": 1,
    "trigger_mode": "always_last",
}
_TOLD_EVERY = 0.3  # seconds
_KEPT = 5  # classes of an answer that are kept once the table is written
_SIDE = 48  # pixels of a picture in the table
_HIDE = gr.update(visible=False)


@dataclass(frozen=True)
class _Base:
    """The set that pictures are added to: where it lies, and the person's changes before and after the run began."""

    folder: Path
    before: tuple[Edit, ...]
    after: tuple[Edit, ...] = ()


class BatchStep:
    """Draws the part and wires it. `grown` is the event after which the memory names a set with more pictures; a click
    on `to_train` asks to go and train on it."""

    def __init__(self, work: Workspace, t: gr.I18n, memory: gr.BrowserState) -> None:
        self._work = work
        gr.Markdown(t("use.many_help"), elem_classes=["tl-quiet"])
        many = gr.File(
            label=t("use.many_upload"), show_label=False, file_count="multiple", elem_id="many-upload", height=150
        )
        self._working = gr.State("")  # the folder of the batch that is being recognised
        self._batch = gr.State(None, delete_callback=_drop)
        self._told = gr.HTML(elem_id="many-told")
        self._stop = gr.Button(t("batch.stop"), visible=False, elem_id="many-stop")
        self._answers = gr.HTML(elem_id="many-answers")
        self._csv = gr.DownloadButton(t("use.csv"), visible=False, elem_id="csv")
        with gr.Column(visible=False) as self._after:
            least = gr.Slider(
                0, 100, 60, step=5, label=t("batch.least"), info=t("batch.least_info"), elem_id="many-least"
            )
            sort = gr.Button(t("batch.sort"), elem_id="many-sort")
            self._sort_told = gr.HTML(elem_id="many-sort-told")
            self._sorted = gr.DownloadButton(t("batch.sorted"), visible=False, elem_id="many-sorted")
            gr.Markdown(t("batch.review"))
            self._review = forms.form("many-review")
            self._add = gr.Button(t("batch.add_none"), interactive=False, elem_id="many-add")
            self._no_set = gr.HTML(elem_id="many-no-set")
        self._grown = gr.HTML(elem_id="many-grown")
        self.to_train = gr.Button(t("batch.train"), variant="primary", visible=False, elem_id="many-train")

        inputs = [many, memory, self._batch, least]
        many.change(self.recognise, inputs, self._outputs, **_BATCH)
        self._stop.click(self.ask_to_stop, self._working, self._stop, **PRIVATE, queue=False)
        shown = [self._batch, self._review, self._add]
        forms.on_act(self._review, self.decide, [self._batch, least], shown, **PRIVATE)
        again = {**PRIVATE, "trigger_mode": "always_last"}
        least.change(self.weigh, [self._batch, least], [self._review, self._sorted, self._sort_told], **again)
        sort.click(self.sort, [self._batch, least], [self._sort_told, self._sorted], **PRIVATE, concurrency_limit=1)
        taken = [memory, self._batch, self._grown, self.to_train, self._after]
        self.grown = self._add.click(self.add, [self._batch, memory], taken, **PRIVATE)
        memory.change(self.forget, [memory, self._batch], self._outputs, **PRIVATE)

    @property
    def _outputs(self) -> list[Any]:
        widgets = [self._working, self._batch, self._told, self._stop, self._answers, self._csv, self._after]
        return [
            *widgets,
            self._sort_told,
            self._sorted,
            self._review,
            self._add,
            self._no_set,
            self._grown,
            self.to_train,
        ]

    def _nothing(self) -> dict[Any, Any]:
        """The outputs while there is no batch."""
        html = {widget: "" for widget in (self._told, self._answers, self._sort_told, self._review, self._grown)}
        hidden = {widget: _HIDE for widget in (self._stop, self._csv, self._after, self._sorted, self.to_train)}
        return {self._working: "", self._batch: None, self._no_set: "", **html, **hidden}

    def recognise(
        self, files: list[str] | None, memory: Memory, batch: Batch | None, least: float, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        """Answers for many files, in their order, as a table and as a CSV file; and how far that is meanwhile."""
        _drop(batch)
        yield self._nothing()
        if not files:
            return
        language, kept = language_of(request), False
        folder = self._work.settings.data_dir / "scratch" / os.urandom(16).hex()
        folder.mkdir(parents=True)
        sign(folder, owner_of(memory))
        try:
            stop = gr.update(visible=True, interactive=True)
            yield {
                self._working: folder.name,
                self._stop: stop,
                self._told: _bar("batch.reading", 0, 1, None, language),
            }
            for step in self._recognised(files, folder, memory, request):
                if isinstance(step, Batch):
                    kept = True
                    yield {**self._shown(step, memory, least, language), self._working: "", self._stop: _HIDE}
                else:
                    yield {self._told: step}
        except TLError as error:
            yield {**self._nothing(), self._told: figures.message("bad", error_sentence(language, error))}
        finally:
            if not kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _recognised(
        self, files: Sequence[str], folder: Path, memory: Memory, request: gr.Request
    ) -> "Iterator[str | Batch]":
        """How it goes on as HTML, and the batch last. Raises TLError."""
        language, limit = language_of(request), self._work.settings.max_batch
        bundle, stopped = bundle_of(self._work, memory, request), (folder / STOP).exists
        if len(files) > limit:
            needed = say(language, "use.many_limit", limit=limit)
            raise OptionError(option=say(language, "use.many"), found=len(files), needed=needed)
        given = [(Path(file).name, Path(file)) for file in files]
        pile = Pile(folder, ())
        for step in read_pile(given, folder, self._work.settings, should_stop=stopped):
            if isinstance(step, Pile):
                pile = step
            else:
                yield _bar("batch.reading", step.done, step.total, step.seconds_left, language)
        predictor, found = self._work.predictor(bundle), dict[int, "Prediction"]()
        total, begun, told = len(pile.readable), time.monotonic(), 0.0
        for some in answers(predictor, pile, should_stop=stopped):
            found |= some
            now = time.monotonic()
            if now - told > _TOLD_EVERY:
                told = now
                left = (now - begun) / len(found) * (total - len(found))
                yield _bar("batch.answering", len(found), total, left, language)
        names = predictor.info.class_names
        rows = [
            (file.name, found[at] if at in found else batch_view.problem(file, language))
            for at, file in enumerate(pile.files)
        ]
        table = self._work.downloads.table(bundle.parent.name, rows, names)
        found = {at: replace(one, ranking=one.ranking[:_KEPT]) for at, one in found.items()}
        yield Batch(str(memory.get("run", "")), pile, found, names, str(table), {})

    def _shown(self, batch: Batch, memory: Memory, least: float, language: str) -> dict[Any, Any]:
        """The outputs for a finished batch."""
        pile, found = batch.pile, batch.found
        table = batch_view.table(pile, found, lambda at: strip([pile.pixels(at)], _SIDE), language)
        strange, failed = sum(one.strange for one in found.values()), len(pile.files) - len(found)
        told = say(language, "batch.done", files=len(pile.files), answered=len(found), strange=strange, failed=failed)
        if pile.ignored:
            told += " " + say(language, "data.ignored", count=pile.ignored)
        no_set = "" if self._base(memory) else figures.message("info", say(language, "batch.no_set"))
        add = gr.update(value=say(language, "batch.add_none"), interactive=False, visible=not no_set)
        return {
            self._batch: batch,
            self._told: figures.message("good" if found else "warn", told),
            self._answers: table,
            self._csv: gr.update(value=batch.table, visible=True),
            self._after: gr.update(visible=bool(found)),
            self._review: self._cards(batch, least, language),
            self._add: add,
            self._no_set: no_set,
        }

    def _cards(self, batch: Batch, least: float, language: str) -> str:
        return batch_view.review(batch, lambda at: jpeg(batch.pile.pixels(at)), _share(least), language)

    def ask_to_stop(self, working: str) -> Any:
        """Stop with what has been recognised so far."""
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if working:
                (self._work.settings.data_dir / "scratch" / working / STOP).touch()
        return gr.update(interactive=False)

    def forget(self, memory: Memory, batch: Batch | None) -> dict[Any, Any]:
        """The answers of one model do not stay beside another one."""
        if batch is None or batch.run == str(memory.get("run", "")):
            return {self._working: gr.skip()}
        _drop(batch)
        return self._nothing()

    @speaks
    def decide(
        self, batch: Batch | None, least: float, request: gr.Request, event: gr.EventData
    ) -> tuple[Batch | None, Any, Any]:
        """Keep what the person says of a picture."""
        language = language_of(request)
        batch = batch_view.decided(forms.read(event), _there(batch, language))
        count = len(batch.labels)
        text = say(language, "batch.add", count=count) if count else say(language, "batch.add_none")
        return batch, self._cards(batch, least, language), gr.update(value=text, interactive=count > 0)

    @speaks
    def weigh(self, batch: Batch | None, least: float, request: gr.Request) -> tuple[Any, Any, Any]:
        """What is not sure enough has changed, so a zip that was made is not what would be made now."""
        language = language_of(request)
        return "" if batch is None else self._cards(_there(batch, language), least, language), _HIDE, ""

    @speaks
    def sort(self, batch: Batch | None, least: float, request: gr.Request) -> tuple[Any, Any]:
        """The files in a folder for each class, as a zip to download."""
        language = language_of(request)
        batch = _there(batch, language)
        folders = FolderNames(
            unsure=say(language, "batch.folder_unsure"),
            strange=say(language, "batch.folder_strange"),
            unreadable=say(language, "batch.folder_unreadable"),
        )
        target, settings = Path(batch.table).with_name("sorted-pictures.zip"), self._work.settings
        table = ("predictions.csv", Path(batch.table).read_text(encoding="utf-8"))
        try:
            made = sort_into(target, batch.pile, batch.found, folders, settings, least=_share(least), table=table)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        told = say(language, "batch.sorted_done", count=made.files)
        if made.missing:
            told += " " + say(language, "batch.sorted_missing", count=made.missing)
        return figures.message("good", told), gr.update(value=str(target), visible=True)

    @speaks
    def add(self, batch: Batch | None, memory: Memory, request: gr.Request) -> tuple[Any, ...]:
        """A set with the pictures that the person has put right; the memory then names it."""
        language, base = language_of(request), self._base(memory)
        batch = _there(batch, language)
        if base is None:
            raise gr.Error(say(language, "error.gone"), print_exception=False)
        if not (labels := batch.labels):
            raise gr.Error(say(language, "batch.add_none"), print_exception=False)
        key = self._work.sets.grow(
            base.folder, base.before, batch.pile, labels, after=base.after, owner=owner_of(memory)
        )
        _drop(batch)
        counts = Counter(labels.values())
        several = ", ".join(say(language, "batch.added_class", label=label, count=n) for label, n in counts.items())
        images = self._work.sets.images(key)
        total = 0 if images is None else len(images.pictures)
        told = figures.message("good", say(language, "batch.added", classes=several, total=total))
        return {**memory, "set": key}, None, told, gr.update(visible=True), _HIDE

    def _base(self, memory: Memory) -> _Base | None:
        """The set the model was made from; where that is gone, the one the browser remembers; None without either."""
        sets, key = self._work.sets, str(memory.get("set", ""))
        mine, run = sets.find(key), self._work.run(str(memory.get("run", "")))
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if run is not None:
                request = run.request()
                folder, before = Path(request.set_folder), request.edits
                if (folder / FILE).is_file():
                    now = sets.edits(key) if mine is not None and mine / SET == folder else before
                    # What was changed after the run began comes after the new pictures have their classes, too.
                    if now[: len(before)] == before:
                        return _Base(folder, before, now[len(before) :])
                    return _Base(folder, now)
        if mine is not None and (mine / SET / FILE).is_file():
            return _Base(mine / SET, sets.edits(key))
        return None


def _there(batch: Batch | None, language: str) -> Batch:
    """`batch`, or the sentence that its files are not kept any more."""
    if batch is None or not batch.pile.folder.is_dir():
        raise gr.Error(say(language, "error.gone"), print_exception=False)
    return batch


def _drop(batch: Batch | None) -> None:
    """Remove what was read."""
    if batch is not None:
        shutil.rmtree(batch.pile.folder, ignore_errors=True)


def _share(percent: float) -> float:
    """The slider's value, which is the client's, as a share."""
    return min(1.0, max(0.0, float(percent) / 100)) if isinstance(percent, int | float) else 0.6


def _bar(key: str, done: int, total: int, left: float | None, language: str) -> str:
    label = say(language, key, done=done, total=total)
    if left is not None and done < total:
        label += say(language, "batch.comma") + say(language, "train.left", seconds=duration(language, left))
    return figures.progress_bar(done / max(total, 1), label, say(language, "use.many"))
