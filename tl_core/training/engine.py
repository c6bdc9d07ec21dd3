"""The fastest way to run a frozen network on this machine that still gives its features.

On a processor OpenVINO is up to six times faster than PyTorch, most of all in bfloat16 where the chip multiplies that
in hardware (where it does not, bfloat16 is slower than float32, so it is not tried). An engine is taken only after it
has reproduced PyTorch's float32 features on one batch of the user's own pictures; else PyTorch does the work.
"""

import contextlib
import hashlib
import importlib.util
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tl_core.data.pixels import Preprocessing
from tl_core.training.recipe import Precision

EngineName = Literal["openvino-bf16", "openvino-fp32", "torch-bf16", "torch-fp16", "torch-fp32"]
Run = Callable[[Tensor], npt.NDArray[np.float32]]
ENGINES = "engines"  # the folder of converted networks
CHECKED = 16  # pictures every engine is compared on
_CPUINFO = Path("/proc/cpuinfo")
_BF16_FLAGS = ("amx_bf16", "avx512_bf16")
# Of the features of one picture, and of what tells the pictures apart (their mean taken away): bf16 has 8 bits.
_COSINE, _CENTRED_COSINE = 0.999, 0.98
# Below this many operations an unconverted network is not worth converting: that takes two to three seconds, PyTorch
# on two cores about two. Counted and not timed, so that a busy machine chooses as an idle one does.
_WORTH_CONVERTING = 3e11


@dataclass(frozen=True)
class Engine:
    """`run`: (n, 3, size, size) uint8 -> float32 features, from any number of threads at once."""

    name: EngineName
    run: Run


