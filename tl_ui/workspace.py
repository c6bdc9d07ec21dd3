"""What the page's buttons do, without any widget: keys held by the browser to folders on disk, and back.

A browser remembers one key for its set of pictures and one for its run. Every call looks the folder up by the key, so
whoever does not hold it finds nothing.
"""

import contextlib
import json
import logging
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tl_core.bundle.files import to_zip
from tl_core.bundle.opening import open_bundle
from tl_core.data.imageset import RGB, ImageSet
from tl_core.data.intake import decode_files
from tl_core.data.pixels import PixelStore
from tl_core.data.understand import load, ready
from tl_core.errors import NotABundleError
from tl_core.evaluation.learning_curve import LearningCurve
from tl_core.evaluation.metrics import Evaluation
from tl_core.events import Event, Progress
from tl_core.exports.process import export
from tl_core.exports.record import Export, Kind, state_of
from tl_core.hub.checks import PushCheck, PushWish
from tl_core.hub.fetch import fetch, name_of
from tl_core.hub.publish import publish
from tl_core.hub.push import Pushed
from tl_core.jobs.runs import REMOVED, TROUBLE, EventLog, Request, RunFolder, folder_of, new_key, queued
from tl_core.jobs.slices import SLICED
from tl_core.models.availability import local_rows
from tl_core.models.catalogue import Backbone, find
from tl_core.settings import Settings
from tl_core.training.plan import Facts, Machine, Plan, Wishes, make_plan
from tl_ui.sets import Sets
from tl_ui.thumbnails import thumbnail

if TYPE_CHECKING:
    from tl_core.bundle.predictor import Prediction, Predictor
    from tl_ui.zerogpu import Borrower

# What the browser keeps: the keys of one's set and run, and the step one is at.
Memory = dict[str, Any]

_Read = TypeVar("_Read")
_REMOVING = 1_200  # half seconds that a run may take to stop; later the sweep finds it
_EXAMPLES = 6  # pictures on a published card
log = logging.getLogger("transfer_lab.page")


@dataclass(frozen=True)
class Report:
    """A finished run: where its bundle is, how good it is (`crossed`: by cross-validation over all pictures), what more
    pictures would bring, how and when (ISO 8601) it was made, in how many seconds, and whether from an earlier model.
    `training` may be a stranger's."""

    bundle: Path
    evaluation: Evaluation
    backbone: str
    went_on: bool = False
    crossed: Evaluation | None = None
    curve: LearningCurve | None = None
    created: str = ""
    seconds: float = 0.0
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> Evaluation:
        """The scores that speak for the model."""
        return self.evaluation if self.crossed is None else self.crossed

    @property
    def rounds(self) -> int:
        """Rounds of cross-validation that the scores shown are from; 0 where they are those of test pictures."""
        found = self.training.get("rounds")
        known = found if type(found) is int and 0 < found < 1000 else 1
        return 0 if self.crossed is None else known

    @classmethod
    def load(cls, folder: Path) -> "Report | None":
        """The report of the run in `folder`; None where there is none that can be read."""
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            record = json.loads((folder / "report.json").read_text(encoding="utf-8"))
            training = record.get("training", {})
            seconds = [taken for taken in record.get("seconds", {}).values() if type(taken) in (int, float)]
            return cls(
                folder / "bundle",
                Evaluation.from_dict(record["evaluation"]),
                str(record["backbone"]),
                training.get("went_on") is True,
                _sound(Evaluation.from_dict, record.get("crossed")),
                _sound(LearningCurve.from_dict, record.get("curve")),
                str(record.get("created", "")),
                sum(seconds),
                training,
            )
        return None


def _sound(read: Callable[[dict[str, Any]], _Read], record: dict[str, Any] | None) -> _Read | None:
    """What `read` makes of a part of a record, None where that is missing or damaged."""
    with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
        return None if record is None else read(record)
    return None


