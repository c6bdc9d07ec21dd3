"""The web page export in a real Chromium: opened from disk or served, it answers as the app, and sends nothing."""

import base64
import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser import NEEDS_BROWSER
from tests.conftest import Trained, shared
from tests.test_bundle import NAMES, made
from tl_core.bundle.predictor import Predictor
from tl_core.data.intake import decode_files
from tl_core.exports import onnx, web
from tl_core.settings import Settings

pytestmark = NEEDS_BROWSER
ASK = """async (files) => {
  const { classify } = await window.classifier, answers = [];
  for (const text of files) {
    const blob = await (await fetch("data:image/jpeg;base64," + text)).blob();
    answers.push(await classify(blob));
  }
  return answers;
}"""


@pytest.fixture(scope="module")
def page_folder(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web")
    return web.write_web_page(onnx.write(Predictor(trained.bundle), folder / onnx.PLAIN), folder / "page")


@pytest.fixture
def served(page_folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(page_folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def own(browser: Any) -> Iterator[Any]:
    """A browser profile; fails the test on a script error, or when anything is asked of a host but the page's own."""
    context = browser.new_context(viewport={"width": 390, "height": 800}, locale="en-US", permissions=["camera"])
    problems: list[str] = []
    near = ("file:", "blob:", "data:", "http://127.0.0.1:")
    context.on("request", lambda r: None if r.url.startswith(near) else problems.append(r.url))
    context.on("weberror", lambda e: problems.append(str(e.error)))
    yield context
    context.close()
    assert problems == []


def opened(context: Any, url: str, ready: str = "Ready.") -> Any:
    page = context.new_page()
    page.goto(url)
    page.wait_for_function("word => document.getElementById('state').textContent === word", arg=ready)
    return page


def some_files(folder: Path, count: int) -> list[Path]:
    import zipfile

    with zipfile.ZipFile(shared("hymenoptera.zip")) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        chosen = names[:: len(names) // count][:count]
        for at, name in enumerate(chosen):
            (folder / f"{at}.jpg").write_bytes(archive.read(name))
    return [folder / f"{at}.jpg" for at in range(count)]


def test_fifty_pictures_get_the_answers_of_the_app(own: Any, served: str, trained: Trained, tmp_path: Path) -> None:
    files = some_files(tmp_path, 50)
    decoded = [pixels for pixels in decode_files(files, Settings()) if not isinstance(pixels, str)]
    probabilities, unknown = (found.numpy() for found in Predictor(trained.bundle).answers(decoded))
    page = opened(own, served)
    texts = [base64.b64encode(file.read_bytes()).decode() for file in files]
    answers = page.evaluate(ASK, texts)
    names = trained.images.class_names
    theirs = np.array([[dict(map(tuple, answer["ranking"]))[name] for name in names] for answer in answers])
    assert len(theirs) == 50 and np.abs(theirs - probabilities).max() < 0.02
    assert (theirs.argmax(1) == probabilities.argmax(1)).all()
    assert np.abs(np.array([answer["unknown"] for answer in answers]) - unknown).max() < 0.02


def test_it_works_opened_from_disk(own: Any, page_folder: Path, tmp_path: Path) -> None:
    page = opened(own, (page_folder / "index.html").as_uri())
    good, bad = some_files(tmp_path, 1)[0], tmp_path / "no picture.jpg"
    bad.write_bytes(b"nothing")
    page.set_input_files("#files", [str(good), str(bad)])
    page.wait_for_function("() => document.querySelectorAll('.card').length === 2")
    assert page.locator(".card meter").count() == 2
    assert "cannot be opened" in page.inner_text(".card >> nth=0")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_camera_is_looked_at_live_and_a_still_is_kept(own: Any, served: str) -> None:
    page = opened(own, served)
    page.click("#camera")
    page.wait_for_selector("#live-answer .first")
    page.click("#still")
    page.wait_for_selector(".card .first")
    page.click("#camera")
    page.wait_for_selector("#live", state="hidden")


def test_it_speaks_chinese_to_a_chinese_browser(browser: Any, served: str) -> None:
    context = browser.new_context(locale="zh-HK")
    page = opened(context, served, "准备好了。")
    assert "图片" in page.inner_text("h1") and page.get_attribute("html", "lang") == "zh"
    context.close()


def test_case_70_hostile_class_names_are_text(own: Any, tmp_path: Path) -> None:
    names = (*NAMES, "</script><script>window.pwned=1</script>", "\u2028{classes}")
    made(tmp_path / "b", names)
    folder = web.write_web_page(onnx.write(Predictor(tmp_path / "b"), tmp_path / "m.onnx"), tmp_path / "page")
    page = opened(own, (folder / "index.html").as_uri())
    page.set_input_files("#files", str(some_files(tmp_path, 1)[0]))
    page.wait_for_selector(".card .first")
    assert page.evaluate("window.pwned === undefined && !document.querySelector('main img[src=x]')")
    shown = page.locator(".card .bars span:first-child").all_text_contents()
    assert set(shown) == set(names)


def test_the_vendored_runtime_is_the_one_on_record() -> None:
    for name in ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        assert web.runtime(name)