def has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware, by matrix units or by AVX-512: that is twice float32."""
    with contextlib.suppress(OSError):
        text = _CPUINFO.read_text(encoding="ascii", errors="ignore")
        return any(flag in text for flag in _BF16_FLAGS)
    return False


def candidates(device: str) -> list[EngineName]:
    """The engines to try here, fastest first; the last one is PyTorch as it is."""
    if device == "cuda":
        return ["torch-bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "torch-fp16", "torch-fp32"]
    names: list[EngineName] = []
    if device == "cpu" and importlib.util.find_spec("openvino") is not None:
        names.append("openvino-bf16" if has_bf16() else "openvino-fp32")
    if device == "cpu" and has_bf16():
        names.append("torch-bf16")
    return [*names, "torch-fp32"]


def by_pytorch(precision: Precision) -> EngineName:
    """PyTorch in that precision."""
    names: dict[Precision, EngineName] = {"fp32": "torch-fp32", "bf16": "torch-bf16", "fp16": "torch-fp16"}
    return names[precision]


def build(name: EngineName, model: nn.Module, preprocessing: Preprocessing, device: str, cache: Path) -> Engine:
    """The engine called `name` for `model`, (n, 3, size, size) float32 -> features. Raises whatever it cannot do."""
    if name.startswith("openvino"):
        return Engine(name, _openvino(model, preprocessing, cache, "bf16" if name.endswith("bf16") else "f32"))
    dtype = torch.float16 if name.endswith("fp16") else torch.bfloat16

    def run(batch: Tensor) -> npt.NDArray[np.float32]:
        x = preprocessing.normalise(batch.to(device, non_blocking=True))
        with torch.inference_mode(), torch.autocast(device, dtype, enabled=name != "torch-fp32"):
            features: npt.NDArray[np.float32] = model(x).float().cpu().numpy()
        return features

    return Engine(name, run)


def choose(
    model: nn.Module, preprocessing: Preprocessing, sample: Tensor, *, pictures: int, device: str, cache: Path
) -> Engine:
    """The fastest engine that gives `model`'s features on `sample`, (n, 3, size, size) uint8, n up to `CHECKED`, for a
    job of so many `pictures`. Converted networks are kept in the folder `cache`."""
    plain = build("torch-fp32", model, preprocessing, device, cache)
    with FlopCounterMode(display=False) as counter:
        expected = plain.run(sample)
    operations = counter.get_total_flops() / len(sample) * pictures
    for name in candidates(device)[:-1]:
        converted = not name.startswith("openvino") or _file(model, preprocessing, cache).exists()
        if not converted and operations < _WORTH_CONVERTING:
            continue
        try:
            engine = build(name, model, preprocessing, device, cache)
            if reproduces(engine.run(sample), expected):
                return engine
        except (RuntimeError, ImportError, OSError, ValueError, NotImplementedError):
            continue  # an operation this engine does not know: the next one does
    return plain


def reproduces(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> bool:
    """Whether features agree with those of float32, picture by picture."""
    a, b = found.reshape(len(found), -1), expected.reshape(len(expected), -1)
    if a.shape != b.shape or not np.isfinite(a).all():
        return False
    middle = b.mean(axis=0)
    return bool(_cosines(a, b).min() >= _COSINE) and bool(
        len(b) < 4 or np.median(_cosines(a - middle, b - middle)) >= _CENTRED_COSINE
    )


def _cosines(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: npt.NDArray[np.float32] = ((a * b).sum(axis=1) + 1e-12) / (sizes + 1e-12)
    return cosines


def _openvino(model: nn.Module, preprocessing: Preprocessing, cache: Path, precision: str) -> Run:
    import openvino as ov

    file = _file(model, preprocessing, cache)
    if not file.exists():
        _convert(model, preprocessing, file)
    compiled: Any = ov.Core().compile_model(
        file, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": precision}
    )
    mine = threading.local()  # a request serves one thread at a time

    def run(batch: Tensor) -> npt.NDArray[np.float32]:
        if not hasattr(mine, "request"):
            mine.request = compiled.create_infer_request()
        features: npt.NDArray[np.float32] = np.array(mine.request.infer([batch.numpy()])[0], dtype=np.float32)
        return features

    return run


def _convert(model: nn.Module, preprocessing: Preprocessing, file: Path) -> None:
    """Write `model` with its normalisation as OpenVINO's own format, input uint8."""
    import warnings

    import openvino as ov
    from openvino.preprocess import PrePostProcessor

    size = preprocessing.size
    with warnings.catch_warnings():  # the converter traces, which torch 2.14 deprecates
        warnings.simplefilter("ignore")
        network = ov.convert_model(
            model, example_input=torch.zeros(2, 3, size, size), input=[ov.PartialShape([-1, 3, size, size])]
        )
    steps = PrePostProcessor(network)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NCHW"))
    means, deviations = ([255 * value for value in values] for values in (preprocessing.mean, preprocessing.std))
    steps.input().preprocess().convert_element_type(ov.Type.f32).mean(means).scale(deviations)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.stem}.tmp{os.getpid()}.xml")
    ov.save_model(steps.build(), temporary, compress_to_fp16=False)
    ov.Core().read_model(temporary)  # raises for what a full disk cut off, which saving does not say
    temporary.with_suffix(".bin").replace(file.with_suffix(".bin"))
    temporary.replace(file)


def _file(model: nn.Module, preprocessing: Preprocessing, cache: Path) -> Path:
    import openvino as ov

    # What the network is converted with; how pictures are framed for it is not part of it.
    seen = (preprocessing.size, preprocessing.mean, preprocessing.std)
    return cache / f"{fingerprint(model, *seen, ov.__version__)}.xml"


def fingerprint(model: nn.Module, *more: object) -> str:
    """A name for `model` with these weights; a sample of every tensor, since hashing all takes seconds."""
    digest = hashlib.blake2b(repr((type(model).__name__, *more)).encode(), digest_size=8)
    for name, value in model.state_dict().items():
        flat = value.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 64)].float().cpu().numpy()
        digest.update(name.encode() + repr(tuple(value.shape)).encode() + sample.tobytes())
    return digest.hexdigest()
