"""What is kept of a visitor, shown to them, and deleted by them, in a real browser."""

import json
from typing import Any

from tests.browser import NEEDS_BROWSER, App, opened, train_on_page, upload
from tests.conftest import Zipper
from tests.pace import until
from tl_core.jobs.runs import hashed
from tl_core.settings import Settings

pytestmark = NEEDS_BROWSER


def test_case_129_a_visitor_sees_what_is_kept_and_deletes_all_of_it(context: Any, app: App, make_zip: Zipper) -> None:
    settings = Settings(data_dir=app.data)

    def folders() -> set[str]:
        """Of sets and runs, without those of the example on the first screen."""
        example = app.data / "example.json"
        keys = json.loads(example.read_text()).values() if example.exists() else ()
        found = {path.name for parent in (settings.sets_dir, settings.runs_dir) for path in parent.glob("*")}
        return found - {hashed(key) for key in keys}

    before = folders()
    page = opened(context, app)
    upload(page, make_zip({"stars": 8, "circles": 8}))
    train_on_page(page)
    address = page.evaluate("() => JSON.stringify(localStorage)")
    assert "transfer-lab" in address
    page.click("#your-data button")
    page.wait_for_selector("#your-data-list:has-text('1 set of pictures and 1 model')")
    assert "72 hours" in page.inner_text("#your-data-list")
    page.click("#your-data-list [data-act=ask]")
    page.click("#your-data-list [data-act=keep]")
    page.click("#your-data-list [data-act=ask]")
    page.click("#your-data-list [data-act=delete]")
    page.wait_for_selector("#your-data-list:has-text('has been deleted')")
    page.wait_for_selector("#steps [role=tab][aria-selected=true]:has-text('1')")
    page.wait_for_selector("#to-train", state="hidden")
    until(lambda: not folders() - before)
    page.reload()
    page.wait_for_selector("#upload input[type=file]", state="attached")
    page.wait_for_timeout(500)
    assert page.query_selector("#to-train:visible") is None
