"""What each step shows, worked out from events and files as plain frozen values. Knows no widgets."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape as esc

from tl_core.data.imageset import ImageSet
from tl_core.evaluation.metrics import Evaluation
from tl_core.events import Event, Failed, Finished, Notice, PicturesReady, Progress, StageDone, Started
from tl_core.wording import STAGES
from tl_ui import figures
from tl_ui.words import duration, say, table

_SKIPPED_SHOWN = 200
_FEW_TESTS = 30


@dataclass(frozen=True)
class ReadingPanel:
    """The state of reading an upload: HTML to show, and whether it is running, ready or refused."""

    html: str = ""
    running: bool = False
    ready: bool = False


def reading(events: Sequence[Event], name: str, language: str) -> ReadingPanel:
    """The panel after `events` of the reading of the upload called `name`."""
    panel = ReadingPanel(figures.progress_bar(0, say(language, "data.starting", name=name), name), running=True)
    for event in events:
        if isinstance(event, Progress):
            panel = replace(panel, html=_progress(event, language))
        elif isinstance(event, PicturesReady):
            panel = ReadingPanel(ready=True)
        elif isinstance(event, Failed):
            panel = ReadingPanel(figures.message("bad", failure(event, language)))
    return panel


def _progress(event: Progress, language: str) -> str:
    label = f"{say(language, f'stage.{event.stage}')}: {event.done} / {event.total}"
    if event.seconds_left is not None and event.done < event.total:
        label += " · " + say(language, "train.left", seconds=duration(language, event.seconds_left))
    return figures.progress_bar(event.done / max(event.total, 1), label, say(language, f"stage.{event.stage}"))


def understood(images: ImageSet, language: str) -> str:
    """What was understood of an upload, as HTML."""
    values = {"name": images.source, "pictures": len(images.pictures), "classes": len(images.class_names)}
    blocks = [f"<h3>{esc(say(language, 'data.understood', **values))}</h3>"]
    blocks.append(figures.class_bars(images.class_names, images.counts(), language))
    parts = images.part_counts()
    if any(parts):
        shown = ", ".join(say(language, f"data.part.{part}", count=count) for part, count in parts.items())
        blocks.append(f"<p>{esc(say(language, 'data.parts', parts=shown))}</p>")
    else:
        blocks.append(f"<p>{esc(say(language, 'data.no_parts'))}</p>")
    blocks += [figures.message("warn", say(language, f"remark.{r.code}", **r.values)) for r in images.remarks]
    if images.skipped:
        lines = "".join(
            f"<li><b>{esc(file.name)}</b>: {esc(say(language, f'skip.{file.reason}'))}</li>"
            for file in images.skipped[:_SKIPPED_SHOWN]
        )
        summary = esc(say(language, "data.skipped", count=len(images.skipped)))
        blocks.append(f"<details class='tl-skipped'><summary>{summary}</summary><ul>{lines}</ul></details>")
    if images.ignored:
        blocks.append(f"<p class='tl-quiet'>{esc(say(language, 'data.ignored', count=images.ignored))}</p>")
    return "".join(blocks)


@dataclass(frozen=True)
class TrainPanel:
    """The state of a run: HTML to show, and which buttons make sense."""

    html: str = ""
    running: bool = False
    finished: bool = False


def training(
    events: Sequence[Event], language: str, *, ahead: int = 0, stopping: bool = False, trouble: bool = False
) -> TrainPanel:
    """The panel of a run after `events`; `ahead` runs are before it in the queue; `trouble`: no trainer will start."""
    if not events:
        if trouble:
            return TrainPanel(figures.message("bad", say(language, "train.trouble")), running=True)
        key = "train.ahead" if ahead else "train.waiting"
        waiting = say(language, key, count=ahead)
        return TrainPanel(figures.progress_bar(0, waiting, say(language, "train.progress_name")), running=True)
    start = next((event for event in events if isinstance(event, Started)), None)
    end = events[-1]
    if isinstance(end, Failed):
        return TrainPanel(figures.message("bad", failure(end, language)))
    done, notices, current = _so_far(events, language)
    stages = [stage for stage in STAGES if stage != "reading"]
    items = "".join(_stage_item(stage, done, current, language) for stage in stages)
    blocks = [f'<ol class="tl-stages">{items}</ol>', *notices]
    if isinstance(end, Finished):
        seconds = duration(language, sum(end.seconds.values()))
        key = "train.stopped" if end.reason == "stopped" else "train.done"
        blocks.insert(0, figures.message("good", say(language, key, seconds=seconds)))
        return TrainPanel("".join(blocks), finished=True)
    blocks.insert(0, _run_bar(start, done, current, language, stopping))
    return TrainPanel("".join(blocks), running=True)


def _so_far(events: Sequence[Event], language: str) -> tuple[list[str], list[str], Progress | None]:
    """Stages done, notices as HTML, and the progress of the present stage. A restarted run begins again at the top."""
    done: list[str] = []
    notices: list[str] = []
    current: Progress | None = None
    for event in events:
        if isinstance(event, Started):
            done, notices, current = [], [], None
        elif isinstance(event, StageDone):
            done.append(event.stage)
            current = None
        elif isinstance(event, Progress):
            current = event
        elif isinstance(event, Notice):
            notices.append(figures.message("info", notice(event, language)))
    return done, notices, current


def _run_bar(start: Started | None, done: list[str], current: Progress | None, language: str, stopping: bool) -> str:
    share = 0.9 if "features" in done else 0.02
    left: float | None = start.seconds if start else None
    if current is not None and current.stage == "features":
        share = 0.02 + 0.88 * current.done / max(current.total, 1)
        left = current.seconds_left
    elif current is not None and current.stage == "solving":
        share, left = 0.9 + 0.08 * current.done / max(current.total, 1), current.seconds_left
    label = say(language, "train.stopping") if stopping else ""
    if not stopping and left is not None:
        label = say(language, "train.left", seconds=duration(language, left))
    return figures.progress_bar(share, label, say(language, "train.progress_name"))


def _stage_item(stage: str, done: list[str], current: Progress | None, language: str) -> str:
    text = esc(say(language, f"stage.{stage}"))
    if stage in done:
        return f'<li class="done">{text}</li>'
    if current is not None and current.stage == stage:
        return f'<li class="now">{text} <span>{current.done} / {current.total}</span></li>'
    return f'<li class="later">{text}</li>'


def notice(event: Notice, language: str) -> str:
    """The sentence of a notice: in the page's words where it has some, else as the core wrote it."""
    key = f"notice.{event.code}"
    return say(language, key, **event.values) if key in table(language) else event.text


