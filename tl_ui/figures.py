"""Figures as HTML, pure functions of plain values. Every text that comes from outside goes through `esc`."""

from collections.abc import Sequence
from html import escape as esc

from tl_ui.words import say

_MATRIX_LIMIT = 30
_PAIRS_SHOWN = 15


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


def confusion(names: Sequence[str], matrix: Sequence[Sequence[int]], language: str) -> str:
    """The confusion matrix as a table people can read; with very many classes, the mix-ups that happened most."""
    if len(names) > _MATRIX_LIMIT:
        return _confused_pairs(names, matrix, language)
    head = "".join(f'<th scope="col"><span>{esc(name)}</span></th>' for name in names)
    rows = []
    for truth, (name, row) in enumerate(zip(names, matrix, strict=True)):
        support = max(1, sum(row))
        kinds = ["hit" if truth == called else "miss" for called in range(len(row))]
        cells = "".join(
            f'<td class="{kind}" style="--share:{count / support:.3f}">{count or ""}</td>'
            for kind, count in zip(kinds, row, strict=True)
        )
        rows.append(f'<tr><th scope="row">{esc(name)}</th>{cells}</tr>')
    truth_word, called_word = say(language, "results.truth"), say(language, "results.called")
    return (
        f'<div class="tl-scroll" tabindex="0" role="region" aria-label="{esc(say(language, "results.confusion"))}">'
        f'<table class="tl-confusion"><thead><tr><th>{esc(truth_word)} ↓ · {esc(called_word)} →</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _confused_pairs(names: Sequence[str], matrix: Sequence[Sequence[int]], language: str) -> str:
    pairs = [
        (count, truth, called)
        for truth, row in enumerate(matrix)
        for called, count in enumerate(row)
        if count and truth != called
    ]
    if not pairs:
        return f"<p>{esc(say(language, 'results.confusion_none'))}</p>"
    lines = "".join(
        "<li>"
        + esc(
            say(
                language,
                "results.confusion_pair",
                truth=names[truth],
                predicted=names[called],
                count=count,
                support=sum(matrix[truth]),
            )
        )
        + "</li>"
        for count, truth, called in sorted(pairs, reverse=True)[:_PAIRS_SHOWN]
    )
    return f"<p>{esc(say(language, 'results.confusion_pairs'))}</p><ul>{lines}</ul>"


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


def answers_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text under `headers`, scrolling inside its box when it is wide or long."""
    head = "".join(f'<th scope="col">{esc(text)}</th>' for text in headers)
    body = "".join("<tr>" + "".join(f"<td>{esc(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="tl-scroll tl-answers" tabindex="0" role="region" aria-label="{esc(headers[0])}">'
        f'<table class="tl-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


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
