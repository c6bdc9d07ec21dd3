"""From where on a run's model says that a picture is like nothing it was taught: measured on the training pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tl_core.data.imageset import ImageSet
from tl_core.evaluation.unknown import Unknown, measure
from tl_core.models.classifier import Classifier, pooled

_MOST = 2_000  # training pictures that are looked at again after fine-tuning
_PIECE = 256


class Features(nn.Module):
    """What a classifier's answers come from, (N, 3, H, W) -> (N, D)."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier.seen(x)[1]


@dataclass(frozen=True)
class Strangeness:
    """The score, None where the pictures are too few; the numbers of the training pictures that it was fitted to, with
    their features (n, D); and the scores of the exam, 0 without one."""

    unknown: Unknown | None
    taught: list[int]
    features: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]


def measured(
    images: ImageSet, fit: Sequence[int], exam: Sequence[int], features: Callable[[Sequence[int]], Tensor], seed: int
) -> Strangeness:
    """The score fitted to the pictures at `fit`, and its false alarms among those at `exam`, from what `features` gives
    of pictures by number: (n, D), or maps (n, T, D)."""
    taught = _spread(fit)
    seen = pooled_features(features, taught)
    found = measure(
        seen,
        [images.pictures[i].group for i in taught],
        [images.pictures[i].label for i in taught],
        seed=seed,
    )
    if found is None:
        return Strangeness(None, taught, seen.numpy(), np.zeros(len(exam), dtype=np.float32))
    scores = found.scores(pooled_features(features, exam))
    alarm = float((scores > found.threshold).float().mean())
    return Strangeness(replace(found, false_alarm=alarm), taught, seen.numpy(), scores.numpy().astype(np.float32))


def _spread(indices: Sequence[int]) -> list[int]:
    """At most so many of `indices`, evenly spread."""
    step = max(1.0, len(indices) / _MOST)
    return [indices[int(at * step)] for at in range(min(len(indices), _MOST))]


def pooled_features(features: Callable[[Sequence[int]], Tensor], indices: Sequence[int]) -> Tensor:
    """(n, D) features of pictures by number, a few at a time: maps are large."""
    parts = [pooled(features(indices[at : at + _PIECE])) for at in range(0, len(indices), _PIECE)]
    return torch.cat(parts)
