"""A ResNet with a narrower stem, begun from one that is trained: the strongest channels stay, the rest is to be learned.

A deep stem works on 64 x 64 places of a picture of 128 x 128 pixels, before anything is pooled: of `resnet10t`'s time
it takes a third, for a fiftieth of the weights.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from tools.pretrain.weights import Network

# What is new in it, or comes after what is new.
FRESH = ("conv1.", "bn1.", "layer1.0.conv1.", "layer1.0.downsample.")


def narrowed(wide: nn.Module, network: Network, stem_width: int) -> tuple[Network, nn.Module]:
    """`wide`, which is a `network`, with a stem of `stem_width`. What comes narrower into the first block also goes
    around it by a linear layer, which passes the channels that stayed."""
    made = replace(network, arguments=network.arguments | {"stem_width": stem_width})
    narrow = made.create().eval()
    state, shapes = dict(wide.state_dict()), {name: value.shape for name, value in narrow.state_dict().items()}
    kept: Tensor | None = None  # of the channels that come in
    for conv, norm, then in (
        ("conv1.0", "conv1.1", "conv1.3"),
        ("conv1.3", "conv1.4", "conv1.6"),
        ("conv1.6", "bn1", "layer1.0.conv1"),
    ):
        weight = state[f"{conv}.weight"]
        weight = weight if kept is None else weight[:, kept]
        strength = state[f"{norm}.weight"].abs() * state[f"{then}.weight"].square().sum((0, 2, 3)).sqrt()
        kept = strength.topk(shapes[f"{conv}.weight"][0]).indices.sort().values
        state[f"{conv}.weight"] = weight[kept]
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{norm}.{part}"] = state[f"{norm}.{part}"][kept]
    assert kept is not None
    state["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"][:, kept]
    around = torch.zeros(shapes["layer1.0.downsample.1.weight"])
    around[kept, torch.arange(len(kept))] = 1.0
    fresh = {name: value for name, value in narrow.state_dict().items() if name.startswith("layer1.0.downsample.")}
    narrow.load_state_dict({**fresh, **state, "layer1.0.downsample.1.weight": around}, strict=True)
    return made, narrow
