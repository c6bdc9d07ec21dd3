"""What the page's buttons do, without any widget: keys held by the browser to folders on disk, and back.

A browser remembers one key for its set of pictures and one for its run. Every call looks the folder up by the key, so
whoever does not hold it finds nothing.
"""

import contextlib
import logging
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl_core.bundle.opening import open_bundle
from tl_core.data.imageset import RGB, ImageSet
from tl_core.data.intake import decode_files
from tl_core.data.pixels import PixelStore
from tl_core.data.understand import load, ready
from tl_core.errors import NotABundleError, NothingTrainedError
from tl_core.events import Event, Failed, Progress
from tl_core.exports.process import export
from tl_core.exports.record import Export, Kind, state_of
from tl_core.hub.checks import PushCheck, PushWish
from tl_core.hub.fetch import fetch, name_of
from tl_core.hub.publish import publish
from tl_core.hub.push import Pushed
from tl_core.jobs.belongings import Belongings
from tl_core.jobs.janitor import delete_run
from tl_core.jobs.runs import REMOVED, TROUBLE, EventLog, Request, RunFolder, folder_of, new_key
from tl_core.jobs.slices import SLICED
from tl_core.jobs.store import Job, Store
from tl_core.models.availability import local_rows
from tl_core.models.catalogue import Backbone, find
from tl_core.queue_errors import QueueError
from tl_core.settings import Settings
from tl_core.training.plan import Facts, Machine, Plan, Wishes, make_plan
from tl_ui.downloads import Downloads
from tl_ui.line import Line
from tl_ui.run_report import Report
from tl_ui.sets import Sets
from tl_ui.thumbnails import thumbnail

if TYPE_CHECKING:
    from tl_core.bundle.predictor import Prediction, Predictor
    from tl_ui.zerogpu import Borrower

# What the browser keeps: the keys of one's set and run, and the step one is at.
Memory = dict[str, Any]

_REMOVING = 1_200  # half seconds that a run may take to stop; later the sweep finds it
_EXAMPLES = 6  # pictures on a published card
log = logging.getLogger("transfer_lab.page")


