"""The web page export in a real Chromium: opened from disk or served, it answers as the app, and sends nothing."""

import base64
import contextlib
import functools
import io
import shutil
import threading
import zipfile
from collections.abc import Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.browser import NEEDS_BROWSER
from tests.conftest import Trained, shared
from tests.test_bundle import NAMES
from tests.test_export_script import brightness
from tl_core.bundle.predictor import Predictor
from tl_core.data.intake import decode_files
from tl_core.exports import onnx, web
from tl_core.settings import Settings

pytestmark = NEEDS_BROWSER
# The model in the browser is the model of the app to six digits. What differs is how pictures are decoded: measured at
# most 0.00005 where a picture is small enough to be taken as it is, 0.011 where it is shrunk on the way.
SAME, CLOSE = 0.001, 0.02
FILE = "(text, name) => new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name)"
ASK = f"""async (files) => {{
  const {{ classify }} = await window.classifier, answers = [];
  for (const text of files) answers.push(await classify(({FILE})(text, "picture")));
  return answers;
}}"""
HAND_OVER = f"""([text, kind]) => {{
  const data = new DataTransfer();
  data.items.add(({FILE})(text, kind + ".jpg"));
  const about = {{ bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data }};
  document.body.dispatchEvent(kind === "drop" ? new DragEvent(kind, about) : new ClipboardEvent(kind, about));
}}"""


@pytest.fixture(scope="module")
def page_folder(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web")
    return web.write_web_page(onnx.write(Predictor(trained.bundle), folder / onnx.PLAIN), folder / "page")


@contextlib.contextmanager
def profile(browser: Any, **more: Any) -> Iterator[Any]:
    """A browser profile; fails the test on a script error, or when anything is asked of a host but the page's own."""
    more = {"viewport": {"width": 390, "height": 800}, "locale": "en-US"} | more
    context = browser.new_context(permissions=["camera"], **more)
    problems: list[str] = []
    near = ("file:", "blob:", "http://127.0.0.1:")
    context.on("request", lambda r: None if r.url.startswith(near) else problems.append(r.url))
    context.on("weberror", lambda e: problems.append(str(e.error)))
    yield context
    context.close()
    assert problems == []


def opened(context: Any, url: str) -> Any:
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#files:enabled", state="attached")
    return page


@pytest.fixture(scope="module")
def from_disk(browser: Any, page_folder: Path) -> Iterator[Any]:
    """The page of a folder that was double-clicked."""
    with profile(browser) as context:
        yield opened(context, (page_folder / "index.html").as_uri())


@pytest.fixture(scope="module")
def hosted(browser: Any, page_folder: Path) -> Iterator[Any]:
    """The same page from a server of plain files."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(page_folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with profile(browser) as context:
        yield opened(context, f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
    server.server_close()


def some_files(folder: Path, count: int) -> list[Path]:
    with zipfile.ZipFile(shared("hymenoptera.zip")) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        chosen = names[:: len(names) // count][:count]
        for at, name in enumerate(chosen):
            (folder / f"{at}.jpg").write_bytes(archive.read(name))
    return [folder / f"{at}.jpg" for at in range(count)]


def as_text(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode("ascii")


def agrees(page: Any, trained: Trained, files: Sequence[Path], tolerance: float) -> None:
    """The page's answers about `files` are the app's, classes in the same order unless the app itself hardly knew."""
    decoded = [pixels for pixels in decode_files(files, Settings()) if not isinstance(pixels, str)]
    probabilities, unknown = (found.numpy() for found in Predictor(trained.bundle).answers(decoded))
    names, answers = trained.images.class_names, page.evaluate(ASK, [as_text(file) for file in files])
    theirs = np.array([[dict(map(tuple, answer["ranking"]))[name] for name in names] for answer in answers])
    gaps = np.abs(theirs - probabilities).max(1)
    assert len(gaps) == len(files) and gaps.max() < tolerance, dict(zip([f.name for f in files], gaps, strict=True))
    best = probabilities[np.arange(len(files)), theirs.argmax(1)]
    assert (best >= probabilities.max(1) - 2 * tolerance).all()
    assert np.abs(np.array([answer["unknown"] for answer in answers]) - unknown).max() < tolerance


def test_fifty_pictures_get_the_answers_of_the_app(hosted: Any, trained: Trained, tmp_path: Path) -> None:
    agrees(hosted, trained, some_files(tmp_path, 50), SAME)


def test_pictures_of_any_size_and_kind_get_them_too(from_disk: Any, trained: Trained, tmp_path: Path) -> None:
    """Large ones are shrunk in the page as the app's decoder does; colours are taken as they are written there."""
    picture, turned = Image.open(some_files(tmp_path, 3)[1]).convert("RGB"), Image.Exif()
    turned[0x0112] = 6
    clear = picture.resize((700, 500))
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.find(b"rXYZ"), profile.find(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"  # a profile that changes every colour
    kinds: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        **{
            f"{w}x{h}.jpg": (picture.resize((w, h), 3), {"quality": 90})
            for w, h in [(500, 375), (640, 480), (700, 901)]
        },
        "3000x2000.jpg": (picture.resize((3_000, 2_000), 3), {"exif": turned}),
        "1500x1100.png": (picture.resize((1_500, 1_100), 3), {}),
        "profile.jpg": (picture, {"icc_profile": bytes(profile)}),
        "clear.png": (clear, {}),
        "inks.jpg": (picture.convert("CMYK"), {}),
        "grey.webp": (picture.convert("L"), {}),
    }
    for name, (image, options) in kinds.items():
        image.save(tmp_path / name, **options)
    agrees(from_disk, trained, [tmp_path / name for name in kinds], CLOSE)


def test_files_are_chosen_dropped_and_pasted(from_disk: Any, tmp_path: Path) -> None:
    good, bad = some_files(tmp_path, 1)[0], tmp_path / "no picture.jpg"
    bad.write_bytes(b"nothing")
    from_disk.evaluate("document.getElementById('answers').replaceChildren()")
    from_disk.set_input_files("#files", [str(good), str(bad)])
    from_disk.wait_for_selector(".card:nth-child(2)")
    assert "cannot be opened" in from_disk.inner_text(".card >> nth=0")
    for at, kind in enumerate(("drop", "paste")):
        from_disk.evaluate(HAND_OVER, [as_text(good), kind])
        from_disk.wait_for_selector(f".card:nth-child({3 + at})")
    assert from_disk.locator(".name").all_text_contents()[:2] == ["paste.jpg", "drop.jpg"]
    assert from_disk.locator(".card meter").count() == 6
    assert from_disk.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_strange_picture_is_said_to_be_one(from_disk: Any, tmp_path: Path) -> None:
    file = some_files(tmp_path, 1)[0]
    kept = from_disk.evaluate("() => { const t = TL_MODEL.facts.threshold; TL_MODEL.facts.threshold = 0; return t; }")
    from_disk.set_input_files("#files", [{"name": "odd.jpg", "mimeType": "image/jpeg", "buffer": file.read_bytes()}])
    from_disk.wait_for_selector(".card:first-child .name >> text=odd.jpg")
    assert "not look like anything" in from_disk.inner_text(".card:first-child .strange")
    from_disk.evaluate("(t) => { TL_MODEL.facts.threshold = t; }", kept)
    assert 0 < kept < 1


@pytest.mark.slow
def test_the_camera_is_looked_at_live_and_a_still_is_kept(hosted: Any) -> None:
    hosted.evaluate(
        "() => { const real = createImageBitmap; window.frames_taken = 0;"
        " window.createImageBitmap = (...all) => { window.frames_taken++; return real(...all); }; }"
    )
    hosted.click("#camera")
    hosted.wait_for_selector("#live-answer .first")
    hosted.click("#still")
    hosted.wait_for_selector(".card .first")
    assert hosted.inner_text(".card .name") == "From the camera"
    hosted.click("#camera")
    hosted.wait_for_selector("#live", state="hidden")
    hosted.wait_for_timeout(500)
    taken = hosted.evaluate("window.frames_taken")
    hosted.wait_for_timeout(500)
    assert taken > 1 and hosted.evaluate("window.frames_taken") == taken, "it went on looking"


def test_the_keyboard_reaches_everything(hosted: Any) -> None:
    hosted.click("h1")
    reached = []
    for _ in range(2):
        hosted.keyboard.press("Tab")
        reached.append(hosted.evaluate("document.activeElement.id"))
    assert reached == ["files", "camera"]


def test_without_a_camera_it_says_so(browser: Any, page_folder: Path) -> None:
    with profile(browser) as context:
        page = opened(context, (page_folder / "index.html").as_uri())
        refused = "() => Promise.reject(new DOMException('x', 'NotFoundError'))"
        page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = {refused} }}")
        page.click("#camera")
        page.wait_for_selector("#state >> text=no camera was found")
        assert page.inner_text("#camera") == "Use the camera" and not page.is_visible("#live")


