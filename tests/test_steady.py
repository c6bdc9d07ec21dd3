"""The recipe that makes the embedded backbone bear spoiled pictures, on a handful of pictures."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import SHARED
from tl_core.models import backbone, sources
from tl_core.models.catalogue import EMBEDDED
from tools.pretrain.spoils import SPOILS, spoil
from tools.pretrain.steady import SPOILED, Steadying
from tools.pretrain.teachers import normalised
from tools.pretrain.weights import read

SHIPPED = sources.WEIGHTS_DIR / str(EMBEDDED.weights)


@pytest.fixture
def crops() -> torch.Tensor:
    """(300, 3, 64, 64) uint8: discs of any colour on another."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    shown = np.empty((300, 3, 64, 64), np.uint8)
    for picture in shown:
        inside = (y - rng.integers(20, 44)) ** 2 + (x - rng.integers(20, 44)) ** 2 < rng.integers(60, 500)
        picture[:] = np.where(inside, *rng.integers(0, 256, (2, 3, 1, 1)))
    return torch.from_numpy(shown)


def test_a_third_of_the_crops_stay_as_they_are_and_the_others_are_spoiled_in_every_way(crops: torch.Tensor) -> None:
    before = crops.clone()
    views = spoil(crops, np.random.default_rng(0), SPOILED)
    assert views.shape == crops.shape and views.dtype == torch.uint8 and torch.equal(crops, before)
    same = (views == crops).flatten(1).all(1).float().mean()
    assert 0.33 < same < 0.6  # those that nothing happened to are among them
    grey = (views[:, 0] == views[:, 1]).flatten(1).all(1) & (views[:, 1] == views[:, 2]).flatten(1).all(1)
    assert grey.any() and not grey.all()
    for change in SPOILS:
        assert not torch.equal(change(crops[0], np.random.default_rng(1)), crops[0]), change


@pytest.mark.slow
def test_the_copy_starts_as_the_original_and_learns_to_see_through_it(
    crops: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "packed"
    packed.mkdir()
    crops.permute(0, 2, 3, 1).numpy().tofile(packed / "pixels.u8")
    np.save(packed / "index.npy", np.array([(i * 64 * 64 * 3, 64, 64, 0) for i in range(len(crops))]))
    (packed / "classes.json").write_text(json.dumps(["disc"]))
    out = tmp_path / "new.safetensors"
    run = Steadying(
        argparse.Namespace(
            data=SHARED,
            work=packed,
            weights=SHIPPED,
            out=out,
            batch=32,
            bf16=False,
            rate=5e-4,
            size=64,
            collages=0.0,
            seed=0,
        )
    )
    pictures = normalised(crops[:16])
    with torch.no_grad():
        torch.testing.assert_close(run.student(pictures), run.teacher(pictures), atol=0.05, rtol=0.05)
    losses = [run.learn(0.0) for _ in range(120)]
    assert np.mean(losses[-20:]) < 0.7 * np.mean(losses[:20])

    run.save()
    shapes = [{name: v.shape for name, v in read(file)[1].state_dict().items()} for file in (out, SHIPPED)]
    assert shapes[0] == shapes[1]
    monkeypatch.setattr(sources, "WEIGHTS_DIR", tmp_path)
    out.rename(tmp_path / str(EMBEDDED.weights))
    assert backbone.load(EMBEDDED, timeout=0)(pictures).shape == (16, 512)
