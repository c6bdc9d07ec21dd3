"""The contract: class names, preprocessing, weights and scores travel together, so every user of a model agrees.

A bundle is a folder of the files that `files.py` lists; timm loads it too: `create_model("local-dir:FOLDER")` gives
the classifier, or where its head is more than one linear layer the backbone.
Reading trusts nothing: sizes, names and shapes are checked before a tensor is used, and no file can bring code.
"""

import hashlib
import json
import math
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tl_core.bundle.card import card
from tl_core.bundle.card_facts import CardFacts
from tl_core.bundle.files import CARD, CONFIG, HEAD, MANIFEST, MAX_JSON, MAX_WEIGHTS, UNKNOWN, WEIGHTS
from tl_core.data.pixels import Preprocessing
from tl_core.errors import (
    DamagedBundleError,
    NewerFormatError,
    NotABundleError,
    UnknownBackboneError,
    refuse_foreign,
)
from tl_core.evaluation.conformal import Likely
from tl_core.evaluation.metrics import Evaluation
from tl_core.evaluation.unknown import QUANTILES, Unknown
from tl_core.models import heads
from tl_core.models.backbone import blank, with_head, without_head
from tl_core.models.catalogue import Backbone, find
from tl_core.models.classifier import Classifier

# 1 knew linear heads only, 2 no unknown score; both checked the card, which people may edit, like a weight
FORMAT = 3
_MAX_TENSORS = 5_000
_MAX_HEADER = 2_000_000  # bytes of a file's list of tensors; the library would read 100 MB
_LONGEST_DATE = 40  # characters
_TIMM_CROP_MODES = {"crop": "center", "squash": "squash", "pad": "border"}
_DTYPES = {torch.float32: "F32", torch.int64: "I64"}
_PACKAGES = ("torch", "torchvision", "timm", "safetensors", "numpy", "pillow")


@dataclass(frozen=True)
class BundleInfo:
    """Everything about a model but its weights. `training` says how it was made, `evaluation` how good it is, `unknown`
    from where on a picture is like nothing it was taught, `likely` which classes are likely (None where that was not
    measured); `crossed` are scores by cross-validation, where every picture examined once."""

    backbone: Backbone
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    evaluation: Evaluation
    training: dict[str, Any]
    created: str
    unknown: Unknown | None = None
    likely: Likely | None = None
    crossed: Evaluation | None = None


def save(folder: Path, trunk: nn.Module, head: nn.Module, info: BundleInfo) -> None:
    """Write `head` over `trunk` as a bundle into `folder`, complete or not at all: it appears under its name when every
    file is there."""
    refuse_foreign(folder, MANIFEST)
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    linear = isinstance(head, nn.Linear)
    model = with_head(info.backbone, trunk, head.weight, head.bias) if isinstance(head, nn.Linear) else trunk
    _write_tensors(temporary / WEIGHTS, model.state_dict())
    if not linear:
        _write_tensors(temporary / HEAD, head.state_dict())
    if info.unknown is not None:
        _write_tensors(temporary / UNKNOWN, {"mean": info.unknown.mean, "basis": info.unknown.basis})
    _write_json(temporary / CONFIG, _timm_config(info, len(info.class_names) if linear else 0))
    described = heads.describe(head)
    versions = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    (temporary / CARD).write_text(card(CardFacts(info, described["kind"], versions)), encoding="utf-8")
    record = {
        "format": FORMAT,
        "backbone": info.backbone.id,
        "head": described,
        "class_names": info.class_names,
        "preprocessing": asdict(info.preprocessing),
        "evaluation": info.evaluation.to_dict(),
        "training": info.training,
        "created": info.created,
        "versions": versions,
        "crossed": None if info.crossed is None else info.crossed.to_dict(),
        "likely": None if info.likely is None else asdict(info.likely),
        "unknown": None if info.unknown is None else _unknown_record(info.unknown),
        "files": {path.name: _sha256(path) for path in sorted(temporary.iterdir()) if path.name != CARD},
    }
    _write_json(temporary / MANIFEST, record)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)


