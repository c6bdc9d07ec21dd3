"""Where a picture speaks for a class: one number a place of the network's last feature map, for any network and head.

Two ways. By gradient: what a place's features add to the class's score, to first order (features times gradient,
summed over channels, positive part). With a linear head over average pooling that is CAM (Zhou et al. 2016, arXiv
1512.04150), which Grad-CAM equals there (Selvaraju et al. 2017, arXiv 1610.02391); elsewhere places keep gradients of
their own (HiResCAM, Draelos and Carin 2020, arXiv 2011.08891), and attention is taken as it is, for where it is sure
it has no gradient (Ali et al. 2022, arXiv 2202.07304). By occlusion, where a head has no gradient: how much the class
loses when a square is covered (Zeiler and Fergus 2014, arXiv 1311.2901).
"""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tl_core.models.classifier import Classifier
from tl_core.models.heads import Recurrent
from tl_core.models.trees import Trees

_SQUARES = 7  # covered a side, one after the other
_BATCH = 7
_ALIKE = 1e-4  # gradients that differ by no more, as a share, differ by rounding


def heatmap(model: Classifier, x: Tensor, label: int) -> Tensor:
    """Where (1, 3, H, W), normalised, speaks for class `label`: (h, w) float32 on the CPU from 0 to 1.

    h x w are the places of the last feature map, or the squares that were covered. The most is 1; all are 0 where
    nothing speaks for the class. Leaves `model` as it is, so that other threads may ask it meanwhile.
    """
    with torch.inference_mode(False):
        x = x.detach().clone()
        heat = None
        if not any(isinstance(module, Trees) for module in model.head.modules()):
            with torch.enable_grad():
                heat = _by_gradient(model, x, label)
        if heat is None:
            with torch.no_grad():
                heat = _by_occlusion(model, x, label)
        heat = heat.detach().float().cpu().nan_to_num(0.0, 0.0, 0.0).relu()
        most = heat.max()
        return heat / most if bool(most > 0) else heat


def _by_gradient(model: Classifier, x: Tensor, label: int) -> Tensor | None:
    """(h, w); None where no gradient reaches features that have places."""
    watched = _Watched(model)
    with _AttentionAsItIs():
        logits = watched.model(x)
    if isinstance(model.head, nn.Linear) and not watched.tokens:
        score = logits[0, label] - logits[0].mean()  # what is added to all classes alike says nothing of one
    else:
        score = _log_odds(logits, label)[0]
    for features in watched.features():
        gradient = torch.autograd.grad(score, features, retain_graph=True, allow_unused=True)[0]
        heat = None if gradient is None else _on_grid(model.trunk, features.detach(), gradient)
        if heat is not None and bool((heat != 0).any()):
            return heat
    return None


def _by_occlusion(model: Classifier, x: Tensor, label: int) -> Tensor:
    """(7, 7): what the class's log odds lose when a square is covered by the mean colour of the picture.

    The squares have soft edges: hard ones are things to see themselves. (Of a forest's heat for a shape, 0.53 was then
    in its quarter, else 0.48; with grey ones 0.33.)
    """
    rows, columns = (_soft_bars(side).to(x.device) for side in x.shape[2:])
    covers = (rows[:, None, :, None] * columns[None, :, None, :]).flatten(0, 1)[:, None]  # (49, 1, H, W)
    colour = x.mean((2, 3), keepdim=True)
    odds = [
        _log_odds(model(torch.lerp(x, colour, part).contiguous(memory_format=torch.channels_last)), label)
        for part in torch.split(covers, _BATCH)
    ]
    return (_log_odds(model(x), label) - torch.cat(odds)).view(_SQUARES, _SQUARES)


def _soft_bars(side: int) -> Tensor:
    """(7, side): a bar for each seventh of so many pixels, 1 over it and falling to 0 over the next on either side."""
    at = (torch.arange(side) + 0.5) / side * _SQUARES
    middles = torch.arange(_SQUARES)[:, None] + 0.5
    return (1.5 - (at - middles).abs()).clamp(0, 1)


def _log_odds(logits: Tensor, label: int) -> Tensor:
    """(N, C) -> (N,): the logit of `label` over those of all others. It falls with the class's probability, and unlike
    that is never too near to 1 to tell a difference."""
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
    return logits[:, label] - others.logsumexp(1)


