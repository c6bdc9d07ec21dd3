"""Trying one picture: every way it can come in, what is said of it, and what a hostile page may send instead."""

import base64
import io
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.browser import NEEDS_BROWSER, App, opened, train_on_page, upload
from tests.conftest import Zipper, encode, picture
from tl_core.bundle.predictor import Prediction
from tl_ui import tried
from tl_ui.parts.try_picture import Ask, read

HOSTILE = '<img src=x onerror="window.hit=1">{{7*7}}'
BROWSER = [*NEEDS_BROWSER]


def browser_test(test: Any) -> Any:
    for mark in BROWSER:
        test = mark(test)
    return test


# what is said


def found(*ranking: tuple[str, float], **more: Any) -> Prediction:
    return Prediction(ranking, **more)


def test_the_answer_is_said_in_big_plain_words() -> None:
    html = tried.answer(found(("bee", 0.93), ("wasp", 0.066), ("ant", 0.004)), False, "en")
    assert "bee, 93 % sure" in html and "wasp" in html and "&lt; 1 %" in html
    assert "95 times" not in html
    assert "more than 99 % sure" in tried.answer(found(("bee", 0.9999), ("wasp", 0.0001)), False, "en")


def test_what_may_be_one_of_several_is_said_so() -> None:
    two = found(("bee", 0.6), ("wasp", 0.3), ("ant", 0.1), likely=("bee", "wasp"))
    assert "One of these two: bee or wasp. That is right 95 times out of 100." in tried.answer(two, False, "en")
    many = tuple(f"kind {n}" for n in range(9))
    several = tried.answer(found(("kind 0", 0.2), likely=many), False, "en")
    assert "One of these 9: kind 0, kind 1, kind 2, kind 3, kind 4, kind 5…." in several
    assert "95 times" not in tried.answer(two, True, "en"), "no promise about pictures of other kinds"


def test_a_strange_picture_gets_no_figure_at_first_sight() -> None:
    html = tried.answer(found(("bee", 0.99), ("wasp", 0.01), unknown=0.9), True, "en")
    first, fold = html.split("<details>")
    assert "This does not look like anything I was taught" in first and "%" not in first and "bee" not in first
    assert "99 %" in fold
    assert tried.spoken(found(("bee", 0.99)), True, True, "en").startswith("This does not look like anything")


def test_live_answers_are_read_out_only_when_the_class_changes() -> None:
    assert tried.spoken(found(("bee", 0.93)), False, True, "en") == "bee"
    assert tried.spoken(found(("bee", 0.93)), False, False, "en") == "bee, 93 % sure"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_case_70_hostile_class_names_stay_text_in_answers(language: str) -> None:
    two = found((HOSTILE, 0.6), ("b", 0.3), ("c", 0.1), likely=(HOSTILE, "b"))
    pieces = (
        tried.answer(two, False, language),
        tried.answer(two, True, language),
        tried.pictures("data:,", "data:,", HOSTILE, language),
        tried.likes([tried.Like("data:,", HOSTILE)], language),
    )
    for html in pieces:
        assert "<img src=x" not in html and "&lt;img src=x" in html


def test_a_picture_is_shown_no_larger_than_it_is_looked_at() -> None:
    url = tried.picture_url(np.zeros((300, 900, 3), np.uint8))
    with Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))) as image:
        assert image.size == (480, 160) and image.format == "JPEG"


# what a page sends


def frame(width: int = 4, height: int = 2, **more: Any) -> dict[str, Any]:
    pixels = base64.b64encode(bytes(range(3 * 4 * 2))).decode()
    return {"act": "frame", "width": width, "height": height, "pixels": pixels, **more}


def test_a_live_frame_is_the_pixels_the_browser_saw() -> None:
    ask = read(frame(alarms=30))
    assert ask.kind == "frame" and ask.alarms == 30 and ask.pixels is not None
    assert ask.pixels.shape == (2, 4, 3) and ask.pixels.ravel().tolist() == list(range(24))


@pytest.mark.parametrize(
    "act",
    [
        None,
        {"act": ["frame"]},
        {"act": "no such act"},
        frame(width=5),
        frame(width=-4, height=-2),
        frame(width=0, height=0, pixels=""),
        frame(width="4"),
        frame(width=4.0),
        frame(width=257, height=1, pixels="A" * 1028),
        frame(pixels=None),
        frame(pixels="é" * 32),
        frame(pixels="!" * 32),
        frame(pixels="A" * 30 + "=="),
        {"act": "picture", "path": "/etc/passwd"},
        {"act": "picture", "path": "../../etc/passwd"},
        {"act": "picture", "path": ["a"]},
    ],
    ids=str,
)
def test_what_is_not_as_it_should_be_is_no_act(act: Any) -> None:
    assert read(act) == Ask()


