"""The model as a small Python program without any of ours: it decodes as the app does and asks ONNX Runtime."""

import shutil
from pathlib import Path

from tl_core.exports.onnx import PLAIN

SOURCES = Path(__file__).parent / "script_files"
NAMES = ("predict.py", "requirements.txt", "README.txt")


def write_script(model: Path, into: Path) -> Path:
    """Put the ONNX file `model` and the program that asks it into the folder `into`; gives the folder."""
    into.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        shutil.copyfile(SOURCES / name, into / name)
    shutil.copyfile(model, into / PLAIN)
    return into
