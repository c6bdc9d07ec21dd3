"""Every word of the page is in words/: the real page with every one of them put in brackets; what is left between
brackets, once they are taken away, is a name, a number, or a word that slipped past."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import NEEDS_BROWSER, App, running

# The app, with brackets around everything that `table` gives for Chinese.
BRACKETED = """
from functools import cache
import tl_ui.words as words
plain = words.table
@cache
def bracketed(language):
    if language == "en":
        return plain(language)
    return {key: text if key == "language.name" else f"⟦{text}⟧" for key, text in plain(language).items()}
words.table = bracketed
import sys
sys.argv[0] = "app.py"
import app
app.main()
"""
# What people read, and what is read out to them.
READ = """() => {
  const said = [document.body.innerText];
  for (const one of document.querySelectorAll('[aria-label], [alt], [title], [placeholder]')) {
    if (!one.checkVisibility()) continue;
    for (const name of ['aria-label', 'alt', 'title', 'placeholder']) said.push(one.getAttribute(name) ?? '');
  }
  return said.join('\\n');
}"""
# Names: of the program and others', of the example's classes and files, of networks, programs, file kinds and licences.
NAMES = re.compile(
    r"[\w/]+-\d+\.jpg|Transfer Lab|English|Hugging Face|Hub|shapes(\.zip)?|circle|heart|square|star|triangle|user/name|"
    r"ants|bees|ResNet-\d+|[A-Z][A-Za-z]+(?:Net|ViT|NeXt|Former)[\w.-]*|px|zip|tar|JPEG|PNG|WebP|GIF|BMP|TIFF|AVIF|HEIC|CSV|"
    r"Apache|MIT|CC BY|[\w.-]+/[\w./-]+|"
    r"Click to upload or drop files"  # Gradio reads that out in every language
)


@pytest.fixture(scope="module")
def bracketed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("bracketed")
    with running(folder, command=(sys.executable, "-c", BRACKETED)) as app:
        yield app


def outside(page: Any) -> list[str]:
    """Words in Latin letters that stand in no bracket and are no names."""
    text = page.evaluate(READ)
    while (shorter := re.sub(r"⟦[^⟦⟧]*⟧", " ", text)) != text:
        text = shorter
    return re.findall(r"[A-Za-z]{3,}(?: [A-Za-z]+)*", NAMES.sub(" ", text))


@pytest.mark.browser
@pytest.mark.skipif(*NEEDS_BROWSER[1].args, reason=NEEDS_BROWSER[1].kwargs["reason"])
def test_no_word_of_the_page_is_anywhere_else(browser: Any, bracketed: App, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="zh-CN")
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.goto(bracketed.url)
    page.locator(".tl-sample").first.click()
    page.wait_for_selector(".tl-said-digit", timeout=90_000)
    found = {"start": outside(page)}
    for at, name in ((1, "camera"), (2, "hub")):
        page.locator("#sources [role=tab]").nth(at).click()
        page.wait_for_timeout(500)
        found[name] = outside(page)
    page.locator("#sources [role=tab]").nth(0).click()
    page.click("#example-shapes")
    page.wait_for_selector("#to-train:visible", timeout=60_000)
    page.wait_for_selector("#understood [data-act=look]", timeout=60_000)
    page.locator("#understood [data-act=look]").first.click()
    page.locator("#understood details summary").first.click()
    page.wait_for_timeout(500)
    found["data"] = outside(page)
    page.click("#to-train")
    page.wait_for_selector("#estimate strong")
    page.click("#advanced button")
    found["train"] = outside(page)
    page.click("#start")
    page.wait_for_selector("#lessons summary", timeout=90_000)
    page.wait_for_selector("#to-results:visible", timeout=90_000)
    page.click("#lessons summary")
    found["trained"] = outside(page)
    page.click("#to-results")
    page.wait_for_selector("#details .tl-confusion")
    page.locator("#details .tl-cell").first.click()
    for summary in page.locator("#details summary").all():
        summary.click()
    page.wait_for_timeout(500)
    found["results"] = outside(page)
    page.click("#to-use")
    page.wait_for_selector("#download:visible")
    for accordion in ("#exports", "#share", "#share-more", "#your-data"):
        page.locator(f"{accordion} button").first.click()
    page.wait_for_timeout(500)
    found["use"] = outside(page)
    page.locator("[role=tab] >> visible=true").last.click()
    page.wait_for_timeout(500)
    found["many"] = outside(page)
    context.close()
    left = "\n".join(f"{screen}: {sorted(set(words))}" for screen, words in found.items() if words)
    assert not left, left