@pytest.mark.parametrize("place", [0, 31, -1, "5", None, 7.5, [5]])
def test_a_place_the_slider_has_not_is_the_usual_one(place: Any) -> None:
    assert read({"act": "alarms", "alarms": place}).alarms == 5


# the page


@pytest.fixture(scope="module")
def taught(browser: Any, app: App) -> Iterator[Any]:
    """A browser profile with a model of the example pictures, trained once for all tests of this file."""
    fresh = browser.new_context(
        viewport={"width": 1280, "height": 900},
        locale="en-US",
        permissions=["camera", "clipboard-read", "clipboard-write"],
    )
    fresh.set_default_timeout(30_000)
    problems: list[str] = []
    fresh.on("request", lambda r: problems.append(r.url) if not r.url.startswith((app.url, "data:", "blob:")) else None)
    fresh.on("weberror", lambda e: problems.append(str(e.error)) if "aborted" not in str(e.error) else None)
    fresh.on(
        "console", lambda m: problems.append(m.text) if "js_on_load" in m.text or "watch callback" in m.text else None
    )
    page = opened(fresh, app)
    page.click("#example-shapes")
    train_on_page(page)
    page.click("#to-results")
    page.click("#to-use")
    page.wait_for_selector("#one-upload:visible")
    page.close()
    yield fresh
    fresh.close()
    assert problems == []


@pytest.fixture
def page(taught: Any, app: App) -> Iterator[Any]:
    fresh = opened(taught, app)
    fresh.wait_for_selector("#one-upload:visible")
    yield fresh
    fresh.close()


def choose(page: Any, name: str, content: bytes) -> None:
    page.set_input_files("#one-upload input[type=file]", [{"name": name, "mimeType": "", "buffer": content}])


@browser_test
def test_a_chosen_file_is_answered_with_why_and_what_it_is_like(page: Any) -> None:
    choose(page, "a.tif", picture(901, shape="star", ending="tif"))  # which the browser itself cannot show
    page.wait_for_selector("#one-answer:has-text('star')")
    assert "star, " in page.inner_text("#one-answer .tl-headline") and "% sure" in page.inner_text("#one-answer")
    page.wait_for_selector("#one-why img")
    for figure in ("#one-picture", "#one-why"):
        page.wait_for_function(f"document.querySelector('{figure} img').naturalWidth > 50")
    assert "star" in page.inner_text(".tl-spoken")
    assert not page.is_visible("#one-likes")
    page.click("#one-more summary")
    captions = page.locator("#one-likes figcaption").all_inner_texts()
    assert len(captions) == 5 and captions.count("star") >= 3
    assert page.locator("#one-why img").get_attribute("src") != page.locator("#one-picture img").get_attribute("src")


@browser_test
def test_a_strange_picture_is_called_that_and_the_slider_says_how_quickly(page: Any) -> None:
    noise = [np.random.default_rng(0).integers(0, most, (200, 300, 3), dtype=np.uint8) for most in (255, 90)]
    choose(page, "noise.png", encode(Image.fromarray(noise[0]), "png"))
    page.wait_for_selector("#one-strange:visible")
    assert page.inner_text("#one-strange").startswith("This does not look like anything I was taught")
    assert "%" not in page.inner_text("#one-answer")
    page.click("#one-answer summary")
    before = page.get_attribute("#one-picture img", "src")
    choose(page, "more noise.png", encode(Image.fromarray(noise[1]), "png"))
    page.wait_for_function("before => document.querySelector('#one-picture img').src !== before", arg=before)
    assert page.is_visible("#one-strange") and "%" in page.inner_text("#one-answer"), "the fold stays as one left it"

    choose(page, "star.jpg", picture(903, shape="star"))
    page.wait_for_selector("#one-answer .tl-headline")
    page.click("#one-more summary")
    page.wait_for_selector("#one-alarms-told:has-text('about 5 of 100')")
    counts = []
    page.focus("#one-alarms")
    for key, share in (("Home", 1), ("End", 30)):
        page.keyboard.press(key)
        page.wait_for_selector(f"#one-alarms-told:has-text('about {share} of 100')")
        tested = re.search(r"Of the (\d+) test pictures, it was (\d+)\.", page.inner_text("#one-alarms-told"))
        assert tested is not None
        counts.append((int(tested[2]), int(tested[1])))
    (rarely, total), (often, _) = counts
    assert rarely < often <= total and total > 20
    assert page.is_visible("#one-picture img"), "moving the slider takes no picture away"


