"""The list of a person's runs, and runs side by side, as HTML (buttons: `parts.forms`). Every text from outside goes
through `esc`."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape as esc
from pathlib import Path

import numpy as np

from tl_core.data.imageset import ImageSet, Reading
from tl_core.data.pixels import PixelStore
from tl_core.evaluation.answers import Answers
from tl_core.evaluation.comparison import Change, ClassChange, Comparison, Judged, compare
from tl_core.events import EpochEnd
from tl_core.jobs.runs import EventLog, RunFolder
from tl_ui import figures, thumbnails
from tl_ui.remembered import folder_of_set
from tl_ui.run_report import Report
from tl_ui.words import duration, say
from tl_ui.workspace import Workspace

_LETTERS = "ABCDEF"
MOST_COMPARED = len(_LETTERS)
_CHANGED_SHOWN = 24
_CLASSES_SHOWN = 40
_NAMED = 10  # classes in a sentence
_STRIP, STRIP_SIDE = 5, 64
_TILES = (
    "display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,{width}),1fr));gap:.7rem;padding:0;"
    "margin:.5rem 0;list-style:none;overflow-wrap:anywhere"
)
_NAME = "min-width:7rem;overflow-wrap:anywhere"
_PICTURE = "width:100%;height:7rem;object-fit:contain;object-position:left;border-radius:6px;margin:0"


@dataclass(frozen=True)
class Row:
    """One run of the list: `id` is its folder's name, which opens nothing; `when` an ISO time, `strip` a data URL."""

    id: str
    name: str
    when: str
    running: bool
    report: Report | None
    strip: str
    shown: bool


@dataclass(frozen=True)
class _Side:
    """One of the runs that are compared."""

    key: str
    run: RunFolder
    report: Report
    title: str


@dataclass(frozen=True)
class View:
    """What the person has opened: the id of the run they are asked about before it goes, and of those compared."""

    asking: str = ""
    compared: tuple[str, ...] = ()


def list_html(rows: Sequence[Row], view: View, compared: str, language: str) -> str:
    """The runs in this order, and under them the comparison that is open (HTML)."""
    cards = "".join(_card(row, view, language) for row in rows)
    button = f'<button type="button" data-act="compare" data-focus="compare">{_say(language, "runs.compare")}</button>'
    if compared:
        close = f'<button type="button" data-act="close">{_say(language, "runs.close")}</button>'
        compared = f'<section data-key="compared" data-arrive>{compared}<div class="tl-row">{close}</div></section>'
    return (
        f'<p class="tl-quiet">{_say(language, "runs.help")}</p>'
        f'<div data-fields><ul class="tl-cards">{cards}</ul><div class="tl-row">{button}</div></div>{compared}'
    )


def _card(row: Row, view: View, language: str) -> str:
    name, known = esc(row.name), f' data-run="{esc(row.id)}"'
    ticked = " checked" if row.id in view.compared else ""
    tick = (
        f'<label class="tl-field"><input type="checkbox" name="run" value="{esc(row.id)}"{ticked} '
        f'aria-label="{_say(language, "runs.tick_one", name=row.name)}"> {_say(language, "runs.tick")}</label>'
    )
    if row.shown:
        opening = f"<b>{_say(language, 'runs.shown')}</b>"
    else:
        opening = f'<button type="button" data-act="open"{known}>{_say(language, "runs.open")}</button>'
    picture = f'<img src="{row.strip}" alt="{_say(language, "runs.strip")}">' if row.strip else ""
    if view.asking == row.id:
        deleting = (
            f'<div class="tl-message tl-warn" role="alert">{_say(language, "runs.delete_ask")}<div class="tl-row">'
            f'<button type="button" data-act="delete"{known}>{_say(language, "runs.delete_yes")}</button>'
            f'<button type="button" data-act="keep" data-focus="keep">{_say(language, "runs.delete_no")}</button>'
            "</div></div>"
        )
    else:
        deleting = f'<button type="button" data-act="ask"{known} data-focus="keep">{_say(language, "runs.delete")}'
        deleting += "</button>"
    return (
        f'<li data-key="{esc(row.id)}"><div class="tl-card-head"><b class="tl-name">{name}</b>'
        f'<span class="tl-count">{time_html(row.when)}</span></div>{picture}{_result(row, language)}'
        f'<div class="tl-row">{opening}{tick if row.report is not None else ""}</div>'
        f'<details id="run-{esc(row.id)}"><summary>{_say(language, "runs.change")}</summary>'
        f'<form data-act="rename"{known}><label class="tl-field">{_say(language, "runs.name")} '
        f'<input name="to" value="{name}" maxlength="80" autocomplete="off"></label>'
        f"<button>{_say(language, 'runs.rename')}</button></form>{deleting}</details></li>"
    )


