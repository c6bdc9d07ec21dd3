"""A bundle that answers: decoded pictures in, classes with confidence out. The same preprocessing as in training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tl_core.bundle.bundle import BundleInfo, load
from tl_core.data.imageset import RGB

_BATCH = 32


@dataclass(frozen=True)
class Prediction:
    """The classes of one picture, most likely first, each with its confidence in [0, 1]."""

    ranking: tuple[tuple[str, float], ...]

    @property
    def label(self) -> str:
        return self.ranking[0][0]

    @property
    def confidence(self) -> float:
        return self.ranking[0][1]


class Predictor:
    """Loads a bundle once and predicts. Raises a `BundleError` when it cannot be used."""

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        model, self.info = load(folder)
        self._model, self._device = model.to(device), device

    info: BundleInfo

    def logits(self, pictures: Sequence[RGB]) -> torch.Tensor:
        """(N, C) float32 for N decoded pictures, (H, W, 3) uint8 each."""
        preprocessing, parts = self.info.preprocessing, []
        for start in range(0, len(pictures), _BATCH):
            framed = torch.stack([preprocessing.frame(p) for p in pictures[start : start + _BATCH]])
            with torch.inference_mode():
                parts.append(self._model(preprocessing.normalise(framed.to(self._device))).float().cpu())
        return torch.cat(parts)

    def predict(self, pictures: Sequence[RGB], *, top_k: int = 5) -> list[Prediction]:
        """One prediction a picture, with its `top_k` classes."""
        if not pictures:
            return []
        names = self.info.class_names
        best = self.logits(pictures).softmax(1).topk(min(top_k, len(names)), dim=1)
        return [
            Prediction(tuple((names[at], confidence) for at, confidence in zip(row, confidences, strict=True)))
            for row, confidences in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]
