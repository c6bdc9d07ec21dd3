"""The part of a model card that says how good a model is and where it fails."""

from collections.abc import Iterator

from tl_core.bundle.card_facts import CardFacts, Publication, Words, percent, share
from tl_core.bundle.markdown import markdown_text, table
from tl_core.evaluation.intervals import wilson
from tl_core.evaluation.metrics import Evaluation

SHOWN_CLASSES = 200
NAME_LENGTH = 60
FEW = 10  # test pictures of a class, below which its scores say little
_PAIRS = 5
_NAMED = 10  # classes in a sentence
_UNEVEN = 5  # times as many training pictures in one class as in another


def lead(facts: CardFacts, words: Words) -> str:
    """What it is, and on what."""
    info, trained = facts.info, facts.count("train_pictures")
    tested = f"{info.evaluation.tested:d}"
    told = words("lead.tested", tested=tested) if not trained else words("lead.trained", train=trained, tested=tested)
    said = [words("lead", count=len(info.class_names)), told]
    return words.sentences(*said, words("lead.stopped") if facts.flag("stopped") else "")


def scores(facts: CardFacts, words: Words, published: Publication) -> str:
    """Accuracy, a row for each class, and what was mixed up."""
    scored, taught = facts.info.evaluation, facts.taught()
    low, high = scored.interval
    values = {"accuracy": scored.accuracy, "low": low, "high": high, "majority": scored.majority}
    columns = ["class", *(["train"] if any(count is not None for count in taught) else [])]
    columns += ["test", "precision", "recall"]
    rows = list(_rows(facts, taught if "train" in columns else None))
    parts = [words("scores.accuracy", **{key: percent(value) for key, value in values.items()})]
    parts += _other_scores(facts, words)
    if published.figure:
        parts.append(f"![{words(f'figure.{published.figure_kind}')}]({published.figure})")
    parts += [_mixed_up(scored, words), table(["#", *(words(f"scores.{column}") for column in columns)], rows)]
    if (more := len(scored.per_class) - SHOWN_CLASSES) > 0:
        parts.append(words("scores.more", count=more))
    return "\n\n".join([*parts, words("scores.explained")])


def _other_scores(facts: CardFacts, words: Words) -> Iterator[str]:
    """Scores that count every class the same, and those of cross-validation, where they were measured."""
    scored, crossed = facts.info.evaluation, facts.info.crossed
    pairs = {"balanced": (scored.balanced, scored.balanced_interval), "f1": (scored.macro_f1, scored.macro_f1_interval)}
    shares: dict[str, str] = {}
    for name, (value, interval) in pairs.items():
        if value is None or interval is None:
            return
        shares |= {name: percent(value), f"{name}_low": percent(interval[0]), f"{name}_high": percent(interval[1])}
    yield words("scores.by_class", **shares)
    if crossed is not None:
        low, high = crossed.interval
        values = {"accuracy": percent(crossed.accuracy), "low": percent(low), "high": percent(high)}
        yield words("scores.crossed", tested=f"{crossed.tested:d}", rounds=facts.count("rounds") or 1, **values)


def _rows(facts: CardFacts, taught: tuple[int | None, ...] | None) -> Iterator[list[str]]:
    confusion = facts.info.evaluation.confusion
    named = [sum(row[at] for row in confusion) for at in range(len(confusion))]
    for at, (name, row) in enumerate(zip(facts.info.class_names[:SHOWN_CLASSES], confusion, strict=False)):
        cells = [f"{at + 1}", markdown_text(name, NAME_LENGTH)]
        if taught is not None:
            count = taught[at]
            cells.append("–" if count is None else f"{count:d}")
        yield [*cells, f"{sum(row):d}", _part(row[at], named[at]), _part(row[at], sum(row))]


def _part(hits: int, of: int) -> str:
    """A share with its interval; "–" of nothing."""
    if of < 1:
        return "–"
    low, high = wilson(hits / of, of)
    return f"{hits / of:.2f} ({low:.2f}–{high:.2f})"


def confused_pairs(scored: Evaluation, most: int) -> list[tuple[int, int, int]]:
    """True class, answer and number of test pictures, the most frequent first."""
    found = [
        (count, truth, answer)
        for truth, row in enumerate(scored.confusion)
        for answer, count in enumerate(row)
        if count and truth != answer
    ]
    return [(truth, answer, count) for count, truth, answer in sorted(found, key=lambda x: (-x[0], *x[1:]))[:most]]


def _mixed_up(scored: Evaluation, words: Words) -> str:
    names = [markdown_text(name, NAME_LENGTH) for name in scored.class_names]
    pairs = [
        words(
            "scores.pair", truth=names[t], answer=names[a], count=f"{count:d}", support=f"{sum(scored.confusion[t]):d}"
        )
        for t, a, count in confused_pairs(scored, _PAIRS)
    ]
    return words("scores.pairs", pairs=words("join.pairs").join(pairs)) if pairs else words("scores.no_pairs")


def trust(facts: CardFacts, words: Words) -> str:
    """Calibration, and whether it notices what it never saw."""
    scored, unknown, said = facts.info.evaluation, facts.info.unknown, []
    error, before = share(scored.calibration_error), share(scored.calibration_error_before)
    if error is not None:
        key = "trust.calibration" if before is None else "trust.calibration_before"
        said.append(words(key, error=percent(error), before=percent(before or 0)))
    likely = facts.info.likely
    if likely is not None and likely.coverage is not None and likely.size is not None:
        said.append(words("trust.likely", coverage=percent(likely.coverage), size=f"{likely.size:.1f}"))
    if unknown is None:
        said.append(words("trust.no_unknown"))
    elif unknown.false_alarm is None:
        said.append(words("trust.unknown", threshold=f"{unknown.threshold:.3f}"))
    else:
        values = {"threshold": f"{unknown.threshold:.3f}", "alarm": percent(unknown.false_alarm)}
        said.append(words("trust.unknown_alarm", **values))
    return "\n\n".join(said)


def limits(facts: CardFacts, words: Words) -> str:
    """What it should not be trusted with, as far as its record shows."""
    lines = [words("limits.other_things"), words("limits.other_pictures")]
    supports = [sum(row) for row in facts.info.evaluation.confusion]
    for key, counts in (("untested", range(1)), ("few", range(1, FEW))):
        names = [name for name, count in zip(facts.info.class_names, supports, strict=True) if count in counts]
        if names:
            shown = words("join.list").join(markdown_text(name, NAME_LENGTH) for name in names[:_NAMED])
            more = f" … ({len(names)})" if len(names) > _NAMED else ""
            lines.append(words(f"limits.{key}", least=FEW, classes=shown + more))
    taught = [count for count in facts.taught() if count]
    if taught and max(taught) >= _UNEVEN * min(taught):
        lines.append(words("limits.uneven", most=max(taught), fewest=min(taught)))
    lines.append(words("limits.decisions"))
    return "\n".join(f"- {line}" for line in lines)
