"""Builds a backbone with its pretrained weights: from this package, or from torch hub's cache or its network source.

Nothing asks the network first. Weights come from the cache; else, if the host answers within a few seconds, from the
network by torchvision's own loader (which checks the hash in the file's name); else WeightsUnavailableError is raised
and the caller says what it does instead. Pickled files are only read with `weights_only`.
"""

import copy
import pickle
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from tl_core.errors import WeightsUnavailableError
from tl_core.models.availability import is_local
from tl_core.models.catalogue import Backbone

WEIGHTS_DIR = Path(__file__).with_name("weights")
# Every this many seconds without a byte, a download counts as dead.
_DOWNLOAD_STALL_SECONDS = 20
_COUNTER = "num_batches_tracked"


def load(row: Backbone, *, timeout: float) -> nn.Module:
    """The pretrained backbone without a head: (N, 3, H, W) float32 -> (N, row.width), in eval mode on the CPU.

    `timeout` is how many seconds the weights' host may take to answer when they are not cached. Raises
    WeightsUnavailableError.
    """
    state = _embedded_state(row) if row.source == "embedded" else _torchvision_state(row, timeout)
    with torch.device("meta"):  # no random numbers for weights that are replaced at once
        model = timm.create_model(row.architecture, pretrained=False, num_classes=0, **row.model_args)
    model.load_state_dict(_in_timm_order(state, model), strict=True, assign=True)
    return _ready(model)


def with_head(row: Backbone, trunk: nn.Module, weight: Tensor, bias: Tensor) -> nn.Module:
    """The whole classifier: `trunk` under a linear head, (C, width) weights and (C,) bias, giving (N, C) logits."""
    model = copy.deepcopy(trunk).cpu()
    model.reset_classifier(len(bias))  # type: ignore[operator]
    classifier = model.get_submodule(row.classifier)
    classifier.load_state_dict({"weight": weight, "bias": bias}, strict=True)
    return _ready(model)


def untrained(row: Backbone, num_classes: int) -> nn.Module:
    """The architecture of `row` with a head for `num_classes` (0: without), its weights still to be loaded."""
    model: nn.Module = timm.create_model(row.architecture, pretrained=False, num_classes=num_classes, **row.model_args)
    return _ready(model)


def _ready(model: nn.Module) -> nn.Module:
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _embedded_state(row: Backbone) -> dict[str, Tensor]:
    state = load_file(WEIGHTS_DIR / row.weights)
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def _weights(row: Backbone) -> "torchvision.models.Weights":
    return torchvision.models.get_weight(row.weights)


def _torchvision_state(row: Backbone, timeout: float) -> dict[str, Tensor]:
    if not is_local(row) and not _answers(_weights(row).url, timeout):
        raise WeightsUnavailableError(title=row.title)
    try:
        with _socket_timeout(_DOWNLOAD_STALL_SECONDS):
            # Once cached this opens the file only; `check_hash` guards the download.
            state: dict[str, Tensor] = _weights(row).get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:  # cut off, wrong hash, or no weights
        raise WeightsUnavailableError(title=row.title) from error
    return state


def _answers(url: str, timeout: float) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout):
            return True
    except (OSError, urllib.error.URLError, ValueError):
        return False


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _in_timm_order(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """`state` under timm's names. Most of torchvision's networks share them; the others have the same layers in the
    same order (linear layers where timm has 1 x 1 convolutions), so position decides and shape is checked. Counters of
    batches, which older files lack and inference does not use, start anew."""
    wanted = model.state_dict()
    counters = {name: torch.tensor(0) for name in wanted if name.endswith(_COUNTER)}
    names = [name for name in wanted if name not in counters]
    if set(names) <= state.keys():
        return {name: state[name] for name in names} | counters
    renamed = {}
    given = [value for name, value in state.items() if not name.endswith(_COUNTER)]
    for name, value in zip(names, given, strict=False):
        if wanted[name].numel() != value.numel():
            raise RuntimeError(f"weights do not fit at {name}: {tuple(value.shape)} for {tuple(wanted[name].shape)}")
        renamed[name] = value.reshape(wanted[name].shape)
    return renamed | counters
