"""What turns features into classes: each head is a module, a JSON description of its sizes, and tensors by name.

`describe` and `build` are each other's inverse, so a head travels as bundle.json and safetensors, never as code.
`build` and `check` are given what strangers wrote: every size is checked before memory is taken, every index before
it is followed. Logits are calibrated: a temperature (Guo et al. 2017, arXiv 1706.04599) is folded into each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tl_core.models.trees import Kind, Trees, TreeSizes

KINDS = ("linear", "mlp", "gru", "lstm", "forest", "boosting", "ensemble")

Needs = Literal["pooled", "map"]
RecurrentKind = Literal["gru", "lstm"]

_MAX_SIZE = 65_536  # of any width, hidden size or number of classes
_MAX_TREES = 10_000
_MAX_NODES = 5_000_000
_MAX_STEPS = 2_000_000  # trees times depth, or times columns: lookups and numbers for one picture
_MAX_NUMBERS = 2**26  # in all tensors of a head: 256 MB in float32
_MAX_MEMBERS = 8
_MEMBER_KINDS = ("linear", "mlp", "forest", "boosting")
_KEYS = {
    "linear": ("width", "classes"),
    "mlp": ("width", "hidden", "classes"),
    "gru": ("channels", "reduced", "hidden", "classes"),
    "lstm": ("channels", "reduced", "hidden", "classes"),
    "forest": ("width", "classes", "trees", "nodes", "leaves", "columns", "depth"),
    "boosting": ("width", "classes", "trees", "nodes", "leaves", "columns", "depth"),
    "ensemble": ("members",),
}


class Standard(nn.Module):
    """Features (..., width) to zero mean and unit deviation, by buffers measured once on the training pictures."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation


