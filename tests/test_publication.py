"""What is pushed is exactly what is listed, and whoever loads it gets the same logits, wherever and by whatever."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from torch import nn

from tests.hub_stand_in import GOOD, Repo, StandIn
from tests.test_bundle import NAMES, edit, made
from tl_core.bundle import bundle
from tl_core.bundle.files import FILES
from tl_core.bundle.predictor import Predictor
from tl_core.data.pixels import Framing, Preprocessing
from tl_core.errors import BundleError, DamagedBundleError, NotABundleError, OptionError, RepoNameError
from tl_core.evaluation.metrics import evaluate
from tl_core.exports import onnx
from tl_core.exports.record import Agreement
from tl_core.hub.checks import PushWish, check
from tl_core.hub.publication import MAX_EXAMPLES, PublicationWish, needs_onnx, stage
from tl_core.hub.push import push
from tl_core.hub_errors import NothingRunsItError
from tl_core.models import heads
from tl_core.models.backbone import blank
from tl_core.models.catalogue import find

WISH = PublicationWish("alice/zoo", licence="apache-2.0")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "good"
    made(folder)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "copy"))


def drawn(count: int, side: int = 200) -> list[Any]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (side, side + 40, 3), dtype=np.uint8) for _ in range(count)]


def untrained(folder: Path, name: str, names: tuple[str, ...] = NAMES, head: nn.Module | None = None) -> Path:
    """A bundle of the network called `name` with random weights."""
    row = find(name)
    torch.manual_seed(len(name))
    trunk = blank(row, 0)
    for value in trunk.parameters():
        nn.init.normal_(value, std=0.05) if value.ndim > 1 else nn.init.uniform_(value, 0.1, 0.9)
    count = range(len(names))
    chance = np.full((len(names), len(names)), 1 / len(names), dtype=np.float32)
    scores = evaluate(chance, list(count), names, pictures=count, groups=count)
    info = bundle.BundleInfo(row, names, row.preprocessing, scores, {"train_pictures": 9, "seed": 0}, bundle.now())
    bundle.save(folder, trunk, head or heads.linear(torch.randn(len(names), row.width), torch.randn(len(names))), info)
    return folder


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def test_case_76_the_folder_holds_what_is_listed_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    (folder / "secret.txt").write_text("not for the world")
    (folder / "examples").mkdir()
    (folder / "examples" / "private.jpg").write_bytes(b"x")
    model = tmp_path / "some.onnx"
    model.write_bytes(b"onnx")
    wish = replace(WISH, onnx=model, agreement=Agreement(500, 500, 0.002, 0.001), examples=drawn(2))
    listed = stage(folder, tmp_path / "out", wish)
    extra = {"confusion.png", "examples/1.jpg", "examples/2.jpg", "model.onnx", "predict.py", "requirements.txt"}
    assert set(listed) == files_below(tmp_path / "out") == {*FILES, *extra}
    assert len(listed) == len(set(listed)) and not (tmp_path / "out.tmp").exists()
    assert "500" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_case_75_a_name_that_cannot_be_never_gets_into_a_card(folder: Path, tmp_path: Path) -> None:
    for name in ("alice/x\nevil", "a/b/c", '../"x', "alice/<b>"):
        with pytest.raises(RepoNameError):
            stage(folder, tmp_path / "out", replace(WISH, repo_id=name))


def test_links_become_files(folder: Path, tmp_path: Path) -> None:
    """As in the Hub's cache, where every file of a model is a link."""
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in folder.iterdir():
        (linked / path.name).symlink_to(path)
    stage(linked, tmp_path / "out", WISH)
    for path in (tmp_path / "out").iterdir():
        assert path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1


def test_staging_again_replaces_the_whole_but_never_somebody_elses_folder(folder: Path, tmp_path: Path) -> None:
    stage(folder, tmp_path / "out", replace(WISH, examples=drawn(3)))
    listed = stage(folder, tmp_path / "out", replace(WISH, examples=drawn(1)))
    assert files_below(tmp_path / "out") == set(listed) and "examples/2.jpg" not in listed
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(OptionError):
        stage(folder, tmp_path / "mine", WISH)


