"""Step 3 in a real browser: a number opens its pictures, they are put right there, and what that brings is shown."""

import dataclasses
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.browser import NEEDS_BROWSER, App, opened, train_on_page, upload
from tests.conftest import Trained, picture
from tl_core.data.edits import Accept, Drop, Move
from tl_core.evaluation.answers import Answers
from tl_core.settings import Settings
from tl_ui import judged_view
from tl_ui.judged import FINE, State, View, asked, shown_pictures
from tl_ui.judged import opened as view_after
from tl_ui.parts.forms import Act
from tl_ui.run_report import Report
from tl_ui.workspace import Workspace

MIXED = ("star", "circle")


@pytest.fixture(scope="module")
def muddled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stars and circles, two stars among the circles."""
    path = tmp_path_factory.mktemp("muddled") / "muddled.zip"
    with zipfile.ZipFile(path, "w") as out:
        for shape in MIXED:
            for seed in range(24):
                out.writestr(f"{shape}/{seed:02}.jpg", picture(seed, shape=shape))
        for seed in (90, 91):
            out.writestr(f"circle/wrong-{seed}.jpg", picture(seed, shape="star"))
    return path


def trained_on(page: Any, file: Path) -> None:
    upload(page, file)
    train_on_page(page)
    page.click("#to-results")
    page.wait_for_selector("#details .tl-confusion")


@pytest.mark.browser
@pytest.mark.skipif(*NEEDS_BROWSER[1].args, reason=NEEDS_BROWSER[1].kwargs["reason"])
@pytest.mark.slow
def test_a_cell_is_opened_a_picture_put_right_and_the_next_training_compared(
    context: Any, app: App, muddled: Path
) -> None:
    page = opened(context, app)
    trained_on(page, muddled)
    assert "in 3 rounds" in page.inner_text("#headline") and "of your 50 pictures" in page.inner_text("#headline")
    suspects = page.locator("#suspects .tl-judged > li")
    assert {"circle/wrong-90.jpg", "circle/wrong-91.jpg"} <= set(suspects.locator("small").all_inner_texts()[:4])
    page.click("#details .tl-cell[aria-label='circle called star: 2']")
    cell = page.locator("#details section[data-key=cell] .tl-judged > li")
    cell.nth(1).wait_for()
    assert sorted(cell.locator("small").all_inner_texts()) == ["circle/wrong-90.jpg", "circle/wrong-91.jpg"]
    before = cell.nth(0).locator("img").get_attribute("src")
    page.locator("#details section[data-key=cell] [data-act=why]").click()
    page.wait_for_selector("#details section[data-key=cell] button:has-text('Hide where it looked')")
    assert cell.nth(0).locator("img").get_attribute("src") != before

    assert not page.locator("#retrain").is_visible()
    cell.nth(0).get_by_role("button", name="It is star").click()
    page.wait_for_selector("#details section[data-key=cell] li:has-text('Now in: star')")
    cell.nth(1).get_by_role("button", name="Leave it out").click()
    page.wait_for_selector("#details section[data-key=cell] li:has-text('Left out')")
    assert "2 changes to your pictures" in page.inner_text("#details")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

    page.click("#retrain")
    page.wait_for_selector("#progress .tl-stages", timeout=30_000)
    page.wait_for_selector("#progress .tl-good:has-text('Done in')", timeout=90_000)
    page.click("#to-results")
    page.wait_for_selector("#compared summary:has-text('training before')")
    assert "of your 49 pictures" in page.inner_text("#headline")
    assert page.locator("#retrain").is_hidden() and "changes to your pictures" not in page.inner_text("#details")
    assert "wrong" not in " ".join(page.locator("#suspects small").all_inner_texts())
    with page.expect_download() as waiting:
        page.click("#report")
    report = Path(waiting.value.path()).read_text(encoding="utf-8")
    assert "<script" not in report and "<svg" in report and "Right " in report


@pytest.fixture
def state(trained: Trained) -> State:
    run = trained.bundle.parent
    report, answers = Report.load(run), Answers.load(run)
    assert report is not None
    labels = {one.row: trained.images.class_names[one.label] for one in trained.images.pictures}
    return State(report, answers, trained.images, (), 0, labels, True, "en")


def act(name: str, **data: str) -> Act:
    return Act(name, data)


def test_a_number_and_its_pictures_agree(state: State) -> None:
    for truth, row in enumerate(state.report.shown.confusion):
        for called, count in enumerate(row):
            assert len(state.cell(truth, called)) == count
    wrong = state.mistakes()
    assert len(wrong) == 153 - sum(row[at] for at, row in enumerate(state.report.shown.confusion))
    assert [(one.number, one.called) for one in wrong[:3]] == [
        (one.picture, one.predicted) for one in state.report.shown.mistakes[:3]
    ]
    html = judged_view.html(state, View(cell=(0, 1)))
    assert html.count('data-act="cell"') == 4 and 'aria-pressed="true"' in html


def test_acts_become_edits_and_nothing_else_does(state: State) -> None:
    one = state.mistakes()[0]
    row, name = state.picture(one).row, state.report.shown.class_names[one.called]
    assert asked(act("relabel", row=str(row), to=name), state) == (Move((row,), name),)
    assert asked(act("drop", row=str(row)), state) == (Drop((row,)),)
    assert asked(act("fine", row=str(row)), state) == (Accept(FINE, (row,)),)
    for nothing in (
        act("relabel", row=str(row), to="no such class"),
        act("drop", row="999999999999"),
        act("drop", row="-1"),
        act("drop", row="٣"),
        act("undo"),
        act("no such act", row=str(row)),
    ):
        assert asked(nothing, state) is None
    assert asked(act("drop", row=str(row)), dataclasses.replace(state, editable=False)) is None
    changed = dataclasses.replace(state, edits=(Drop((row,)), Accept(FINE, (row,))))
    assert changed.changes == 1 and asked(act("undo"), changed) == (Drop((row,)),)
    suspected = state.suspected()
    fine = state.picture(suspected[0]).row
    left = dataclasses.replace(state, edits=(Accept(FINE, (fine,)),)).suspected()
    assert len(left) == len(suspected) - 1
    assert view_after(act("cell", truth="0", called="x"), View()) == View()
    far = view_after(act("cell", truth="99", called="0"), View())
    assert judged_view.html(state, far) and len(shown_pictures(state, far)) <= 16


@pytest.mark.slow
def test_where_it_looked_is_shown_for_every_picture_on_the_page(state: State, settings: Settings) -> None:
    from tl_ui.results_step import heat

    found = heat(Workspace(settings), state, View(cell=(0, 1)))
    assert set(found) == {state.picture(one).row for one in shown_pictures(state, View(cell=(0, 1)))}
    html = judged_view.html(dataclasses.replace(state, heat=found), View(cell=(0, 1), why=True))
    assert all(url in html for url in found.values())


def test_figures_have_their_numbers_as_text(state: State) -> None:
    html = judged_view.html(state, View())
    bins = state.report.evaluation.reliability
    assert f"{round(100 * bins[-1].confidence)} % sure: right {round(100 * bins[-1].right)} %" in html
    assert state.report.curve is not None and f"{state.report.curve.sizes[-1]} pictures: right" in html
    places = [float(x) for x in re.findall(r'cx="([^"]+)"', html)]
    assert len(places) > 8 and 0 <= min(places) <= max(places) <= 320
