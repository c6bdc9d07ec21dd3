"""What a person does to an understood set, from the acts of the page to edits. Pure; an act is never believed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tl_core.data.edits import Drop, Edit, LeaveOut, Move, Relabel, Rename
from tl_core.data.findings import Finding
from tl_core.data.imageset import ImageSet, Reading
from tl_core.data.understand import unconfirmed
from tl_ui.parts.forms import Act


@dataclass(frozen=True)
class View:
    """What the person has opened: the pictures of a class, from which page on, or the cases of a finding."""

    label: str = ""
    page: int = 0
    finding: str = ""
    all_classes: bool = False


@dataclass(frozen=True)
class State:
    """Everything the HTML is made of. `problem` is the sentence why training cannot begin, "" when it can."""

    reading: Reading
    images: ImageSet
    edits: tuple[Edit, ...]
    found: tuple[Finding, ...]
    looking: bool
    problem: str
    language: str

    @property
    def usable(self) -> bool:
        """Whether training may begin."""
        return not self.problem and not unconfirmed(self.reading, self.edits)


def opened(done: Act, view: View) -> View:
    """What is open after the person did that."""
    data = done.data
    if done.act == "show":
        return replace(view, label=data.get("label", ""), page=0)
    if done.act == "page" and data.get("page", "").isdecimal():
        return replace(view, page=int(data["page"][:6]))
    if done.act == "close":
        return replace(view, label="", page=0)
    if done.act == "look":
        return replace(view, finding=data.get("code", ""))
    if done.act == "all-classes":
        return replace(view, all_classes=True)
    return view


def asked(done: Act, state: State) -> tuple[Edit, ...] | None:
    """The changes after what the person did, or None when that changes nothing. `done` is the client's."""
    act, data, fields = done.act, done.data, done.fields
    label, edits = data.get("label", ""), state.edits
    rows = tuple(int(text) for text in fields.get("picture", ()) if text.isascii() and text.isdecimal())[:100_000]
    to = next(iter(fields.get("to", ()) or fields.get("into", ())), "")
    ids = [way.id for way in state.reading.ways]
    way = data.get("way") or next(iter(fields.get("way", ())), "")
    made: Edit | None = None
    if act in ("way", "confirm") and way in ids:
        made = Relabel(way)
    elif act in ("rename", "merge") and to.strip() and to != label:
        made = Rename(label, to)
    elif act == "leave-out":
        made = LeaveOut(label)
    elif act == "drop" and rows:
        made = Drop(rows)
    elif act == "move" and rows and to:
        made = Move(rows, to)
    elif act == "undo":
        return edits[:-1]
    elif act == "reset":
        return ()
    elif act == "fix":
        fixing = _fixing(data, state.found)
        return (*edits, *fixing) if fixing else None
    return None if made is None else (*edits, made)


def _fixing(data: Mapping[str, str], found: Sequence[Finding]) -> tuple[Edit, ...]:
    """What a fix's button stands for: found again by what it is about, as the page may have been drawn a while ago."""
    for one in found:
        if one.code == data.get("code") and one.values.get("label", "") == data.get("of", ""):
            row = data.get("row", "")
            offered = [case.fixes for case in one.cases if str(case.rows[0]) == row] if row else [one.fixes]
            for fix in (fix for fixes in offered for fix in fixes):
                if fix.code == data.get("fix") and fix.values.get("label", "") == data.get("to", ""):
                    return fix.edits
    return ()
