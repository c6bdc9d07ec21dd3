"""A backbone's weights as the recipe writes them: fp16 safetensors that say which timm network they are of."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


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
    state = load_file(file)
    module.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in state.items()})
    return network, module.eval()


def write(state: dict[str, Tensor], file: Path, *, network: Network, crops: int) -> None:
    """As fp16, with what they are of and how many crops they were learned from."""
    half = {name: (v.half() if v.is_floating_point() else v).contiguous().cpu() for name, v in state.items()}
    about = {"format": "pt", "architecture": network.architecture, "crops": str(crops)}
    save_file(half, file, metadata=about | {"model_args": json.dumps(network.arguments)})
