"""Fine-tuning as a stage of a run: settle the recipe, train, compare with the solved head, train on everything.

The model is first trained without a fifth of the training pictures and judged on those, beside the solved head it
started from and averages of the two (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903). Only what is at least as
accurate there as the solved head can win; the winner is then trained once more with all training pictures.
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tl_core.data.imageset import ImageSet
from tl_core.data.pixels import PixelStore, Preprocessing
from tl_core.data.split import hold_out
from tl_core.evaluation.conformal import measure
from tl_core.events import EpochEnd, Event, Paused, Planned, Progress
from tl_core.models import heads
from tl_core.models.catalogue import Backbone
from tl_core.models.classifier import Classifier
from tl_core.settings import Settings
from tl_core.training.balance import class_weights
from tl_core.training.distributed import World
from tl_core.training.engine import has_bf16
from tl_core.training.features import outputs
from tl_core.training.finetune import EpochDone, Judged, Step, Trouble
from tl_core.training.frames import frame
from tl_core.training.head import HeadMaker
from tl_core.training.job import Job
from tl_core.training.journal import Journal
from tl_core.training.plan import HELD_OUT, WORKS, Facts, Machine, Plan, Work, settle
from tl_core.training.recipe import Precision, Recipe
from tl_core.training.solve import fit_temperature
from tl_core.wording import notice

AVERAGES = (0.25, 0.5, 0.75, 1.0)  # shares of the fine-tuned weights; 0 is the solved head
_WORTH = 0.001  # of log loss: below that two models are as good, and the simpler one stays
_FLIP_PICTURES = 200  # looked at in the mirror
_FLIP_LOSS = 0.05  # of accuracy: more than this means that left and right are not the same here


@dataclass(frozen=True)
class Tuned:
    """What fine-tuning delivered: a calibrated model and how it was judged. `share` of its weights is fine-tuned."""

    trunk: nn.Module
    head: nn.Module
    preprocessing: Preprocessing
    share: float
    validation: dict[str, dict[str, float]]
    epochs: int
    stopped: bool
    likely: float | None  # the threshold of `evaluation.conformal`


class Tuning:
    """The stage with all it needs to know. `train` are the pictures that teach, `loaded` gives the backbone anew for a
    size, `maker` the head for some of the pictures."""

    def __init__(
        self,
        images: ImageSet,
        folder: Path,
        row: Backbone,
        plan: Plan,
        *,
        train: list[int],
        loaded: Callable[[int], nn.Module],
        maker: HeadMaker,
        settings: Settings,
        device: str,
        world: World,
        journal: Journal,
    ) -> None:
        self._images, self._folder, self._row, self._plan = images, folder, row, plan
        self._train, self._loaded, self._maker = train, loaded, maker
        self._settings, self._device, self._world, self._journal = settings, device, world, journal
        self._labels = torch.tensor([picture.label for picture in images.pictures])
        self._store = PixelStore(images)
        self._fit, self._held = hold_out(images, train, HELD_OUT, seed=plan.seed)

    def run(
        self, whole_head: nn.Module, *, should_stop: Callable[[], bool], should_pause: Callable[[], bool]
    ) -> Generator[Event, None, Tuned | Paused | None]:
        """The fine-tuned model, None when the solved one is as good; `whole_head` was fitted on all that teach."""
        if not self._held or len(set(self._labels[self._fit].tolist())) < len(self._images.class_names):
            yield notice("too_few_to_tune")
            return None
        head, _ = yield from self._maker.make("held", self._fit)
        size = self._plan.recipe.image_size if self._plan.recipe else self._row.preprocessing.size
        if (yield from frame(self._images, self._row, size, should_pause)):
            return Paused("framing")
        plan = Plan.from_dict(self._journal.decided("plan", lambda: self._settled(head).to_dict()))
        yield planned(plan)
        if plan.recipe is None:
            return None
        recipe = replace(plan.recipe, flip=self._journal.decided("flip", lambda: self._flips_allowed(head)))
        if recipe.precision not in (known := precisions(self._device)):  # decided on another device
            recipe = replace(recipe, precision=known[-1])
        return (yield from self._both(recipe, head, whole_head, should_stop, should_pause))

    def _both(
        self,
        recipe: Recipe,
        head: nn.Module,
        whole_head: nn.Module,
        should_stop: Callable[[], bool],
        should_pause: Callable[[], bool],
    ) -> Generator[Event, None, Tuned | Paused | None]:
        """Train without the pictures held out, judge, and train the winner with them."""
        if not recipe.flip and self._plan.wishes.flips == "auto":
            yield notice("no_mirror")
        clock = _Clock(recipe, len(self._fit), len(self._train))
        held = replace(self._job("held", recipe, self._fit, head), judged=True)
        tuned = yield from self._train_model(held, clock, should_stop, should_pause)
        if isinstance(tuned, Paused):
            return tuned
        judgement = self._judgement(tuned, head, recipe)
        if not judgement["share"]:
            yield notice("solved_kept")
            return None
        if tuned.left == "done" and recipe.again:
            # As long as the judged one needed for its best: with more it would be another model than the judged one.
            again_recipe = replace(recipe, epochs=max(1, judgement["epochs"]))
            whole = self._job("whole", again_recipe, self._train, whole_head)
            again = yield from self._train_model(whole, clock, should_stop, should_pause)
            if isinstance(again, Paused):
                return again
            if again.left == "done":  # stopped half-way, the judged one is the better one
                tuned = again
        tuned.model.detach()
        tuned.blend(judgement["share"])
        heads.cool(tuned.model.head, judgement["temperature"])
        return Tuned(
            tuned.model.trunk.cpu(),
            tuned.model.head.cpu(),
            replace(self._row.preprocessing, size=tuned.size),
            judgement["share"],
            judgement["validation"],
            tuned.epochs,
            should_stop(),
            judgement["likely"],
        )

    def _job(self, name: str, recipe: Recipe, fit: list[int], head: nn.Module) -> Job:
        weights = class_weights(self._labels[fit].tolist(), len(self._images.class_names), on=self._plan.balance)
        state = {key: value.detach().clone() for key, value in head.state_dict().items()}
        return Job(
            self._images,
            self._row,
            self._folder,
            name,
            recipe,
            self._plan.seed,
            fit,
            weights,
            heads.describe(head),
            state,
            start_from=self._plan.wishes.start_from,
        )

    def _settled(self, head: nn.Module) -> Plan:
        """The plan with speeds measured on a few batches here."""
        machine, plan = Machine(self._settings), self._plan
        facts = Facts.of(self._images, train=len(self._train))
        speeds: dict[Work, float] = {work: machine.assumed(self._row, work, plan.wishes) for work in WORKS}
        measured: set[str] = set()
        while plan.recipe is not None and plan.recipe.strategy not in measured:
            strategy = plan.recipe.strategy
            precision, speed = self._fastest(plan.recipe, head)
            area = (plan.recipe.image_size / self._row.preprocessing.size) ** 2
            machine.remember(self._row, speed * area, strategy)
            speeds[strategy] = speed
            measured.add(strategy)
            plan = settle(plan, facts, speeds, precision=precision)
        return plan

    def _fastest(self, recipe: Recipe, head: nn.Module) -> tuple[Precision, float]:
        """The precision that steps fastest here, and how many pictures a second."""
        speeds: dict[Precision, float] = {}
        for precision in precisions(self._device):
            job = self._job("probe", replace(recipe, precision=precision), self._fit, head)
            trunk = self._loaded(recipe.image_size)
            speeds[precision] = job.tuner(trunk, device=self._device, world=World(), judge=None).measure()
        best = max(speeds, key=lambda precision: speeds[precision])
        return best, speeds[best] * self._world.size

    def _flips_allowed(self, head: nn.Module) -> bool:
        """Whether a mirrored picture shows the same class, by asking the solved head about mirrored held-out ones."""
        if self._plan.wishes.flips != "auto":
            return self._plan.wishes.flips == "on"
        asked = self._held[:: max(1, len(self._held) // _FLIP_PICTURES)]
        size, truth = self._row.preprocessing.size, self._labels[asked]
        model = Classifier(self._loaded(size), head, len(self._images.class_names)).to(self._device)
        straight = accuracy(self._maker.logits(head, asked), truth)
        framed = (
            self._store.framed(asked[i : i + 16], self._row.preprocessing).flip(3) for i in range(0, len(asked), 16)
        )
        with torch.inference_mode():
            mirrored = torch.cat([model(self._row.preprocessing.normalise(x.to(self._device))).cpu() for x in framed])
        return straight - accuracy(mirrored, truth) <= _FLIP_LOSS

    def _train_model(
        self,
        job: Job,
        clock: "_Clock",
        should_stop: Callable[[], bool],
        should_pause: Callable[[], bool],
    ) -> Generator[Event, None, "_Trained | Paused"]:
        """Train one job with all processes, reporting; gives the model with the weights it started from."""
        self._world.tell(job)
        trunk = self._loaded(job.recipe.image_size)
        judge = (lambda model, size: self._judge(model, size, job.recipe)) if job.judged else None
        tuner = job.tuner(trunk, device=self._device, world=self._world, judge=judge)
        start = tuner.weights()
        for report in tuner.run(should_stop=should_stop, should_pause=should_pause):
            if isinstance(report, Step):
                yield clock.progress(job.name, report)
            elif isinstance(report, EpochDone):
                j = report.judged
                yield EpochEnd(report.epoch, job.recipe.epochs, j.accuracy, j.loss, report.best)
            elif isinstance(report, Trouble):
                yield notice(report.code, **report.values)
            elif report.reason == "paused":
                return Paused("tuning")
            else:
                return _Trained(tuner.model, start, report.reason, tuner.size, report.best)
        raise AssertionError("the loop always says how it was left")

    def _judge(self, model: nn.Module, size: int, recipe: Recipe) -> Judged:
        logits, truth = self._logits(model, size, recipe), self._labels[self._held]
        return Judged(accuracy(logits, truth), F.cross_entropy(logits, truth).item())

    def _logits(self, model: nn.Module, size: int, recipe: Recipe) -> Tensor:
        """(n, C) of the pictures held out."""
        seen = replace(self._row.preprocessing, size=size)
        found = outputs(model, self._store, self._held, seen, device=self._device, precision=recipe.precision)
        return torch.from_numpy(found)

    def _judgement(self, tuned: "_Trained", head: nn.Module, recipe: Recipe) -> dict[str, Any]:
        """Taken once, but not for good over a model that was stopped: who goes on with it judges what comes of it."""
        judgement: dict[str, Any] = self._journal.get("judgement") or self._judge_shares(tuned, head, recipe)
        if tuned.left == "done":
            self._journal.put("judgement", judgement)
        return judgement

    def _judge_shares(self, tuned: "_Trained", head: nn.Module, recipe: Recipe) -> dict[str, Any]:
        """Which share of the fine-tuned weights does best on the pictures held out; 0 unless one is as accurate as the
        solved head and, calibrated, surer of what is right."""
        truth = self._labels[self._held]
        surest = self._maker.logits(head, self._held)
        share, best = 0.0, calibrated(surest, truth)
        validation = {"solved": best}
        for candidate in AVERAGES:
            with tuned.blended(candidate):
                logits = self._logits(tuned.model, tuned.size, recipe)
            found = calibrated(logits, truth)
            validation[f"{candidate:.0%} fine-tuned"] = found
            if found["accuracy"] >= validation["solved"]["accuracy"] and found["loss"] < best["loss"] - _WORTH:
                share, best, surest = candidate, found, logits
        likely = measure((surest / best["temperature"]).softmax(1).numpy(), truth.numpy())
        return {
            "share": share,
            "temperature": best["temperature"],
            "validation": validation,
            "epochs": tuned.epochs,
            "likely": None if likely is None else likely.threshold,
        }


@dataclass
class _Trained:
    """A model after training, and what its trained weights were before it."""

    model: Classifier
    start: dict[str, Tensor]
    left: str
    size: int
    epochs: int

    def blend(self, share: float) -> None:
        """Move the weights back until `share` of the way from the start is left."""
        for name, value in self.model.state_dict().items():
            if name in self.start:
                value.copy_(torch.lerp(self.start[name].to(value.device), value, share))

    @contextmanager
    def blended(self, share: float) -> Iterator[None]:
        """As `blend`, in here only."""
        kept = {name: value.clone() for name, value in self.model.state_dict().items() if name in self.start}
        self.blend(share)
        try:
            yield
        finally:
            for name, value in self.model.state_dict().items():
                if name in kept:
                    value.copy_(kept[name])


class _Clock:
    """Steps of both trainings as one count, and the seconds they will take from those that were seen."""

    def __init__(self, recipe: Recipe, fit: int, train: int) -> None:
        self._steps = {"held": recipe.steps(fit), "whole": recipe.steps(train) if recipe.again else 0}
        self._since, self._first = time.monotonic(), -1

    def progress(self, name: str, step: Step) -> Progress:
        total = sum(self._steps.values())
        done = step.done + (self._steps["held"] if name == "whole" else 0)
        if self._first < 0:
            self._since, self._first = time.monotonic(), done
        each = (time.monotonic() - self._since) / (done - self._first) if done > self._first else None
        return Progress("tuning", done, total, None if each is None else each * (total - done))


def planned(plan: Plan) -> Planned:
    """What the plan will do, as an event."""
    epochs = plan.recipe.epochs if plan.recipe else 0
    return Planned(plan.seconds or 0.0, plan.strategy, epochs, tuple(asdict(reason) for reason in plan.reasons))


def precisions(device: str) -> list[Precision]:
    """What is worth trying on a device: bfloat16 only where the hardware has it, float16 on older GPUs."""
    if device == "cuda":
        return ["bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"]
    return ["bf16", "fp32"] if device == "cpu" and has_bf16() else ["fp32"]


def accuracy(logits: Tensor, truth: Tensor) -> float:
    """Share of the (n, C) logits that are largest at the (n,) truth."""
    return (logits.argmax(1) == truth).float().mean().item()


def calibrated(logits: Tensor, truth: Tensor) -> dict[str, float]:
    """Accuracy, and the log loss at the temperature that makes it least."""
    temperature = fit_temperature(logits, truth)
    loss = F.cross_entropy(logits / temperature, truth).item()
    return {"accuracy": accuracy(logits, truth), "loss": loss, "temperature": temperature}
