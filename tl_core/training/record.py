"""What a run writes down: how its model was made, for the bundle and the card, and its report."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from tl_core.bundle.bundle import now
from tl_core.data.imageset import ImageSet
from tl_core.data.pixels import Preprocessing
from tl_core.data.split import Split
from tl_core.evaluation.metrics import Evaluation
from tl_core.models.catalogue import Backbone
from tl_core.training.judging import Judgement
from tl_core.training.plan import Plan
from tl_core.training.second_look import SecondLook

REPORT = "report.json"


@dataclass(frozen=True)
class Model:
    """What is saved: a calibrated classifier, how it was judged, and what is to be known of how it was made."""

    row: Backbone
    trunk: nn.Module
    head: nn.Module
    preprocessing: Preprocessing
    judged: Judgement
    record: dict[str, Any]


@dataclass(frozen=True)
class Findings:
    """What the second look at the set brought, if one was taken, and its scores where they speak for the model."""

    look: SecondLook | None = None
    crossed: Evaluation | None = None


def training_record(
    images: ImageSet,
    parts: Split,
    plan: Plan,
    model: Model,
    findings: Findings,
    taught: Sequence[int],
    *,
    stopped: bool,
) -> dict[str, Any]:
    """How `model` was made; `taught` are the pictures that it was made from."""
    # Where the model that it goes on from lies is nobody else's business; that there was one is.
    went_on = bool(plan.wishes.start_from)
    plan = replace(plan, wishes=replace(plan.wishes, start_from=""))
    counts, names = Counter(images.pictures[i].label for i in taught), images.class_names
    per_class = {
        "train": [counts[label] for label in range(len(names))],
        "test": [score.support for score in model.judged.evaluation.per_class],
    }
    return {
        "backbone": model.row.id,
        "chosen_by": plan.chosen_by,
        "effort": plan.wishes.effort,
        "seed": plan.seed,
        "seconds": plan.seconds,
        "strategy": plan.strategy if "share" in model.record else "frozen",
        "head": plan.head,
        "framing": model.preprocessing.framing,
        "balance": plan.balance,
        "went_on": went_on,
        **model.record,
        "train_pictures": len(taught),
        "pictures_per_class": per_class,
        "official_split": parts.official,
        "moved_copies": parts.moved,
        "copies": len(images.pictures) - len({picture.group for picture in images.pictures}),
        "skipped": len(images.skipped),
        "rounds": 0 if findings.look is None or findings.crossed is None else len(findings.look.accuracies),
        "stopped": stopped,
        "plan": plan.to_dict(),
    }


def write_report(
    folder: Path, model: Model, findings: Findings, training: Mapping[str, Any], seconds: Mapping[str, float]
) -> None:
    """The result of a run as `report.json` in its folder, complete or not at all."""
    curve = None if findings.look is None else findings.look.curve
    likely, unknown = model.judged.likely, model.judged.unknown
    record = {
        "evaluation": model.judged.evaluation.to_dict(),
        "crossed": None if findings.crossed is None else findings.crossed.to_dict(),
        "curve": None if curve is None else curve.to_dict(),
        "likely": None if likely is None else asdict(likely),
        "false_alarm": None if unknown is None else unknown.false_alarm,
        "training": training,
        "backbone": model.row.id,
        "seconds": seconds,
        "created": now(),
    }
    temporary = folder / f"{REPORT}.tmp"
    temporary.write_text(json.dumps(record), encoding="utf-8")
    temporary.replace(folder / REPORT)
