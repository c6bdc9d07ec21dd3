"""A bundle for LiteRT (TensorFlow Lite), by Google's converter for PyTorch: https://github.com/google-ai-edge/litert-torch."""

import contextlib
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tl_core.bundle.predictor import Predictor
from tl_core.data.imageset import RGB
from tl_core.exports.agreement import Answerer
from tl_core.exports.framed import Framed, as_input, how_to

NEEDS = ("litert_torch", "ai_edge_litert")
MODEL, LABELS, NOTE = "my-classifier.tflite", "labels.txt", "README.txt"


def write(predictor: Predictor, folder: Path) -> Path:
    """Write the model, its labels and how to frame pictures into `folder`; gives the model's file."""
    import litert_torch
    import torch

    example = as_input(predictor, np.zeros((320, 320, 3), dtype=np.uint8))
    model = Framed(predictor).eval().to(memory_format=torch.contiguous_format)
    with contextlib.redirect_stdout(io.StringIO()):  # stdout is for events
        litert_torch.convert(model, (example,)).export(str(folder / MODEL))
    names = [" ".join(name.split()) for name in predictor.info.class_names]
    (folder / LABELS).write_text("\n".join(names) + "\n", encoding="utf-8")
    (folder / NOTE).write_text(how_to(predictor), encoding="utf-8")
    return folder / MODEL


def answerer(file: Path, predictor: Predictor) -> Answerer:
    """Asks LiteRT's interpreter about a picture at a time."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file))
    interpreter.allocate_tensors()
    given, answers = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()
    by_size = sorted(answers, key=lambda detail: int(np.prod(detail["shape"])))  # the score is one number

    def ask(picture: RGB) -> tuple[npt.NDArray[np.float32], float]:
        interpreter.set_tensor(given, as_input(predictor, picture).numpy())
        interpreter.invoke()
        score, probabilities = (interpreter.get_tensor(detail["index"]) for detail in by_size)
        return probabilities, float(score[0])

    return ask