def test_examples_are_drawn_anew_with_the_models_own_answers(folder: Path, tmp_path: Path) -> None:
    pictures = drawn(MAX_EXAMPLES + 1, side=900)
    listed = stage(folder, tmp_path / "out", replace(WISH, examples=pictures))
    shown = sorted(name for name in listed if name.startswith("examples/"))
    assert len(shown) == MAX_EXAMPLES and all(re.fullmatch(r"examples/\d+\.jpg", name) for name in shown)
    for name in shown:
        image = Image.open(tmp_path / "out" / name)
        assert not image.getexif() and "icc_profile" not in image.info and max(image.size) <= 640
    widgets = ModelCard((tmp_path / "out" / "README.md").read_text(encoding="utf-8")).data.widget
    answers = Predictor(folder).predict(pictures[:MAX_EXAMPLES])
    for widget, answer in zip(widgets, answers, strict=True):
        assert [row["score"] for row in widget["output"]] == pytest.approx([s for _, s in answer.ranking], abs=1e-4)


@pytest.mark.parametrize("format", [1, 2])
def test_older_bundles_open_after_they_are_published(folder: Path, tmp_path: Path, format: int) -> None:
    def aged(record: dict[str, Any]) -> None:
        record["format"] = format
        record["files"]["README.md"] = bundle._sha256(folder / "README.md")
        for key in ("unknown", *(["head"] if format == 1 else [])):
            record.pop(key)
        for key in ("calibration_error", "calibration_error_before"):
            record["evaluation"].pop(key)

    edit(folder, aged)
    before, _ = bundle.load(folder)
    listed = stage(folder, tmp_path / "out", WISH)
    after, info = bundle.load(tmp_path / "out")
    assert info.class_names == NAMES and "README.md" in listed
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))
    assert not needs_onnx(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["evaluation"].update(accuracy="<b>"),
        lambda r: r["evaluation"].update(tested="many"),
        lambda r: r["evaluation"].update(confusion=[[1]]),
        lambda r: r["evaluation"].update(confusion=[["<b>"] * 3] * 3),
        lambda r: r["evaluation"].update(interval=[None, 1]),
    ],
)
def test_case_66_scores_that_are_no_numbers_are_not_published(folder: Path, tmp_path: Path, change: Any) -> None:
    edit(folder, change)
    with pytest.raises(DamagedBundleError):
        stage(folder, tmp_path / "out", WISH)
    assert not (tmp_path / "out").exists()


def test_case_64_a_damaged_model_is_not_published(folder: Path, tmp_path: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"\xff\xff")
    with pytest.raises(DamagedBundleError):
        stage(folder, tmp_path / "out", WISH)
    assert not (tmp_path / "out").exists()


def test_what_timm_cannot_express_goes_with_its_onnx_file_or_not_at_all(tmp_path: Path) -> None:
    row = find("timm/test_vit2.r160_in1k")
    head = heads.build({"kind": "mlp", "width": row.width, "hidden": 8, "classes": len(NAMES)})
    for value in head.state_dict().values():
        value.fill_(0.5)
    odd = untrained(tmp_path / "odd", row.id, head=head)
    assert needs_onnx(odd) and needs_onnx(untrained(tmp_path / "squeeze", "squeezenet1_1"))
    with pytest.raises(NothingRunsItError):
        stage(odd, tmp_path / "out", WISH)
    (tmp_path / "m.onnx").write_bytes(b"onnx")
    listed = stage(odd, tmp_path / "out", replace(WISH, onnx=tmp_path / "m.onnx"))
    assert {"head.safetensors", "model.onnx", "predict.py"} <= set(listed)
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "create_model" not in text and ModelCard(text).data.library_name == "onnx"


