"""Solves a linear head on cached features: multinomial logistic regression, its strength by cross-validation.

Full-batch L-BFGS on standardised features. All folds are one problem, solved together and warm-started along the
strengths, each fold's loss and gradient on a thread of its own (one small product on several threads waits for itself:
8 to 11 times slower beside a busy process). Folds keep copies together and spread the classes; the strength with the
least out-of-fold log loss wins; one temperature, fitted on the same out-of-fold logits, calibrates the head (Guo et
al. 2017, arXiv 1706.04599) and is folded into its weights, as is the standardisation, so what comes out is a plain
linear layer.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tl_core.data.split import folds
from tl_core.evaluation.conformal import measure
from tl_core.training.cores import cores, one_thread

# Penalty on the squared weights relative to the mean log loss; from "no trust in the features" to almost none.
STRENGTHS = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
_ITERATIONS = 100
_PATIENCE = 1
_ROWS = 1024  # standardised at a time
_WORTH_A_THREAD = 20_000_000  # multiply-adds below which handing a product to another thread costs more


@dataclass(frozen=True)
class SolvedHead:
    """A linear head on raw features, (C, D) weights and (C,) bias, calibrated; and what cross-validation saw."""

    weight: Tensor
    bias: Tensor
    strength: float
    temperature: float
    cv_accuracy: float
    likely: float | None = None  # the threshold of `evaluation.conformal`


@dataclass(frozen=True)
class SolveStep:
    done: int
    total: int


def solve(
    features: npt.NDArray[np.float32],
    labels: Sequence[int],
    groups: Sequence[int],
    classes: int,
    *,
    seed: int = 0,
    class_weights: Sequence[float] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[SolveStep | SolvedHead]:
    """Yields `SolveStep`s, then the head for N pictures' (N, D) features, labels in 0..classes-1 and copy groups.

    A picture counts as `class_weights` says for its class, (C,), 1 on average over the pictures. At least two groups
    are needed. When `should_stop` says so, the strength is chosen by the folds done so far.
    """
    x, y = torch.from_numpy(features), torch.tensor(labels)
    each = (torch.ones(classes) if class_weights is None else torch.tensor(class_weights, dtype=torch.float32))[y]
    count = fold_count(labels, groups)
    fold_of = torch.from_numpy(folds(groups, labels, count, seed=seed))
    # On a large set one held-out fold tells the strengths apart as well as all of them.
    held_out = [fold_of == fold for fold in range(count if len(y) <= 5_000 else 1)]
    with one_thread():
        sides = [(torch.nonzero(~out).ravel(), torch.nonzero(out).ravel()) for out in held_out]
        scales = [_Standard(x, inner) for inner, _ in sides]
        problem: _Problem | None = _Problem(
            [(scale(x, inner), y[inner], each[inner]) for scale, (inner, _) in zip(scales, sides, strict=True)], classes
        )
        tests = [scale(x, outer) for scale, (_, outer) in zip(scales, sides, strict=True)]
    truth = torch.cat([y[out] for out in held_out])
    best, least, worse, judged = 0, math.inf, 0, torch.zeros(len(truth), classes)
    weights: Tensor | None = None
    start: Tensor | None = None
    for at, strength in enumerate(STRENGTHS):
        if at and should_stop():
            break
        with one_thread():
            assert problem is not None
            weights = problem.solve(strength, weights, tolerance=2e-4)
            logits = torch.cat([test @ w for test, w in zip(tests, weights, strict=True)])
            loss = F.cross_entropy(logits, truth).item()
        if loss < least:
            best, least, worse, judged, start = at, loss, 0, logits, weights.mean(0, keepdim=True)
        else:
            worse += 1
        yield SolveStep(at + 1, len(STRENGTHS) + 1)
        if worse == _PATIENCE:  # the loss is nearly convex along the strengths
            break
    problem, tests = None, []  # their copies of the features make room for the last one
    with one_thread():
        everything = torch.arange(len(y))
        temperature, scale = fit_temperature(judged, truth), _Standard(x, everything)
        # From the mean of the folds' weights, which is close.
        solved = _Problem([(scale(x, everything), y, each)], classes).solve(STRENGTHS[best], start, tolerance=1e-5)[0]
        likely = measure((judged / temperature).softmax(1).numpy(), truth.numpy())
    weight, bias = _raw(solved, scale, temperature)
    accuracy = (judged.argmax(1) == truth).float().mean().item()
    threshold = None if likely is None else likely.threshold
    yield SolvedHead(weight, bias, STRENGTHS[best], temperature, accuracy, threshold)


def solve_at(
    like: SolvedHead,
    features: npt.NDArray[np.float32],
    labels: Sequence[int],
    classes: int,
    *,
    class_weights: Sequence[float] | None = None,
) -> SolvedHead:
    """The head for other pictures at the strength and temperature of `like`; see `solve`."""
    x, y = torch.from_numpy(features), torch.tensor(labels)
    each = (torch.ones(classes) if class_weights is None else torch.tensor(class_weights, dtype=torch.float32))[y]
    with one_thread():
        everything = torch.arange(len(y))
        scale = _Standard(x, everything)
        start = torch.cat([like.weight.T * scale.deviation[:, None], (like.bias + like.weight @ scale.mean)[None]])
        problem = _Problem([(scale(x, everything), y, each)], classes)
        solved = problem.solve(like.strength, (start * like.temperature)[None], tolerance=2e-4)[0]
    weight, bias = _raw(solved, scale, like.temperature)
    return SolvedHead(weight, bias, like.strength, like.temperature, like.cv_accuracy, like.likely)


def _raw(solved: Tensor, scale: "_Standard", temperature: float) -> tuple[Tensor, Tensor]:
    """(C, D) weights and (C,) bias on raw features, calibrated, from (D + 1, C) on standardised ones."""
    weight = ((solved[:-1] / scale.deviation[:, None]).T / temperature).contiguous()
    return weight, solved[-1] / temperature - weight @ scale.mean


def fold_count(labels: Sequence[int], groups: Sequence[int]) -> int:
    """Five folds, or fewer where the smallest class has fewer different pictures (at least two)."""
    distinct: dict[int, set[int]] = {}
    for label, group in zip(labels, groups, strict=True):
        distinct.setdefault(label, set()).add(group)
    return max(2, min(5, *(len(found) for found in distinct.values())))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T in [0.25, 8] for which softmax(logits / T) has the least log loss; (N, C) logits, (N,) labels."""
    candidates = torch.logspace(-2, 3, 101, base=2)
    with one_thread():
        losses = [F.cross_entropy(logits / t, labels).item() for t in candidates]
    return float(candidates[int(np.argmin(losses))])


