"""A model opened again, from a zip or the Hub: used as if it had been trained here, and gone on from."""

import json
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.browser import NEEDS_BROWSER, App, opened, upload
from tests.conftest import Trained, Zipper, picture, shared
from tests.hub_stand_in import GOOD, Repo
from tests.test_bundle import NAMES, made
from tl_core.bundle.bundle import load
from tl_core.bundle.files import CODE, FILES, present, to_zip
from tl_core.bundle.opening import open_bundle
from tl_core.cli.commands import main
from tl_core.errors import BundleError, NotABundleError
from tl_core.settings import Settings
from tl_ui.workspace import Workspace


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    made(folder / "b", ("ants", "bees"))
    return to_zip(folder / "b", folder / "my-classifier.zip")


def changed(packed: Path, target: Path, **files: bytes | None) -> Path:
    """A copy of a zip with some of its files replaced, added or (None) left out; "_" in a name stands for "."."""
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(target, "w") as new:
        given = {name.replace("_", "."): data for name, data in files.items()}
        for name in old.namelist():
            if name not in given:
                new.writestr(name, old.read(name))
        for name, data in given.items():
            if data is not None:
                new.writestr(name, data)
    return target


def test_an_opened_model_is_a_finished_run(packed: Path, settings: Settings) -> None:
    work = Workspace(settings)
    *steps, key = work.open_model(packed, "")
    assert isinstance(key, str) and len(steps) == 1
    report = work.report(key)
    assert report is not None and report.evaluation.class_names == ("ants", "bees")
    assert load(report.bundle)[1].class_names == ("ants", "bees") and not report.went_on
    assert work.images_of(key) is None
    assert work.report("A" * 22) is None


@pytest.mark.parametrize("ending", CODE)
def test_case_61_a_file_that_may_run_code_is_refused_by_its_kind(packed: Path, tmp_path: Path, ending: str) -> None:
    bad = changed(packed, tmp_path / "m.zip", **{f"weights{ending.replace('.', '_')}": b"x"})
    with pytest.raises(NotABundleError, match=f"it holds a {ending} file"):
        open_bundle(bad, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "files",
    [
        {"bundle_json": None},
        {"bundle_json": b"{}"},
        {"bundle_json": b"[" * 100_000},
        {"bundle_json": b"\xff\xfe{"},
        {"bundle_json": b" " * 17_000_000},
        {"model_safetensors": (2**40).to_bytes(8, "little") + b"{}"},
        {"model_safetensors": b"\0" * 100},
        {"config_json": b"{}"},
    ],
)
@pytest.mark.few(4)
def test_cases_62_to_67_what_is_not_as_it_was_saved_is_named_and_leaves_nothing(
    packed: Path, tmp_path: Path, files: dict[str, bytes | None]
) -> None:
    started = time.monotonic()
    with pytest.raises(BundleError, match="m.zip"):
        open_bundle(changed(packed, tmp_path / "m.zip", **files), tmp_path / "run")
    assert not (tmp_path / "run").exists() and time.monotonic() - started < 20