class Workspace:
    """All that one web process keeps: settings, and the predictors used last."""

    def __init__(self, settings: Settings, store: Store | None = None, borrower: "Borrower | None" = None) -> None:
        self.settings, self.borrower = settings, borrower
        self.store = Store(settings) if store is None else store
        self.line, self.downloads = Line(settings, self.store), Downloads(settings)
        self.belongings = Belongings(settings, self.store)
        self._predictors: OrderedDict[str, Predictor] = OrderedDict()
        self._lock = threading.Lock()
        self.sets = Sets(settings, self.belongings)

    # training

    def plan(self, images: ImageSet, wishes: Wishes, device: str = "auto") -> tuple[Plan, Backbone]:
        """What Start would do now, with the seconds it would take. Raises UnknownBackboneError."""
        borrower = self.lender(device)
        machine = Machine(self.settings if borrower is None else borrower.settings)
        made = make_plan(wishes, Facts.of(images), local=local_rows(), machine=machine)
        return made, find(made.backbone)

    def lender(self, device: str) -> "Borrower | None":
        """Who borrows a GPU for runs on `device`; None where they run on this machine's own."""
        return self.borrower if device in ("auto", "cuda") else None

    def start(self, set_key: str, wishes: Wishes, device: str = "auto", *, owner: str = "") -> str | None:
        """Queue a run of `owner` on the set; gives the run's key, or None when the set is gone. Raises IntakeError and
        QueueError."""
        images = self.sets.images(set_key)
        if images is None:
            return None
        key = new_key()
        made, _ = self.plan(ready(images, self.settings), wishes, device)
        if wishes.start_from:  # a copy, so that the run does not hang on another one's folder
            kept = self._folder(self.settings.runs_dir, key) / "start"
            shutil.copytree(wishes.start_from, kept)
            made = replace(made, wishes=replace(made.wishes, start_from=str(kept)))
        borrowed = self.lender(device)
        request = Request(str(images.folder), made, SLICED if borrowed else device, self.sets.edits(set_key), owner)
        run = RunFolder.create(self.settings, key, request)
        run.rename(images.source)
        try:
            self.store.submit(Job(run.path.name, owner, request.device, made.seconds or 0.0))
        except QueueError:
            run.remove()
            raise
        if borrowed:
            borrowed.start(run)
        return key

    def open_model(
        self, file: Path | None, repo: str, *, token: str = "", owner: str = ""
    ) -> "Iterator[Progress | str]":
        """Make the model in the zip `file`, or else the model `repo` of the Hub, a finished run of `owner`; the last
        one is the run's key. Raises BundleError, HubError and OwnerFullError."""
        self.belongings.admit(owner)
        key = new_key()
        folder = self._folder(self.settings.runs_dir, key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if file is None:
            source = folder.with_name(f"{folder.name}.fetched")
            yield from fetch(repo, source, token=token)
        else:
            source = file
        yield Progress("reading", 0, 1)
        try:
            open_bundle(source, folder, name="" if file else name_of(repo))
            RunFolder(folder).rename(file.stem if file else name_of(repo))
            self.store.restore(Job(folder.name, owner, state="over"))
        finally:
            if file is None:
                shutil.rmtree(source, ignore_errors=True)
        yield key

    def forgotten(self, base: str, images: ImageSet) -> list[str]:
        """The classes of the model behind the key `base` of which `images` has no pictures, so that one which goes on
        from it will not know them."""
        report = self.report(base)
        known = () if report is None else report.evaluation.class_names
        return [name for name in known if name not in images.class_names]

    def going_on_from(self, base: str, wishes: Wishes) -> Wishes:
        """`wishes` with the model behind the key `base` to start from; as they are when it is gone."""
        report = self.report(base)
        if report is None:
            return wishes
        return replace(wishes, start_from=str(report.bundle), backbone=report.backbone)

    def images_of(self, key: str) -> ImageSet | None:
        """The pictures that the run behind `key` was made from, as they were understood then."""
        run = self.run(key)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if run is not None:
                request = run.request()
                return load(Path(request.set_folder), request.edits)
        return None

    def go_on(self, key: str, device: str | None = None) -> bool:
        """Queue a run that was stopped again, on another device where one is given; False when it is gone. Raises
        QueueError."""
        run = self.run(key)
        if run is None:
            return False
        id = run.path.name
        self.store.admit(id)
        job = self.store.find(id)
        # By the folder alone it may go on already: a full disk or a kill came before the queue was told.
        if (run.over() or (job is not None and job.state == "over")) and run.open_again(device):
            device = run.request().device
            self.store.again(id, device)
            if self.borrower is not None and device == SLICED:
                self.borrower.start(run)
        return True

    def stop(self, key: str) -> None:
        """Ask whoever trains the run behind `key` to finish with what there is; one that waits is over at once."""
        run = self.run(key)
        if run is not None:
            run.ask_to_stop()
            if self.store.withdraw(run.path.name):
                EventLog(run.path).append(Failed.of(NothingTrainedError()))

    def example_picture(self, images: ImageSet) -> RGB | None:
        """One picture of the set, small."""
        return thumbnail(PixelStore(images)[0]) if images.pictures else None

    def run(self, key: str) -> RunFolder | None:
        folder = self._find(self.settings.runs_dir, key)
        return None if folder is None else RunFolder(folder)

    def trainer_in_trouble(self) -> bool:
        """Whether the training process dies again and again before it is ready."""
        return (self.settings.data_dir / TROUBLE).exists()

    def report(self, key: str) -> Report | None:
        """The result of the run behind `key`, if it has one."""
        folder = self._find(self.settings.runs_dir, key)
        return None if folder is None else Report.load(folder)

    def remove_run(self, key: str) -> None:
        """Delete the run behind `key`: at once for everybody, from the disk when nobody works on it any more."""
        run = self.run(key)
        if run is not None and not delete_run(self.settings, self.store, run):
            self._go_on_removing([run])

    def remove_everything(self, owner: str) -> None:
        """Delete all sets and runs of that owner, and every copy of them; those being trained are stopped first."""
        self._go_on_removing(self.belongings.delete(owner))

    def _go_on_removing(self, runs: list[RunFolder]) -> None:
        if runs:
            threading.Thread(target=self._remove, args=(runs,), name="removing", daemon=True).start()

    def _remove(self, runs: list[RunFolder]) -> None:
        for _ in range(_REMOVING):
            time.sleep(0.5)
            runs = [run for run in runs if not delete_run(self.settings, self.store, run)]
            if not runs:
                return

    # using

    def predictor(self, bundle: Path) -> "Predictor":
        """The predictor of a bundle, loaded once; the few used last are kept."""
        from tl_core.bundle.predictor import Predictor

        with self._lock:
            model = state_of(bundle)  # a run that goes on leaves another model under the same path
            if model not in self._predictors:
                self._predictors[model] = Predictor(bundle)
                while len(self._predictors) > 4:
                    self._predictors.popitem(last=False)
            self._predictors.move_to_end(model)
            return self._predictors[model]

    def warm_up(self) -> None:
        """Import torch in the background, so that the first prediction does not wait for it."""

        def load() -> None:
            import torch

            import tl_core.bundle.predictor  # noqa: F401

            torch.set_num_threads(1)  # the page stays responsive; training has its own process

        threading.Thread(target=load, name="warm-up", daemon=True).start()

    def decode(self, files: list[Path]) -> list[RGB | str]:
        """Uploaded pictures, opened by the limited child: pixels, or the code of the reason why not."""
        return decode_files(files, self.settings)

    def predict_files(self, bundle: Path, files: list[Path]) -> "tuple[tuple[str, ...], list[Prediction | str]]":
        """The bundle's class names, and for each file its prediction or the code of the reason why there is none."""
        predictor = self.predictor(bundle)
        decoded, names = self.decode(files), predictor.info.class_names
        found = iter(predictor.predict([d for d in decoded if not isinstance(d, str)], top_k=len(names)))
        return names, [d if isinstance(d, str) else next(found) for d in decoded]

    def export(self, key: str, kind: Kind) -> "Iterator[Progress | Export]":
        """Make and check one form of the model of the run behind `key`; see `exports.process.export`. Raises
        NotABundleError when the run is gone."""
        run, report = self.run(key), self.report(key)
        if run is None or report is None:
            raise NotABundleError(name="", reason="there is no such model any more")
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            request = run.request()
            folder = Path(request.set_folder)
            if folder.is_dir():
                return export(report.bundle, kind, run.path / "exports", set_folder=folder, edits=request.edits)
        return export(report.bundle, kind, run.path / "exports")

    def publish(
        self, key: str, wish: PushWish, *, examples: bool, token: str
    ) -> "Iterator[Progress | PushCheck | Pushed]":
        """Check, make ready and push the model of the run behind `key`, some of its pictures beside it where `examples`
        are wanted. Raises NotABundleError when the run is gone, and HubError."""
        run, report = self.run(key), self.report(key)
        if run is None or report is None:
            raise NotABundleError(name="", reason="there is no such model any more")
        return publish(
            report.bundle,
            find(report.backbone),
            wish,
            run.path / "publication",
            token=token,
            onnx=self.export(key, "onnx"),
            examples=(lambda: self._examples(key)) if examples else list,
        )

    def loadable(self, key: str) -> bool:
        """Whether timm and transformers can load the whole model of the run behind `key`."""
        from tl_core.hub.publication import needs_onnx

        report = self.report(key)
        return report is not None and not needs_onnx(report.bundle)

    def add_demo(self, repo: str, *, token: str) -> str:
        """A Space that asks the model `repo`; gives its address. Raises HubError."""
        from tl_core.hub.spaces import add_demo

        return add_demo(repo, token=token)

    def _examples(self, key: str) -> list[RGB]:
        """A few pictures of the run, the first of each class."""
        images = self.images_of(key)
        if images is None:
            return []
        first: dict[int, int] = {}
        for number, picture in enumerate(images.pictures):
            first.setdefault(picture.label, number)
        store = PixelStore(images)
        return [store[number] for number in list(first.values())[:_EXAMPLES]]

    def report_file(self, key: str, language: str) -> Path:
        """The report of the run behind `key` as a page to download. Raises NotABundleError when the run is gone."""
        from tl_ui.report import html_report

        text, run = html_report(self, key, language), self.run(key)
        assert run is not None, "there is a report of it"
        path = self.downloads.fixed_place(run.path.name, f"report-{language}.html")
        path.write_text(text, encoding="utf-8")
        return path

    def _folder(self, parent: Path, key: str) -> Path:
        folder = folder_of(parent, key)
        assert folder is not None, "keys come from new_key"
        return folder

    def _find(self, parent: Path, key: object) -> Path | None:
        folder = folder_of(parent, key) if isinstance(key, str) else None
        return folder if folder is not None and folder.is_dir() and not (folder / REMOVED).exists() else None


def follow_events(log_file: EventLog, seen: list[Event]) -> bool:
    """Append what is new in the log to `seen`; whether there was anything."""
    fresh = log_file.new()
    seen += fresh
    return bool(fresh)