def _result(row: Row, language: str) -> str:
    """How good it is, on what, and how long it took."""
    report = row.report
    if report is None:
        return f"<p>{_say(language, 'runs.running' if row.running else 'runs.no_result')}</p>"
    scores, (low, high) = report.shown, report.shown.interval
    said = _say(language, "results.headline", hundred=round(100 * scores.accuracy))
    between = _say(language, "runs.between", low=round(100 * low), high=round(100 * high))
    facts = [say(language, "runs.what", pictures=_pictures(report), classes=len(scores.class_names))]
    if report.seconds:
        facts.append(say(language, "runs.took", seconds=duration(language, report.seconds).replace(" ", "\xa0")))
    return f'<p><b>{said}</b><br>{between}</p><p class="tl-quiet">{esc(" · ".join(facts))}</p>'


def _pictures(report: Report) -> int:
    """How many pictures taught or examined the model, as far as its record tells."""
    taught = report.training.get("train_pictures")
    both = report.evaluation.tested + (taught if type(taught) is int and taught >= 0 else 0)
    return max(both, report.shown.tested)


def strip_of(images: ImageSet) -> str:
    """A few pictures of the set side by side, the first of each class as far as they go; "" where they are gone."""
    first: dict[int, int] = {}
    for number, picture in enumerate(images.pictures):
        first.setdefault(picture.label, number)
    with contextlib.suppress(OSError, ValueError):
        store = PixelStore(images)
        chosen = list(first.values())[:_STRIP]
        return thumbnails.strip([store[number] for number in chosen], STRIP_SIDE) if chosen else ""
    return ""


def time_html(when: str) -> str:
    """An ISO time as this machine's clock has it; nothing where it is none."""
    return f'<time datetime="{esc(when)}">{esc(told)}</time>' if (told := time_text(when)) else ""


def time_text(when: str) -> str:
    with contextlib.suppress(ValueError, OverflowError):
        return datetime.fromisoformat(when).astimezone().strftime("%Y-%m-%d %H:%M")
    return ""


def comparison_html(work: Workspace, keys: Sequence[str], language: str) -> str:
    """The runs behind `keys` side by side, and what each after the first changed."""
    found = [(key, run, report) for key in keys if (run := work.run(key)) and (report := work.report(key))]
    if len(found) < 2:
        return figures.message("info", say(language, "compare.gone"))
    sides = [
        _Side(key, run, report, f"{letter}: {_title(run, report, language)}")
        for letter, (key, run, report) in zip(_LETTERS, found, strict=False)
    ]
    blocks = [f"<h3>{_say(language, 'compare.title')}</h3>", _scores(sides, language)]
    for side in sides[1:]:
        if len(sides) > 2:
            blocks.append(f"<h4>{_say(language, 'compare.against', after=side.title, before=sides[0].title)}</h4>")
        blocks.append(_changes(work, sides[0], side, language))
    blocks.append(_curves(sides, language))
    return "".join(blocks)


def _title(run: RunFolder, report: Report, language: str) -> str:
    name = run.name() or say(language, "runs.unnamed")
    when = time_text(report.created)
    return f"{name}, {when}" if when else name


def _scores(sides: Sequence[_Side], language: str) -> str:
    head = "".join(
        f'<th scope="col">{_say(language, column)}</th>'
        for column in ("compare.run", "compare.right", "compare.between", "compare.on")
    )
    rows = []
    for side in sides:
        scores, (low, high) = side.report.shown, side.report.shown.interval
        cells = (
            f"{100 * scores.accuracy:.1f}&nbsp;%",
            f"{100 * low:.1f}–{100 * high:.1f}&nbsp;%",
            f"{scores.tested:,}",
        )
        body = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row" style="{_NAME}">{esc(side.title)}</th>{body}</tr>')
    return _table(head, rows, say(language, "compare.title"))


