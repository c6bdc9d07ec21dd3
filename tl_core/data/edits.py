"""What the person changes about a set before training: frozen steps, kept in order, applied anew each time.

Pictures are named by their row in the store, classes by the name shown at that moment. A step about something that is
no longer there does nothing. The steps are kept with the set and with every run made from it.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tl_core.data.layout import NAME_LENGTH
from tl_core.errors import plain


@dataclass(frozen=True)
class Relabel:
    """Read the classes another way (`Classes.id`); or confirm a guess."""

    way: str


@dataclass(frozen=True)
class Drop:
    """Leave pictures out."""

    rows: tuple[int, ...]


@dataclass(frozen=True)
class Move:
    """Put pictures into the class called `to`, which may be a new one."""

    rows: tuple[int, ...]
    to: str


@dataclass(frozen=True)
class Rename:
    """Call the class `label` `to`; if there is one of that name, the two are merged."""

    label: str
    to: str


@dataclass(frozen=True)
class LeaveOut:
    """Leave a whole class out."""

    label: str


@dataclass(frozen=True)
class Accept:
    """These pictures are fine as they are: do not ask about `code` for them again."""

    code: str
    rows: tuple[int, ...]


Edit = Relabel | Drop | Move | Rename | LeaveOut | Accept
_KINDS: dict[str, Any] = {
    "relabel": Relabel,
    "drop": Drop,
    "move": Move,
    "rename": Rename,
    "leave_out": LeaveOut,
    "accept": Accept,
}


def kind_of(edit: Edit) -> str:
    """The name of a step's kind, by which there are words for it."""
    return next(name for name, kind in _KINDS.items() if isinstance(edit, kind))


def to_record(edits: Sequence[Edit]) -> list[dict[str, Any]]:
    """`edits` for JSON; `from_record` is the inverse."""
    return [{"do": kind_of(edit), **asdict(edit)} for edit in edits]


def from_record(record: Sequence[dict[str, Any]]) -> tuple[Edit, ...]:
    """The inverse of `to_record`, also after JSON. Raises KeyError or TypeError for what is no such record."""
    found: list[Edit] = []
    for row in record:
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items() if k != "do"}
        found.append(_KINDS[row["do"]](**values))
    return tuple(found)


def class_name(text: str) -> str:
    """`text` as a class can be called: one line, no control characters, not too long; "" when nothing is left."""
    return plain(unicodedata.normalize("NFC", text), NAME_LENGTH)


@dataclass
class Draft:
    """The classes of a set while steps are applied: `labels` one a row (None: not used), `empty` classes without a
    readable picture, `way` the way they were read."""

    way: str
    labels: list[str | None]
    empty: set[str]


def apply(draft: Draft, edits: Sequence[Edit], read: Callable[[str], Draft]) -> Draft:
    """`draft` after `edits`; `read` gives the draft of another way to read the classes."""
    dropped: set[int] = set()  # is about pictures, whatever way their classes are read
    for edit in edits:
        if isinstance(edit, Relabel):
            draft = draft if edit.way == draft.way else read(edit.way)
            draft.labels = [None if row in dropped else label for row, label in enumerate(draft.labels)]
        elif isinstance(edit, Drop):
            dropped.update(edit.rows)
            _move(draft, edit.rows, None)
        elif isinstance(edit, Move):
            if to := _called(edit.to, draft):
                _move(draft, edit.rows, to)
        elif isinstance(edit, Rename):
            if to := _called(edit.to, draft, besides=edit.label):
                _relabel(draft, edit.label, to)
        elif isinstance(edit, LeaveOut):
            _relabel(draft, edit.label, None)
    return draft


def _move(draft: Draft, rows: Sequence[int], to: str | None) -> None:
    for row in rows:
        if 0 <= row < len(draft.labels) and draft.labels[row] is not None:
            draft.labels[row] = to


def _relabel(draft: Draft, label: str, to: str | None) -> None:
    draft.labels = [to if written == label else written for written in draft.labels]
    if label in draft.empty:
        draft.empty.remove(label)
        if to is not None and to not in draft.labels:
            draft.empty.add(to)


def _called(to: str, draft: Draft, *, besides: str | None = None) -> str:
    """The class meant by `to`: an existing one whatever its case, else a new one; "" when it is no name."""
    name = class_name(to)
    known = {label.casefold(): label for label in (*draft.labels, *draft.empty) if label not in (None, besides)}
    return known.get(name.casefold(), name)
