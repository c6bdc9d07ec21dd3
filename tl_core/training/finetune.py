"""The gradient loop: a classifier that starts from a solved head (LP-FT, Kumar et al. 2022, arXiv 2202.10054) is
trained on augmented views, its exponential average judged on pictures held out.

It can be left at any step and gone on with by any process: everything it needs is in its checkpoint, and everything
random follows from (seed, epoch, picture). Norms keep the statistics of pretraining, so a batch means the same however
it is cut, and small sets do not unsettle them.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tl_core.data.pixels import Preprocessing
from tl_core.models.backbone import layer_groups
from tl_core.models.classifier import Classifier
from tl_core.training.augment import Augmentation, Views
from tl_core.training.batches import free_memory, out_of_memory
from tl_core.training.checkpoint import Checkpoint, Checkpoints
from tl_core.training.cores import Workers, one_thread
from tl_core.training.distributed import World
from tl_core.training.gradient import Gradients, Mixing, Numbers, TrainingData
from tl_core.training.recipe import Recipe
from tl_core.training.schedule import parameter_groups, rate_at

_CLIP = 1.0  # largest gradient norm
_SLOWER = 0.1  # the factor on the rate after a divergence
_CHECKPOINT_SECONDS = 15.0
_ADAM_STATE = ("step", "exp_avg", "exp_avg_sq")
_LOOK_EVERY = 20  # steps between looks at the loss on a GPU, which has to wait for each


@dataclass(frozen=True)
class Judged:
    """Scores on the pictures held out."""

    accuracy: float
    loss: float


@dataclass(frozen=True)
class Step:
    """`done` of `total` optimizer steps; `loss` is the mean since the last one reported."""

    done: int
    total: int
    epoch: int
    loss: float


@dataclass(frozen=True)
class EpochDone:
    epoch: int
    judged: Judged
    best: bool


@dataclass(frozen=True)
class Trouble:
    """`code` names a notice: memory ran short, the loss left the numbers, or a checkpoint was damaged."""

    code: str
    values: dict[str, object]


@dataclass(frozen=True)
class Left:
    """The loop was left: "done", "stopped" (for good, the best is in the model) or "paused" (the checkpoint is
    written). `best` is the epoch whose weights were judged best; without a judge the last one."""

    reason: str
    epochs: int
    best: int


Judge = Callable[[nn.Module, int], Judged]
Report = Step | EpochDone | Trouble | Left


class Tuner:
    """Trains `model` in place; when it is left for good the model holds its best weights.

    `sizes` are what pictures are shown at: the first, and smaller ones for when memory does not suffice. `judge`, given
    the model and the size, is asked after epochs and decides which weights are best and when to stop early; without it
    the last average is.
    """

    def __init__(
        self,
        model: Classifier,
        data: TrainingData,
        recipe: Recipe,
        *,
        sizes: Sequence[int],
        preprocessing: Preprocessing,
        device: str,
        seed: int,
        checkpoints: Checkpoints,
        world: World,
        judge: Judge | None = None,
    ) -> None:
        self._model, self._data, self._recipe = model.to(device), data, recipe
        self._sizes, self._device, self._seed = list(sizes), device, seed
        self._checkpoints, self._world, self._judge = checkpoints, world, judge
        self._names, self._weights = _trainable(model, recipe)
        self._optimizer = self._make_optimizer()
        self._average = [w.detach().clone() for w in self._weights]
        self._best = [w.detach().clone() for w in self._weights]
        self._best_judged, self._stale, self._epochs_judged = Judged(0.0, math.inf), 0, 0
        self._best_epoch, self._finished = 0, False
        self._slower, self._piece = 1.0, recipe.piece
        self._steps_per_epoch = max(1, len(data.fit) // recipe.batch)
        self._step, self._total = 0, recipe.steps(len(data.fit))
        self._scaler = torch.amp.GradScaler(device, enabled=recipe.precision == "fp16")
        self._gradients = Gradients(model, self._weights, data, recipe, preprocessing, device)

    @property
    def size(self) -> int:
        """Pixels a side of the pictures that are shown now."""
        return self._sizes[0]

    @property
    def model(self) -> Classifier:
        return self._model

    def weights(self) -> dict[str, Tensor]:
        """What is trained, by name, as it is now."""
        return {name: w.detach().clone() for name, w in zip(self._names, self._weights, strict=True)}

    def measure(self, batches: int = 2) -> float:
        """Pictures a second of steps like those to come, on real pictures, without learning from them."""
        views = Views.draw(len(self._data.labels), self._augmentation(), seed=self._seed, epoch=0)
        batch = self._data.fit[: self._recipe.batch]
        workers, started = Workers(self._device), 0.0
        try:
            with one_thread():
                for number in range(batches + 1):
                    if number == 1:  # the first one pays for memory and kernels
                        started = time.monotonic()
                    self._gradient(batch, slice(0, len(batch)), views, workers)[0].item()
        finally:
            workers.close()
        return batches * len(batch) / (time.monotonic() - started)

    def run(
        self, *, should_stop: Callable[[], bool], should_pause: Callable[[], bool] = lambda: False
    ) -> Iterator[Report]:
        """Goes on from the checkpoint if there is one. The last report is `Left`."""
        if (found := self._world.tell(self._checkpoints.latest() if self._world.first else None)) is not None:
            self._restore(found)
        if self._checkpoints.damaged:
            yield Trouble("checkpoint_damaged", {})
        self._workers = Workers(self._device, self._world.local_size)
        try:
            with one_thread():
                yield from self._epochs(should_stop, should_pause)
        finally:
            self._workers.close()

    def _epochs(self, should_stop: Callable[[], bool], should_pause: Callable[[], bool]) -> Iterator[Report]:
        begun, reason = self._step, "done"

        def pause_now() -> bool:  # every slice takes a step at least, or it would never end
            return self._step > begun and should_pause()

        while reason not in ("stopped", "paused", "diverged") and not self._finished:
            complete = self._step // self._steps_per_epoch
            if complete > self._epochs_judged:
                self._epochs_judged = complete
                if self._due(complete):
                    yield self._judged(complete)
            if self._stale > self._recipe.patience or self._step >= self._total:
                break
            reason = yield from self._epoch(complete, should_stop, pause_now)
        if reason in ("done", "diverged"):
            self._finished = True
            self.save()
        if reason != "paused":
            if reason == "stopped" and self._due(self._step / self._steps_per_epoch):
                yield self._judged(self._step // self._steps_per_epoch)
            self._deliver()
        complete = self._step // self._steps_per_epoch
        best = self._best_epoch if math.isfinite(self._best_judged.loss) else complete
        yield Left(reason if reason in ("stopped", "paused") else "done", complete, best)

    def _epoch(
        self, epoch: int, should_stop: Callable[[], bool], should_pause: Callable[[], bool]
    ) -> Generator[Report, None, str]:
        """The steps of one epoch that are left; gives why it ended."""
        order = np.random.default_rng((self._seed, 3, epoch)).permutation(self._data.fit)
        views = Views.draw(len(self._data.labels), self._augmentation(), seed=self._seed, epoch=epoch)
        saved, total, since = time.monotonic(), torch.zeros((), device=self._device), 0
        while self._step < (epoch + 1) * self._steps_per_epoch:
            # Every process hears the first one's wish, at the same step.
            stop, pause = self._world.agree(should_stop(), should_pause())
            if stop:
                self.save()
                return "stopped"
            if pause:
                self.save()
                return "paused"
            at = self._step % self._steps_per_epoch
            batch = order[at * self._recipe.batch : (at + 1) * self._recipe.batch]
            try:
                total += self._take_step(batch, views, epoch)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or not self._smaller():
                    raise
                yield Trouble("memory_short", {"pictures": self._piece, "size": self.size})
                continue
            self._step, since = self._step + 1, since + 1
            if self._device == "cpu" or since == _LOOK_EVERY or self._step % self._steps_per_epoch == 0:
                loss, total, since = total.item() / since, torch.zeros_like(total), 0
                if not math.isfinite(loss):
                    if not self._back_to_best():
                        return "diverged"
                    yield Trouble("diverged", {})
                    return "again"
                yield Step(self._step, self._total, epoch, loss)
            if time.monotonic() - saved > _CHECKPOINT_SECONDS:
                self.save()
                saved = time.monotonic()
        return "done"

    def _take_step(self, batch: Numbers, views: Views, epoch: int) -> Tensor:
        """One optimizer step on the pictures numbered `batch`; gives the mean loss."""
        recipe, mixing = self._recipe, None
        if recipe.mixup:
            rng = np.random.default_rng((self._seed, 4, self._step))
            mixing = Mixing(rng.permutation(batch), float(rng.beta(recipe.mixup, recipe.mixup)))
        mine = self._world.share(len(batch))
        loss, gradient = self._gradient(batch, mine, views, self._workers, mixing)
        self._world.sum([loss, *gradient])
        factor = rate_at(self._step, self._total, recipe.schedule) * self._slower
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        for weight, value in zip(self._weights, gradient, strict=True):
            weight.grad = value if value.stride() == weight.stride() else torch.empty_like(weight).copy_(value)
        self._scaler.unscale_(self._optimizer)
        nn.utils.clip_grad_norm_(self._weights, _CLIP)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        # The average forgets its first steps quickly: they are far from where it goes.
        decay = min(recipe.average, (1 + self._step) / (10 + self._step))
        torch._foreach_lerp_(self._average, [w.detach() for w in self._weights], 1 - decay)
        return loss

    def _gradient(
        self, batch: Numbers, share: slice, views: Views, workers: Workers, mixing: Mixing | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        return self._gradients.of(
            batch,
            share,
            views,
            self.size,
            piece=self._piece,
            workers=workers.count,
            mapped=workers.map,
            mixing=mixing,
            scale=self._scaler.scale,
        )

    def _smaller(self) -> bool:
        """Halve the small batches after memory ran out, then the pictures; False when neither can be."""
        free_memory()
        if self._piece > 1:
            self._piece = max(1, self._piece // 2)
        elif len(self._sizes) > 1:
            del self._sizes[0]
        else:
            return False
        return True

    def _back_to_best(self) -> bool:
        """After a divergence: the best weights, and once a lower rate to go on with; False the second time."""
        for weight, average, best in zip(self._weights, self._average, self._best, strict=True):
            weight.data.copy_(best)
            average.copy_(best)
        self._optimizer, again = self._make_optimizer(), self._slower == 1
        self._slower = _SLOWER
        return again

    def _due(self, complete: float) -> bool:
        """Whether the average is judged after `complete` epochs: about ten times a run, and at its end."""
        every = max(1, self._recipe.epochs // 10)
        return self._judge is not None and (
            complete % every == 0 or complete >= self._recipe.epochs or complete % 1 > 0
        )

    def _judged(self, complete: int) -> EpochDone:
        """Judge the average; it is the best so far when its loss is the least."""
        with self._averaged():
            judged = self._world.tell(
                self._judge(self._model, self.size) if self._judge and self._world.first else None
            )
        best = judged.loss < self._best_judged.loss
        self._stale = 0 if best else self._stale + 1
        if best:
            self._best_judged, self._best_epoch = judged, complete
            for kept, value in zip(self._best, self._average, strict=True):
                kept.copy_(value)
        return EpochDone(complete, judged, best)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model with its average weights in here."""
        mine = [w.data for w in self._weights]
        for weight, value in zip(self._weights, self._average, strict=True):
            weight.data = value
        try:
            yield
        finally:
            for weight, data in zip(self._weights, mine, strict=True):
                weight.data = data

    def _deliver(self) -> None:
        """The best weights, or without a judge the average, go into the model."""
        chosen = self._best if math.isfinite(self._best_judged.loss) else self._average
        for weight, value in zip(self._weights, chosen, strict=True):
            weight.data.copy_(value)

    def save(self) -> None:
        """Write a checkpoint of this step (the first process does; all have the same state)."""
        if not self._world.first:
            return
        tensors: dict[str, Tensor] = {f"weight.{n}": w for n, w in zip(self._names, self._weights, strict=True)}
        tensors |= {f"average.{n}": w for n, w in zip(self._names, self._average, strict=True)}
        tensors |= {f"best.{n}": w for n, w in zip(self._names, self._best, strict=True)}
        for name, weight in zip(self._names, self._weights, strict=True):
            tensors |= {f"{key}.{name}": value for key, value in self._optimizer.state[weight].items()}
        values = {
            "stale": self._stale,
            "judged": self._epochs_judged,
            "best": [self._best_judged.accuracy, _finite(self._best_judged.loss)],
            "best_epoch": self._best_epoch,
            "finished": self._finished,
            "slower": self._slower,
            "piece": self._piece,
            "size": self.size,
            "scaler": self._scaler.state_dict(),
        }
        self._checkpoints.save(self._step, tensors, values)

    def _restore(self, found: Checkpoint) -> None:
        self._step, values = found.step, found.values
        self._stale, self._epochs_judged = int(values["stale"]), int(values["judged"])
        self._best_epoch, self._finished = int(values["best_epoch"]), bool(values["finished"])
        accuracy, loss = values["best"]
        self._best_judged = Judged(accuracy, math.inf if loss is None else loss)
        self._slower, self._piece = float(values["slower"]), int(values["piece"])
        self._sizes = [size for size in self._sizes if size <= int(values["size"])]
        self._scaler.load_state_dict(values["scaler"])
        for name, weight, average, best in zip(self._names, self._weights, self._average, self._best, strict=True):
            weight.data.copy_(found.tensors[f"weight.{name}"])
            average.copy_(found.tensors[f"average.{name}"])
            best.copy_(found.tensors[f"best.{name}"])
            kept = {key: found.tensors.get(f"{key}.{name}") for key in _ADAM_STATE}
            if moments := {key: value for key, value in kept.items() if value is not None}:
                # In the weight's own order of memory: the fused optimizer goes by that.
                self._optimizer.state[weight] = {
                    key: value.to(weight.device) if key == "step" else torch.empty_like(weight).detach().copy_(value)
                    for key, value in moments.items()
                }

    def _make_optimizer(self) -> torch.optim.AdamW:
        recipe = self._recipe
        groups = parameter_groups(
            layer_groups(self._model.trunk),
            list(self._model.head_parameters()),
            rate=recipe.rate,
            head_rate=recipe.head_rate,
            decay_per_group=recipe.decay_per_group,
            weight_decay=recipe.weight_decay,
        )
        return torch.optim.AdamW(groups, lr=recipe.rate, fused=True)

    def _augmentation(self) -> Augmentation:
        return Augmentation(flip=self._recipe.flip)


def _trainable(model: Classifier, recipe: Recipe) -> tuple[list[str], list[nn.Parameter]]:
    """Names and parameters that `recipe.strategy` trains; all others are frozen. Every norm keeps its statistics."""
    model.eval().requires_grad_(False)
    groups = layer_groups(model.trunk)
    lowest = 0 if recipe.strategy == "all" else len(groups) - max(1, len(groups) // 3)
    for group in [*groups[lowest:], list(model.head_parameters())]:
        for parameter in group:
            parameter.requires_grad_(True)
    chosen = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [name for name, _ in chosen], [p for _, p in chosen]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
