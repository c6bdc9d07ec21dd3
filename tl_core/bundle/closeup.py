"""A closer look at one answer: where a picture speaks for a class, and the features it is compared by."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tl_core.bundle.predictor import Predictor
from tl_core.data.imageset import RGB
from tl_core.models.heatmap import heatmap

_BATCH = 32


@dataclass(frozen=True)
class Why:
    """`framed` (S, S, 3) uint8 is the square that the network saw, `heat` (h, w) float32 in [0, 1] where in it."""

    framed: RGB
    heat: npt.NDArray[np.float32]


def why(predictor: Predictor, picture: RGB, label: int | None = None) -> Why:
    """Where (H, W, 3) uint8 speaks for class `label`, or for the one that it is given."""
    preprocessing, model = predictor.info.preprocessing, predictor.model
    framed = preprocessing.frame(picture)
    x = preprocessing.normalise(framed[None].to(next(model.parameters()).device))
    if label is None:
        with torch.inference_mode():
            label = int(model(x).argmax())
    return Why(framed.permute(1, 2, 0).contiguous().numpy(), heatmap(model, x, label).numpy())


def features_of(predictor: Predictor, pictures: Sequence[RGB]) -> npt.NDArray[np.float32]:
    """(N, D): what the network makes of each of the (H, W, 3) uint8 pictures before its head, averaged over places."""
    preprocessing, model = predictor.info.preprocessing, predictor.model
    device = next(model.parameters()).device
    found = [np.empty((0, model.feature_width), dtype=np.float32)]
    for start in range(0, len(pictures), _BATCH):
        framed = torch.stack([preprocessing.frame(picture) for picture in pictures[start : start + _BATCH]])
        with torch.inference_mode():
            features = model.seen(preprocessing.normalise(framed.to(device)))[1]
        found.append(features.float().cpu().numpy())
    return np.concatenate(found)
