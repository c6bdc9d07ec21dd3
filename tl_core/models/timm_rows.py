"""Rows of the catalogue for any pretrained network that timm knows, made from timm's own table; nothing is downloaded.

Names come from people and from bundles, so only what stands in timm's registry is ever built, and only on the meta
device: no weights, no memory to speak of.
"""

import functools
import re
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tl_core.data.pixels import Framing, Preprocessing
from tl_core.models.catalogue import Backbone

PREFIXES = ("timm/", "timm:")
_NAME = re.compile(r"(?:timm[/:])?([a-z0-9_]{1,100}(?:\.[a-z0-9_]{1,100})?)")
_FRAMINGS: dict[str, Framing] = {"center": "crop", "squash": "squash", "border": "pad"}
_BUNDLED_TYPES = {torch.float32, torch.int64}  # what a bundle may hold


def row(backbone_id: str) -> Backbone | None:
    """The row of `backbone_id`, "timm/<architecture>[.<tag>]" or the same without "timm/".

    None where timm has no weights of that name on the Hugging Face Hub, or where the network is not one that gives a
    square RGB picture's features to one linear layer.
    """
    found = _NAME.fullmatch(backbone_id)
    return None if found is None else _row(found[1])


def names() -> list[str]:
    """Every name of weights that timm knows, with its prefix."""
    return [PREFIXES[0] + name for name in timm.list_pretrained()]


@functools.lru_cache(maxsize=64)
def _row(name: str) -> Backbone | None:
    if not timm.is_model_pretrained(name):
        return None
    cfg = timm.get_pretrained_cfg(name)
    (channels, size, height), smooth = cfg.input_size, cfg.interpolation in ("bilinear", "bicubic")
    one_head = isinstance(cfg.classifier, str) and (channels, size) == (3, height) and 32 <= size <= 1024
    if not (one_head and smooth and cfg.crop_mode in _FRAMINGS and cfg.hf_hub_id):
        return None
    args = {"img_size": size} if cfg.fixed_input_size else {}
    try:
        measured = _measure(cfg.architecture, cfg.classifier, size, args)
    except (TypeError, ValueError, LookupError, AttributeError, AssertionError, RuntimeError):
        return None  # built or called in a way of its own
    if measured is None:
        return None
    full = f"{cfg.architecture}.{cfg.tag}" if cfg.tag else cfg.architecture
    return Backbone(
        id=PREFIXES[0] + full,
        title=full,
        source="timm",
        weights=full,
        weights_licence=cfg.license or "not stated",
        architecture=cfg.architecture,
        classifier=cfg.classifier,
        width=measured.width,
        params_millions=round(measured.parameters / 1e6, 1),
        gflops=max(0.001, round(measured.gflops, 3)),
        download_mb=round(measured.parameters * 4 / 2**20),
        hub_file=f"{cfg.hf_hub_id}/{cfg.hf_hub_filename or 'model.safetensors'}",
        preprocessing=Preprocessing(
            size, _FRAMINGS[cfg.crop_mode], cfg.crop_pct, tuple(cfg.mean), tuple(cfg.std), cfg.interpolation
        ),
        url=f"https://huggingface.co/{cfg.hf_hub_id}",
        size_step=measured.patch if args else 32,
        model_args=args,
    )


@dataclass(frozen=True)
class _Measured:
    width: int
    parameters: int  # of the trunk
    gflops: float
    patch: int  # pixels a side of a plain transformer's patch; 0 for other networks


def _measure(architecture: str, classifier: str, size: int, args: dict[str, Any]) -> _Measured | None:
    """What a trial on the meta device tells; None where features and head are not as everywhere else."""
    with torch.device("meta"):
        model = timm.create_model(architecture, pretrained=False, num_classes=2, **args).eval().requires_grad_(False)
        head = model.get_submodule(classifier)
        model.reset_classifier(0)
        with FlopCounterMode(display=False) as counter:
            features = model(torch.empty(1, 3, size, size))
    if not isinstance(head, nn.Linear) or tuple(features.shape) != (1, head.in_features) or head.bias is None:
        return None
    if not {value.dtype for value in model.state_dict().values()} <= _BUNDLED_TYPES:
        return None
    parameters = sum(value.numel() for value in model.parameters())
    plain = isinstance(model, timm.models.VisionTransformer | timm.models.Eva)
    patch = model.patch_embed.patch_size[0] if plain else 0
    return _Measured(head.in_features, parameters, counter.get_total_flops() / 2e9, patch)
