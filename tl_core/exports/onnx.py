"""A bundle as one ONNX file with the whole preprocessing inside, in float32 or quantised to 8 bits.

Input `picture`: uint8 (height, width, 3), upright RGB of any size. Outputs `probabilities`: float32 (classes,),
calibrated, and `unknown`: float32 (), from where on `unknown_threshold` of the metadata says it is like nothing that
was taught (0 where the bundle has no such measure). The metadata also names the classes.
"""

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tl_core.bundle.bundle import BundleInfo
from tl_core.bundle.predictor import Predictor
from tl_core.data.imageset import RGB
from tl_core.evaluation.unknown import residual
from tl_core.exports.agreement import Answerer
from tl_core.exports.graph import Framing
from tl_core.models.classifier import Classifier
from tl_core.settings import Settings

NEEDS = ("onnx", "onnxscript", "onnxruntime")
OPSET = 18
PLAIN, INT8 = "model.onnx", "model-int8.onnx"
_CALIBRATION = 100  # pictures that tell the quantised file how large its numbers get


class Whole(nn.Module):
    """(H, W, 3) uint8 -> (C,) probabilities and the unknown score: everything between a picture and the answer."""

    mean: Tensor
    basis: Tensor

    def __init__(self, classifier: Classifier, info: BundleInfo) -> None:
        super().__init__()
        self.framing, self.classifier, self.measured = Framing(info.preprocessing), classifier, info.unknown is not None
        if info.unknown is not None:
            self.register_buffer("mean", info.unknown.mean)
            self.register_buffer("basis", info.unknown.basis)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        logits, features = self.classifier.seen(self.framing(picture))
        score = residual(features, self.mean, self.basis)[0] if self.measured else logits.sum() * 0
        return logits[0].softmax(0), score


def write(predictor: Predictor, target: Path) -> Path:
    """Write the predictor's bundle as `target`; what it answers is for `agreement` to judge."""
    import onnx

    whole = Whole(predictor.model, predictor.info).eval()
    sides = {side: torch.export.Dim(name, min=1) for side, name in enumerate(("height", "width"))}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            whole,
            (torch.zeros(300, 400, 3, dtype=torch.uint8),),
            dynamo=True,
            dynamic_shapes={"picture": sides},
            input_names=["picture"],
            output_names=["probabilities", "unknown"],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for key, value in metadata(predictor.info).items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    onnx.save(model, target)
    return target


def metadata(info: BundleInfo) -> dict[str, str]:
    """What an ONNX file says of itself, beside its graph."""
    kept = Settings()
    return {
        "producer": "transfer-lab",
        "classes": json.dumps(list(info.class_names), ensure_ascii=True),
        "unknown_threshold": "" if info.unknown is None else repr(info.unknown.threshold),
        "stored_short_side": str(kept.stored_short_side),
        "stored_long_side": str(kept.stored_long_side),
    }


def quantise(source: Path, target: Path, pictures: Sequence[RGB]) -> Path:
    """Write the float file `source` with 8-bit weights and activations as `target`; the ranges are those seen on
    `pictures`. The preprocessing and the unknown score stay as they are: small
    differences of large numbers would be lost."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True, verbose=0)
    graph = onnx.load(prepared).graph
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        quantization.quantize_static(
            str(prepared),
            str(target),
            _Reader(pictures[:_CALIBRATION]),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm", "MatMul", "Add", "Relu", "GlobalAveragePool"],
            per_channel=True,
            # Seven bits of weights: sums of eight overflow on processors with AVX2 and no VNNI
            # (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html), and nobody knows whose
            # processor the file will meet.
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=[*_framing_nodes(graph), *_unknown_nodes(graph)],
        )
    prepared.unlink()
    return target


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser gives its advice through the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def answerer(file: Path, predictor: Predictor) -> Answerer:
    """Asks ONNX Runtime about a picture at a time."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def ask(picture: RGB) -> tuple[Any, float]:
        probabilities, unknown = session.run(None, {"picture": np.ascontiguousarray(picture)})
        return probabilities, float(unknown)

    return ask


class _Reader:
    """Pictures as ONNX Runtime's calibration wants them."""

    def __init__(self, pictures: Sequence[RGB]) -> None:
        self._pictures: Iterator[RGB] = iter(pictures)

    def get_next(self) -> dict[str, RGB] | None:
        picture = next(self._pictures, None)
        return None if picture is None else {"picture": picture}


def _framing_nodes(graph: Any) -> list[str]:
    """The nodes before the first convolution: the preprocessing."""
    names = []
    for node in graph.node:
        if node.op_type == "Conv":
            break
        names.append(node.name)
    return names


def _unknown_nodes(graph: Any) -> list[str]:
    """The nodes that only the unknown score needs."""
    makers = {output: node for node in graph.node for output in node.output}

    def needed(output: str) -> dict[str, None]:
        found: dict[str, None] = {}
        waiting = [output]
        while waiting:
            node = makers.get(waiting.pop())
            if node is not None and node.name not in found:
                found[node.name] = None
                waiting += node.input
        return found

    answers = needed("probabilities")
    return [name for name in needed("unknown") if name not in answers]
