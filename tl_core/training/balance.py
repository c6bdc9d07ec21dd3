"""How much the pictures of a class count where classes differ much in size."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# From this ratio of the largest class to the smallest on, rare classes count for more by themselves.
BALANCE_RATIO = 5.0
# Of the inverse frequency: the whole of it would make a rare class's few pictures shout down all others, none of it is
# no balance; the square root is usual (Mahajan et al. 2018, arXiv 1805.00932).
_POWER = 0.5


def class_weights(labels: Sequence[int], classes: int, *, on: bool) -> npt.NDArray[np.float32]:
    """(C,) how much a picture of each class counts, 1 on average over `labels`; all 1 unless `on`."""
    if not on:
        return np.ones(classes, dtype=np.float32)
    counts = np.bincount(np.asarray(labels), minlength=classes).clip(1)
    weights = counts.astype(np.float64) ** -_POWER
    balanced: npt.NDArray[np.float32] = (weights * len(labels) / (weights * counts).sum()).astype(np.float32)
    return balanced
