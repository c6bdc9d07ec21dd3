"""The numbers of a fine-tuning run. Needs no torch: plans are made in the web process."""

from dataclasses import dataclass
from typing import Literal

Schedule = Literal["cosine", "one-cycle"]
Precision = Literal["fp32", "bf16", "fp16"]
Strategy = Literal["last", "all"]


@dataclass(frozen=True)
class Recipe:
    """How a classifier is fine-tuned. `batch` pictures an optimizer step, handled `piece` at a time; `rate` is the peak
    learning rate of the trunk's top, `head_rate` of the head, each group of layers below the top `decay_per_group`
    times the one above it; `average` the decay of the exponential moving average; `patience` how many judgements
    without progress end the run; `mixup` the parameter of its Beta distribution (arXiv 1710.09412), 0 for none; `again`
    whether the winner is trained once more with the pictures held out."""

    strategy: Strategy
    epochs: int
    image_size: int
    schedule: Schedule = "cosine"
    precision: Precision = "fp32"
    flip: bool = True
    mixup: float = 0.0
    batch: int = 32
    piece: int = 32
    rate: float = 3e-4
    head_rate: float = 1e-3
    decay_per_group: float = 0.7
    weight_decay: float = 0.05
    smoothing: float = 0.0
    average: float = 0.99
    patience: int = 4
    again: bool = True

    def steps(self, pictures: int) -> int:
        """Optimizer steps with so many pictures; what does not fill a batch is left to another epoch's order."""
        return self.epochs * max(1, pictures // self.batch)
