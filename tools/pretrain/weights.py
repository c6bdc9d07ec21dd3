"""A backbone's weights as the recipe writes them: fp16 safetensors that say which timm architecture they are of."""

from pathlib import Path

import timm
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def read(file: Path) -> tuple[str, nn.Module]:
    """The architecture, and the network without a classifier, (N, 3, H, W) -> (N, width), in eval mode and fp32."""
    with safe_open(file, "pt") as opened:
        architecture = str(opened.metadata()["architecture"])
    network = timm.create_model(architecture, pretrained=False, num_classes=0)
    state = load_file(file)
    network.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in state.items()})
    return architecture, network.eval()


def write(state: dict[str, Tensor], file: Path, *, architecture: str, crops: int) -> None:
    """As fp16, with what they are of and how many crops they were learned from."""
    half = {name: (v.half() if v.is_floating_point() else v).contiguous().cpu() for name, v in state.items()}
    save_file(half, file, metadata={"format": "pt", "architecture": architecture, "crops": str(crops)})