class MLP(nn.Module):
    """(N, width) -> (N, classes): standardised, one hidden layer, GELU. No dropout: runs must repeat exactly."""

    needs: Needs = "pooled"

    def __init__(self, width: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.standard = Standard(width)
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.outer(F.gelu(self.inner(self.standard(x))))
        return logits


class Recurrent(nn.Module):
    """(N, T, channels), a feature map read place by place, row by row -> (N, classes).

    Standardised channels, a linear layer to `reduced` of them, one layer of GRU or LSTM in both directions; mean and
    maximum of its states over the places go to the last layer. T may vary.
    """

    needs: Needs = "map"

    def __init__(self, kind: RecurrentKind, channels: int, hidden: int, classes: int, *, reduced: int = 128) -> None:
        super().__init__()
        self.kind = kind
        self.standard = Standard(channels)
        self.reduce = nn.Linear(channels, reduced)
        cell = nn.GRU if kind == "gru" else nn.LSTM
        self.cell = cell(reduced, hidden, batch_first=True, bidirectional=True)
        self.outer = nn.Linear(4 * hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        states = self.cell(self.reduce(self.standard(x)))[0]  # (N, T, 2 hidden)
        logits: Tensor = self.outer(torch.cat([states.mean(1), states.amax(1)], dim=1))
        return logits


class Ensemble(nn.Module):
    """(N, width) -> (N, classes): the logarithm of the mean of the members' probabilities, over the temperature."""

    needs: Needs = "pooled"
    temperature: Tensor

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        logs = torch.stack([member(x).log_softmax(1) for member in self.members])
        # The logarithm of the number of members would shift all logits alike; they are logits without it.
        return logs.logsumexp(0) / self.temperature


def needs(head: nn.Module) -> Needs:
    """What `head` reads: "pooled" (N, width), or the "map" as a sequence (N, T, channels)."""
    found: Needs = getattr(head, "needs", "pooled")  # a plain nn.Linear says nothing
    return found


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear head of (classes, width) weights and (classes,) bias, such as `solve` finds, in eval mode."""
    head = nn.Linear(weight.shape[1], weight.shape[0], device="meta").to_empty(device="cpu")
    head.load_state_dict({"weight": weight, "bias": bias}, strict=True)
    return head.requires_grad_(False).eval()


def cool(head: nn.Module, temperature: float) -> None:
    """Divide the logits of `head` by `temperature` from now on."""
    with torch.no_grad():
        if isinstance(head, (Trees, Ensemble)):
            head.temperature.mul_(temperature)
        else:
            last = head if isinstance(head, nn.Linear) else head.outer
            assert isinstance(last, nn.Linear)
            last.weight.div_(temperature)
            last.bias.div_(temperature)


def describe(head: nn.Module) -> dict[str, Any]:
    """The sizes of `head` as JSON, for `build`."""
    if isinstance(head, nn.Linear):
        return {"kind": "linear", "width": head.in_features, "classes": head.out_features}
    if isinstance(head, MLP):
        sizes = {"width": head.inner.in_features, "hidden": head.inner.out_features}
        return {"kind": "mlp", **sizes, "classes": head.outer.out_features}
    if isinstance(head, Recurrent):
        sizes = {"channels": head.reduce.in_features, "reduced": head.reduce.out_features}
        return {"kind": head.kind, **sizes, "hidden": head.cell.hidden_size, "classes": head.outer.out_features}
    if isinstance(head, Trees):
        return {"kind": head.kind, "width": head.width, "classes": head.classes, **asdict(head.sizes)}
    if isinstance(head, Ensemble):
        return {"kind": "ensemble", "members": [describe(member) for member in head.members]}
    raise TypeError(f"{type(head).__name__} is no head")


def build(description: object) -> nn.Module:
    """The head that `describe` described, in eval mode, all numbers zero: give it its tensors by `load_state_dict`
    (strict), then `check` it. Raises ValueError for anything but a description of a head of sensible size."""
    with torch.device("meta"):  # no memory and no random numbers before the sum of all sizes is known
        head = _sketch(description, inside=False)
    tensors = [*head.parameters(), *head.buffers()]
    if sum(tensor.numel() for tensor in tensors) > _MAX_NUMBERS:
        raise ValueError("a head larger than any that is made here")
    head = head.to_empty(device="cpu").requires_grad_(False).eval()
    for tensor in [*head.parameters(), *head.buffers()]:
        tensor.zero_()
    return head


def check(head: nn.Module) -> None:
    """Raises ValueError when loaded tensors are unusable: numbers that are none, a division by zero, an index that
    points outside. Whatever passes gives (N, classes) logits in bounded time."""
    for name, tensor in head.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} is not finite")
        if name.split(".")[-1] in ("temperature", "deviation") and not bool((tensor > 0).all()):
            raise ValueError(f"{name} is not positive")
    for module in head.modules():
        if isinstance(module, Trees):
            module.check()


def _sketch(description: object, *, inside: bool) -> nn.Module:
    """The head of a description; `inside` an ensemble."""
    if not isinstance(description, Mapping):
        raise ValueError("a head is described by an object")
    kind = description.get("kind")
    if not isinstance(kind, str) or kind not in (_MEMBER_KINDS if inside else KINDS):
        raise ValueError("no kind of head that is known here")
    if set(description) != {"kind", *_KEYS[kind]}:
        raise ValueError(f"a head of kind {kind} is described by {', '.join(_KEYS[kind])}")
    if kind == "ensemble":
        return _ensemble(description["members"])
    sizes = {key: _size(description[key], key) for key in _KEYS[kind]}
    if kind in get_args(Kind):
        return _trees("forest" if kind == "forest" else "boosting", sizes)
    if kind == "linear":
        return nn.Linear(sizes["width"], sizes["classes"])
    if kind == "mlp":
        return MLP(**sizes)
    return Recurrent("gru" if kind == "gru" else "lstm", **sizes)


def _ensemble(members: object) -> Ensemble:
    if not isinstance(members, list) or not 1 <= len(members) <= _MAX_MEMBERS:
        raise ValueError("an ensemble is a list of a few heads")
    built = [_sketch(member, inside=True) for member in members]
    if len({(member["width"], member["classes"]) for member in members}) != 1:
        raise ValueError("the heads of an ensemble differ in width or classes")
    return Ensemble(built)


def _trees(kind: Kind, sizes: dict[str, int]) -> Trees:
    width, classes = sizes.pop("width"), sizes.pop("classes")
    found = TreeSizes(**sizes)
    if found.trees * max(found.columns, found.depth) > _MAX_STEPS:
        raise ValueError("longer walks or wider leaves than any that are made here")
    if found.columns not in (1, classes) or found.trees * found.columns % classes:
        raise ValueError("leaves that do not fit the classes")
    # A node is in one tree, every leaf row is used by some leaf.
    if not found.trees <= found.nodes or found.leaves > found.nodes:
        raise ValueError("more trees or leaves than nodes")
    return Trees(kind, width, classes, found)


def _size(value: object, key: str) -> int:
    low = {"classes": 2, "depth": 0}.get(key, 1)
    high = {"trees": _MAX_TREES, "nodes": _MAX_NODES, "leaves": _MAX_NODES}.get(key, _MAX_SIZE)
    if type(value) is not int or not low <= value <= high:  # a bool is an int to isinstance
        raise ValueError(f"{key} is no number from {low} to {high}")
    return value
