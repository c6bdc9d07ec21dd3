"""What a page for everybody has to keep on every screen, and what a first visit is like: quick, calm, alive, in the
visitor's language, told when it is done, found again by a link."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import NEEDS_BROWSER, App, opened, train_on_page, upload
from tests.conftest import Zipper
from tl_ui.words import table

pytestmark = NEEDS_BROWSER
FIRST_LOAD_MB, USABLE_SECONDS, SHIFT = 4.0, 10.0, 0.1
# How far things moved by themselves, as browsers count it (https://web.dev/articles/cls).
COUNT_SHIFTS = """window.shifted = 0; new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
}).observe({ type: 'layout-shift', buffered: true });"""
LOADED_BYTES = """() => performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))
  .reduce((sum, entry) => sum + entry.transferSize, 0)"""
STROKES = {
    "1": [[(0.5, 0.1), (0.5, 0.9)]],
    "7": [[(0.25, 0.15), (0.75, 0.15), (0.45, 0.9)]],
    "0": [[(0.5, 0.1), (0.25, 0.3), (0.2, 0.6), (0.35, 0.88), (0.6, 0.88), (0.78, 0.6), (0.72, 0.3), (0.5, 0.1)]],
    "4": [[(0.6, 0.1), (0.22, 0.6), (0.82, 0.6)], [(0.6, 0.35), (0.6, 0.92)]],
}


def seen(page: Any, screen: str, width: int) -> None:
    """Nothing serious by axe-core's rules, and nothing wider than the screen."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.wait_for_timeout(400)  # what fades in has no colours to judge yet
    found = [v for v in axe.run(page).response["violations"] if v["impact"] in ("serious", "critical")]
    told = [(v["id"], v["help"], [node["html"][:200] for node in v["nodes"][:3]]) for v in found]
    assert not found, f"{screen}: {told}"
    assert page.evaluate("document.documentElement.scrollWidth") <= width, screen


@pytest.mark.parametrize(
    ("width", "locale", "scheme"),
    [
        (390, "zh-CN", "dark"),
        pytest.param(1280, "en-US", "light", marks=pytest.mark.slow),
        pytest.param(820, "en-US", "dark", marks=pytest.mark.slow),
        pytest.param(820, "zh-CN", "light", marks=pytest.mark.slow),
    ],
)
def test_every_screen_is_for_everybody(browser: Any, app: App, width: int, locale: str, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, locale=locale, color_scheme=scheme)
    context.set_default_timeout(30_000)
    page = opened(context, app)
    page.locator(".tl-sample").first.click()
    page.wait_for_selector(".tl-said-digit", timeout=90_000)
    seen(page, "start", width)
    page.locator("#sources [role=tab]").nth(1).click()
    page.wait_for_selector("#builder .tl-class")
    seen(page, "camera", width)
    page.locator("#sources [role=tab]").nth(0).click()
    page.click("#example-textures")
    page.wait_for_selector("#to-train:visible")
    seen(page, "data", width)
    page.click("#to-train")
    page.wait_for_selector("#estimate strong")
    page.click("#advanced button")
    seen(page, "train", width)
    page.click("#start")
    page.wait_for_selector("#to-results:visible", timeout=90_000)
    page.wait_for_selector("#lessons summary")
    page.click("#lessons summary")
    seen(page, "trained", width)
    page.click("#to-results")
    page.wait_for_selector("#details .tl-confusion")
    page.locator("#details .tl-cell").first.click()
    page.wait_for_selector("#details section[data-key=cell] img")
    seen(page, "results", width)
    page.click("#to-use")
    page.wait_for_selector("#download:visible")
    page.click("#exports button")
    page.click("#share button")
    seen(page, "use", width)
    context.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_first_load_is_small_quick_and_calm(browser: Any, app: App, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, locale="en-US")
    context.add_init_script(COUNT_SHIFTS)
    page = opened(context, app)
    usable = page.evaluate("performance.now()") / 1000
    page.wait_for_timeout(2500)
    megabytes, shifted = page.evaluate(LOADED_BYTES) / 1e6, page.evaluate("window.shifted")
    assert megabytes <= FIRST_LOAD_MB and usable <= USABLE_SECONDS and shifted <= SHIFT, (megabytes, usable, shifted)
    context.close()


def test_who_is_quicker_than_the_page_loses_nothing(browser: Any, app: App, make_zip: Zipper) -> None:
    """What the server remembers of a browser comes after the browser has sent pictures: those count."""
    context = browser.new_context(locale="en-US")
    page, held = context.new_page(), []

    def hold(route: Any) -> None:
        asked = route.request.post_data_json["data"]
        if not held and len(asked) == 1 and "owner" in asked[0]:  # the question what is still there
            held.append(route)
        else:
            route.continue_()

    page.route("**/queue/join*", hold)
    page.goto(app.url)
    page.wait_for_selector("#upload input[type=file]", state="attached")
    upload(page, make_zip({"star": 6, "heart": 6}))
    page.wait_for_selector("#to-train:visible", timeout=60_000)
    assert len(held) == 1
    held[0].continue_()
    page.wait_for_timeout(3_000)
    assert page.is_visible("#to-train") and page.is_visible("#understood")
    page.reload()
    page.wait_for_selector("#to-train:visible", timeout=60_000)
    context.close()


