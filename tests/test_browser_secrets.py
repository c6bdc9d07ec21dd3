"""What a browser keeps, what an address opens, and what strangers' names do to a page: the real app, a real Chromium.

Case 77 (where a token stays), 94 (addresses of files), 130 (told what a restart loses), 70 and 71 on every screen that
came since the first ones.
"""

import contextlib
import csv
import io
import re
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import NEEDS_BROWSER, App, opened, train_on_page, upload
from tests.conftest import picture
from tests.hub_stand_in import GOOD, READ
from tests.test_bundle import made
from tests.test_page import DATABASES
from tests.test_secrets import forms
from tl_core.bundle.files import to_zip
from tl_core.settings import Settings
from tl_ui.page import build, translations
from tl_ui.workspace import Workspace

pytestmark = NEEDS_BROWSER

NAMES = (
    "<img id=tlhit src=x onerror=window.hit=1>",
    "<script>window.hit=1</script>",
    "[x](javascript:window.hit=1)",
    "![](http://127.0.0.1:9/t.png)",
    "<form id=tlhit action=http://127.0.0.1:9>",
    "<div id=tlhit style=position:fixed;inset:0>",
    "{{7*7}} ${7*7} $\\frac{",
    "a\n---\n# b " + "c" * 80,  # a table with longer ones is taken for no classes
)
# None of what those names would make, wherever on the page, and no script of theirs has run.
HARMLESS = """() => window.hit === undefined && !document.querySelector(
  '[id^=tlhit], form[action*="127.0.0.1:9"], a[href^="javascript"], img[src*="127.0.0.1:9"], img[src="x"]')"""


@contextlib.contextmanager
def browsing(browser: Any, app: App, **profile: Any) -> Iterator[Any]:
    """A profile of its own, as the fixture `context`: no request leaves the app."""
    fresh = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US", **profile)
    fresh.set_default_timeout(60_000)
    elsewhere: list[str] = []
    ours = (app.url, "data:", "blob:")
    fresh.on("request", lambda asked: None if asked.url.startswith(ours) else elsewhere.append(asked.url))
    try:
        yield fresh
    finally:
        fresh.close()
    assert elsewhere == []


def hostile_zip(folder: Path) -> Path:
    """Pictures whose classes, which a table tells, and whose own names are all hostile."""
    told = io.StringIO()
    rows = csv.writer(told)
    rows.writerow(["file", "class"])
    path = folder / "hostile.zip"
    with zipfile.ZipFile(path, "w") as out:
        for number, name in enumerate(NAMES):
            for seed in range(5):
                file = f"{seed}{number} <img id=tlhit src=x onerror=window.hit=1>.jpg"
                out.writestr(file, picture(10 * number + seed, shape=("star", "circle")[number % 2], size=(96, 96)))
                rows.writerow([file, name])
        out.writestr("<b id=tlhit>notes.txt", b"no picture")
        out.writestr("labels.csv", told.getvalue())
    return path


