"""The contract: class names, preprocessing, weights and scores travel together, so every user of a model agrees.

A bundle is a folder of the files that `files.py` lists; timm loads it too: `create_model("local-dir:FOLDER")`.
Reading trusts nothing: sizes, names and shapes are checked before a tensor is used, and no file can bring code.
"""

import hashlib
import json
import math
import platform
import shutil
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from tl_core.bundle.card import card
from tl_core.bundle.files import CARD, CONFIG, FILES, MANIFEST, MAX_JSON, MAX_WEIGHTS, WEIGHTS
from tl_core.data.pixels import Preprocessing
from tl_core.errors import DamagedBundleError, NewerFormatError, NotABundleError
from tl_core.evaluation.metrics import Evaluation
from tl_core.models.backbone import untrained
from tl_core.models.catalogue import CATALOGUE, Backbone

FORMAT = 1
_MAX_TENSORS = 5_000
_TIMM_CROP_MODES = {"crop": "center", "squash": "squash", "pad": "border"}
_PACKAGES = ("torch", "torchvision", "timm", "safetensors", "numpy", "pillow")


@dataclass(frozen=True)
class BundleInfo:
    """Everything about a model but its weights. `training` says how it was made, `evaluation` how good it is."""

    backbone: Backbone
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    evaluation: Evaluation
    training: dict[str, Any]
    created: str


def save(folder: Path, model: nn.Module, info: BundleInfo) -> None:
    """Write the bundle into `folder`, complete or not at all: it appears under its name when every file is there."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(state, temporary / WEIGHTS, metadata={"format": "pt"})
    _write_json(temporary / CONFIG, _timm_config(info))
    (temporary / CARD).write_text(
        card(info.class_names, info.evaluation, info.backbone, info.training), encoding="utf-8"
    )
    record = {
        "format": FORMAT,
        "backbone": info.backbone.id,
        "class_names": info.class_names,
        "preprocessing": asdict(info.preprocessing),
        "evaluation": info.evaluation.to_dict(),
        "training": info.training,
        "created": info.created,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "files": {name: _sha256(temporary / name) for name in FILES if name != MANIFEST},
    }
    _write_json(temporary / MANIFEST, record)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)


def load(folder: Path) -> tuple[nn.Module, BundleInfo]:
    """The classifier, (N, 3, H, W) float32 -> (N, C) logits in eval mode, and its description.

    Raises NotABundleError, NewerFormatError or DamagedBundleError before any weight is used.
    """
    name = folder.name
    if not folder.is_dir():
        raise NotABundleError(name=name, reason="there is no such folder")
    record = _read_json(folder / MANIFEST, name)
    if not isinstance(record.get("format"), int):
        raise NotABundleError(name=name, reason=f"{MANIFEST} has no format number")
    if record["format"] > FORMAT:
        raise NewerFormatError(name=name, found=record["format"], known=FORMAT)
    info = _info(record, name)
    for file, digest in record["files"].items():
        path = folder / file
        if file not in FILES or not path.is_file():
            raise DamagedBundleError(name=name, reason=f"{file} is missing")
        if path.stat().st_size > MAX_WEIGHTS or _sha256(path) != digest:
            raise DamagedBundleError(name=name, reason=f"{file} is not the file that was saved")
    model = untrained(info.backbone, len(info.class_names))
    _check_tensors(folder / WEIGHTS, model, name)
    state = load_file(folder / WEIGHTS)
    if not all(bool(torch.isfinite(value).all()) for value in state.values() if value.is_floating_point()):
        raise DamagedBundleError(name=name, reason="some weights are not numbers")
    model.load_state_dict(state, strict=True)
    return model, info


def now() -> str:
    """This moment in UTC as ISO 8601, to the second."""
    return datetime.now(timezone.utc).replace(microsecond=0).isoformat()


def _timm_config(info: BundleInfo) -> dict[str, Any]:
    """timm's config.json: `label_names`, and `num_classes` outside of `model_args` or transformers cannot load it."""
    p, row = info.preprocessing, info.backbone
    return {
        "architecture": row.architecture,
        "num_classes": len(info.class_names),
        "num_features": row.width,
        "label_names": list(info.class_names),
        "model_args": row.model_args,
        "pretrained_cfg": {
            "tag": "transfer_lab",
            "custom_load": False,
            "input_size": [3, p.size, p.size],
            "fixed_input_size": False,
            "interpolation": "bilinear",
            "crop_pct": p.crop_pct,
            "crop_mode": _TIMM_CROP_MODES[p.framing],
            "mean": list(p.mean),
            "std": list(p.std),
            "num_classes": len(info.class_names),
            "classifier": row.classifier,
        },
    }


def _info(record: dict[str, Any], name: str) -> BundleInfo:
    try:
        row = next(row for row in CATALOGUE if row.id == record["backbone"])
        classes = tuple(record["class_names"])
        p = record["preprocessing"]
        numbers = [*p["mean"], *p["std"], p["crop_pct"]]
        if not (2 <= len(classes) <= 10_000 and all(isinstance(label, str) for label in classes)):
            raise ValueError("class names")
        if not (isinstance(p["size"], int) and 32 <= p["size"] <= 1024 and p["framing"] in _TIMM_CROP_MODES):
            raise ValueError("preprocessing")
        if len(numbers) != 7 or not all(math.isfinite(n) and n > 0 for n in numbers) or p["crop_pct"] > 1:
            raise ValueError("preprocessing")
        preprocessing = Preprocessing(p["size"], p["framing"], p["crop_pct"], tuple(p["mean"]), tuple(p["std"]))
        if not isinstance(record["files"], dict) or WEIGHTS not in record["files"]:
            raise ValueError("files")
        evaluation = Evaluation.from_dict(record["evaluation"])
        return BundleInfo(row, classes, preprocessing, evaluation, dict(record["training"]), str(record["created"]))
    except (KeyError, TypeError, ValueError, IndexError, StopIteration) as error:
        raise DamagedBundleError(name=name, reason=f"{MANIFEST} describes no model that is known here") from error


def _check_tensors(file: Path, model: nn.Module, name: str) -> None:
    """Names, shapes and types of the stored tensors against the architecture, from the header alone."""
    wanted = model.state_dict()
    try:
        with safe_open(file, framework="pt") as stored:
            names = list(stored.keys())
            if len(names) > _MAX_TENSORS or set(names) != set(wanted):
                raise DamagedBundleError(name=name, reason="the weights belong to another kind of network")
            for key in names:
                if tuple(stored.get_slice(key).get_shape()) != tuple(wanted[key].shape):
                    raise DamagedBundleError(name=name, reason="the weights have other sizes than described")
    except SafetensorError as error:
        raise DamagedBundleError(name=name, reason=f"{WEIGHTS} cannot be read") from error


def _read_json(path: Path, name: str) -> dict[str, Any]:
    if not path.is_file() or path.stat().st_size > MAX_JSON:
        raise NotABundleError(name=name, reason=f"{path.name} is missing")
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DamagedBundleError(name=name, reason=f"{path.name} is not valid JSON") from error
    if not isinstance(record, dict):
        raise DamagedBundleError(name=name, reason=f"{path.name} is not valid JSON")
    return record


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _write_json(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
