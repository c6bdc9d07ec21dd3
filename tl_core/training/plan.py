"""What will be done, on what, why, and how long it takes: decided before Start, kept with the result.

The seconds come from speeds measured on this machine (`machine.json` in the data folder): a short probe of the
embedded backbone to begin with, then every run's own figures. A run that fine-tunes measures a few batches of its own
before it settles the recipe (`probe.py`).
"""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from tl_core.data.imageset import ImageSet
from tl_core.data.pixels import Framing
from tl_core.data.split import TEST_FRACTION
from tl_core.models.catalogue import CATALOGUE, EMBEDDED, Backbone, find
from tl_core.settings import Settings
from tl_core.training.balance import BALANCE_RATIO
from tl_core.training.framing import comparing_seconds, matters
from tl_core.training.recipe import Precision, Recipe, Strategy

Effort = Literal["quick", "balanced", "best"]
Switch = Literal["auto", "on", "off"]
HeadKind = Literal["linear", "mlp", "gru", "lstm", "forest", "boosting", "ensemble"]
Work = Literal["features", "last", "all"]  # what a speed is the speed of
WORKS: tuple[Work, ...] = ("features", "last", "all")

# Before the first probe: a slow laptop. Multiply-adds of the embedded backbone x pictures a second.
_ASSUMED_SPEED = 170.0
# A step on all layers costs about this many forward passes, on the last blocks about so many (bench/RESULTS.md).
_PASSES: Mapping[Work, float] = {"features": 1.0, "last": 3.0, "all": 6.0}
# Reading and framing a picture, solving with cross-validation, loading and saving (bench/RESULTS.md).
_FRAMING_SECONDS = 0.0003
_SOLVE_SECONDS_PER_PICTURE_AND_CLASS = 0.000012
_FIXED_SECONDS = 0.3
# Up to so many pictures a set is cross-validated (`second_look`); what that costs a picture, and what the look at a
# larger set costs a picture and a picture and class (bench/RESULTS.md).
SMALL_SET = 400
_CROSSING_SECONDS, _LOOK_SECONDS, _LOOK_SECONDS_PER_CLASS = 0.006, 0.0012, 0.00002
# Views of pictures a fine-tuning run asks for, whatever the size of the set, within these epochs; and how long each
# effort may take by itself. BiT's rule (arXiv 1912.11370) likewise gives small sets more epochs.
_VIEWS: Mapping[Effort, int] = {"quick": 0, "balanced": 16_000, "best": 40_000}
_EPOCHS: Mapping[Effort, tuple[int, int]] = {"quick": (0, 0), "balanced": (4, 20), "best": (8, 40)}
_ALLOWED_SECONDS: Mapping[Effort, float] = {"quick": 60.0, "balanced": 300.0, "best": 1_800.0}
HELD_OUT = 0.2  # of the training pictures, for choosing between the solved and the fine-tuned model
AGAIN_BELOW = 5_000  # with so many training pictures the fifth held out is no longer missed
FROZEN_HEADS: tuple[HeadKind, ...] = ("forest", "boosting", "ensemble")  # nothing flows back through these
MAP_HEADS: tuple[HeadKind, ...] = ("gru", "lstm")  # these read the feature map
STRATEGIES: tuple[Strategy, ...] = ("all", "last")
# Mixup pays on long runs only (BiT, arXiv 1912.11370: from 20,000 pictures; shorter runs underfit).
_MIXUP_EPOCHS = 30


