"""Two runs side by side: which of the pictures that both were judged on each gets right, and whether the difference is
more than luck. numpy only; classes are matched by name, pictures by their row in the store."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tl_core.evaluation.answers import Answers
from tl_core.evaluation.intervals import Interval

_DRAWS = 2_000
_AT_ONCE = 2_000_000  # weights drawn at a time
_EDGES = (0.025, 0.975)
_UNSEEN = 0.5  # of a picture that is now right, and of one that is now wrong, which nobody saw


@dataclass(frozen=True)
class Judged:
    """The answers of one run, and the classes that their numbers mean."""

    answers: Answers
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """A picture that only one of the two runs gets right: its row, its class as the later run has it, both answers, and
    how sure the later one is of its own."""

    row: int
    truth: str
    before: str
    after: str
    confidence: float


@dataclass(frozen=True)
class ClassChange:
    """The shares found of `count` pictures of one class."""

    name: str
    count: int
    before: float
    after: float


@dataclass(frozen=True)
class Comparison:
    """Both runs on the same `compared` pictures, by the labels of the later one: the shares right, the `difference`
    with its 95 % interval `likely`, the pictures that changed (the surest answers first), and every class."""

    compared: int
    before: float
    after: float
    difference: float
    likely: Interval
    now_right: tuple[Change, ...]
    now_wrong: tuple[Change, ...]
    per_class: tuple[ClassChange, ...]

    @property
    def may_be_luck(self) -> bool:
        """Whether no difference at all would fit what was seen."""
        return self.likely[0] <= 0 <= self.likely[1]


def compare(
    before: Judged, after: Judged, *, same: Iterable[int] | None = None, groups: Mapping[int, int] | None = None
) -> Comparison | None:
    """What changed from one run to the other; None where no picture was judged in both.

    `same` are the rows that are the same picture in both stores (None: all of them), `groups` the copy group of a row.
    A picture counts if both runs know its class: the earlier one cannot be right about a class that came later.
    """
    rows, at_before, at_after = _common(before, after, same)
    sides = [_answered(before, at_before), _answered(after, at_after)]
    truth = _named(after.class_names, after.answers.labels[after.answers.judged()[0][at_after]])
    known = np.isin(truth, np.asarray(before.class_names, dtype=object))
    if not known.any():
        return None
    rows, truth = rows[known], truth[known]
    (said_before, _), (said_after, sure) = ((said[known], sure[known]) for said, sure in sides)
    right_before, right_after = said_before == truth, said_after == truth
    numbers = rows if groups is None else np.array([groups.get(int(row), -1 - int(row)) for row in rows])
    likely = _likely(right_after.astype(np.int64) - right_before, numbers)

    def changes(which: npt.NDArray[np.bool_]) -> tuple[Change, ...]:
        found = np.flatnonzero(which)
        found = found[np.argsort(-sure[found], kind="stable")]
        return tuple(Change(int(rows[i]), truth[i], said_before[i], said_after[i], float(sure[i])) for i in found)

    shares = float(right_before.mean()), float(right_after.mean())
    return Comparison(
        compared=len(rows),
        before=shares[0],
        after=shares[1],
        difference=shares[1] - shares[0],
        likely=likely,
        now_right=changes(right_after & ~right_before),
        now_wrong=changes(right_before & ~right_after),
        per_class=tuple(
            ClassChange(name, int(mine.sum()), float(right_before[mine].mean()), float(right_after[mine].mean()))
            for name in after.class_names
            if (mine := truth == name).any()
        ),
    )


def _common(
    before: Judged, after: Judged, same: Iterable[int] | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The rows judged in both, and their places among the judged ones of either."""
    one, other = (side.answers.rows[side.answers.judged()[0]] for side in (before, after))
    rows, at_before, at_after = np.intersect1d(one, other, assume_unique=True, return_indices=True)
    if same is not None:
        kept = np.isin(rows, np.fromiter(same, dtype=np.int64))
        rows, at_before, at_after = rows[kept], at_before[kept], at_after[kept]
    return rows, at_before, at_after


def _answered(side: Judged, at: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.float32]]:
    """The names answered for the judged pictures at these places, and how sure each answer is."""
    probabilities = side.answers.judged()[1][at]
    if not len(at):
        return np.empty(0, dtype=object), np.empty(0, dtype=np.float32)
    return _named(side.class_names, probabilities.argmax(axis=1)), probabilities.max(axis=1)


def _named(names: Sequence[str], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.object_]:
    return np.asarray(names, dtype=object)[labels]


def _likely(steps: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64], *, seed: int = 0) -> Interval:
    """A 95 % interval of the mean of (N,) `steps`, which are 1, 0 or -1, from pictures drawn anew in pairs.

    A Bayesian bootstrap (Rubin 1981) that weighs copy groups, not pictures. It also draws a few changes that nobody
    saw, as in Agresti and Min 2005 (Statistics in Medicine 24:729-740): otherwise no change in 12 pictures would be
    certainty. Coverage is simulated in tests/test_comparison.py.
    """
    place = np.unique(numbers, return_inverse=True)[1]
    total = int(place.max()) + 1
    moved, size = np.zeros(total), np.bincount(place, minlength=total).astype(float)
    np.add.at(moved, place, steps)
    changed = np.abs(moved[moved != 0])
    each, change = len(steps) / total, float(changed.mean()) if len(changed) else 1.0  # pictures of a group
    rng, found = np.random.default_rng((seed, 17)), []
    at_once = max(1, min(_DRAWS, _AT_ONCE // total))
    for start in range(0, _DRAWS, at_once):
        some = min(at_once, _DRAWS - start)
        weights = rng.standard_exponential((some, total))
        better, worse = change * rng.gamma(_UNSEEN, size=(2, some))
        neither = each * rng.gamma(2 * _UNSEEN, size=some)
        found.append((weights @ moved + better - worse) / (weights @ size + better + worse + neither))
    low, high = np.quantile(np.concatenate(found), _EDGES)
    difference = float(moved.sum() / size.sum())
    return min(float(low), difference), max(float(high), difference)