@browser_test
def test_a_copied_picture_can_be_pasted_with_keys_and_with_the_button(page: Any) -> None:
    copied = base64.b64encode(picture(904, shape="circle", ending="png")).decode()
    copy = """async (text) => {
      const blob = new Blob([Uint8Array.from(atob(text), (one) => one.charCodeAt(0))], {type: 'image/png'});
      await navigator.clipboard.write([new ClipboardItem({'image/png': blob})]);
    }"""
    page.bring_to_front()
    page.evaluate("() => document.querySelector('#one-upload .tl-choose').focus()")
    page.evaluate(copy, copied)
    page.keyboard.press("Control+V")
    page.wait_for_selector("#one-answer:has-text('circle')")
    page.wait_for_selector("#one-why")
    page.evaluate(copy, base64.b64encode(picture(905, shape="star", ending="png")).decode())
    page.click("#one-upload .tl-paste")
    page.wait_for_selector("#one-answer .tl-headline:has-text('star')")
    page.evaluate("navigator.clipboard.writeText('words')")
    page.click("#one-upload .tl-paste")
    page.wait_for_selector("#try-one .tl-status:has-text('no picture in it')")
    page.evaluate("() => { navigator.clipboard.read = () => Promise.reject(new DOMException('', 'NotAllowedError')); }")
    page.click("#one-upload .tl-paste")
    page.wait_for_selector("#try-one .tl-status:has-text('Press Ctrl+V')")


@browser_test
def test_a_file_that_is_no_picture_is_explained_and_the_next_one_is_answered(page: Any) -> None:
    choose(page, "a.jpg", picture(906, shape="star"))
    page.wait_for_selector("#one-answer:has-text('star')")
    choose(page, f"{HOSTILE}.jpg", b"not a picture")
    page.wait_for_selector("#try-one .tl-status:has-text('not a picture of a kind that can be read')")
    assert page.locator("#one-answer").count() == 0, "the answer before is not this one's"
    choose(page, "b.jpg", picture(907, shape="circle"))
    page.wait_for_selector("#one-answer:has-text('circle')")
    assert page.inner_text("#try-one .tl-status") == "" and page.evaluate("window.hit") is None


@browser_test
def test_a_still_of_the_camera_is_answered_and_the_next_one_too(page: Any) -> None:
    page.click("#one-upload .tl-camera")
    page.wait_for_selector(".tl-shutter:enabled")
    assert page.locator("#one-answer").count() == 0, "nothing is looked at before one asks"
    page.keyboard.press("Enter")
    page.wait_for_selector("#one-why img")
    first = page.locator("#one-picture img").get_attribute("src")
    page.keyboard.press("Enter")
    page.wait_for_function("(first) => document.querySelector('#one-picture img').src !== first", arg=first)
    page.wait_for_selector("#one-why img")
    page.evaluate("window.track = document.querySelector('video').srcObject.getVideoTracks()[0]")
    page.click(".tl-close-camera")
    assert page.evaluate("window.track.readyState") == "ended"
    assert "tl-camera" in page.evaluate("document.activeElement.className")
    assert page.is_visible("#one-why")


WATCHED = """() => {
  window.story = [];
  const fetched = window.fetch;
  window.fetch = (address, options) => {
    if (String(address).includes('queue/join') && String(options?.body).includes('"frame"')) window.story.push('sent');
    return fetched(address, options);
  };
  document.querySelector('#try-one .tl-part').addEventListener('tl-handled', () => window.story.push('done'));
}"""
SENT = "window.story.filter((one) => one === 'sent').length"


def watch_live(page: Any, answers: int) -> None:
    page.click("#one-upload .tl-live")
    page.wait_for_function(f"window.story.filter((one) => one === 'done').length >= {answers}")
    assert page.is_visible("#one-answer")


def ended(page: Any) -> None:
    """No camera is open any more, and nothing is sent."""
    page.wait_for_function("window.track.readyState === 'ended'")
    page.wait_for_timeout(300)
    sent = page.evaluate(SENT)
    page.wait_for_timeout(1_600)
    assert page.evaluate(SENT) == sent


