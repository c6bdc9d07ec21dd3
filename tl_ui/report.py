"""A finished run as one HTML page of its own, to be kept, sent or printed: no script, nothing fetched from anywhere,
pictures inside it. Every text from outside goes through `esc`."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from html import escape as esc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl_core.bundle.card_facts import whole
from tl_core.data.imageset import ImageSet
from tl_core.data.pixels import PixelStore
from tl_core.errors import NotABundleError, TLError
from tl_core.evaluation.intervals import wilson
from tl_core.evaluation.metrics import Evaluation, Mistake
from tl_core.models.catalogue import find
from tl_ui import figures, panel, thumbnails
from tl_ui.runs_view import time_text
from tl_ui.theme import CSS
from tl_ui.words import duration, say

if TYPE_CHECKING:
    from tl_ui.run_report import Report
    from tl_ui.workspace import Workspace

_STYLE = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
_LANGUAGES = {"zh": "zh-Hans"}  # as pages name them, where not as we do
_FEW = 10  # test pictures of a class, below which its scores say little
_UNEVEN = 5  # times as many training pictures in one class as in another
_NAMED = 10  # classes in a sentence
_CLASSES_SHOWN = 500
_EFFORTS = ("quick", "balanced", "best")
_STRATEGIES = ("frozen", "last", "all")


@dataclass(frozen=True)
class _Told:
    """What the page is made of."""

    name: str
    report: "Report"
    images: ImageSet | None
    language: str

    def say(self, key: str, **values: object) -> str:
        """A sentence as HTML."""
        return esc(say(self.language, key, **values))

    def count(self, key: str) -> int | None:
        """A whole number of the training record, which may be a stranger's."""
        return whole(self.report.training.get(key))

    def said(self, key: str, among: Sequence[str]) -> str:
        """A word of the training record where it is one of those `among`; else ""."""
        found = self.report.training.get(key)
        return found if isinstance(found, str) and found in among else ""

    def taught(self) -> list[int | None]:
        """Training pictures of each class, None where it is not known."""
        names, found = self.report.evaluation.class_names, self.report.training.get("pictures_per_class")
        counts = found.get("train") if isinstance(found, Mapping) else None
        known = isinstance(counts, list) and len(counts) == len(names)
        return [whole(count) for count in counts] if known and isinstance(counts, list) else [None] * len(names)


