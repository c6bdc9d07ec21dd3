"""Which backbone suits a set: each candidate's head is solved on a sample of the training pictures, cross-validated.

Never on validation or test pictures. Cross-validation on cached features beats cheaper scores such as LogME and LEEP
and costs little more than the look at the pictures itself.
"""

from collections.abc import Generator

import numpy as np
import numpy.typing as npt

from tl_core.data.imageset import ImageSet
from tl_core.data.pixels import PixelStore
from tl_core.errors import WeightsUnavailableError
from tl_core.events import Event, Progress
from tl_core.models import backbone as backbones
from tl_core.models.catalogue import EMBEDDED, find
from tl_core.settings import Settings
from tl_core.training.engine import has_bf16
from tl_core.training.features import interleaved, outputs
from tl_core.training.framing import reframed
from tl_core.training.plan import Plan
from tl_core.training.recipe import Precision
from tl_core.training.solve import SolvedHead, solve

_SAMPLE = 500  # pictures each candidate is scored on; more change the order of candidates rarely


def best_backbone(
    images: ImageSet, plan: Plan, train: list[int], *, settings: Settings, device: str
) -> Generator[Event, None, str]:
    """The id of the candidate whose solved head is right most often on pictures it was not solved on."""
    labels = [images.pictures[i].label for i in train]
    sample = [train[at] for at in interleaved(labels, plan.seed)[:_SAMPLE]]
    store, scores = PixelStore(images), {EMBEDDED.id: 0.0}
    for at, backbone_id in enumerate(plan.candidates):
        yield Progress("comparing", at, len(plan.candidates))
        row, wished = find(backbone_id), plan.wishes.framing
        row = row if wished == "auto" else reframed(row, wished)
        try:
            trunk = backbones.load(row, timeout=settings.network_timeout_seconds).to(device)
        except WeightsUnavailableError:
            continue
        precision: Precision = "bf16" if device == "cpu" and has_bf16() else "fp32"
        features = outputs(trunk, store, sample, row.preprocessing, device=device, precision=precision)
        scores[backbone_id] = _score(features, images, sample, plan.seed)
    yield Progress("comparing", len(plan.candidates), len(plan.candidates))
    return max(scores, key=lambda backbone_id: scores[backbone_id])


def _score(features: npt.NDArray[np.float32], images: ImageSet, sample: list[int], seed: int) -> float:
    labels = [images.pictures[i].label for i in sample]
    groups = [images.pictures[i].group for i in sample]
    steps = solve(features, labels, groups, len(images.class_names), seed=seed)
    return next(step.cv_accuracy for step in steps if isinstance(step, SolvedHead))
