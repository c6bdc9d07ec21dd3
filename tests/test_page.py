"""The page as a person uses it: the real app in its own process, a real Chromium, a stand-in Hub on loopback."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from tests.browser import NEEDS_BROWSER, App, opened, train_on_page, upload
from tests.conftest import Zipper, picture, shared
from tests.hub_stand_in import GOOD, READ
from tl_core.bundle.files import FILES, from_zip
from tl_core.bundle.predictor import Predictor

pytestmark = NEEDS_BROWSER
ROOT = Path(__file__).parents[1]


def train_example(page: Any) -> None:
    page.click("#example-shapes")
    train_on_page(page)


def export_it(page: Any) -> None:
    page.click("#exports button")
    page.click("#export-kind label:has-text('A small Python program')")
    page.click("#export-make")
    page.wait_for_selector("#export-told .tl-good:has-text('397 of 397 of your pictures')", timeout=90_000)
    with page.expect_download() as waiting:
        page.click("#export-download")
    with zipfile.ZipFile(waiting.value.path()) as program:
        assert {Path(name).name for name in program.namelist()} >= {"predict.py", "model.onnx"}


def push_it(page: Any, app: App) -> None:
    page.click("#share button")
    page.fill("#share-name input, #share-name textarea", "ants-and-bees")
    page.fill("#share-token input", READ)
    page.click("#share-push")
    page.wait_for_selector("#share-done:has-text('may only read')")
    assert page.input_value("#share-token input") == "" and "alice/ants-and-bees" not in app.hub.repos
    page.fill("#share-token input", GOOD)
    page.click("#share-push")
    page.wait_for_selector("#share-done .tl-checklist:has-text('The name alice/ants-and-bees is free')")
    page.wait_for_selector("#share-done a:has-text('alice/ants-and-bees')", timeout=60_000)
    assert "hf-hub:alice/ants-and-bees" in page.inner_text("#share-done")
    repo = app.hub.repos["alice/ants-and-bees"]
    beside = {"unknown.safetensors", "confusion.png", "model.onnx", "predict.py", "requirements.txt"}
    assert repo.private and set(repo.files) == {*FILES, *beside}
    assert b"license: apache-2.0" in repo.files["README.md"]
    assert {token for _, _, token in app.hub.requests if token} == {GOOD, READ}
    assert page.input_value("#share-token input") == ""
    assert not page.is_visible("#share-demo")  # a Space could not read a private model

    page.fill("#share-name input, #share-name textarea", "ants-for-all")
    page.click("#share-private input")
    page.fill("#share-token input", GOOD)
    page.click("#share-push")
    page.wait_for_selector("#share-done a:has-text('alice/ants-for-all')", timeout=60_000)
    page.fill("#share-name input, #share-name textarea", "something else")  # the demo is of what was pushed
    page.fill("#share-token input", GOOD)
    page.click("#share-demo")
    page.wait_for_selector("#share-demo-done a:has-text('ants-for-all-demo')")
    assert "app.py" in app.hub.repos["spaces/alice/ants-for-all-demo"].files
    assert page.input_value("#share-token input") == ""


# Every value of every IndexedDB of the page as text; localStorage and the like are read beside it.
DATABASES = """async () => {
  const asked = (request) => new Promise((done, failed) => {
    request.onsuccess = () => done(request.result); request.onerror = () => failed(request.error);
  });
  const found = [];
  for (const { name } of await indexedDB.databases()) {
    const database = await asked(indexedDB.open(name));
    for (const store of database.objectStoreNames) {
      found.push(await asked(database.transaction(store).objectStore(store).getAll()));
    }
    database.close();
  }
  return JSON.stringify(found);
}"""


@pytest.mark.slow
def test_the_whole_job_from_a_zip_of_real_pictures_to_a_model_on_the_hub(
    context: Any, app: App, tmp_path: Path
) -> None:
    page = opened(context, app)
    upload(page, shared("hymenoptera.zip"))
    page.wait_for_selector("#to-train:visible", timeout=60_000)
    understood = page.inner_text("#understood")
    assert "397 pictures in 2 classes" in understood and "244 for training" in understood

    page.click("#to-train")
    page.wait_for_selector("#estimate:has-text('on this computer')")
    page.click("#start")
    page.wait_for_selector("#stop:visible")
    page.reload()  # in the middle of it
    page.wait_for_selector("#progress .tl-stages")
    page.wait_for_selector("#to-results:visible", timeout=90_000)
    assert "Done in" in page.inner_text("#progress")

    page.click("#to-results")
    page.wait_for_selector(".tl-headline")
    assert "153 pictures that took no part in training" in page.inner_text("#headline")
    page.wait_for_selector("#mistakes img")
    assert page.locator(".tl-confusion td").count() == 4

    page.click("#to-use")
    one = tmp_path / "bee.jpg"
    one.write_bytes(picture(1))
    page.set_input_files("#one-upload input[type=file]", str(one))
    page.wait_for_selector("#one-answer:visible")
    assert "%" in page.text_content("#one-answer")

    with page.expect_download() as waiting:
        page.click("#download")
    waiting.value.save_as(tmp_path / "model.zip")
    folder = from_zip(tmp_path / "model.zip", tmp_path / "model")
    ours = Predictor(folder)
    assert ours.info.class_names == ("ants", "bees")
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    x = torch.rand(2, 3, 128, 128)
    with torch.inference_mode():
        assert torch.allclose(theirs(x), ours.model(x), atol=1e-4)

    export_it(page)
    push_it(page, app)

    # Cases 77 to 79: the token is nowhere afterwards, neither in the browser nor on this machine.
    page.reload()
    kept = page.evaluate(
        "JSON.stringify([Object.entries(localStorage), Object.entries(sessionStorage), document.cookie])"
    )
    assert GOOD not in kept and GOOD not in page.evaluate(DATABASES)
    assert GOOD not in app.log.read_text()
    assert not any(GOOD.encode() in file.read_bytes() for file in app.data.rglob("*") if file.is_file())


@pytest.mark.slow
def test_an_example_teaches_and_many_pictures_become_a_table(context: Any, app: App, tmp_path: Path) -> None:
    page = opened(context, app)
    train_example(page)
    page.click("#to-results")
    page.click("#to-use")
    files = []
    for number, shape in enumerate(("star", "circle", "heart")):
        files.append(tmp_path / f"{number}.jpg")
        files[-1].write_bytes(picture(900 + number, shape=shape))
    files.append(tmp_path / "3.jpg")
    files[-1].write_bytes(b"not a picture")
    page.get_by_role("tab", name="Many pictures").click()
    page.set_input_files("#many-upload input[type=file]", [str(file) for file in files])
    page.wait_for_selector("#many-answers table")
    with page.expect_download() as waiting:
        page.click("#csv")
    waiting.value.save_as(tmp_path / "answers.csv")
    lines = (tmp_path / "answers.csv").read_text(encoding="utf-8-sig").splitlines()
    assert [line.split(",")[0] for line in lines] == ['"file"', '"0.jpg"', '"1.jpg"', '"2.jpg"', '"3.jpg"']
    assert "not a picture of a kind that can be read" in lines[-1]
    page.get_by_role("tab", name="One picture").click()
    page.set_input_files("#one-upload input[type=file]", str(files[-1]))
    page.wait_for_selector("text=could not be used: not a picture of a kind that can be read")


@pytest.mark.slow
def test_the_browsers_back_is_a_step_back_and_leaves_the_page_only_at_the_first(context: Any, app: App) -> None:
    page = opened(context, app)
    left = page.evaluate("history.length")
    for _ in range(2):  # the second time as the first: our own Back leaves no entry behind
        page.click("#example-first" if page.is_visible("#example-first") else "#example-shapes")
        page.wait_for_selector("#to-train:visible", timeout=60_000)
        page.click("#to-train")
        page.wait_for_selector("#start:visible")
        assert page.evaluate("history.length") == left + 1
        page.reload()
        page.wait_for_selector("#start:visible")
        page.wait_for_function("window.tlStepsAreThere")
        page.go_back()
        page.wait_for_selector("#understood .tl-cards")
        assert not page.is_visible("#start") and page.evaluate("history.state.step") == 0
        page.reload()  # as phones do with a page that was away
        page.wait_for_selector("#understood .tl-cards")
        page.wait_for_function("window.tlStepsAreThere")
        assert not page.is_visible("#start")
        page.go_forward()  # leads nowhere, and spoils nothing
        page.wait_for_function("history.state.step === 0")
        page.click("#to-train")
        page.click("#back-to-data")
        page.wait_for_selector("#understood .tl-cards")
        page.wait_for_function("history.state.step === 0")
    page.go_back()
    assert page.url == "about:blank"


def test_a_second_tab_follows_the_same_run_and_another_browser_sees_nothing(
    browser: Any, context: Any, app: App
) -> None:
    page = opened(context, app)
    train_example(page)
    second = opened(context, app)
    second.wait_for_selector("#to-results:visible")
    stranger = browser.new_context()
    other = opened(stranger, app)
    other.wait_for_timeout(1_500)
    assert other.locator("#to-train:visible, #to-results:visible").count() == 0
    assert other.locator("#understood").count() == 0
    stranger.close()


@pytest.mark.slow
def test_stop_keeps_what_was_learned(context: Any, app: App, make_zip: Zipper) -> None:
    page = opened(context, app)
    upload(page, make_zip({"star": 500, "circle": 500}))
    page.click("#to-train", timeout=90_000)
    page.get_by_label("Balanced: minutes, often a little better").check()
    page.wait_for_selector("#estimate:has-text('learns from your pictures in')")
    page.click("#start")
    page.wait_for_selector("#progress .now", timeout=60_000)
    page.click("#stop")
    page.wait_for_selector("#progress:has-text('Stopped. The model made so far is kept.')", timeout=60_000)
    page.click("#to-results")
    page.wait_for_selector(".tl-headline")


def choose(page: Any, name: str, option: str) -> None:
    """Pick an option of a menu by its words, as people do."""
    page.click(f"#{name} input")
    page.get_by_role("option", name=option, exact=True).click()


def advanced(page: Any, **values: int) -> None:
    """Open the panel and fill in its numbers."""
    if not page.locator("#strategy input").is_visible():
        page.click("#advanced button")
    for name, value in values.items():
        page.fill(f"#{name} input", str(value))
        page.keyboard.press("Tab")


@pytest.mark.parametrize(
    ("menus", "head", "estimate"),
    [
        pytest.param(
            {"strategy": "Everything (end to end)", "schedule": "One cycle"},
            "linear",
            "whole network learns from your pictures in 2",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"strategy": "The last blocks", "head": "GRU over the feature map"},
            "gru",
            "last blocks of the network learn",
            marks=pytest.mark.slow,
        ),
        ({"head": "Random forest"}, "forest", "stays as it is"),
        pytest.param(
            {"head": "Ensemble (linear, MLP and forest averaged)", "balance": "On"},
            "ensemble",
            "Rare classes count",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["all", "last-gru", "forest", "ensemble"],
)
@pytest.mark.slow
def test_the_advanced_panel_drives_every_strategy(
    context: Any, app: App, menus: dict[str, str], head: str, estimate: str
) -> None:
    page = opened(context, app)
    page.click("#example-shapes")
    page.click("#to-train")
    page.wait_for_selector("#estimate:has-text('on this computer')")
    advanced(page)
    for name, option in menus.items():
        choose(page, name, option)
    if "strategy" in menus:
        choose(page, "image-size", "128 px")
        advanced(page, epochs=2)
    page.wait_for_selector(f"#estimate:has-text('{estimate}')")
    assert page.locator("#mirror img").count() == 2
    page.click("#start")
    if "strategy" in menus:
        page.wait_for_selector("#progress .tl-good:has-text('A first model is ready')", timeout=90_000)
        assert page.locator("#to-results").is_visible()
        page.wait_for_selector("#progress:has-text('Round 2 of 2')", timeout=90_000)
    page.wait_for_selector("#progress .tl-good:has-text('Done in')", timeout=120_000)
    page.click("#to-results")
    page.wait_for_selector(".tl-headline")
    newest = max(app.data.glob("runs/*/report.json"), key=lambda file: file.stat().st_mtime)
    record = json.loads(newest.read_text())["training"]
    assert record["head"] == head and record["balance"] == ("balance" in menus)
    assert (record["plan"]["recipe"] is not None) == ("strategy" in menus)


@pytest.mark.slow
def test_effort_time_and_any_timm_name_are_planned_before_start(context: Any, app: App) -> None:
    page = opened(context, app)
    page.click("#example-shapes")
    page.click("#to-train")
    page.wait_for_selector("#estimate:has-text('which is quick')")
    page.get_by_label("Balanced: minutes, often a little better").check()
    page.wait_for_selector("#estimate:has-text('learns from your pictures in')")
    advanced(page, time_budget=90)
    page.wait_for_selector("#estimate:has-text('learns from your pictures in')")
    page.fill("#backbone input", "timm/resnet14t.c3_in1k")
    page.keyboard.press("Enter")
    page.wait_for_selector("#estimate:has-text('resnet14t.c3_in1k')")
    page.fill("#backbone input", "resnet-18")
    page.keyboard.press("Enter")
    page.wait_for_selector("#estimate:has-text('Did you mean “resnet18”')")


def test_case_117_more_rounds_than_there_is_time_for_are_said_before_start(context: Any, app: App) -> None:
    page = opened(context, app)
    page.click("#example-shapes")
    page.click("#to-train")
    page.wait_for_selector("#estimate:has-text('on this computer')")
    advanced(page, epochs=1_000_000_000)
    page.wait_for_selector("#estimate:has-text('No training may take longer than 6 h')")


@pytest.mark.slow
def test_a_stopped_fine_tuning_can_go_on(context: Any, app: App) -> None:
    page = opened(context, app)
    page.click("#example-shapes")
    page.click("#to-train")
    advanced(page, epochs=6)
    choose(page, "strategy", "Everything (end to end)")
    page.wait_for_selector("#estimate:has-text('in 6 round')")
    page.click("#start")
    page.wait_for_selector("#progress:has-text('Round 1 of 6')", timeout=90_000)
    page.click("#stop")
    page.wait_for_selector("#go-on:visible", timeout=60_000)
    page.click("#go-on")
    page.wait_for_selector("#progress:has-text('Round 6 of 6')", timeout=120_000)
    page.wait_for_selector("#progress .tl-good:has-text('Done in')", timeout=120_000)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"hello", "“bad.zip” is not a zip file"),
        ({}, "has no files in it at all"),
        ({"cats": 4}, "Found one class only: “cats”"),
        ({"cats": 4, "dogs": 1}, "Class “dogs” has 1 usable picture"),
        ({"a/1.jpg": b"\xff\xd8\xff\0", "b/1.jpg": b"\xff\xd8\xff\0"}, "None of the 2 pictures"),
        ({"a/1.jpg": b"", "b/1.jpg": b""}, "holds no pictures"),
    ],
)
@pytest.mark.few(2)
def test_a_bad_upload_is_explained_and_the_page_goes_on(
    context: Any, app: App, make_zip: Zipper, tmp_path: Path, content: Any, sentence: str
) -> None:
    page = opened(context, app)
    bad = tmp_path / "bad.zip"
    if isinstance(content, bytes):
        bad.write_bytes(content)
    else:
        bad = make_zip(content, "bad.zip")
    upload(page, bad)
    page.wait_for_selector(f".tl-bad:has-text('{sentence}')")
    assert page.locator("#to-train:visible").count() == 0
    page.click("#example-shapes")
    page.wait_for_selector("#to-train:visible")


def test_case_70_hostile_names_are_text_on_every_screen(context: Any, app: App, make_zip: Zipper) -> None:
    hostile = ['<img src=x onerror="window.hit=1">', "[x](javascript:window.hit=1)<script>window.hit=1<"]
    page = opened(context, app)
    content: dict[str, bytes | int] = {}
    for name, shape in zip(hostile, ("star", "circle"), strict=True):
        content |= {f"{name}/{i}<b>.jpg": picture(i, shape=shape) for i in range(12)}
    upload(page, make_zip(content))
    train_on_page(page)
    page.click("#to-results")
    page.wait_for_selector(".tl-headline")
    page.click("#to-use")
    page.wait_for_timeout(500)
    assert page.evaluate("window.hit") is None
    assert page.locator("img[src='x']").count() == 0


def test_the_page_works_by_keyboard_and_fits_a_phone(browser: Any, app: App) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, locale="en-US")
    page = opened(context, app)
    page.focus("#example-shapes")
    page.keyboard.press("Enter")
    page.wait_for_selector("#to-train:visible")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.focus("#to-train")
    page.keyboard.press("Enter")
    page.wait_for_selector("#start:visible")
    page.wait_for_function("document.activeElement.getAttribute('role') === 'tab'")
    assert page.evaluate("window.scrollY") == 0
    page.focus("#start")
    page.keyboard.press("Enter")
    page.wait_for_selector("#to-results:visible", timeout=90_000)
    page.focus("#to-results")
    page.keyboard.press("Enter")
    page.wait_for_selector(".tl-headline")
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_the_web_process_never_opens_a_picture_and_starts_without_torch() -> None:
    code = (
        "import sys; sys.argv = ['app.py']; import app; from tl_ui.page import build, translations;"
        "from tl_ui.workspace import Workspace; t = translations(app.SETTINGS); build(Workspace(app.SETTINGS), t);"
        "assert not {'torch', 'timm', 'simplejpeg', 'pillow_heif'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
