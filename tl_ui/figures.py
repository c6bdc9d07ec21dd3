"""Figures as HTML, pure functions of plain values. Every text that comes from outside goes through `esc`."""

import functools
import math
from collections.abc import Callable, Sequence
from html import escape as esc

from tl_core.evaluation.learning_curve import LearningCurve
from tl_core.evaluation.metrics import Bin
from tl_ui.words import say

_MATRIX_LIMIT = 30
_PAIRS_SHOWN = 15
_FAINTEST = 0.2  # colour of a cell that anything is in


def progress_bar(share: float, label: str, name: str) -> str:
    """A bar filled to `share` in [0, 1], with `label` beside it and `name` for screen readers."""
    percent = round(100 * min(1.0, max(0.0, share)))
    return (
        f'<div class="tl-progress" role="progressbar" aria-label="{esc(name)}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><div style="width:{percent}%"></div></div>'
        f'<p class="tl-progress-label" aria-live="polite">{esc(label)}</p>'
    )


def mirror(url: str, straight: str, mirrored: str) -> str:
    """A picture (its URL) and its mirror image side by side, each with what it is."""
    shown = f'<img alt="" src="{url}"'
    return (
        f'<div class="tl-mirror"><figure>{shown}><figcaption>{esc(straight)}</figcaption></figure>'
        f'<figure>{shown} class="flipped"><figcaption>{esc(mirrored)}</figcaption></figure></div>'
    )


