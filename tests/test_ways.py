"""Every way to transfer as a whole run: each head, each strategy, several backbones; what is saved is what answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import Zipper, picture
from tests.test_backbone import lay_in_cache
from tl_core.bundle.bundle import load
from tl_core.bundle.files import from_zip, to_zip
from tl_core.bundle.predictor import Predictor
from tl_core.data.imageset import ImageSet
from tl_core.data.pixels import PixelStore
from tl_core.data.split import split
from tl_core.errors import DamagedBundleError
from tl_core.events import EpochEnd, Event, Finished, Notice, Planned, Progress, Ready
from tl_core.models import heads
from tl_core.models.availability import local_rows
from tl_core.models.catalogue import EMBEDDED
from tl_core.models.classifier import Classifier
from tl_core.settings import Settings
from tl_core.training.plan import Facts, Machine, Wishes, make_plan
from tl_core.training.run import REPORT, train


@pytest.fixture
def images(make_zip: Zipper, read_set: Callable[[Path], ImageSet]) -> ImageSet:
    return read_set(make_zip({"star": 24, "circle": 24, "square": 24}))


def run(images: ImageSet, settings: Settings, folder: Path, **wishes: Any) -> list[Event]:
    plan = make_plan(Wishes(**wishes), Facts.of(images), local=local_rows(), machine=Machine(settings))
    return list(train(images, folder, plan=plan, settings=settings))


def answers_as_scored(images: ImageSet, bundle: Path) -> Predictor:
    """The saved model answers on the test pictures as its score says."""
    predictor, store, test = Predictor(bundle), PixelStore(images), split(images).test
    answers = predictor.predict([store[i] for i in test])
    right = sum(a.label == images.class_names[images.pictures[i].label] for a, i in zip(answers, test, strict=True))
    assert right / len(test) == predictor.info.evaluation.accuracy
    assert all(sum(p for _, p in a.ranking) == pytest.approx(1, abs=1e-3) for a in answers)
    return predictor


@pytest.mark.parametrize("kind", heads.KINDS)
@pytest.mark.few(3)
def test_every_head_is_trained_saved_loaded_and_predicts(
    kind: str, images: ImageSet, settings: Settings, tmp_path: Path
) -> None:
    events = run(images, settings, tmp_path / "run", head=kind)
    last = events[-1]
    assert isinstance(last, Finished) and last.accuracy > 0.6
    bundle = tmp_path / "run" / "bundle"
    predictor = answers_as_scored(images, bundle)
    assert predictor.info.training["head"] == kind
    assert (bundle / "head.safetensors").exists() == (kind != "linear")
    again = Predictor(from_zip(to_zip(bundle, tmp_path / "b.zip"), tmp_path / "unpacked"))
    one = PixelStore(images)[0]
    assert torch.equal(again.logits([one]), predictor.logits([one]))


def test_a_head_that_was_tampered_with_is_refused(images: ImageSet, settings: Settings, tmp_path: Path) -> None:
    run(images, settings, tmp_path / "run", head="mlp")
    bundle = tmp_path / "run" / "bundle"
    manifest = json.loads((bundle / "bundle.json").read_text())
    for wrong in (
        {"kind": "mlp", "width": 512, "hidden": 10**9, "classes": 3},
        {"kind": "gru", "channels": 512, "reduced": 128, "hidden": 128, "classes": 3},
        {**manifest["head"], "classes": 4},
        {"kind": "os.system"},
        {"kind": "linear", "width": 7, "classes": 3},
        "mlp",
    ):
        (bundle / "bundle.json").write_text(json.dumps({**manifest, "head": wrong}))
        with pytest.raises(DamagedBundleError):
            load(bundle)


@pytest.mark.parametrize(
    "wishes",
    [
        {"strategy": "last"},
        {"strategy": "all", "schedule": "one-cycle", "mixup": "on"},
        {"strategy": "all", "head": "mlp"},
        {"strategy": "last", "head": "gru"},
        {"strategy": "all", "balance": "on", "flips": "on"},
    ],
    ids=lambda wishes: "-".join(map(str, wishes.values())),
)
@pytest.mark.few(2)
def test_every_strategy_is_never_worse_than_the_solved_head_where_it_is_judged(
    wishes: dict[str, Any], images: ImageSet, settings: Settings, tmp_path: Path
) -> None:
    events = run(images, settings, tmp_path / "run", epochs=2, image_size=64, **wishes)
    kinds = [type(event) for event in events]
    assert kinds.index(Ready) < kinds.index(Planned) < kinds.index(EpochEnd) < len(kinds) - 1
    assert isinstance(events[-1], Finished) and events[-1].accuracy > 0.6
    tuning = [e for e in events if isinstance(e, Progress) and e.stage == "tuning"]
    assert [e.done for e in tuning] == sorted(e.done for e in tuning)
    record = json.loads((tmp_path / "run" / REPORT).read_text())["training"]
    answers_as_scored(images, tmp_path / "run" / "bundle")
    if "validation" in record:
        won = record["validation"][f"{record['share']:.0%} fine-tuned"]
        assert won["accuracy"] >= record["validation"]["solved"]["accuracy"]
    else:
        assert "solved_kept" in [e.code for e in events if isinstance(e, Notice)]


@pytest.mark.slow
def test_where_left_and_right_matter_nothing_is_mirrored(
    make_zip: Zipper, read_set: Callable[[Path], ImageSet], settings: Settings, tmp_path: Path
) -> None:
    content: dict[str, bytes | int] = {}
    for i in range(30):
        for name, corner in (("left", (0, 0)), ("right", (140, 0))):
            content[f"{name}/{i}.png"] = _pasted(i, corner)
    images = read_set(make_zip(content))
    events = run(images, settings, tmp_path / "run", strategy="last", epochs=1)
    assert "no_mirror" in [e.code for e in events if isinstance(e, Notice)]
    same = read_set(make_zip({"star": 30, "circle": 30}, name="other.zip"), "other")
    events = run(same, settings, tmp_path / "other", strategy="last", epochs=1)
    assert "no_mirror" not in [e.code for e in events if isinstance(e, Notice)]


def _pasted(seed: int, corner: tuple[int, int]) -> bytes:
    import io

    from PIL import Image

    canvas = Image.new("RGB", (240, 120), (90 + seed, 120, 140))
    canvas.paste(Image.open(io.BytesIO(picture(seed, size=(100, 100)))), (corner[0], 10))
    data = io.BytesIO()
    canvas.save(data, "PNG")
    return data.getvalue()


def test_best_compares_the_backbones_that_are_here(images: ImageSet, settings: Settings, tmp_path: Path) -> None:
    lay_in_cache("mobilenet_v3_small")
    Machine(settings).remember(EMBEDDED, 500.0)
    events = run(images, settings, tmp_path / "run", effort="best", epochs=1, image_size=64, time_budget=300)
    compared = [e for e in events if isinstance(e, Progress) and e.stage == "comparing"]
    assert compared[-1].done == compared[-1].total == 2
    assert [e.values["title"] for e in events if isinstance(e, Notice) and e.code == "backbone_chosen"] == [
        EMBEDDED.title
    ], "random weights know nothing about pictures"
    assert Predictor(tmp_path / "run" / "bundle").info.backbone == EMBEDDED


@pytest.mark.slow
def test_unequal_classes_are_balanced_and_it_is_in_the_record(
    make_zip: Zipper, read_set: Callable[[Path], ImageSet], settings: Settings, tmp_path: Path
) -> None:
    images = read_set(make_zip({"star": 60, "circle": 8}))
    run(images, settings, tmp_path / "auto")
    run(images, settings, tmp_path / "off", balance="off")
    auto, off = (Predictor(tmp_path / name / "bundle") for name in ("auto", "off"))
    assert auto.info.training["balance"] and not off.info.training["balance"]
    one = [PixelStore(images)[i] for i in range(10)]
    assert not torch.allclose(auto.logits(one), off.logits(one))


@pytest.mark.slow
def test_a_stopped_fine_tuning_keeps_a_usable_model(images: ImageSet, settings: Settings, tmp_path: Path) -> None:
    seen: list[Event] = []
    wishes = Wishes(strategy="all", epochs=4, image_size=64)
    plan = make_plan(wishes, Facts.of(images), local=local_rows(), machine=Machine(settings))

    def tuning() -> bool:
        return any(isinstance(e, Progress) and e.stage == "tuning" and e.done >= 2 for e in seen)

    for event in train(images, tmp_path / "run", plan=plan, settings=settings, should_stop=tuning):
        seen.append(event)
    last = seen[-1]
    assert isinstance(last, Finished) and last.reason == "stopped"
    answers_as_scored(images, tmp_path / "run" / "bundle")
    assert (tmp_path / "run" / "checkpoints").exists(), "it can go on from there"


@pytest.mark.slow
def test_features_of_a_converted_network_answer_like_the_shipped_one(
    make_zip: Zipper, read_set: Callable[[Path], ImageSet], settings: Settings, tmp_path: Path
) -> None:
    """The head is solved on what the fastest engine gives; the bundle runs in PyTorch's float32."""
    from tl_core.doctor import probe

    probe(settings)  # converts the built-in backbone, so that even a small job finds it
    images = read_set(make_zip({"star": 40, "circle": 40, "heart": 40}))
    run(images, settings, tmp_path / "run")
    journal = json.loads((tmp_path / "run" / "journal.json").read_text())
    assert journal["engine"].startswith("openvino")
    answers_as_scored(images, tmp_path / "run" / "bundle")


