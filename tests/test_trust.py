"""What tells people how far to trust a result holds in simulation and on real pictures: likely classes, suspected
labels, forecasts, the second look; and nothing of the test pictures reaches the model."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import Trained, Zipper, picture
from tl_core.bundle.bundle import load
from tl_core.bundle.files import to_zip
from tl_core.bundle.opening import open_bundle
from tl_core.bundle.predictor import Predictor
from tl_core.data.imageset import PIXELS, ImageSet
from tl_core.data.pixels import PixelStore
from tl_core.data.split import folds, split
from tl_core.evaluation.answers import Answers
from tl_core.evaluation.conformal import SHARE, measure
from tl_core.evaluation.learning_curve import LearningCurve, forecast
from tl_core.evaluation.metrics import Evaluation
from tl_core.evaluation.taught import Taught
from tl_core.evaluation.wrong_labels import suspects
from tl_core.models.catalogue import EMBEDDED
from tl_core.settings import Settings
from tl_core.training.plan import Facts, Machine, Wishes, make_plan
from tl_core.training.run import train
from tl_core.training.second_look import Pictures, SecondLook, look_again
from tl_ui.run_report import Report


def clouds(count: int, classes: int = 4, apart: float = 1.0, seed: int = 0) -> Pictures:
    """Features of a class are a cloud around its own place."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    places = np.random.default_rng(99).normal(size=(classes, 16)) * apart
    features = (places[labels] + rng.normal(size=(count, 16))).astype(np.float32)
    return Pictures(features, labels.tolist(), list(range(count)), classes)


def looked(pictures: Pictures, **options: Any) -> SecondLook:
    fold = folds(pictures.groups, pictures.labels, 5)
    *_, last = look_again(pictures, np.flatnonzero(fold != 0), np.flatnonzero(fold == 0), **options)
    assert isinstance(last, SecondLook)
    return last


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True), dtype=np.float32)


def test_likely_classes_hold_the_right_one_as_often_as_promised() -> None:
    """Whatever the probabilities are worth: these are far too sure of themselves."""
    rng, covered = np.random.default_rng(0), []
    for _ in range(200):
        labels = rng.integers(0, 5, 400)
        logits = rng.normal(size=(400, 5)) * 3
        logits[np.arange(400), labels] += 3
        shares = softmax(logits)
        likely = measure(shares[:200], labels[:200])
        assert likely is not None
        covered.append(likely.tested(shares[200:], labels[200:].tolist()).coverage)
    assert SHARE - 0.01 <= np.mean(covered) <= SHARE + 0.02
    assert measure(shares[:19], labels[:19]) is None


