"""A backbone's weights as the recipe writes them: safetensors that say which timm network they are of.

    python -m tools.pretrain.weights fp16.safetensors --work /tmp/pretrain --into built_in.safetensors

While they are made they are fp16; this keeps the convolutions in eight bits, if pictures look the same to them.
"""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tl_core.models.sources import SCALE, dequantised

_SMALL = 20_000  # numbers; the first convolutions have fewer, and everything goes through them
_ALIKE = 0.999  # cosine of the features of any picture about the mean of all, before and after


@dataclass(frozen=True)
class Network:
    """A timm architecture and what it is created with."""

    architecture: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def create(self) -> nn.Module:
        """With random weights and without a classifier: (N, 3, H, W) -> (N, width)."""
        created: nn.Module = timm.create_model(self.architecture, pretrained=False, num_classes=0, **self.arguments)
        return created


def read(file: Path) -> tuple[Network, nn.Module]:
    """What the file holds, the module in eval mode and fp32."""
    with safe_open(file, "pt") as opened:
        about = opened.metadata()
    network = Network(about["architecture"], json.loads(about.get("model_args", "{}")))
    module = network.create()
    module.load_state_dict(dequantised(load_file(file)))
    return network, module.eval()


def write(state: dict[str, Tensor], file: Path, *, network: Network, crops: int) -> None:
    """As fp16, with what they are of and how many crops they were learned from."""
    half = {name: (v.half() if v.is_floating_point() else v).contiguous().cpu() for name, v in state.items()}
    about = {"format": "pt", "architecture": network.architecture, "crops": str(crops)}
    save_file(half, file, metadata=about | {"model_args": json.dumps(network.arguments)})


def eight_bits(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convolutions as int8 with a scale an output channel, that of the least squared error; the rest as it is."""
    kept = {}
    for name, value in state.items():
        if value.ndim < 4 or value.numel() < _SMALL:
            kept[name] = value
            continue
        rows = value.float().flatten(1)
        largest = rows.abs().amax(1).clamp_min(1e-8) / 127
        tried = torch.stack([largest * share for share in torch.linspace(0.7, 1.0, 31)])
        rounded = (rows / tried[:, :, None]).round().clamp(-127, 127)
        errors = (rounded * tried[:, :, None] - rows).square().sum(2)
        best, channels = errors.argmin(0), torch.arange(len(rows))
        kept[name] = rounded[best, channels].to(torch.int8).view(value.shape).contiguous()
        kept[f"{name}{SCALE}"] = tried[best, channels]
    return kept


@torch.inference_mode()
def alike(one: nn.Module, other: nn.Module, pictures: Tensor) -> Tensor:
    """(N,) cosines of what both see in (N, 3, H, W), about the mean of what `one` sees."""
    seen = one(pictures)
    return F.cosine_similarity(seen - seen.mean(0), other(pictures) - seen.mean(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="the packed pictures; 512 crops of them are looked at")
    args = parser.parse_args()
    from tools.pretrain.remembered import Versions
    from tools.pretrain.teachers import normalised

    with safe_open(args.file, "pt") as opened:
        about = opened.metadata()
    save_file(eight_bits(load_file(args.file)), args.into, metadata=about)
    crops = Versions(args.work, seed=1, collages=0.0)
    numbers = torch.linspace(0, len(crops.index) - 1, 512).long().numpy()
    found = alike(read(args.file)[1], read(args.into)[1], normalised(crops.make(numbers, 128)[0]))
    print(f"{args.into.stat().st_size / 1e6:.2f} MB; cosine median {found.median():.5f}, worst {found.min():.5f}")
    if found.min() < _ALIKE:
        args.into.unlink()
        raise SystemExit(f"A picture looks different: {_ALIKE} is asked.")


if __name__ == "__main__":
    main()
