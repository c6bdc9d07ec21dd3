"""Whether an exported model answers as the app does: both are asked about the same pictures."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tl_core.bundle.predictor import Predictor
from tl_core.data.imageset import RGB
from tl_core.exports.record import Agreement

MOST = 500  # pictures asked about
_EQUAL = 1e-3  # of probability
_BATCH = 32

# (H, W, 3) uint8 -> (C,) probabilities and the unknown score
Answerer = Callable[[RGB], tuple[npt.NDArray[np.float32], float]]


@dataclass(frozen=True)
class Tolerance:
    """What an export must keep to be offered: the share of pictures with the same class, and the largest difference."""

    agree: float
    largest: float

    def holds(self, found: Agreement) -> bool:
        return found.compared > 0 and found.agree >= self.agree * found.compared and found.largest <= self.largest


def compare(
    predictor: Predictor, pictures: Sequence[RGB], answer: Answerer, *, yours: bool = True
) -> Generator[int, None, Agreement]:
    """Ask both about every picture, yielding how many were asked about so far.

    Two classes that the app itself holds for equally likely, within the difference found, may come in either order.
    """
    agree, largest, stranger = 0, 0.0, 0.0
    for start in range(0, len(pictures), _BATCH):
        batch = pictures[start : start + _BATCH]
        ours, scores = (found.numpy() for found in predictor.answers(batch))
        for mine, score, picture in zip(ours, scores, batch, strict=True):
            theirs, their_score = answer(picture)
            gap = float(np.abs(mine - theirs).max())
            agree += bool(mine[int(theirs.argmax())] >= mine.max() - 2 * min(gap, _EQUAL))
            largest, stranger = max(largest, gap), max(stranger, abs(float(score) - their_score))
        yield start + len(batch)
    return Agreement(len(pictures), agree, largest, stranger, yours)
