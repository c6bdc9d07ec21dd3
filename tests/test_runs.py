"""The runs a browser remembers: found by their keys only, renamed, deleted for good, compared, and there after a
reload."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser import CHROMIUM, App, opened, train_on_page
from tests.conftest import Zipper
from tl_core.data.imageset import ImageSet
from tl_core.jobs.janitor import sweep
from tl_core.jobs.recovery import job_of
from tl_core.jobs.runs import Request, RunFolder, new_key
from tl_core.jobs.store import Store
from tl_core.jobs.worker import take, work
from tl_core.settings import Settings
from tl_core.training.plan import Plan, Wishes
from tl_ui import remembered
from tl_ui.remembered import EMPTY, MOST, afresh, restored, with_run, without_run
from tl_ui.runs_view import Row, View, comparison_html, list_html, strip_of
from tl_ui.workspace import Workspace

PLAN = Plan(Wishes(), "built_in", "auto", 1.0)
HOSTILE = '<img src=x onerror="window.hit=1">'


@pytest.fixture
def images(make_zip: Zipper, read_set: Callable[[Path], ImageSet]) -> ImageSet:
    return read_set(make_zip({"star": 12, "circle": 12}))


def begun(settings: Settings, images: ImageSet) -> tuple[str, RunFolder]:
    key = new_key()
    run = RunFolder.create(settings, key, Request(str(images.folder), PLAN))
    job = job_of(run)
    assert job is not None
    Store(settings).restore(job)
    return key, run


def test_a_run_that_is_removed_is_gone_with_everything(images: ImageSet, settings: Settings) -> None:
    key, run = begun(settings, images)
    assert take(run, settings) == "over"
    workspace = Workspace(settings)
    assert workspace.report(key) is not None
    workspace.remove_run(key)
    assert not run.path.exists() and workspace.run(key) is None and workspace.report(key) is None
    workspace.remove_run(key)  # twice, or a key of nothing, is no mistake


def test_a_queued_run_that_is_removed_is_never_begun(images: ImageSet, settings: Settings) -> None:
    key, run = begun(settings, images)
    workspace = Workspace(settings)
    workspace.remove_run(key)
    assert not run.path.exists() and workspace.store.waiting() == [] and workspace.store.all() == []
    assert take(run, settings) == "over" and not run.path.exists()


def test_a_run_under_way_is_stopped_before_it_is_removed(images: ImageSet, settings: Settings) -> None:
    key, run = begun(settings, images)
    workspace = Workspace(settings)
    assert run.claim()
    workspace.remove_run(key)
    assert workspace.run(key) is None, "gone for the page at once"
    assert run.stop_asked() and run.path.exists() and workspace.store.waiting() == []
    work(run, settings)  # the worker's steps from here on, until it lets go
    run.release()
    end = time.monotonic() + 10
    while run.path.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_a_crash_left_of_a_removed_run_goes_with_the_sweep(images: ImageSet, settings: Settings) -> None:
    _, run = begun(settings, images)
    assert run.claim() and not RunFolder(run.path).remove()
    assert sweep(settings, Store(settings)) == 0 and run.path.exists()  # somebody still works on it
    run.release()
    assert sweep(settings, Store(settings)) == 1 and not run.path.exists()


def test_names_are_plain_and_short(images: ImageSet, settings: Settings) -> None:
    _, run = begun(settings, images)
    assert run.name() == ""
    run.rename("  ants\u202e and\nbees " + "x" * 200)
    assert run.name().startswith("ants and bees x") and len(run.name()) == 80


def test_a_browser_remembers_its_runs_and_nobody_elses(images: ImageSet, settings: Settings) -> None:
    workspace, memory = Workspace(settings), EMPTY
    made = [begun(settings, images)[0] for _ in range(MOST + 2)]
    for key in made:
        memory = with_run(memory, key)
    assert memory["runs"] == made[2:] and memory["run"] == made[-1]
    workspace.remove_run(made[5])
    found = restored(workspace, memory)
    assert found["runs"] == [*made[2:5], *made[6:]]
    assert afresh(found)["runs"] == found["runs"] and afresh(found)["run"] == ""
    for nonsense in (None, "x", [None, 5, {}, "../x", new_key()], {"a": 1}):
        assert restored(workspace, {"runs": nonsense, "sets": nonsense})["runs"] == []
    assert restored(workspace, {"run": made[3]})["runs"] == [made[3]], "from before runs were remembered"


def test_an_earlier_run_comes_with_its_own_set_or_with_none(settings: Settings, make_zip: Zipper) -> None:
    workspace = Workspace(settings)
    sets = []
    for name in ("one.zip", "two.zip"):
        sets.append(workspace.sets.take([(name, make_zip({"star": 6, "heart": 6}, name))], name))
    end = time.monotonic() + 60
    while any(workspace.sets.images(key) is None for key in sets) or workspace.sets.busy:
        assert time.monotonic() < end
        time.sleep(0.05)
    memory, runs = EMPTY, []
    for key in sets:
        run = workspace.start(key, Wishes())
        assert run is not None
        runs.append(run)
        memory = with_run({**memory, "set": key}, run)
    back = remembered.opened(workspace, memory, runs[0])
    assert back["run"] == runs[0] and back["set"] == sets[0] and back["sets"][-1] == sets[1]
    assert remembered.opened(workspace, {"set": sets[1]}, runs[0])["set"] == ""
    named = workspace.run(runs[0])
    assert named is not None and named.name() == "one.zip"
    left = without_run(workspace, {**memory, "base": runs[1]}, runs[1])
    assert left["runs"] == [runs[0]] and left["run"] == "" and left["base"] == ""
    workspace.sets.close()


def test_hostile_names_are_text_in_the_list(images: ImageSet) -> None:
    row = Row("a" * 32, HOSTILE, "2026-01-01T10:00:00+00:00", True, None, strip_of(images), True)
    html = list_html([row, row], View(), "", "en")
    assert "<img src=x" not in html and "&lt;img src=x" in html and html.count("data:image/jpeg") == 2


def test_a_comparison_of_what_is_gone_says_so(images: ImageSet, settings: Settings) -> None:
    key, run = begun(settings, images)
    assert take(run, settings) == "over"
    assert "no two results" in comparison_html(Workspace(settings), [key, new_key(), "", "../x"], "en")


def folders(app: App) -> list[Path]:
    return sorted(app.data.glob("runs/*"))


def train_twice(page: Any) -> None:
    """Two runs on the example, with the results of the later one shown; one alone is no list."""
    page.click("#example-shapes")
    train_on_page(page)
    page.click("#to-results")
    page.wait_for_selector(".tl-headline")
    assert not page.locator("#runs").is_visible()
    page.click("#back-to-train")
    page.click("#start")
    page.wait_for_selector("#stop:visible")
    page.wait_for_selector("#progress .tl-good:has-text('Done in')", timeout=90_000)
    page.click("#to-results")
    page.wait_for_selector("#runs:visible")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")
@pytest.mark.slow
def test_two_runs_are_compared_renamed_deleted_and_still_there_after_a_reload(context: Any, app: App) -> None:
    page = opened(context, app)
    before = set(folders(app))
    train_twice(page)
    page.click("#runs button")
    cards = page.locator("#runs-list .tl-cards > li")
    cards.nth(1).wait_for()
    assert cards.count() == 2 and "Shown now" in cards.nth(0).inner_text()
    assert "Right" in cards.nth(1).inner_text() and cards.nth(1).locator("img").count() == 1

    cards.nth(1).locator("summary").click()
    cards.nth(1).locator("input[name=to]").fill(HOSTILE)
    cards.nth(1).get_by_role("button", name="Rename").click()
    page.wait_for_selector(f"#runs-list b:text-is('{HOSTILE}')")

    page.click("#runs-list [data-act=compare]")
    page.wait_for_selector("text=Tick at least two")
    for at in range(2):
        cards.nth(at).locator("input[name=run]").check()
    page.click("#runs-list [data-act=compare]")
    page.wait_for_selector("#runs-list h3:has-text('Side by side')")
    told = page.inner_text("#runs-list")
    assert "that both were tested on" in told and "No difference" in told and "very same pictures" in told

    cards.nth(1).get_by_role("button", name="Show this one").click()
    page.wait_for_selector("#runs-list .tl-cards > li:nth-child(2):has-text('Shown now')")
    page.reload()
    page.wait_for_selector("#runs:visible")
    page.click("#runs button")
    page.wait_for_selector("#runs-list .tl-cards > li:nth-child(2):has-text('Shown now')")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("window.hit") is None

    made = set(folders(app)) - before
    assert len(made) == 2
    cards.nth(1).locator("summary").click()
    cards.nth(1).get_by_role("button", name="Delete").click()
    cards.nth(1).get_by_role("button", name="Keep it").click()
    cards.nth(1).get_by_role("button", name="Delete").click()
    cards.nth(1).get_by_role("button", name="Yes, delete it").click()
    page.wait_for_selector("#runs", state="hidden")
    page.wait_for_selector(".tl-headline")  # of the one that is left
    assert len(made & set(folders(app))) == 1
