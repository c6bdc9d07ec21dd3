"""What all processes that train together are told: one training of one model, from where it starts to who learns."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tl_core.data.imageset import ImageSet
from tl_core.models import heads
from tl_core.models.backbone import inception_auxiliary
from tl_core.models.catalogue import Backbone
from tl_core.models.classifier import Classifier
from tl_core.settings import Settings
from tl_core.training.checkpoint import Checkpoints
from tl_core.training.distributed import World
from tl_core.training.finetune import Judged, Tuner
from tl_core.training.frames import frame_rows
from tl_core.training.gradient import TrainingData
from tl_core.training.recipe import Recipe
from tl_core.training.starting import starting_point

CHECKPOINTS = "checkpoints"
# The layer whose output an auxiliary classifier sees while the network is trained.
_AUXILIARY = {"inception_v3": "Mixed_6e"}


@dataclass(frozen=True)
class Job:
    """All that a process needs to train with the others: `fit` teach, `head` and `head_state` are where it
    starts, `judged` whether it is judged on pictures held out, `start_from` as in the wishes."""

    images: ImageSet
    row: Backbone
    folder: Path
    name: str
    recipe: Recipe
    seed: int
    fit: list[int]
    weights: npt.NDArray[np.float32]
    head: dict[str, Any]
    head_state: dict[str, Tensor]
    judged: bool = False
    start_from: str = ""

    @property
    def auxiliary(self) -> str | None:
        """The layer whose output an auxiliary classifier sees while training: Inception has one, at its own size."""
        own = self.recipe.image_size == self.row.preprocessing.size and self.recipe.strategy == "all"
        return _AUXILIARY.get(self.row.architecture) if own and self.row.source == "torchvision" else None

    def tuner(
        self, trunk: nn.Module, *, device: str, world: World, judge: Callable[[nn.Module, int], Judged] | None
    ) -> Tuner:
        """The loop of this job on `trunk`, which is changed."""
        head = heads.build(self.head)
        head.load_state_dict(self.head_state, strict=True)
        labels = np.array([picture.label for picture in self.images.pictures])
        frames = frame_rows(self.images, self.row, self.recipe.image_size).complete()
        assert frames is not None, "framed before any tuner is made"
        model = Classifier(trunk, head, len(self.images.class_names))
        if self.auxiliary is not None:
            torch.manual_seed(self.seed)  # its last layer is new
            model.attach(inception_auxiliary(self.row, model.classes, timeout=0), self.auxiliary)
        # Not the precision: another device goes on in its own.
        recipe = {name: value for name, value in asdict(self.recipe).items() if name != "precision"}
        identity = json.dumps([recipe, self.seed, self.row.id, len(self.fit)])
        return Tuner(
            model,
            TrainingData(frames, labels, np.array(self.fit), self.weights[labels]),
            self.recipe,
            sizes=_sizes(self.row, self.recipe.image_size),
            preprocessing=self.row.preprocessing,
            device=device,
            seed=self.seed,
            checkpoints=Checkpoints(self.folder / CHECKPOINTS, self.name, identity),
            world=world,
            judge=judge,
        )


def assist(world: World, *, settings: Settings, device: str) -> None:
    """What every process but the first does: it trains each job with the others until there are no more."""
    nothing: Job | None = None
    while (job := world.tell(nothing)) is not None:
        size, timeout = job.recipe.image_size, settings.network_timeout_seconds
        trunk = starting_point(job.row.id, job.start_from, timeout=timeout, image_size=size)[1]
        # The first process judges; the others only have to expect its verdict at the same moments.
        judge = (lambda model, size: Judged(0.0, 0.0)) if job.judged else None
        tuner = job.tuner(trunk, device=device, world=world, judge=judge)
        for _ in tuner.run(should_stop=lambda: False):
            pass


def _sizes(row: Backbone, size: int) -> list[int]:
    """`size` and what may be used instead when memory is short: three quarters and half of it, where they fit."""
    smaller = [round(size * part / max(1, row.size_step)) * row.size_step for part in (0.75, 0.5)]
    transformer = "img_size" in row.model_args  # made for one size
    return [size] if transformer else [size, *(s for s in smaller if 32 <= s < size and row.fits(s))]
