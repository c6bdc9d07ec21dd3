"""The network for runtimes that want pictures of one size: framed outside, everything after that inside."""

import torch
from torch import Tensor, nn

from tl_core.bundle.predictor import Predictor
from tl_core.data.imageset import RGB
from tl_core.evaluation.unknown import residual


class Framed(nn.Module):
    """(1, size, size, 3) float32, 0 to 255 -> (C,) probabilities and the unknown score (1,), 0 where none is known."""

    mean: Tensor
    std: Tensor
    centre: Tensor
    basis: Tensor

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        p, unknown = predictor.info.preprocessing, predictor.info.unknown
        self.classifier, self.measured = predictor.model, unknown is not None
        self.register_buffer("mean", 255 * torch.tensor(p.mean))
        self.register_buffer("std", 255 * torch.tensor(p.std))
        if unknown is not None:
            self.register_buffer("centre", unknown.mean)
            self.register_buffer("basis", unknown.basis)

    def forward(self, framed: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        logits, features = self.classifier.seen(((framed - self.mean) / self.std).permute(0, 3, 1, 2))
        score = residual(features, self.centre, self.basis) if self.measured else logits.sum(1) * 0
        return logits[0].softmax(0), score


def as_input(predictor: Predictor, picture: RGB) -> Tensor:
    """(H, W, 3) uint8 -> what `Framed` reads."""
    return predictor.info.preprocessing.frame(picture).permute(1, 2, 0)[None].float().contiguous()


def how_to(predictor: Predictor) -> str:
    """How whoever uses such a file has to frame pictures, in words for a programmer."""
    p = predictor.info.preprocessing
    inner = round(p.size / p.crop_pct)
    ways = {
        "crop": f"scale the short side to {inner} pixels, then cut {p.size} x {p.size} pixels out of the middle",
        "squash": f"scale to {inner} x {inner} pixels, then cut {p.size} x {p.size} pixels out of the middle",
        "pad": f"scale the long side to {inner} pixels, put bars of colour {[round(255 * m) for m in p.mean]} on both "
        f"sides to make it square, then cut {p.size} x {p.size} pixels out of the middle",
    }
    threshold = (
        "" if predictor.info.unknown is None else f" Above {predictor.info.unknown.threshold:.4f} it is strange."
    )
    return (
        f"Input: one upright RGB picture, 1 x {p.size} x {p.size} x 3 numbers from 0 to 255 (float32).\n"
        f"Before: {ways[p.framing]} ({p.interpolation}, antialiased).\n"
        "Outputs: the probability of each class, in the order of labels.txt; and how unlike the training pictures it "
        f"is (0 to 1).{threshold}\n"
    )