def load(folder: Path) -> tuple[Classifier, BundleInfo]:
    """The classifier, (N, 3, H, W) float32 -> (N, C) logits in eval mode, and its description.

    Raises NotABundleError, NewerFormatError or DamagedBundleError before any weight is used.
    """
    name = folder.name
    if not folder.is_dir():
        raise NotABundleError(name=name, reason="there is no such folder")
    record = _read_json(folder / MANIFEST, name)
    if type(record.get("format")) is not int or record["format"] < 1:
        raise NotABundleError(name=name, reason=f"{MANIFEST} has no format number")
    if record["format"] > FORMAT:
        raise NewerFormatError(name=name, found=record["format"], known=FORMAT)
    info = _info(record, name)
    for file, digest in record["files"].items():
        path = folder / file
        if not path.is_file():
            raise DamagedBundleError(name=name, reason=f"{file} is missing")
        if path.stat().st_size > MAX_WEIGHTS or _sha256(path) != digest:
            raise DamagedBundleError(name=name, reason=f"{file} is not the file that was saved")
    model = _model(folder, record.get("head"), info)
    if record.get("unknown") is not None:
        info = replace(info, unknown=_unknown(folder, record["unknown"], model.feature_width))
    return model, info


def _model(folder: Path, description: Any, info: BundleInfo) -> Classifier:
    """The checked files of the bundle as a network; `description` is that of its head, None in format 1."""
    name, classes, size = folder.name, len(info.class_names), info.preprocessing.size
    plain = {"kind": "linear", "width": info.backbone.width, "classes": classes}
    linear = description in (None, plain)
    _check_config(folder, _timm_config(info, classes if linear else 0))
    if linear:
        model = blank(info.backbone, classes, image_size=size)
        _load_tensors(folder / WEIGHTS, model, name)
        return Classifier(*without_head(info.backbone, model), classes).eval()
    trunk = blank(info.backbone, 0, image_size=size)
    try:
        if description["kind"] == "linear":
            raise ValueError("a linear head is part of the network's own file")
        _load_tensors(folder / WEIGHTS, trunk, name)
        head = heads.build(description)
        _load_tensors(folder / HEAD, head, name)
        heads.check(head)
        classifier = Classifier(trunk, head, classes).eval()
        with torch.inference_mode():
            trial = classifier(torch.zeros(1, 3, size, size))
        if trial.shape != (1, classes) or not bool(torch.isfinite(trial).all()):
            raise ValueError("another number of classes, or none that is a number")
    except (ValueError, RuntimeError) as error:
        raise DamagedBundleError(name=name, reason="its head does not fit") from error
    return classifier


def _load_tensors(file: Path, model: nn.Module, name: str) -> None:
    """The stored tensors into `model`, after a look at what they are."""
    model.load_state_dict(_tensors(file, model.state_dict(), name), strict=True)


