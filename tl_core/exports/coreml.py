"""A bundle for Apple's Core ML, by Apple's converter: https://apple.github.io/coremltools. A Mac alone can run, and so
check, what it makes."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tl_core.bundle.predictor import Predictor
from tl_core.data.imageset import RGB
from tl_core.exports.agreement import Answerer
from tl_core.exports.framed import Framed, as_input, how_to

NEEDS = ("coremltools",)
MODEL, NOTE = "my-classifier.mlpackage", "README.txt"


def write(predictor: Predictor, folder: Path) -> Path:
    """Write the model and how to frame pictures into `folder`; gives the model's package, a folder."""
    import coremltools
    import torch

    example = as_input(predictor, np.zeros((320, 320, 3), dtype=np.uint8))
    traced = torch.jit.trace(Framed(predictor).eval(), (example,))  # type: ignore[no-untyped-call]
    model = coremltools.convert(
        traced,
        inputs=[coremltools.TensorType(name="picture", shape=example.shape)],
        outputs=[coremltools.TensorType(name="probabilities"), coremltools.TensorType(name="unknown")],
        convert_to="mlprogram",
    )
    model.user_defined_metadata["classes"] = "\n".join(predictor.info.class_names)
    model.save(str(folder / MODEL))
    (folder / NOTE).write_text(how_to(predictor), encoding="utf-8")
    return folder / MODEL


def answerer(file: Path, predictor: Predictor) -> Answerer:
    """Asks Core ML about a picture at a time; on a Mac only."""
    import coremltools

    model = coremltools.models.MLModel(str(file))

    def ask(picture: RGB) -> tuple[npt.NDArray[np.float32], float]:
        found = model.predict({"picture": as_input(predictor, picture).numpy()})
        return np.asarray(found["probabilities"]).ravel(), float(np.ravel(found["unknown"])[0])

    return ask
