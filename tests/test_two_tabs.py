"""A run belongs to nobody's tab (case 109): pages come, go, go back and lose their network while it is trained."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.browser import NEEDS_BROWSER, App, opened, upload
from tests.conftest import Zipper
from tests.test_page import advanced, choose
from tl_core.jobs.runs import EventLog

pytestmark = NEEDS_BROWSER


def folders(app: App) -> set[Path]:
    return set(app.data.glob("runs/*"))


def events_of(run: Path) -> int:
    return len(EventLog(run).new())


def goes_on(run: Path, since: int) -> None:
    """Wait until more has happened in the run than at `since`."""
    until = time.monotonic() + 30
    while events_of(run) <= since:
        assert time.monotonic() < until, "nothing happens any more"
        time.sleep(0.1)


def following(page: Any) -> None:
    """The page shows a training that goes on, as it goes on."""
    page.wait_for_selector("#progress .now", timeout=60_000)
    page.wait_for_selector("#stop:visible")
    before = page.inner_text("#progress")
    page.wait_for_function("before => document.querySelector('#progress').innerText !== before", arg=before)


@pytest.fixture
def training(context: Any, app: App, make_zip: Zipper) -> tuple[Any, Path]:
    """A page whose training takes a while, and the run's folder."""
    page, before = opened(context, app), folders(app)
    upload(page, make_zip({"star": 60, "circle": 60}))
    page.click("#to-train", timeout=90_000)
    page.wait_for_selector("#estimate:has-text('on this computer')")
    advanced(page, epochs=40)
    choose(page, "strategy", "Everything (end to end)")
    choose(page, "image-size", "128 px")
    page.wait_for_selector("#estimate:has-text('in 40 round')")
    page.click("#start")
    page.wait_for_function(
        r"/round by round\s+\d+ \/ /.test(document.querySelector('#progress').innerText)", timeout=150_000
    )
    (run,) = folders(app) - before
    return page, run


@pytest.mark.slow
def test_case_109_reloads_closed_tabs_and_a_lost_network_leave_one_training_that_ends(
    context: Any, app: App, training: tuple[Any, Path]
) -> None:
    page, run = training
    others = folders(app) - {run}
    seen = events_of(run)
    page.reload()
    following(page)

    page.goto("about:blank")
    page.go_back()
    following(page)

    second = opened(context, app)  # beside the first
    following(second)
    page.close()
    following(second)

    context.set_offline(True)
    goes_on(run, events_of(run))
    second.wait_for_timeout(5_000)
    context.set_offline(False)
    third = opened(context, app)  # what one does when a page looks dead
    following(third)

    second.close()
    third.close()
    goes_on(run, max(seen, events_of(run)))  # nobody is there
    last = opened(context, app)
    following(last)
    last.click("#stop")
    last.wait_for_selector("#progress:has-text('The model made so far is kept')", timeout=60_000)
    for page in (last, opened(context, app)):
        page.click("#to-results")
        page.wait_for_selector(".tl-headline")
    assert folders(app) - {run} == others, "one run, however many pages"
    assert len(list((app.data / "workers").glob("*"))) <= 1


@pytest.mark.slow
def test_case_109_two_clicks_are_one_training(context: Any, app: App) -> None:
    page, before = opened(context, app), folders(app)
    page.click("#example-shapes")
    page.click("#to-train")
    page.wait_for_selector("#estimate:has-text('on this computer')")
    page.dblclick("#start")
    page.wait_for_selector("#to-results:visible", timeout=90_000)
    page.wait_for_timeout(500)
    assert len(folders(app) - before) == 1
