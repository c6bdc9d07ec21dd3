"""A run from set to bundle: what it reports, what it leaves, and what happens when it is interrupted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import Zipper, picture, shared
from tl_core.bundle.predictor import Predictor
from tl_core.data.imageset import ImageSet
from tl_core.data.pixels import PixelStore
from tl_core.data.split import split
from tl_core.errors import NoMemoryError, NothingTrainedError, OptionError, TooAlikeError
from tl_core.events import Event, Finished, Notice, Progress, StageDone, Started, from_line, to_line
from tl_core.models.availability import local_rows
from tl_core.models.catalogue import EMBEDDED
from tl_core.settings import Settings
from tl_core.training.features import interleaved
from tl_core.training.plan import Facts, Machine, Plan, Wishes, make_plan
from tl_core.training.run import train


def plan_for(images: ImageSet, settings: Settings, backbone: str = "auto", seed: int = 0) -> Plan:
    wishes = Wishes(backbone=backbone, seed=seed)
    return make_plan(wishes, Facts.of(images), local=local_rows(), machine=Machine(settings))


@pytest.fixture
def images(make_zip: Zipper, read_set: Callable[[Path], ImageSet]) -> ImageSet:
    return read_set(make_zip({"star": 30, "circle": 30, "square": 30}))


def test_a_run_tells_its_story_and_leaves_a_model(images: ImageSet, settings: Settings, tmp_path: Path) -> None:
    events = list(train(images, tmp_path / "run", plan=plan_for(images, settings), settings=settings))
    assert isinstance(events[0], Started) and events[0].backbone == "built_in"
    assert [e.stage for e in events if isinstance(e, StageDone)] == [
        "backbone",
        "features",
        "solving",
        "evaluating",
        "saving",
    ]
    last = events[-1]
    assert isinstance(last, Finished) and last.reason == "completed"
    assert last.accuracy >= 0.8
    passes = [e for e in events if isinstance(e, Progress) and e.stage == "features"]
    assert passes[-1].done == passes[-1].total == 90
    # The first batch pays for set-up and says nothing about the others.
    assert all(e.seconds_left is not None and e.seconds_left >= 0 for e in passes[1:])
    assert [from_line(to_line(e)) for e in events] == events


def test_the_bundle_answers_as_the_evaluation_did(images: ImageSet, settings: Settings, tmp_path: Path) -> None:
    list(train(images, tmp_path / "run", plan=plan_for(images, settings), settings=settings))
    predictor, store = Predictor(tmp_path / "run" / "bundle"), PixelStore(images)
    test = split(images).test
    answers = predictor.predict([store[i] for i in test])
    right = sum(a.label == images.class_names[images.pictures[i].label] for a, i in zip(answers, test, strict=True))
    assert right / len(test) == predictor.info.evaluation.accuracy
    assert predictor.info.evaluation.tested == len(test)


def test_the_same_seed_gives_the_same_weights_bit_for_bit(images: ImageSet, settings: Settings, tmp_path: Path) -> None:
    for name in ("one", "two"):
        for cached in images.folder.glob("features-*"):
            cached.unlink()
        list(train(images, tmp_path / name, plan=plan_for(images, settings), settings=settings))
    one, two = (load_file(tmp_path / name / "bundle" / "model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_second_run_reads_the_features_instead_of_making_them(
    images: ImageSet, settings: Settings, tmp_path: Path
) -> None:
    first = list(train(images, tmp_path / "one", plan=plan_for(images, settings), settings=settings))[-1]
    second = list(train(images, tmp_path / "two", plan=plan_for(images, settings), settings=settings))[-1]
    assert isinstance(first, Finished) and isinstance(second, Finished)
    assert second.seconds["features"] < first.seconds["features"] / 3
    one, two = (load_file(tmp_path / name / "bundle" / "model.safetensors") for name in ("one", "two"))
    assert all(torch.allclose(one[key], two[key], atol=1e-5) for key in one)


def test_case_115_memory_that_runs_out_while_looking_makes_batches_smaller_and_no_other_model(
    images: ImageSet, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, honest, tried = plan_for(images, settings), PixelStore.framed, []
    monkeypatch.setattr("tl_core.training.run.engine_of", lambda *_: "torch-fp32")
    list(train(images, tmp_path / "one", plan=plan, settings=settings))
    for file in images.folder.glob("features-*"):
        file.unlink()

    def greedy(store: PixelStore, indices: Any, *rest: Any) -> Any:
        tried.append(len(indices))
        if len(indices) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return honest(store, indices, *rest)

    monkeypatch.setattr(PixelStore, "framed", greedy)
    list(train(images, tmp_path / "two", plan=plan, settings=settings))
    one, two = (load_file(tmp_path / run / "bundle" / "model.safetensors") for run in ("one", "two"))
    assert {16, 8, 4} <= set(tried)
    assert all(torch.allclose(one[name], two[name], rtol=1e-3, atol=1e-3) for name in one)


def test_case_115_memory_that_does_not_suffice_for_one_picture_is_a_sentence(
    images: ImageSet, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(PixelStore, "framed", never)
    with pytest.raises(NoMemoryError):
        list(train(images, tmp_path / "run", plan=plan_for(images, settings), settings=settings))


def test_stop_keeps_what_was_learned(images: ImageSet, settings: Settings, tmp_path: Path) -> None:
    seen: list[Event] = []

    def after_the_first_batch() -> bool:
        return any(isinstance(e, Progress) for e in seen)

    for event in train(
        images,
        tmp_path / "run",
        plan=plan_for(images, settings),
        settings=settings,
        should_stop=after_the_first_batch,
    ):
        seen.append(event)
    last = seen[-1]
    assert isinstance(last, Finished) and last.reason == "stopped"
    assert [e.code for e in seen if isinstance(e, Notice)] == ["stopped_early"]
    assert Predictor(tmp_path / "run" / "bundle").info.training["train_pictures"] < 90 * 0.6


def test_stop_before_every_class_was_seen_says_so(
    make_zip: Zipper, read_set: Any, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tl_core.training.features.BATCH", {"cpu": 2})
    images = read_set(make_zip({"a": 20, "b": 20, "c": 20, "d": 20}))
    with pytest.raises(NothingTrainedError):
        list(
            train(
                images,
                tmp_path / "run",
                plan=plan_for(images, settings),
                settings=settings,
                should_stop=lambda: True,
            )
        )
    assert not (tmp_path / "run" / "bundle").exists()


def test_any_prefix_of_the_order_has_every_class_in_proportion() -> None:
    labels = [0] * 200 + [1] * 20 + [2] * 60
    order = interleaved(labels, seed=0)
    assert sorted(order) == list(range(280))
    early = np.bincount([labels[i] for i in order[:70]], minlength=3)
    assert (np.abs(early - np.array([50, 5, 15])) <= 2).all()


def test_weights_that_cannot_be_had_are_replaced_by_the_built_in_ones_and_said(
    images: ImageSet, settings: Settings, tmp_path: Path
) -> None:
    plan = plan_for(images, settings, "resnet18")
    events = list(train(images, tmp_path / "run", plan=plan, settings=settings))
    notices = [e for e in events if isinstance(e, Notice)]
    assert [n.code for n in notices] == ["backbone_fallback"]
    assert "ResNet-18" in notices[0].text and "built-in" in notices[0].text
    assert Predictor(tmp_path / "run" / "bundle").info.backbone.id == "built_in"


def test_a_device_that_is_not_there_is_named(images: ImageSet, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--device: found tpu; one of auto, cpu"):
        list(train(images, tmp_path, plan=plan_for(images, settings), settings=settings, device="tpu"))


def test_gradients_stay_on_for_whoever_trains_next(images: ImageSet, settings: Settings, tmp_path: Path) -> None:
    for _ in train(images, tmp_path / "run", plan=plan_for(images, settings), settings=settings):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_the_plan_learns_this_machines_speed(images: ImageSet, settings: Settings) -> None:
    before = plan_for(images, settings)
    Machine(settings).remember(EMBEDDED, 1.0)
    after = plan_for(images, settings)
    assert after.seconds is not None and before.seconds is not None
    assert after.seconds > 90 > before.seconds


@pytest.mark.slow
def test_real_ants_and_bees_beat_guessing(read_set: Any, settings: Settings, tmp_path: Path) -> None:
    images = read_set(shared("hymenoptera.zip"))
    last = list(train(images, tmp_path / "run", plan=plan_for(images, settings), settings=settings))[-1]
    assert isinstance(last, Finished)
    evaluation = Predictor(tmp_path / "run" / "bundle").info.evaluation
    assert evaluation.tested == 153
    assert evaluation.interval[0] > evaluation.majority


def test_an_official_split_that_cannot_be_kept_is_said(
    make_zip: Zipper, read_set: Any, settings: Settings, tmp_path: Path
) -> None:
    images = read_set(make_zip({"train/a": 8, "train/b": 8, "test/a": 4, "test/c": 8}))
    events = list(train(images, tmp_path / "run", plan=plan_for(images, settings), settings=settings))
    assert "split_made_anew" in [e.code for e in events if isinstance(e, Notice)]


def test_pictures_that_are_all_copies_end_in_a_sentence(
    make_zip: Zipper, read_set: Any, settings: Settings, tmp_path: Path
) -> None:
    same = picture(5)
    images = read_set(
        make_zip(
            {
                "train/a/x.jpg": same,
                "train/b/x.jpg": same,
                **{f"test/a/{i}.jpg": picture(i) for i in range(3)},
                **{f"test/b/{i}.jpg": picture(i, shape="circle") for i in range(3)},
            }
        )
    )
    with pytest.raises(TooAlikeError, match="copies of each other"):
        list(train(images, tmp_path / "run", plan=plan_for(images, settings), settings=settings))


def test_stop_while_solving_keeps_a_head(images: ImageSet, settings: Settings, tmp_path: Path) -> None:
    seen: list[Event] = []

    def once_solving() -> bool:
        return any(isinstance(e, Progress) and e.stage == "solving" for e in seen)

    plan = plan_for(images, settings)
    for event in train(images, tmp_path / "run", plan=plan, settings=settings, should_stop=once_solving):
        seen.append(event)
    assert isinstance(seen[-1], Finished) and seen[-1].reason == "stopped" and seen[-1].accuracy > 0.6
    solving = [e for e in seen if isinstance(e, Progress) and e.stage == "solving"]
    assert solving[-1].done < solving[-1].total - 1


def test_classes_without_a_test_picture_are_named(
    make_zip: Zipper, read_set: Any, settings: Settings, tmp_path: Path
) -> None:
    images = read_set(make_zip({"train/a": 8, "train/b": 8, "train/c": 8, "test/a": 4, "test/b": 4}))
    events = list(train(images, tmp_path / "run", plan=plan_for(images, settings), settings=settings))
    said = [e for e in events if isinstance(e, Notice) and e.code == "untested_classes"]
    assert [n.text for n in said] == ["1 class has no test picture (c), so the score says nothing about them."]
