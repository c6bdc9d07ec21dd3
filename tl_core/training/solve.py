"""Solves a linear head on cached features: multinomial logistic regression, its strength by cross-validation.

Full-batch L-BFGS on standardised features, warm-started along the strengths. Folds keep copies together and spread
the classes; the strength with the least out-of-fold log loss wins; one temperature, fitted on the same out-of-fold
logits, calibrates the head (Guo et al. 2017, arXiv 1706.04599) and is folded into its weights, as is the
standardisation, so what comes out is a plain linear layer.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tl_core.data.split import folds

# Penalty on the squared weights relative to the mean log loss; from "no trust in the features" to almost none.
STRENGTHS = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
_ITERATIONS = 80


@dataclass(frozen=True)
class SolvedHead:
    """A linear head on raw features, (C, D) weights and (C,) bias, calibrated; and what cross-validation saw."""

    weight: Tensor
    bias: Tensor
    strength: float
    temperature: float
    cv_accuracy: float


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
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[SolveStep | SolvedHead]:
    """Yields `SolveStep`s, then the head for N pictures' (N, D) features, labels in 0..classes-1 and copy groups.

    At least two groups are needed. When `should_stop` says so, the strength is chosen by the folds done so far.
    """
    x = torch.from_numpy(features)
    y = torch.tensor(labels)
    count = fold_count(labels, groups)
    fold_of = torch.from_numpy(folds(groups, labels, count, seed=seed))
    # On a large set one held-out fold tells the strengths apart as well as all of them.
    used = range(count if len(y) <= 5_000 else 1)
    total = len(used) * len(STRENGTHS) + 1
    logits = torch.full((len(STRENGTHS), len(y), classes), torch.nan)
    done = 0
    for fold in used:
        if done and should_stop():
            break
        inside, outside = fold_of != fold, fold_of == fold
        weights: Tensor | None = None
        with _one_thread():
            scale = _Standard(x[inside])
            train, held_out = scale(x[inside]), scale(x[outside])
        for at, strength in enumerate(STRENGTHS):
            with _one_thread():
                weights = _fit(train, y[inside], classes, strength, weights)
                logits[at, outside] = held_out @ weights
            done += 1
            yield SolveStep(done, total)
    judged = ~logits[0, :, 0].isnan()
    losses = [F.cross_entropy(logits[at, judged], y[judged]).item() for at in range(len(STRENGTHS))]
    best = int(np.argmin(losses))
    with _one_thread():
        temperature = fit_temperature(logits[best, judged], y[judged])
        scale = _Standard(x)
        standard = scale(x)
        weights = None
        for strength in STRENGTHS[: best + 1]:
            weights = _fit(standard, y, classes, strength, weights)
        assert weights is not None
        weight = (weights[:-1] / scale.deviation[:, None]).T / temperature
        bias = weights[-1] / temperature - weight @ scale.mean
    accuracy = (logits[best, judged].argmax(1) == y[judged]).float().mean().item()
    yield SolvedHead(weight.contiguous(), bias, STRENGTHS[best], temperature, accuracy)


def fold_count(labels: Sequence[int], groups: Sequence[int]) -> int:
    """Five folds, or fewer where the smallest class has fewer different pictures (at least two)."""
    distinct: dict[int, set[int]] = {}
    for label, group in zip(labels, groups, strict=True):
        distinct.setdefault(label, set()).add(group)
    return max(2, min(5, *(len(found) for found in distinct.values())))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T in [0.25, 8] for which softmax(logits / T) has the least log loss; (N, C) logits, (N,) labels."""
    candidates = torch.logspace(-2, 3, 101, base=2)
    losses = [F.cross_entropy(logits / t, labels).item() for t in candidates]
    return float(candidates[int(np.argmin(losses))])


class _Standard:
    """(N, D) features to zero mean and unit deviation, with a last column of ones for the bias."""

    def __init__(self, x: Tensor) -> None:
        self.mean = x.mean(0)
        deviation = x.std(0, unbiased=False)
        self.deviation = torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))

    def __call__(self, x: Tensor) -> Tensor:
        return torch.cat([(x - self.mean) / self.deviation, torch.ones(len(x), 1)], dim=1)


def _fit(x: Tensor, y: Tensor, classes: int, strength: float, start: Tensor | None) -> Tensor:
    """(D + 1, C) weights, the last row the bias, that minimise mean log loss + strength / 2 x squared weights."""
    weights = (torch.zeros(x.shape[1], classes) if start is None else start.clone()).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=_ITERATIONS, history_size=10, tolerance_grad=1e-4, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weights, y) + strength / 2 * (weights[:-1] ** 2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Small matrix products on two threads wait for each other beside any busy process: 8 to 11 times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
