"""Pictures that are probably in the wrong class: confident learning (Northcutt, Jiang and Chuang 2021, arXiv
1911.00068) on probabilities by heads that had not seen the picture.

A picture is suspected when it is surer to be of another class than pictures of that class are on average. Ours, and not
cleanlab's, whose licence (AGPL) would become this project's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Suspect:
    """The picture number `at`, given the class `given`, that looks like `suggested`; `confidence` in that."""

    at: int
    given: int
    suggested: int
    confidence: float


def suspects(probabilities: npt.NDArray[np.float32], labels: Sequence[int]) -> tuple[Suspect, ...]:
    """The suspected pictures among N with (N, C) probabilities, the surest first.

    Ranked by how unlikely the given class is (the paper's "self-confidence"): of labels moved at random it found a
    third more among the first than the margin between the two classes, which favours pictures of classes that are
    alike (bench/RESULTS.md).
    """
    given = np.asarray(labels)
    every = np.arange(len(given))
    own = probabilities[every, given]
    classes = probabilities.shape[1]
    usual = np.array([own[given == c].mean() if (given == c).any() else 2.0 for c in range(classes)])
    others = np.where(probabilities >= usual, probabilities, -1.0)
    suggested = others.argmax(axis=1)
    sure = others[every, suggested]
    found = np.flatnonzero((sure > own) & (suggested != given))
    ranked = found[np.argsort(own[found], kind="stable")]
    return tuple(Suspect(int(i), int(given[i]), int(suggested[i]), float(sure[i])) for i in ranked)