def _on_grid(trunk: nn.Module, features: Tensor, gradient: Tensor) -> Tensor | None:
    """What each place adds, (h, w), of features and gradient (1, C, h, w), (1, h, w, C) or (1, T, C); None for a single
    place, or tokens that are no square.

    Where places have gradients of their own, what all have in common says nothing of any: it is taken off the features
    first. (Of the heat of GRUs and LSTMs for a shape, 0.84 and 0.87 was then in its quarter, else 0.52 and 0.65.)
    """
    if features.ndim == 4:
        channels_last = getattr(trunk, "output_fmt", "NCHW") == "NHWC"
        f, g = (value[0] if channels_last else value[0].permute(1, 2, 0) for value in (features, gradient))
    else:
        before = _tokens_before(trunk, features.shape[1])
        if before is None:
            return None
        side = math.isqrt(features.shape[1] - before)
        f, g = (value[0, before:].reshape(side, side, -1) for value in (features, gradient))
    if f.shape[0] * f.shape[1] < 2:
        return None
    if float((g - g[0, 0]).abs().max()) > _ALIKE * float(g.abs().max()):
        f = f - f.mean((0, 1))
    return (f * g).sum(-1)


def _tokens_before(trunk: nn.Module, tokens: int) -> int | None:
    """How many of a transformer's tokens stand before those of a square of places; some put them in late."""
    for before in (getattr(trunk, "num_prefix_tokens", 0), 0):
        if tokens > before and math.isqrt(tokens - before) ** 2 == tokens - before:
            return before
    return None


class _AttentionAsItIs(TorchFunctionMode):
    """In this thread no gradient goes through what attention attends to, only through what it carries."""

    _WEIGHING = (Tensor.softmax, torch.softmax, F.softmax)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention and len(args) > 2:
            query, key, *rest = args
            args = (query.detach(), key.detach(), *rest)
        out = func(*args, **(kwargs or {}))
        return out.detach() if func in self._WEIGHING else out


class _Watched:
    """A twin of a classifier that shares its weights and keeps features for which a gradient can be asked.

    Modules on the way to what is watched are shallow copies, so nothing is ever hung on those that others use.
    """

    def __init__(self, model: Classifier) -> None:
        self._places: list[Tensor] = []
        self._inside: list[Tensor] = []
        if any(value.is_inference() for value in _tensors(model)):
            # Weights loaded in inference mode take part in no gradient; their copies do.
            model = Classifier(copy.deepcopy(model.trunk), copy.deepcopy(model.head), model.classes)
        self.model = _twin(model)
        self.model.trunk = trunk = _twin(model.trunk)
        if isinstance(model.head, Recurrent):  # without dropout it answers the same, and CUDA has gradients only so
            self.model.head = copy.deepcopy(model.head).train()
        blocks: Any = getattr(trunk, "blocks", None)
        in_a_row = isinstance(blocks, nn.Sequential | nn.ModuleList) and len(blocks) > 0
        self.tokens = in_a_row and hasattr(blocks[-1], "norm1")
        if self.tokens:
            self._watch_last(trunk)
        see: Any = trunk.forward_features

        def forward_features(x: Tensor, **options: Any) -> Any:
            with torch.set_grad_enabled(self.tokens):
                places = see(x, **options)
            if not isinstance(places, Tensor) or places.ndim not in (3, 4):
                return places
            self._places = [places if places.requires_grad else places.detach().requires_grad_()]
            return self._places[0].clone()  # what follows may work in place

        trunk.forward_features = forward_features

    def features(self) -> Iterator[Tensor]:
        """What the last call went through, the last first: the map, or of a transformer also what its last block's
        attention reads, for a pooled token hears of the places through that alone. Of the block's own input the
        gradient says nothing: a norm does not change with the length of what it gets."""
        yield from self._places
        yield from reversed(self._inside)

    def _watch_last(self, trunk: nn.Module) -> None:
        trunk.blocks = blocks = _twin(trunk.blocks)
        last = str(len(blocks) - 1)
        block = _twin(blocks.get_submodule(last))
        blocks.add_module(last, block)
        block.norm1 = norm = _twin(block.get_submodule("norm1"))

        def begin(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            start = inputs[0].detach().requires_grad_()
            self._inside = [start]
            return (start, *inputs[1:])

        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self._inside.append(output)

        block.register_forward_pre_hook(begin)
        norm.register_forward_hook(keep)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _twin(module: Any) -> Any:
    """The same weights in a module whose children and hooks can be changed without changing those of `module`."""
    twin = copy.copy(module)
    for name in ("_modules", "_forward_hooks", "_forward_pre_hooks"):
        setattr(twin, name, copy.copy(getattr(module, name)))
    return twin