@pytest.mark.parametrize("count", [300, 1_200])
def test_labels_that_were_moved_are_suspected_first(count: int) -> None:
    known = clouds(count, apart=2.0)
    rng = np.random.default_rng(3)
    moved = rng.choice(count, count // 20, replace=False)
    labels = np.asarray(known.labels).copy()
    labels[moved] = (labels[moved] + 1) % 4
    found = suspects(looked(dataclasses.replace(known, labels=labels.tolist())).probabilities, labels.tolist())
    first = {suspect.at for suspect in found[: len(moved)]}
    assert len(first & set(moved.tolist())) >= 0.7 * len(moved)
    named = {suspect.at: suspect.suggested for suspect in found}
    assert np.mean([named.get(int(at)) == known.labels[at] for at in moved]) >= 0.6
    assert all(suspect.given == labels[suspect.at] != suspect.suggested for suspect in found)


def test_a_forecast_follows_mistakes_that_fall_as_a_power() -> None:
    rng, sizes = np.random.default_rng(0), (50, 100, 200, 400)
    wrong = [0.4 * (size / 50) ** -0.5 for size in sizes]
    right = np.array([rng.random(20_000) >= share for share in wrong])
    found = forecast(sizes, right, range(20_000))
    assert found.gain == pytest.approx(wrong[-1] * (1 - 2**-0.5), abs=0.01)
    assert found.likely[0] <= found.gain <= found.likely[1] < found.gain + 0.05
    assert LearningCurve.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    flat = forecast(sizes, np.ones((4, 30), dtype=bool), range(30))
    assert flat.gain == 0 and flat.accuracies == (1, 1, 1, 1)
    for record in ({"sizes": [1]}, {"gain": 2.0}, {"accuracies": ["<b>"] * 4}, {"likely": [0.1]}):
        with pytest.raises((ValueError, TypeError, LookupError)):
            LearningCurve.from_dict(found.to_dict() | record)


@pytest.mark.parametrize("count", [240, 1_100])
def test_nobody_answers_about_pictures_that_taught_them(count: int) -> None:
    """With labels drawn by lot there is nothing to learn; who had seen the labels would seem to know them."""
    known = clouds(count, apart=0.0)
    drawn = dataclasses.replace(known, labels=np.random.default_rng(5).integers(0, 4, count).tolist())
    found = looked(drawn)
    assert abs((found.probabilities.argmax(1) == drawn.labels).mean() - 0.25) < 0.08
    assert found.probabilities.sum(1) == pytest.approx(np.ones(count), abs=1e-4)
    if count <= 400:
        assert found.crossed is not None and len(found.accuracies) == 3
        assert min(found.accuracies) <= (found.crossed.argmax(1) == drawn.labels).mean() <= max(found.accuracies)
    else:
        assert found.crossed is None and not found.accuracies


def test_copies_examine_together() -> None:
    """A picture and its copy in another class: whoever had seen one would be sure of the other."""
    known = clouds(120, apart=0.0)
    features = np.concatenate([known.features, known.features])
    rng = np.random.default_rng(7)
    labels = np.tile(rng.integers(0, 4, 120), 2).tolist()
    found = looked(Pictures(features, labels, [*range(120)] * 2, 4))
    assert abs((found.probabilities.argmax(1) == labels).mean() - 0.25) < 0.15


def test_more_pictures_bring_what_the_curve_says() -> None:
    few, many = looked(clouds(160, 8, 0.55)), looked(clouds(320, 8, 0.55))
    assert few.curve is not None and few.curve.sizes == (32, 64, 128)
    gained = np.mean(many.accuracies) - np.mean(few.accuracies)
    assert few.curve.likely[0] - 0.05 <= gained <= few.curve.likely[1] + 0.05
    assert looked(clouds(12)).curve is None


def test_a_run_keeps_every_answer_and_what_taught_it(trained: Trained) -> None:
    run, images = trained.bundle.parent, trained.images
    kept, report = Answers.load(run), json.loads((run / "report.json").read_text())
    assert kept is not None and kept.crossed is None, "an official split is the exam its owner chose"
    assert sorted(kept.rows.tolist()) == sorted(images.rows) and kept.tested.sum() == 153
    chosen, answers = kept.judged()
    right = (answers.argmax(1) == kept.labels[chosen]).mean()
    assert right == pytest.approx(report["evaluation"]["accuracy"])
    model, info = load(trained.bundle)
    assert info.likely is not None and info.likely.coverage is not None and 0.85 <= info.likely.coverage <= 1
    assert info.unknown is not None and len(info.unknown.quantiles) == 101
    assert info.unknown.threshold_at(0.05) == pytest.approx(info.unknown.threshold)
    assert info.unknown.threshold_at(0.3) < info.unknown.threshold_at(0.01)
    taught = Taught.load(run)
    assert taught is not None and set(taught.rows.tolist()) <= set(images.rows)
    assert not set(taught.rows.tolist()) & set(kept.rows[kept.tested].tolist())
    assert LearningCurve.from_dict(report["curve"]).sizes[-1] == 317


def test_likely_classes_come_with_every_answer(trained: Trained) -> None:
    predictor, store = Predictor(trained.bundle), PixelStore(trained.images)
    pictures = [store[i] for i in range(0, len(trained.images.pictures), 4)]
    found = predictor.predict(pictures)
    assert all(one.likely and one.likely[0] == one.label for one in found)
    assert {len(one.likely) for one in found} == {1, 2}
    often = predictor.predict(pictures, alarms=0.5)
    assert sum(one.strange for one in often) > sum(one.strange for one in found)


@pytest.fixture
def two_kinds(make_zip: Zipper, read_set: Callable[[Path], ImageSet]) -> ImageSet:
    return read_set(make_zip({"star": 30, "circle": 30}))


def run(images: ImageSet, folder: Path, settings: Settings, **wished: Any) -> Path:
    wishes = Wishes(backbone="built_in", **wished)
    plan = make_plan(wishes, Facts.of(images), local=[EMBEDDED], machine=Machine(settings))
    list(train(images, folder, plan=plan, settings=settings, device="cpu"))
    return folder


def test_a_small_set_is_judged_by_all_its_pictures(two_kinds: ImageSet, settings: Settings, tmp_path: Path) -> None:
    folder = run(two_kinds, tmp_path / "run", settings)
    report = json.loads((folder / "report.json").read_text())
    crossed = Evaluation.from_dict(report["crossed"])
    assert crossed.tested == 60 > report["evaluation"]["tested"] and report["training"]["rounds"] == 3
    kept = Answers.load(folder)
    assert kept is not None and kept.crossed is not None and len(kept.judged()[0]) == 60
    width, plain = (high - low for low, high in (crossed.interval, report["evaluation"]["interval"]))
    assert width < plain
    assert load(folder / "bundle")[1].crossed == crossed
    open_bundle(to_zip(folder / "bundle", tmp_path / "m.zip"), tmp_path / "opened")
    before, after = Report.load(folder), Report.load(tmp_path / "opened")
    assert before is not None and after is not None and after.shown == before.shown == crossed
    assert (after.likely, after.false_alarm, after.rounds) == (before.likely, before.false_alarm, 3)
    assert after.likely is not None and after.false_alarm is not None


@pytest.mark.parametrize(
    "wished", [{}, pytest.param({"strategy": "last", "epochs": 2, "image_size": 64}, marks=pytest.mark.slow)]
)
def test_nothing_of_the_test_pictures_reaches_the_model(
    wished: dict[str, Any], two_kinds: ImageSet, settings: Settings, tmp_path: Path
) -> None:
    """Noise in their place changes the scores, and not one bit of weights, temperature or thresholds."""
    clean = run(two_kinds, tmp_path / "clean", settings, **wished)
    before = {path.name for path in two_kinds.folder.iterdir()}
    pixels = np.memmap(two_kinds.folder / PIXELS, dtype=np.uint8, mode="r+")
    rng = np.random.default_rng(0)
    for number in split(two_kinds).test:
        one = two_kinds.pictures[number]
        size = one.height * one.width * 3
        pixels[one.offset : one.offset + size] = rng.integers(0, 256, size, dtype=np.uint8)
    pixels.flush()
    for path in two_kinds.folder.glob("*-*.npy"):  # features and frames of the pictures before
        path.unlink()
    assert {path.name for path in two_kinds.folder.iterdir()} < before
    poisoned = run(two_kinds, tmp_path / "poisoned", settings, **wished)
    for name in ("model.safetensors", "unknown.safetensors"):
        one, other = load_file(clean / "bundle" / name), load_file(poisoned / "bundle" / name)
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    records = [json.loads((folder / "bundle" / "bundle.json").read_text()) for folder in (clean, poisoned)]
    kept = ("temperature", "strength", "cv_accuracy", "likely", "share", "epochs", "backbone", "framing")
    for record in records:
        record["kept"] = [record["training"].get(key) for key in kept]
        record["thresholds"] = [record["likely"]["threshold"], record["unknown"]["threshold"]]
        record["thresholds"] += record["unknown"]["quantiles"]
    assert records[0]["kept"] == records[1]["kept"] and records[0]["thresholds"] == records[1]["thresholds"]
    assert records[0]["evaluation"]["accuracy"] > records[1]["evaluation"]["accuracy"]


def test_what_is_dropped_or_moved_leaves_the_other_pictures_where_they_were(two_kinds: ImageSet) -> None:
    before = {two_kinds.pictures[i].row for i in split(two_kinds).test}
    gone = {0, 7, 31}
    left = [one for one in two_kinds.pictures if one.row not in gone]
    moved = tuple(dataclasses.replace(one, label=1 - one.label) if one.row == 12 else one for one in left)
    after = {moved[i].row for i in split(dataclasses.replace(two_kinds, pictures=moved)).test}
    assert len((before - gone - {12}) ^ (after - {12})) <= 3


def test_damaged_answers_are_none(tmp_path: Path) -> None:
    (tmp_path / "answers.npz").write_bytes(picture(1))
    assert Answers.load(tmp_path) is None and Answers.load(tmp_path / "nowhere") is None
