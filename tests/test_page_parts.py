"""What the page shows, without a browser: pure functions of events, and no name that becomes markup."""

import asyncio
import json
import re
import string
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tl_core import errors, wording
from tl_core.data.edits import Drop, LeaveOut, Move, Rename
from tl_core.data.findings import findings
from tl_core.data.imageset import PIXELS, Classes, Reading, Skipped, Stored
from tl_core.data.understand import understand
from tl_core.evaluation.metrics import evaluate
from tl_core.events import Failed, Finished, Notice, PicturesReady, Progress, StageDone, Started
from tl_core.hub.push import Pushed
from tl_core.settings import Settings
from tl_ui import figures, judged_view, panel, share_step, understood, words
from tl_ui.changes import State, View, asked
from tl_ui.following import Newest
from tl_ui.judged import State as JudgedState
from tl_ui.judged import View as JudgedView
from tl_ui.line import Place
from tl_ui.parts import draw_digit
from tl_ui.parts.forms import Act
from tl_ui.run_report import Report

HOSTILE = "<img src=x onerror=alert(1)> & \"'{{7*7}}"
STARTED = Started(100, 2, "built_in", "cpu", 12.0)


def test_on_one_page_the_newest_follower_is_the_only_one_that_shows() -> None:
    newest, ended = Newest(), []

    async def following(name: str) -> AsyncIterator[str]:
        try:
            for _ in range(3):
                yield name
                await asyncio.sleep(0)
        finally:
            ended.append(name)

    async def story() -> list[str]:
        first, other = newest.only("page", following("first")), newest.only("another page", following("other"))
        told = [await anext(first), await anext(other)]
        second = newest.only("page", following("second"))
        told.append(await anext(second))
        return told + [one for follower in (first, second, other) async for one in follower]

    assert asyncio.run(story()) == ["first", "other", "second", "second", "second", "other", "other"]
    assert ended == ["first", "second", "other"] and not newest._of


def test_reading_goes_from_progress_to_ready() -> None:
    start = panel.reading([], "a.zip", "en")
    half = panel.reading([Progress("reading", 50, 100, 3.0)], "a.zip", "en")
    assert start.running and half.running and 'aria-valuenow="50"' in half.html and "about 3 s left" in half.html
    done = panel.reading([Progress("reading", 100, 100, 0.0), PicturesReady("x", 100, 2, 0)], "a.zip", "en")
    assert done.ready and not done.running


def test_a_refusal_is_a_sentence_and_no_markup() -> None:
    failed = Failed.of(errors.OneClassError(label=HOSTILE))
    shown = panel.reading([failed], "a.zip", "en")
    assert not shown.running and not shown.ready
    assert "Found one class only" in shown.html and "<img" not in shown.html


def test_training_tells_what_is_done_and_what_is_next() -> None:
    waiting = panel.training([], "en")
    assert waiting.running and "to get ready" in waiting.html
    assert "2 training runs before yours" in panel.training([], "en", place=Place(2)).html
    assert "cannot start on this machine" in panel.training([], "en", trouble=True).html
    events = [STARTED, StageDone("backbone", 0.2), Progress("features", 40, 100, 6.0)]
    shown = panel.training(events, "en")
    assert shown.running and "about 6 s left" in shown.html and shown.html.count('class="done"') == 1
    assert "Stopping" in panel.training(events, "en", stopping=True).html
    end = panel.training([*events, Finished("b", 0.9, "completed", {"features": 8.0})], "en")
    assert end.finished and not end.running and "Done in 8 s" in end.html
    assert "kept" in panel.training([*events, Finished("b", 0.9, "stopped", {})], "en").html


def test_a_restarted_run_is_told_from_the_top() -> None:
    events = [STARTED, StageDone("backbone", 1), StageDone("features", 1), STARTED, StageDone("backbone", 1)]
    assert panel.training(events, "en").html.count('class="done"') == 1


def test_notices_and_failures_are_shown_escaped() -> None:
    shown = panel.training([STARTED, Notice("unknown", HOSTILE)], "en")
    assert "<img" not in shown.html and "&lt;img" in shown.html
    failed = panel.training([STARTED, Failed("bug", HOSTILE)], "en")
    assert not failed.running and not failed.finished and "<img" not in failed.html