def failure(event: Failed, language: str) -> str:
    """The sentence of a failure."""
    key = f"error.{event.code}"
    if event.code == "bug" or key not in table(language):
        return event.text
    return say(language, key, **event.values)


def headline(evaluation: Evaluation, language: str) -> str:
    """The score, what it means and how far to trust it, as HTML."""
    low, high = evaluation.interval
    hundred = round(100 * evaluation.accuracy)
    support = [sum(row) for row in evaluation.confusion]
    commonest = evaluation.class_names[support.index(max(support))]
    blocks = [
        f'<p class="tl-headline">{esc(say(language, "results.headline", hundred=hundred))}</p>',
        "<p>"
        + esc(
            say(
                language,
                "results.interval",
                tested=evaluation.tested,
                low=round(100 * low),
                high=round(100 * high),
            )
        )
        + " "
        + esc(say(language, "results.majority", label=commonest, hundred=round(100 * evaluation.majority)))
        + "</p>",
    ]
    if low <= evaluation.majority:
        blocks.append(figures.message("warn", say(language, "results.no_better")))
    elif evaluation.tested < _FEW_TESTS:
        blocks.append(figures.message("warn", say(language, "results.few_tests")))
    return "".join(blocks)


def details(evaluation: Evaluation, language: str) -> str:
    """Confusion matrix and class table, as HTML."""
    rows = [(s.name, s.support, s.recall, s.precision, s.f1) for s in evaluation.per_class]
    return (
        f"<h3>{esc(say(language, 'results.confusion'))}</h3>"
        f"<p class='tl-quiet'>{esc(say(language, 'results.confusion_help'))}</p>"
        + figures.confusion(evaluation.class_names, evaluation.confusion, language)
        + f"<h3>{esc(say(language, 'results.classes'))}</h3>"
        + figures.class_table(rows, language)
    )