def html_report(work: "Workspace", key: str, language: str) -> str:
    """The report of the run behind `key` as a whole page. Raises NotABundleError when the run is gone."""
    run, report = work.run(key), work.report(key)
    if run is None or report is None:
        raise NotABundleError(name="", reason="there is no such model any more")
    told = _Told(run.name() or say(language, "runs.unnamed"), report, work.images_of(key), language)
    sections = (_head, _matrix, _classes, _mistakes, _trust, _more, _made, _limits)
    body = "".join(section(told) for section in sections)
    return (
        f'<!DOCTYPE html>\n<html lang="{_LANGUAGES.get(language, language)}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{told.say('report.title', name=told.name)}</title><style>{CSS}{_STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _head(told: _Told) -> str:
    """The name, the score, what it means, and the same in numbers."""
    report, scores = told.report, told.report.shown
    rounds = (told.count("rounds") or 1) if report.crossed is not None else 0
    dates = [told.say("report.written", when=datetime.now(timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M"))]
    if when := time_text(report.created):
        dates.insert(0, told.say("report.trained", when=when))
    blocks = [f"<h1>{esc(told.name)}</h1><p class='tl-quiet'>{' · '.join(dates)}</p>"]
    blocks.append(panel.headline(scores, told.language, rounds=rounds))
    if report.crossed is not None:
        tested = {"tested": report.evaluation.tested, "hundred": round(100 * report.evaluation.accuracy)}
        blocks.append(f"<p>{told.say('results.also_tested', **tested)}</p>")
    if report.went_on:
        blocks.append(figures.message("info", say(told.language, "results.went_on")))
    rows = [
        (say(told.language, f"results.{key}"), say(told.language, f"results.{key}_help"), share, interval)
        for key, share, interval in (
            ("accuracy", scores.accuracy, scores.interval),
            ("balanced", scores.balanced, scores.balanced_interval),
            ("macro_f1", scores.macro_f1, scores.macro_f1_interval),
        )
        if share is not None and interval is not None
    ]
    return "".join(blocks) + figures.scores(rows) + f"<p class='tl-quiet'>{told.say('results.numbers_help')}</p>"


def _section(told: _Told, key: str, body: str, note: str = "") -> str:
    quiet = f'<p class="tl-quiet">{told.say(note)}</p>' if note else ""
    return f"<section><h2>{told.say(key)}</h2>{quiet}{body}</section>" if body else ""


def _matrix(told: _Told) -> str:
    scores = told.report.shown
    drawn = figures.confusion(scores.class_names, scores.confusion, told.language)
    return _section(told, "results.confusion", drawn, "results.confusion_help")


def _classes(told: _Told) -> str:
    """Every class with how far to trust its shares, the worst first."""
    scores, taught = told.report.shown, told.taught()
    named = [sum(row[at] for row in scores.confusion) for at in range(len(scores.class_names))]
    columns = ("results.class", "report.taught", "results.support", "results.recall", "results.precision", "results.f1")
    head = "".join(f'<th scope="col">{told.say(column)}</th>' for column in columns)
    order = sorted(range(len(named)), key=lambda at: scores.per_class[at].f1)
    rows = []
    for at in order[:_CLASSES_SHOWN]:
        one, hits, support = scores.per_class[at], scores.confusion[at][at], sum(scores.confusion[at])
        known = "–" if (count := taught[at]) is None else f"{count:,}"
        cells = (known, f"{support:,}", _share(hits, support), _share(hits, named[at]), f"{100 * one.f1:.0f}&nbsp;%")
        body = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row">{esc(one.name)}</th>{body}</tr>')
    table = (
        f'<div class="tl-scroll" tabindex="0" role="region" aria-label="{told.say("results.classes")}">'
        f'<table class="tl-table"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )
    if len(order) > _CLASSES_SHOWN:
        table += f"<p>{told.say('compare.more', count=len(order) - _CLASSES_SHOWN)}</p>"
    return _section(told, "results.classes", table, "report.classes_help")


def _share(hits: int, of: int) -> str:
    """A share and where it most likely lies; "–" of nothing."""
    if of < 1:
        return "–"
    low, high = wilson(hits / of, of)
    return f"{100 * hits / of:.0f}&nbsp;%<br><small>{100 * low:.0f}–{100 * high:.0f}&nbsp;%</small>"


def _mistakes(told: _Told) -> str:
    """The most confident mistakes as pictures, or as words where the pictures are gone."""
    scores, images = told.report.shown, told.images
    if not scores.mistakes:
        return _section(told, "results.mistakes", f"<p>{told.say('results.no_mistakes')}</p>")
    shown: dict[int, str] = {}
    if images is not None:
        with contextlib.suppress(OSError, ValueError):
            store, last = PixelStore(images), len(images.pictures)
            shown = {m.picture: thumbnails.jpeg(store[m.picture]) for m in scores.mistakes if m.picture < last}
    items = "".join(_mistake(told, scores, mistake, shown.get(mistake.picture)) for mistake in scores.mistakes)
    note = "" if shown else f"<p>{told.say('report.no_pictures')}</p>"
    return _section(told, "results.mistakes", f'{note}<ul class="wrong">{items}</ul>')


def _mistake(told: _Told, scores: Evaluation, mistake: Mistake, url: str | None) -> str:
    truth, predicted = scores.class_names[mistake.truth], scores.class_names[mistake.predicted]
    values = {"truth": truth, "predicted": predicted, "confidence": round(100 * mistake.confidence)}
    caption = told.say("results.mistake", **values)
    name = esc(told.images.pictures[mistake.picture].name) if url and told.images is not None else ""
    picture = f'<img src="{url}" alt="{name}">' if url else ""
    return f"<li><figure>{picture}<figcaption>{caption}</figcaption></figure></li>"


def _trust(told: _Told) -> str:
    """How much its confidence is worth."""
    scores = told.report.evaluation
    after, before = scores.calibration_error, scores.calibration_error_before
    if after is None:
        return ""
    key = "results.calibration" if before is None else "results.calibration_before"
    said = told.say(key, after=f"{100 * after:.1f}", before=f"{100 * (before or 0):.1f}")
    return _section(told, "results.sureness", f"<p>{said}</p>{figures.reliability(scores.reliability, told.language)}")


def _more(told: _Told) -> str:
    """What more pictures would bring."""
    curve = told.report.curve
    if curve is None:
        return ""
    gain, low, high = (round(100 * share) for share in (curve.gain, *curve.likely))
    said = told.say("results.forecast" if gain else "results.forecast_none", gain=gain, low=low, high=high)
    return _section(told, "report.more", f"<p>{said}</p>{figures.learning_curve(curve, told.language)}")


def _made(told: _Told) -> str:
    """How it was trained, as far as its record says."""
    report, counts = told.report, told.count
    effort, strategy, official = told.said("effort", _EFFORTS), told.said("strategy", _STRATEGIES), None
    if isinstance(report.training.get("official_split"), bool):
        official = report.training["official_split"]
    title = report.backbone
    with contextlib.suppress(TLError):
        title = find(report.backbone).title
    facts: dict[str, Any] = {
        "train.backbone": esc(title),
        "train.strategy": told.say(f"train.strategy.{strategy}") if strategy else "",
        "train.effort": told.say(f"train.effort.{effort}") if effort else "",
        "report.seconds": esc(duration(told.language, report.seconds)) if report.seconds else "",
        "report.taught": _number(counts("train_pictures")),
        "report.tested": _number(report.evaluation.tested),
        "report.split": "" if official is None else told.say("report.official" if official else "report.own"),
        "report.copies": _number(counts("copies")),
        "report.moved": _number(counts("moved_copies") or None),
        "report.skipped": _number(counts("skipped")),
    }
    rows = "".join(f"<dt>{told.say(key)}</dt><dd>{value}</dd>" for key, value in facts.items() if value)
    stopped = f"<p>{told.say('report.stopped')}</p>" if report.training.get("stopped") is True else ""
    return _section(told, "report.made", f"<dl>{rows}</dl>{stopped}")


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _limits(told: _Told) -> str:
    """What it should not be trusted with."""
    scores = told.report.shown
    supports = dict(zip(scores.class_names, (sum(row) for row in scores.confusion), strict=True))
    lines = [told.say("report.limit.other_things"), told.say("report.limit.other_pictures")]
    for key, counts in (("report.limit.untested", range(1)), ("report.limit.few", range(1, _FEW))):
        if names := [f"“{name}”" for name, count in supports.items() if count in counts]:
            shown = ", ".join(names[:_NAMED]) + (f" … ({len(names)})" if len(names) > _NAMED else "")
            lines.append(told.say(key, least=_FEW, classes=shown))
    taught = [count for count in told.taught() if count]
    if taught and max(taught) >= _UNEVEN * min(taught):
        lines.append(told.say("report.limit.uneven", most=max(taught), fewest=min(taught)))
    lines.append(told.say("report.limit.decisions"))
    return _section(told, "report.limits", f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>")
