"""A result as HTML with buttons (`parts.forms`): the score and how far to trust it, the matrix whose numbers open the
pictures behind them, mistakes and suspected labels with what can be done about each. Pure; every text from outside goes
through `esc`.
"""

from collections.abc import Sequence
from html import escape as esc

from tl_core.data.pixels import PixelStore
from tl_ui import figures, panel, thumbnails
from tl_ui.judged import PAGE, Judged, State, View
from tl_ui.parts.forms import button
from tl_ui.understood import edit_sentence
from tl_ui.words import say


def html(state: State, view: View) -> str:
    """The whole part."""
    return "".join(
        [
            _changes(state),
            _forecast(state),
            _matrix(state, view),
            _mistakes(state, view),
            _suspects(state, view),
            _sureness(state),
            _numbers(state),
        ]
    )


def _say(state: State, key: str, **values: object) -> str:
    return esc(say(state.language, key, **values))


def _changes(state: State) -> str:
    """What was changed since the run, with a way back."""
    made = state.edits[state.known :]
    if not made:
        return ""
    lines = "".join(f"<li>{edit_sentence(edit, state.language)}</li>" for edit in made[-50:])
    undo = button("undo", _say(state, "understood.undo"), focus="undo")
    told = _say(state, "results.changed", count=len(made))
    return (
        f'<div class="tl-message tl-info" role="status" data-key="changes">{told}'
        f'<ul class="tl-quiet">{lines}</ul><div class="tl-row">{undo}</div></div>'
    )


def _forecast(state: State) -> str:
    """What twice the pictures would bring, as a sentence, with the curve it comes from."""
    curve = state.report.curve
    if curve is None:
        return ""
    gain, low, high = (round(100 * share) for share in (curve.gain, *curve.likely))
    key = "results.forecast" if gain else "results.forecast_none"
    told = _say(state, key, gain=gain, low=low, high=high)
    drawn = figures.learning_curve(curve, state.language)
    return (
        f'<details id="forecast" data-key="forecast"><summary>{told}</summary>{drawn}'
        f'<p class="tl-quiet">{_say(state, "results.forecast_how")}</p></details>'
    )


def _matrix(state: State, view: View) -> str:
    scores = state.report.shown
    can = state.answers is not None and state.images is not None
    note = _say(state, "results.confusion_help") + (f" {_say(state, 'results.confusion_click')}" if can else "")
    drawn = figures.confusion(
        scores.class_names, scores.confusion, state.language, buttons=can, opened=view.cell if can else None
    )
    return (
        f"<h3>{_say(state, 'results.confusion')}</h3><p class='tl-quiet'>{note}</p>{drawn}"
        f"{_opened(state, view) if can and view.cell is not None else ''}"
    )


