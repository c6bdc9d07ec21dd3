"""Heads of every kind: they learn, repeat exactly, travel without code, and a hostile file cannot harm."""

import copy
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeRegressor
from torch import nn

from tl_core.models import heads, trees
from tl_core.training import fit_heads, fit_trees
from tl_core.training.fit_heads import FittedHead, HeadStep, fit_head
from tl_core.training.solve import solve

CLASSES = 3


def pictures(count: int = 150, *, seed: int = 0, spread: float = 1.5) -> tuple[Any, list[int]]:
    """(count, 6, 12) maps: a class is where in the map, and in which channels, something is."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    centres = np.random.default_rng(99).normal(size=(CLASSES, 6, 12))
    x = centres[labels] + spread * rng.normal(size=(count, 6, 12))
    return (x * np.linspace(0.1, 20, 12) + 3).astype(np.float32), labels.tolist()


def features(kind: str, **options: Any) -> tuple[Any, list[int]]:
    maps, labels = pictures(**options)
    return (maps, labels) if kind in ("gru", "lstm") else (maps.reshape(len(maps), -1), labels)


def fitted(kind: str, x: Any, labels: list[int], groups: list[int] | None = None, **options: Any) -> FittedHead:
    groups = list(range(len(labels))) if groups is None else groups
    *steps, last = list(fit_head(kind, x, labels, groups, CLASSES, **{"seed": 0, "epochs": 6} | options))
    assert isinstance(last, FittedHead) and all(isinstance(step, HeadStep) for step in steps)
    return last


@pytest.fixture(scope="module", autouse=True)
def _few_trees() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_heads, "TREES", 60)
        patch.setattr(fit_heads, "ROUNDS", 80)
        yield


@pytest.fixture(scope="module")
def fits(_few_trees: None) -> dict[str, FittedHead]:
    """One of each kind, for tests that only look."""
    return {kind: fitted(kind, *features(kind)) for kind in heads.KINDS}


def logits(head: nn.Module, x: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = head(torch.from_numpy(x))
    return found


@pytest.mark.parametrize("kind", heads.KINDS)
def test_it_learns_and_says_how_well(kind: str, fits: dict[str, FittedHead]) -> None:
    x, labels = features(kind, seed=1)
    probabilities = logits(fits[kind].head, x).softmax(1)
    right = (probabilities.argmax(1) == torch.tensor(labels)).float().mean().item()
    assert right > 0.8  # chance is a third
    assert abs(right - fits[kind].cv_accuracy) < 0.2
    assert fits[kind].epochs >= 1 and not fits[kind].head.training
    assert heads.needs(fits[kind].head) == ("map" if kind in ("gru", "lstm") else "pooled")


@pytest.mark.parametrize("kind", heads.KINDS)
def test_steps_are_counted_to_the_end(kind: str) -> None:
    x, labels = features(kind, count=60)
    *steps, _ = list(fit_head(kind, x, labels, list(range(60)), CLASSES, seed=0, epochs=2))
    shares = [step.done / step.total for step in steps]  # type: ignore[union-attr]
    assert shares == sorted(shares) and shares[0] > 0 and shares[-1] <= 1
    assert kind == "ensemble" or shares[-1] == 1


@pytest.mark.parametrize("kind", heads.KINDS)
def test_it_travels_as_json_and_tensors(kind: str, fits: dict[str, FittedHead], tmp_path: Path) -> None:
    head = fits[kind].head
    save_file({name: value.contiguous() for name, value in head.state_dict().items()}, tmp_path / "head.safetensors")
    before = torch.random.get_rng_state()
    back = heads.build(json.loads(json.dumps(heads.describe(head), allow_nan=False)))
    assert torch.equal(before, torch.random.get_rng_state())
    back.load_state_dict(load_file(tmp_path / "head.safetensors"), strict=True)
    heads.check(back)
    x, _ = features(kind, seed=2)
    assert torch.equal(logits(back, x), logits(head, x))
    assert heads.describe(back) == heads.describe(head)
    assert {value.dtype for value in head.state_dict().values()} <= {torch.float32, torch.int64}


@pytest.mark.parametrize("kind", heads.KINDS)
def test_the_same_seed_gives_the_same_head_whatever_came_before(kind: str) -> None:
    x, labels = features(kind, count=60)
    one = fitted(kind, x, labels, epochs=2)
    torch.manual_seed(5)
    np.random.seed(5)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        two = fitted(kind, x, labels, epochs=2)
    finally:
        torch.set_num_threads(threads)
    other = fitted(kind, x, labels, epochs=2, seed=1)
    assert (one.temperature, one.cv_accuracy, one.epochs) == (two.temperature, two.cv_accuracy, two.epochs)
    for name, value in one.head.state_dict().items():
        assert torch.equal(value, two.head.state_dict()[name]), name
    assert any(
        value.shape != other.head.state_dict()[name].shape or not torch.equal(value, other.head.state_dict()[name])
        for name, value in one.head.state_dict().items()
    )


@pytest.mark.parametrize("kind", heads.KINDS)
def test_fitting_leaves_torch_as_it_was(kind: str) -> None:
    x, labels = features(kind, count=30)
    threads, random = torch.get_num_threads(), torch.random.get_rng_state()
    for _ in fit_head(kind, x, labels, list(range(30)), CLASSES, seed=0, epochs=1):
        assert torch.get_num_threads() == threads and torch.is_grad_enabled()
    assert torch.equal(random, torch.random.get_rng_state())


@pytest.mark.parametrize("kind", heads.KINDS)
def test_stopping_keeps_a_usable_head(kind: str) -> None:
    x, labels = features(kind)
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 2

    head = fitted(kind, x, labels, should_stop=should_stop, epochs=20).head
    assert (logits(head, x).argmax(1) == torch.tensor(labels)).float().mean() > 0.6
    at_once = fitted(kind, x, labels, should_stop=lambda: True).head
    heads.check(at_once)
    assert torch.isfinite(logits(at_once, x)).all()


def test_a_long_epoch_is_stopped_within() -> None:
    x, labels = features("linear", count=fit_heads._BATCH * (fit_heads._BATCHES_A_LOOK + 10))
    steps = list(fit_head("linear", x, labels, list(range(len(labels))), CLASSES, seed=0, should_stop=lambda: True))
    assert len(steps) == 2 and isinstance(steps[-1], FittedHead)


def test_half_precision_maps_on_disk_give_a_head(tmp_path: Path) -> None:
    x, labels = features("gru", count=60)
    np.save(tmp_path / "maps.npy", x.astype(np.float16))
    on_disk = np.load(tmp_path / "maps.npy", mmap_mode="r")
    one = fitted("gru", on_disk, labels, epochs=2)
    two = fitted("gru", x.astype(np.float16).astype(np.float32), labels, epochs=2)
    assert torch.equal(logits(one.head, x), logits(two.head, x))


def test_a_linear_head_begins_where_it_is_told() -> None:
    x, labels = features("linear")
    solved: Any = list(solve(x, labels, list(range(len(labels))), CLASSES))[-1]
    told = fitted("linear", x, labels, start=(solved.weight, solved.bias), epochs=1)
    afresh = fitted("linear", x, labels, epochs=1)
    other, other_labels = features("linear", seed=1)
    wanted = (logits(told.head, other).argmax(1) == torch.tensor(other_labels)).float().mean()
    assert wanted >= (logits(afresh.head, other).argmax(1) == torch.tensor(other_labels)).float().mean() - 0.02
    ensemble = fitted("ensemble", x, labels, start=(solved.weight, solved.bias)).head
    assert isinstance(ensemble, heads.Ensemble)
    member: Any = ensemble.members[0]
    ratio = solved.weight / member.weight  # as given, but for the temperature
    assert torch.allclose(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-4)


@pytest.mark.parametrize("kind", ["linear", "mlp", "forest", "boosting", "ensemble"])
def test_a_heavier_class_is_named_more_often(kind: str) -> None:
    x, labels = features(kind, spread=8.0)
    other, _ = features(kind, spread=8.0, seed=1)
    plain, heavy = fitted(kind, x, labels), fitted(kind, x, labels, class_weights=[8.0, 1.0, 1.0])
    shares = [(logits(fit.head, other).softmax(1)[:, 0].mean().item()) for fit in (plain, heavy)]
    # The nodes of fully grown trees are pure whatever the weights; only where they split changes.
    assert shares[1] > shares[0] - (0.05 if kind == "forest" else 0)


@pytest.mark.parametrize("kind", heads.KINDS)
def test_two_pictures_a_class_or_one_are_enough_to_run(kind: str) -> None:
    for count in (6, 3):
        x, labels = features(kind, count=count)
        fit = fitted(kind, x, labels, epochs=1)
        assert torch.isfinite(logits(fit.head, x)).all() and 0 <= fit.cv_accuracy <= 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=20, max_size=60), st.integers(0, 5))
def test_copies_never_teach_what_they_examine(groups: list[int], seed: int) -> None:
    groups = [0, 1, *(group + 2 for group in groups)]
    labels = [group % CLASSES for group in groups]
    x = np.random.default_rng(0).normal(size=(len(groups), 4)).astype(np.float32)
    taught: list[Any] = []
    examined: list[Any] = []

    class Descent(fit_heads._Descent):
        def _step(self, rows: Any, *where: float) -> None:
            taught.append((self, rows))

    answers = fit_heads._answers
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_heads, "_Descent", Descent)
        patch.setattr(fit_heads, "_answers", lambda *given: (examined.append(given[2]), answers(*given))[1])
        list(fit_head("linear", x, labels, groups, CLASSES, seed=seed, epochs=1))
    first, last = ([i for who, rows in taught if who is taught[at][0] for i in rows] for at in (0, -1))
    held = examined[0].tolist()
    assert sorted(last) == list(range(len(groups)))
    assert sorted([*first, *held]) == list(range(len(groups))) and first and held
    assert not {groups[i] for i in first} & {groups[i] for i in held}


def test_a_forest_judges_no_picture_by_a_tree_that_saw_its_copy() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(60, 8)).astype(np.float32)
    labels = rng.integers(0, CLASSES, 60)
    x, twice = np.concatenate([noise, noise]), np.concatenate([labels, labels]).tolist()
    leaky = fitted("forest", x, twice, groups=list(range(120)))
    honest = fitted("forest", x, twice, groups=list(range(60)) * 2)
    assert leaky.cv_accuracy > 0.8 and honest.cv_accuracy < 0.55


# --- trees ---


def test_a_forest_answers_as_the_library_does() -> None:
    x, labels = load_digits(return_X_y=True)  # whole numbers: many features lie exactly on a threshold's side
    x = (x / np.float32(16) * np.float32(1.1)).astype(np.float32)
    ours = fit_trees.Forest(x, labels, 10, 0, np.ones(len(x)))
    ours.grow(20)
    ours.grow(40)
    theirs = RandomForestClassifier(40, random_state=0, max_samples=len(x), max_depth=100)
    theirs.fit(x, labels, sample_weight=np.ones(len(x)))
    head = ours.head()
    noise = np.random.default_rng(0).uniform(-1, 2, (2000, 64)).astype(np.float32)
    on_the_edge = np.repeat(head.threshold.numpy()[:5000:8, None], 64, axis=1)
    for rows in (x, noise, on_the_edge, np.nextafter(on_the_edge, np.float32(9))):
        difference = head.scores(torch.from_numpy(rows)).numpy() - theirs.predict_proba(rows)
        assert np.abs(difference).max() < 1e-6
    assert head.sizes.leaves == 10  # fully grown: one row of values a class


def test_what_a_tree_is_said_to_have_seen_is_what_it_saw() -> None:
    x, labels = features("forest", spread=30.0)
    for weights in (np.ones(len(x)), np.linspace(0.1, 9, len(x))):
        forest = fit_trees.Forest(x, np.array(labels), CLASSES, 0, weights)
        forest.grow(20)
        for tree, bag in zip(forest._forest.estimators_, forest._forest.estimators_samples_, strict=True):
            right = tree.predict(x) == labels
            assert right[bag].all() and not np.delete(right, bag).all()


def test_a_class_that_no_tree_saw_gets_no_votes() -> None:
    x, labels = features("forest")
    ours = fit_trees.Forest(x, np.array(labels), CLASSES + 2, 0, np.ones(len(x)))
    ours.grow(20)
    scores = ours.head().scores(torch.from_numpy(x))
    assert scores.shape == (len(x), CLASSES + 2) and (scores[:, CLASSES:] == 0).all()


def test_boosting_sums_what_the_librarys_trees_say() -> None:
    x, labels = features("boosting")
    boosting = fit_trees.Boosting(x, np.array(labels), CLASSES, 0, np.ones(len(x)))
    for number in range(30):
        boosting.round(number)
    assert np.abs(boosting.head().scores(torch.from_numpy(x)).numpy() - boosting._scores).max() < 1e-5


def test_leaves_of_one_value_belong_to_the_classes_in_turn() -> None:
    x, _ = features("boosting")
    targets = np.random.default_rng(0).normal(size=(6, len(x)))
    grown = [DecisionTreeRegressor(max_depth=3, random_state=0).fit(x, target) for target in targets]
    pairs = [(tree.tree_, tree.tree_.value[:, 0]) for tree in grown]
    head = trees.from_fitted("boosting", x.shape[1], CLASSES, pairs, np.arange(CLASSES))
    wanted = np.stack([tree.predict(x) for tree in grown], axis=1).reshape(len(x), 2, CLASSES).sum(1)
    assert np.abs(head.scores(torch.from_numpy(x)).numpy() - wanted - np.arange(CLASSES)).max() < 1e-5


@given(st.floats(-1e30, 1e30))
def test_thresholds_are_rounded_so_that_the_same_numbers_stay_below(threshold: float) -> None:
    rounded = trees.round_down(np.array([threshold]))[0]
    assert float(rounded) <= threshold < float(np.nextafter(rounded, np.float32(np.inf)))


def test_a_forest_of_100_classes_is_small() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(2000) % 100
    x = (rng.normal(size=(100, 64))[labels] + rng.normal(size=(2000, 64))).astype(np.float32)
    forest = fit_trees.Forest(x, labels, 100, 0, np.ones(2000))
    forest.grow(20)
    size = sum(value.numel() * value.element_size() for value in forest.head().buffers())
    assert size * fit_trees.TREES / 20 < 20e6


# --- what strangers write ---

GOOD = {
    "linear": {"kind": "linear", "width": 4, "classes": 3},
    "mlp": {"kind": "mlp", "width": 4, "hidden": 5, "classes": 3},
    "gru": {"kind": "gru", "channels": 4, "reduced": 2, "hidden": 5, "classes": 3},
    "lstm": {"kind": "lstm", "channels": 4, "reduced": 2, "hidden": 5, "classes": 3},
    "forest": {
        "kind": "forest", "width": 4, "classes": 3, "trees": 2, "nodes": 6, "leaves": 4, "columns": 3, "depth": 1
    },
    "boosting": {
        "kind": "boosting", "width": 4, "classes": 3, "trees": 3, "nodes": 9, "leaves": 6, "columns": 1, "depth": 1
    },
    "ensemble": {"kind": "ensemble", "members": [{"kind": "linear", "width": 4, "classes": 3}] * 2},
}  # fmt: skip


def test_there_is_a_good_description_of_every_kind() -> None:
    assert tuple(GOOD) == heads.KINDS
    for description in GOOD.values():
        assert heads.describe(heads.build(description)) == description


@pytest.mark.parametrize("kind", heads.KINDS)
@pytest.mark.parametrize("odd", [True, 0, -1, 2.0, "3", None, [3], 65_537, 10**30, float("nan")], ids=str)
def test_sizes_that_are_none_are_refused(kind: str, odd: Any) -> None:
    for key in GOOD[kind]:
        if not (key == "depth" and odd == 0 and odd is not True) and (key, odd) not in (("nodes", 65_537),):
            with pytest.raises(ValueError):
                heads.build(GOOD[kind] | {key: odd})


@pytest.mark.parametrize(
    "description",
    [
        None,
        [],
        "linear",
        {},
        {"kind": ["linear"]},
        {"kind": "pickle", "width": 4, "classes": 3},
        GOOD["linear"] | {"more": 1},
        {"kind": "linear", "width": 4},
        {"kind": "linear", "width": 65_536, "classes": 65_536},
        GOOD["mlp"] | {"hidden": 65_536, "width": 65_536},
        GOOD["gru"] | {"hidden": 65_536},
        GOOD["forest"] | {"columns": 2},
        GOOD["forest"] | {"trees": 7},
        GOOD["forest"] | {"leaves": 7},
        GOOD["boosting"] | {"trees": 4},
        GOOD["forest"] | {"trees": 10_000, "nodes": 20_000, "depth": 60_000},
        GOOD["forest"] | {"trees": 10_000, "nodes": 20_000, "classes": 60_000, "columns": 60_000},
        GOOD["forest"] | {"nodes": 5_000_000, "leaves": 5_000_000, "classes": 1000, "columns": 1000},
        {"kind": "ensemble", "members": []},
        {"kind": "ensemble", "members": [GOOD["linear"]] * 9},
        {"kind": "ensemble", "members": [GOOD["gru"]]},
        {"kind": "ensemble", "members": [GOOD["ensemble"]]},
        {"kind": "ensemble", "members": [GOOD["linear"], GOOD["linear"] | {"width": 5}]},
        {"kind": "ensemble", "members": [GOOD["linear"] | {"width": 65_536, "classes": 900}] * 8},
    ],
    ids=lambda description: json.dumps(description)[:60],
)
def test_descriptions_of_nothing_known_are_refused(description: Any) -> None:
    with pytest.raises(ValueError):
        heads.build(description)


@pytest.mark.parametrize(
    ("table", "value"),
    [("root", -1), ("root", 10**6), ("feature", 72), ("feature", -1), ("child", 10**6), ("child", -(10**6))],
)
def test_indices_that_point_outside_are_refused(table: str, value: int, fits: dict[str, FittedHead]) -> None:
    for kind in ("forest", "boosting", "ensemble"):
        head = copy.deepcopy(fits[kind].head)
        found = next(module for module in head.modules() if isinstance(module, trees.Trees))
        getattr(found, table)[0] = value
        with pytest.raises(ValueError, match="outside"):
            heads.check(head)


@pytest.mark.parametrize("kind", heads.KINDS)
def test_numbers_that_are_none_are_refused(kind: str, fits: dict[str, FittedHead]) -> None:
    for name in fits[kind].head.state_dict():
        for bad in (float("nan"), float("inf"), *([0.0] if name.endswith(("temperature", "deviation")) else [])):
            head = copy.deepcopy(fits[kind].head)
            tensor = head.state_dict()[name]
            if tensor.is_floating_point():
                tensor.view(-1)[0] = bad
                with pytest.raises(ValueError):
                    heads.check(head)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_whatever_passes_the_check_answers(seed: int) -> None:
    """Circles, shared children, walks that end early: any table within its bounds gives logits."""
    rng = np.random.default_rng(seed)
    head = heads.build(GOOD["forest"] | {"depth": 50})
    assert isinstance(head, trees.Trees)
    head.root.copy_(torch.from_numpy(rng.integers(-1, 7, 2)))
    head.feature.copy_(torch.from_numpy(rng.integers(-1, 5, 6)))
    head.child.copy_(torch.from_numpy(rng.integers(-5, 6, 6)))
    head.temperature.fill_(1)
    try:
        heads.check(head)
    except ValueError:
        return
    assert logits(head, rng.normal(size=(5, 4)).astype(np.float32)).shape == (5, 3)


# --- elsewhere ---


# torch's own remark on the weights of its own nn.GRU and nn.LSTM; it puts them back.
@pytest.mark.filterwarnings("ignore:The tensor attributes self.cell._flat_weights")
@pytest.mark.parametrize("kind", heads.KINDS)
def test_it_exports_for_any_number_of_pictures(kind: str, fits: dict[str, FittedHead]) -> None:
    x, _ = features(kind, seed=3)
    batch = torch.export.Dim("batch", min=1, max=1024)
    exported = torch.export.export(fits[kind].head, (torch.from_numpy(x[:4]),), dynamic_shapes=({0: batch},)).module()
    for count in (1, 4, 33):
        assert torch.allclose(exported(torch.from_numpy(x[:count])), logits(fits[kind].head, x[:count]), atol=1e-5)


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx, onnxscript or onnxruntime is not installed",
)
@pytest.mark.filterwarnings("ignore")  # exporters speak of their own future
@pytest.mark.parametrize("kind", heads.KINDS)
@pytest.mark.few(3)
def test_onnx_gives_the_same_numbers(kind: str, fits: dict[str, FittedHead], tmp_path: Path) -> None:
    import onnxruntime

    x, _ = features(kind, seed=3)
    file = tmp_path / "head.onnx"
    shapes = ({0: torch.export.Dim("batch", min=1, max=1024)},)
    torch.onnx.export(fits[kind].head, (torch.from_numpy(x[:4]),), file, dynamo=True, dynamic_shapes=shapes)
    session = onnxruntime.InferenceSession(file)
    for count in (1, 33):
        answers = session.run(None, {session.get_inputs()[0].name: x[:count]})[0]
        assert np.abs(answers - logits(fits[kind].head, x[:count]).numpy()).max() < 1e-4