def test_it_speaks_chinese_to_a_chinese_browser(browser: Any, page_folder: Path) -> None:
    with profile(browser, locale="zh-HK", color_scheme="dark") as context:
        page = opened(context, (page_folder / "index.html").as_uri())
        assert "图片" in page.inner_text("h1") and page.get_attribute("html", "lang") == "zh"
        assert page.inner_text("#state") == "准备好了。"
        light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert max(light) < 64


def test_a_page_without_its_files_says_to_unpack_the_zip(browser: Any, page_folder: Path, tmp_path: Path) -> None:
    """What Windows shows of an `index.html` opened inside of a zip."""
    shutil.copyfile(page_folder / "index.html", tmp_path / "index.html")
    with profile(browser) as context:
        page = context.new_page()
        page.goto((tmp_path / "index.html").as_uri())
        assert "unpack the whole zip" in page.inner_text("#alone") and "解压" in page.inner_text("#alone")
        for name in ("app.js", "picture.js", "model.js", "onnxruntime.js", "style.css"):  # all but the runtime
            shutil.copyfile(page_folder / name, tmp_path / name)
        page.reload()
        assert "unpack the whole zip" in page.inner_text("#alone")


def test_case_70_hostile_class_names_are_text(browser: Any, tmp_path: Path) -> None:
    names = (*NAMES, "</script><script>window.pwned=1</script>", "\u2028{classes}")
    folder = web.write_web_page(brightness(tmp_path / "m.onnx", list(names)), tmp_path / "page")
    drawn = io.BytesIO()
    Image.linear_gradient("L").save(drawn, "PNG")
    hostile = {"name": "<img src=x onerror=window.pwned=1>.png", "mimeType": "image/png", "buffer": drawn.getvalue()}
    with profile(browser) as context:
        page = opened(context, (folder / "index.html").as_uri())
        page.set_input_files("#files", [hostile])
        page.wait_for_selector(".card .first")
        assert page.evaluate("window.pwned === undefined && !document.querySelector('main img[src=x]')")
        shown = page.locator(".card .bars span:first-child").all_text_contents()
        assert set(shown) == set(names)


def test_the_vendored_runtime_is_the_one_on_record() -> None:
    for name in ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        assert web.runtime(name)