@pytest.mark.slow
def test_where_timm_fails_the_loader_beside_it_answers_the_same(tmp_path: Path) -> None:
    head = heads.build({"kind": "mlp", "width": 64, "hidden": 8, "classes": len(NAMES)})
    torch.manual_seed(2)
    for value in head.state_dict().values():
        value.copy_(torch.rand_like(value) + 0.1)
    odd = untrained(tmp_path / "odd", "timm/test_vit2.r160_in1k", head=head)
    model = onnx.write(Predictor(odd), tmp_path / "m.onnx")
    stage(odd, tmp_path / "out", replace(WISH, onnx=model))
    Image.fromarray(drawn(1)[0]).save(tmp_path / "photo.png")
    code = "import json, predict; print(json.dumps(predict.Classifier('model.onnx').predict('../photo.png').ranking))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "out", stdout=subprocess.PIPE, text=True, check=True
    )
    (mine,) = Predictor(odd).predict(drawn(1))
    assert dict(json.loads(run.stdout)) == pytest.approx(dict(mine.ranking), abs=1e-4)


def test_what_is_no_bundle_needs_nothing(tmp_path: Path) -> None:
    for text in ("", "[1]", '{"head": 3}', "[" * 100_000):
        (tmp_path / "bundle.json").write_text(text)
        with pytest.raises(NotABundleError):
            needs_onnx(tmp_path)
    with pytest.raises(BundleError):
        stage(tmp_path, tmp_path / "out", WISH)


# Loads every model by its name on the Hub, as strangers do, and keeps what each library makes of the same numbers.
ELSEWHERE = """
import json, sys, timm, torch
from huggingface_hub import snapshot_download
from transformers import AutoModelForImageClassification, pipeline
from tl_core.bundle import bundle
torch.set_num_threads(1)
asked, found = torch.load(sys.argv[1], weights_only=True), {}
with torch.inference_mode():
    for name, x in asked.items():
        repo = f"alice/{name}"
        theirs = timm.create_model(f"hf-hub:{repo}", pretrained=True).eval()
        wrapped = AutoModelForImageClassification.from_pretrained(repo).eval()
        ours, info = bundle.load(__import__("pathlib").Path(snapshot_download(repo)))
        by_pipeline = pipeline("image-classification", model=repo)("photo.png", top_k=3) if name == "built_in" else []
        config = timm.data.resolve_model_data_config(theirs)
        found[name] = {
            "timm": theirs(x), "transformers": wrapped(x).logits, "tl_core": ours(x),
            "names": [list(theirs.pretrained_cfg["label_names"]), [wrapped.config.id2label[i] for i in range(3)],
                      list(info.class_names)],
            "pipeline": [(row["label"], row["score"]) for row in by_pipeline],
            "size": list(config["input_size"])[1:], "interpolation": config["interpolation"],
        }
torch.save(found, sys.argv[2])
"""
QUICK = ("built_in", "timm/test_vit2.r160_in1k", "timm/test_convnext.r160_in1k", "mobilenet_v3_small")
MORE = ("resnet18", "densenet121", "vit_small", "convnext_tiny", "efficientnet_b0", "swin_t", "regnet_y_400mf")


def environment(hub: StandIn, home: Path) -> dict[str, str]:
    root = str(Path(__file__).parents[1])
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": root, "HF_HUB_DISABLE_XET": "1", "HOME": str(home)}
    return kept | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home / "hf")}


def on_the_hub(hub: StandIn, model: Path, name: str, staged: Path, **more: Any) -> None:
    """The staged folder as the Hub holds it after a push."""
    listed = stage(model, staged, replace(WISH, repo_id=f"alice/{name}", **more))
    hub.repos[f"alice/{name}"] = Repo(False, {file: (staged / file).read_bytes() for file in listed})