@pytest.mark.slow
def test_case_69_a_hostile_zip_is_as_harmless_as_an_upload(packed: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in FILES:
            archive.writestr(name, b"\0" * 30_000_000)
    crowd = tmp_path / "crowd.zip"
    with zipfile.ZipFile(crowd, "w") as archive:
        for number in range(300):
            archive.writestr(f"{number}.txt", b"")
    twice = tmp_path / "twice.zip"
    shutil.copyfile(packed, twice)
    with zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("else/bundle.json", b"{}")
    up = changed(packed, tmp_path / "up.zip")
    with zipfile.ZipFile(up, "a") as archive:
        archive.writestr("../../evil.txt", b"x")
    for bad in (bomb, crowd, twice, Path(__file__)):
        with pytest.raises(NotABundleError):
            open_bundle(bad, tmp_path / "run")
    open_bundle(up, tmp_path / "fine")  # what is not part of a bundle is never written
    assert not list(tmp_path.parent.rglob("evil.txt"))


@pytest.mark.slow
def test_older_bundles_open(packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path / "b")
        card = archive.read("README.md")
    import hashlib

    record = json.loads((tmp_path / "b" / "bundle.json").read_text())
    record["files"]["README.md"] = hashlib.sha256(card).hexdigest()
    for number in (1, 2):
        record["format"] = number
        record.pop("unknown", None)
        if number == 1:
            record.pop("head", None)
        (tmp_path / "b" / "bundle.json").write_text(json.dumps(record))
        open_bundle(to_zip(tmp_path / "b", tmp_path / f"{number}.zip"), tmp_path / f"run{number}")


def test_a_card_that_was_edited_on_the_hub_does_no_harm(packed: Path, tmp_path: Path) -> None:
    open_bundle(changed(packed, tmp_path / "m.zip", README_md=b"# mine"), tmp_path / "run")


# going on


@pytest.mark.slow
def test_training_goes_on_from_a_model_with_its_weights(
    trained: Trained, make_zip: Zipper, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network starts from the tuned weights, and more classes than before can be learned."""
    start = tmp_path / "start"
    shutil.copytree(trained.bundle, start)
    model, info = load(start)
    with torch.no_grad():  # stands for fine-tuning: weights that no backbone has
        for value in model.trunk.parameters():
            value.mul_(1.01)
    from tl_core.bundle.bundle import save

    save(start, model.trunk, model.head, info)
    data = make_zip({"stars": 8, "circles": 8, "squares": 8})
    out = tmp_path / "out"
    assert main(["train", str(data), "--out", str(out), "--start-from", str(to_zip(start, tmp_path / "s.zip"))]) == 0
    made_of = load_file(out / "bundle" / "model.safetensors")
    before = load_file(start / "model.safetensors")
    shared_names = [name for name in before if not name.startswith("fc.")]
    assert all(bool(torch.equal(made_of[name], before[name])) for name in shared_names)
    _, after = load(out / "bundle")
    assert after.class_names == ("circles", "squares", "stars")
    assert after.preprocessing.size == info.preprocessing.size
    record = json.loads((out / "bundle" / "bundle.json").read_text())
    assert record["training"]["went_on"] and str(tmp_path) not in json.dumps(record)
    capsys.readouterr()
    assert "a model trained earlier" in (out / "bundle" / "README.md").read_text()
    for name in ("report.json", "journal.json"):
        (out / name).unlink()
    moved = out.rename(tmp_path / "moved")  # a run goes on wherever its folder lies
    assert main(["train", "--resume", str(moved)]) == 0
    assert all(
        torch.equal(load_file(moved / "bundle" / "model.safetensors")[name], before[name]) for name in shared_names
    )


def test_a_folder_that_is_no_bundle_is_not_copied(make_zip: Zipper, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "diary.txt").write_text("dear")
    data, out = make_zip({"stars": 4, "circles": 4}), tmp_path / "out"
    assert main(["train", str(data), "--out", str(out), "--start-from", str(mine)]) == 2
    assert not list(out.rglob("diary.txt"))


def test_classes_that_would_be_forgotten_are_named(packed: Path, settings: Settings, make_zip: Zipper) -> None:
    from tl_core.data.intake import prepare
    from tl_core.data.understand import load as load_set

    work = Workspace(settings)
    *_, key = work.open_model(packed, "")
    for _ in prepare(make_zip({"bees": 4, "wasps": 4}), settings.data_dir / "s", settings):
        pass
    assert work.forgotten(str(key), load_set(settings.data_dir / "s")) == ["ants"]


# on the page


def page_with_open(context: Any, app: App) -> Any:
    page = opened(context, app)
    page.click("#open button")
    return page


@pytest.mark.browser
@pytest.mark.skipif(NEEDS_BROWSER[1].args[0], reason="no chromium on this machine")
@pytest.mark.slow
def test_a_download_opens_on_the_page_and_is_trained_further(
    context: Any, app: App, trained: Trained, tmp_path: Path
) -> None:
    page = page_with_open(context, app)
    page.set_input_files("#open-file input[type=file]", str(to_zip(trained.bundle, tmp_path / "m.zip")))
    page.click("#open-open")
    page.wait_for_selector("#one-upload:visible")
    (tmp_path / "a.jpg").write_bytes(picture(1, shape="circle"))
    page.set_input_files("#one-upload input[type=file]", str(tmp_path / "a.jpg"))
    page.wait_for_selector("#one-strange:has-text('like anything I was taught')")  # a drawn circle is no insect
    page.reload()
    page.wait_for_selector("#download:visible")
    page.click("#back-to-results")
    page.wait_for_selector("#headline .tl-headline")
    assert "not here any more" in page.inner_text("#details")
    page.click("#back-to-train")
    page.click("#back-to-data")
    upload(page, shared("hymenoptera.zip"))
    page.wait_for_selector("#to-train:visible", timeout=60_000)
    page.click("#to-train")
    page.wait_for_selector("#going-on:visible")
    page.click("#start")
    page.wait_for_selector("#to-results:visible", timeout=90_000)
    starts = list(app.data.glob("runs/*/start/bundle.json"))
    assert len(starts) == 1


@pytest.mark.browser
@pytest.mark.skipif(NEEDS_BROWSER[1].args[0], reason="no chromium on this machine")
def test_cases_70_and_71_an_opened_model_with_hostile_names_runs_nothing(
    context: Any, app: App, tmp_path: Path
) -> None:
    made(tmp_path / "b")
    app.hub.repos["alice/hostile"] = Repo(
        private=True, files={name: (tmp_path / "b" / name).read_bytes() for name in present(tmp_path / "b")}
    )
    page = page_with_open(context, app)
    page.fill("#open-repo input, #open-repo textarea", "alice/hostile")
    page.click("#open-open")
    page.wait_for_selector(".toast-body:has-text('or it is private')")
    page.fill("#open-token input", GOOD)
    page.click("#open-open")
    page.wait_for_selector("#one-upload:visible")
    assert page.input_value("#open-token input") == ""
    hostile = {"name": "<img src=x onerror=alert(1)>.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"}
    page.get_by_role("tab", name="Many pictures").click()
    page.set_input_files("#many-upload input[type=file]", [hostile])
    page.wait_for_selector("#many-answers table")
    page.get_by_role("tab", name="One picture").click()
    (tmp_path / "a.jpg").write_bytes(picture(1))
    page.set_input_files("#one-upload input[type=file]", str(tmp_path / "a.jpg"))
    page.wait_for_selector("#one-answer:visible")
    page.click("#back-to-results")
    page.wait_for_selector("#headline .tl-headline")
    assert NAMES[1] in page.inner_text("#details")
    assert page.evaluate("document.querySelectorAll('img[src=x], main script, form[action]').length") == 0
