"""The answers for many files as a table, and those to be looked at as cards with buttons (`parts.forms`). Pure; every
text from outside goes through `esc`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from html import escape as esc
from typing import TYPE_CHECKING

from tl_core.bundle.batch import doubtful, unsure
from tl_core.data.pile import NOT_REACHED, Filed, Pile
from tl_ui.parts.forms import Act, button
from tl_ui.words import error_sentence, say

if TYPE_CHECKING:  # the page starts without torch
    from tl_core.bundle.predictor import Prediction

_CARDS = 12  # on a page
_IMAGE = "max-height:170px;object-fit:contain"
_COLUMNS = ("picture", "file", "class", "confidence")
LEFT_OUT = ""  # a decision: none of the classes

Picture = Callable[[int], str]  # the picture at a place as a data URL


@dataclass(frozen=True)
class Batch:
    """Many files and what the model of the run `run` says about them: `found` by place in the pile, `classes` all that
    it knows, and `decided` what the person says of some: a class, or `LEFT_OUT`."""

    run: str
    pile: Pile
    found: "Mapping[int, Prediction]"
    classes: tuple[str, ...]
    table: str
    decided: Mapping[int, str]
    page: int = 0

    @property
    def labels(self) -> dict[int, str]:
        """The pictures of which the person has said what they are, by place."""
        return {at: label for at, label in self.decided.items() if label != LEFT_OUT}


def problem(file: Filed, language: str) -> str:
    """Why a file that is no picture is none."""
    if file.error is not None:
        return error_sentence(language, file.error)
    code = file.problem or NOT_REACHED
    return say(language, "batch.not_reached") if code == NOT_REACHED else say(language, f"skip.{code}")


def table(pile: Pile, found: "Mapping[int, Prediction]", picture: Picture, language: str) -> str:
    """A row for every file, in their order: the picture, its name, the class or the reason, how sure the model is."""
    heads = [say(language, f"use.col_{column}") for column in _COLUMNS]
    head = "".join(f'<th scope="col">{esc(text)}</th>' for text in heads)
    rows = []
    for at, file in enumerate(pile.files):
        one = found.get(at)
        if one is None:
            cells = f"<td></td><td>{esc(file.name)}</td><td>{esc(problem(file, language))}</td><td></td>"
        else:
            said = esc(one.label) + (f"<br><small>{esc(_others(one, language))}</small>" if _named(one) else "")
            image = f'<img src="{picture(at)}" alt="" width="48" height="48">'
            cells = f"<td>{image}</td><td>{esc(file.name)}</td><td>{said}</td><td>{esc(sureness(one, language))}</td>"
        rows.append(f"<tr>{cells}</tr>")
    return (
        f'<div class="tl-scroll tl-answers" tabindex="0" role="region" aria-label="{esc(heads[1])}">'
        f'<table class="tl-table"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def sureness(found: "Prediction", language: str) -> str:
    """How sure the model is of its answer, in a word or two."""
    return say(language, "use.strange_short") if found.strange else f"{found.confidence:.0%}"


def _named(found: "Prediction") -> tuple[str, ...]:
    """The other classes that it may well be."""
    return () if found.strange else tuple(name for name in found.likely if name != found.label)


def _others(found: "Prediction", language: str) -> str:
    return say(language, "batch.could_be", names=", ".join(_named(found)[:4]))


def review(batch: Batch, picture: Picture, least: float, language: str) -> str:
    """The pictures as cards, those first where the model is most likely wrong; less sure than `least` counts as not
    sure."""
    order = doubtful(batch.found)
    if not order:
        return ""
    pages = (len(order) - 1) // _CARDS + 1
    page = min(batch.page, pages - 1)
    count = unsure(list(batch.found.values()), least)
    heading = say(language, "batch.review_count", count=count, total=len(order), percent=round(100 * least))
    cards = "".join(_card(batch, at, picture, language) for at in order[page * _CARDS : (page + 1) * _CARDS])
    back = button("page", esc(say(language, "batch.previous")), page=page - 1) if page else ""
    more = button("page", esc(say(language, "batch.next")), page=page + 1) if page + 1 < pages else ""
    rest = button("all-right", esc(say(language, "batch.all_right")), page=page)
    where = say(language, "batch.page", page=page + 1, pages=pages)
    return (
        f'<section data-focus="review" tabindex="-1"><p>{esc(heading)}</p><ul class="tl-cards">{cards}</ul>'
        f'<div class="tl-row">{rest}{back}<span class="tl-quiet">{esc(where)}</span>{more}</div></section>'
    )


def _card(batch: Batch, at: int, picture: Picture, language: str) -> str:
    found, file, decided = batch.found[at], batch.pile.files[at], batch.decided.get(at)
    key = "batch.says_strange" if found.strange else "batch.says"
    said = say(language, key, label=found.label, percent=f"{100 * found.confidence:.0f}")
    others = f"<small>{esc(_others(found, language))}</small>" if _named(found) else ""
    options = [("", say(language, "batch.choose"), decided is None)]
    options += [(str(i), name, decided == name) for i, name in enumerate(batch.classes)]
    options.append(("out", say(language, "batch.leave_out"), decided == LEFT_OUT))
    choices = "".join(
        f'<option value="{value}"{" selected" if chosen else ""}>{esc(text)}</option>'
        for value, text, chosen in options
    )
    if decided is None:
        state = button("right", esc(say(language, "batch.right", label=found.label)), row=at, focus=f"right {at}")
    else:
        kept = decided or say(language, "batch.leave_out")
        state = f'<b class="tl-name" data-focus="right {at}" tabindex="-1">✓ {esc(kept)}</b>'
    return (
        f'<li data-key="{at}" data-fields><img src="{picture(at)}" alt="{esc(file.name)}" style="{_IMAGE}">'
        f'<span class="tl-quiet tl-name">{esc(file.name)}</span><span class="tl-name">{esc(said)}</span>{others}'
        f'<div class="tl-row">{state}</div><label class="tl-field">{esc(say(language, "batch.it_is"))} '
        f'<select name="to" data-act="choose" data-row="{at}" data-focus="choose {at}">{choices}</select></label></li>'
    )


def decided(done: Act, batch: Batch) -> Batch:
    """`batch` after what the person did. `done` is the client's, and never believed."""
    at, page = _number(done.data.get("row", "")), _number(done.data.get("page", ""))
    made = dict(batch.decided)
    if done.act == "page" and page is not None:
        return replace(batch, page=page)
    if done.act == "all-right" and page is not None:
        for other in doubtful(batch.found)[page * _CARDS : (page + 1) * _CARDS]:
            made.setdefault(other, batch.found[other].label)
    elif at is None or at not in batch.found:
        return batch
    elif done.act == "right":
        made[at] = batch.found[at].label
    elif done.act == "choose":
        chosen = done.field("to")
        number = _number(chosen)
        made.pop(at, None)
        if chosen == "out":
            made[at] = LEFT_OUT
        elif number is not None and number < len(batch.classes):
            made[at] = batch.classes[number]
    return replace(batch, decided=made)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 7 else None
