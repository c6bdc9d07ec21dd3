"""The story of a run, from a prepared set to a bundle, as a generator of events.

    for event in train(images, folder, plan=plan, settings=settings): ...

Whoever calls it may stop at any time through `should_stop`: the model is then made from what was learned so far, and
kept. Nothing is lost with the process either: every stage leaves its results in the run's or the set's folder, so the
same call goes on where the last one was left, by the person, by `should_pause`, or by a kill.
"""

import json
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from tl_core.bundle import bundle
from tl_core.bundle.files import MANIFEST
from tl_core.data.imageset import ImageSet
from tl_core.data.pixels import PixelStore
from tl_core.data.split import Split, split
from tl_core.errors import NoMemoryError, NothingTrainedError, TooAlikeError, WeightsUnavailableError
from tl_core.events import Event, Finished, Paused, Progress, Ready, Stage, StageDone, Started
from tl_core.models import backbone as backbones
from tl_core.models.catalogue import EMBEDDED, Backbone, find
from tl_core.models.classifier import Classifier
from tl_core.settings import Settings
from tl_core.training.batches import out_of_memory
from tl_core.training.compare import best_backbone
from tl_core.training.device import pick_device
from tl_core.training.distributed import World, join, leave
from tl_core.training.engine import fingerprint
from tl_core.training.features import Seen, outputs
from tl_core.training.framed_pass import Framed, engine_of, framed_pass
from tl_core.training.head import HeadMaker
from tl_core.training.job import CHECKPOINTS, assist
from tl_core.training.journal import Journal
from tl_core.training.judging import Judging
from tl_core.training.plan import Facts, Machine, Plan
from tl_core.training.record import REPORT, Findings, Model, training_record, write_report
from tl_core.training.starting import starting_point
from tl_core.training.strangeness import Features
from tl_core.training.tuning import Tuned, Tuning
from tl_core.wording import notice

_Result = TypeVar("_Result")
BUNDLE, JOURNAL = "bundle", "journal.json"


class _LeftError(Exception):
    """Asked to pause in a stage of seconds: what it had not kept yet is done again."""

    def __init__(self, stage: Stage) -> None:
        self.stage: Stage = stage


@dataclass
class _Clock:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.monotonic)

    def done(self, stage: Stage) -> StageDone:
        now = time.monotonic()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._since, 3)
        self._since = now
        return StageDone(stage, self.seconds[stage])


