"""The Python program of an export: it decodes as the app does, takes what people give it, and its tables are tables."""

import ast
import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from tests.conftest import picture
from tl_core.bundle.table import text_cell
from tl_core.data.intake import decode_files
from tl_core.exports import script
from tl_core.settings import Settings

CAT = "\u732b"
HOSTILE = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\uff1d1+1",
    " =1",
    "\n=1",
    'a"b,c',
    "a\n=1",
    "plain",
]
PIXELS = """
import os, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from predict import Classifier
classifier = Classifier(os.path.join(sys.argv[1], "model.onnx"))
np.savez(sys.argv[2], *[classifier.pixels(file) for file in sys.argv[3:]])
assert not {"torch", "torchvision", "tl_core", "timm"} & set(sys.modules)
"""


def brightness(target: Path, classes: list[str]) -> Path:
    """The smallest model of the same form: the brighter, the more it is the first of the classes."""
    rest = helper.make_tensor("rest", TensorProto.FLOAT, [len(classes) - 1], [0.5] * (len(classes) - 1))
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("Cast", ["picture"], ["light"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["light"], ["mean"], keepdims=0),
        helper.make_node("Sigmoid", ["mean"], ["unknown"]),
        helper.make_node("Reshape", ["unknown", "one"], ["first"]),
        helper.make_node("Concat", ["first", "rest"], ["logits"], axis=0),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    inputs = [helper.make_tensor_value_info("picture", TensorProto.UINT8, ["height", "width", 3])]
    outputs = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [len(classes)]),
        helper.make_tensor_value_info("unknown", TensorProto.FLOAT, []),
    ]
    graph = helper.make_graph(nodes, "brightness", inputs, outputs, [rest, one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    facts = {"classes": json.dumps(classes), "unknown_threshold": "0.99", "stored_short_side": "320"}
    helper.set_model_props(model, facts | {"stored_long_side": "1280"})
    onnx.checker.check_model(model)
    onnx.save(model, target)
    return target


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return script.write_script(brightness(tmp_path / "m.onnx", ["bright", CAT]), tmp_path / "program")


def run(program: Path, *words: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(program / "predict.py"), *words]
    told = {**os.environ, **environment}
    return subprocess.run(command, cwd=cwd, env=told, capture_output=True, text=True, encoding="utf-8", timeout=60)


def rough(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A picture with edges and colours of every size in it."""
    rng = np.random.default_rng(width)
    few = Image.fromarray(rng.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3), dtype=np.uint8))
    return few.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def test_case_74_its_pixels_are_the_pixels_of_the_app(program: Path, tmp_path: Path) -> None:
    """libjpeg-turbo decodes at any eighth of a JPEG's size: every one of them is among these."""
    kinds: dict[str, tuple[Image.Image, dict[str, Any]]] = {}
    for width, height in [(300, 200), (500, 375), (640, 480), (800, 600), (1_000, 701), (1_300, 975), (2_200, 1_500)]:
        kinds[f"{width}.jpg"] = (rough(width, height), {"subsampling": width % 3})
    kinds["3333.jpg"] = (rough(3_333, 2_500), {"progressive": True})
    kinds["panorama.jpg"] = (rough(2_600, 400), {})
    for orientation in range(2, 9):
        turned = Image.Exif()
        turned[0x0112] = orientation
        kinds[f"turned{orientation}.jpg"] = (rough(501, 377), {"exif": turned})
    kinds["grey.jpg"], kinds["inks.jpg"] = (rough(640, 480, "L"), {}), (rough(640, 480, "CMYK"), {})
    kinds["inks.tif"], kinds["large.png"] = (rough(400, 300, "CMYK"), {}), (rough(1_400, 1_000), {})
    kinds["palette.png"], kinds["two.png"] = (rough(400, 390, "P"), {}), (rough(400, 390, "1"), {})
    for name, (image, options) in kinds.items():
        image.save(tmp_path / name, **options)
    (tmp_path / "stray.jpg").write_bytes((tmp_path / "500.jpg").read_bytes()[:-2] + b"\0\0\0\xff\xd9")
    files = [tmp_path / name for name in [*kinds, "stray.jpg"]]
    command = [sys.executable, "-I", "-c", PIXELS, str(program), str(tmp_path / "pixels.npz"), *map(str, files)]
    subprocess.run(command, check=True, timeout=60)
    theirs = np.load(tmp_path / "pixels.npz")
    for at, (file, ours) in enumerate(zip(files, decode_files(files, Settings()), strict=True)):
        assert not isinstance(ours, str), (file.name, ours)
        assert np.array_equal(theirs[f"arr_{at}"], ours), file.name


def test_it_takes_folders_and_patterns_and_names_what_it_cannot_read(program: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos" / "deeper"
    photos.mkdir(parents=True)
    for at, folder in enumerate((photos, photos.parent)):
        (folder / f"{at}.JPG").write_bytes(picture(at))
    (photos / "notes.txt").write_text("no picture")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    done = run(program, "photos", "photos/*.JPG", "bad.png", "gone.jpg", cwd=tmp_path)
    assert done.returncode == 0
    assert [line.split(":")[0].replace("\\", "/") for line in done.stdout.splitlines()] == [
        "photos/1.JPG",
        "photos/deeper/0.JPG",
        "photos/1.JPG",
    ]
    assert "bad.png: cannot be read" in done.stderr and "gone.jpg: there is no such file" in done.stderr
    assert run(program, "bad.png", cwd=tmp_path).returncode == 2
    nothing = run(program, "*.webp", cwd=tmp_path)
    assert nothing.returncode == 2 and "No pictures found" in nothing.stderr
    assert "Traceback" not in done.stderr + nothing.stderr


def test_a_terminal_without_letters_for_a_class_stops_nothing(tmp_path: Path) -> None:
    program = script.write_script(brightness(tmp_path / "m.onnx", [f"{CAT}\x1b[2J", "b"]), tmp_path / "program")
    (tmp_path / "a.jpg").write_bytes(picture(1))
    done = run(program, "a.jpg", cwd=tmp_path, PYTHONIOENCODING="cp1252")
    assert done.returncode == 0 and "a.jpg: ?" in done.stdout and "\x1b" not in done.stdout


def test_case_72_its_table_holds_text_and_numbers_only(tmp_path: Path) -> None:
    program = script.write_script(brightness(tmp_path / "m.onnx", HOSTILE), tmp_path / "program")
    (tmp_path / "=1+1.jpg").write_bytes(picture(1))
    (tmp_path / "-2.png").write_bytes(b"no picture")
    done = run(program, "--csv", "out.csv", "--", "=1+1.jpg", "-2.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        header, good, bad = csv.reader(file)
    assert header[5:] == [f"share of {name}" for name in HOSTILE] and len(good) == len(bad) == len(header)
    assert (good[0], good[1], good[4], bad[0]) == ("'=1+1.jpg", "'=1+1", "yes", "'-2.png")
    assert "cannot be read" in bad[3]
    assert abs(sum(float(share) for share in good[5:]) - 1) < 0.01


def test_case_72_a_cell_is_guarded_as_in_the_tables_of_the_app() -> None:
    spec = importlib.util.spec_from_file_location("exported_predict", script.SOURCES / "predict.py")
    assert spec is not None and spec.loader is not None
    predict = importlib.util.module_from_spec(spec)
    sys.modules["exported_predict"] = predict  # dataclasses look it up
    spec.loader.exec_module(predict)
    assert [predict._cell(text) for text in HOSTILE] == [text_cell(text) for text in HOSTILE]
    del sys.modules["exported_predict"]


def test_case_46_what_other_programs_would_open_is_refused_and_costs_only_its_own_row(
    program: Path, tmp_path: Path
) -> None:
    """Pillow hands EPS to Ghostscript, whatever the file is called."""
    ghostscript = tmp_path / "bin" / "gs"
    ghostscript.parent.mkdir()
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    ghostscript.chmod(0o755)
    (tmp_path / "drawing.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    (tmp_path / "photo.jpg").write_bytes(picture(1))
    path = f"{ghostscript.parent}{os.pathsep}{os.environ['PATH']}"
    done = run(program, "drawing.jpg", "photo.jpg", "--csv", "out.csv", cwd=tmp_path, PATH=path)
    assert done.returncode == 0 and not (tmp_path / "started").exists()
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        bad, good = csv.DictReader(file)
    assert "cannot be read" in bad["problem"] and bad["class"] == "" and bad["unlike anything taught"] == ""
    assert good["problem"] == "" and good["class"] and good["unlike anything taught"] in ("yes", "no")


def test_its_requirements_are_what_it_imports() -> None:
    tree = ast.parse((script.SOURCES / "predict.py").read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {
        node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    lines = (script.SOURCES / "requirements.txt").read_text(encoding="utf-8").split()
    needed = {line.split(">=")[0].replace("pillow", "PIL") for line in lines}
    assert imported - set(sys.stdlib_module_names) - {"pillow_heif"} == needed