@pytest.fixture(scope="module")
def owner(browser: Any, app: App, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a browser remembers that has trained twice on such pictures; step 1 and 2 are looked at on the way."""
    with browsing(browser, app) as context:
        page = opened(context, app)
        upload(page, hostile_zip(tmp_path_factory.mktemp("hostile")))
        page.wait_for_selector("#to-train:visible")
        assert f"{len(NAMES)} classes" in page.inner_text("#understood") and page.evaluate(HARMLESS)
        train_on_page(page)
        assert page.evaluate(HARMLESS)
        page.click("#start")
        page.wait_for_selector("#stop:visible")
        page.wait_for_selector("#progress .tl-good:has-text('Done in')", timeout=90_000)
        return context.storage_state()


def at_results(context: Any, app: App) -> Any:
    page = opened(context, app)
    page.click("#to-results")
    page.wait_for_selector(".tl-headline")
    return page


def kept_by(page: Any) -> str:
    """All that the browser holds for this page, also what its boxes and its history say."""
    said = page.evaluate(
        """async () => JSON.stringify([Object.entries(localStorage), Object.entries(sessionStorage), document.cookie,
          location.href, history.state, window.name, await caches.keys(),
          [...document.querySelectorAll('input, textarea')].map((box) => box.value)]) + document.body.outerHTML"""
    )
    return said + page.evaluate(DATABASES) + str(page.context.cookies()) + str(page.context.storage_state())


@pytest.mark.slow
def test_case_77_a_token_that_was_typed_is_nowhere_in_the_browser(browser: Any, app: App, owner: Any) -> None:
    with browsing(browser, app, storage_state=owner) as context:
        asked: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        page = at_results(context, app)
        page.click("#to-use")
        page.click("#share button")
        page.fill("#share-name input, #share-name textarea", "once")
        for token, told in ((READ, "may only read"), (GOOD, "alice/once")):  # refused, then taken
            page.fill("#share-token input", token)
            page.click("#share-push")
            page.wait_for_selector(f"#share-done:has-text('{told}')")
            page.wait_for_function("document.querySelector('#share-token input').value === ''")
            page.wait_for_selector("#share-push:not([disabled])")
        assert app.hub.repos["alice/once"].files
        kept = [kept_by(page)]
        page.reload()
        page.wait_for_selector("#download:visible")
        kept.append(kept_by(page))
        page.go_back()
        kept.append(kept_by(opened(context, app)))
        assert all(len(text) > 1_000 and '"transfer-lab"' in text.replace("\\", "") for text in kept)
        for token in (READ, GOOD):
            secrets = [form.decode() for form in forms(token)]
            assert not [one for text in (*kept, *asked) for one in secrets if one in text]


def served(address: str) -> int:
    """The status that a stranger without cookies gets."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


ADDRESSES = """() => [...document.querySelectorAll('a[href], img[src], source[src]')]
  .map((one) => one.href || one.src).filter((address) => address.includes('file='))"""


def files_of(page: Any, folder: Path) -> set[str]:
    """The addresses of all that the page hands out of a run: model, report, table of answers, sorted zip."""
    found = set(page.evaluate(ADDRESSES))
    page.click("#to-use")
    page.wait_for_selector("#download:not([disabled])")
    page.get_by_role("tab", name="Many pictures").click()
    files = []
    for seed in range(2):
        files.append(folder / f"{seed}.jpg")
        files[-1].write_bytes(picture(seed, shape="star"))
    page.set_input_files("#many-upload input[type=file]", [str(file) for file in files])
    page.wait_for_selector("#many-answers table")
    for button in ("#download", "#csv"):
        with page.expect_download() as waiting:
            page.click(button)
        found.add(waiting.value.url)
    return {address for address in (found | set(page.evaluate(ADDRESSES))) if "/exports/" in address}


@pytest.mark.slow
def test_case_94_addresses_of_a_runs_files_are_secret_and_die_with_the_run(
    browser: Any, app: App, tmp_path: Path
) -> None:
    with browsing(browser, app) as context:
        page = opened(context, app)
        before, ids = set(app.data.glob("runs/*")), []
        for name in ("one", "two"):  # one run alone is no list
            made(tmp_path / name, ("ants", "bees"))
            if not page.is_visible("#open-file"):
                page.click("#open button")
            page.set_input_files("#open-file input[type=file]", str(to_zip(tmp_path / name, tmp_path / f"{name}.zip")))
            page.wait_for_selector(f"#open-file:has-text('{name}')")
            page.click("#open-open")
            page.wait_for_selector("#download:not([disabled]):visible")
            (new,) = set(app.data.glob("runs/*")) - before
            before.add(new)
            ids.append(new.name)
            if name == "one":
                page.click("#start-over")
                page.wait_for_selector("#open button:visible")
                page.reload()
                page.wait_for_selector("#upload input[type=file]", state="attached")
        page.click("#back-to-results")
        page.wait_for_selector(".tl-headline:visible")
        with page.expect_download() as waiting:
            page.click("#report")
        addresses = {waiting.value.url, *files_of(page, tmp_path)}
        assert len(addresses) >= 3 and {served(one) for one in addresses} == {200}
        secrets = [re.findall(r"/([A-Za-z0-9_-]{22}|[0-9a-f]{32})/", one) for one in addresses]
        assert all(secrets), "each has a part of 128 random bits"

        with browsing(browser, app) as strangers:
            theirs = opened(strangers, app)
            seen = theirs.content() + theirs.evaluate("fetch('config').then((answer) => answer.text())")
            seen += app.log.read_text()
        assert not [one for found in secrets for one in found if one in seen]
        for folder in ("web", "web/exports", f"web/exports/{ids[1]}", f"runs/{ids[1]}", "runs"):
            assert served(f"{app.url}gradio_api/file={app.data / folder}") in (403, 404)

        page.click("#back-to-results")
        page.click("#runs button")
        card = page.locator("#runs-list li:has-text('Shown now')")
        card.locator("summary").click()
        card.get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Yes, delete it").click()
        page.wait_for_function("!document.querySelector('#runs-list [data-act=delete]')")
        page.wait_for_timeout(300)
        assert not (app.data / "runs" / ids[1]).exists() and (app.data / "runs" / ids[0]).exists()
        assert {served(one) for one in addresses} <= {403, 404}
        assert not [file for file in app.data.rglob("*") if ids[1] in str(file)]


@pytest.mark.slow
def test_case_70_and_71_hostile_names_are_text_on_every_screen_of_a_result(
    browser: Any, app: App, owner: Any, tmp_path: Path
) -> None:
    with browsing(browser, app, storage_state=owner) as context:
        page = at_results(context, app)
        page.locator("#details .tl-cell").first.click()
        page.wait_for_selector("#details section[data-key=cell]")
        assert NAMES[0] in page.inner_text("#details") and page.evaluate(HARMLESS)
        suspects = page.locator("#suspects .tl-judged > li, #details .tl-judged > li")
        if suspects.count():  # the card to put a mistake right, and what follows from that
            suspects.nth(0).get_by_role("button", name="Leave it out").click()
            page.wait_for_selector("#retrain:visible")
            assert page.evaluate(HARMLESS)
        with page.expect_download() as waiting:
            page.click("#report")
        report = Path(waiting.value.path()).read_text(encoding="utf-8")

        page.click("#runs button")
        cards = page.locator("#runs-list .tl-cards > li")
        for at in range(2):
            cards.nth(at).locator("input[name=run]").check()
        page.click("#runs-list [data-act=compare]")
        page.wait_for_selector("#runs-list h3:has-text('Side by side')")
        assert page.evaluate(HARMLESS)

        page.click("#to-use")
        page.get_by_role("tab", name="Many pictures").click()
        many = tmp_path / "many.zip"
        with zipfile.ZipFile(many, "w") as out:
            for seed, name in enumerate(NAMES[:-1]):
                out.writestr(f"{name.replace('/', '|')}.jpg", picture(seed, shape="star"))
            out.writestr(NAMES[0], b"no picture")
        page.set_input_files("#many-upload input[type=file]", str(many))
        page.wait_for_selector("#many-answers table")
        assert f"{NAMES[0]}.jpg" in page.inner_text("#many-answers") and page.evaluate(HARMLESS)

        page.set_content("<!DOCTYPE html>" + report)
        assert NAMES[0] in page.inner_text("main") and page.evaluate(HARMLESS)


def shown_in_steps(settings: Settings) -> dict[str, tuple[int, bool]]:
    """For each part of the page with a name: its step (0 for none), and whether it is folded away."""
    page = build(Workspace(settings), translations(settings)).get_config_file()
    parts = {part["id"]: part for part in page["components"]}
    found = {}

    def walk(at: dict[str, Any], step: int, folded: bool) -> None:
        part = parts.get(at["id"], {"type": "", "props": {}})
        if part["type"] == "walkthroughstep":
            step += part["props"]["id"]
        folded = folded or part["type"] == "accordion" or part["props"].get("visible") is False
        if name := part["props"].get("elem_id"):
            found[name] = (step, folded)
        for below in at.get("children") or ():
            walk(below, step, folded)

    walk(page["layout"], 0, False)
    return found


def test_case_130_a_space_without_a_disk_of_its_own_says_so_before_training(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SYSTEM", raising=False)
    assert "forgetful" not in shown_in_steps(settings)
    monkeypatch.setenv("SYSTEM", "spaces")
    shown = shown_in_steps(settings)
    assert shown["start"] == (2, False) == shown["forgetful"], "beside Start, not folded away"
    assert shown["download"] == (4, False), "a finished run offers its model"


TYPED = "<form id=tlhit>a</form><a href=https://evil.example id=tlhit>log in</a>"


def test_case_70_what_a_toast_repeats_is_text(browser: Any, app: App) -> None:
    """Gradio draws toasts as HTML."""
    with browsing(browser, app) as context:
        page = opened(context, app)
        page.click("#open button")
        page.fill("#open-repo input, #open-repo textarea", TYPED)
        page.click("#open-open")
        page.wait_for_selector("[data-testid=toast-text]")
        assert page.evaluate(HARMLESS)
        assert "<form" in page.inner_text("[data-testid=toast-text]").replace("\u200b", "")


@pytest.mark.slow
def test_case_70_what_the_estimate_repeats_is_text(browser: Any, app: App) -> None:
    """Gradio draws the estimate as Markdown."""
    with browsing(browser, app) as context:
        page = opened(context, app)
        page.click("#example-shapes")
        page.click("#to-train")
        page.wait_for_selector("#estimate:has-text('on this computer')")
        if not page.locator("#strategy input").is_visible():
            page.click("#advanced button")
        page.fill("#backbone input", TYPED)
        page.keyboard.press("Enter")
        page.wait_for_selector("#estimate:has-text('no backbone called')")
        assert page.evaluate(HARMLESS) and "<form" in page.inner_text("#estimate").replace("\u200b", "")
