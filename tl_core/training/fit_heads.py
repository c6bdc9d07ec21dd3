"""Fits a head of any kind on cached features, calibrated, and the same whenever and wherever it is repeated.

What is judged is never what taught: gradient heads and boosting hold out a fold that keeps copies together, a forest
judges a picture by the trees that saw neither it nor a copy. From those answers come the number of epochs, the
temperature and the accuracy that is reported; then everything teaches. Chance is drawn by counting: the order of an
epoch and the pictures of a tree depend on (seed, epoch) only, and one torch thread adds up in one order.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tl_core.data.split import folds
from tl_core.evaluation.conformal import measure
from tl_core.models import heads
from tl_core.models.trees import FLOOR
from tl_core.training.cores import one_thread
from tl_core.training.fit_trees import CHUNK, ROUNDS, TREES, Boosting, Forest, tree_count
from tl_core.training.solve import SolvedHead, SolveStep, fit_temperature, fold_count, solve

Array = npt.NDArray[Any]
GRADIENT_KINDS = ("linear", "mlp", "gru", "lstm")

_BATCH = 32
_LARGE_BATCH = 256  # where nothing is learned
_PATIENCE = 8  # epochs without a better held-out loss
_PICTURES = 100_000  # shown in one descent at most, so that a large set gets fewer epochs...
_LEAST_EPOCHS = 5  # ... but not fewer than this
_BATCHES_A_LOOK = 50  # between two looks at `should_stop` within an epoch


@dataclass(frozen=True)
class _Recipe:
    """AdamW's rate and decay, label smoothing, epochs of one cosine descent; sizes of the hidden layers."""

    rate: float = 1e-3
    decay: float = 1.0
    smoothing: float = 0.1
    epochs: int = 30
    hidden: int = 512
    reduced: int = 128


# Compared by held-out folds on hymenoptera, flowers5, dtd10 and caltech101-15 (embedded backbone): smoothing gained the
# MLP about 0.01; decays from 0.1 to 3 and 256 to 1,024 hidden units were within 0.01 on average, and so were recurrent
# heads reading 256 or all 512 channels, which take up to twice as long.
_RECIPES = {
    "linear": _Recipe(smoothing=0.0),
    "mlp": _Recipe(),
    "gru": _Recipe(epochs=20, hidden=128),
    "lstm": _Recipe(epochs=20, hidden=128),
}


@dataclass(frozen=True)
class HeadStep:
    done: int
    total: int


@dataclass(frozen=True)
class FittedHead:
    """A calibrated head in eval mode. `cv_accuracy` is that on pictures kept from it; `epochs` counts those of the
    descent that was kept, or the trees or rounds. Where there was nothing to judge by, accuracy is that of chance."""

    head: nn.Module
    temperature: float
    cv_accuracy: float
    epochs: int
    likely: float | None = None  # the threshold of `evaluation.conformal`


@dataclass(frozen=True)
class _Fit:
    """A head whose temperature is still 1, and the (n, C) logits that its like gave to the `rows` (n,) kept away."""

    head: nn.Module
    rows: npt.NDArray[np.int64]
    logits: Tensor
    epochs: int


@dataclass(frozen=True)
class _Task:
    """N pictures: (N, D) or (N, T, C) features, (N,) labels and copy groups; `inner` teaches what `held` examines."""

    features: Array
    labels: Tensor
    groups: npt.NDArray[np.int64]
    classes: int
    seed: int
    class_weights: Tensor | None
    should_stop: Callable[[], bool]
    inner: npt.NDArray[np.int64]
    held: npt.NDArray[np.int64]

    def batch(self, rows: npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.asarray(self.features[rows], dtype=np.float32))

    def weights(self, rows: npt.NDArray[np.int64]) -> Array:
        """(n,) the weight of each picture: that of its class."""
        given = torch.ones(self.classes) if self.class_weights is None else self.class_weights
        return given[self.labels[torch.from_numpy(rows)]].numpy()


_Steps = Iterator[HeadStep | _Fit]