class Workspace:
    """All that one web process keeps: settings, and the predictors used last."""

    def __init__(self, settings: Settings, borrower: "Borrower | None" = None) -> None:
        self.settings, self.borrower = settings, borrower
        self._predictors: OrderedDict[str, Predictor] = OrderedDict()
        self._lock = threading.Lock()
        self.sets = Sets(settings)

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

    def start(self, set_key: str, wishes: Wishes, device: str = "auto") -> str | None:
        """Queue a run on the set; gives the run's key, or None when the set is gone. Raises IntakeError."""
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
        request = Request(str(images.folder), made, SLICED if borrowed else device, self.sets.edits(set_key))
        run = RunFolder.create(self.settings, key, request)
        run.rename(images.source)
        if borrowed:
            borrowed.start(run)
        return key

    def open_model(self, file: Path | None, repo: str, *, token: str = "") -> "Iterator[Progress | str]":
        """Make the model in the zip `file`, or else the model `repo` of the Hub, a finished run; the last one is the
        run's key. Raises BundleError and HubError."""
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
        """Queue a run that was stopped again, on another device where one is given; False when it is gone."""
        run = self.run(key)
        if run is None:
            return False
        run.queue_again(device)
        if self.borrower is not None and run.request().device == SLICED and not run.claimed():
            self.borrower.start(run)
        return True

    def example_picture(self, images: ImageSet) -> RGB | None:
        """One picture of the set, small."""
        return thumbnail(PixelStore(images)[0]) if images.pictures else None

    def run(self, key: str) -> RunFolder | None:
        folder = self._find(self.settings.runs_dir, key)
        return None if folder is None else RunFolder(folder)

    def ahead(self, run: RunFolder) -> int:
        """Runs in the queue before `run`; 0 when it is next or being trained."""
        waiting = [other.path for other in queued(self.settings)]
        return waiting.index(run.path) if run.path in waiting else 0

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
        if run is not None and not run.remove():
            threading.Thread(target=self._remove, args=(run,), name="removing", daemon=True).start()

    def _remove(self, run: RunFolder) -> None:
        for _ in range(_REMOVING):
            time.sleep(0.5)
            if run.remove():
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

    def export_csv(self, rows: "list[tuple[str, Prediction | str]]", class_names: tuple[str, ...]) -> Path:
        """Predictions by file name as a CSV file to download."""
        from tl_core.bundle.table import predictions_csv

        path = self._export_path("predictions.csv")
        path.write_text(predictions_csv(rows, class_names), encoding="utf-8")
        return path

    def report_file(self, key: str, language: str) -> Path:
        """The report of the run behind `key` as a page to download. Raises NotABundleError when the run is gone."""
        from tl_ui.report import html_report

        text = html_report(self, key, language)
        path = self._export_path("report.html")
        path.write_text(text, encoding="utf-8")
        return path

    def export_bundle(self, bundle: Path) -> Path:
        """The bundle as a zip to download."""
        return to_zip(bundle, self._export_path("my-classifier.zip"))

    def shared_copy(self, file: Path) -> Path:
        """A copy of `file` where the page may hand it out."""
        return Path(shutil.copyfile(file, self._export_path(file.name)))

    def _export_path(self, name: str) -> Path:
        """A fresh, unguessable place under the page's own download folder for a file called `name`."""
        folder = self.web_dir / "exports" / new_key()
        folder.mkdir(parents=True)
        return folder / name

    @property
    def web_dir(self) -> Path:
        """Where Gradio keeps uploads and what it serves."""
        return self.settings.data_dir / "web"

    def sweep_exports(self) -> None:
        """Delete downloads older than a set is kept."""
        limit = time.time() - self.settings.keep_hours * 3600
        for folder in (self.web_dir / "exports").glob("*"):
            if folder.stat().st_mtime < limit:
                shutil.rmtree(folder, ignore_errors=True)

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
