"""A picture in, answers out, as one network: the whole preprocessing is matrix products, so that every runtime has it.

Scaling a picture is linear in its rows and in its columns. Each of the two is one matrix, whose size depends on the
picture alone where it has to: (size, H) and (size, W). The filter is the antialiased triangle or cubic that Pillow,
torchvision and our predictor use (https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Resample.c); the
products are rounded to whole grey levels after the columns and after the rows, as they are there.
"""

import torch
from torch import Tensor, nn

from tl_core.data.pixels import MAX_ASPECT, Preprocessing
from tl_core.settings import Settings

_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}
_CUBIC = -0.5  # Pillow's, and torchvision's where it antialiases (Keys 1981)


class Framing(nn.Module):
    """(H, W, 3) uint8, any size -> (1, 3, size, size) float32, what `Preprocessing` makes of the same picture.

    Pictures larger than the app keeps them are first brought to that size, as the app does.
    """

    mean: Tensor
    std: Tensor
    fill: Tensor

    def __init__(self, preprocessing: Preprocessing, settings: Settings | None = None) -> None:
        super().__init__()
        kept = settings or Settings()
        self.p, self.short, self.long = preprocessing, kept.stored_short_side, kept.stored_long_side
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1))
        fill = [round(255 * value) for value in preprocessing.mean]
        self.register_buffer("fill", torch.tensor(fill, dtype=torch.float32).view(3, 1, 1))

    def forward(self, picture: Tensor) -> Tensor:
        """See the class."""
        pixels = picture.permute(2, 0, 1).float()
        height, width = _count(pixels[0, :, 0]), _count(pixels[0, 0])
        scale = torch.minimum(self.short / torch.minimum(height, width), self.long / torch.maximum(height, width))
        scale = scale.clamp(max=1.0)
        kept_h, kept_w = (torch.round(side * scale).clamp(min=1) for side in (height, width))
        rows, in_rows = self._side(pixels[0, :, 0], height, kept_h, kept_w)
        columns, in_columns = self._side(pixels[0, 0], width, kept_w, kept_h)
        framed = _whole(_whole(pixels @ columns.T).transpose(1, 2) @ rows.T).transpose(1, 2)
        inside = in_rows[:, None] * in_columns[None, :]
        framed = framed * inside + self.fill * (1 - inside)
        normal: Tensor = (framed[None] / 255 - self.mean) / self.std
        return normal

    def _side(self, line: Tensor, full: Tensor, kept: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """The (size, full) matrix of one side, which is shrunk to `kept` first, and which of its rows are picture
        (size,); `line` is any pixels along it, `other` the other side as kept."""
        p, inner = self.p, round(self.p.size / self.p.crop_pct)
        short, long = torch.minimum(kept, other), torch.maximum(kept, other)
        seen = torch.minimum(kept, MAX_ASPECT * short) if p.framing == "crop" else kept
        first = _half_even((kept - seen) / 2)  # of the strip's far ends that are never seen
        if p.framing == "squash":
            target = torch.full_like(kept, float(inner))
        else:
            against = short if p.framing == "crop" else long
            target = torch.round(seen * inner / against).clamp(min=1)
        offset = _half_even((target - p.size) / 2) if p.framing != "pad" else _border(target, inner, p.size)
        at = torch.arange(p.size, dtype=torch.float64) + offset
        frame = _weights(at, seen / target, first, seen, torch.arange(self.long, dtype=torch.float64), p.interpolation)
        places = torch.arange(self.long, dtype=torch.float64)
        shrink = _weights(places, full / kept, torch.zeros_like(full), full, _positions(line), "bilinear")
        # A row of `shrink` beyond the picture gets no weight from `frame`, whatever it holds.
        return (_fixed_point(frame) @ shrink).float(), ((at >= 0) & (at < target)).float()


def _weights(at: Tensor, step: Tensor, first: Tensor, count: Tensor, places: Tensor, kind: str) -> Tensor:
    """(len(at), len(places)) how much the pixel at each place counts for the output pixel `at`, when `count` pixels
    from `first` on are scaled by 1 / `step`. Rows sum to 1."""
    width = step.clamp(min=1.0)
    centre = (at + 0.5) * step + first
    distance = ((places[None, :] + 0.5 - centre[:, None]) / width).abs()
    inside = (places >= first) & (places < first + count)
    weights = _triangle(distance) if kind == "bilinear" else _cubic(distance)
    # Pillow's window is cut to whole pixels around it; what it cuts has weight 0 for the triangle.
    reach = _SUPPORT[kind] * width
    low = torch.floor(centre - reach + 0.5)[:, None]
    high = torch.floor(centre + reach + 0.5)[:, None]
    weights = weights * inside[None, :] * (places[None, :] >= low) * (places[None, :] < high)
    return weights / weights.sum(1, keepdim=True).clamp(min=1e-12)


def _fixed_point(weights: Tensor) -> Tensor:
    """`weights` as PyTorch scales uint8 pictures by them: 16-bit numbers over the power of two that just lets them fit
    (aten/src/ATen/native/cpu/UpSampleKernel.cpp)."""
    bits = torch.ceil(torch.log2((2**15 - 0.5) / weights.max())) - 1
    one = torch.pow(torch.full_like(bits, 2.0), bits.clamp(max=22))
    return torch.sign(weights) * torch.floor(weights.abs() * one + 0.5) / one


def _triangle(x: Tensor) -> Tensor:
    return (1 - x).clamp(min=0)


def _cubic(x: Tensor) -> Tensor:
    a = _CUBIC
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _positions(line: Tensor) -> Tensor:
    """0, 1, 2 … along `line`, as float64."""
    return torch.cumsum(torch.ones_like(line, dtype=torch.float64), 0) - 1


def _count(line: Tensor) -> Tensor:
    """The length of `line`, as a number the graph computes."""
    return torch.ones_like(line, dtype=torch.float64).sum()


def _whole(pixels: Tensor) -> Tensor:
    return torch.floor(pixels + 0.5).clamp(0, 255)


def _half_even(x: Tensor) -> Tensor:
    """Where torchvision's centre crop begins: halves to the even side, as Python rounds."""
    return torch.round(x)


def _border(target: Tensor, inner: int, size: int) -> Tensor:
    """Where the frame begins in a picture with bars: half of them come first, then the middle is cut out."""
    before = torch.floor((inner - target) / 2)
    return round((inner - size) / 2) - before