def test_the_finished_model_reads_what_is_drawn_and_works_without_a_mouse(context: Any, app: App) -> None:
    page = opened(context, app)
    right = 0
    for digit, strokes in STROKES.items():
        page.locator("#draw button:has-text('Clear')").click()
        box = page.locator("#draw .tl-pad").bounding_box()
        for stroke in strokes:
            points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
            page.mouse.move(*points[0])
            page.mouse.down()
            for point in points[1:]:
                page.mouse.move(*point, steps=8)
            page.mouse.up()
        page.wait_for_selector(".tl-said-digit", timeout=90_000)
        page.wait_for_function("document.querySelector('#draw .tl-part').getAttribute('aria-busy') === 'false'")
        right += page.inner_text(".tl-said-digit") == digit
    assert right >= 3
    page.locator("#draw button:has-text('Clear')").click()
    for _ in range(2):  # the same answer twice is shown twice
        page.focus("#draw .tl-sample >> nth=1")
        page.keyboard.press("Enter")
        page.wait_for_selector(".tl-said-digit:has-text('7')")
        page.wait_for_function("document.querySelector('#draw .tl-part').getAttribute('aria-busy') === 'false'")
        page.locator("#draw button:has-text('Clear')").click()
        assert not page.locator(".tl-said-digit").count()
    page.locator("#draw .tl-sample >> nth=1").click()
    page.wait_for_selector(".tl-said-digit:has-text('7')")
    assert "pictures in" in page.inner_text("#draw .tl-quiet")


@pytest.mark.parametrize(
    ("locale", "language"),
    [
        ("zh-HK", "zh"),
        pytest.param("zh-Hans-CN", "zh", marks=pytest.mark.slow),
        pytest.param("fr-FR", "en", marks=pytest.mark.slow),
        pytest.param("en-GB", "en", marks=pytest.mark.slow),
    ],
)
def test_the_page_comes_in_the_visitors_language_and_stays_in_the_one_chosen(
    browser: Any, app: App, locale: str, language: str
) -> None:
    other = {"en": "zh", "zh": "en"}[language]
    context = browser.new_context(locale=locale)
    page = opened(context, app)
    for now, then in ((language, other), (other, language)):
        words = table(now)
        page.wait_for_selector(f"#mine:has-text('{words['opening.mine']}')")
        assert page.locator("#opening h2 >> visible=true").first.inner_text() == words["opening.title"]
        page.click("#example-shapes")
        page.wait_for_selector(f"#understood:has-text('{words['understood.rename']}')", timeout=60_000)  # the server's
        if then == other:
            page.click(f"#top-bar [data-language={then}]")
            page.wait_for_selector(f"#to-train:has-text('{table(then)['nav.to_train']}')")
            page.wait_for_selector(f"#understood:has-text('{table(then)['understood.rename']}')")
            page.reload()
            page.wait_for_selector(f"#to-train:has-text('{table(then)['nav.to_train']}')")
            break
    assert page.get_attribute("html", "lang") == {"en": "en", "zh": "zh-CN"}[other]
    context.close()


@pytest.fixture
def hidden_window(browser: Any, app: App) -> Iterator[Any]:
    """A browser whose window is in the background, and that notes what it is told."""
    context = browser.new_context(locale="en-US", permissions=["notifications", "clipboard-read", "clipboard-write"])
    context.add_init_script(
        "Object.defineProperty(document, 'hidden', { get: () => true }); window.told = [];"
        "window.Notification = class { constructor(title, more) { told.push(more.body); }"
        "static permission = 'granted'; static requestPermission = async () => 'granted'; };"
    )
    yield context
    context.close()


@pytest.mark.slow
def test_who_looks_elsewhere_is_told_and_finds_the_training_again_by_its_link(
    hidden_window: Any, browser: Any, app: App
) -> None:
    page = opened(hidden_window, app)
    page.click("#example-digits")
    page.click("#to-train", timeout=60_000)
    page.wait_for_selector("#estimate strong")
    page.click("#start")
    page.get_by_label("Tell me when it is done").check()
    assert not page.get_by_label("With a sound").is_checked()
    page.wait_for_function("/^[0-9]+ % · Transfer Lab$/.test(document.title)")
    page.click("#waiting button:has-text('Copy a link')")
    page.wait_for_selector("#waiting p:has-text('Keep it to yourself')")
    link = page.evaluate("navigator.clipboard.readText()")

    elsewhere = browser.new_context(locale="en-US")
    other = elsewhere.new_page()
    asked: list[str] = []
    other.on("request", lambda request: asked.append(request.url + (request.post_data or "")[:0]))
    other.goto(link)
    other.wait_for_selector("#to-results:visible, .tl-headline:visible", timeout=90_000)
    key = link.split("=")[-1]
    assert not any(key in address for address in asked) and key not in other.url
    elsewhere.close()

    page.wait_for_selector("#to-results:visible", timeout=90_000)
    page.wait_for_function("told.length === 1 && told[0] === 'Your classifier is ready.'")
    assert page.title() == "✓ · Transfer Lab"


@pytest.mark.slow
def test_lessons_show_the_persons_own_pictures(context: Any, app: App) -> None:
    page = opened(context, app)
    page.click("#example-textures")
    train_on_page(page)
    page.click("#lessons summary")
    page.wait_for_selector("#lessons figure img")
    assert page.locator("#lessons figure").count() == 4 and "These examine (" in page.inner_text("#lessons")
