"""Plans: what is done, why, and for how long, from wishes, facts and speeds alone."""

import json
from dataclasses import asdict, replace

import pytest

from tl_core import wording
from tl_core.errors import UnknownBackboneError
from tl_core.models.catalogue import CATALOGUE, EMBEDDED, find
from tl_core.settings import Settings
from tl_core.training.plan import Facts, Machine, Plan, Wishes, make_plan, settle, tuning_seconds

FACTS = Facts((200, 200), 320)
SPEEDS = {"features": 500.0, "last": 200.0, "all": 100.0}


@pytest.fixture
def machine(settings: Settings) -> Machine:
    """A machine that was probed."""
    made = Machine(settings)
    for work, speed in SPEEDS.items():
        made.remember(EMBEDDED, speed, work)  # type: ignore[arg-type]
    return made


def planned(machine: Machine, facts: Facts = FACTS, local: list[str] | None = None, **wishes: object) -> Plan:
    rows = [find(name) for name in local or ["built_in"]]
    return make_plan(Wishes(**wishes), facts, local=rows, machine=machine)  # type: ignore[arg-type]


def codes(plan: Plan) -> list[str]:
    return [reason.code for reason in plan.reasons]


def test_quick_leaves_the_backbone_alone(machine: Machine) -> None:
    plan = planned(machine)
    assert plan.recipe is None and plan.strategy == "frozen" and plan.head == "linear"
    assert codes(plan) == ["only_embedded", "tuning_none"] and plan.seconds is not None and plan.seconds < 4


def test_more_effort_is_more_rounds_and_more_time(machine: Machine) -> None:
    plans = [planned(machine, effort=effort) for effort in ("quick", "balanced", "best")]
    seconds = [plan.seconds or 0.0 for plan in plans]
    assert seconds == sorted(seconds) and seconds[1] > 5 * seconds[0]
    assert [plan.strategy for plan in plans] == ["frozen", "all", "all"]
    balanced, best = (plan.recipe for plan in plans[1:])
    assert balanced is not None and best is not None and balanced.epochs < best.epochs


def test_larger_sets_get_fewer_rounds(machine: Machine) -> None:
    small, large = (
        planned(machine, Facts((n, n), round(1.6 * n)), effort="balanced", time_budget=10**5) for n in (100, 2_000)
    )
    assert small.recipe and large.recipe and small.recipe.epochs > large.recipe.epochs


@pytest.mark.parametrize("budget", [10, 30, 60, 300, 600])
def test_a_time_budget_is_kept(machine: Machine, budget: float) -> None:
    plan = planned(machine, effort="best", time_budget=budget)
    assert plan.seconds is not None and plan.seconds <= budget * 1.01
    if budget >= 60:
        assert plan.recipe is not None


def test_what_would_take_too_long_becomes_the_last_blocks_and_then_nothing(machine: Machine) -> None:
    facts = Facts((8_000, 8_000), 12_800)
    speeds = {"features": 500.0, "last": 200.0, "all": 100.0}
    plan = planned(machine, facts, effort="balanced")
    assert plan.recipe is not None and "tuning_last" in codes(plan)
    slow = settle(plan, facts, {work: speed / 50 for work, speed in speeds.items()})  # type: ignore[misc]
    assert slow.recipe is None and "tuning_too_slow" in codes(slow)
    assert "tuning_last" not in codes(slow), "a reason that no longer holds is not told"


def test_what_the_person_asks_for_is_done(machine: Machine) -> None:
    plan = planned(machine, strategy="last", epochs=7, image_size=96, schedule="one-cycle", mixup="on", head="mlp")
    recipe = plan.recipe
    assert recipe is not None and plan.head == "mlp"
    assert (recipe.strategy, recipe.epochs, recipe.image_size, recipe.schedule) == ("last", 7, 96, "one-cycle")
    assert recipe.mixup > 0 and "tuning_last_asked" in codes(plan)
    assert planned(machine, strategy="frozen", effort="best").recipe is None


def test_details_of_fine_tuning_ask_for_it_and_are_never_ignored_in_silence(machine: Machine) -> None:
    for details in ({"epochs": 3}, {"image_size": 64}, {"schedule": "one-cycle"}, {"mixup": "on"}):
        assert planned(machine, **details).recipe is not None
        assert "tuning_unused" in codes(planned(machine, strategy="frozen", **details))
        assert "tuning_not_trees" in codes(planned(machine, head="forest", **details))


