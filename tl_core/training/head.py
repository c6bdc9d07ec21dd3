"""The head on cached features, of whatever kind the plan says: solved or fitted, or as an earlier process left it."""

import json
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tl_core.data.imageset import ImageSet
from tl_core.events import Event, Progress
from tl_core.models import heads
from tl_core.training.balance import class_weights
from tl_core.training.checkpoint import Checkpoints
from tl_core.training.fit_heads import FittedHead, HeadStep, fit_head
from tl_core.training.plan import Plan
from tl_core.training.solve import SolvedHead, SolveStep, solve
from tl_core.wording import notice


@dataclass(frozen=True)
class HeadMaker:
    """Makes heads for one run. `rows` are the features of the whole set, pooled or maps as the plan's head needs."""

    images: ImageSet
    plan: Plan
    rows: npt.NDArray[Any]
    folder: Path  # of checkpoints
    identity: str  # of the features
    should_stop: Callable[[], bool]

    def features(self, pictures: Sequence[int]) -> Tensor:
        """(n, ...) float32 of the pictures by number."""
        return torch.from_numpy(np.asarray(self.rows[list(pictures)], dtype=np.float32))

    def logits(self, head: nn.Module, pictures: Sequence[int]) -> Tensor:
        """(n, C) of the pictures by number, a few at a time: maps are large."""
        with torch.inference_mode():
            parts = [head(self.features(pictures[at : at + 256])) for at in range(0, len(pictures), 256)]
        return torch.cat(parts)

    def weights(self, labels: Sequence[int]) -> list[float] | None:
        """How much a picture of each class counts among pictures with these labels; None where all count the same."""
        if not self.plan.balance:
            return None
        found: list[float] = class_weights(labels, len(self.images.class_names), on=self.plan.balance).tolist()
        return found

    def make(self, name: str, pictures: list[int]) -> Generator[Event, None, tuple[nn.Module, dict[str, Any]]]:
        """The head for `pictures`, calibrated, and what cross-validation or the held-out fold said of it."""
        key = json.dumps([self.identity, self.plan.head, self.plan.seed, self.plan.balance, len(pictures)])
        kept = Checkpoints(self.folder, f"head-{name}", key)
        if (found := kept.latest()) is not None:
            head = heads.build(found.values["head"])
            head.load_state_dict(found.tensors, strict=True)
            return head, found.values["record"]
        if kept.damaged:
            yield notice("checkpoint_damaged")
        head, record = yield from self._fitted(pictures)
        if not self.should_stop():  # else it is only what could be done in time
            kept.save(0, head.state_dict(), {"head": heads.describe(head), "record": record})
        return head, record

    def _fitted(self, pictures: list[int]) -> Generator[Event, None, tuple[nn.Module, dict[str, Any]]]:
        labels = [self.images.pictures[i].label for i in pictures]
        groups = [self.images.pictures[i].group for i in pictures]
        classes = len(self.images.class_names)
        weights = self.weights(labels)
        options: dict[str, Any] = {"seed": self.plan.seed, "class_weights": weights, "should_stop": self.should_stop}
        started, features = time.monotonic(), self.rows[pictures]
        steps = (
            solve(features, labels, groups, classes, **options)
            if self.plan.head == "linear"
            else fit_head(self.plan.head, features, labels, groups, classes, **options)
        )
        for step in steps:
            if isinstance(step, SolveStep | HeadStep):
                left = (time.monotonic() - started) / step.done * (step.total - step.done)
                yield Progress("solving", step.done, step.total, left)
            elif isinstance(step, SolvedHead):
                linear = heads.linear(step.weight, step.bias)
                return linear, _told(step) | {"strength": step.strength}
            else:
                return step.head, _told(step) | {"epochs": step.epochs}
        raise AssertionError("a head always comes last")


def _told(found: SolvedHead | FittedHead) -> dict[str, Any]:
    """What is kept of how a head was judged."""
    return {"temperature": found.temperature, "cv_accuracy": found.cv_accuracy, "likely": found.likely}