def fit_head(
    kind: str,
    features: Array,
    labels: Sequence[int],
    groups: Sequence[int],
    classes: int,
    *,
    seed: int,
    class_weights: Sequence[float] | None = None,
    epochs: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    start: tuple[Tensor, Tensor] | None = None,
) -> Iterator[HeadStep | FittedHead]:
    """Yields `HeadStep`s, then the head of that kind (`heads.KINDS`).

    `features` are (N, D), for "gru" and "lstm" (N, T, C), float32 or float16, perhaps on disk; labels lie in
    0..classes-1, equal `groups` are copies, at least two groups are needed; `class_weights` are as for `solve`. No
    gradient head, in an ensemble or out, gets more than `epochs`. `start` is a linear head, (C, D) weights and (C,)
    bias on raw features: "linear" begins there, and an "ensemble" takes it in place of solving its own. After
    `should_stop` the best so far is kept.
    """
    if kind not in heads.KINDS:
        raise ValueError(f"no kind of head: {kind}")
    inside = folds(groups, labels, fold_count(labels, groups), seed=seed) != 0
    task = _Task(
        features,
        torch.tensor(labels),
        np.asarray(groups, dtype=np.int64),
        classes,
        seed,
        None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32),
        should_stop,
        np.flatnonzero(inside),
        np.flatnonzero(~inside),
    )
    for step in _fit(kind, task, epochs, start):
        if isinstance(step, HeadStep):
            yield step
            continue
        fit, temperature = _calibrated(step, task)
        accuracy = 1 / classes
        if len(fit.rows):
            accuracy = (fit.logits.argmax(1) == task.labels[torch.from_numpy(fit.rows)]).float().mean().item()
        likely = measure(fit.logits.softmax(1).numpy(), task.labels[torch.from_numpy(fit.rows)].numpy())
        threshold = None if likely is None else likely.threshold
        yield FittedHead(fit.head, temperature, accuracy, fit.epochs, threshold)


def _calibrated(fit: _Fit, task: _Task) -> tuple[_Fit, float]:
    """`fit` with the temperature that suits its answers folded in, and that temperature."""
    truth = task.labels[torch.from_numpy(fit.rows)]
    temperature = _temperature(fit.logits, truth) if len(truth) else 1.0
    heads.cool(fit.head, temperature)
    return replace(fit, head=fit.head.requires_grad_(False).eval(), logits=fit.logits / temperature), temperature


def _fit(kind: str, task: _Task, epochs: int | None, start: tuple[Tensor, Tensor] | None) -> _Steps:
    if kind in GRADIENT_KINDS:
        return _fit_gradient(kind, task, epochs, start)
    if kind == "ensemble":
        return _fit_ensemble(task, epochs, start)
    return _fit_forest(task) if kind == "forest" else _fit_boosting(task)


def _fit_solved(task: _Task, start: tuple[Tensor, Tensor] | None) -> _Steps:
    """The head of `solve`: once on `inner` for its answers, once on everything unless `start` is that already."""
    parts = [task.inner, np.arange(len(task.labels))] if start is None else [task.inner]
    found: list[SolvedHead] = []
    for at, rows in enumerate(parts):
        x, labels = task.batch(rows).numpy(), task.labels[torch.from_numpy(rows)].tolist()
        groups = task.groups[rows].tolist()
        weights, stop = None if task.class_weights is None else task.class_weights.tolist(), task.should_stop
        steps = solve(x, labels, groups, task.classes, seed=task.seed, class_weights=weights, should_stop=stop)
        while (step := _next(steps)) is not None:
            if isinstance(step, SolveStep):
                yield HeadStep(at * step.total + step.done, len(parts) * step.total)
            else:
                found.append(step)
    judged = heads.linear(found[0].weight, found[0].bias)
    weight, bias = start or (found[-1].weight, found[-1].bias)
    yield _Fit(heads.linear(weight, bias), task.held, _answers(judged, task, task.held), 1)


def _next(steps: Iterator[SolveStep | SolvedHead]) -> SolveStep | SolvedHead | None:
    """One step more. What `solve` does on as many threads as there are, it does a little differently on each number."""
    with one_thread():
        return next(steps, None)