@pytest.mark.slow
def test_gru_reads_maps_from_the_cache_the_second_time(images: ImageSet, settings: Settings, tmp_path: Path) -> None:
    first, second = (run(images, settings, tmp_path / name, head="gru")[-1] for name in ("one", "two"))
    assert isinstance(first, Finished) and isinstance(second, Finished)
    assert second.seconds["features"] < first.seconds["features"] / 2
    maps = np.load(next(images.folder.glob("maps-*.npy")), mmap_mode="r")
    assert maps.shape == (72, 16, 512) and maps.dtype == np.float16


@pytest.mark.slow
def test_inception_is_trained_with_its_auxiliary_classifier_and_shipped_without(
    make_zip: Zipper,
    read_set: Callable[[Path], ImageSet],
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lay_in_cache("inception_v3")
    images = read_set(make_zip({"star": 8, "circle": 8}))
    asked: list[torch.Tensor] = []
    honest = Classifier.both

    def watched(self: Classifier, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        logits, auxiliary = honest(self, x)
        assert auxiliary is not None and auxiliary.shape == logits.shape and auxiliary.requires_grad
        asked.append(auxiliary)
        return logits, auxiliary

    monkeypatch.setattr(Classifier, "both", watched)
    wishes = {"backbone": "inception_v3", "strategy": "all", "epochs": 1, "flips": "off"}
    events = run(images, settings, tmp_path / "run", **wishes)
    assert asked and isinstance(events[-1], Finished)
    model, info = load(tmp_path / "run" / "bundle")
    assert info.backbone.id == "inception_v3" and not any("Aux" in name for name in model.state_dict())
