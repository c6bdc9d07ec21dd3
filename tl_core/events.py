"""What a run reports, as frozen dataclasses. The core yields them; a page or a terminal turns them into words.

Every event travels as one JSON object a line (`events.jsonl` in a run folder), so another process can follow.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from tl_core.errors import TLError

# fmt: off
Stage = Literal[
    "fetching", "reading", "reviewing", "backbone", "comparing", "features", "solving", "framing", "tuning",
    "evaluating", "saving", "exporting", "checking", "uploading",
]
# fmt: on


@dataclass(frozen=True)
class Progress:
    """`done` of `total` pictures or steps of a stage; `seconds_left` is for the whole run, None while unknown."""

    stage: Stage
    done: int
    total: int
    seconds_left: float | None = None


@dataclass(frozen=True)
class StageDone:
    stage: Stage
    seconds: float


@dataclass(frozen=True)
class Notice:
    """A sentence the person should see: something was guessed, merged, skipped or done another way."""

    code: str
    text: str
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Started:
    """Training begins: on what, with what, and about how long it will take."""

    pictures: int
    classes: int
    backbone: str
    device: str
    seconds: float | None


@dataclass(frozen=True)
class Planned:
    """What the run will do, measured on a few batches: how long in all, and why so (`code` and values of sentences)."""

    seconds: float
    strategy: str
    epochs: int
    reasons: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Ready:
    """There is a model that can be used while the run goes on; `bundle` is its folder, `accuracy` its test score."""

    bundle: str
    accuracy: float


@dataclass(frozen=True)
class EpochEnd:
    """The fine-tuned model after `epoch` of `epochs`, on pictures held out of training: share right and mean loss."""

    epoch: int
    epochs: int
    accuracy: float
    loss: float
    best: bool


@dataclass(frozen=True)
class Paused:
    """The slice of time is over; the same call goes on from here."""

    stage: Stage


@dataclass(frozen=True)
class Finished:
    """The run has delivered a bundle. `reason` is "stopped" when the person asked for it early."""

    bundle: str
    accuracy: float
    reason: Literal["completed", "stopped"]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class PicturesReady:
    """Reading is over: the folder of the prepared set and what is in it."""

    folder: str
    pictures: int
    classes: int
    skipped: int


@dataclass(frozen=True)
class Failed:
    """The run is over without a result. `code` and `values` name a `TLError`; "bug" is anything else."""

    code: str
    text: str
    values: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, error: Exception) -> "Failed":
        if isinstance(error, TLError):
            return cls(error.code, str(error), error.values)
        return cls("bug", "Something went wrong on our side. Your pictures were not the cause.")


Event = (
    Progress | StageDone | Notice | Started | Planned | Ready | EpochEnd | Paused | Finished | PicturesReady | Failed
)
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Event)}
LAST = (Finished, PicturesReady, Failed)


def to_line(event: Event) -> str:
    """`event` as one line of JSON, newline included."""
    record = {"kind": type(event).__name__, **dataclasses.asdict(event)}
    return json.dumps(record, ensure_ascii=True, separators=(",", ":")) + "\n"


def from_line(line: str) -> Event:
    """The event of a line written by `to_line`. Raises ValueError for anything else."""
    try:
        record = json.loads(line)
        kind = _KINDS[record.pop("kind")]
        event: Event = kind(**record)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not an event") from error
    return event