def train(
    images: ImageSet,
    folder: Path,
    *,
    plan: Plan,
    settings: Settings,
    device: str = "auto",
    should_stop: Callable[[], bool] = lambda: False,
    should_pause: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Train by `plan`, leaving `bundle/` and `report.json` in `folder`. The last event is `Finished`; or `Paused` where
    `should_pause` said so: the same call then goes on. The result does not depend on how often it did.

    Raises NothingTrainedError when stopped before every class was seen, NoMemoryError where the smallest batches are
    too large, OptionError for a device that is not there.
    """
    chosen = pick_device(device)
    world = join(chosen.name)
    torch.manual_seed(plan.seed)
    parts = split(images, seed=plan.seed)
    yield Started(len(images.pictures), len(images.class_names), plan.backbone, chosen.reason, plan.seconds)
    if parts.moved:
        yield notice("copies_moved", count=parts.moved)
    if any(images.part_counts()) and not parts.official:
        yield notice("split_made_anew")
    run = _Run(images, folder, plan, parts, settings, chosen.name, world, should_stop, should_pause)
    try:
        yield from run.story()
    except _LeftError as left:
        yield Paused(left.stage)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise NoMemoryError from error
    world.tell(None)


def after(seconds: float) -> Callable[[], bool]:
    """Whether that many seconds are over, from now on: a slice of time for `should_pause`."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def help_train(*, settings: Settings, device: str = "auto") -> None:
    """What the processes beside the one that calls `train` do until it is done, when a launcher started several."""
    chosen = pick_device(device)
    assist(join(chosen.name), settings=settings, device=chosen.name)


def finished_earlier(folder: Path) -> Finished | None:
    """How the run in `folder` ended, if it came to its own end; None while there is something to go on with."""
    try:
        record = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        if record["training"]["stopped"] or not (folder / BUNDLE / MANIFEST).is_file():
            return None
        return Finished(str(folder / BUNDLE), record["evaluation"]["accuracy"], "completed", record["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def dismiss(device: str = "auto") -> None:
    """Let the processes that wait for work in `help_train` go: there is none."""
    join(pick_device(device).name).tell(None)
    leave()


def start_afresh(folder: Path) -> None:
    """Forget what an earlier run decided and how far it came; features stay with the set."""
    for name in (JOURNAL, REPORT):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


class _Run:
    """One run on the first process, with what all its stages share."""

    def __init__(
        self,
        images: ImageSet,
        folder: Path,
        plan: Plan,
        parts: Split,
        settings: Settings,
        device: str,
        world: World,
        should_stop: Callable[[], bool],
        should_pause: Callable[[], bool],
    ) -> None:
        self._images, self._folder, self._plan, self._parts = images, folder, plan, parts
        self._settings, self._device, self._world = settings, device, world
        self._should_stop, self._should_pause = should_stop, should_pause
        self._journal, self._clock = Journal(folder / JOURNAL), _Clock()

    def story(self) -> Iterator[Event]:
        """Everything from the backbone to the bundle."""
        row, trunk = yield from self._backbone()
        yield self._clock.done("backbone")
        framed = yield from self._framed(row, trunk)
        if framed is None:
            yield Paused("comparing")
            return
        row = framed.row
        seen = yield from self._look(framed)
        if seen.reason == "paused":
            yield Paused("features")
            return
        yield self._clock.done("features")
        fit, exam = yield from self._sides(seen)
        maker = HeadMaker(
            self._images,
            self._plan,
            seen.rows,
            self._folder / CHECKPOINTS,
            f"{fingerprint(trunk)} {row.preprocessing.framing} {len(seen.indices)}",
            self._should_stop,
        )
        head, record = yield from self._or_leave("solving", maker.make("whole", fit))
        yield self._clock.done("solving")
        judging = Judging(self._images, fit, exam, self._plan.seed)
        judged = judging.judge(
            maker.logits(head, exam),
            maker.features,
            likely=record.get("likely"),
            temperature=record.get("temperature"),
        )
        # A run that is taken up again only to be stopped still gets the best that its fine-tuning had found.
        tuned_before = self._journal.get("ready") is not None
        stopped = seen.reason == "stopped" or (self._should_stop() and not tuned_before)
        model = Model(row, trunk, head, row.preprocessing, judged, record)
        if self._plan.recipe is not None and not stopped:
            if self._journal.get("ready") is None:  # the first slice says it, the others know it
                self._keep(model, fit, Findings(), judging, stopped=True)
                self._report(model, fit, Findings(), stopped=True)
                self._journal.put("ready", True)
            yield Ready(str(self._folder / BUNDLE), judged.evaluation.accuracy)
            tuned = yield from self._tune(row, maker, head, fit)
            if isinstance(tuned, Paused):
                yield tuned
                return
            yield self._clock.done("tuning")
            stopped = self._should_stop()
            if tuned is not None:
                model = self._tuned_model(row, tuned, judging, exam, record)
        findings = yield from self._or_leave("evaluating", self._second_look(model, maker, judging))
        yield self._clock.done("evaluating")
        self._keep(model, fit, findings, judging, stopped=stopped)
        yield self._clock.done("saving")
        self._report(model, fit, findings, stopped=stopped)
        if not stopped:
            shutil.rmtree(self._folder / CHECKPOINTS, ignore_errors=True)
        reason: Literal["stopped", "completed"] = "stopped" if stopped else "completed"
        yield Finished(str(self._folder / BUNDLE), model.judged.evaluation.accuracy, reason, dict(self._clock.seconds))

    def _or_leave(self, stage: Stage, steps: Generator[Event, None, _Result]) -> Generator[Event, None, _Result]:
        """`steps`, given up between two of them when asked to pause. They begin anew then, so only once: whoever asks
        again and again, as slices shorter than the stage do, would never see its end."""
        mark = f"left_{stage}"
        while True:
            try:
                event = next(steps)
            except StopIteration as end:
                return cast(_Result, end.value)
            yield event
            if self._should_pause() and self._journal.get(mark) is None:
                self._journal.put(mark, True)
                steps.close()
                raise _LeftError(stage)

    def _backbone(self) -> Generator[Event, None, tuple[Backbone, nn.Module]]:
        """The backbone asked for or found best, or the embedded one where its weights cannot be had."""
        wanted, known = self._plan.backbone, self._journal.get("backbone")
        if self._plan.candidates:
            if known is None:
                known = yield from best_backbone(
                    self._images, self._plan, list(self._parts.train), settings=self._settings, device=self._device
                )
                self._journal.put("backbone", known)
                yield self._clock.done("comparing")
            yield notice("backbone_chosen", title=find(known).title)
        try:
            row, trunk = self._start(known or wanted)
        except WeightsUnavailableError:
            yield notice("backbone_fallback", title=find(known or wanted).title)
            row, trunk = EMBEDDED, backbones.load(EMBEDDED, timeout=0)
        self._journal.put("backbone", row.id)  # whoever goes on takes the same, and not what can be had by then
        if row.id != self._plan.backbone:
            facts = Facts.of(self._images, train=len(self._parts.train))
            self._plan = Machine(self._settings).settled(replace(self._plan, backbone=row.id), facts)
        return row, trunk.to(self._device)

    def _start(self, backbone: str, size: int | None = None) -> tuple[Backbone, nn.Module]:
        timeout, start = self._settings.network_timeout_seconds, self._plan.wishes.start_from
        return starting_point(backbone, start, timeout=timeout, image_size=size)

    def _framed(self, row: Backbone, trunk: nn.Module) -> Generator[Event, None, Framed | None]:
        """The pass over the pictures, in the framing asked for or found best; None when time was up before."""
        framed = yield from framed_pass(
            self._images,
            self._plan,
            self._parts,
            row,
            trunk,
            journal=self._journal,
            settings=self._settings,
            device=self._device,
            should_stop=self._should_stop,
            should_pause=self._should_pause,
        )
        if framed is not None and self._journal.get("framing") is not None:
            yield self._clock.done("comparing")
        return framed

    def _look(self, framed: Framed) -> Generator[Event, None, Seen]:
        """Features of all pictures, from the set's cache or by one pass over those that are missing there."""
        total = len(self._images.pictures)
        if (cached := framed.looks.cached()) is not None:
            yield Progress("features", total, total, None)
            return cached
        engine = engine_of(framed.looks, self._journal, self._device)
        steps = framed.looks.run(engine, framed.order, should_stop=self._should_stop, should_pause=self._should_pause)
        while True:
            try:
                look = next(steps)
            except StopIteration as end:
                seen: Seen = end.value
                break
            yield Progress("features", look.done, look.total, look.seconds_left)
        if seen.speed is not None:
            Machine(self._settings).remember(framed.row, seen.speed)
        if seen.reason == "stopped":
            yield notice("stopped_early", count=len(seen.indices), total=total)
        return seen

    def _sides(self, seen: Seen) -> Generator[Event, None, tuple[list[int], list[int]]]:
        """The pictures that teach and those that examine, of those that were seen. Raises when that is no use."""
        known, pictures = set(seen.indices), self._images.pictures
        fit, exam = ([i for i in side if i in known] for side in (self._parts.train, self._parts.test))
        taught = {pictures[i].label for i in fit}
        if not exam or len(taught) < len(self._images.class_names) or len({pictures[i].group for i in fit}) < 2:
            raise NothingTrainedError if seen.reason == "stopped" else TooAlikeError
        if untested := taught - {pictures[i].label for i in exam}:
            names = [self._images.class_names[label] for label in sorted(untested)]
            yield notice("untested_classes", count=len(names), classes=", ".join(names[:5]))
        return fit, exam

    def _tune(
        self, row: Backbone, maker: HeadMaker, head: nn.Module, fit: list[int]
    ) -> Generator[Event, None, Tuned | Paused | None]:
        def loaded(size: int) -> nn.Module:
            return self._start(row.id, size)[1]

        tuning = Tuning(
            self._images,
            self._folder,
            row,
            self._plan,
            train=fit,
            loaded=loaded,
            maker=maker,
            settings=self._settings,
            device=self._device,
            world=self._world,
            journal=self._journal,
        )
        found = yield from tuning.run(head, should_stop=self._should_stop, should_pause=self._should_pause)
        return found

    def _tuned_model(
        self, row: Backbone, tuned: Tuned, judging: Judging, exam: list[int], record: dict[str, Any]
    ) -> Model:
        classifier = Classifier(tuned.trunk, tuned.head, len(self._images.class_names)).to(self._device)
        store = PixelStore(self._images)

        def seen(model: nn.Module, pictures: Sequence[int]) -> Tensor:
            found = outputs(model, store, pictures, tuned.preprocessing, device=self._device, precision="fp32")
            return torch.from_numpy(found)

        features = Features(classifier)
        judged = judging.judge(seen(classifier, exam), lambda some: seen(features, some), likely=tuned.likely)
        added = {"share": tuned.share, "validation": tuned.validation, "epochs": tuned.epochs, "likely": tuned.likely}
        return Model(row, tuned.trunk, tuned.head, tuned.preprocessing, judged, record | added)

    def _second_look(self, model: Model, maker: HeadMaker, judging: Judging) -> Generator[Event, None, Findings]:
        """What the features of the untrained network say about the set. Its cross-validation speaks for the model where
        that is the same solved head, and where nobody chose other pictures to examine it or compared networks on
        these."""
        weights = maker.weights([p.label for p in self._images.pictures])
        look = yield from judging.look(maker.features, weights=weights, should_stop=self._should_stop)
        if look is None:
            return Findings()
        alike = self._plan.head == "linear" and "share" not in model.record
        speaks = alike and not self._parts.official and not self._plan.candidates
        return Findings(look, judging.crossed(look) if speaks else None)

    def _keep(self, model: Model, taught: list[int], findings: Findings, judging: Judging, *, stopped: bool) -> None:
        info = bundle.BundleInfo(
            backbone=model.row,
            class_names=self._images.class_names,
            preprocessing=model.preprocessing,
            evaluation=model.judged.evaluation,
            training=self._record(model, taught, findings, stopped=stopped),
            created=bundle.now(),
            unknown=model.judged.unknown,
            likely=model.judged.likely,
            crossed=findings.crossed,
        )
        bundle.save(self._folder / BUNDLE, model.trunk.cpu(), model.head.cpu(), info)
        model.trunk.to(self._device)
        judging.answers(model.judged, findings.look, crossed=findings.crossed is not None).save(self._folder)
        model.judged.taught.save(self._folder)

    def _record(self, model: Model, taught: list[int], findings: Findings, *, stopped: bool) -> dict[str, Any]:
        return training_record(self._images, self._parts, self._plan, model, findings, taught, stopped=stopped)

    def _report(self, model: Model, taught: list[int], findings: Findings, *, stopped: bool) -> None:
        record = self._record(model, taught, findings, stopped=stopped)
        write_report(self._folder, model, findings, record, self._clock.seconds)
