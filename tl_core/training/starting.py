"""Where training starts: from a backbone's published weights, or from a model that was trained before."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from tl_core.bundle import bundle
from tl_core.models import backbone as backbones
from tl_core.models.catalogue import Backbone, find


def starting_point(
    backbone: str, start_from: str, *, timeout: float, image_size: int | None = None
) -> tuple[Backbone, nn.Module]:
    """The row called `backbone` and its network without a head, for pictures of `image_size`.

    With `start_from`, the folder of a bundle, the network has that one's weights and the row its preprocessing. Raises
    WeightsUnavailableError, BundleError, and ValueError for a size that does not fit.
    """
    if not start_from:
        row = find(backbone)
        return row, backbones.load(row, timeout=timeout, image_size=image_size)
    classifier, info = bundle.load(Path(start_from))
    row, trunk = replace(info.backbone, preprocessing=info.preprocessing), classifier.trunk
    if image_size not in (None, info.preprocessing.size) and "img_size" in row.model_args:
        fresh = backbones.blank(row, 0, image_size=image_size)
        fresh.load_state_dict(backbones.resized(trunk.state_dict(), fresh))
        trunk = fresh
    return row, trunk.eval().requires_grad_(False)
