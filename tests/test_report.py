"""The report: one page that stands alone, true to the run, harmless whatever things are called."""

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.browser import CHROMIUM, FLAGS
from tests.conftest import Zipper, picture
from tests.test_bundle import made
from tl_core.bundle.files import to_zip
from tl_core.data.imageset import ImageSet
from tl_core.errors import NotABundleError
from tl_core.jobs.runs import Request, RunFolder, new_key
from tl_core.jobs.worker import take
from tl_core.settings import Settings
from tl_core.training.plan import Plan, Wishes
from tl_ui.report import html_report
from tl_ui.run_report import Report
from tl_ui.workspace import Workspace

HOSTILE = ('<script>alert("1")', "a\"onerror='x' & <marquee>", "{braces}%s")


class _Links(HTMLParser):
    """Tags, and everything that a page would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.fetched: list[str] = []
        self.unnamed: list[Any] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")]
        if tag == "img" and "alt" not in found or tag == "svg" and not found.get("aria-label"):
            self.unnamed.append(attrs)
        assert not any(name.startswith("on") for name, _ in attrs)


@pytest.fixture
def images(make_zip: Zipper, read_set: Callable[[Path], ImageSet], tmp_path: Path) -> ImageSet:
    # Two classes of the same shape, so that there are mistakes.
    stars = {f"{name}/{i}.jpg": picture(100 * at + i) for at, name in enumerate(HOSTILE[:2]) for i in range(14)}
    return read_set(make_zip({**stars, HOSTILE[2]: 16}))


def finished(settings: Settings, images: ImageSet) -> str:
    key = new_key()
    run = RunFolder.create(settings, key, Request(str(images.folder), Plan(Wishes(), "built_in", "auto", 1.0)))
    assert take(run, settings) == "over"
    run.rename('<img src=x onerror="1">')
    return key


def test_the_report_stands_alone_and_is_true(images: ImageSet, settings: Settings) -> None:
    work = Workspace(settings)
    key = finished(settings, images)
    report = work.report(key)
    assert report is not None and report.crossed is not None and report.shown is report.crossed
    for language, words in (("en", "Right when named"), ("zh", "认作它时对了")):
        text = html_report(work, key, language)
        page = _Links(text)
        assert not page.tags & {"script", "link", "iframe", "object", "form", "marquee", "button"}
        assert all(address.startswith("data:image/jpeg;base64,") for address in page.fetched)
        assert page.unnamed == [] and "url(" not in text and "@import" not in text
        assert words in text and "{" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL).replace(
            "{braces}", ""
        )
        assert len(page.fetched) == len(report.shown.mistakes) > 3
        assert {"table", "dl", "svg"} <= page.tags
        assert f"{round(100 * report.shown.accuracy)}" in text and "&lt;img src=x" in text
    file = work.report_file(key, "en")
    assert file.is_relative_to(settings.web_dir / "exports") and file.name == "report-en.html"

    shutil.rmtree(images.folder)
    gone = _Links(html_report(work, key, "en"))
    assert gone.fetched == [] and "table" in gone.tags
    shutil.rmtree(report.bundle.parent)
    with pytest.raises(NotABundleError):
        html_report(work, key, "en")
    with pytest.raises(NotABundleError):
        html_report(work, "../x", "en")


def test_a_model_that_was_opened_has_a_report_with_what_is_known(settings: Settings, tmp_path: Path) -> None:
    made(tmp_path / "b", ("ants", "bees"))
    work = Workspace(settings)
    *_, key = work.open_model(to_zip(tmp_path / "b", tmp_path / "insects.zip"), "")
    assert isinstance(key, str)
    text = html_report(work, key, "en")
    assert "<h1>insects</h1>" in text and "ants" in text and "Limits" in text


@pytest.mark.parametrize(
    "change",
    [
        {"crossed": {"accuracy": 2}},
        {"crossed": 5, "curve": "x"},
        {"curve": {"sizes": [1], "accuracies": [], "gain": 0, "likely": [0]}},
        {"created": None, "seconds": {"a": "b", "c": 1.5, "d": True}},
        {
            "backbone": "<b>",
            "training": {"rounds": "x", "effort": ["quick"], "pictures_per_class": {"train": [None, -1]}},
        },
    ],
)
@pytest.mark.few(2)
def test_a_record_that_is_damaged_in_parts_never_raises(settings: Settings, tmp_path: Path, change: Any) -> None:
    made(tmp_path / "b", ("ants", "bees"))
    work = Workspace(settings)
    *_, key = work.open_model(to_zip(tmp_path / "b", tmp_path / "x.zip"), "")
    run = work.run(str(key))
    assert run is not None
    record = json.loads((run.path / "report.json").read_text()) | change
    (run.path / "report.json").write_text(json.dumps(record))
    report = work.report(str(key))
    assert report is not None and report.crossed is None and report.curve is None
    assert "seconds" not in change or report.seconds == 1.5
    assert "Limits" in html_report(work, str(key), "en")


@pytest.mark.parametrize("text", ["", "[]", "5", "null", '{"evaluation": 5}', '{"evaluation": {}, "training": 5}', "{"])
def test_a_record_that_is_no_report_is_none(tmp_path: Path, text: str) -> None:
    assert Report.load(tmp_path) is None
    (tmp_path / "report.json").write_text(text)
    assert Report.load(tmp_path) is None


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.few(1)
def test_the_report_fits_a_phone_and_prints(images: ImageSet, settings: Settings, tmp_path: Path, scheme: Any) -> None:
    playwright_api = pytest.importorskip("playwright.sync_api")
    work = Workspace(settings)
    file = work.report_file(finished(settings, images), "en")
    with playwright_api.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = chromium.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("request", lambda r: problems.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        colours = page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        light = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours]
        assert (light[0] < 200 and light[1] > 700) if scheme == "light" else (light[0] > 700 and light[1] < 200)
        page.screenshot(path=str(tmp_path / "phone.png"), full_page=True)
        printed = page.pdf(format="A4")
        chromium.close()
    assert printed.startswith(b"%PDF") and problems == []
