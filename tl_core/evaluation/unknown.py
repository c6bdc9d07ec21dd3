"""How unlike the training pictures a picture is, whatever class it is given: a score, and from where on to say so.

The score is the part of a picture's centred features that lies outside the few directions in which the training
features vary (the residual of ViM, Wang et al. 2022, arXiv 2203.10807, as a share of the whole), from 0 to 1. It is
about as good as the distance to the nearest training picture (Sun et al. 2022, arXiv 2204.06507; bench/RESULTS.md) and,
unlike that, keeps nothing of any single picture in a model that may be published.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tl_core.data.split import folds

# Out of so many pictures of the kinds that were taught, one is called strange.
ONE_IN = 20
QUANTILES = 101
_DIRECTIONS = 64
_MOST = 2_000  # pictures it is fitted to
_FOLDS = 5
_LEAST = 8  # pictures in as many groups, below which there is nothing to measure


@dataclass(frozen=True)
class Unknown:
    """`mean` (D,) and `basis` (K, D), rows orthonormal, of the training features; a picture whose score is above
    `threshold` is called strange. `false_alarm` is the share of the test pictures that are, None before a test.
    `quantiles` are evenly spread ones, 0 to 1, of the scores of pictures held out; () in older bundles."""

    mean: Tensor
    basis: Tensor
    threshold: float
    false_alarm: float | None = None
    quantiles: tuple[float, ...] = ()

    def threshold_at(self, alarms: float) -> float:
        """From which score on to call a picture strange, so that a share of `alarms` of those of the taught kinds is,
        as far as the pictures held out tell; the usual threshold where an older bundle does not say."""
        if not self.quantiles:
            return self.threshold
        return float(np.interp(1 - alarms, np.linspace(0, 1, len(self.quantiles)), self.quantiles))

    def scores(self, features: Tensor) -> Tensor:
        """(N, D) pooled features -> (N,) in [0, 1], higher the stranger."""
        return residual(features, self.mean, self.basis)


def residual(features: Tensor, mean: Tensor, basis: Tensor) -> Tensor:
    """The share of each (N, D) row, less `mean`, that the (K, D) `basis` does not span: (N,)."""
    centred = features - mean
    length = centred.norm(dim=1)
    outside = (centred - (centred @ basis.T) @ basis).norm(dim=1)
    share: Tensor = outside / length.clamp(min=1e-9)
    return share


def measure(features: Tensor, groups: Sequence[int], labels: Sequence[int], *, seed: int = 0) -> Unknown | None:
    """Fit the score to the (N, D) features of training pictures with their copy groups and labels.

    The threshold is a quantile of scores of pictures that the directions were not fitted to, fold by fold, copies
    together. None for too few pictures.
    """
    chosen = np.random.default_rng((seed, 7)).permutation(len(features))[:_MOST]
    x = features[torch.from_numpy(chosen)].float()
    groups, labels = [groups[i] for i in chosen], [labels[i] for i in chosen]
    if len(set(groups)) < _LEAST:
        return None
    fold_of = torch.from_numpy(folds(groups, labels, _FOLDS, seed=seed))
    # As many in every fold as in the end, or the scores of the folds would be higher than the final ones.
    count = max(1, min(_DIRECTIONS, int(len(x) * (1 - 1 / _FOLDS)) // 4, x.shape[1] - 1))
    held_out = []
    for fold in range(_FOLDS):
        out = fold_of == fold
        if bool(out.any()) and int((~out).sum()) >= 2:
            held_out.append(residual(x[out], *_directions(x[~out], count)))
    scores = torch.cat(held_out).double()
    threshold = float(scores.quantile(1 - 1 / ONE_IN))
    quantiles = scores.quantile(torch.linspace(0, 1, QUANTILES, dtype=torch.float64))
    return Unknown(*_directions(x, count), threshold, quantiles=tuple(quantiles.tolist()))


def _directions(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The mean (D,) of (N, D) rows and the `count` directions in which they vary most, (count, D)."""
    mean = x.mean(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vectors: Tensor = torch.svd_lowrank(x - mean, q=count, niter=4)[2]
    return mean, vectors.T.contiguous()
