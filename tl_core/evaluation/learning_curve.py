"""What more pictures would bring: the share of mistakes over the number of pictures, and where that leads.

Mistakes fall about as a power of the number of pictures (Hestness et al. 2017, arXiv 1712.00409; for small image sets
Hoiem et al. 2021, arXiv 2010.11029), so they lie on a line when both are drawn as logarithms.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_DRAWS = 500
# By about so much forecasts from half of five real sets missed, beside what their few test pictures leave to chance.
_MISS = 0.02
_FLATTEST, _STEEPEST = 0.0, 1.0  # powers that real sets show; noise on few pictures goes beyond
_MOST_SIZE = 1_000_000_000


@dataclass(frozen=True)
class LearningCurve:
    """The share right with so many pictures to learn from; and the points of accuracy, in [0, 1], that twice as many
    as the most would add, with a 95 % interval (`likely`)."""

    sizes: tuple[int, ...]
    accuracies: tuple[float, ...]
    gain: float
    likely: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "LearningCurve":
        """The inverse, also after JSON; the record may be a stranger's. Raises ValueError, TypeError or LookupError."""
        low, high = record["likely"]
        found = cls(tuple(record["sizes"]), tuple(record["accuracies"]), record["gain"], (low, high))
        shares = [*found.accuracies, found.gain, low, high]
        if (
            not 2 <= len(found.sizes) == len(found.accuracies) <= 20
            or not all(type(size) is int and 0 < size < _MOST_SIZE for size in found.sizes)
            or not all(type(share) in (int, float) and 0 <= share <= 1 for share in shares)
        ):
            raise ValueError("no learning curve")
        return found


def forecast(
    sizes: Sequence[int], right: npt.NDArray[np.bool_], groups: Sequence[int], *, seed: int = 0
) -> LearningCurve:
    """The curve from (S, N) answers, right or not, to the same N pictures by heads taught with S numbers of pictures,
    growing. The interval comes from drawing the pictures anew, copy `groups` as one, and from how far forecasts missed
    on real sets (bench/RESULTS.md)."""
    number = np.unique(np.asarray(groups), return_inverse=True)[1]
    total = int(number.max()) + 1
    hits, each = np.zeros((len(sizes), total)), np.bincount(number, minlength=total)
    for row, answers in zip(hits, right, strict=True):
        np.add.at(row, number, answers)
    rng = np.random.default_rng((seed, 13))
    gains = []
    for _ in range(_DRAWS):
        weights = rng.standard_exponential(total)
        gains.append(_gain(sizes, hits @ weights / (each @ weights), int(right.shape[1])))
    shares = right.mean(axis=1)
    gain = _gain(sizes, shares, int(right.shape[1]))
    half = 1.96 * math.hypot(float(np.std(gains)), _MISS)
    likely = max(0.0, gain - half), min(1 - float(shares[-1]), gain + half)
    return LearningCurve(tuple(sizes), tuple(float(s) for s in shares), gain, likely)


def _gain(sizes: Sequence[int], shares: npt.NDArray[np.float64], tested: int) -> float:
    """What twice the last size adds, on the line through the logarithms; the larger sizes are the surer ones."""
    wrong = np.log(1 - shares + 1 / (tested + 2))  # without a mistake there would be no logarithm
    x, weight = np.log(np.asarray(sizes, dtype=float)), np.sqrt(np.asarray(sizes, dtype=float))
    centre, level = (weight @ x) / weight.sum(), (weight @ wrong) / weight.sum()
    spread = weight @ (x - centre) ** 2
    power = -float(weight @ ((x - centre) * (wrong - level)) / spread) if spread else 0.0
    power = min(max(power, _FLATTEST), _STEEPEST)
    return float((1 - shares[-1]) * (1 - 2**-power))