def hostile_state(folder: Path) -> State:
    """A set whose every text is hostile, with everything odd that can be odd about it."""
    sides = [8] * 3 + [40] * 9
    stored = tuple(Stored(f"{HOSTILE}{i}", str(i % 7), 0, side, side, ("turned",)) for i, side in enumerate(sides))
    labels, parts = tuple((HOSTILE, "b", "c")[i % 3] for i in range(12)), ("train",) * 8 + ("test",) * 4
    ways = (
        Classes("folders", "folders", {}, False, labels, parts, (f"{HOSTILE}empty",), ()),
        Classes(f"table:{HOSTILE}", "table", {"file": HOSTILE, "column": HOSTILE}, False, labels, parts, (), ()),
    )
    reading = Reading(folder, HOSTILE, stored, ways, (Skipped(HOSTILE, "damaged"),), 3)
    (folder / PIXELS).write_bytes(bytes(40 * 40 * 3))
    edits = (Rename("c", f"{HOSTILE}c"), Move((0,), HOSTILE), Drop((5,)), LeaveOut(HOSTILE + "x"))
    images = understand(reading, edits)
    found = findings(images, Settings())
    return State(reading, images, edits, found, True, HOSTILE, "en")


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_case_70_and_71_names_stay_text_everywhere(tmp_path: Path, language: str) -> None:
    state = replace(hostile_state(tmp_path), language=language)
    codes = {finding.code for finding in state.found}
    assert {"too_few", "copies_across_classes", "copies_across_split", "small_classes", "tiny"} <= codes
    for view in (View(label=HOSTILE), *(View(finding=code) for code in codes)):
        shown = understood.html(state, view)
        assert "<img src=x" not in shown and "<script" not in shown and shown.count("&lt;img") >= 10


def test_hostile_scores_stay_text() -> None:
    chance = np.full((10, 2), 0.5, dtype=np.float32)
    scores = evaluate(chance, [0, 1] * 5, (HOSTILE, "b"), pictures=range(10), groups=range(10))
    report = Report(Path("nowhere"), scores, "built_in", crossed=scores, training={"rounds": HOSTILE})
    judged = judged_view.html(JudgedState(report, None, None, (), 0, {}, False, "en"), JudgedView())
    for html in (panel.headline(scores, "en"), judged, figures.confusion(scores.class_names, scores.confusion, "en")):
        assert "<img" not in html and "&lt;img" in html


def act(name: str, fields: dict[str, tuple[str, ...]] | None = None, **data: str) -> Act:
    return Act(name, data, fields or {})


def test_acts_become_edits_and_nothing_else_does(tmp_path: Path) -> None:
    state = replace(hostile_state(tmp_path), edits=())
    ticked = {"picture": ("3", "x", "-1", "99999999"), "to": ("b",)}
    assert asked(act("drop", ticked), state) == (Drop((3, 99999999)),)
    assert asked(act("move", ticked), state) == (Move((3, 99999999), "b"),)
    assert asked(act("rename", {"to": ("new",)}, label="b"), state) == (Rename("b", "new"),)
    assert asked(act("merge", {"into": ("c",)}, label="b"), state) == (Rename("b", "c"),)
    assert asked(act("leave-out", label="b"), state) == (LeaveOut("b"),)
    for nothing in (
        act("rename", {"to": (" ",)}, label="b"),
        act("rename", {"to": ("b",)}, label="b"),
        act("drop"),
        act("way", {"way": ("no such way",)}),
        act("no such act"),
        act("fix", code="copies", fix="no such fix"),
    ):
        assert asked(nothing, state) is None
    # What cannot be: no crash, and no change.
    understand(state.reading, asked(act("drop", ticked), state) or ())


def test_every_fix_settles_what_it_is_offered_for(tmp_path: Path) -> None:
    state = hostile_state(tmp_path)
    for finding in state.found:
        for fix in finding.fixes:
            along = {"code": finding.code, "of": finding.values.get("label", ""), "fix": fix.code}
            edits = asked(act("fix", row="", to=fix.values.get("label", ""), **along), state)
            assert edits is not None and edits[: len(state.edits)] == state.edits and len(edits) > len(state.edits)
            left = findings(understand(state.reading, edits), Settings(), None, edits)
            same = [f for f in left if f.code == finding.code and f.values.get("label") == finding.values.get("label")]
            assert not same, (finding.code, fix.code)


def test_undoing_goes_back_step_by_step(tmp_path: Path) -> None:
    state = hostile_state(tmp_path)
    assert asked(act("undo"), state) == state.edits[:-1]
    assert asked(act("reset"), state) == ()


def test_the_headline_says_how_far_to_trust_it() -> None:
    right = np.eye(2, dtype=np.float32)[[0, 1] * 6]
    few = evaluate(right, [0, 1] * 6, "ab", pictures=range(12), groups=range(12))
    assert "Right 100 times out of 100" in panel.headline(few, "en")
    assert "very few test pictures" in panel.headline(few, "en")
    chance = evaluate(right, [1, 0] * 6, "ab", pictures=range(12), groups=range(12))
    assert "hardly better than guessing" in panel.headline(chance, "en")


