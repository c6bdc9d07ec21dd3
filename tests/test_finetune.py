"""The gradient loop on a small real network: it learns, repeats, resumes, survives, and means the same in pieces."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tl_core.data.pixels import Preprocessing
from tl_core.models import backbone
from tl_core.models.catalogue import EMBEDDED
from tl_core.models.classifier import Classifier
from tl_core.training import finetune
from tl_core.training.augment import Augmentation, Views
from tl_core.training.balance import class_weights
from tl_core.training.checkpoint import Checkpoints
from tl_core.training.distributed import World
from tl_core.training.finetune import EpochDone, Judged, Left, Step, Trouble, Tuner
from tl_core.training.gradient import TrainingData
from tl_core.training.recipe import Recipe
from tl_core.training.schedule import parameter_groups, rate_at

SIZE = 64
SEEN = Preprocessing(SIZE, "crop", 1.0, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
RECIPE = Recipe("all", 3, SIZE, batch=16, piece=8, head_rate=1e-2, average=0.9)


def data(count: int = 64) -> TrainingData:
    """Two classes: something bright on the left or on the right."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 120, (count, 3, 72, 72), dtype=np.uint8)
    labels = np.arange(count) % 2
    for i, label in enumerate(labels):
        frames[i, :, 20:50, 10 + 32 * label : 30 + 32 * label] += 120
    return TrainingData(frames, labels, np.arange(count - 16), np.ones(count, dtype=np.float32))


def network() -> Classifier:
    torch.manual_seed(0)
    return Classifier(backbone.load(EMBEDDED, timeout=0), nn.Linear(EMBEDDED.width, 2), 2)


def tuner(folder: Path, recipe: Recipe = RECIPE, *, judge: Any = None, identity: str = "", **changes: Any) -> Tuner:
    options: dict[str, Any] = {"sizes": [SIZE], "seed": 0, "world": World(), **changes}
    recipe = replace(recipe, flip=False)
    checkpoints = Checkpoints(folder, "t", identity)
    model = changes.pop("model", None) or network()
    options.pop("model", None)
    return Tuner(
        model, data(), recipe, preprocessing=SEEN, device="cpu", checkpoints=checkpoints, judge=judge, **options
    )


def run(made: Tuner, **options: Any) -> list[Any]:
    return list(made.run(**{"should_stop": lambda: False, **options}))


def weights(made: Tuner) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in made.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


