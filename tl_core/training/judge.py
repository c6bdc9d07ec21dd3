"""Which of several kinds of features of the same pictures tells the classes apart best, by more than chance.

A ridge classifier judges each kind: its answers to pictures held out have a closed form, which makes it as sure a judge
of features as the solved head (`solve.py`) and up to ten times faster (bench/RESULTS.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tl_core.data.pixels import Framing
from tl_core.data.split import folds
from tl_core.training.cores import one_thread

# Standard errors by which another kind has to be better: by chance alone one of two is in one of twenty sets. More than
# for independent errors, as those of cross-validation are not (Nadeau and Bengio 2003).
_SURE = 2.5
# Penalties on the squared weights, relative to the number of pictures; features have unit deviation.
PENALTIES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
_FOLDS = 5


@dataclass(frozen=True)
class Verdict:
    """The framing to use. `right` counts, for each one, the pictures named right by a head that had not seen them, of
    `pictures`; empty where nothing was compared."""

    framing: Framing
    right: Mapping[Framing, int]
    pictures: int


def judge(
    features: Mapping[Framing, npt.NDArray[np.float32]],
    labels: Sequence[int],
    groups: Sequence[int],
    *,
    own: Framing,
    seed: int,
) -> Verdict:
    """The framing whose (N, D) features tell the classes apart best on pictures held out; `own` unless another is
    better by more than the paired differences may be by chance, copies of one picture (`groups`) counting as one.

    Judged by squared error, which is surer than counting what is right, but what is right must not become less.
    """
    fold_of, y = folds(groups, labels, _FOLDS, seed=seed), np.unique(labels, return_inverse=True)[1]
    truth = np.eye(y.max() + 1)[y]
    answers = {framing: held_out_answers(x, truth, fold_of) for framing, x in features.items()}
    errors = {framing: ((found - truth) ** 2).sum(axis=1) for framing, found in answers.items()}
    right = {framing: int((found.argmax(axis=1) == y).sum()) for framing, found in answers.items()}
    copies = np.unique(groups, return_inverse=True)[1]
    best, least = own, errors[own].mean()
    for framing, error in errors.items():
        gain = errors[own] - error
        spread = np.bincount(copies, weights=gain - gain.mean())
        sure = gain.mean() > _SURE * np.sqrt((spread**2).sum()) / len(gain)
        if sure and right[framing] > right[own] and error.mean() < least:
            best, least = framing, error.mean()
    return Verdict(best, right, len(y))


def held_out_answers(
    x: npt.NDArray[np.float32], truth: npt.NDArray[np.float64], fold_of: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """(N, C) answers of a ridge classifier to each picture, fitted without its fold, at the penalty that does best.

    `x` are (N, D) features, `truth` (N, C) ones and zeros, `fold_of` (N,) numbers. With S = I - H of the smoother H
    that the fit is, the residuals of a fold that was left out are S_ff^-1 (S Y)_f.
    """
    count, y = len(x), torch.from_numpy(truth)
    members = [torch.from_numpy(np.flatnonzero(fold_of == fold)) for fold in np.unique(fold_of)]
    best, least = y, np.inf
    with one_thread():
        gram = _gram(torch.from_numpy(x).double())
        for penalty in PENALTIES:
            ridge = penalty * count
            factor = torch.linalg.cholesky(gram + ridge * torch.eye(count, dtype=gram.dtype))
            rest = ridge * torch.cholesky_inverse(factor) - 1 / count  # the last term is the free bias
            residuals = rest @ y
            for out in members:
                residuals[out] = torch.linalg.solve(rest[out][:, out], residuals[out])
            if (error := float((residuals**2).sum())) < least:
                best, least = y - residuals, error
    answers: npt.NDArray[np.float64] = best.numpy()
    return answers


def _gram(x: Tensor) -> Tensor:
    """(N, N) products of (N, D) features of zero mean and unit deviation, per feature."""
    centred = x - x.mean(0)
    deviation = centred.std(0, correction=0)
    scaled = centred / torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))
    return scaled @ scaled.T / x.shape[1]
