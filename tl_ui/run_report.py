"""The result of a run, read from its folder; nothing in it is believed, as it may come from a stranger's model."""

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tl_core.bundle.card_facts import share
from tl_core.evaluation.conformal import Likely
from tl_core.evaluation.learning_curve import LearningCurve
from tl_core.evaluation.metrics import Evaluation

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Report:
    """A finished run: where its bundle is, how good it is (`crossed`: by cross-validation over all pictures), what more
    pictures would bring, how and when (ISO 8601) it was made, in how many seconds, and whether from an earlier model.
    `likely` and `false_alarm` (the share of test pictures called strange) are None where they were not measured;
    `training` may be a stranger's."""

    bundle: Path
    evaluation: Evaluation
    backbone: str
    went_on: bool = False
    crossed: Evaluation | None = None
    curve: LearningCurve | None = None
    created: str = ""
    seconds: float = 0.0
    training: Mapping[str, Any] = field(default_factory=dict)
    likely: Likely | None = None
    false_alarm: float | None = None

    @property
    def id(self) -> str:
        """The name of its run's folder."""
        return self.bundle.parent.name

    @property
    def shown(self) -> Evaluation:
        """The scores that speak for the model."""
        return self.evaluation if self.crossed is None else self.crossed

    @property
    def rounds(self) -> int:
        """Rounds of cross-validation that the scores shown are from; 0 where they are those of test pictures."""
        found = self.training.get("rounds")
        known = found if type(found) is int and 0 < found < 1000 else 1
        return 0 if self.crossed is None else known

    @classmethod
    def load(cls, folder: Path) -> "Report | None":
        """The report of the run in `folder`; None where there is none that can be read."""
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            record = json.loads((folder / "report.json").read_text(encoding="utf-8"))
            training = record.get("training", {})
            seconds = [taken for taken in record.get("seconds", {}).values() if type(taken) in (int, float)]
            evaluation = Evaluation.from_dict(record["evaluation"])
            classes = len(evaluation.class_names)
            return cls(
                folder / "bundle",
                evaluation,
                str(record["backbone"]),
                training.get("went_on") is True,
                _sound(Evaluation.from_dict, record.get("crossed")),
                _sound(LearningCurve.from_dict, record.get("curve")),
                str(record.get("created", "")),
                sum(seconds),
                training,
                _sound(lambda found: Likely.from_dict(found, classes), record.get("likely")),
                share(record.get("false_alarm")),
            )
        return None


def _sound(read: Callable[[dict[str, Any]], _Read], record: dict[str, Any] | None) -> _Read | None:
    """What `read` makes of a part of a record, None where that is missing or damaged."""
    with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
        return None if record is None else read(record)
    return None