def right(made: Tuner) -> float:
    pictures, labels = data().frames[-16:, :, 4:68, 4:68], data().labels[-16:]
    with torch.inference_mode():
        answers = made.model(SEEN.normalise(torch.from_numpy(pictures))).argmax(1)
    return float((answers.numpy() == labels).mean())


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of a run that was never left."""
    made = tuner(tmp_path_factory.mktemp("straight"))
    reports = run(made)
    assert isinstance(reports[-1], Left) and reports[-1].reason == "done"
    return weights(made)


def test_it_learns_what_is_where(tmp_path: Path) -> None:
    made = tuner(tmp_path, replace(RECIPE, epochs=8))
    reports = run(made)
    losses = [r.loss for r in reports if isinstance(r, Step)]
    assert len(losses) == RECIPE.steps(48) // 3 * 8 and losses[-1] < losses[0] / 1.5
    assert right(made) >= 0.9


def test_the_same_run_twice_gives_the_same_bits(tmp_path: Path, straight: Any) -> None:
    made = tuner(tmp_path)
    run(made)
    assert same(weights(made), straight)


@pytest.mark.parametrize("slice_of", [1, 2, 5])
@pytest.mark.slow
def test_slices_of_any_length_give_the_weights_of_one_go(tmp_path: Path, straight: Any, slice_of: int) -> None:
    slices, reason = 0, ""
    while reason != "done":
        made = tuner(tmp_path)
        steps, slices = 0, slices + 1

        def over() -> bool:
            nonlocal steps
            steps += 1
            return steps > slice_of

        reports = run(made, should_pause=over)
        assert sum(isinstance(r, Step) for r in reports) >= (reports[-1].reason == "paused"), "each slice gets on"
        reason = reports[-1].reason
    assert slices >= 9 // (slice_of + 1) and same(weights(made), straight)


@pytest.mark.slow
def test_left_between_an_epoch_and_its_judgement_it_judges_the_same(tmp_path: Path) -> None:
    def judge(model: nn.Module, size: int) -> Judged:
        return Judged(0.5, float(next(model.parameters()).detach().abs().mean()))

    whole = tuner(tmp_path / "whole", judge=judge)
    expected = [r for r in run(whole) if isinstance(r, EpochDone)]
    parts: list[EpochDone] = []
    for _ in range(20):
        made = tuner(tmp_path / "parts", judge=judge)
        reports = run(made, should_pause=lambda: True)
        parts += [r for r in reports if isinstance(r, EpochDone)]
        if reports[-1].reason == "done":
            break
    assert parts == expected and same(weights(made), weights(whole))


def test_case_123_a_damaged_checkpoint_is_said_and_the_one_before_gone_on_with(tmp_path: Path, straight: Any) -> None:
    made, saved = tuner(tmp_path), 0
    steps = made.run(should_stop=lambda: False)
    for report in steps:
        if isinstance(report, Step):
            made.save()
            saved += 1
        if saved == 3:
            break
    steps.close()
    newest = sorted(tmp_path.glob("*-*"))[-1]
    (newest / "state.safetensors").write_bytes(bytes(100))
    again = tuner(tmp_path)
    reports = run(again)
    assert [r.code for r in reports if isinstance(r, Trouble)] == ["checkpoint_damaged"]
    assert next(r for r in reports if isinstance(r, Step)).done == 3
    assert same(weights(again), straight)


def test_stopped_and_gone_on_with_it_is_as_if_never_stopped(tmp_path: Path, straight: Any) -> None:
    first = tuner(tmp_path)
    seen: list[Any] = []
    for report in first.run(should_stop=lambda: sum(isinstance(r, Step) for r in seen) >= 4):
        seen.append(report)
    assert seen[-1] == Left("stopped", 1, 1) and not same(weights(first), straight)
    second = tuner(tmp_path)
    run(second)
    assert same(weights(second), straight)


@pytest.mark.parametrize("piece", [1, 3, 16])
def test_a_batch_means_the_same_in_pieces(tmp_path: Path, straight: Any, piece: int) -> None:
    made = tuner(tmp_path, replace(RECIPE, piece=piece))
    run(made)
    assert all(torch.allclose(value, straight[name], atol=2e-3) for name, value in weights(made).items())


def test_case_115_memory_that_runs_out_makes_small_batches_smaller_then_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tuner(tmp_path, sizes=[SIZE, 32])
    honest = made._gradients._small

    def greedy(pictures: Any, mixing: Any, views: Any, size: int, *rest: Any) -> Any:
        if len(pictures) * size * size > 40 * 40:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return honest(pictures, mixing, views, size, *rest)

    monkeypatch.setattr(made._gradients, "_small", greedy)
    reports = run(made)
    troubles = [r.values for r in reports if isinstance(r, Trouble)]
    assert [t["pictures"] for t in troubles] == [4, 2, 1, 1] and troubles[-1]["size"] == 32 == made.size
    assert reports[-1] == Left("done", 3, 3)


def test_case_115_too_little_memory_is_no_endless_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tuner(tmp_path)

    def never(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(made._gradients, "_small", never)
    with pytest.raises(MemoryError):
        run(made)


def test_case_116_a_loss_that_leaves_the_numbers_goes_back_to_the_best_and_on_slower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tuner(tmp_path)
    honest, calls = made._gradients.of, itertools.count()

    def astray(*arguments: Any, **options: Any) -> Any:
        loss, gradient = honest(*arguments, **options)
        broken = next(calls) == 4
        return (loss * float("nan"), [g * float("nan") for g in gradient]) if broken else (loss, gradient)

    monkeypatch.setattr(made._gradients, "of", astray)
    reports = run(made)
    assert [r.code for r in reports if isinstance(r, Trouble)] == ["diverged"]
    assert reports[-1] == Left("done", 3, 3)
    assert all(bool(torch.isfinite(value).all()) for value in weights(made).values() if value.is_floating_point())


def test_case_116_a_loss_that_stays_astray_ends_with_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tuner(tmp_path)
    before, honest = weights(made), made._gradients.of

    def astray(*arguments: Any, **options: Any) -> Any:
        loss, gradient = honest(*arguments, **options)
        return loss * float("nan"), [g * float("nan") for g in gradient]

    monkeypatch.setattr(made._gradients, "of", astray)
    assert run(made)[-1].reason == "done"
    assert same(weights(made), before), "nothing was ever better than where it started"


def test_the_best_judged_weights_are_delivered_and_no_progress_ends_the_run(tmp_path: Path) -> None:
    losses = iter([3.0, 1.0, *[2.0] * 50])
    kept: list[dict[str, torch.Tensor]] = []

    def judge(model: nn.Module, size: int) -> Judged:
        kept.append({name: value.clone() for name, value in model.state_dict().items()})
        return Judged(0.5, next(losses))

    made = tuner(tmp_path, replace(RECIPE, epochs=30, patience=2), judge=judge)
    reports = run(made)
    best = [r.best for r in reports if isinstance(r, EpochDone)]
    assert best == [True, True, False, False, False]
    assert same(weights(made), kept[1]) and reports[-1] == Left("done", 15, 6)
    # Whoever takes up what is finished gets the same, and trains no more.
    again = tuner(tmp_path, replace(RECIPE, epochs=30, patience=2), judge=judge)
    assert run(again) == [Left("done", 15, 6)] and same(weights(again), kept[1])


def test_last_blocks_leave_the_bottom_as_it_was(tmp_path: Path) -> None:
    made = tuner(tmp_path, replace(RECIPE, strategy="last", epochs=1))
    before = weights(made)
    run(made)
    after = weights(made)
    assert torch.equal(before["trunk.conv1.0.weight"], after["trunk.conv1.0.weight"])
    assert not torch.equal(before["trunk.layer4.0.conv1.weight"], after["trunk.layer4.0.conv1.weight"])
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_norms_keep_the_statistics_of_pretraining(tmp_path: Path, straight: Any) -> None:
    before = network().state_dict()
    assert all(torch.equal(before[name], straight[name]) for name in before if "running" in name)


def test_mixup_is_reproducible_and_differs(tmp_path: Path, straight: Any) -> None:
    one, two = (tuner(tmp_path / name, replace(RECIPE, mixup=0.4)) for name in "ab")
    run(one), run(two)
    assert same(weights(one), weights(two)) and not same(weights(one), straight)


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
def test_the_rate_rises_to_its_peak_and_falls_to_nothing(schedule: Any) -> None:
    rates = [rate_at(step, 100, schedule) for step in range(100)]
    peak = int(np.argmax(rates))
    assert 5 <= peak <= 30 and max(rates) == pytest.approx(1, abs=0.02) and 0 < rates[-1] < 0.01
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)


def test_layers_nearer_to_the_input_learn_more_slowly() -> None:
    layers = [nn.Linear(4, 4) for _ in range(4)]
    groups = [list(layer.parameters()) for layer in layers[:3]]
    made = parameter_groups(
        groups, list(layers[3].parameters()), rate=1.0, head_rate=9.0, decay_per_group=0.5, weight_decay=0.1
    )
    peaks = {id(p): g["peak"] for g in made for p in g["params"]}
    decays = {id(p): g["weight_decay"] for g in made for p in g["params"]}
    assert [peaks[id(layer.weight)] for layer in layers] == [0.25, 0.5, 1.0, 9.0]
    assert all(decays[id(layer.weight)] == 0.1 and decays[id(layer.bias)] == 0 for layer in layers)


def test_views_depend_on_seed_epoch_and_picture_alone() -> None:
    a, b = (Views.draw(10, Augmentation(), seed=1, epoch=e) for e in (0, 1))
    again = Views.draw(10, Augmentation(), seed=1, epoch=0)
    assert np.array_equal(a.maps, again.maps) and not np.array_equal(a.maps, b.maps)
    batch = torch.randint(0, 256, (10, 3, 20, 20), dtype=torch.uint8)
    together = a.of(batch, np.arange(10), 16)
    alone = a.of(batch[4:5], np.array([4]), 16)
    assert torch.allclose(together[4], alone[0], atol=1e-3) and together.min() >= 0 and together.max() <= 255


def test_without_flips_left_stays_left() -> None:
    batch = torch.zeros(1000, 3, 20, 20, dtype=torch.uint8)
    batch[:, :, :, :10] = 255
    for flip, share in ((False, 1.0), (True, 0.5)):
        seen = Views.draw(1000, Augmentation(flip=flip), seed=0, epoch=0).of(batch, np.arange(1000), 20)
        left = (seen[..., 0].mean((1, 2)) > seen[..., -1].mean((1, 2))).float().mean().item()
        assert left == pytest.approx(share, abs=0.1)


def test_balance_gives_rare_pictures_more_weight_and_keeps_the_mean() -> None:
    labels = [0] * 90 + [1] * 10
    weights = class_weights(labels, 2, on=True)
    assert weights[1] / weights[0] == pytest.approx(3, rel=1e-3)
    assert np.mean([weights[label] for label in labels]) == pytest.approx(1)
    assert class_weights(labels, 2, on=False).tolist() == [1, 1]


def test_measuring_changes_nothing(tmp_path: Path) -> None:
    made = tuner(tmp_path)
    before = weights(made)
    assert made.measure() > 0 and same(before, weights(made))


@pytest.mark.slow
def test_half_precision_with_a_scaler_trains_like_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fp16 on the CPU stands in for an old GPU: the same scaler, the same unscaling, the same checkpoints."""
    made = tuner(tmp_path, replace(RECIPE, precision="fp16", epochs=1), sizes=[32])
    reports = run(made)
    assert made._scaler.is_enabled() and reports[-1] == Left("done", 1, 1)
    assert finetune._finite(next(r.loss for r in reversed(reports) if isinstance(r, Step))) is not None
