"""The decoded pictures of a set, memory-mapped, and the one preprocessing that training and prediction share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from tl_core.data.imageset import PIXELS, RGB, ImageSet

if TYPE_CHECKING:  # the page reads pixels without ever importing torch
    from torch import Tensor

Framing = Literal["crop", "squash", "pad"]
Interpolation = Literal["bilinear", "bicubic"]
MAX_ASPECT = 8


@dataclass(frozen=True)
class Preprocessing:
    """How a picture of any shape becomes a network's input: sizes in pixels, mean and std per channel in [0, 1].

    "crop" scales the short side to `size / crop_pct` and takes the middle, "squash" ignores the aspect ratio, "pad"
    adds grey bars. Always with antialiasing; the same as timm's "center", "squash" and "border" crop modes.
    """

    size: int
    framing: Framing
    crop_pct: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bilinear"

    def frame(self, picture: RGB) -> "Tensor":
        """(H, W, 3) uint8 -> (3, size, size) uint8."""
        import torch
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2 import functional as transforms

        image = torch.from_numpy(picture).permute(2, 0, 1)
        inner = round(self.size / self.crop_pct)
        if self.framing == "crop":  # a strip's far ends are never seen: do not enlarge them first
            bound = MAX_ASPECT * min(image.shape[1:])
            image = transforms.center_crop(image, [min(side, bound) for side in image.shape[1:]])
        height, width = image.shape[1:]
        if self.framing == "squash":
            target = [inner, inner]
        else:
            side = min(height, width) if self.framing == "crop" else max(height, width)
            target = [max(1, round(height * inner / side)), max(1, round(width * inner / side))]
        image = transforms.resize(image, target, InterpolationMode(self.interpolation), antialias=True)
        if self.framing == "pad":
            fill = [round(255 * value) for value in self.mean]
            below, right = inner - target[0], inner - target[1]
            borders = [right // 2, below // 2, right - right // 2, below - below // 2]
            image = transforms.pad(image, borders, fill=fill)
        framed: Tensor = transforms.center_crop(image, [self.size, self.size])
        return framed

    def normalise(self, batch: "Tensor") -> "Tensor":
        """(N, 3, size, size) uint8 -> the same as float32 with zero mean and unit deviation, channels last."""
        import torch

        mean = torch.tensor(self.mean, device=batch.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=batch.device).view(1, 3, 1, 1)
        scaled = batch.float().div_(255).sub_(mean).div_(std)
        return scaled.contiguous(memory_format=torch.channels_last)


class PixelStore:
    """Read access to the pixels of an `ImageSet`, one picture at a time, without loading the others."""

    def __init__(self, images: ImageSet) -> None:
        self._pictures = images.pictures
        self._pixels = np.memmap(images.folder / PIXELS, dtype=np.uint8, mode="r")

    def __getitem__(self, index: int) -> RGB:
        """(H, W, 3) uint8 RGB, a copy."""
        picture = self._pictures[index]
        size = picture.height * picture.width * 3
        flat = self._pixels[picture.offset : picture.offset + size]
        return np.array(flat).reshape(picture.height, picture.width, 3)

    def framed(self, indices: Sequence[int], preprocessing: Preprocessing) -> "Tensor":
        """(N, 3, size, size) uint8, framed for a network."""
        import torch

        return torch.stack([preprocessing.frame(self[i]) for i in indices])
