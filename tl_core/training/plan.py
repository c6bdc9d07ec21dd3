"""What will be done, on what, and how long it takes: decided before Start, kept with the result.

The seconds come from speeds measured on this machine (`machine.json` in the data folder): a short probe of the
embedded backbone to begin with, then every run's own figures.
"""

import contextlib
import json
import os
from dataclasses import dataclass
from typing import Literal

from tl_core.models.catalogue import CATALOGUE, EMBEDDED, Backbone, find
from tl_core.settings import Settings

Effort = Literal["quick"]
# Before the first probe: a slow laptop. Multiply-adds of the embedded backbone x pictures a second.
_ASSUMED_SPEED = 80.0
# Reading and framing a picture, solving with cross-validation, loading and saving (bench/RESULTS.md).
_FRAMING_SECONDS = 0.0003
_SOLVE_SECONDS_PER_PICTURE_AND_CLASS = 0.000012
_FIXED_SECONDS = 0.3


@dataclass(frozen=True)
class Plan:
    """One run's choices. `seconds` is the predicted time of training, None while the machine's speed is unknown."""

    backbone: str
    chosen_by: Literal["auto", "user"]
    effort: Effort
    seed: int
    seconds: float | None


class Machine:
    """Pictures a second this machine gets out of each backbone, remembered between runs."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.data_dir / "machine.json"

    def speed(self, row: Backbone) -> float | None:
        """Pictures a second, measured or scaled from another backbone by multiply-adds; None before any probe."""
        known = self._load()
        if row.id in known:
            return known[row.id]
        rates = [known[other.id] * other.gflops for other in CATALOGUE if other.id in known]
        return rates[0] / row.gflops if rates else None

    def remember(self, row: Backbone, pictures_per_second: float) -> None:
        """Keep a measurement for later plans; a folder that cannot be written to only makes those less exact."""
        known = self._load() | {row.id: round(pictures_per_second, 1)}
        temporary = self._file.with_suffix(f".{os.getpid()}.tmp")
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(known))
            temporary.replace(self._file)

    def _load(self) -> dict[str, float]:
        try:
            return {str(k): float(v) for k, v in json.loads(self._file.read_text()).items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}  # not probed yet, or half a file after a power cut: measured anew


def seconds_needed(row: Backbone, *, pictures: int, classes: int, speed: float | None) -> float:
    """Predicted seconds of a quick run after its start-up."""
    per_second = speed or _ASSUMED_SPEED * EMBEDDED.gflops / row.gflops
    solving = _SOLVE_SECONDS_PER_PICTURE_AND_CLASS * pictures * classes
    return _FIXED_SECONDS + pictures * (1 / per_second + _FRAMING_SECONDS) + solving


def make_plan(
    backbone_id: str,
    *,
    local: Backbone,
    pictures: int,
    classes: int,
    seed: int,
    machine: Machine,
    effort: Effort = "quick",
) -> Plan:
    """The plan for a set of `pictures` in `classes`; `local` is what "auto" means on this machine.

    Raises UnknownBackboneError.
    """
    row = local if backbone_id == "auto" else find(backbone_id)
    seconds = seconds_needed(row, pictures=pictures, classes=classes, speed=machine.speed(row))
    return Plan(row.id, "auto" if backbone_id == "auto" else "user", effort, seed, round(seconds, 1))