def test_auto_takes_only_what_fits_the_size(machine: Machine) -> None:
    plan = planned(machine, local=["dinov2_small", "built_in"], image_size=64, effort="balanced")
    assert plan.backbone == "built_in"
    assert not find("inception_v3").fits(64) and find("inception_v3").fits(128)


def test_trees_cannot_be_fine_tuned_and_that_is_said(machine: Machine) -> None:
    plan = planned(machine, head="forest", strategy="all")
    assert plan.recipe is None and "tuning_not_trees" in codes(plan)


def test_unequal_classes_are_balanced_by_themselves_and_it_is_said(machine: Machine) -> None:
    unequal = Facts((100, 10), 88)
    assert planned(machine, unequal).balance and "balance" in codes(planned(machine, unequal))
    assert not planned(machine, Facts((100, 40), 112)).balance
    assert not planned(machine, unequal, balance="off").balance
    assert planned(machine, FACTS, balance="on").balance


def test_auto_takes_the_strongest_backbone_there_is_time_for(machine: Machine) -> None:
    plan = planned(machine, local=["resnet18", "built_in"])
    assert plan.backbone == "resnet18" and plan.chosen_by == "auto" and codes(plan)[0] == "best_here"
    many = Facts((10_000, 10_000), 16_000)
    hurried = planned(machine, many, local=["resnet50", "built_in"])
    assert hurried.backbone == "built_in" and codes(hurried)[0] == "faster"
    assert planned(machine, local=["resnet18", "built_in"], backbone="built_in").chosen_by == "user"
    with pytest.raises(UnknownBackboneError):
        planned(machine, backbone="resnet-18")


def test_best_compares_what_there_is_time_for(machine: Machine) -> None:
    plan = planned(machine, local=["resnet18", "mobilenet_v3_small", "built_in"], effort="best")
    assert plan.candidates == ("resnet18", "mobilenet_v3_small", "built_in") and codes(plan)[0] == "compare"
    assert planned(machine, local=["built_in"], effort="best").candidates == ()


def test_a_plan_travels_as_json(machine: Machine) -> None:
    for wishes in ({}, {"effort": "best"}, {"head": "gru", "strategy": "all", "epochs": 2}):
        plan = planned(machine, local=["resnet18", "built_in"], **wishes)
        assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert Wishes.from_dict(asdict(Wishes(epochs=3))) == Wishes(epochs=3)


def test_every_reason_has_words(machine: Machine) -> None:
    for plan in (planned(machine), planned(machine, effort="best", local=["resnet18", "built_in"])):
        for reason in plan.reasons:
            assert wording.reason(reason.code, reason.values)


def test_speeds_are_scaled_by_work_and_size(machine: Machine, settings: Settings) -> None:
    assert machine.speed(EMBEDDED) == 500 and machine.speed(EMBEDDED, "all") == 100
    assert machine.speed(EMBEDDED, "all", size=64) == 400
    resnet18 = find("resnet18")
    assert machine.speed(resnet18) == pytest.approx(500 * EMBEDDED.gflops / resnet18.gflops)
    assert machine.speed(resnet18, "all") == pytest.approx(100 * EMBEDDED.gflops / resnet18.gflops)
    unknown = Machine(replace(settings, data_dir=settings.data_dir / "new"))
    assert unknown.speed(EMBEDDED) is None and unknown.assumed(EMBEDDED, "all", Wishes()) > 0


def test_time_grows_with_rounds_and_pictures() -> None:
    assert tuning_seconds(10, 1_000, 100, 500) == pytest.approx(10 * tuning_seconds(1, 1_000, 100, 500), rel=0.1)
    # From 5,000 pictures on nothing is trained a second time.
    assert tuning_seconds(10, 5_000, 100, 500) < 5 * tuning_seconds(10, 1_000, 100, 500)


def test_the_table_has_a_plan_for_every_row(machine: Machine) -> None:
    for row in CATALOGUE:
        plan = planned(machine, backbone=row.id, effort="balanced")
        assert plan.seconds and plan.seconds > 0