def test_many_classes_become_a_list_of_mix_ups() -> None:
    names = [f"class {i}" for i in range(40)]
    matrix = [[5 if i == j else 0 for j in range(40)] for i in range(40)]
    assert "No mix-ups" in figures.confusion(names, matrix, "en")
    matrix[3][7] = 4
    shown = figures.confusion(names, matrix, "en")
    assert "class 3 called class 7: 4 of 9" in shown and "<table" not in shown


# words


def keys_used() -> set[str]:
    found: set[str] = set()
    for file in Path(words.__file__).parents[1].rglob("*.py"):
        found |= set(re.findall(r"(?:\bt|say)\((?:\w+(?:\([^)]*\))?, )?[\"']([a-z_.0-9]+)[\"']", file.read_text()))
    return found


def test_every_key_the_page_uses_has_words() -> None:
    known = words.table("en")
    assert len(keys_used()) > 40
    assert keys_used() <= set(known)


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_every_language_has_every_sentence_with_the_same_values(language: str) -> None:
    own = json.loads((Path(words.__file__).parent / f"{language}.json").read_text(encoding="utf-8"))
    english = words.table("en")
    assert set(own) <= set(english)
    if language != "en":
        assert set(own) == set(english)
    for key, text in own.items():
        fields = {name for _, name, _, _ in string.Formatter().parse(text) if name}
        assert fields == {name for _, name, _, _ in string.Formatter().parse(english[key]) if name}, key


def test_every_code_of_the_core_has_words() -> None:
    known = words.table("en")
    assert {f"skip.{code}" for code in wording.SKIP_REASONS} <= set(known)
    assert {f"stage.{stage}" for stage in wording.STAGES} <= set(known)
    codes = [key for key in known if key.startswith("error.")]
    assert len(codes) > 30


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("en-US,en;q=0.9", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("zh-TW", "zh"),
        ("fr,zh-CN", "zh"),
        ("zh-HK", "zh"),
        ("zh", "zh"),
        ("en-GB", "en"),
        ("", "en"),
    ],
)
@pytest.mark.parametrize("chosen", ["", "en", "zh"])
def test_sentences_are_in_the_language_the_page_is_in(header: str, language: str, chosen: str) -> None:
    class Request:
        headers = {"accept-language": header, "cookie": f"a=b; tl_language={chosen}" if chosen else "a=b"}

    assert words.language_of(Request()) == (chosen or language)  # type: ignore[arg-type]
    assert words.language_of(None) == "en"


def test_a_model_that_timm_cannot_load_is_not_said_to_load_there() -> None:
    pushed = Pushed("alice/clf", "https://huggingface.co/alice/clf", "0")
    assert "hf-hub:alice/clf" in share_step._done(pushed, "en", loadable=True)
    told = share_step._done(pushed, "en", loadable=False)
    assert "hf-hub" not in told and "pipeline" not in told and "predict.py" in told


def test_no_word_is_kept_that_nothing_says() -> None:
    code = "".join(file.read_text() for file in Path(words.__file__).parents[1].rglob("*.py"))
    built = (
        "data.part.",
        "understood.part.",
        "data.example.",
        "data.hub.",
        "lessons.",
        "results.",
        "train.",
        "use.col_",
        "unit.",
        "part.",
        "export.",
        "licence.",
    )
    own = json.loads((Path(words.__file__).parent / "en.json").read_text(encoding="utf-8"))
    assert not [
        key for key in own if key not in re.findall(r"[\"']([a-z0-9_.]+)[\"']", code) and not key.startswith(built)
    ]


def test_times_are_said_as_people_say_them() -> None:
    assert [words.duration("en", s) for s in (0.2, 8, 240, 4200)] == ["1 s", "8 s", "4 min", "70 min"]
    assert words.duration("zh", 7800) == "2 小时 10 分钟"


@pytest.mark.parametrize(
    "record",
    [
        None,
        {"act": "draw"},
        {"act": "other", "cells": [0] * 64},
        {"act": "draw", "cells": [0] * 63},
        {"act": "draw", "cells": [0] * 63 + [17]},
        {"act": "draw", "cells": [0] * 63 + [-1]},
        {"act": "draw", "cells": [0] * 63 + [True]},
        {"act": "draw", "cells": [0] * 63 + [1.5]},
        {"act": "draw", "cells": "0" * 64},
    ],
)
def test_a_drawing_is_exactly_that(record: Any) -> None:
    assert draw_digit.read(record) is None
    pixels = draw_digit.read({"act": "draw", "cells": [0] * 32 + [16] * 32})
    assert pixels is not None and pixels.shape == (64, 64, 3) and pixels[2].min() > 200 and pixels[-3].max() < 60