def _tensors(file: Path, wanted: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The stored tensors, which are to have the names, sizes and types of those `wanted`, all of them numbers."""
    _check_tensors(file, wanted, name)
    state: dict[str, Tensor] = load_file(file)
    variances = [value for key, value in state.items() if key.endswith("running_var")]
    finite = all(bool(torch.isfinite(value).all()) for value in state.values() if value.is_floating_point())
    if not finite or any(bool((value < 0).any()) for value in variances):
        raise DamagedBundleError(name=name, reason="some weights are not numbers")
    return state


def _unknown_record(unknown: Unknown) -> dict[str, Any]:
    directions, width = unknown.basis.shape
    sizes = {"width": width, "directions": directions}
    quantiles = list(unknown.quantiles)
    return {"threshold": unknown.threshold, "false_alarm": unknown.false_alarm, "quantiles": quantiles, **sizes}


def _unknown(folder: Path, record: Any, width: int) -> Unknown:
    """The measured directions as the manifest describes them, for features of `width`."""
    try:
        threshold, alarm, count = float(record["threshold"]), record["false_alarm"], record["directions"]
        known = alarm is None or 0 <= float(alarm) <= 1
        quantiles = tuple(float(score) for score in record.get("quantiles", ()))
        known = known and len(quantiles) in (0, QUANTILES) and all(map(_is_share, quantiles))
        known = known and list(quantiles) == sorted(quantiles)
        if record["width"] != width or type(count) is not int or not 1 <= count <= width or not 0 <= threshold <= 1:
            raise ValueError
        if not known:
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DamagedBundleError(name=folder.name, reason="its measure of strange pictures does not fit") from error
    state = {"mean": torch.empty(width), "basis": torch.empty(count, width)}
    found = _tensors(folder / UNKNOWN, state, folder.name)
    return Unknown(found["mean"], found["basis"], threshold, None if alarm is None else float(alarm), quantiles)


def _write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    state = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(state, file, metadata={"format": "pt"})


def now() -> str:
    """This moment in UTC as ISO 8601, to the second."""
    return datetime.now(timezone.utc).replace(microsecond=0).isoformat()


def _timm_config(info: BundleInfo, classes: int) -> dict[str, Any]:
    """timm's config.json: `label_names`, and `num_classes` outside of `model_args` or transformers cannot load it."""
    p, row = info.preprocessing, info.backbone
    return {
        "architecture": row.architecture,
        **({} if row.library == "timm" else {"library": row.library}),
        "num_classes": classes,
        "num_features": row.width,
        **({"label_names": list(info.class_names)} if classes else {}),
        "model_args": row.arguments(p.size),
        "pretrained_cfg": {
            "tag": "transfer_lab",
            "custom_load": False,
            "input_size": [3, p.size, p.size],
            "fixed_input_size": False,
            "interpolation": p.interpolation,
            "crop_pct": p.crop_pct,
            "crop_mode": _TIMM_CROP_MODES[p.framing],
            "mean": list(p.mean),
            "std": list(p.std),
            "num_classes": classes,
            "classifier": row.classifier,
        },
    }


def _check_config(folder: Path, ours: dict[str, Any]) -> None:
    """The stored config.json against the one that is made today. timm builds what it says and we publish it, so it may
    say less than ours, as older ones do, but nothing else."""

    def within(found: Any, known: Any) -> bool:
        if not (isinstance(found, dict) and isinstance(known, dict)):
            return type(found) is type(known) and bool(found == known)
        return all(key in known and within(value, known[key]) for key, value in found.items())

    found, known = _read_json(folder / CONFIG, folder.name), json.loads(json.dumps(ours))
    if not {"architecture", "num_classes", "pretrained_cfg"} <= set(found) or not within(found, known):
        raise DamagedBundleError(name=folder.name, reason=f"{CONFIG} describes another model than {MANIFEST}")


def _info(record: dict[str, Any], name: str) -> BundleInfo:
    try:
        row = find(record["backbone"])
        if row.params_millions * 4e6 > MAX_WEIGHTS:
            raise ValueError("backbone")
        names = record["class_names"]
        if not (isinstance(names, list) and 2 <= len(set(names)) == len(names) <= 10_000 and all(map(_is_name, names))):
            raise ValueError("class names")
        preprocessing = _preprocessing(record["preprocessing"], row)
        head = record.get("head", {"kind": "linear"})  # format 1 had no other
        files = {CONFIG, WEIGHTS, *([HEAD] if head["kind"] != "linear" else [])}
        files |= {CARD} if record["format"] < 3 else set()
        files |= {UNKNOWN} if record.get("unknown") is not None else set()
        if set(record["files"]) != files:
            raise ValueError("files")
        evaluation = Evaluation.from_dict(record["evaluation"])
        crossed = None if record.get("crossed") is None else Evaluation.from_dict(record["crossed"])
        training, created = record["training"], record["created"]
        if any(one is not None and one.class_names != tuple(names) for one in (evaluation, crossed)):
            raise ValueError("evaluation")
        likely = None if record.get("likely") is None else Likely.from_dict(record["likely"], len(names))
        if not (isinstance(training, dict) and isinstance(created, str) and len(created) <= _LONGEST_DATE):
            raise ValueError("training")
        return BundleInfo(
            row, tuple(names), preprocessing, evaluation, training, created, likely=likely, crossed=crossed
        )
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, UnknownBackboneError) as error:
        raise DamagedBundleError(name=name, reason=f"{MANIFEST} describes no model that is known here") from error


