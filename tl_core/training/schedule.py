"""How the learning rate goes over a run, and how it differs between the bottom of a network and its head."""

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from tl_core.training.recipe import Schedule

_WARM_UP = 0.1  # of all steps, as in BiT (arXiv 1912.11370) and most recipes since
# One-cycle rises for this share of the steps, from and to these fractions of the peak: fastai's `fit_one_cycle`
# (https://docs.fast.ai/callback.schedule.html), after Smith 2018 (arXiv 1803.09820).
_RISE, _START, _END = 0.25, 1 / 25, 1e-5


def rate_at(step: int, steps: int, schedule: Schedule) -> float:
    """The factor on the peak learning rate for step `step` of `steps`, in (0, 1]."""
    at = (step + 1) / steps
    if schedule == "one-cycle":
        if at < _RISE:
            return _START + (1 - _START) * _cosine(1 - at / _RISE)
        return _END + (1 - _END) * _cosine((at - _RISE) / (1 - _RISE))
    if at < _WARM_UP:
        return at / _WARM_UP
    return _cosine((at - _WARM_UP) / (1 - _WARM_UP)) or 1e-5


def _cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


def parameter_groups(
    groups: Sequence[Sequence[nn.Parameter]],
    head: Sequence[nn.Parameter],
    *,
    rate: float,
    head_rate: float,
    decay_per_group: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """Optimizer groups with `peak` rates: `rate` for the trunk's last group, times `decay_per_group` for each one
    below it (discriminative rates, Howard and Ruder 2018, arXiv 1801.06146), `head_rate` for the head. Biases and
    norms (one-dimensional) are not decayed."""
    made = []
    layers = [(rate * decay_per_group ** (len(groups) - 1 - at), group) for at, group in enumerate(groups)]
    for peak, group in [*layers, (head_rate, head)]:
        for flat in (True, False):
            chosen = [p for p in group if p.requires_grad and (p.ndim <= 1) == flat]
            if chosen:
                made.append({"params": chosen, "peak": peak, "lr": peak, "weight_decay": 0.0 if flat else weight_decay})
    return made