class _Standard:
    """(N, D) features at some rows to zero mean and unit deviation, with a last column of ones for the bias; a few rows
    at a time, because on a large set every copy counts."""

    def __init__(self, x: Tensor, rows: Tensor) -> None:
        total = torch.zeros(x.shape[1], dtype=torch.float64)
        squares = torch.zeros_like(total)
        for some in _chunks(rows):
            total += x[some].sum(0, dtype=torch.float64)
        mean = total / len(rows)
        for some in _chunks(rows):
            squares += (x[some] - mean.float()).square_().sum(0, dtype=torch.float64)
        self.mean, deviation = mean.float(), (squares / len(rows)).sqrt().float()
        self.deviation = torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))

    def __call__(self, x: Tensor, rows: Tensor) -> Tensor:
        made = torch.ones(len(rows), x.shape[1] + 1)
        for at, some in zip(_chunks(made), _chunks(rows), strict=True):
            torch.sub(x[some], self.mean, out=at[:, :-1])
            at[:, :-1].div_(self.deviation)
        return made


def _chunks(rows: Tensor) -> list[Tensor]:
    return [rows[at : at + _ROWS] for at in range(0, len(rows), _ROWS)]


class _Problem:
    """F logistic regressions at once: for each, (n, D + 1) standardised features with ones, (n,) labels and how much
    each picture counts."""

    def __init__(self, parts: list[tuple[Tensor, Tensor, Tensor]], classes: int) -> None:
        self._parts, self._classes = parts, classes
        self._shape = (len(parts), parts[0][0].shape[1], classes)
        self._large = parts[0][0].numel() * classes * len(parts) > _WORTH_A_THREAD

    def solve(self, strength: float, start: Tensor | None, *, tolerance: float) -> Tensor:
        """(F, D + 1, C) weights, the last row of each the bias, that minimise the mean log loss of each part plus
        strength / 2 times its squared weights. `tolerance` is on the gradient and on the change of the sum."""
        weights = torch.zeros(self._shape) if start is None else start.clone()
        weights.grad = torch.zeros_like(weights)
        optimizer = torch.optim.LBFGS(
            [weights],
            max_iter=_ITERATIONS,
            history_size=10,
            tolerance_grad=tolerance,
            tolerance_change=tolerance,
            line_search_fn="strong_wolfe",
        )
        with one_thread(), ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            each = pool.map if self._large and len(self._parts) > 1 else map

            def closure() -> float:
                return sum(each(lambda at: self._loss(at, weights, strength), range(len(self._parts))))

            optimizer.step(closure)  # type: ignore[no-untyped-call]
        return weights

    def _loss(self, at: int, weights: Tensor, strength: float) -> float:
        """The loss of part `at`; its gradient goes into its place in `weights.grad`."""
        assert weights.grad is not None
        x, y, each = self._parts[at]
        w, gradient = weights[at], weights.grad[at]
        logs = F.log_softmax(x @ w, dim=1)
        loss = (F.nll_loss(logs, y, reduction="none") @ each).item() / len(y) + strength / 2 * (
            w[:-1] ** 2
        ).sum().item()
        error = logs.exp_()
        error[torch.arange(len(y)), y] -= 1
        error *= each[:, None]
        torch.mm(x.T, error, out=gradient)
        gradient /= len(y)
        gradient[:-1].add_(w[:-1], alpha=strength)
        return loss
