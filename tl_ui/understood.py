"""What was understood of an upload, as HTML with buttons (`parts.forms`): classes as pictures, what is odd and how to
settle it, every picture of a class to pick from. Pure; every text from outside goes through `esc`.
"""

from collections.abc import Sequence
from html import escape as esc

from tl_core.data.edits import Edit, LeaveOut, Move, Relabel, Rename, kind_of
from tl_core.data.findings import Case, Finding, Fix
from tl_core.data.imageset import Classes, Picture
from tl_core.data.pixels import PixelStore
from tl_core.data.understand import unconfirmed, way_of
from tl_core.wording import TRAITS
from tl_ui import figures, thumbnails
from tl_ui.changes import State, View
from tl_ui.parts.forms import button
from tl_ui.words import say

_CLASSES_SHOWN = 24
_STRIP, _STRIP_SIDE = 5, 64
_PAGE = 48
_CASES_SHOWN = 12
_SKIPPED_SHOWN = 200
_KINDS = {"stop": "bad", "warn": "warn", "info": "info"}


def html(state: State, view: View) -> str:
    """The whole part."""
    first = [one for one in state.found if one.level != "info"]
    blocks = [_heading(state), _ways(state), _problem(state), *(_finding(state, one, view) for one in first)]
    blocks += [_classes(state, view), _parts(state)]
    blocks += [_finding(state, one, view) for one in state.found if one not in first]
    if state.looking:
        blocks.append(f'<p class="tl-quiet" role="status">{_say(state, "understood.looking")}</p>')
    blocks += [_notes(state), _skipped(state), _changes(state)]
    return "".join(blocks)


def _say(state: State, key: str, **values: object) -> str:
    return esc(say(state.language, key, **values))


def _heading(state: State) -> str:
    images = state.images
    values = {"name": images.source, "pictures": len(images.pictures), "classes": len(images.class_names)}
    return f"<h3 data-arrive>{_say(state, 'data.understood', **values)}</h3>"


def _ways(state: State) -> str:
    """How the classes were read, the other ways, and the question where it is a guess."""
    used = state.reading.way(way_of(state.reading, state.edits))
    blocks = []
    if unconfirmed(state.reading, state.edits):
        names = ", ".join(f"“{name}”" for name in state.images.class_names[:6])
        question = _say(state, "understood.guess", names=names)
        confirm = button("confirm", _say(state, "understood.guess_yes"), primary=True, way=used.id)
        blocks.append(f'<div class="tl-message tl-warn" role="status">{question}<p>{confirm}</p></div>')
    if len(state.reading.ways) > 1:
        options = "".join(
            f'<option value="{esc(way.id)}"{" selected" if way.id == used.id else ""}>{_way(state, way)}</option>'
            for way in state.reading.ways
        )
        blocks.append(
            f'<label class="tl-field">{_say(state, "understood.way")} '
            f'<select name="way" data-act="way" data-focus="way">{options}</select></label>'
        )
    elif used.kind != "folders":
        blocks.append(f"<p>{_say(state, 'understood.way_used', way=_way_text(state, used))}</p>")
    return "".join(blocks)


def _way(state: State, way: Classes) -> str:
    return esc(_way_text(state, way))


def _way_text(state: State, way: Classes) -> str:
    return say(state.language, f"way.{way.kind}", **way.values)


def _problem(state: State) -> str:
    told = any(one.level == "stop" for one in state.found)  # with a way out
    return figures.message("bad", state.problem) if state.problem and not told else ""