def _preprocessing(p: Any, row: Backbone) -> Preprocessing:
    """As the manifest has it. Raises ValueError, KeyError or TypeError."""
    if not (type(p["size"]) is int and 32 <= p["size"] <= 1024 and p["framing"] in _TIMM_CROP_MODES):
        raise ValueError("preprocessing")
    interpolation = p.get("interpolation", "bilinear")  # what older bundles do not say
    if not row.fits(p["size"]) or interpolation not in ("bilinear", "bicubic"):
        raise ValueError("preprocessing")
    numbers = [*p["mean"], *p["std"], p["crop_pct"]]
    if (
        len(p["mean"]) != 3
        or len(numbers) != 7
        or not all(type(n) in (int, float) for n in numbers)
        or not all(math.isfinite(n) and 0 <= n <= 10 for n in numbers)
        or not all(numbers[3:6])
        or not 0.5 <= numbers[6] <= 1
    ):
        raise ValueError("preprocessing")
    return Preprocessing(p["size"], p["framing"], p["crop_pct"], tuple(p["mean"]), tuple(p["std"]), interpolation)


def _is_share(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]


def _is_name(name: object) -> bool:
    """Whether `name` can be a class name: some text, not too long, without half a surrogate pair."""
    if not isinstance(name, str) or not 0 < len(name) <= 200:
        return False
    return not any("\ud800" <= c <= "\udfff" for c in name)


def _check_tensors(file: Path, wanted: Mapping[str, Tensor], name: str) -> None:
    """Names, shapes and types of the stored tensors against those `wanted`, from the header alone."""
    with file.open("rb") as opened:
        if int.from_bytes(opened.read(8), "little") > _MAX_HEADER:
            raise DamagedBundleError(name=name, reason=f"{file.name} cannot be read")
    try:
        with safe_open(file, framework="pt") as stored:
            names = list(stored.keys())
            if len(names) > _MAX_TENSORS or set(names) != set(wanted):
                raise DamagedBundleError(name=name, reason="the weights belong to another kind of network")
            for key in names:
                if tuple(stored.get_slice(key).get_shape()) != tuple(wanted[key].shape):
                    raise DamagedBundleError(name=name, reason="the weights have other sizes than described")
                if stored.get_slice(key).get_dtype() != _DTYPES[wanted[key].dtype]:
                    raise DamagedBundleError(name=name, reason="the weights are of another type than described")
    except SafetensorError as error:
        raise DamagedBundleError(name=name, reason=f"{file.name} cannot be read") from error


def _read_json(path: Path, name: str) -> dict[str, Any]:
    if not path.is_file():
        raise NotABundleError(name=name, reason=f"{path.name} is missing")
    if path.stat().st_size > MAX_JSON:
        raise DamagedBundleError(name=name, reason=f"{path.name} is larger than any that is made here")
    try:
        text = path.read_text(encoding="utf-8")
        record = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise DamagedBundleError(name=name, reason=f"{path.name} is not valid JSON") from error
    if not isinstance(record, dict):
        raise DamagedBundleError(name=name, reason=f"{path.name} is not valid JSON")
    return record


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key stands twice")
    return record


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _write_json(path: Path, record: dict[str, Any]) -> None:
    path.write_text(
        json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n", encoding="utf-8"
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
