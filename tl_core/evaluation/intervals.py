"""How far a score may be from the truth for having been measured on few pictures: 95 % intervals."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_DRAWS = 1_000
_AT_ONCE = 2_000_000  # weights drawn at a time
_EDGES = (0.025, 0.975)

Interval = tuple[float, float]


def wilson(share: float, count: int, z: float = 1.96) -> Interval:
    """The 95 % interval of a share seen in `count` independent trials (Wilson 1927, JASA 22:209-212).

    Unlike the normal approximation it stays inside [0, 1] and is not empty for 0 of n and n of n.
    """
    denominator = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / denominator
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / denominator
    return max(0.0, centre - half), min(1.0, centre + half)


def by_class(
    truth: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    groups: Sequence[int],
    classes: int,
    *,
    seed: int = 0,
) -> tuple[Interval, Interval]:
    """95 % intervals of balanced accuracy and of macro F1, over (N,) answers; classes without a picture do not count.

    A Bayesian bootstrap (Rubin 1981, Annals of Statistics 9:130-134) that weighs copy `groups` and not pictures, as
    copies are no independent evidence. Two things make it honest on few pictures, where a bootstrap alone is too sure:
    every class gets 1/C of a right and of a wrong answer that nobody saw, so that 12 of 12 is not certainty; and the
    width grows by what a bootstrap of m answers a class is too narrow by. Coverage is simulated in tests/test_metrics.
    """
    present, truth = np.unique(truth, return_inverse=True)
    at = np.full(classes, len(present))  # answers that are no class of the test share one column, which is not scored
    at[present] = np.arange(len(present))
    predicted, count = at[predicted], len(present)
    number = np.unique(np.asarray(groups), return_inverse=True)[1]
    total = int(number.max()) + 1
    hits, support, named = (np.zeros((total, count + 1)) for _ in range(3))
    np.add.at(hits, (number, truth), truth == predicted)
    np.add.at(support, (number, truth), 1)
    np.add.at(named, (number, predicted), 1)
    rng, balanced, f1 = np.random.default_rng((seed, 11)), [], []
    step = max(1, min(_DRAWS, _AT_ONCE // total))
    for start in range(0, _DRAWS, step):
        some = min(step, _DRAWS - start)
        weights = rng.standard_exponential((some, total))
        unseen_right, unseen_wrong = rng.gamma(1 / count, size=(2, some, count))
        elsewhere = (unseen_wrong.sum(1, keepdims=True) - unseen_wrong) / max(count - 1, 1)
        h = (weights @ hits)[:, :-1] + unseen_right
        s = (weights @ support)[:, :-1] + unseen_right + unseen_wrong
        n = (weights @ named)[:, :-1] + unseen_right + elsewhere
        balanced.append((h / s).mean(1))
        f1.append((2 * h / (s + n)).mean(1))
    each = max(total / count, 1.5)
    widened = math.sqrt((each + 1) / (each - 1))
    return _spread(np.concatenate(balanced), widened), _spread(np.concatenate(f1), widened)


def _spread(draws: npt.NDArray[np.float64], widened: float) -> Interval:
    middle = float(np.median(draws))
    low, high = (middle + (float(edge) - middle) * widened for edge in np.quantile(draws, _EDGES))
    return max(0.0, low), min(1.0, high)