@pytest.mark.slow
@browser_test
def test_the_live_camera_is_answered_again_and_again_one_at_a_time_until_it_is_stopped(page: Any) -> None:
    page.evaluate(WATCHED)
    page.route("**/queue/join*", lambda route: (time.sleep(1), route.continue_()))  # a slow line
    begun = time.monotonic()
    watch_live(page, 4)
    assert time.monotonic() - begun > 4
    page.unroute_all()
    story = page.evaluate("window.story")
    assert "sent,sent" not in ",".join(story), story
    page.evaluate("window.track = document.querySelector('video').srcObject.getVideoTracks()[0]")
    page.click(".tl-look:has-text('Stop answering live')")
    page.wait_for_timeout(1_500)
    sent = page.evaluate(SENT)
    page.wait_for_timeout(1_600)
    assert page.evaluate(SENT) == sent and page.evaluate("window.track.readyState") == "live"
    page.click(".tl-look:has-text('Answer live')")
    page.wait_for_function(f"{SENT} > {sent}")
    page.click(".tl-shutter")  # this one, please: it is answered in full, and the rest has time
    page.wait_for_selector("#one-why img")
    assert page.is_visible(".tl-look:has-text('Answer live')")


@browser_test
@pytest.mark.parametrize("away", ["hidden", "step", "tab"])
@pytest.mark.few(1)
def test_the_live_camera_stops_when_one_is_not_there(page: Any, away: str) -> None:
    page.evaluate(WATCHED)
    watch_live(page, 1)
    page.evaluate("window.track = document.querySelector('video').srcObject.getVideoTracks()[0]")
    if away == "hidden":
        page.evaluate(
            "Object.defineProperty(document, 'hidden', {get: () => true});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
    elif away == "step":
        page.click("#back-to-results")
    else:
        page.get_by_role("tab", name="Many pictures").click()
    ended(page)
    if away == "step":
        page.click("#to-use")
        page.wait_for_selector("#one-upload:visible")


@browser_test
@pytest.mark.slow
def test_case_70_hostile_class_names_are_text_where_one_picture_is_tried(
    context: Any, app: App, make_zip: Zipper
) -> None:
    page = opened(context, app)
    content: dict[str, bytes | int] = {}
    for name, shape in ((HOSTILE, "star"), ("b", "circle")):
        content |= {f"{name}/{i}.jpg": picture(i, shape=shape) for i in range(12)}
    others = set((app.data / "sets").glob("*"))
    upload(page, make_zip(content))
    train_on_page(page)
    page.click("#to-results")
    page.click("#to-use")
    page.wait_for_selector("#one-upload:visible")
    choose(page, "a.jpg", picture(3, shape="star"))
    page.wait_for_selector("#one-answer:has-text('{{7*7}}')")
    page.wait_for_selector("#one-why")
    page.click("#one-more summary")
    assert HOSTILE in page.locator("#one-likes figcaption").all_inner_texts()
    assert page.evaluate("window.hit") is None and page.locator("img[src='x']").count() == 0

    page.click("#back-to-results")
    page.click("#to-use")
    page.wait_for_timeout(1_000)
    assert page.is_visible("#one-why")
    page.click("#back-to-results")
    page.click("#back-to-train")
    page.click("#start")
    page.wait_for_selector("#stop:visible")
    page.click("#to-results")
    page.click("#to-use")
    page.wait_for_selector("#one-answer", state="detached")  # it was another model's

    for folder in set((app.data / "sets").glob("*")) - others:
        shutil.rmtree(folder)
    choose(page, "b.jpg", picture(4, shape="star"))
    page.wait_for_selector("#one-why")
    assert page.locator("#one-likes").count() == 0, "the pictures are gone"


@browser_test
def test_it_fits_a_phone_in_chinese_and_dark_and_works_by_keyboard(
    browser: Any, taught: Any, app: App, tmp_path: Path
) -> None:
    phone = browser.new_context(
        viewport={"width": 390, "height": 844},
        is_mobile=True,
        has_touch=True,
        locale="zh-CN",
        color_scheme="dark",
        storage_state=taught.storage_state(),
        permissions=["camera"],
    )
    page = opened(phone, app)
    page.wait_for_selector("#one-upload:visible")
    choose(page, "a.jpg", picture(908, shape="star"))
    page.wait_for_selector("#one-answer:has-text('把握')")
    page.wait_for_selector("#one-why")
    page.focus("#one-more summary")
    page.keyboard.press("Enter")
    page.wait_for_selector("#one-likes:visible")
    page.tap("#one-upload .tl-live")
    page.wait_for_selector(".tl-shutter:enabled")
    page.wait_for_timeout(1_500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    small = (
        "[...document.querySelectorAll('#try-one :is(button, summary)')]"
        ".filter((b) => b.offsetParent && b.offsetHeight < 36).length"
    )
    assert page.evaluate(small) == 0
    phone.close()
