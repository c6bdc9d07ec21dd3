"""A bundle is the contract: what was tried is what is shipped, elsewhere too, and a hostile one runs nothing."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import picture
from tl_core.bundle import bundle, files
from tl_core.bundle.markdown import markdown_text
from tl_core.bundle.predictor import Prediction, Predictor
from tl_core.bundle.table import predictions_csv, text_cell
from tl_core.data.intake import decode_files
from tl_core.errors import BundleError, DamagedBundleError, NewerFormatError, NotABundleError, OptionError
from tl_core.evaluation.metrics import evaluate
from tl_core.models import backbone, heads
from tl_core.models.catalogue import EMBEDDED
from tl_core.models.classifier import Classifier
from tl_core.settings import Settings

NAMES = ("bees", "<img src=x onerror=alert(1)>", "\u732b | [x](javascript:1)\n---")


def made(folder: Path, names: tuple[str, ...] = NAMES) -> torch.nn.Module:
    """A bundle with the embedded backbone under a random head."""
    torch.manual_seed(1)
    trunk = backbone.load(EMBEDDED, timeout=0)
    head = heads.linear(torch.randn(len(names), EMBEDDED.width), torch.randn(len(names)))
    chance = np.full((len(names), len(names)), 1 / len(names), dtype=np.float32)
    count = range(len(names))
    scores = evaluate(chance, list(count), names, pictures=count, groups=count)
    training = {"train_pictures": 9, "seed": 0}
    info = bundle.BundleInfo(EMBEDDED, names, EMBEDDED.preprocessing, scores, training, bundle.now())
    bundle.save(folder, trunk, head, info)
    return Classifier(trunk, head, len(names))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "good"
    made(folder)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "copy"))


def some_pictures(tmp_path: Path, settings: Settings) -> list[Any]:
    uploads = [tmp_path / f"{i}.jpg" for i in range(5)]
    for i, file in enumerate(uploads):
        file.write_bytes(picture(i))
    return decode_files(uploads, settings)


def test_it_answers_bit_for_bit_as_before_saving(tmp_path: Path, settings: Settings) -> None:
    model, pictures = made(tmp_path / "b"), some_pictures(tmp_path, settings)
    p = EMBEDDED.preprocessing
    with torch.inference_mode():
        before = model(p.normalise(torch.stack([p.frame(x) for x in pictures])))
    assert torch.equal(Predictor(tmp_path / "b").logits(pictures), before)


def test_timm_loads_the_folder_to_the_same_logits(folder: Path, tmp_path: Path, settings: Settings) -> None:
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert theirs.pretrained_cfg["label_names"] == list(NAMES)
    ours, pictures = Predictor(folder), some_pictures(tmp_path, settings)
    p = ours.info.preprocessing
    with torch.inference_mode():
        x = p.normalise(torch.stack([p.frame(x) for x in pictures]))
        assert torch.equal(theirs(x), ours.logits(pictures))


def test_timms_own_preprocessing_agrees_with_ours(folder: Path, tmp_path: Path, settings: Settings) -> None:
    from PIL import Image

    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config(theirs.pretrained_cfg))
    pictures = some_pictures(tmp_path, settings)
    with torch.inference_mode():
        their_answers = theirs(torch.stack([transform(Image.fromarray(x)) for x in pictures])).softmax(1)
    our_answers = Predictor(folder).logits(pictures).softmax(1)
    assert (their_answers - our_answers).abs().max() < 0.02


@pytest.mark.slow
def test_transformers_loads_the_folder_to_the_same_answers(tmp_path: Path, settings: Settings) -> None:
    from PIL import Image
    from transformers import pipeline

    made(tmp_path / "b", ("ants", "bees"))
    pictures = some_pictures(tmp_path, settings)
    classify = pipeline("image-classification", model=str(tmp_path / "b"))
    for x, mine in zip(pictures, Predictor(tmp_path / "b").predict(pictures), strict=True):
        theirs = {row["label"]: row["score"] for row in classify(Image.fromarray(x))}
        assert all(abs(theirs[label] - confidence) < 0.02 for label, confidence in mine.ranking)


def test_every_cell_of_the_table_stands_under_its_name() -> None:
    import csv

    rows: list[tuple[str, Prediction | str]] = [
        ("a.jpg", Prediction((("ants", 0.75), ("bees", 0.25)), 0.9, True)),
        ("b.jpg", Prediction((("bees", 1.0), ("ants", 0.0)), 0.1, False)),
        ("c.jpg", "the file is empty"),
    ]
    found = list(csv.DictReader(predictions_csv(rows, ("ants", "bees"))[1:].splitlines()))
    assert [row["unlike anything taught"] for row in found] == ["yes", "no", ""]
    assert [row["problem"] for row in found] == ["", "", "the file is empty"]
    assert [row["class"] for row in found] == ["ants", "bees", ""]
    assert [row["share of bees"] for row in found] == ["0.25", "1.0", ""]


@pytest.mark.parametrize("framing", ["crop", "squash", "pad"])
def test_every_framing_gives_the_networks_size(framing: Any) -> None:
    p = bundle.Preprocessing(64, framing, 0.875, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    for shape in ((300, 20, 3), (20, 300, 3), (64, 64, 3), (1, 1, 3)):
        assert p.frame(np.zeros(shape, dtype=np.uint8)).shape == (3, 64, 64)


def test_a_download_opens_again(folder: Path, tmp_path: Path) -> None:
    packed = files.to_zip(folder, tmp_path / "model.zip")
    model, info = bundle.load(files.from_zip(packed, tmp_path / "unpacked"))
    assert info.class_names == NAMES
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), bundle.load(folder)[0].parameters(), strict=True))


def test_saving_again_replaces_the_whole(folder: Path) -> None:
    (folder / "stray").write_text("x")
    made(folder, ("a", "b"))
    assert {path.name for path in folder.iterdir()} == set(files.FILES)


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads((folder / "bundle.json").read_text())
    change(record)
    (folder / "bundle.json").write_text(json.dumps(record))


def test_case_64_one_flipped_byte_is_noticed(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1000] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(DamagedBundleError, match="model.safetensors is not the file that was saved"):
        bundle.load(folder)


def swap_weights(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Replace the weights by others whose checksum is right: damage by intent, not by accident."""
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    edit(folder, lambda r: r["files"].update({"model.safetensors": bundle._sha256(folder / "model.safetensors")}))


