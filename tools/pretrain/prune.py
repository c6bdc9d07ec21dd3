"""A lighter ResNet of basic blocks, begun from one that is trained: the strongest channels stay.

A channel's strength is how much what comes after it makes of it: the scale its batch norm gives it times the norm of
the weights that read it (magnitude pruning of filters, https://arxiv.org/abs/1608.08710, with the readers' weights for
the filter's own). Blocks that the trained network has not begin as doing nothing.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tools.pretrain.weights import Network


@dataclass
class _Cut:
    """Moves weights from `wide` into `state`, which has the shapes of the lighter network."""

    wide: dict[str, Tensor]
    state: dict[str, Tensor]

    def convolution(self, conv: str, norm: str, came: Tensor, readers: list[str], scales: list[str]) -> Tensor:
        """Copies a convolution that reads the channels `came`, and its norm; gives the channels that stay: those that
        the convolutions `readers` make most of, by the norms `scales`."""
        stay = self._strongest(readers, scales, len(self.state[f"{conv}.weight"]))
        self.copy(conv, norm, came, stay)
        return stay

    def copy(self, conv: str, norm: str, came: Tensor, stay: Tensor) -> None:
        self.state[f"{conv}.weight"] = self.wide[f"{conv}.weight"][stay][:, came]
        for part in ("weight", "bias", "running_mean", "running_var"):
            self.state[f"{norm}.{part}"] = self.wide[f"{norm}.{part}"][stay]

    def _strongest(self, readers: list[str], scales: list[str], count: int) -> Tensor:
        scale = sum(self.wide[f"{norm}.weight"].abs() for norm in scales if f"{norm}.weight" in self.wide)
        read = [self.wide[f"{conv}.weight"] for conv in readers if f"{conv}.weight" in self.wide]
        used = sum(weight.square().sum((0, 2, 3)) for weight in read) if read else torch.ones(())
        return (scale * used**0.5).topk(count).indices.sort().values


def pruned(wide: nn.Module, network: Network, arguments: dict[str, Any]) -> tuple[Network, nn.Module]:
    """`wide`, a `network` with a deep stem, made anew with `arguments` that leave it fewer channels or more blocks."""
    made = replace(network, arguments=network.arguments | arguments)
    lighter = made.create().eval()
    cut = _Cut(dict(wide.state_dict()), dict(lighter.state_dict()))
    first = ["layer1.0.conv1", "layer1.0.downsample.1"]
    kept = torch.arange(3)
    kept = cut.convolution("conv1.0", "conv1.1", kept, ["conv1.3"], ["conv1.1"])
    kept = cut.convolution("conv1.3", "conv1.4", kept, ["conv1.6"], ["conv1.4"])
    kept = cut.convolution("conv1.6", "bn1", kept, first, ["bn1"])
    for stage in (1, 2, 3, 4):
        block, following = f"layer{stage}.0", f"layer{stage + 1}.0"
        middle = cut.convolution(f"{block}.conv1", f"{block}.bn1", kept, [f"{block}.conv2"], [f"{block}.bn1"])
        readers, scales = [f"{following}.conv1", f"{following}.downsample.1"], [f"{block}.bn2", f"{block}.downsample.2"]
        out = cut.convolution(f"{block}.conv2", f"{block}.bn2", middle, readers, scales)
        if f"{block}.downsample.1.weight" in cut.wide:
            cut.copy(f"{block}.downsample.1", f"{block}.downsample.2", kept, out)
        elif f"{block}.downsample.1.weight" in cut.state:  # what went around the block unchanged
            cut.state[f"{block}.downsample.1.weight"] = (out[:, None] == kept[None]).float()[:, :, None, None]
        kept = out
    for name in cut.state:
        if name.endswith(".bn2.weight") and name not in cut.wide:
            cut.state[name] = torch.zeros_like(cut.state[name])
    lighter.load_state_dict(cut.state, strict=True)
    return made, lighter
