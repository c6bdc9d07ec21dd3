"""Builds the network of a row, with its pretrained weights or without, and knows its way around inside of it.

Every network here has timm's interface, whichever library built it: called, it gives pooled features; it can be asked
for its feature map, for its parameters by depth, and for another classifier.
"""

import copy
from collections.abc import Callable
from typing import Any

import timm
import torch
import torchvision
from timm.layers import resample_abs_pos_embed
from timm.models import group_parameters
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tl_core.models import sources
from tl_core.models.catalogue import Backbone
from tl_core.models.renames import timm_name
from tl_core.models.sources import WEIGHTS_DIR

__all__ = [
    "WEIGHTS_DIR",
    "NoRandomNumbers",
    "blank",
    "feature_map",
    "inception_auxiliary",
    "layer_groups",
    "load",
    "load_with_auxiliary",
    "resized",
    "untrained",
    "with_head",
    "without_head",
]
_COUNTER = "num_batches_tracked"


def load(row: Backbone, *, timeout: float, image_size: int | None = None) -> nn.Module:
    """The pretrained backbone without a head: (N, 3, H, W) float32 -> (N, row.width), in eval mode on the CPU.

    `timeout` is how many seconds the weights' host may take to answer when they are not cached. `image_size` is the
    H = W it is to see, where that is not the row's: positions learned by a transformer are interpolated. Raises
    WeightsUnavailableError, and ValueError for a size that does not fit (`row.fits`).
    """
    arguments = row.arguments(image_size)
    if row.source == "timm":
        file = sources.timm_file(row, timeout)
        with sources.readable(row), NoRandomNumbers():
            # With the classifier the weights came with: without it timm would not insist that all of them fit.
            model: nn.Module = timm.create_model(
                row.weights,
                pretrained=True,
                pretrained_cfg_overlay={"file": str(file), "custom_load": False},
                **arguments,
            )
            model.reset_classifier(0)  # type: ignore[operator]
        return _ready(model)
    state = sources.embedded_state(row) if row.source == "embedded" else sources.torchvision_state(row, timeout)
    with sources.readable(row):
        model = _empty(row, arguments)
        model.load_state_dict(_under_own_names(row, state, model), strict=True, assign=True)
    return _ready(model)


def with_head(row: Backbone, trunk: nn.Module, weight: Tensor, bias: Tensor) -> nn.Module:
    """The whole classifier: `trunk` under a linear head, (C, width) weights and (C,) bias, giving (N, C) logits."""
    model = copy.deepcopy(trunk).cpu()
    model.reset_classifier(len(bias))  # type: ignore[operator]
    classifier = model.get_submodule(row.classifier)
    classifier.load_state_dict({"weight": weight, "bias": bias}, strict=True)
    return _ready(model)


