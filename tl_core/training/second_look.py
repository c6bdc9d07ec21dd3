"""A second look at a set on features that are there already: how good the solved head is when every picture is an exam
once, what more pictures would bring, and answers to every picture by heads that had not seen it.

For a small set one split is luck: which twelve pictures happened to examine decides. So it is cut into folds anew
several times, copies together; every fold is answered by a head that was solved, its strength and temperature chosen,
without it. On a larger set the test pictures say enough; there each fold is answered once, at the strength of the
whole head. None of this changes the model, and nothing about the model was chosen by it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tl_core.data.split import folds
from tl_core.evaluation.learning_curve import LearningCurve, forecast
from tl_core.training.cores import one_thread
from tl_core.training.plan import SMALL_SET
from tl_core.training.solve import SolvedHead, solve, solve_at

Features = npt.NDArray[np.float32]

_FOLDS = 5
_ROUNDS = 3
_PARTS = (0.25, 0.5, 1.0)  # of the pictures, for the learning curve
_LEAST = 2  # pictures a class on average in the smallest part


@dataclass(frozen=True)
class Pictures:
    """N pictures: (N, D) features, labels in 0..classes-1, copy groups."""

    features: Features
    labels: Sequence[int]
    groups: Sequence[int]
    classes: int

    def at(self, rows: npt.NDArray[np.int64]) -> "Pictures":
        """Some of them."""
        return Pictures(
            self.features[rows], [self.labels[i] for i in rows], [self.groups[i] for i in rows], self.classes
        )


@dataclass(frozen=True)
class Looked:
    """How far the look is."""

    done: int
    total: int


@dataclass(frozen=True)
class SecondLook:
    """(N, C) calibrated `probabilities` by heads that had not seen the picture, on average over the rounds; for a small
    set also those of one ordinary round (`crossed`) and the share right in each round (`accuracies`). `curve` is None
    where there are too few pictures for one."""

    probabilities: npt.NDArray[np.float32]
    crossed: npt.NDArray[np.float32] | None
    accuracies: tuple[float, ...]
    curve: LearningCurve | None


def look_again(
    pictures: Pictures,
    fit: npt.NDArray[np.int64],
    exam: npt.NDArray[np.int64],
    *,
    seed: int = 0,
    class_weights: Sequence[float] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Looked | SecondLook]:
    """Yields `Looked`s, then the look; `fit` and `exam` (n,) are those of the N that taught and examined the model.
    Nothing comes last where `should_stop` said so."""
    look = _Look(pictures, seed, class_weights, should_stop)
    return look.small() if len(pictures.labels) <= SMALL_SET else look.large(fit, exam)


@dataclass
class _Look:
    pictures: Pictures
    seed: int
    class_weights: Sequence[float] | None
    should_stop: Callable[[], bool]

    def small(self) -> Iterator[Looked | SecondLook]:
        """By repeated grouped cross-validation with all choices inside of it."""
        known, n = self.pictures, len(self.pictures.labels)
        truth, sizes = np.asarray(known.labels), self._parts(n * (_FOLDS - 1) // _FOLDS)
        answers = np.zeros((_ROUNDS, n, known.classes), dtype=np.float32)
        right = np.zeros((len(sizes), n), dtype=bool)
        done, total = 0, _ROUNDS * _FOLDS
        for turn in range(_ROUNDS):
            fold_of = self._folds(turn)
            for fold in np.unique(fold_of):
                inner, outer = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
                head = self._solved(inner, turn)
                answers[turn, outer] = _answers(head, known.features[outer])
                if turn == 0 and sizes:
                    right[:, outer] = self._curve(inner, outer, sizes, answers[turn, outer])
                done = min(done + 1, total)
                yield Looked(done, total)
                if self.should_stop():
                    return
        shares = (answers.argmax(2) == truth).mean(1)
        ordinary = int(np.argsort(shares, kind="stable")[_ROUNDS // 2])
        curve = forecast(sizes, right, known.groups, seed=self.seed) if sizes else None
        yield SecondLook(answers.mean(0), answers[ordinary], tuple(float(s) for s in shares), curve)

    def large(self, fit: npt.NDArray[np.int64], exam: npt.NDArray[np.int64]) -> Iterator[Looked | SecondLook]:
        """Every fold once, at the strength and temperature that suit what taught."""
        known, sizes = self.pictures, self._parts(len(fit))
        whole, total = self._solved(fit, 0), _FOLDS + 2
        yield Looked(1, total)
        answers, fold_of = np.zeros((len(known.labels), known.classes), dtype=np.float32), self._folds(0)
        for fold in range(_FOLDS):
            inner, outer = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            some = known.at(inner)
            head = solve_at(whole, some.features, some.labels, known.classes, class_weights=self.class_weights)
            answers[outer] = _answers(head, known.features[outer])
            yield Looked(fold + 2, total)
            if self.should_stop():
                return
        right = self._curve(fit, exam, sizes, _answers(whole, known.features[exam])) if sizes else None
        groups = [known.groups[i] for i in exam]
        yield SecondLook(answers, None, (), None if right is None else forecast(sizes, right, groups, seed=self.seed))

    def _folds(self, turn: int) -> npt.NDArray[np.int64]:
        known = self.pictures
        return folds(known.groups, known.labels, _FOLDS, seed=self.seed + 101 * turn)

    def _parts(self, most: int) -> tuple[int, ...]:
        """How many pictures the learning curve is taken at, of at most `most`."""
        sizes = [int(most * part) for part in _PARTS]
        found = tuple(size for size in sizes if size >= _LEAST * self.pictures.classes)
        return found if len(found) >= 3 else ()

    def _curve(
        self,
        inner: npt.NDArray[np.int64],
        outer: npt.NDArray[np.int64],
        sizes: Sequence[int],
        whole: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.bool_]:
        """(S, n) whether heads taught with so many of the pictures at `inner` are right about those at `outer`;
        `whole` (n, C) are the answers of the one taught with all of them."""
        known = self.pictures
        truth, order = np.asarray(known.labels)[outer], self._mixed(inner)
        right = np.zeros((len(sizes), len(outer)), dtype=bool)
        right[-1] = whole.argmax(1) == truth
        for at, size in enumerate(sizes[:-1]):
            some = order[:size]
            if len({known.groups[i] for i in some}) < _FOLDS or len({known.labels[i] for i in some}) < 2:
                continue  # nothing learned, nothing right
            right[at] = _answers(self._solved(some, 0), known.features[outer]).argmax(1) == truth
        return right

    def _mixed(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """`rows` in an order in which all classes come evenly and copies one after the other."""
        known, rng = self.pictures, np.random.default_rng((self.seed, 17))
        members: dict[int, dict[int, list[int]]] = {}
        for row in rows:
            members.setdefault(known.labels[row], {}).setdefault(known.groups[row], []).append(int(row))
        placed: list[tuple[float, int]] = []
        for found in members.values():
            whole = list(found.values())
            for at, number in enumerate(rng.permutation(len(whole))):
                placed += [((at + 0.5) / len(whole), row) for row in whole[number]]
        return np.array([row for _, row in sorted(placed)], dtype=np.int64)

    def _solved(self, rows: npt.NDArray[np.int64], turn: int) -> SolvedHead:
        some = self.pictures.at(rows)
        seed = self.seed + 101 * turn
        steps = solve(
            some.features, some.labels, some.groups, some.classes, seed=seed, class_weights=self.class_weights
        )
        return next(step for step in steps if isinstance(step, SolvedHead))


def _answers(head: SolvedHead, features: Features) -> npt.NDArray[np.float32]:
    """(n, C) probabilities."""
    with one_thread():
        logits = torch.from_numpy(np.ascontiguousarray(features)) @ head.weight.T + head.bias
    found: npt.NDArray[np.float32] = logits.softmax(1).numpy()
    return found