def _opened(state: State, view: View) -> str:
    """The pictures behind the number that was pressed."""
    assert view.cell is not None
    truth, called = view.cell
    names = state.report.shown.class_names
    if not (truth < len(names) and called < len(names)):
        return ""
    found = state.cell(truth, called)
    page = min(view.page, max(0, (len(found) - 1) // PAGE))
    chosen = found[page * PAGE : (page + 1) * PAGE]
    values = {"truth": names[truth], "predicted": names[called], "count": len(found)}
    title = _say(state, "results.cell_right" if truth == called else "results.cell", **values)
    back = button("page", _say(state, "understood.previous"), page=page - 1) if page else ""
    more = button("page", _say(state, "understood.next"), page=page + 1) if (page + 1) * PAGE < len(found) else ""
    close = button("close", _say(state, "understood.close"), focus=f"cell {truth} {called}")
    return (
        f'<section class="tl-behind" tabindex="-1" data-focus="cell" data-key="cell" data-appear><h4>{title}</h4>'
        f"{_cards(state, chosen, 'cell')}"
        f'<div class="tl-row">{back}{more}{_why(state, view)}{close}</div></section>'
    )


def _mistakes(state: State, view: View) -> str:
    wrong = state.mistakes()
    if state.report.shown.mistakes and not wrong:
        return figures.message("info", say(state.language, "results.no_pictures"))
    if not wrong:
        return figures.message("good", say(state.language, "results.no_mistakes"))
    shown = wrong[: view.mistakes * PAGE]
    return _section(state, view, "mistakes", shown, len(wrong))


def _suspects(state: State, view: View) -> str:
    found = state.suspected()
    if not found:
        return ""
    shown = found[: view.suspected * PAGE]
    return _section(state, view, "suspects", shown, len(found))


def _section(state: State, view: View, name: str, shown: Sequence[Judged], total: int) -> str:
    """Pictures under a heading, with more of them on demand."""
    more = ""
    if total > len(shown):
        more = button(f"more-{name}", _say(state, "results.more", count=total - len(shown)), focus=f"more-{name}")
    return (
        f'<section id="{name}" data-key="{name}"><h3>{_say(state, f"results.{name}")}</h3>'
        f'<p class="tl-quiet">{_say(state, f"results.{name}_help", count=total)}</p>'
        f'{_cards(state, shown, name)}<div class="tl-row">{_why(state, view)}{more}</div></section>'
    )


def _why(state: State, view: View) -> str:
    if not (state.report.bundle / "bundle.json").is_file():
        return ""
    return button("why", _say(state, "results.why_hide" if view.why else "results.why"), focus="why")


def _cards(state: State, chosen: Sequence[Judged], name: str) -> str:
    assert state.images is not None
    store = PixelStore(state.images)
    return f'<ul class="tl-judged">{"".join(_card(state, store, one, name) for one in chosen)}</ul>'


def _card(state: State, store: PixelStore, one: Judged, name: str) -> str:
    picture, names = state.picture(one), state.report.shown.class_names
    url = state.heat.get(picture.row) or thumbnails.jpeg(store[one.number])
    values = {
        "truth": names[one.truth],
        "predicted": names[one.called],
        "confidence": round(100 * one.confidence),
    }
    told = _say(state, "results.suspect" if name == "suspects" else "results.mistake", **values)
    return (
        f'<li data-key="{name}-{picture.row}"><img src="{url}" alt="{esc(picture.name)}">'
        f'<div class="tl-told">{told}<small title="{esc(picture.name)}">{esc(picture.name)}</small></div>'
        f"{_doings(state, one, name)}</li>"
    )


def _doings(state: State, one: Judged, name: str) -> str:
    """What can be done about a picture, or what was done about it."""
    if not state.editable:
        return ""
    picture, names = state.picture(one), state.report.shown.class_names
    row, today = picture.row, state.labels.get(picture.row)
    if today is None:
        return f'<div class="tl-row" role="status">✓ {_say(state, "results.now_out")}</div>'
    if today != names[one.truth]:
        return f'<div class="tl-row" role="status">✓ {_say(state, "results.now", label=today)}</div>'
    if row in state.fine:
        return f'<div class="tl-row" role="status">✓ {_say(state, "results.now_fine")}</div>'
    right = ""
    if one.called != one.truth:
        text = _say(state, "results.is", label=names[one.called])
        right = button("relabel", text, row=row, to=names[one.called], focus=f"{name} {row}")
    others = [other for at, other in enumerate(names) if at not in (one.truth, one.called)][:500]
    options = "".join(f'<option value="{esc(other)}">{esc(other)}</option>' for other in others)
    choose = _say(state, "results.other")
    other = (
        f'<select name="to" data-act="relabel" data-row="{row}" aria-label="{choose}">'
        f'<option value="">{choose}</option>{options}</select>'
    )
    return (
        f'<div class="tl-row tl-doings">{right}{other if others else ""}'
        f"{button('fine', _say(state, 'results.is', label=names[one.truth]), row=row)}"
        f"{button('drop', _say(state, 'understood.drop_one'), row=row)}</div>"
    )


def _sureness(state: State) -> str:
    """How much its confidence is worth: a figure and sentences."""
    scores, lines = state.report.evaluation, []
    after, before = scores.calibration_error, scores.calibration_error_before
    if after is not None:
        key = "results.calibration" if before is None else "results.calibration_before"
        lines.append(_say(state, key, after=f"{100 * after:.1f}", before=f"{100 * (before or 0):.1f}"))
    likely, alarm = state.report.likely, state.report.false_alarm
    if likely is not None and likely.coverage is not None and likely.size is not None:
        values = {"covered": round(100 * likely.coverage), "size": f"{likely.size:.1f}"}
        lines.append(_say(state, "results.likely", **values))
    if alarm is not None:
        lines.append(_say(state, "results.unknown", hundred=round(100 * alarm)))
    if not lines:
        return ""
    told = "".join(f"<p>{line}</p>" for line in lines)
    drawn = figures.reliability(scores.reliability, state.language)
    return f'<details id="sureness"><summary>{_say(state, "results.sureness")}</summary>{drawn}{told}</details>'


def _numbers(state: State) -> str:
    """The scores with their meaning, and every class."""
    scores = state.report.shown
    rows = [("accuracy", scores.accuracy, scores.interval)]
    if scores.balanced is not None and scores.balanced_interval is not None:
        rows.append(("balanced", scores.balanced, scores.balanced_interval))
    if scores.macro_f1 is not None and scores.macro_f1_interval is not None:
        rows.append(("macro_f1", scores.macro_f1, scores.macro_f1_interval))
    told = [
        (say(state.language, f"results.{key}"), say(state.language, f"results.{key}_help"), share, interval)
        for key, share, interval in rows
    ]
    classes = [(s.name, s.support, s.recall, s.precision, s.f1) for s in scores.per_class]
    return (
        f'<details id="numbers"><summary>{_say(state, "results.numbers")}</summary>{figures.scores(told)}'
        f"<p class='tl-quiet'>{_say(state, 'results.numbers_help')}</p></details>"
        f"<h3>{_say(state, 'results.classes')}</h3>{figures.class_table(classes, state.language)}"
    )


def headline(state: State) -> str:
    """The score and how far to trust it, and where it comes from."""
    report = state.report
    told = panel.headline(report.shown, state.language, rounds=report.rounds)
    if report.crossed is not None:
        values = {"tested": report.evaluation.tested, "hundred": round(100 * report.evaluation.accuracy)}
        told += f"<p class='tl-quiet'>{_say(state, 'results.also_tested', **values)}</p>"
    if report.went_on:
        told += figures.message("info", say(state.language, "results.went_on"))
    return told