def _table(head: str, rows: Iterable[str], name: str) -> str:
    return (
        f'<div class="tl-scroll" tabindex="0" role="region" aria-label="{esc(name)}"><table class="tl-table">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _changes(work: Workspace, before: _Side, after: _Side, language: str) -> str:
    """The difference between two runs: in numbers, class by class, and picture by picture."""
    images = work.images_of(after.key)
    found = _compared(before, after, images)
    blocks = [_other_classes(before.report, after.report, language)]
    if found is None:
        return figures.message("info", say(language, "compare.no_common")) + "".join(blocks)
    blocks.insert(0, _difference(found, language))
    blocks.append(_per_class(found.per_class, language))
    if not found.now_right and not found.now_wrong:
        blocks.append(f"<p>{_say(language, 'compare.none_changed')}</p>")
    elif images is None:
        blocks.append(f"<p>{_say(language, 'compare.no_pictures')}</p>")
    shown = _thumbnails(images, [*found.now_right[:_CHANGED_SHOWN], *found.now_wrong[:_CHANGED_SHOWN]])
    for key, changed in (("compare.now_right", found.now_right), ("compare.now_wrong", found.now_wrong)):
        if changed:
            blocks.append(f"<h4>{_say(language, key, count=len(changed))}</h4>")
            blocks.append(_changed(changed, shown, language))
    return "".join(blocks)


def _difference(found: Comparison, language: str) -> str:
    values = {"count": f"{found.compared:,}", "before": _hundred(found.before), "after": _hundred(found.after)}
    points = {"points": _points(found.difference), "low": _points(found.likely[0]), "high": _points(found.likely[1])}
    common = say(language, "compare.common", **values)
    if not found.difference:
        return figures.message("info", f"{common} {say(language, 'compare.same', **points)}")
    verdict, kind = "compare.luck", "info"
    if not found.may_be_luck:
        verdict, kind = ("compare.better", "good") if found.difference > 0 else ("compare.worse", "warn")
    told = f"{say(language, 'compare.difference', **points)} {say(language, verdict)}"
    return figures.message(kind, f"{common} {told}")


def _hundred(share: float) -> str:
    """So many out of 100, with a decimal where it has one."""
    return f"{100 * share:.1f}".removesuffix(".0")


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".removesuffix(".0").replace("-", "−")


def _other_classes(before: Report, after: Report, language: str) -> str:
    """The classes that only one of the two knows."""
    known = [before.shown.class_names, after.shown.class_names]
    blocks = []
    for key, mine, others in (
        ("compare.gone_classes", known[0], known[1]),
        ("compare.new_classes", known[1], known[0]),
    ):
        names = [name for name in mine if name not in others]
        if names:
            shown = ", ".join(f"“{name}”" for name in names[:_NAMED]) + (" …" if len(names) > _NAMED else "")
            blocks.append(f"<p>{_say(language, key, classes=shown)}</p>")
    return "".join(blocks)


def _per_class(classes: Sequence[ClassChange], language: str) -> str:
    """How many of every class are found before and after, those that changed most first."""
    columns = ("results.class", "compare.before", "compare.after", "compare.change", "compare.on")
    head = "".join(f'<th scope="col">{_say(language, column)}</th>' for column in columns)
    ordered = sorted(classes, key=lambda one: -abs(one.after - one.before))
    rows = [
        f'<tr><th scope="row" style="{_NAME}">{esc(one.name)}</th><td>{100 * one.before:.0f}&nbsp;%</td>'
        f"<td>{100 * one.after:.0f}&nbsp;%</td><td>{_bar(one.after - one.before)}</td><td>{one.count:,}</td></tr>"
        for one in ordered[:_CLASSES_SHOWN]
    ]
    more = ""
    if len(ordered) > _CLASSES_SHOWN:
        more = f'<p class="tl-quiet">{_say(language, "compare.more", count=len(ordered) - _CLASSES_SHOWN)}</p>'
    title = say(language, "compare.classes")
    return (
        f'<h4>{esc(title)}</h4><p class="tl-quiet">{_say(language, "compare.classes_help")}</p>'
        f"{_table(head, rows, title)}{more}"
    )


def _bar(difference: float) -> str:
    """A difference of shares as a bar to the right of the middle (better) or to its left, with its number."""
    width = 50 * min(1.0, abs(difference))
    left, colour = (50.0, "#0d9488") if difference >= 0 else (50 - width, "#ea580c")
    return (
        '<svg viewBox="0 0 100 12" width="100" height="12" aria-hidden="true" style="display:inline-block">'
        f'<rect x="{left:.1f}" y="1" width="{width:.1f}" height="10" fill="{colour}"/>'
        '<line x1="50" y1="0" x2="50" y2="12" stroke="currentColor"/></svg> '
        f"{_points(difference) if difference else '0'}"
    )


def _thumbnails(images: ImageSet | None, changed: Iterable[Change]) -> dict[int, str]:
    """Data URLs of the pictures that are still here, by row."""
    if images is None:
        return {}
    at = {picture.row: number for number, picture in enumerate(images.pictures)}
    with contextlib.suppress(OSError, ValueError):
        store = PixelStore(images)
        return {one.row: thumbnails.jpeg(store[at[one.row]]) for one in changed if one.row in at}
    return {}


def _changed(changed: Sequence[Change], shown: Mapping[int, str], language: str) -> str:
    """Pictures that changed, each with its class and both answers."""
    items = []
    for one in changed[:_CHANGED_SHOWN]:
        told = _say(language, "compare.called", truth=one.truth, before=one.before, after=one.after)
        picture = f'<img src="{shown[one.row]}" alt="" style="{_PICTURE}">' if one.row in shown else ""
        items.append(f'<li><figure style="margin:0">{picture}<figcaption>{told}</figcaption></figure></li>')
    more = ""
    if len(changed) > _CHANGED_SHOWN:
        more = f'<p class="tl-quiet">{_say(language, "compare.more", count=len(changed) - _CHANGED_SHOWN)}</p>'
    return f'<ul style="{_TILES.format(width="9rem")}">{"".join(items)}</ul>{more}'


def _curves(sides: Sequence[_Side], language: str) -> str:
    """How each run learned: round by round where it was fine-tuned, and what more pictures brought."""
    items = []
    for side in sides:
        curve = side.report.curve
        rounds = [event.accuracy for event in EventLog(side.run.path).new() if isinstance(event, EpochEnd)]
        lines = [("compare.rounds", {"count": len(rounds)}, rounds)]
        if curve is not None:
            lines.append(("compare.sizes", {"fewest": curve.sizes[0], "most": curve.sizes[-1]}, list(curve.accuracies)))
        for key, values, shares in lines:
            if len(shares) > 1:
                ends = {"first": f"{100 * shares[0]:.0f}", "last": f"{100 * shares[-1]:.0f}"}
                told = f"{side.title}. {say(language, key, **values, **ends)}"
                items.append(
                    f'<li><figure style="margin:0">{figures.curve(shares, told)}<figcaption>{esc(told)}</figcaption>'
                    "</figure></li>"
                )
    if not items:
        return ""
    heading = f"<h4>{_say(language, 'compare.curves')}</h4>"
    return f'{heading}<ul style="{_TILES.format(width="18rem")}">{"".join(items)}</ul>'


def _compared(before: _Side, after: _Side, images: ImageSet | None) -> Comparison | None:
    one, other = _judged(before), _judged(after)
    if one is None or other is None:
        return None
    groups = None if images is None else {picture.row: picture.group for picture in images.pictures}
    return compare(one, other, same=_same_rows(before.run, after.run), groups=groups)


def _judged(side: _Side) -> Judged | None:
    """The answers of a run; None where they are not there or are not those of its report."""
    answers, names = Answers.load(side.run.path), side.report.shown.class_names
    if answers is None or answers.judged()[1].shape[1:] != (len(names),):
        return None
    return Judged(answers, names) if np.isin(answers.labels, range(len(names))).all() else None


def _same_rows(before: RunFolder, after: RunFolder) -> list[int] | None:
    """The rows that are the same picture in the sets of both runs: all of them (None) in one set, and those that a set
    was grown from; none where that cannot be told."""
    folders = [folder_of_set(run) for run in (before, after)]
    if not all(folders):
        return []
    if folders[0] == folders[1]:
        return None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        one, other = (Reading.load(Path(folder)).stored for folder in folders)
        return [row for row, (a, b) in enumerate(zip(one, other, strict=False)) if a.digest == b.digest != ""]
    return []


def _say(language: str, key: str, **values: object) -> str:
    return esc(say(language, key, **values))