def answers_alike(hub: StandIn, rows: tuple[str, ...], tmp_path: Path) -> None:
    asked, expected = {}, {}
    for row_id in rows:
        name = re.sub(r"\W", "-", row_id)
        made(tmp_path / name) if row_id == "built_in" else untrained(tmp_path / name, row_id)
        on_the_hub(hub, tmp_path / name, name, tmp_path / f"{name}-staged")
        model, info = bundle.load(tmp_path / name)
        torch.manual_seed(3)
        asked[name] = torch.randn(2, 3, info.preprocessing.size, info.preprocessing.size)
        with torch.inference_mode():
            expected[name] = (model(asked[name]), info.preprocessing)
    Image.fromarray(drawn(1)[0]).save(tmp_path / "photo.png")
    torch.save(asked, tmp_path / "asked.pt")
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "asked.pt"), str(tmp_path / "found.pt")]
    subprocess.run(command, env=environment(hub, tmp_path), cwd=tmp_path, check=True, timeout=400)
    for name, found in torch.load(tmp_path / "found.pt", weights_only=True).items():
        logits, seen = expected[name]
        assert len(logits.unique()) > 3, "logits that tell nothing apart prove nothing"
        for library in ("timm", "transformers", "tl_core"):
            torch.testing.assert_close(found[library], logits, rtol=1e-4, atol=1e-4, msg=f"{name} in {library}")
        assert found["names"] == [list(NAMES)] * 3, "labels in order, hostile ones included"
        assert (found["size"], found["interpolation"]) == ([seen.size] * 2, seen.interpolation)
        if found["pipeline"]:
            (mine,) = Predictor(tmp_path / name).predict(drawn(1))
            told = dict(found["pipeline"])
            assert all(abs(told[label] - confidence) < 0.02 for label, confidence in mine.ranking)


@pytest.mark.slow
def test_it_gives_the_same_logits_wherever_it_is_loaded(hub: StandIn, tmp_path: Path) -> None:
    answers_alike(hub, QUICK, tmp_path)


@pytest.mark.slow
def test_other_families_give_the_same_logits_wherever_they_are_loaded(hub: StandIn, tmp_path: Path) -> None:
    answers_alike(hub, MORE, tmp_path)


# Runs programs as they stand in cards, one process for all of them, and keeps what they print.
AS_THEY_STAND = """
import contextlib, io, json, sys
printed = []
for code in json.loads(sys.stdin.read()):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, {})
    printed.append(out.getvalue())
print(json.dumps(printed))
"""


@pytest.mark.slow
def test_after_a_real_push_the_programs_in_the_card_run_as_they_stand(hub: StandIn, tmp_path: Path) -> None:
    made(tmp_path / "b", ("ants", "bees"))
    model, info = bundle.load(tmp_path / "b")
    p, programs = info.preprocessing, []
    framings: tuple[Framing, ...] = ("crop", "squash", "pad")
    for framing in framings:
        seen = Preprocessing(p.size, framing, 0.9, p.mean, p.std, p.interpolation)
        bundle.save(tmp_path / framing, model.trunk, model.head, replace(info, preprocessing=seen))
        staged, wish = tmp_path / f"{framing}-staged", PushWish(framing)
        listed = stage(tmp_path / framing, staged, replace(WISH, repo_id=f"alice/{framing}", examples=drawn(1)))
        checked = check(wish, info.backbone, token=GOOD, endpoint=hub.url)
        list(push(staged, listed, wish, checked, token=GOOD, endpoint=hub.url))
        assert set(hub.repos[f"alice/{framing}"].files) == set(listed)
        card = hub.repos[f"alice/{framing}"].files["README.md"].decode()
        programs += re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    Image.fromarray(drawn(1, side=300)[0]).save(tmp_path / "photo.jpg", quality=100, subsampling=0)
    run = subprocess.run(
        [sys.executable, "-c", AS_THEY_STAND],
        input=json.dumps(programs),
        env=environment(hub, tmp_path),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    printed = json.loads(run.stdout.splitlines()[-1])
    photo = np.array(Image.open(tmp_path / "photo.jpg"))
    for framing, by_timm, by_transformers in zip(framings, printed[::2], printed[1::2], strict=True):
        (mine,) = Predictor(tmp_path / framing).predict([photo])
        told = {label: float(chance) for label, chance in (line.rsplit(" ", 1) for line in by_timm.splitlines())}
        rows = {row["label"]: row["score"] for row in ast.literal_eval(by_transformers)}
        assert list(told) == ["ants", "bees"], "in the order of the classes"
        assert told == pytest.approx(dict(mine.ranking), abs=0.03)
        assert rows == pytest.approx(dict(mine.ranking), abs=0.03)
