"""What a person does about a result: looks at the pictures behind a number, and settles what was wrong about them, from
the acts of the page to edits of the set. Pure; an act is never believed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tl_core.data.edits import Accept, Drop, Edit, Move
from tl_core.data.imageset import ImageSet, Picture
from tl_core.evaluation.answers import Answers
from tl_core.evaluation.wrong_labels import suspects
from tl_ui.parts.forms import Act
from tl_ui.run_report import Report

# What `Accept` calls pictures that were looked at in a result and found to be right.
FINE = "judged"
PAGE = 8  # pictures at a time


@dataclass(frozen=True)
class View:
    """What the person has opened: a cell of the matrix (true class, answer) and from which picture on, how many of the
    mistakes and of the suspects, and whether to show where the model looked."""

    cell: tuple[int, int] | None = None
    page: int = 0
    mistakes: int = 1
    suspected: int = 1
    why: bool = False


@dataclass(frozen=True)
class Judged:
    """One picture of the set and what was answered: its `number` in the set, true class, the answer (`called`, another
    class for one that is suspected) and how sure that is."""

    number: int
    truth: int
    called: int
    confidence: float


@dataclass(frozen=True)
class State:
    """Everything the HTML is made of. `images` is the set as it was for the run, `edits` what is changed about it by
    now, of which the run knew the first `known`; `editable` whether the browser still holds that set. `labels` gives
    the class of today of every picture by row, those that were left out missing."""

    report: Report
    answers: Answers | None
    images: ImageSet | None
    edits: tuple[Edit, ...]
    known: int
    labels: Mapping[int, str]
    editable: bool
    language: str
    heat: Mapping[int, str] = field(default_factory=dict)  # row: the picture with where the model looked, a data URL

    @property
    def fine(self) -> set[int]:
        """Rows that the person found to be right."""
        return {row for edit in self.edits if isinstance(edit, Accept) and edit.code == FINE for row in edit.rows}

    @property
    def changes(self) -> int:
        """How many changes to the set the run did not know of."""
        return len([edit for edit in self.edits[self.known :] if not isinstance(edit, Accept)])

    def mistakes(self) -> list[Judged]:
        """Every wrong answer that is part of the scores, the surest first."""
        return sorted(self._wrong(), key=lambda one: -one.confidence)

    def cell(self, truth: int, called: int) -> list[Judged]:
        """The pictures behind a number of the matrix, the surest first."""
        chosen = [one for one in self._judged() if (one.truth, one.called) == (truth, called)]
        return sorted(chosen, key=lambda one: -one.confidence)

    def suspected(self) -> list[Judged]:
        """Pictures that are probably in the wrong class, the likeliest first."""
        if self.answers is None or self.images is None:
            return []
        numbers, kept = self._numbers(), self.answers
        found = suspects(kept.probabilities, kept.labels.tolist())
        rows, fine = kept.rows.tolist(), self.fine
        return [
            Judged(numbers[rows[one.at]], one.given, one.suggested, one.confidence)
            for one in found
            if rows[one.at] in numbers and rows[one.at] not in fine
        ]

    def picture(self, one: Judged) -> Picture:
        assert self.images is not None
        return self.images.pictures[one.number]

    def _wrong(self) -> list[Judged]:
        return [one for one in self._judged() if one.truth != one.called]

    def _judged(self) -> list[Judged]:
        if self.answers is None or self.images is None:
            return []
        numbers, kept = self._numbers(), self.answers
        chosen, answers = kept.judged()
        called = answers.argmax(axis=1)
        sure = answers[np.arange(len(called)), called]
        rows, labels = kept.rows[chosen].tolist(), kept.labels[chosen].tolist()
        return [
            Judged(numbers[row], label, int(answer), float(confidence))
            for row, label, answer, confidence in zip(rows, labels, called, sure, strict=True)
            if row in numbers
        ]

    def _numbers(self) -> dict[int, int]:
        assert self.images is not None
        return {picture.row: number for number, picture in enumerate(self.images.pictures)}


def opened(done: Act, view: View) -> View:
    """What is open after the person did that."""
    data = done.data
    if done.act == "cell" and (cell := _cell(data)) is not None:
        return replace(view, cell=None if view.cell == cell else cell, page=0)
    if done.act == "page" and data.get("page", "").isdecimal():
        return replace(view, page=int(data["page"][:6]))
    if done.act == "close":
        return replace(view, cell=None, page=0)
    if done.act == "more-mistakes":
        return replace(view, mistakes=view.mistakes + 1)
    if done.act == "more-suspects":
        return replace(view, suspected=view.suspected + 1)
    if done.act == "why":
        return replace(view, why=not view.why)
    return view


def _cell(data: Mapping[str, str]) -> tuple[int, int] | None:
    truth, called = data.get("truth", ""), data.get("called", "")
    return (int(truth[:6]), int(called[:6])) if truth.isdecimal() and called.isdecimal() else None


def asked(done: Act, state: State) -> tuple[Edit, ...] | None:
    """All edits of the set after what the person did, or None when that changes nothing. `done` is the client's."""
    if not state.editable or state.images is None:
        return None
    if done.act == "undo" and len(state.edits) > state.known:
        return state.edits[:-1]
    row = done.data.get("row", "")
    rows = {picture.row for picture in state.images.pictures}
    if not (row.isascii() and row.isdecimal()) or int(row[:9]) not in rows:
        return None
    at, to = int(row[:9]), done.data.get("to") or done.field("to")
    made: Edit | None = None
    if done.act == "relabel" and to in state.images.class_names:
        made = Move((at,), to)
    elif done.act == "drop":
        made = Drop((at,))
    elif done.act == "fine":
        made = Accept(FINE, (at,))
    return None if made is None else (*state.edits, made)


def shown_pictures(state: State, view: View) -> Sequence[Judged]:
    """The pictures that are on the page now."""
    found = state.mistakes()[: view.mistakes * PAGE] + state.suspected()[: view.suspected * PAGE]
    if view.cell is not None:
        found += state.cell(*view.cell)[view.page * PAGE : (view.page + 1) * PAGE]
    return found
