"""What each step shows, worked out from events and files as plain frozen values. Knows no widgets."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape as esc

from tl_core.errors import (
    DiskFullError,
    GpuInterruptedError,
    GpuQuotaError,
    GpuUnavailableError,
    TrainingCrashedError,
)
from tl_core.evaluation.metrics import Evaluation
from tl_core.events import (
    EpochEnd,
    Event,
    Failed,
    Finished,
    Notice,
    PicturesReady,
    Planned,
    Progress,
    Ready,
    StageDone,
    Started,
)
from tl_core.queue_errors import DiskFailedError
from tl_core.wording import STAGES
from tl_ui import figures
from tl_ui.line import Place
from tl_ui.words import duration, say, table

_FEW_TESTS = 30
# Stages of the other steps.
_ELSEWHERE = ("fetching", "reading", "reviewing", "exporting", "checking", "uploading")


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


_REFUSED = {kind.code for kind in (GpuQuotaError, GpuUnavailableError, GpuInterruptedError)}

# Ends from which a run can be gone on with, as from its last checkpoint.
_GO_ON = {TrainingCrashedError.code, DiskFullError.code, DiskFailedError.code}
_FIRST = Place()


@dataclass(frozen=True)
class TrainPanel:
    """The state of a run: HTML to show, `percent` of the way, and which buttons make sense: `usable` when there is a
    model to look at, `resumable` when the run was stopped and could go on, `refused` when a borrowed GPU was what
    stopped it."""

    html: str = ""
    running: bool = False
    finished: bool = False
    usable: bool = False
    resumable: bool = False
    refused: bool = False
    percent: int = 0


def training(
    events: Sequence[Event], language: str, *, place: Place = _FIRST, stopping: bool = False, trouble: bool = False
) -> TrainPanel:
    """The panel of a run after `events`; `place` is its own in the queue; `trouble`: no trainer will start."""
    if not events:
        if trouble:
            return TrainPanel(figures.message("bad", say(language, "train.trouble")), running=True)
        key = "train.ahead" if place.ahead else "train.waiting"
        waiting = say(language, key, count=place.ahead)
        if place.seconds is not None:
            waiting += " " + say(language, "train.turn", seconds=duration(language, place.seconds))
        return TrainPanel(figures.progress_bar(0, waiting, say(language, "train.progress_name")), running=True)
    start = next((event for event in events if isinstance(event, Started)), None)
    end = events[-1]
    if isinstance(end, Failed):
        told, refused = figures.message("bad", failure(end, language)), end.code in _REFUSED
        again = refused or end.code in _GO_ON
        return TrainPanel(told, usable=again and _so_far(events).ready, resumable=again, refused=refused)
    so_far = _so_far(events)
    stages = [stage for stage in STAGES if stage not in _ELSEWHERE and _concerns(stage, so_far)]
    items = "".join(_stage_item(stage, so_far, language) for stage in stages)
    blocks = [f'<ol class="tl-stages">{items}</ol>', _tuning(so_far, language)]
    blocks += [figures.message("info", notice(event, language)) for event in so_far.notices]
    if isinstance(end, Finished):
        seconds = duration(language, sum(end.seconds.values()))
        stopped = end.reason == "stopped"
        blocks.insert(
            0, figures.message("good", say(language, "train.stopped" if stopped else "train.done", seconds=seconds))
        )
        return TrainPanel("".join(blocks), finished=True, usable=True, resumable=stopped)
    share = _share(so_far)
    blocks.insert(0, _run_bar(share, start, so_far, language, stopping))
    if so_far.ready:
        blocks.insert(1, figures.message("good", say(language, "train.ready")))
    return TrainPanel("".join(blocks), running=True, usable=so_far.ready, percent=round(100 * share))


@dataclass
class _SoFar:
    """What a run has told: stages done, the present one's progress, what is planned and how fine-tuning goes."""

    done: list[str] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    current: Progress | None = None
    planned: Planned | None = None
    epochs: list[EpochEnd] = field(default_factory=list)
    ready: bool = False
    tunes: bool = False