def _classes(state: State, view: View) -> str:
    """A card a class: some of its pictures, its name and number, and what can be done with it."""
    images, store = state.images, PixelStore(state.images) if state.images.pictures else None
    members: list[list[int]] = [[] for _ in images.class_names]
    for i, picture in enumerate(images.pictures):
        members[picture.label].append(i)
    most = max(map(len, members), default=1)
    shown = len(members) if view.all_classes else _CLASSES_SHOWN
    cards = []
    for label, mine in list(zip(images.class_names, members, strict=True))[:shown]:
        few = [mine[at * len(mine) // _STRIP] for at in range(min(_STRIP, len(mine)))] if mine else []
        few = list(dict.fromkeys(few))
        strip = thumbnails.strip([store[i] for i in few], _STRIP_SIDE) if store is not None and few else ""
        opened = label == view.label
        cards.append(_card(state, label, len(mine), most, strip, opened))
        if opened:
            cards.append(f'<li class="tl-opened" data-key="opened">{_pictures(state, view)}</li>')
    more = ""
    if len(members) > shown:
        text = _say(state, "understood.all_classes", count=len(members) - shown)
        more = f"<p>{button('all-classes', text)}</p>"
    return f'<ul class="tl-cards">{"".join(cards)}</ul>{more}'


def _card(state: State, label: str, count: int, most: int, strip: str, opened: bool) -> str:
    name, number = esc(label), _say(state, "data.count", count=count)
    width = _STRIP_SIDE * min(_STRIP, count)
    some = _say(state, "understood.some", label=label)
    picture = f'<img src="{strip}" alt="{some}" style="max-width:{width}px">' if strip else ""
    show = button("show", _say(state, "understood.show"), label=label, focus=f"show {label}")
    if opened:
        show = button("close", _say(state, "understood.hide"), focus=f"show {label}")
    others = [other for other in state.images.class_names if other != label][:1000]
    options = "".join(f'<option value="{esc(other)}">{esc(other)}</option>' for other in others)
    merge = (
        f'<label class="tl-field">{_say(state, "understood.merge")} <select name="into">{options}</select></label>'
        f"{button('merge', _say(state, 'understood.merge_do'), label=label)}"
    )
    return (
        f'<li data-key="{name}"><div class="tl-card-head"><b class="tl-name">{_breakable(name)}</b>'
        f'<span class="tl-count">{number}</span></div>{picture}'
        f'<span class="tl-bar"><i style="width:{max(2, round(100 * count / max(most, 1)))}%"></i></span>'
        f"{show if count else ''}"
        f'<details id="card-{name}"><summary>{_say(state, "understood.change")}</summary>'
        f'<form data-act="rename" data-label="{name}"><label class="tl-field">{_say(state, "understood.name")} '
        f'<input name="to" value="{name}" maxlength="64" autocomplete="off"></label>'
        f"<button>{_say(state, 'understood.rename')}</button></form>"
        f"<div data-fields>{merge if others else ''}</div>"
        f"{button('leave-out', _say(state, 'understood.leave_out_class'), label=label)}</details></li>"
    )


def _breakable(name: str) -> str:
    """A name (HTML already) that may go on in the next line where its words end."""
    return name.replace("_", "_<wbr>").replace("-", "-<wbr>")


def _pictures(state: State, view: View) -> str:
    """Every picture of the opened class, a page at a time, to be ticked and then left out or moved."""
    images, store = state.images, PixelStore(state.images)
    mine = [i for i, p in enumerate(images.pictures) if images.class_names[p.label] == view.label]
    page = min(view.page, max(0, (len(mine) - 1) // _PAGE))
    chosen = mine[page * _PAGE : (page + 1) * _PAGE]
    ticks = "".join(
        f'<label class="tl-tick" data-key="{images.pictures[i].row}">'
        f'<input type="checkbox" name="picture" value="{images.pictures[i].row}">'
        f'<img src="{thumbnails.jpeg(store[i])}" alt="{esc(images.pictures[i].name)}" '
        f'title="{esc(images.pictures[i].name)}"></label>'
        for i in chosen
    )
    others = [name for name in images.class_names if name != view.label]
    options = "".join(f'<option value="{esc(name)}">{esc(name)}</option>' for name in others)
    first, last = page * _PAGE + 1, page * _PAGE + len(chosen)
    title = _say(state, "understood.pictures", label=view.label, first=first, last=last, count=len(mine))
    back = button("page", _say(state, "understood.previous"), page=page - 1) if page else ""
    more = button("page", _say(state, "understood.next"), page=page + 1) if last < len(mine) else ""
    move = (
        f'<label class="tl-field">{_say(state, "understood.move")} <select name="to">{options}</select></label>'
        f"{button('move', _say(state, 'understood.move_do'))}"
    )
    return (
        f'<section class="tl-pick" data-fields tabindex="-1" data-focus="pictures"><h4>{title}</h4>'
        f'<p class="tl-quiet">{_say(state, "understood.tick")}</p><div class="tl-ticks">{ticks}</div>'
        f'<div class="tl-row">{button("drop", _say(state, "understood.drop"))}{move if others else ""}'
        f"{back}{more}{button('close', _say(state, 'understood.close'))}</div></section>"
    )


def _parts(state: State) -> str:
    parts = state.images.part_counts()
    if not any(parts):
        return f"<p>{_say(state, 'data.no_parts')}</p>"
    shown = ", ".join(say(state.language, f"data.part.{part}", count=count) for part, count in parts.items())
    return f"<p>{_say(state, 'data.parts', parts=shown)}</p>"


def _finding(state: State, found: Finding, view: View) -> str:
    """One oddity: its sentence, its fixes, and its cases when they are opened."""
    fixes = "".join(_fix(state, found, "", fix) for fix in found.fixes)
    opened, shown = view.finding == found.code, ""
    if found.cases:
        text = "understood.hide" if opened else "understood.look"
        fixes = button("look", _say(state, text), code="" if opened else found.code, focus=found.code) + fixes
    if opened:
        shown = _cases(state, found)
    role = "alert" if found.level == "stop" else "status"
    return (
        f'<div class="tl-message tl-{_KINDS[found.level]}" role="{role}" data-key="{found.code}">'
        f"{_say(state, f'finding.{found.code}', **found.values)}"
        f'<div class="tl-row">{fixes}</div>{shown}</div>'
    )


def _cases(state: State, found: Finding) -> str:
    at = {picture.row: i for i, picture in enumerate(state.images.pictures)}
    store = PixelStore(state.images)
    items = []
    for case in found.cases[:_CASES_SHOWN]:
        pictures = [(state.images.pictures[at[row]], thumbnails.jpeg(store[at[row]])) for row in case.rows[:6]]
        items.append(f'<li data-key="{case.rows[0]}">{_case(state, found, case, pictures)}</li>')
    more = ""
    if len(found.cases) > _CASES_SHOWN:
        more = f"<p>{_say(state, 'understood.more', count=len(found.cases) - _CASES_SHOWN)}</p>"
    return f'<ul class="tl-cases">{"".join(items)}</ul>{more}'


def _case(state: State, found: Finding, case: Case, pictures: Sequence[tuple[Picture, str]]) -> str:
    names = state.images.class_names
    shown = "".join(
        f'<figure><img src="{url}" alt="{esc(picture.name)}"><figcaption>{esc(names[picture.label])}'
        f"{' · ' + _say(state, f'understood.part.{picture.part}') if picture.part else ''}"
        f"<br><small>{esc(picture.name)}</small></figcaption></figure>"
        for picture, url in pictures
    )
    fixes = "".join(_fix(state, found, str(case.rows[0]), fix) for fix in case.fixes)
    return f'<div class="tl-sides">{shown}</div><div class="tl-row">{fixes}</div>'


def _fix(state: State, found: Finding, row: str, fix: Fix) -> str:
    """A fix's button, which says what it is about; `row` is the case's first, "" where it is for all of them."""
    text, about = _say(state, f"fix.{fix.code}", **fix.values), found.values.get("label", "")
    return button("fix", text, code=found.code, of=about, row=row, fix=fix.code, to=fix.values.get("label", ""))


def _notes(state: State) -> str:
    """What was done to the pictures and names without asking."""
    images = state.images
    totals = {trait: sum(trait in p.traits for p in images.pictures) for trait in TRAITS}
    lines = [_say(state, f"trait.{trait}", count=count) for trait, count in totals.items() if count]
    lines += [_say(state, "understood.merged", written=a, shown=b) for a, b in images.merged[:20]]
    if images.ignored:
        lines.append(_say(state, "data.ignored", count=images.ignored))
    return "".join(f'<p class="tl-quiet">{line}</p>' for line in lines)


def _skipped(state: State) -> str:
    skipped = state.images.skipped
    if not skipped:
        return ""
    lines = "".join(
        f"<li><b>{esc(file.name)}</b>: {_say(state, f'skip.{file.reason}')}</li>" for file in skipped[:_SKIPPED_SHOWN]
    )
    summary = _say(state, "data.skipped", count=len(skipped))
    return f'<details class="tl-skipped" id="skipped"><summary>{summary}</summary><ul>{lines}</ul></details>'


def _changes(state: State) -> str:
    """The person's own changes, with a way back."""
    if not state.edits:
        return ""
    lines = "".join(f"<li>{edit_sentence(edit, state.language)}</li>" for edit in state.edits[-_SKIPPED_SHOWN:])
    summary = _say(state, "understood.changes", count=len(state.edits))
    undo = button("undo", _say(state, "understood.undo"), focus="undo")
    every = button("reset", _say(state, "understood.reset"))
    return (
        f'<div class="tl-row">{undo}{every}</div>'
        f'<details id="changes"><summary>{summary}</summary><ol>{lines}</ol></details>'
    )


def edit_sentence(edit: Edit, language: str) -> str:
    """What a change does, as HTML."""
    values: dict[str, object] = {}
    if isinstance(edit, Rename | LeaveOut):
        values["label"] = edit.label
    if isinstance(edit, Rename | Move):
        values["to"] = edit.to
    if not isinstance(edit, Rename | LeaveOut | Relabel):
        values["count"] = len(edit.rows)
    return esc(say(language, f"edit.{kind_of(edit)}", **values))