@dataclass(frozen=True)
class Wishes:
    """What the person asked for; "auto" and None leave the choice to the plan. `time_budget` is in seconds,
    `start_from` the folder of a bundle whose weights are gone on with ("" for the backbone's own)."""

    backbone: str = "auto"
    effort: Effort = "quick"
    strategy: Literal["auto", "frozen", "last", "all"] = "auto"
    head: Literal["auto"] | HeadKind = "auto"
    epochs: int | None = None
    time_budget: float | None = None
    image_size: int | None = None
    schedule: Literal["auto", "cosine", "one-cycle"] = "auto"
    framing: Literal["auto"] | Framing = "auto"
    balance: Switch = "auto"
    flips: Switch = "auto"
    mixup: Switch = "auto"
    seed: int = 0
    start_from: str = ""

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Wishes":
        """The inverse of `asdict`; what an older version did not know has its default."""
        return cls(**{f.name: record[f.name] for f in fields(cls) if f.name in record})


@dataclass(frozen=True)
class Facts:
    """What a plan has to know of a set: `counts` are the pictures of each class, `train` those that teach, `elongated`
    whether it matters how pictures are made square."""

    counts: tuple[int, ...]
    train: int
    elongated: bool = False

    @classmethod
    def of(cls, images: ImageSet, *, train: int | None = None) -> "Facts":
        """`train` is estimated while it is not known how the pictures are split."""
        parts = images.part_counts()
        examined = parts.get("test") or parts.get("val") or round(TEST_FRACTION * len(images.pictures))
        taught = len(images.pictures) - examined if train is None else train
        return cls(images.counts(), max(1, taught), matters(images))

    @property
    def pictures(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True)
class Reason:
    """Why the plan is as it is: `code` names a sentence, `values` fill it."""

    code: str
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """One run's choices. `seconds` is the predicted time of training; `recipe` is None where nothing is fine-tuned;
    with several `candidates` the backbone is chosen among them in the run, by cross-validation."""

    wishes: Wishes
    backbone: str
    chosen_by: Literal["auto", "user"]
    seconds: float | None
    head: HeadKind = "linear"
    recipe: Recipe | None = None
    balance: bool = False
    candidates: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()

    @property
    def seed(self) -> int:
        return self.wishes.seed

    @property
    def strategy(self) -> Literal["frozen", "last", "all"]:
        return "frozen" if self.recipe is None else self.recipe.strategy

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Plan":
        """The inverse of `to_dict`, also after JSON."""
        values = {f.name: record[f.name] for f in fields(cls) if f.name in record}
        values["wishes"] = Wishes.from_dict(record["wishes"])
        if values.get("recipe") is not None:
            values["recipe"] = Recipe(**values["recipe"])
        values["reasons"] = tuple(Reason(**reason) for reason in values.get("reasons", ()))
        values["candidates"] = tuple(values.get("candidates", ()))
        return cls(**values)


