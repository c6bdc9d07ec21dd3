"""What can befall a picture: no colour, other colours, blur, few pixels, a turn.

Other strengths and angles than `bench/backbones.py` measures by, so that the measure stays one.
"""

from collections.abc import Callable

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

_FILL = [124.0, 116.0, 104.0]  # where a turned picture leaves nothing: the mean of ImageNet


def _grey(crop: Tensor, _: np.random.Generator) -> Tensor:
    return transforms.rgb_to_grayscale(crop, num_output_channels=3)


def _recoloured(crop: Tensor, rng: np.random.Generator) -> Tensor:
    crop = transforms.adjust_hue(crop, rng.uniform(-0.1, 0.1))
    crop = transforms.adjust_saturation(crop, rng.uniform(0.2, 1.6))
    crop = transforms.adjust_contrast(crop, rng.uniform(0.6, 1.4))
    return transforms.adjust_brightness(crop, rng.uniform(0.6, 1.4))


def _blurred(crop: Tensor, rng: np.random.Generator) -> Tensor:
    return transforms.gaussian_blur(crop, [13, 13], [rng.uniform(0.5, 3.0)] * 2)


def _small(crop: Tensor, rng: np.random.Generator) -> Tensor:
    return transforms.resize(transforms.resize(crop, [int(rng.integers(24, 80))] * 2), list(crop.shape[-2:]))


def _turned(crop: Tensor, rng: np.random.Generator) -> Tensor:
    return transforms.rotate(crop, rng.uniform(-45, 45), transforms.InterpolationMode.BILINEAR, fill=_FILL)


# How often each happens to a crop that is spoiled; several can.
SPOILS: dict[Callable[[Tensor, np.random.Generator], Tensor], float] = {
    _grey: 0.35,
    _recoloured: 0.25,
    _blurred: 0.2,
    _small: 0.2,
    _turned: 0.35,
}


def spoil(crops: Tensor, rng: np.random.Generator, share: float) -> Tensor:
    """(N, 3, H, W) uint8 -> the same, that share of them spoiled."""
    views = crops.clone()
    for view in views:
        if rng.random() < share:
            for change, often in SPOILS.items():
                if rng.random() < often:
                    view.copy_(change(view, rng))
    return views
