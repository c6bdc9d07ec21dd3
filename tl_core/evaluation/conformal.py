"""Classes of which one is right as often as promised: "one of these two, 95 times out of 100".

Split conformal prediction with the smallest sets (Sadinle, Lei and Wasserman 2019, arXiv 1609.00451): every class whose
calibrated probability reaches a threshold that was found on pictures the head had not seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SHARE = 0.95
_LEAST = 20  # pictures, below which no threshold can promise 95 %


@dataclass(frozen=True)
class Likely:
    """`threshold` of probability; and on the test pictures, None before a test, the share of those whose class was
    among the likely ones, and how many classes those were on average."""

    threshold: float
    coverage: float | None = None
    size: float | None = None

    @classmethod
    def from_dict(cls, record: Any, classes: int) -> "Likely":
        """The inverse of `asdict`, also after JSON; the record may be a stranger's. Raises ValueError or TypeError."""
        found = cls(**record)
        shares = [share for share in (found.threshold, found.coverage) if share is not None]
        size = 1 if found.size is None else found.size
        if found.threshold is None or not all(type(n) in (int, float) and 0 <= n <= 1 for n in shares):
            raise ValueError("no threshold of likely classes")
        if type(size) not in (int, float) or not 1 <= size <= classes:
            raise ValueError("no number of likely classes")
        return found

    def sets(self, probabilities: npt.NDArray[np.float32]) -> list[list[int]]:
        """The likely classes for each row of (N, C), most likely first, at least the first."""
        order = np.argsort(-probabilities, axis=1, kind="stable")
        enough = (probabilities >= self.threshold).sum(axis=1)
        return [[int(c) for c in row[: max(1, int(n))]] for row, n in zip(order, enough, strict=True)]

    def tested(self, probabilities: npt.NDArray[np.float32], labels: Sequence[int]) -> "Likely":
        """With what it came to on (N, C) answers to test pictures."""
        sets = self.sets(probabilities)
        covered = [label in found for found, label in zip(sets, labels, strict=True)]
        return Likely(self.threshold, float(np.mean(covered)), float(np.mean([len(found) for found in sets])))


def measure(probabilities: npt.NDArray[np.float32], labels: npt.ArrayLike) -> Likely | None:
    """The threshold from (N, C) calibrated answers to pictures that those who answered had not seen; None where they
    are too few. The finite-sample correction makes the promise hold on average over sets of N pictures."""
    given = np.asarray(labels)
    if len(given) < _LEAST:
        return None
    own = np.sort(probabilities[np.arange(len(given)), given])
    rank = int((1 - SHARE) * (len(own) + 1))  # so many of the least may stay below
    return Likely(float(own[rank - 1]) if rank else 0.0)