class Machine:
    """Pictures a second this machine gets out of each backbone, remembered between runs."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.data_dir / settings.speeds

    def speed(self, row: Backbone, work: Work = "features", *, size: int | None = None) -> float | None:
        """Pictures a second at `size` pixels, measured or scaled from another backbone or kind of work by
        multiply-adds; None before any probe."""
        known = self._load()
        area = (row.preprocessing.size / (size or row.preprocessing.size)) ** 2
        if (mine := known.get(_entry(row, work))) is not None:
            return mine * area
        rates = [(known[_entry(o, work)] * o.gflops, 1.0) for o in CATALOGUE if _entry(o, work) in known]
        rates += [
            (known[_entry(o, "features")] * o.gflops, _PASSES[work])
            for o in (row, EMBEDDED, *CATALOGUE)
            if _entry(o, "features") in known
        ]
        return rates[0][0] / rates[0][1] / row.gflops * area if rates else None

    def assumed(self, row: Backbone, work: Work, wishes: Wishes) -> float:
        """Pictures a second at the size wished for: measured, scaled, or that of a slow laptop."""
        size = wishes.image_size or row.preprocessing.size
        slow = _ASSUMED_SPEED * EMBEDDED.gflops / row.gflops / _PASSES[work]
        return self.speed(row, work, size=size) or slow * (row.preprocessing.size / size) ** 2

    def settled(self, plan: Plan, facts: Facts) -> Plan:
        """`plan` with the recipe and the seconds that the speeds known here give."""
        row = find(plan.backbone)
        return settle(plan, facts, {work: self.assumed(row, work, plan.wishes) for work in WORKS})

    def remember(self, row: Backbone, pictures_per_second: float, work: Work = "features") -> None:
        """Keep a measurement for later plans; a folder that cannot be written to only makes those less exact."""
        known = self._load() | {_entry(row, work): round(pictures_per_second, 1)}
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


def _entry(row: Backbone, work: Work) -> str:
    return row.id if work == "features" else f"{row.id}:{work}"


def seconds_needed(row: Backbone, *, pictures: int, classes: int, speed: float | None) -> float:
    """Predicted seconds of the quick part of a run after its start-up."""
    per_second = speed or _ASSUMED_SPEED * EMBEDDED.gflops / row.gflops
    solving = _SOLVE_SECONDS_PER_PICTURE_AND_CLASS * pictures * classes
    looking = _CROSSING_SECONDS if pictures <= SMALL_SET else _LOOK_SECONDS + _LOOK_SECONDS_PER_CLASS * classes
    return _FIXED_SECONDS + pictures * (1 / per_second + _FRAMING_SECONDS + looking) + solving


def make_plan(wishes: Wishes, facts: Facts, *, local: Sequence[Backbone], machine: Machine) -> Plan:
    """The plan for `wishes` on a set; `local` are the backbones whose weights are on this machine, best first.

    Raises UnknownBackboneError.
    """
    row, candidates, reasons = _backbone(wishes, facts, local, machine)
    chosen_by: Literal["auto", "user"] = "auto" if wishes.backbone == "auto" else "user"
    plan = Plan(wishes, row.id, chosen_by, None, candidates=candidates)
    plan = replace(plan, head="linear" if wishes.head == "auto" else wishes.head)
    ratio = max(facts.counts) / max(1, min(facts.counts))
    if wishes.balance == "on" or (wishes.balance == "auto" and ratio >= BALANCE_RATIO):
        plan = replace(plan, balance=True)
        reasons.append(
            Reason("balance_asked") if wishes.balance == "on" else Reason("balance", {"ratio": f"{ratio:.0f}"})
        )
    if wishes.framing != "auto":
        reasons.append(Reason(f"framing_{wishes.framing}"))
    elif facts.elongated:
        reasons.append(Reason("framing_compare"))
    plan = replace(plan, reasons=tuple(reasons))
    return machine.settled(plan, facts)


def settle(plan: Plan, facts: Facts, speeds: Mapping[Work, float], precision: Precision = "fp32") -> Plan:
    """`plan` with its recipe and seconds for these speeds, in pictures a second: assumed before Start, measured in the
    run."""
    row, wishes = find(plan.backbone), plan.wishes
    details = wishes.epochs or wishes.image_size or wishes.schedule != "auto" or wishes.mixup == "on"
    quick = seconds_needed(row, pictures=facts.pictures, classes=len(facts.counts), speed=speeds["features"])
    if wishes.framing == "auto" and facts.elongated:
        quick += comparing_seconds(facts.pictures, facts.train, 1 / speeds["features"] + _FRAMING_SECONDS)
    reasons = [reason for reason in plan.reasons if not reason.code.startswith("tuning_")]
    recipe, tuning = None, 0.0
    trees = plan.head in FROZEN_HEADS
    if trees and (details or wishes.strategy in ("last", "all")):
        reasons.append(Reason("tuning_not_trees"))
    elif wishes.strategy == "frozen" and details:
        reasons.append(Reason("tuning_unused"))
    elif (
        trees
        or wishes.strategy == "frozen"
        or (wishes.strategy == "auto" and not details and not _VIEWS[wishes.effort])
    ):
        reasons.append(Reason("tuning_none"))
    else:
        recipe, tuning, why = _recipe(wishes, facts, row, speeds, quick)
        recipe = recipe and replace(recipe, precision=precision)
        reasons.append(why)
    return replace(plan, recipe=recipe, seconds=round(quick + tuning, 1), reasons=tuple(reasons))


def _backbone(
    wishes: Wishes, facts: Facts, local: Sequence[Backbone], machine: Machine
) -> tuple[Backbone, tuple[str, ...], list[Reason]]:
    """The backbone asked for, or the best one here that looks at all pictures within a tenth of the time there is; for
    "best" all of those, to be compared in the run."""
    if wishes.backbone != "auto":
        return find(wishes.backbone), (), []
    if wishes.image_size:
        local = [row for row in local if row.fits(wishes.image_size)] or [EMBEDDED]
    allowed = wishes.time_budget or _ALLOWED_SECONDS[wishes.effort]
    share = 1.0 if wishes.effort == "quick" else 0.2
    seconds = {row.id: facts.pictures / machine.assumed(row, "features", wishes) for row in local}
    quick_enough = [row for row in local if seconds[row.id] <= share * allowed] or [
        min(local, key=lambda r: seconds[r.id])
    ]
    if wishes.effort == "best" and len(quick_enough) > 1:
        compared, total = [], 0.0
        for row in quick_enough:
            if (total := total + seconds[row.id]) <= share * allowed:
                compared.append(row)
        if len(compared) > 1:
            return compared[0], tuple(r.id for r in compared), [Reason("compare", {"count": str(len(compared))})]
    row = quick_enough[0]
    if len(local) == 1:
        return row, (), [Reason("only_embedded")]
    skipped = [other.title for other in local[: local.index(row)]]
    if skipped:
        return row, (), [Reason("faster", {"title": row.title, "slow": skipped[0]})]
    return row, (), [Reason("best_here", {"title": row.title})]


def _recipe(
    wishes: Wishes, facts: Facts, row: Backbone, speeds: Mapping[Work, float], quick: float
) -> tuple[Recipe | None, float, Reason]:
    """How to fine-tune within the time there is, how long that takes, and why so."""
    effort: Effort = "balanced" if wishes.effort == "quick" else wishes.effort
    allowed = max(0.0, wishes.time_budget - quick) if wishes.time_budget else _ALLOWED_SECONDS[effort]
    least, most = _EPOCHS[effort]
    wanted = wishes.epochs or min(most, max(least, round(_VIEWS[effort] / facts.train)))
    asked = (
        STRATEGIES if wishes.strategy in ("auto", "frozen") else tuple(s for s in STRATEGIES if s == wishes.strategy)
    )
    for strategy in asked:
        epoch = tuning_seconds(1, facts.train, speeds[strategy], speeds["features"])
        possible = wanted if wishes.epochs else min(wanted, int(allowed / epoch))
        if possible >= min(wanted, least) or wishes.strategy == strategy:
            epochs = max(1, possible)
            recipe = Recipe(
                strategy,
                epochs,
                wishes.image_size if wishes.image_size and row.fits(wishes.image_size) else row.preprocessing.size,
                schedule="cosine" if wishes.schedule == "auto" else wishes.schedule,
                again=facts.train < AGAIN_BELOW,
                mixup=0.2 if wishes.mixup == "on" or (wishes.mixup == "auto" and epochs >= _MIXUP_EPOCHS) else 0.0,
            )
            code = f"tuning_{strategy}" + ("_asked" if wishes.strategy == "last" else "")
            return recipe, epochs * epoch, Reason(code, {"epochs": str(epochs)})
    return None, 0.0, Reason("tuning_too_slow")


def tuning_seconds(epochs: int, train: int, step_speed: float, look_speed: float) -> float:
    """Seconds of fine-tuning with `train` pictures: once without the pictures held out, judged on those now and then,
    and once more with all of them."""
    judging = min(epochs, 10) * HELD_OUT * train / look_speed
    again = train < AGAIN_BELOW
    return epochs * train * (1 - HELD_OUT + again) / step_speed + judging
