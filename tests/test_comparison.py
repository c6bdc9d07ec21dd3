"""Two runs side by side: only pictures judged in both count, by the later labels, and luck is called luck."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Zipper
from tl_core.data.edits import Move
from tl_core.data.imageset import ImageSet
from tl_core.data.understand import load
from tl_core.evaluation.answers import Answers
from tl_core.evaluation.comparison import Judged, compare
from tl_core.jobs.runs import Request, RunFolder, new_key
from tl_core.jobs.worker import take
from tl_core.settings import Settings
from tl_core.training.plan import Plan, Wishes
from tl_ui.runs_view import comparison_html
from tl_ui.workspace import Workspace

PLAN = Plan(Wishes(), "built_in", "auto", 1.0)
NAMES = ("ant", "bee", "cat")


def judged(
    rows: list[int],
    labels: list[int],
    called: list[int],
    names: tuple[str, ...] = NAMES,
    tested: list[bool] | None = None,
) -> Judged:
    """Answers that call the pictures `called`, each later one a little surer."""
    probabilities = np.full((len(rows), len(names)), 0.01, dtype=np.float32)
    probabilities[np.arange(len(rows)), called] = 0.9 + np.arange(len(rows)) / 100
    which = np.ones(len(rows), dtype=bool) if tested is None else np.array(tested)
    unknown = np.zeros(len(rows), dtype=np.float32)
    return Judged(Answers(np.array(rows), np.array(labels), probabilities, which, unknown), names)


def test_only_pictures_judged_in_both_count_and_by_the_later_labels() -> None:
    before = judged([4, 1, 2, 3], [0, 0, 1, 2], [0, 1, 1, 2])
    after = judged([2, 3, 1, 9], [1, 0, 0, 2], [0, 0, 0, 2])  # 3 is an ant now, 9 is new, 4 is not judged
    found = compare(before, after)
    assert found is not None and found.compared == 3
    assert (found.before, found.after) == (1 / 3, 2 / 3)
    assert [(c.row, c.truth, c.before, c.after) for c in found.now_right] == [
        (1, "ant", "bee", "ant"),
        (3, "ant", "cat", "ant"),
    ]
    assert [(c.row, c.before, c.after) for c in found.now_wrong] == [(2, "bee", "ant")]
    assert [(c.name, c.count, c.before, c.after) for c in found.per_class] == [("ant", 2, 0.0, 1.0), ("bee", 1, 1.0, 0)]
    assert found.likely[0] < 0 < found.likely[1] and found.may_be_luck


def test_classes_are_matched_by_name_and_new_ones_do_not_count_against_the_earlier_run() -> None:
    before = judged([1, 2, 3], [0, 1, 1], [0, 1, 1], ("ant", "bee"))
    after = judged([1, 2, 3], [1, 2, 0], [1, 2, 0], ("aardvark", "ant", "bee"))
    found = compare(before, after)
    assert found is not None and found.compared == 2 and found.before == found.after == 1
    assert found.now_right == found.now_wrong == ()
    assert compare(before, judged([1], [0], [0], ("zebra", "yak"))) is None


def test_what_taught_a_model_is_no_part_of_it() -> None:
    before = judged([1, 2, 3, 4], [0, 1, 2, 0], [0, 1, 2, 0], tested=[True, True, False, False])
    after = judged([1, 2, 3, 4], [0, 1, 2, 0], [0, 0, 0, 0], tested=[False, True, True, True])
    found = compare(before, after)
    assert found is not None and found.compared == 1 and [c.row for c in found.now_wrong] == [2]
    assert compare(before, after, same=[1, 3]) is None
    assert compare(judged([1], [0], [0]), judged([2], [0], [0])) is None


def test_a_difference_of_many_pictures_is_no_luck_and_copies_count_once() -> None:
    rows = list(range(60))
    worse, better = judged(rows, [0] * 60, [1] * 15 + [0] * 45), judged(rows, [0] * 60, [0] * 60)
    found = compare(worse, better)
    assert found is not None and not found.may_be_luck and found.difference == 0.25
    back = compare(better, worse)
    assert back is not None and not back.may_be_luck and len(back.now_wrong) == 15
    confidences = [change.confidence for change in back.now_wrong]
    assert confidences == sorted(confidences, reverse=True)
    copies = compare(worse, better, groups={row: max(row, 14) for row in rows})  # the 15 are one picture
    assert copies is not None and copies.may_be_luck


@pytest.mark.parametrize("count", [12, 40])
@pytest.mark.parametrize(("gained", "lost"), [(0.02, 0.02), (0.2, 0.1), (0.3, 0.05), (0.0, 0.0)])
def test_the_interval_holds_the_true_difference_at_its_rate(count: int, gained: float, lost: float) -> None:
    rng, inside = np.random.default_rng(count), 0
    rounds = 150
    for _ in range(rounds):
        kind = rng.choice(3, p=[gained, lost, 1 - gained - lost], size=count)
        found = compare(
            judged(list(range(count)), [0] * count, [int(k == 0) for k in kind]),
            judged(list(range(count)), [0] * count, [int(k == 1) for k in kind]),
        )
        assert found is not None
        inside += found.likely[0] <= gained - lost <= found.likely[1]
    assert inside / rounds >= 0.91  # 95 % but for the chance of so few rounds


@pytest.fixture
def work(settings: Settings) -> Workspace:
    return Workspace(settings)


def finished(work: Workspace, images: ImageSet, edits: tuple[Move, ...] = ()) -> str:
    """The key of a run made from the set in earnest."""
    key = new_key()
    run = RunFolder.create(work.settings, key, Request(str(images.folder), PLAN, edits=edits))
    assert take(run, work.settings) == "over" and work.report(key) is not None
    run.rename("<b>pets</b>")
    return key


@pytest.fixture
def images(make_zip: Zipper, read_set: Callable[[Path], ImageSet]) -> ImageSet:
    return read_set(make_zip({"<i>star": 14, "circle": 14, "heart": 14}))


def test_a_relabelled_set_is_compared_picture_by_picture(work: Workspace, images: ImageSet) -> None:
    before = finished(work, images)
    moved = [p.row for p in images.pictures if images.class_names[p.label] == "circle"][:4]
    after = finished(work, images, (Move(tuple(moved), to="heart"),))
    html = comparison_html(work, [before, after], "en")
    assert "On the 42 pictures that both were tested on" in html, "both were cross-validated"
    assert "<b>pets" not in html and "&lt;b&gt;pets&lt;/b&gt;" in html and "<i>star" not in html
    changed = _changed(work, before, after)
    assert html.count("data:image/jpeg") == changed > 0
    assert "first called circle, now" in html
    chinese = comparison_html(work, [before, after], "zh")
    assert "42 张图片" in chinese and "pictures" not in chinese
    shutil.rmtree(images.folder)
    gone = comparison_html(work, [before, after], "en")
    assert "On the 42 pictures" in gone and "not here any more" in gone and "data:image" not in gone


def _changed(work: Workspace, before: str, after: str) -> int:
    sides = []
    for key in (before, after):
        run, report = work.run(key), work.report(key)
        assert run is not None and report is not None
        answers = Answers.load(run.path)
        assert answers is not None
        sides.append(Judged(answers, report.shown.class_names))
    found = compare(sides[0], sides[1])
    assert found is not None
    return len(found.now_right) + len(found.now_wrong)


@pytest.mark.slow
def test_sets_that_have_nothing_to_do_with_each_other_share_no_pictures(
    work: Workspace, images: ImageSet, make_zip: Zipper, read_set: Callable[[Path], ImageSet]
) -> None:
    other = read_set(make_zip({"star": 10, "square": 10}, "other.zip"), into="other")  # type: ignore[call-arg]
    html = comparison_html(work, [finished(work, images), finished(work, other)], "en")
    assert "No picture was tested in both" in html
    assert "Only the earlier one knows “&lt;i&gt;star”, “circle”, “heart”" in html
    assert "Only the later one knows “square”, “star”" in html


@pytest.mark.slow
def test_a_set_that_was_grown_keeps_the_pictures_it_grew_from(
    work: Workspace, images: ImageSet, tmp_path: Path
) -> None:
    grown = tmp_path / "grown"
    shutil.copytree(images.folder, grown)
    record = json.loads((grown / "reading.json").read_text())
    record["stored"][0]["digest"] = "another"  # as if one picture were another one
    (grown / "reading.json").write_text(json.dumps(record))
    html = comparison_html(work, [finished(work, images), finished(work, load(grown))], "en")
    assert "On the 41 pictures that both were tested on" in html


def test_three_runs_are_each_compared_with_the_first(work: Workspace, images: ImageSet) -> None:
    key = finished(work, images)
    html = comparison_html(work, [key, key, key], "en")
    assert html.count("that both were tested on") == 2 and "A: &lt;b&gt;pets" in html and "C: " in html
    assert html.count("very same pictures") == 2


def test_answers_that_are_damaged_or_of_another_model_are_left_alone(work: Workspace, images: ImageSet) -> None:
    before, after = finished(work, images), finished(work, images)
    run = work.run(after)
    assert run is not None
    for damage in (b"", b"PK\x03\x04"):
        (run.path / "answers.npz").write_bytes(damage)
        assert "No picture was tested in both" in comparison_html(work, [before, after], "en")
    judged([1], [0], [0], ("a", "b")).answers.save(run.path)
    assert "No picture was tested in both" in comparison_html(work, [before, after], "en")
