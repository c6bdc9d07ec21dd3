"""A bundle that answers: decoded pictures in, classes with confidence out. The same preprocessing as in training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tl_core.bundle.bundle import BundleInfo, load
from tl_core.data.imageset import RGB
from tl_core.models.classifier import Classifier

_BATCH = 32


@dataclass(frozen=True)
class Prediction:
    """The classes of one picture, most likely first, each with its confidence in [0, 1]. `unknown` is how little it is
    like the training pictures, in [0, 1] (None where the bundle cannot tell); `strange` whether that is too little.
    `likely` are the classes of which one is right 95 times out of 100, most likely first; () where that is unknown."""

    ranking: tuple[tuple[str, float], ...]
    unknown: float | None = None
    strange: bool = False
    likely: tuple[str, ...] = ()

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
        self.model, self._device = model.to(device), device

    info: BundleInfo
    model: Classifier

    def logits(self, pictures: Sequence[RGB]) -> Tensor:
        """(N, C) float32 for N decoded pictures, (H, W, 3) uint8 each."""
        return self._answers(pictures)[0]

    def answers(self, pictures: Sequence[RGB]) -> tuple[Tensor, Tensor]:
        """(N, C) calibrated probabilities and (N,) unknown scores of N decoded pictures, at least one; the scores are 0
        where the bundle has none."""
        logits, features = self._answers(pictures)
        unknown = self.info.unknown
        return logits.softmax(1), torch.zeros(len(logits)) if unknown is None else unknown.scores(features)

    def predict(self, pictures: Sequence[RGB], *, top_k: int = 5, alarms: float | None = None) -> list[Prediction]:
        """One prediction a picture, with its `top_k` classes. `alarms` is the share of pictures of the kinds that were
        taught that may be called strange, None for what the bundle was made with."""
        if not pictures:
            return []
        names, measured, likely = self.info.class_names, self.info.unknown, self.info.likely
        probabilities, unknown = self.answers(pictures)
        best = probabilities.topk(min(top_k, len(names)), dim=1)
        sets = [[]] * len(pictures) if likely is None else likely.sets(probabilities.numpy())
        threshold = 1.0
        if measured is not None:
            threshold = measured.threshold if alarms is None else measured.threshold_at(alarms)
        return [
            Prediction(
                tuple((names[at], confidence) for at, confidence in zip(row, confidences, strict=True)),
                None if measured is None else score,
                measured is not None and score > threshold,
                tuple(names[at] for at in found),
            )
            for row, confidences, score, found in zip(
                best.indices.tolist(), best.values.tolist(), unknown.tolist(), sets, strict=True
            )
        ]

    def _answers(self, pictures: Sequence[RGB]) -> tuple[Tensor, Tensor]:
        preprocessing, logits, features = self.info.preprocessing, [], []
        for start in range(0, len(pictures), _BATCH):
            framed = torch.stack([preprocessing.frame(p) for p in pictures[start : start + _BATCH]])
            with torch.inference_mode():
                answer, seen = self.model.seen(preprocessing.normalise(framed.to(self._device)))
            logits.append(answer.float().cpu())
            features.append(seen.float().cpu())
        return torch.cat(logits), torch.cat(features)
