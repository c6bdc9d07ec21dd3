"""The gradient of a batch of training pictures: views of them, smoothed and weighted targets, forward and backward."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tl_core.data.pixels import Preprocessing
from tl_core.models.classifier import Classifier
from tl_core.training.augment import Views
from tl_core.training.batches import add, pieces
from tl_core.training.recipe import Recipe

# Of Inception's auxiliary classifier: https://docs.pytorch.org/tutorials/beginner/finetuning_torchvision_models_tutorial.html
_AUXILIARY = 0.4

Numbers = npt.NDArray[np.int64]
Mapped = Callable[[Callable[[slice], tuple[Tensor, list[Tensor]]], list[slice]], Iterator[tuple[Tensor, list[Tensor]]]]


@dataclass(frozen=True)
class TrainingData:
    """`frames`: (N, 3, S, S) uint8 of the whole set; `labels`: (N,); `fit`: the pictures that teach; `weights`: (N,)
    float32, how much each counts, 1 on average over `fit`."""

    frames: npt.NDArray[np.uint8]
    labels: Numbers
    fit: Numbers
    weights: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Mixing:
    """Mixup (Zhang et al. 2018, arXiv 1710.09412): each picture of a batch with `mates`, itself by `share`."""

    mates: Numbers
    share: float


class Gradients:
    """Gradients of `model` for `weights`, those of its parameters that are trained."""

    def __init__(
        self,
        model: Classifier,
        weights: list[nn.Parameter],
        data: TrainingData,
        recipe: Recipe,
        preprocessing: Preprocessing,
        device: str,
    ) -> None:
        self._model, self._weights, self._data, self._recipe = model, weights, data, recipe
        self._preprocessing, self._device = preprocessing, device
        self._resident = self._on_device()

    def of(
        self,
        batch: Numbers,
        share: slice,
        views: Views,
        size: int,
        *,
        piece: int,
        workers: int,
        mapped: Mapped,
        mixing: Mixing | None = None,
        scale: Callable[[Tensor], Tensor] = lambda loss: loss,
    ) -> tuple[Tensor, list[Tensor]]:
        """The part of the mean loss of `batch` that its pictures in `share` make up, and its gradient: in small batches
        of `piece` at most, one a worker where there are enough, summed in their order."""

        def work(part: slice) -> tuple[Tensor, list[Tensor]]:
            part = slice(share.start + part.start, share.start + part.stop)
            other = None if mixing is None else Mixing(mixing.mates[part], mixing.share)
            return self._small(batch[part], other, views, size, len(batch), scale)

        count = share.stop - share.start
        parts = pieces(count, min(piece, -(-count // workers))) if count else []
        loss, gradient = torch.zeros((), device=self._device), None
        for part_loss, part_gradient in mapped(work, parts):
            loss += part_loss
            gradient = add(gradient, part_gradient)
        return loss, gradient or [torch.zeros_like(w) for w in self._weights]  # fewer pictures than processes

    def _small(
        self,
        pictures: Numbers,
        mixing: Mixing | None,
        views: Views,
        size: int,
        of: int,
        scale: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, list[Tensor]]:
        x, target = self._input(pictures, views, size)
        if mixing is not None:
            mate, mate_target = self._input(mixing.mates, views, size)
            x, target = x.lerp_(mate, 1 - mixing.share), target.lerp_(mate_target, 1 - mixing.share)
        dtype = torch.float16 if self._recipe.precision == "fp16" else torch.bfloat16
        with torch.autocast(self._device, dtype, enabled=self._recipe.precision != "fp32"):
            logits, auxiliary = self._model.both(x)
        loss = _loss(logits, target, of)
        whole = loss if auxiliary is None else loss + _AUXILIARY * _loss(auxiliary, target, of)
        found = torch.autograd.grad(scale(whole), self._weights, allow_unused=True)
        filled = [g if g is not None else torch.zeros_like(w) for g, w in zip(found, self._weights, strict=True)]
        return loss.detach(), filled

    def _input(self, pictures: Numbers, views: Views, size: int) -> tuple[Tensor, Tensor]:
        """(B, 3, size, size) float32 views and (B, C) smoothed targets, each row summing to its picture's weight."""
        if self._resident is not None:
            batch = self._resident[torch.from_numpy(pictures).to(self._device)]
        else:
            batch = torch.from_numpy(self._data.frames[pictures]).to(self._device)
        x = self._preprocessing.normalise(views.of(batch, pictures, size))
        labels = torch.from_numpy(self._data.labels[pictures]).to(self._device)
        classes, smoothing = self._model.classes, self._recipe.smoothing
        target = F.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes
        return x, target * torch.from_numpy(self._data.weights[pictures]).to(self._device)[:, None]

    def _on_device(self) -> Tensor | None:
        """All frames on the GPU, when they take at most half of its free memory."""
        frames = self._data.frames
        if self._device == "cpu" or (self._device == "cuda" and frames.nbytes > torch.cuda.mem_get_info()[0] / 2):
            return None
        return torch.from_numpy(np.array(frames)).to(self._device)


def _loss(logits: Tensor, target: Tensor, of: int) -> Tensor:
    return -(F.log_softmax(logits.float(), dim=1) * target).sum() / of
