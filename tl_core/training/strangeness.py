"""From where on a run's model says that a picture is like nothing it was taught: measured on the training pictures."""

from collections.abc import Callable, Sequence
from dataclasses import replace

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


def measured(
    images: ImageSet, fit: Sequence[int], exam: Sequence[int], features: Callable[[Sequence[int]], Tensor], seed: int
) -> Unknown | None:
    """The score fitted to the pictures at `fit`, and its false alarms among those at `exam`, from what `features` gives
    of pictures by number: (n, D), or maps (n, T, D)."""
    taught = _spread(fit)
    found = measure(
        _pooled(features, taught),
        [images.pictures[i].group for i in taught],
        [images.pictures[i].label for i in taught],
        seed=seed,
    )
    if found is None:
        return None
    strange = found.scores(_pooled(features, exam)) > found.threshold
    return replace(found, false_alarm=float(strange.float().mean()))


def _spread(indices: Sequence[int]) -> list[int]:
    """At most so many of `indices`, evenly spread."""
    step = max(1.0, len(indices) / _MOST)
    return [indices[int(at * step)] for at in range(min(len(indices), _MOST))]


def _pooled(features: Callable[[Sequence[int]], Tensor], indices: Sequence[int]) -> Tensor:
    """Features of a few pictures at a time: maps are large."""
    parts = [pooled(features(indices[at : at + _PIECE])) for at in range(0, len(indices), _PIECE)]
    return torch.cat(parts)