def _so_far(events: Sequence[Event]) -> _SoFar:
    """A run that was taken up again begins again at the top, but its rounds and its model were not for nothing."""
    found = _SoFar()
    for event in events:
        if isinstance(event, Started):
            found = _SoFar(epochs=found.epochs, ready=found.ready, tunes=found.tunes)
        elif isinstance(event, StageDone):
            found.done.append(event.stage)
            found.current = None
        elif isinstance(event, Progress):
            found.current = event
        elif isinstance(event, Notice):
            found.notices.append(event)
        elif isinstance(event, Planned):
            found.planned = event
        elif isinstance(event, EpochEnd):
            found.epochs.append(event)
        elif isinstance(event, Ready | Finished):
            found.ready, found.tunes = True, found.tunes or isinstance(event, Ready)
    return found


def _concerns(stage: str, so_far: _SoFar) -> bool:
    """Whether a run has this stage: most do not compare backbones or fine-tune."""
    if stage not in ("comparing", "framing", "tuning"):
        return True
    present = so_far.current is not None and so_far.current.stage == stage
    return present or stage in so_far.done or (stage == "tuning" and so_far.tunes)


def _tuning(so_far: _SoFar, language: str) -> str:
    """What is planned and how the rounds of fine-tuning went, as HTML."""
    blocks = []
    if so_far.planned is not None:
        why = " ".join(say(language, f"reason.{r['code']}", **r["values"]) for r in so_far.planned.reasons)
        blocks.append(f"<p class='tl-quiet'>{esc(why)}</p>")
    if so_far.epochs:
        last = so_far.epochs[-1]
        told = say(language, "train.round", round=last.epoch, rounds=last.epochs, hundred=round(100 * last.accuracy))
        blocks.append(f"<p>{esc(told)}</p>{figures.curve([e.accuracy for e in so_far.epochs], told)}")
    return "".join(blocks)


# Which part of the bar a stage fills, when a run fine-tunes and when it does not.
_SHARES: dict[bool, dict[str, tuple[float, float]]] = {
    False: {"comparing": (0.0, 0.1), "features": (0.02, 0.9), "solving": (0.9, 0.98)},
    True: {"comparing": (0.0, 0.05), "features": (0.02, 0.1), "solving": (0.1, 0.15), "tuning": (0.15, 0.98)},
}


def _share(so_far: _SoFar) -> float:
    """How much of the bar is filled."""
    current, shares = so_far.current, _SHARES[so_far.tunes]
    if current is not None and current.stage in shares:
        low, high = shares[current.stage]
        return low + (high - low) * current.done / max(current.total, 1)
    return max([0.02, *(shares[stage][1] for stage in so_far.done if stage in shares)])


def _run_bar(share: float, start: Started | None, so_far: _SoFar, language: str, stopping: bool) -> str:
    current = so_far.current
    left: float | None = start.seconds if start else None
    if current is not None and current.stage in _SHARES[so_far.tunes]:
        left = current.seconds_left
    elif so_far.planned is not None:
        left = None
    label = say(language, "train.stopping") if stopping else ""
    if not stopping and left is not None:
        label = say(language, "train.left", seconds=duration(language, left))
    return figures.progress_bar(share, label, say(language, "train.progress_name"))


def _stage_item(stage: str, so_far: _SoFar, language: str) -> str:
    text, current = esc(say(language, f"stage.{stage}")), so_far.current
    if current is not None and current.stage == stage:
        return f'<li class="now">{text} <span>{current.done} / {current.total}</span></li>'
    return f'<li class="{"done" if stage in so_far.done else "later"}">{text}</li>'


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


def headline(evaluation: Evaluation, language: str, *, rounds: int = 0) -> str:
    """The score, what it means and how far to trust it, as HTML; `rounds` of cross-validation, 0 for test pictures."""
    low, high = evaluation.interval
    hundred = round(100 * evaluation.accuracy)
    support = [sum(row) for row in evaluation.confusion]
    commonest = evaluation.class_names[support.index(max(support))]
    values = {"tested": evaluation.tested, "low": round(100 * low), "high": round(100 * high), "rounds": rounds}
    blocks = [
        f'<p class="tl-headline">{esc(say(language, "results.headline", hundred=hundred))}</p>',
        "<p>"
        + esc(say(language, "results.crossed" if rounds else "results.interval", **values))
        + " "
        + esc(say(language, "results.majority", label=commonest, hundred=round(100 * evaluation.majority)))
        + "</p>",
    ]
    if low <= evaluation.majority:
        blocks.append(figures.message("warn", say(language, "results.no_better")))
    elif evaluation.tested < _FEW_TESTS:
        blocks.append(figures.message("warn", say(language, "results.few_tests")))
    return "".join(blocks)