def _fit_ensemble(task: _Task, epochs: int | None, start: tuple[Tensor, Tensor] | None) -> _Steps:
    """Linear, MLP and forest in equal parts; after `should_stop`, those that were begun. Its answers are those that the
    members gave to pictures that none of them had seen."""
    solvable = len(np.unique(task.groups[task.inner])) >= 2
    solved = _fit_solved(task, start) if solvable else _fit_gradient("linear", task, epochs, start)
    members: list[_Fit] = []
    for at, steps in enumerate((solved, _fit_gradient("mlp", task, epochs, start), _fit_forest(task))):
        if at and task.should_stop():
            break
        for step in steps:
            if isinstance(step, _Fit):
                members.append(_calibrated(step, task)[0])
            else:
                yield HeadStep(100 * at + 100 * step.done // step.total, 300)
    rows = members[0].rows
    for member in members[1:]:
        rows = np.intersect1d(rows, member.rows)
    logs = [m.logits[torch.from_numpy(np.searchsorted(m.rows, rows))].log_softmax(1) for m in members]
    ensemble = heads.Ensemble([member.head for member in members])
    yield _Fit(ensemble, rows, torch.stack(logs).logsumexp(0), max(member.epochs for member in members[:2]))


def _fit_forest(task: _Task) -> _Steps:
    everything = np.arange(len(task.labels))
    forest = Forest(
        task.batch(everything).numpy(), task.labels.numpy(), task.classes, task.seed, task.weights(everything)
    )
    count = tree_count(TREES, task.classes)
    for done in range(CHUNK, count + 1, CHUNK):
        forest.grow(done)
        yield HeadStep(done, count)
        if task.should_stop():
            break
    rows, votes = forest.unseen_votes(task.groups)
    yield _Fit(forest.head(), rows, torch.log(torch.from_numpy(votes) + FLOOR), done)


def _fit_boosting(task: _Task) -> _Steps:
    """One on `inner` for its answers and one on everything, round by round together."""
    parts = (task.inner, np.arange(len(task.labels)))
    judged, final = (
        Boosting(task.batch(rows).numpy(), task.labels.numpy()[rows], task.classes, task.seed, task.weights(rows))
        for rows in parts
    )
    count = tree_count(ROUNDS, task.classes)
    for done in range(1, count + 1):
        judged.round(done)
        final.round(done)
        if done % CHUNK == 0:
            yield HeadStep(done, count)
            if task.should_stop():
                break
    yield _Fit(final.head(), task.held, _answers(judged.head(), task, task.held), done)


# --- heads that descend a gradient ---


def _fit_gradient(kind: str, task: _Task, epochs: int | None, start: tuple[Tensor, Tensor] | None) -> _Steps:
    """One descent on `inner` until the held-out loss gets no better; another as long and alike on everything."""
    fewest = min(_LEAST_EPOCHS, _RECIPES[kind].epochs)
    total = epochs or max(fewest, min(_RECIPES[kind].epochs, _PICTURES // len(task.labels)))
    descent, truth = _Descent(kind, task, task.inner, total, start), task.labels[torch.from_numpy(task.held)]
    best, least, kept, logits = 0, float("inf"), descent.state(), torch.zeros(0)
    for epoch in range(total):
        if epoch and task.should_stop():
            break
        whole = descent.epoch(epoch)
        answers = _answers(descent.head, task, task.held)
        # The loss after calibration: an epoch that only grows surer is not worse for it.
        cooled = answers / _temperature(answers, truth)
        loss = F.cross_entropy(cooled, truth, weight=task.class_weights).item()
        if loss < least:
            best, least, kept, logits = epoch, loss, descent.state(), answers
        yield HeadStep(epoch + 1, 2 * total)
        if not whole or epoch - best >= _PATIENCE:
            break
    descent.head.load_state_dict(kept)
    again = _Descent(kind, task, np.arange(len(task.labels)), total, start)
    for epoch in range(best + 1):
        if task.should_stop() or not again.epoch(epoch):
            break  # less of everything is worth less than the best of most
        yield HeadStep(total + total * (epoch + 1) // (best + 1), 2 * total)
    else:
        descent = again
    yield _Fit(descent.finished(), task.held, logits, best + 1)


class _Descent:
    """One way down on the pictures `rows`, `total` epochs long, of which any number may be gone."""

    def __init__(
        self, kind: str, task: _Task, rows: npt.NDArray[np.int64], total: int, start: tuple[Tensor, Tensor] | None
    ) -> None:
        self._task, self._rows, self._total, self._recipe = task, rows, total, _RECIPES[kind]
        mean, deviation = _moments(task, rows)
        with one_thread():
            self.head = _new(kind, task, self._recipe, (mean, deviation), start)
        self._optimizer = torch.optim.AdamW(
            self.head.parameters(), lr=self._recipe.rate, weight_decay=self._recipe.decay
        )

    def epoch(self, epoch: int) -> bool:
        """Every picture once; whether it came to the end. The first 50 batches are never stopped."""
        order = self._rows[np.random.default_rng((self._task.seed, epoch)).permutation(len(self._rows))]
        steps = -(-len(order) // _BATCH)
        with torch.enable_grad(), one_thread():
            for step in range(steps):
                if step and step % _BATCHES_A_LOOK == 0 and self._task.should_stop():
                    return False
                self._step(order[step::steps], epoch + step / steps, 1 / steps)  # batches of equal size
        return True

    def _step(self, rows: npt.NDArray[np.int64], at: float, length: float) -> None:
        warm = min(1.0, at + length)  # the first epoch: Adam knows no scale yet
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.rate * warm * (1 + np.cos(np.pi * at / self._total)) / 2
        self._optimizer.zero_grad()
        loss = F.cross_entropy(
            self.head(self._task.batch(rows)),
            self._task.labels[torch.from_numpy(rows)],
            weight=self._task.class_weights,
            label_smoothing=self._recipe.smoothing,
        )
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def state(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.head.state_dict().items()}

    def finished(self) -> nn.Module:
        """The head; a linear one takes raw features."""
        if not isinstance(self.head, nn.Sequential):
            return self.head
        standard, last = self.head
        assert isinstance(standard, heads.Standard) and isinstance(last, nn.Linear)
        weight = last.weight.detach() / standard.deviation
        with one_thread():
            return heads.linear(weight, last.bias.detach() - weight @ standard.mean)


def _new(
    kind: str, task: _Task, recipe: _Recipe, moments: tuple[Tensor, Tensor], start: tuple[Tensor, Tensor] | None
) -> nn.Module:
    """An untaught head whose first numbers depend on the seed alone; a linear one is under its standardisation."""
    width, (mean, deviation) = task.features.shape[-1], moments
    head: nn.Module
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(task.seed)
        if kind == "linear":
            head = nn.Sequential(heads.Standard(width), nn.Linear(width, task.classes))
        elif kind == "mlp":
            head = heads.MLP(width, recipe.hidden, task.classes)
        else:
            cell: Literal["gru", "lstm"] = "gru" if kind == "gru" else "lstm"
            head = heads.Recurrent(cell, width, recipe.hidden, task.classes, reduced=recipe.reduced)
    standard = head[0] if isinstance(head, nn.Sequential) else head.standard
    assert isinstance(standard, heads.Standard)
    standard.load_state_dict({"mean": mean, "deviation": deviation})
    if isinstance(head, nn.Sequential):
        weight, bias = start or (torch.zeros(task.classes, width), torch.zeros(task.classes))
        head[1].load_state_dict({"weight": weight * deviation, "bias": bias + weight @ mean})
    return head


def _moments(task: _Task, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """(width,) mean and deviation of the features over pictures (and places), read a batch at a time."""
    count, total, squares = 0, np.zeros(task.features.shape[-1]), np.zeros(task.features.shape[-1])
    for start in range(0, len(rows), _LARGE_BATCH):
        x = np.asarray(task.features[rows[start : start + _LARGE_BATCH]], dtype=np.float64)
        x = x.reshape(-1, x.shape[-1])
        count, total, squares = count + len(x), total + x.sum(0), squares + (x**2).sum(0)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    deviation = np.where(deviation > 1e-6 * np.maximum(1, np.abs(mean)), deviation, 1.0)  # never changes: leave it
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(deviation.astype(np.float32))


def _answers(head: nn.Module, task: _Task, rows: npt.NDArray[np.int64]) -> Tensor:
    """(n, C) logits of the pictures `rows`."""
    with torch.no_grad(), one_thread():
        parts = [head(task.batch(rows[at : at + _LARGE_BATCH])) for at in range(0, len(rows), _LARGE_BATCH)]
    return torch.cat(parts)


def _temperature(logits: Tensor, truth: Tensor) -> float:
    with one_thread():
        return fit_temperature(logits, truth)
