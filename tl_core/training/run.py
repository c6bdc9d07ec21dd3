"""The story of a run, from a prepared set to a bundle, as a generator of events.

    for event in train(images, folder, plan=plan, settings=settings): ...

Whoever calls it may stop at any time through `should_stop`: the model is then made from the pictures seen so far, and
kept. Nothing is lost with the process either: features are cached with the set, so the same call goes on quickly.
"""

import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tl_core.bundle import bundle
from tl_core.data.imageset import ImageSet
from tl_core.data.split import Split, split
from tl_core.errors import NothingTrainedError, TooAlikeError, WeightsUnavailableError
from tl_core.evaluation.metrics import Evaluation, evaluate
from tl_core.events import Event, Finished, Progress, Stage, StageDone, Started
from tl_core.models import backbone as backbones
from tl_core.models.catalogue import EMBEDDED, Backbone, find
from tl_core.settings import Settings
from tl_core.training.device import pick_device
from tl_core.training.features import FeatureCache, extract, interleaved
from tl_core.training.plan import Machine, Plan, seconds_needed
from tl_core.training.solve import SolvedHead, solve
from tl_core.wording import notice

REPORT, BUNDLE = "report.json", "bundle"
# Below this many pictures a pass is over before its speed means anything.
_SPEED_SAMPLE = 96


@dataclass
class _Clock:
    """Seconds by stage, and how long the rest will take."""

    seconds: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.monotonic)

    def done(self, stage: Stage) -> StageDone:
        now = time.monotonic()
        self.seconds[stage] = round(now - self._since, 3)
        self._since = now
        return StageDone(stage, self.seconds[stage])

    def running(self) -> float:
        return time.monotonic() - self._since


@dataclass(frozen=True)
class _Seen:
    """What the pass over the pictures brought: (n, D) features of the pictures at `indices`."""

    indices: list[int]
    features: npt.NDArray[np.float32]
    stopped: bool

    def of(self, pictures: Sequence[int]) -> npt.NDArray[np.float32]:
        """The features of `pictures`, all of them seen."""
        row = {picture: at for at, picture in enumerate(self.indices)}
        return self.features[[row[picture] for picture in pictures]]


