"""Five things a newcomer wants to get done, by what can be read on the page alone: roles and visible words, no ids.
Each in English at a desk and in Chinese on a phone."""

import csv
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.browser import NEEDS_BROWSER, App
from tests.conftest import picture
from tests.hub_stand_in import GOOD, READ
from tl_ui.words import say, table

pytestmark = NEEDS_BROWSER

# Gradio's own words of a place for files.
CHOOSE_FILES = {"en": "Click to Upload", "zh": "点击上传"}
_TRAINED = 90_000  # milliseconds


@dataclass
class Newcomer:
    """Somebody who reads `words` and acts."""

    page: Any
    words: dict[str, str]
    language: str

    def press(self, key: str, **values: object) -> None:
        self.page.get_by_role("button", name=say(self.language, key, **values), exact=True).first.click()

    def sees(self, key: str, **values: object) -> Any:
        """Wait for those words, the longest part of them that is always the same."""
        said = say(self.language, key, **values) if values else self.words[key]
        part = max(re.split(r"\{[^}]+\}|\*\*", said), key=len).strip()
        found = self.page.get_by_text(part).locator("visible=true").first
        found.wait_for(timeout=_TRAINED)
        return found

    def give(self, *files: Path) -> None:
        """Choose files where the page asks for some."""
        with self.page.expect_file_chooser() as asked:
            self.page.get_by_text(CHOOSE_FILES[self.language]).locator("visible=true").first.click()
        asked.value.set_files([str(file) for file in files])

    def train(self) -> None:
        self.press("nav.to_train")
        self.sees("train.estimate")
        self.press("train.start")
        self.page.get_by_role("button", name=self.words["nav.to_results"], exact=True).click(timeout=_TRAINED)
        self.sees("results.headline")


@pytest.fixture(params=[("zh", 390), pytest.param(("en", 1280), marks=pytest.mark.slow)], ids=["zh-phone", "en-desk"])
def newcomer(request: pytest.FixtureRequest, browser: Any, app: App) -> Iterator[Newcomer]:
    language, width = request.param
    locale = {"en": "en-GB", "zh": "zh-HK"}[language]
    phone = {"has_touch": True, "is_mobile": True} if width < 500 else {}
    context = browser.new_context(viewport={"width": width, "height": 844}, locale=locale, **phone)
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.goto(app.url)
    yield Newcomer(page, table(language), language)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing is wider than the screen"
    context.close()


def zipped(file: Path, pictures: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as out:
        for name, data in pictures.items():
            out.writestr(name, data)
    return file


def shapes(*names: str, count: int = 16) -> dict[str, bytes]:
    return {f"{shape}/{seed:02}.jpg": picture(seed, shape=shape) for shape in names for seed in range(count)}


@pytest.mark.slow
def test_train_the_example(newcomer: Newcomer) -> None:
    newcomer.press("opening.first")
    newcomer.train()
    newcomer.press("nav.to_use")
    newcomer.sees("use.download")


def test_train_your_own_zip_with_a_bad_file_in_it(newcomer: Newcomer, tmp_path: Path) -> None:
    newcomer.give(zipped(tmp_path / "mine.zip", shapes("star", "heart") | {"heart/broken.jpg": b"not a picture"}))
    newcomer.sees("data.skipped", count=1).click()
    newcomer.page.get_by_text("heart/broken.jpg").locator("visible=true").first.wait_for()
    newcomer.train()


def test_find_why_two_classes_are_mixed_up_and_put_one_label_right(newcomer: Newcomer, tmp_path: Path) -> None:
    wrong = {f"circle/wrong-{seed}.jpg": picture(seed, shape="star") for seed in (90, 91)}
    newcomer.give(zipped(tmp_path / "mixed.zip", shapes("star", "circle", count=24) | wrong))
    newcomer.train()
    newcomer.press("results.cell", truth="circle", predicted="star", count=2)
    newcomer.page.get_by_text("circle/wrong-90.jpg").locator("visible=true").first.wait_for()
    newcomer.press("results.is", label="star")
    newcomer.sees("results.changed", count=1)
    newcomer.press("results.retrain")
    newcomer.page.get_by_role("button", name=newcomer.words["nav.to_results"], exact=True).click(timeout=_TRAINED)
    newcomer.sees("results.headline")
    newcomer.page.get_by_role(
        "button", name=say(newcomer.language, "results.cell", truth="circle", predicted="star", count=1), exact=True
    ).first.wait_for()


@pytest.mark.slow
def test_recognise_a_folder_of_pictures_into_a_table(newcomer: Newcomer, tmp_path: Path) -> None:
    newcomer.press("opening.first")
    newcomer.train()
    newcomer.press("nav.to_use")
    newcomer.page.get_by_role("tab", name=newcomer.words["use.many"]).click()
    new = {f"holiday/{at}.jpg": picture(900 + at, shape=shape) for at, shape in enumerate(("star", "heart", "square"))}
    newcomer.give(zipped(tmp_path / "holiday.zip", new))
    button = newcomer.page.get_by_role("link", name=newcomer.words["use.csv"]).or_(
        newcomer.page.get_by_role("button", name=newcomer.words["use.csv"])
    )
    button.first.wait_for(timeout=_TRAINED)
    with newcomer.page.expect_download() as waiting:
        button.first.click()
    rows = list(csv.reader(Path(waiting.value.path()).read_text(encoding="utf-8-sig").splitlines()))
    assert [row[1] for row in rows[1:]] == ["star", "heart", "square"]


@pytest.mark.slow
def test_push_to_the_hub_with_a_wrong_token_and_then_a_right_one(newcomer: Newcomer, app: App) -> None:
    name = f"shapes-by-{newcomer.language}"
    newcomer.press("opening.first")
    newcomer.train()
    newcomer.press("nav.to_use")
    newcomer.page.get_by_role("button", name=newcomer.words["share.title"]).click()
    for token, told in ((READ, "error.token_read_only"), (GOOD, "share.done")):
        newcomer.page.get_by_label(newcomer.words["share.name"]).fill(name)
        newcomer.page.get_by_label(newcomer.words["share.token"]).fill(token)
        newcomer.press("share.push")
        newcomer.sees(told)
    assert "model.safetensors" in app.hub.repos[f"alice/{name}"].files