def frames(pictures: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> str:
    """For each picture its name and, side by side, what becomes of it: (its URL, what was done)."""
    rows = []
    for name, ways in pictures:
        cells = "".join(
            f'<figure><img alt="{esc(name)}: {esc(way)}" src="{url}"><figcaption>{esc(way)}</figcaption></figure>'
            for url, way in ways
        )
        rows.append(f'<li><p class="tl-quiet tl-name">{esc(name)}</p><div>{cells}</div></li>')
    return f'<ul class="tl-frames">{"".join(rows)}</ul>'


def hint(text: str) -> str:
    """A quiet sentence."""
    return f'<p class="tl-quiet">{esc(text)}</p>'


def curve(shares: Sequence[float], name: str) -> str:
    """Shares in [0, 1] over time as a line from left to right, the axis from 0 to 1; `name` for screen readers."""
    if len(shares) < 2:
        return ""
    step = 100 / (len(shares) - 1)
    points = " ".join(f"{at * step:.1f},{40 - 38 * share:.1f}" for at, share in enumerate(shares))
    return (
        f'<svg class="tl-curve" viewBox="0 0 100 40" preserveAspectRatio="none" role="img" aria-label="{esc(name)}">'
        f'<polyline points="{points}"/></svg>'
    )


_WIDE, _HIGH, _LEFT, _BOTTOM = 320, 200, 36, 24  # of a chart, and its margins


def _chart(drawn: str, name: str, across: Sequence[tuple[float, str]], up: Sequence[float], titles: str) -> str:
    """Axes around what was drawn in [0, 1] x [0, 1] by `_at`: ticks (place, text) across, shares upwards."""
    lines = "".join(
        f'<line class="grid" x1="{_at(0, y)[0]}" x2="{_at(1, y)[0]}" y1="{_at(0, y)[1]}" y2="{_at(0, y)[1]}"/>'
        f'<text x="{_LEFT - 4}" y="{_at(0, y)[1] + 4}" text-anchor="end">{100 * share:.0f} %</text>'
        for share, y in zip(up, _spaced(up), strict=True)
    )
    ticks = "".join(
        f'<text x="{_at(x, 0)[0]}" y="{_HIGH - 8}" text-anchor="middle">{esc(text)}</text>' for x, text in across
    )
    return (
        f'<figure class="tl-chart"><svg viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="{esc(name)}">'
        f"{lines}{ticks}{drawn}</svg><figcaption>{esc(titles)}</figcaption></figure>"
    )


def _at(x: float, y: float) -> tuple[float, float]:
    """A point of [0, 1] x [0, 1] in a chart."""
    wide, high = _WIDE - _LEFT - 12, _HIGH - _BOTTOM - 12
    return round(_LEFT + x * wide, 1), round(_HIGH - _BOTTOM - y * high, 1)


def _spaced(shares: Sequence[float]) -> list[float]:
    low, high = shares[0], shares[-1]
    return [(share - low) / (high - low) for share in shares]


def reliability(bins: Sequence[Bin], language: str) -> str:
    """How often answers of each sureness were right, dots the larger the more there are, beside the honest line."""
    if not bins:
        return ""
    most, (x1, y1), (x2, y2) = max(one.count for one in bins), _at(0, 0), _at(1, 1)
    places = [(*_at(one.confidence, one.right), 3 + 7 * math.sqrt(one.count / most)) for one in bins]
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="{r:.1f}"/>' for x, y, r in places)
    said = "; ".join(
        say(language, "figure.bin", sure=round(100 * one.confidence), right=round(100 * one.right), count=one.count)
        for one in bins
    )
    drawn = f'<line class="honest" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>{dots}'
    across = [(share, f"{share:.0%}") for share in (0, 0.5, 1)]
    return _chart(drawn, said, across, (0, 0.25, 0.5, 0.75, 1), say(language, "figure.reliability"))


def learning_curve(curve: LearningCurve, language: str) -> str:
    """The share right over the number of pictures, and where twice as many would probably lead."""
    sizes, shares = [*curve.sizes, 2 * curve.sizes[-1]], [*curve.accuracies, curve.accuracies[-1] + curve.gain]
    low, high = (min(1.0, curve.accuracies[-1] + gain) for gain in curve.likely)
    floor = max(0, int(10 * min(shares)) - 1) / 10
    steps = [floor + (1 - floor) * part / 4 for part in range(5)]
    span = math.log(sizes[-1] / sizes[0])

    def place(size: int, share: float) -> tuple[float, float]:
        return _at(math.log(size / sizes[0]) / span, (share - floor) / (1 - floor))

    points = [place(size, share) for size, share in zip(sizes, shares, strict=True)]
    known, (x, _) = points[:-1], points[-1]
    drawn = f'<polyline points="{" ".join(f"{a},{b}" for a, b in known)}"/>'
    drawn += f'<polyline class="forecast" points="{" ".join(f"{a},{b}" for a, b in points[-2:])}"/>'
    drawn += (
        f'<line class="likely" x1="{x}" x2="{x}" y1="{place(sizes[-1], low)[1]}" y2="{place(sizes[-1], high)[1]}"/>'
    )
    drawn += "".join(f'<circle cx="{a}" cy="{b}" r="4"/>' for a, b in known)
    drawn += f'<circle class="forecast" cx="{x}" cy="{points[-1][1]}" r="4"/>'
    said = "; ".join(
        say(language, "figure.point", count=size, right=round(100 * share))
        for size, share in zip(curve.sizes, curve.accuracies, strict=True)
    )
    across = [(math.log(size / sizes[0]) / span, f"{size:,}") for size in sizes]
    return _chart(drawn, said, across, steps, say(language, "figure.learning_curve"))


def class_bars(names: Sequence[str], counts: Sequence[int], language: str) -> str:
    """One row a class: its name, how many pictures, and a bar of that length."""
    most = max(counts, default=1)
    rows = "".join(
        f'<li><span class="tl-name">{esc(name)}</span>'
        f'<span class="tl-bar"><i style="width:{max(2, round(100 * count / most))}%"></i></span>'
        f'<span class="tl-count">{esc(say(language, "data.count", count=count))}</span></li>'
        for name, count in zip(names, counts, strict=True)
    )
    return f'<ul class="tl-classes" tabindex="0">{rows}</ul>'


def confusion(
    names: Sequence[str],
    matrix: Sequence[Sequence[int]],
    language: str,
    *,
    buttons: bool = False,
    opened: tuple[int, int] | None = None,
) -> str:
    """The confusion matrix as a table people can read, or with very many classes the mix-ups that happened most. With
    `buttons` (in a part, `parts.forms`) a number does the act `cell`; `opened` is the one pressed."""
    cell = functools.partial(_cell, opened=opened) if buttons else _count
    if len(names) > _MATRIX_LIMIT:
        return _confused_pairs(names, matrix, language, cell)
    head = "".join(f'<th scope="col"><span>{esc(name)}</span></th>' for name in names)
    rows = []
    for truth, (name, row) in enumerate(zip(names, matrix, strict=True)):
        support = max(1, sum(row))
        cells = []
        for called, count in enumerate(row):
            kind = "hit" if truth == called else "miss"
            label = say(language, "results.cell", truth=name, predicted=names[called], count=count)
            shown = cell(truth, called, count, label) if count else ""
            share = max(count / support, _FAINTEST) if count else 0.0
            cells.append(f'<td class="{kind}" style="--share:{share:.3f}">{shown}</td>')
        rows.append(f'<tr><th scope="row">{esc(name)}</th>{"".join(cells)}</tr>')
    truth_word, called_word = say(language, "results.truth"), say(language, "results.called")
    return (
        f'<div class="tl-scroll" tabindex="0" role="region" aria-label="{esc(say(language, "results.confusion"))}">'
        f'<table class="tl-confusion"><thead><tr><th>{esc(truth_word)} ↓ · {esc(called_word)} →</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _count(truth: int, called: int, count: int, label: str, text: str = "") -> str:
    return esc(text) or str(count)


def _cell(truth: int, called: int, count: int, label: str, text: str = "", *, opened: tuple[int, int] | None) -> str:
    pressed = "true" if opened == (truth, called) else "false"
    return (
        f'<button type="button" class="tl-cell" data-act="cell" data-truth="{truth}" data-called="{called}" '
        f'data-focus="cell {truth} {called}" aria-pressed="{pressed}" aria-label="{esc(label)}" title="{esc(label)}">'
        f"{esc(text) or count}</button>"
    )


def _confused_pairs(
    names: Sequence[str], matrix: Sequence[Sequence[int]], language: str, cell: Callable[..., str]
) -> str:
    pairs = [
        (count, truth, called)
        for truth, row in enumerate(matrix)
        for called, count in enumerate(row)
        if count and truth != called
    ]
    if not pairs:
        return f"<p>{esc(say(language, 'results.confusion_none'))}</p>"
    lines = []
    for count, truth, called in sorted(pairs, reverse=True)[:_PAIRS_SHOWN]:
        values = {"truth": names[truth], "predicted": names[called], "count": count, "support": sum(matrix[truth])}
        text = say(language, "results.confusion_pair", **values)
        lines.append(f"<li>{cell(truth, called, count, text, text)}</li>")
    return f"<p>{esc(say(language, 'results.confusion_pairs'))}</p><ul>{''.join(lines)}</ul>"


def scores(rows: Sequence[tuple[str, str, float, tuple[float, float]]]) -> str:
    """(name, what it means, share, interval) a score: a bar to the share, and a line where the truth probably lies."""
    items = []
    for name, meaning, share, (low, high) in rows:
        text = f"{100 * share:.0f}&nbsp;% <small>({100 * low:.0f}–{100 * high:.0f}&nbsp;%)</small>"
        items.append(
            f'<li><span class="tl-name"><b>{esc(name)}</b><br><small>{esc(meaning)}</small></span>'
            f'<span class="tl-range" aria-hidden="true"><i style="width:{100 * share:.1f}%"></i>'
            f'<u style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></u></span>'
            f'<span class="tl-count">{text}</span></li>'
        )
    return f'<ul class="tl-scores">{"".join(items)}</ul>'


def class_table(rows: Sequence[tuple[str, int, float, float, float]], language: str) -> str:
    """(name, support, recall, precision, F1) a class, the worst first, so that eyes fall on what needs work."""
    columns = ("class", "support", "recall", "precision", "f1")
    help_keys = {"recall", "precision", "f1"}
    head = "".join(
        f'<th scope="col"{_title(language, column) if column in help_keys else ""}>'
        f"{esc(say(language, f'results.{column}'))}</th>"
        for column in columns
    )
    body = "".join(
        f'<tr><th scope="row">{esc(name)}</th><td>{support}</td>'
        + "".join(f"<td>{round(100 * value)}&nbsp;%</td>" for value in (recall, precision, f1))
        + "</tr>"
        for name, support, recall, precision, f1 in sorted(rows, key=lambda row: row[4])
    )
    label = esc(say(language, "results.classes"))
    return (
        f'<div class="tl-scroll" tabindex="0" role="region" aria-label="{label}"><table class="tl-table">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _title(language: str, column: str) -> str:
    return f' title="{esc(say(language, f"results.{column}_help"))}"'


def heading(text: str) -> str:
    """A heading within a step."""
    return f"<h3>{esc(text)}</h3>"


def message(kind: str, text: str) -> str:
    """A sentence in a box; `kind` is "info", "good", "warn" or "bad"."""
    role = "alert" if kind == "bad" else "status"
    return f'<div class="tl-message tl-{kind}" role="{role}">{esc(text)}</div>'


def linked_message(kind: str, text: str, link: str) -> str:
    """Like `message`, with `link` (HTML made by us) in the place of the NUL in `text`."""
    return message(kind, text).replace("\0", link)


def link(url: str, text: str) -> str:
    """A link that opens beside the page."""
    return f'<a href="{esc(url)}" target="_blank" rel="noopener">{esc(text)}</a>'


def checklist(lines: Sequence[str]) -> str:
    """What was found in order, a line each."""
    return f'<ul class="tl-checklist">{"".join(f"<li>{esc(line)}</li>" for line in lines)}</ul>'


def code(title: str, programs: Sequence[str]) -> str:
    """Short programs to copy, under a title."""
    blocks = "".join(f'<pre tabindex="0"><code>{esc(program)}</code></pre>' for program in programs)
    return f'<p class="tl-quiet">{esc(title)}</p><div class="tl-code">{blocks}</div>'
