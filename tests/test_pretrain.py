"""The recipe of the embedded backbones: cutting a trained network smaller, and crops that can be made again."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

pytest.importorskip("timm")

from tl_core.models import sources
from tl_core.models.catalogue import find
from tools.pretrain.corpus import NO_LABEL
from tools.pretrain.lighter import ARGUMENTS, Training
from tools.pretrain.prune import pruned
from tools.pretrain.remembered import Versions, opened
from tools.pretrain.weights import Network, alike, eight_bits, read, write

WIDE = Network("resnet10t")


def network(dead: dict[str, int]) -> nn.Module:
    """A network whose batch norms named have nothing left in so many channels, here and there."""
    torch.manual_seed(0)
    made = WIDE.create().eval()
    for norm, count in dead.items():
        layer = made.get_submodule(norm)
        off = torch.randperm(len(layer.weight))[:count]
        layer.weight.data[off] = 0.0
        layer.bias.data[off] = 0.0
    return made


def test_without_the_channels_that_do_nothing_a_network_gives_the_same() -> None:
    """And a block more begins as doing nothing."""
    dead = {"conv1.1": 12, "conv1.4": 16, "bn1": 32} | {f"layer{n}.0.bn1": 32 * 2 ** (n - 1) for n in (1, 2, 3, 4)}
    wide, pictures = network(dead), torch.randn(4, 3, 64, 64)
    made, lighter = pruned(wide, WIDE, {"stem_width": 16, "block_reduce_first": 2, "layers": [1, 1, 2, 1]})
    assert sum(p.numel() for p in lighter.parameters()) < 0.7 * sum(p.numel() for p in wide.parameters())
    with torch.inference_mode():
        torch.testing.assert_close(lighter(pictures), wide(pictures), rtol=1e-3, atol=1e-4)
    assert made.create().state_dict().keys() == lighter.state_dict().keys()


def test_what_is_cut_in_earnest_still_resembles_the_whole() -> None:
    wide, pictures = network({}), torch.randn(16, 3, 64, 64)
    _, lighter = pruned(wide, WIDE, ARGUMENTS)
    again, other = pruned(wide, WIDE, {}), WIDE.create().eval()
    with torch.inference_mode():
        assert torch.equal(again[1](pictures), wide(pictures)), "nothing cut, nothing changed"
        alike = F.cosine_similarity(lighter(pictures), wide(pictures)).mean()
        assert alike > F.cosine_similarity(other(pictures), wide(pictures)).mean()


def test_weights_say_which_network_they_are_of(tmp_path: Path) -> None:
    made, lighter = pruned(network({}), WIDE, ARGUMENTS)
    write(lighter.state_dict(), tmp_path / "x.safetensors", network=made, crops=5)
    found, module = read(tmp_path / "x.safetensors")
    assert found == made
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, lighter.state_dict()[name], rtol=1e-3, atol=1e-6)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """Six smooth pictures in two classes, as `pack` leaves them."""
    rng, rows, offset = np.random.default_rng(0), [], 0
    with (tmp_path / "pixels.u8").open("wb") as out:
        for n in range(6):
            coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 4, 4)))
            picture = F.interpolate(coarse, (90, 100), mode="bicubic").clamp(0, 255)[0].permute(1, 2, 0)
            out.write(picture.to(torch.uint8).contiguous().numpy().tobytes())
            rows.append((offset, 90, 100, n % 2))
            offset += 90 * 100 * 3
    np.save(tmp_path / "index.npy", np.array(rows))
    (tmp_path / "classes.json").write_text(json.dumps(["a", "b"]))
    return tmp_path


def test_a_crop_can_be_made_again_and_smaller(packed: Path) -> None:
    numbers = np.array([0, 7, 3, 13])
    large, labels = Versions(packed, seed=1, collages=0.4).make(numbers, 128)
    again, _ = Versions(packed, seed=1, collages=0.4).make(numbers[::-1].copy(), 128)
    assert torch.equal(large, again.flip(0)), "whatever was made before it"
    small, _ = Versions(packed, seed=1, collages=0.4).make(numbers, 64)
    shrunk = F.interpolate(large.float(), 64, mode="bilinear", antialias=True)
    assert (small.float() - shrunk).abs().mean() < 6
    assert all(label in (NO_LABEL, number % 6 % 2) for label, number in zip(labels.tolist(), numbers, strict=True))
    one, other = Versions(packed, seed=1, collages=0.0).make(np.array([2, 8]), 128)[0]
    assert not torch.equal(one, other), "two versions of a picture"


def test_in_eight_bits_weights_take_half_and_pictures_look_the_same(tmp_path: Path) -> None:
    wide = read(sources.WEIGHTS_DIR / find("embedded").weights)[1]
    file, small = tmp_path / "half.safetensors", tmp_path / "eight.safetensors"
    write(wide.state_dict(), file, network=WIDE, crops=1)
    with safe_open(file, "pt") as opened:
        about = opened.metadata()
    save_file(eight_bits(load_file(file)), small, metadata=about)
    assert small.stat().st_size < 0.52 * file.stat().st_size
    found, module = read(small)
    assert found == WIDE
    state = wide.state_dict()
    for name, value in module.state_dict().items():
        if value.ndim == 4 and value.numel() >= 20_000:
            step = state[name].abs().amax((1, 2, 3), keepdim=True) / 127
            assert ((value - state[name]).abs() / step).square().mean().sqrt() < 0.35, "half a step and less"
    pictures = F.interpolate(torch.randn(32, 3, 8, 8), 128, mode="bicubic")
    assert alike(wide, module, pictures).median() > 0.998


def test_what_was_cut_learns_what_was_remembered_and_can_be_gone_on_with(packed: Path, tmp_path: Path) -> None:
    rows = 12
    kept = opened(packed, rows, mode="w+")
    kept[:] = np.random.default_rng(0).normal(1, 1, kept.shape)
    kept.flush()
    args = argparse.Namespace(
        work=packed,
        out=tmp_path / "out.safetensors",
        begin_with=sources.WEIGHTS_DIR / find("embedded").weights,
        arguments=ARGUMENTS,
        minutes=1,
        batch=12,
        bf16=False,
        rate=3e-3,
        collages=0.0,
        spoiled=0.0,
        seed=0,
    )
    run = Training(args)
    losses = [sum(loss.item() for loss in run.learn(0.0).values()) for _ in range(40)]
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
    run.save()
    again = Training(args)
    assert (again.step, again.seen) == (40, 480)
    for name, value in run.student.state_dict().items():
        assert torch.equal(value, again.student.state_dict()[name])
    network, module = read(args.out)
    assert network.arguments == ARGUMENTS and module(torch.zeros(1, 3, 128, 128)).shape == (1, 512)