def without_head(row: Backbone, model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The inverse of `with_head`, taking `model` apart: its trunk, (N, 3, H, W) -> (N, width), and its linear head."""
    head = model.get_submodule(row.classifier)
    model.reset_classifier(0)  # type: ignore[operator]
    return model, head


def untrained(row: Backbone, num_classes: int, *, image_size: int | None = None) -> nn.Module:
    """The architecture of `row` with a head for `num_classes` (0: without), its weights random.

    Raises ValueError for an `image_size` that does not fit.
    """
    return _ready(_build(row, num_classes, row.arguments(image_size)))


def blank(row: Backbone, num_classes: int, *, image_size: int | None = None) -> nn.Module:
    """As `untrained`, but what its weights are is left to chance: for those that load all of them at once."""
    with NoRandomNumbers():
        return untrained(row, num_classes, image_size=image_size)


def feature_map(model: nn.Module, x: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, T, C): the features of every place of the picture, row by row, before any pooling.

    T is the number of places, or of patches without the tokens before them. C is `model.num_features`: `row.width` for
    most networks, less for those that widen after pooling (MobileNetV3 and V4, VGG).
    """
    places: Tensor = model.forward_features(x)  # type: ignore[operator]
    if places.ndim == 3:
        return places[:, getattr(model, "num_prefix_tokens", 0) :]
    if getattr(model, "output_fmt", "NCHW") == "NHWC":
        return places.flatten(1, 2)
    return places.flatten(2).transpose(1, 2)


def layer_groups(model: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of a backbone by depth, stage by stage or block by block, the group nearest to the input first.

    Every parameter is in exactly one group. Normalisations go with what they follow; a classifier, where the model has
    one, is in the last group.
    """
    parameters = dict(model.named_parameters())
    if hasattr(model, "group_matcher"):
        found = group_parameters(model, model.group_matcher(coarse=True))  # type: ignore[operator]
        by_depth = [found[i] for i in sorted(found)]
    else:
        tops = [name for top, child in model.named_children() for name in _layers(top, child)]
        by_depth = [[name for name in parameters if name.startswith(top + ".")] for top in tops]
        by_depth.insert(0, [name for name in parameters if "." not in name])
    groups: list[list[nn.Parameter]] = []
    for names in filter(None, by_depth):
        group = [parameters[name] for name in names]
        if groups and all(parameter.ndim < 2 for parameter in group):
            groups[-1] += group
        else:
            groups.append(group)
    return groups


def _layers(name: str, module: nn.Module) -> list[str]:
    inner = [child for child, _ in module.named_children()]
    return [f"{name}.{child}" for child in inner] if isinstance(module, nn.Sequential) else [name]


def inception_auxiliary(row: Backbone, classes: int, *, timeout: float) -> nn.Module:
    """Inception's auxiliary classifier: (N, 768, 17, 17), what its trunk's `Mixed_6e` gives, to (N, classes) logits.

    Its convolutions are pretrained, its last layer is new; made to be trained, so in training mode and with gradients.
    A trunk that sees less than 299 pixels gives it too little. Raises WeightsUnavailableError.
    """
    state = sources.torchvision_state(row, timeout)
    whole = timm.create_model(row.architecture, pretrained=False, num_classes=classes, aux_logits=True)
    auxiliary: nn.Module = whole.AuxLogits
    with sources.readable(row):
        for name, value in auxiliary.state_dict(keep_vars=True).items():
            if not name.startswith("fc.") and not name.endswith(_COUNTER):
                with torch.no_grad():
                    value.copy_(state[f"AuxLogits.{name}"])
    return auxiliary.train().to(memory_format=torch.channels_last)


def load_with_auxiliary(row: Backbone, classes: int, *, timeout: float) -> tuple[nn.Module, nn.Module]:
    """Inception's trunk as `load` gives it, and its auxiliary classifier. Raises WeightsUnavailableError."""
    return load(row, timeout=timeout), inception_auxiliary(row, classes, timeout=timeout)


class NoRandomNumbers(TorchFunctionMode):
    """Leaves weights as they are in memory, where they are replaced at once: drawing them takes seconds."""

    _DRAWING = (Tensor.normal_, Tensor.uniform_, Tensor.erfinv_, nn.init.trunc_normal_)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return args[0] if func in self._DRAWING else func(*args, **(kwargs or {}))


class _TorchvisionNet(nn.Module):
    """A network of torchvision's, layers under the names that they have there, with timm's interface and a linear
    layer called `classifier` at the end."""

    def __init__(self, name: str, classifier: str, width: int, num_classes: int) -> None:
        super().__init__()
        *layers, _theirs = torchvision.models.get_model(name, weights=None).named_children()
        for layer, module in layers:
            self.add_module(layer, module)
        self._layers, self._classifier = [layer for layer, _ in layers], classifier
        self.num_features = self.head_hidden_size = width
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        last = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        self.add_module(self._classifier, last)

    def forward_features(self, x: Tensor) -> Tensor:
        for layer in self._layers:
            x = self.get_submodule(layer)(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.get_submodule(self._classifier)(self.forward_features(x).mean((2, 3)))
        return logits


def _build(row: Backbone, num_classes: int, arguments: dict[str, Any]) -> nn.Module:
    if row.library == "torchvision":
        return _TorchvisionNet(row.architecture, row.classifier, row.width, num_classes)
    model: nn.Module = timm.create_model(row.architecture, pretrained=False, num_classes=num_classes, **arguments)
    return model


def _empty(row: Backbone, arguments: dict[str, Any]) -> nn.Module:
    with torch.device("meta"):
        model = _build(row, 0, arguments)
    if {name for name, _ in model.named_buffers()} <= model.state_dict().keys():
        return model
    with NoRandomNumbers():  # some of its tables are in no file: they must be computed
        return _build(row, 0, arguments)


def _ready(model: nn.Module) -> nn.Module:
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def resized(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """`state` of the same network as `model` for pictures of another size: learned positions are interpolated."""
    positions, wanted = state.get("pos_embed"), model.state_dict().get("pos_embed")
    if positions is None or wanted is None or positions.shape == wanted.shape:
        return state
    grid, before = model.get_submodule("patch_embed").grid_size, model.num_prefix_tokens
    return state | {"pos_embed": resample_abs_pos_embed(positions, grid, num_prefix_tokens=before)}


def _under_own_names(row: Backbone, state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """`state` under the names of `model`. Most of torchvision's networks share timm's or are in the table of renames;
    the others have the same layers in the same order (linear layers where timm has 1 x 1 convolutions), so position
    decides and shape is checked. Counters of batches, which older files lack and inference does not use, start anew."""
    wanted = model.state_dict()
    counters = {name: torch.tensor(0) for name in wanted if name.endswith(_COUNTER)}
    names = [name for name in wanted if name not in counters]
    state = {timm_name(name, row.architecture): value for name, value in state.items()}
    state = resized(state, model)
    if set(names) <= state.keys():
        return {name: state[name] for name in names} | counters
    renamed = {}
    given = [value for name, value in state.items() if not name.endswith(_COUNTER)]
    for name, value in zip(names, given, strict=False):
        if wanted[name].numel() != value.numel():
            raise RuntimeError(f"weights do not fit at {name}: {tuple(value.shape)} for {tuple(wanted[name].shape)}")
        renamed[name] = value.reshape(wanted[name].shape)
    return renamed | counters
