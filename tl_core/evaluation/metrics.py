"""Scores of a classifier on its test pictures: numpy only, no model needed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tl_core.evaluation.intervals import Interval, by_class, wilson

MISTAKES_KEPT = 24
_MOST_PICTURES = 1_000_000_000
_BINS = 10  # of confidence


@dataclass(frozen=True)
class ClassScore:
    """Precision, recall and F1 of one class (0 where undefined) over `support` test pictures."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Mistake:
    """A wrongly named test picture; `picture` indexes `ImageSet.pictures`, the other two `class_names`."""

    picture: int
    truth: int
    predicted: int
    confidence: float


@dataclass(frozen=True)
class Bin:
    """`count` answers of about the same confidence: how sure they were on average, and the share that was right."""

    confidence: float
    right: float
    count: int


@dataclass(frozen=True)
class Evaluation:
    """`interval` is a 95 % interval of `accuracy`; `majority` what always guessing the commonest class would score;
    `confusion` counts, rows the true class; `mistakes` the most confident first; `calibration_error` as in the function
    of that name, and what it was before calibration where that is known.

    `balanced` is the mean recall of the classes that were tested and `macro_f1` their mean F1, each with its 95 %
    interval; `reliability` what was right of what was so sure. Older records have none of these (None, ())."""

    class_names: tuple[str, ...]
    tested: int
    accuracy: float
    interval: tuple[float, float]
    majority: float
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    mistakes: tuple[Mistake, ...]
    calibration_error: float | None = None
    calibration_error_before: float | None = None
    balanced: float | None = None
    balanced_interval: Interval | None = None
    macro_f1: float | None = None
    macro_f1_interval: Interval | None = None
    reliability: tuple[Bin, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Evaluation":
        """The inverse of `to_dict`, also after a trip through JSON. The record may be a stranger's: raises ValueError,
        TypeError or LookupError unless every number in it is one and they fit each other."""
        found = cls(
            class_names=tuple(record["class_names"]),
            tested=record["tested"],
            accuracy=record["accuracy"],
            interval=(record["interval"][0], record["interval"][1]),
            majority=record["majority"],
            per_class=tuple(ClassScore(**row) for row in record["per_class"]),
            confusion=tuple(tuple(row) for row in record["confusion"]),
            mistakes=tuple(Mistake(**row) for row in record["mistakes"]),
            calibration_error=record.get("calibration_error"),
            calibration_error_before=record.get("calibration_error_before"),
            balanced=record.get("balanced"),
            balanced_interval=_pair(record.get("balanced_interval")),
            macro_f1=record.get("macro_f1"),
            macro_f1_interval=_pair(record.get("macro_f1_interval")),
            reliability=tuple(Bin(**row) for row in record.get("reliability", ())),
        )
        if not found._sound():
            raise ValueError("scores that do not fit each other")
        return found

    def _sound(self) -> bool:
        classes = len(self.class_names)
        maybe = (self.calibration_error, self.calibration_error_before, self.balanced, self.macro_f1)
        shares = [self.accuracy, *self.interval, self.majority, *(share for share in maybe if share is not None)]
        shares += [*(self.balanced_interval or ()), *(self.macro_f1_interval or ())]
        shares += [share for one in self.reliability for share in (one.confidence, one.right)]
        shares += [share for row in self.per_class for share in (row.precision, row.recall, row.f1)]
        shares += [mistake.confidence for mistake in self.mistakes]
        counts = [self.tested, *(n for row in self.confusion for n in row), *(row.support for row in self.per_class)]
        counts += [one.count for one in self.reliability]
        labels = [label for mistake in self.mistakes for label in (mistake.truth, mistake.predicted)]
        return (
            all(isinstance(name, str) for name in self.class_names)
            and tuple(row.name for row in self.per_class) == self.class_names
            and [len(row) for row in self.confusion] == [classes] * classes
            and all(type(share) in (int, float) and 0 <= share <= 1 for share in shares)
            and all(type(count) is int and 0 <= count < _MOST_PICTURES for count in counts)
            and all(type(label) is int and 0 <= label < classes for label in labels)
            and all(type(mistake.picture) is int and mistake.picture >= 0 for mistake in self.mistakes)
            and len(self.mistakes) <= MISTAKES_KEPT
            and len(self.reliability) <= _BINS
            and self.tested == sum(sum(row) for row in self.confusion) > 0
        )


def _pair(value: Any) -> Interval | None:
    return None if value is None else (value[0], value[1])


def evaluate(
    probabilities: npt.NDArray[np.float32],
    labels: Sequence[int],
    class_names: Sequence[str],
    *,
    pictures: Sequence[int],
    groups: Sequence[int],
    uncalibrated: npt.NDArray[np.float32] | None = None,
) -> Evaluation:
    """Scores of (N, C) `probabilities` against N `labels`. `pictures` are the N indices to report mistakes by,
    `groups` the copy groups: copies are not independent evidence, so the interval counts each group once.
    `uncalibrated` are the probabilities before calibration."""
    truth = np.asarray(labels)
    predicted = probabilities.argmax(axis=1)
    classes = len(class_names)
    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    accuracy = float((predicted == truth).mean())
    missed = np.flatnonzero(predicted != truth)
    missed = missed[np.argsort(-probabilities[missed, predicted[missed]], kind="stable")][:MISTAKES_KEPT]
    wrong: list[int] = missed.tolist()
    per_class = tuple(_class_score(confusion, at, name) for at, name in enumerate(class_names))
    scored = [score for score in per_class if score.support]
    balanced_interval, macro_f1_interval = by_class(truth, predicted, groups, classes)
    return Evaluation(
        class_names=tuple(class_names),
        tested=len(truth),
        accuracy=accuracy,
        interval=wilson(accuracy, len(set(groups))),
        majority=float(confusion.sum(axis=1).max() / len(truth)),
        per_class=per_class,
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        mistakes=tuple(
            Mistake(int(pictures[i]), int(truth[i]), int(predicted[i]), float(probabilities[i, predicted[i]]))
            for i in wrong
        ),
        calibration_error=calibration_error(probabilities, truth),
        calibration_error_before=None if uncalibrated is None else calibration_error(uncalibrated, truth),
        balanced=float(np.mean([score.recall for score in scored])),
        balanced_interval=balanced_interval,
        macro_f1=float(np.mean([score.f1 for score in scored])),
        macro_f1_interval=macro_f1_interval,
        reliability=reliability(probabilities, truth),
    )


def reliability(probabilities: npt.NDArray[np.float32], labels: npt.ArrayLike) -> tuple[Bin, ...]:
    """(N, C) answers in at most ten bins by confidence, the least sure first; empty bins are left out."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == np.asarray(labels)
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    parts = [bins == b for b in np.unique(bins)]
    return tuple(
        Bin(min(1.0, float(confidence[p].mean(dtype=np.float64))), float(right[p].mean()), int(p.sum())) for p in parts
    )


def calibration_error(probabilities: npt.NDArray[np.float32], labels: npt.ArrayLike) -> float:
    """By how much confidence is off, on average over pictures put in ten bins by confidence (expected calibration
    error: Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599). With few pictures it is above 0 by chance alone."""
    bins = reliability(probabilities, labels)
    return sum(abs(one.confidence - one.right) * one.count for one in bins) / len(probabilities)


def _class_score(confusion: npt.NDArray[np.int64], at: int, name: str) -> ClassScore:
    hits, support, named = int(confusion[at, at]), int(confusion[at].sum()), int(confusion[:, at].sum())
    precision, recall = hits / named if named else 0.0, hits / support if support else 0.0
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return ClassScore(name, precision, recall, f1, support)
