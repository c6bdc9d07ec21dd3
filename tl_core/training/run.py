"""The story of a run, from a prepared set to a bundle, as a generator of events.

    for event in train(images, folder, plan=plan, settings=settings): ...

Whoever calls it may stop at any time through `should_stop`: the model is then made from the pictures seen so far, and
kept. Nothing is lost with the process either: features are cached with the set, so the same call goes on quickly.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tl_core.bundle import bundle
from tl_core.data.imageset import ImageSet
from tl_core.data.split import Split, split
from tl_core.errors import NothingTrainedError, WeightsUnavailableError
from tl_core.evaluation.metrics import Evaluation, evaluate
from tl_core.events import Event, Finished, Notice, Progress, Stage, StageDone, Started
from tl_core.models import backbone as backbones
from tl_core.models.catalogue import EMBEDDED, Backbone, find
from tl_core.settings import Settings
from tl_core.training.device import pick_device
from tl_core.training.features import FeatureCache, extract, interleaved
from tl_core.training.plan import Machine, Plan, seconds_needed
from tl_core.training.solve import SolvedHead, SolveStep, solve

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


@dataclass
class _Seen:
    """What the pass over the pictures brought: (n, D) features of the pictures at `indices`."""

    indices: list[int]
    features: npt.NDArray[np.float32]
    stopped: bool


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
        text = (
            f"{parts.moved} test pictures have a copy among the training pictures and were used for training instead."
        )
        yield Notice("copies_moved", text, {"count": str(parts.moved)})

    row, trunk, notice = _load_backbone(find(plan.backbone), settings)
    if notice is not None:
        yield notice
    yield clock.done("backbone")

    seen = _Seen([], np.empty((0, row.width), dtype=np.float32), stopped=False)
    yield from _see(images, row, trunk.to(chosen.name), chosen.name, plan, parts, settings, clock, seen, should_stop)
    if seen.stopped:
        total = len(images.pictures)
        text = f"Stopped early: the model was made from {len(seen.indices)} of {total} pictures."
        yield Notice("stopped_early", text, {"count": str(len(seen.indices)), "total": str(total)})
    yield clock.done("features")

    row_of = {picture: at for at, picture in enumerate(seen.indices)}
    fit = [i for i in parts.train if i in row_of]
    exam = [i for i in parts.test if i in row_of]
    if not exam or {images.pictures[i].label for i in fit} != set(range(len(images.class_names))):
        raise NothingTrainedError
    head: SolvedHead | None = None
    train_rows = seen.features[[row_of[i] for i in fit]]
    labels = [images.pictures[i].label for i in fit]
    groups = [images.pictures[i].group for i in fit]
    for step in solve(train_rows, labels, groups, len(images.class_names), seed=plan.seed):
        if isinstance(step, SolveStep):
            left = clock.running() / step.done * (step.total - step.done)
            yield Progress("solving", step.done, step.total, left)
        else:
            head = step
    assert head is not None
    yield clock.done("solving")

    with torch.inference_mode():
        logits = torch.from_numpy(seen.features[[row_of[i] for i in exam]]) @ head.weight.T + head.bias
        probabilities = logits.softmax(1).numpy()
    evaluation = evaluate(
        probabilities,
        [images.pictures[i].label for i in exam],
        images.class_names,
        pictures=exam,
        groups=[images.pictures[i].group for i in exam],
    )
    yield clock.done("evaluating")

    info = bundle.BundleInfo(
        backbone=row,
        class_names=images.class_names,
        preprocessing=row.preprocessing,
        evaluation=evaluation,
        training=_training_record(plan, head, parts, images, len(fit), seen.stopped),
        created=bundle.now(),
    )
    with torch.inference_mode(False):
        bundle.save(folder / BUNDLE, backbones.with_head(row, trunk.cpu(), head.weight, head.bias), info)
    yield clock.done("saving")
    _report(folder, evaluation, info, clock)
    yield Finished(
        str(folder / BUNDLE), evaluation.accuracy, "stopped" if seen.stopped else "completed", dict(clock.seconds)
    )


def _load_backbone(row: Backbone, settings: Settings) -> tuple[Backbone, nn.Module, Notice | None]:
    """The backbone asked for, or the embedded one and a sentence saying so."""
    try:
        return row, backbones.load(row, timeout=settings.network_timeout_seconds), None
    except WeightsUnavailableError:
        text = (
            f"The weights of {row.title} are not on this machine and could not be downloaded; "
            "the built-in backbone was used instead."
        )
        notice = Notice("backbone_fallback", text, {"title": row.title})
        return EMBEDDED, backbones.load(EMBEDDED, timeout=0), notice


def _see(
    images: ImageSet,
    row: Backbone,
    trunk: nn.Module,
    device: str,
    plan: Plan,
    parts: Split,
    settings: Settings,
    clock: _Clock,
    seen: _Seen,
    should_stop: Callable[[], bool],
) -> Iterator[Event]:
    """Fill `seen` with features: from the set's cache, or by one pass over the pictures, with classes and both
    sides of the split mixed, so that stopping early leaves something of everything."""
    total, classes = len(images.pictures), len(images.class_names)
    cache = FeatureCache(images, row.id, trunk, row.preprocessing)
    cached = cache.load()
    if cached is not None and cached.shape == (total, row.width):
        seen.indices, seen.features = list(range(total)), cached
        yield Progress("features", total, total, None)
        return
    tested = set(parts.test)
    strata = [2 * picture.label + (i in tested) for i, picture in enumerate(images.pictures)]
    order = interleaved(strata, plan.seed)
    rest = seconds_needed(row, pictures=total, classes=classes, speed=float("inf"))
    features = np.empty((total, row.width), dtype=np.float32)
    done = 0
    for batch in extract(trunk, images, order, row.preprocessing, device=device):
        features[done : done + len(batch)] = batch
        done += len(batch)
        yield Progress("features", done, total, clock.running() / done * (total - done) + rest)
        if should_stop() and done < total:
            seen.stopped = True
            break
    seen.indices, seen.features = order[:done], features[:done]
    if seen.stopped:
        return
    if total >= _SPEED_SAMPLE:
        Machine(settings).remember(row, total / clock.running())
    in_order = np.empty_like(features)
    in_order[order] = features
    cache.save(in_order)


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
