"""The solved head: as good as a library's, calibrated, and honest about what it saw."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tl_core.training.solve import STRENGTHS, SolvedHead, SolveStep, _Problem, fit_temperature, fold_count, solve


def blobs(count: int = 240, width: int = 20, classes: int = 3, spread: float = 2.0, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = rng.normal(size=(classes, width))
    x = (centres[labels] + spread * rng.normal(size=(count, width))).astype(np.float32)
    return x * rng.uniform(0.1, 30, width).astype(np.float32) + 5, labels.tolist()


def solved(x: Any, labels: list[int], groups: list[int] | None = None) -> SolvedHead:
    groups = list(range(len(labels))) if groups is None else groups
    return list(solve(x, labels, groups, max(labels) + 1))[-1]  # type: ignore[return-value]


def test_it_ends_with_a_head_after_counted_steps() -> None:
    x, labels = blobs()
    *steps, head = list(solve(x, labels, list(range(len(labels))), 3))
    assert isinstance(head, SolvedHead) and all(isinstance(step, SolveStep) for step in steps)
    done = [s.done for s in steps]  # type: ignore[union-attr]
    assert done == list(range(1, len(done) + 1)) and done[-1] <= len(STRENGTHS)
    assert head.weight.shape == (3, 20) and head.bias.shape == (3,)


@pytest.mark.parametrize("strength", [1.0, 0.01])
def test_the_minimum_is_the_librarys(strength: float) -> None:
    x, labels = blobs(spread=1.0)
    x = (x - x.mean(0)) / x.std(0)
    with_ones = torch.cat([torch.from_numpy(x), torch.ones(len(x), 1)], 1)
    part = (with_ones, torch.tensor(labels), torch.ones(len(labels)))
    ours = _Problem([part], 3).solve(strength, None, tolerance=1e-7)[0]
    theirs = LogisticRegression(C=1 / (strength * len(x)), max_iter=5000, tol=1e-8).fit(x, labels)
    difference = ours[:-1].T.numpy() - theirs.coef_
    assert np.abs(difference).max() < 5e-3


def test_noise_gets_a_strong_penalty_and_signal_a_weak_one() -> None:
    x, labels = blobs(spread=0.3)
    noise = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    assert solved(x, labels).strength < solved(noise, labels).strength
    assert solved(x, labels).cv_accuracy > 0.95 and solved(noise, labels).cv_accuracy < 0.5


def test_scale_and_shift_of_features_do_not_matter() -> None:
    x, labels = blobs()
    one, two = solved(x, labels), solved(x * 100 - 7, labels)
    a = torch.from_numpy(x) @ one.weight.T + one.bias
    b = torch.from_numpy(x * 100 - 7) @ two.weight.T + two.bias
    assert (a.softmax(1) - b.softmax(1)).abs().max() < 0.02


def test_a_feature_that_never_changes_is_harmless() -> None:
    x, labels = blobs()
    x[:, 3] = 4.0
    head = solved(x, labels)
    assert torch.isfinite(head.weight).all() and torch.isfinite(head.bias).all()


def test_the_same_data_gives_the_same_head() -> None:
    x, labels = blobs()
    assert torch.equal(solved(x, labels).weight, solved(x, labels).weight)


def test_temperature_undoes_overconfidence() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 3, generator=generator) * 1.5
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    assert fit_temperature(logits * 4, labels) == pytest.approx(4, rel=0.15)
    assert fit_temperature(logits, labels) == pytest.approx(1, rel=0.15)


def test_confidence_is_about_the_share_that_is_right() -> None:
    x, labels = blobs(3000, spread=3.0)
    head = solved(x[:600], labels[:600])
    probabilities = (torch.from_numpy(x[600:]) @ head.weight.T + head.bias).softmax(1)
    confidence, guess = probabilities.max(1)
    right = (guess == torch.tensor(labels[600:])).float()
    assert abs(confidence.mean() - right.mean()) < 0.06


def test_two_pictures_a_class_are_enough_to_run() -> None:
    x, labels = blobs(6)
    assert solved(x, labels).weight.shape == (3, 20)


def test_copies_do_not_make_more_folds() -> None:
    assert fold_count([0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 2, 3]) == 2
    assert fold_count([0] * 9 + [1] * 9, list(range(18))) == 5


def test_solving_folds_together_is_solving_each_alone() -> None:
    parts = []
    for seed in range(3):
        x, labels = blobs(60 + 30 * seed, seed=seed)
        x = (x - x.mean(0)) / x.std(0)
        with_ones = torch.cat([torch.from_numpy(x), torch.ones(len(x), 1)], 1)
        parts.append((with_ones, torch.tensor(labels), torch.ones(len(labels))))
    together = _Problem(parts, 3).solve(0.1, None, tolerance=1e-7)
    for at, part in enumerate(parts):
        alone = _Problem([part], 3).solve(0.1, None, tolerance=1e-7)[0]
        assert (together[at] - alone).abs().max() < 5e-3