def train(
    images: ImageSet,
    folder: Path,
    *,
    plan: Plan,
    settings: Settings,
    device: str = "auto",
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Train by `plan`, leaving `bundle/` and `report.json` in `folder`; the last event is `Finished`.

    Raises NothingTrainedError when stopped before every class was seen, OptionError for a device that is not there.
    """
    torch.manual_seed(plan.seed)
    chosen, clock = pick_device(device), _Clock()
    parts = split(images, seed=plan.seed)
    yield Started(len(images.pictures), len(images.class_names), plan.backbone, chosen.reason, plan.seconds)
    if parts.moved:
        yield notice("copies_moved", count=parts.moved)
    if any(images.part_counts()) and not parts.official:
        yield notice("split_made_anew")
    row, trunk = _load_backbone(find(plan.backbone), settings)
    if row.id != plan.backbone:
        yield notice("backbone_fallback", title=find(plan.backbone).title)
    yield clock.done("backbone")

    passes = _Pass(images, row, trunk.to(chosen.name), chosen.name, plan, parts, settings)
    seen = yield from passes.run(clock, should_stop)
    if seen.stopped:
        yield notice("stopped_early", count=len(seen.indices), total=len(images.pictures))
    yield clock.done("features")

    known = set(seen.indices)
    fit, exam = ([i for i in side if i in known] for side in (parts.train, parts.test))
    taught = {images.pictures[i].label for i in fit}
    if not exam or len(taught) < len(images.class_names) or len({images.pictures[i].group for i in fit}) < 2:
        raise NothingTrainedError if seen.stopped else TooAlikeError
    if untested := taught - {images.pictures[i].label for i in exam}:
        names = [images.class_names[label] for label in sorted(untested)]
        yield notice("untested_classes", count=len(names), classes=", ".join(names[:5]))
    head = yield from _solve(images, seen.of(fit), fit, plan, clock, should_stop)
    stopped = seen.stopped or should_stop()
    yield clock.done("solving")

    evaluation = _evaluate(images, seen.of(exam), exam, head)
    yield clock.done("evaluating")

    info = bundle.BundleInfo(
        backbone=row,
        class_names=images.class_names,
        preprocessing=row.preprocessing,
        evaluation=evaluation,
        training=_training_record(plan, head, parts, images, len(fit), stopped),
        created=bundle.now(),
    )
    bundle.save(folder / BUNDLE, backbones.with_head(row, trunk.cpu(), head.weight, head.bias), info)
    yield clock.done("saving")
    _report(folder, evaluation, info, clock)
    reason: Literal["stopped", "completed"] = "stopped" if stopped else "completed"
    yield Finished(str(folder / BUNDLE), evaluation.accuracy, reason, dict(clock.seconds))


def _load_backbone(row: Backbone, settings: Settings) -> tuple[Backbone, nn.Module]:
    """The backbone asked for, or the embedded one where its weights cannot be had."""
    try:
        return row, backbones.load(row, timeout=settings.network_timeout_seconds)
    except WeightsUnavailableError:
        return EMBEDDED, backbones.load(EMBEDDED, timeout=0)


@dataclass(frozen=True)
class _Pass:
    """The pass of all pictures through the backbone, with what it needs to know."""

    images: ImageSet
    row: Backbone
    trunk: nn.Module
    device: str
    plan: Plan
    parts: Split
    settings: Settings

    def run(self, clock: _Clock, should_stop: Callable[[], bool]) -> Generator[Event, None, _Seen]:
        """Features from the set's cache, or by one pass with classes and both sides of the split mixed, so that
        stopping early leaves something of everything."""
        total = len(self.images.pictures)
        cache = FeatureCache(self.images, self.row.id, self.trunk, self.row.preprocessing)
        cached = cache.load()
        if cached is not None and cached.shape == (total, self.row.width):
            yield Progress("features", total, total, None)
            return _Seen(list(range(total)), cached, stopped=False)
        order = self._order()
        rest = seconds_needed(self.row, pictures=total, classes=len(self.images.class_names), speed=float("inf"))
        features, done = np.empty((total, self.row.width), dtype=np.float32), 0
        for batch in extract(self.trunk, self.images, order, self.row.preprocessing, device=self.device):
            features[done : done + len(batch)] = batch
            done += len(batch)
            yield Progress("features", done, total, clock.running() / done * (total - done) + rest)
            if should_stop() and done < total:
                return _Seen(order[:done], features[:done], stopped=True)
        if total >= _SPEED_SAMPLE:
            Machine(self.settings).remember(self.row, total / clock.running())
        in_order = np.empty_like(features)
        in_order[order] = features
        cache.save(in_order)
        return _Seen(list(range(total)), in_order, stopped=False)

    def _order(self) -> list[int]:
        tested = set(self.parts.test)
        strata = [2 * picture.label + (i in tested) for i, picture in enumerate(self.images.pictures)]
        return interleaved(strata, self.plan.seed)


def _solve(
    images: ImageSet,
    features: npt.NDArray[np.float32],
    fit: Sequence[int],
    plan: Plan,
    clock: _Clock,
    should_stop: Callable[[], bool],
) -> Generator[Event, None, SolvedHead]:
    """The head for the pictures at `fit`, whose features are given."""
    labels = [images.pictures[i].label for i in fit]
    groups = [images.pictures[i].group for i in fit]
    head: SolvedHead | None = None
    for step in solve(features, labels, groups, len(images.class_names), seed=plan.seed, should_stop=should_stop):
        if isinstance(step, SolvedHead):
            head = step
        else:
            yield Progress("solving", step.done, step.total, clock.running() / step.done * (step.total - step.done))
    assert head is not None
    return head


def _evaluate(images: ImageSet, features: npt.NDArray[np.float32], exam: Sequence[int], head: SolvedHead) -> Evaluation:
    """Scores on the pictures at `exam`, whose features are given."""
    probabilities = (torch.from_numpy(features) @ head.weight.T + head.bias).softmax(1).numpy()
    labels = [images.pictures[i].label for i in exam]
    groups = [images.pictures[i].group for i in exam]
    return evaluate(probabilities, labels, images.class_names, pictures=exam, groups=groups)


def _training_record(
    plan: Plan, head: SolvedHead, parts: Split, images: ImageSet, train_pictures: int, stopped: bool
) -> dict[str, object]:
    return {
        **asdict(plan),
        "strategy": "frozen backbone, solved linear head",
        "strength": head.strength,
        "temperature": head.temperature,
        "cv_accuracy": head.cv_accuracy,
        "train_pictures": train_pictures,
        "official_split": parts.official,
        "moved_copies": parts.moved,
        "skipped": len(images.skipped),
        "stopped": stopped,
    }


def _report(folder: Path, evaluation: Evaluation, info: bundle.BundleInfo, clock: _Clock) -> None:
    record = {
        "evaluation": evaluation.to_dict(),
        "training": info.training,
        "backbone": info.backbone.id,
        "seconds": clock.seconds,
        "created": info.created,
    }
    temporary = folder / f"{REPORT}.tmp"
    temporary.write_text(json.dumps(record), encoding="utf-8")
    temporary.replace(folder / REPORT)