@pytest.mark.parametrize("change", ["extra", "missing", "shape", "nan", "type", "variance"])
def test_case_65_weights_that_do_not_fit_are_refused(folder: Path, change: str) -> None:
    state = load_file(folder / "model.safetensors")
    if change == "extra":
        state["more"] = torch.zeros(1)
    elif change == "missing":
        del state["fc.bias"]
    elif change == "shape":
        state["fc.bias"] = torch.zeros(99)
    elif change == "type":
        state["fc.bias"] = state["fc.bias"].half()
    elif change == "variance":
        state["bn1.running_var"] *= -1
    else:
        state["fc.bias"][0] = torch.nan
    swap_weights(folder, state)
    with pytest.raises(DamagedBundleError):
        bundle.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(backbone="os.system"),
        lambda r: r.update(class_names=["only one"]),
        lambda r: r.update(class_names=["a", 5]),
        lambda r: r["preprocessing"].update(size=10**6),
        lambda r: r["preprocessing"].update(size="64"),
        lambda r: r["preprocessing"].update(framing="eval"),
        lambda r: r["preprocessing"].update(crop_pct=0.002),
        lambda r: r["preprocessing"].update(mean=[10**400, 1, 1]),
        lambda r: r.update(class_names="abc"),
        lambda r: r.update(class_names=["a", "a", "b"]),
        lambda r: r.update(class_names=["a", "\ud800", "b"]),
        lambda r: r["files"].pop("config.json"),
        lambda r: r["preprocessing"].update(mean=[0.5]),
        lambda r: r["preprocessing"].update(std=[0, 0, 0]),
        lambda r: r.pop("files"),
        lambda r: r["files"].update({"../../etc/passwd": "0"}),
        lambda r: r.update(evaluation=7),
    ],
)
def test_case_66_a_senseless_description_is_refused(folder: Path, change: Any) -> None:
    edit(folder, change)
    with pytest.raises(DamagedBundleError):
        bundle.load(folder)


@pytest.mark.parametrize("format", [-5, 0, True, "1", None])
def test_case_66_a_format_that_is_no_number_is_refused(folder: Path, format: Any) -> None:
    edit(folder, lambda r: r.update(format=format))
    with pytest.raises(NotABundleError):
        bundle.load(folder)


def test_as_many_classes_as_are_allowed_can_be_saved_and_opened(tmp_path: Path) -> None:
    names = tuple(f"class {i}" for i in range(Settings().max_classes))
    made(tmp_path / "many", names)
    assert bundle.load(tmp_path / "many")[1].class_names == names


def test_saving_never_replaces_a_folder_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match="with other files in it"):
        made(tmp_path / "b")
    assert (tmp_path / "b" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "text", ['{"format": 1, "format": 1}', "", "not json", "[1]", "[" * 100_000, '{"format": NaN}', "\ufeff{}"]
)
def test_case_66_what_is_not_json_is_refused(folder: Path, text: str) -> None:
    (folder / "bundle.json").write_text(text)
    with pytest.raises(BundleError):
        bundle.load(folder)


def test_case_67_more_classes_than_the_head_has_are_refused(folder: Path) -> None:
    edit(folder, lambda r: r.update(class_names=["a", "b", "c", "d"]))
    with pytest.raises(DamagedBundleError):
        bundle.load(folder)


def test_case_68_a_newer_format_says_so(folder: Path) -> None:
    edit(folder, lambda r: r.update(format=99))
    with pytest.raises(NewerFormatError, match="made by a newer Transfer Lab"):
        bundle.load(folder)


def test_what_is_no_bundle_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotABundleError):
        bundle.load(tmp_path)
    (tmp_path / "x.zip").write_bytes(b"PK")
    with pytest.raises(NotABundleError):
        files.from_zip(tmp_path / "x.zip", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as archive:
        archive.writestr("../../evil", "x")
    with pytest.raises(NotABundleError):
        files.from_zip(tmp_path / "y.zip", tmp_path / "out")
    assert not list(tmp_path.parent.glob("**/evil"))


def test_case_73_names_in_the_card_are_text(folder: Path) -> None:
    import yaml

    card = (folder / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "timm"
    assert "<img" not in body and "](javascript" not in body
    assert "\n---" not in body
    assert markdown_text("a|b<c>") == "a&#124;b&#60;c&#62;"


def test_case_72_no_cell_of_a_table_is_a_formula() -> None:
    import csv

    hostile = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\uff1d1+1", "\n=1", '"quoted", text']
    rows: list[tuple[str, Prediction | str]] = [(name, Prediction(((name, 0.75),))) for name in hostile]
    text = predictions_csv([*rows, ("bad.jpg", "the file is empty")], hostile)
    assert text.startswith("\ufeff")
    parsed = list(csv.reader(text[1:].splitlines(keepends=True)))
    assert [row[0] for row in parsed[1:-1]] == [text_cell(name) for name in hostile]
    assert all(not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d")) for row in parsed for cell in row)
    assert parsed[1][2] == "0.75" and parsed[-1][3] == "the file is empty"
