"""Engines: the fastest that gives the same features is taken, and one that does not is left alone."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tl_core.data.pixels import Preprocessing
from tl_core.models import backbone
from tl_core.models.catalogue import EMBEDDED
from tl_core.training import engine
from tl_core.training.cores import in_order

SEEN: Preprocessing = EMBEDDED.preprocessing


@pytest.fixture(scope="module")
def trunk() -> torch.nn.Module:
    return backbone.load(EMBEDDED, timeout=0)


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    coarse = torch.rand((16, 3, 8, 8), generator=torch.Generator().manual_seed(0)) * 255
    return torch.nn.functional.interpolate(coarse, size=(SEEN.size, SEEN.size), mode="bilinear").to(torch.uint8)


@pytest.fixture(scope="module")
def expected(trunk: torch.nn.Module, pictures: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    plain = engine.build("torch-fp32", trunk, SEEN, "cpu", tmp_path_factory.mktemp("none"))
    return plain.run(pictures)


@pytest.mark.parametrize("name", ["openvino-fp32", "openvino-bf16", "torch-bf16"])
@pytest.mark.slow
def test_every_engine_gives_the_features(
    name: engine.EngineName, trunk: torch.nn.Module, pictures: torch.Tensor, expected: np.ndarray, tmp_path: Path
) -> None:
    made = engine.build(name, trunk, SEEN, "cpu", tmp_path)
    assert engine.reproduces(made.run(pictures), expected)
    together = list(in_order(lambda at: made.run(pictures[at : at + 4]), range(0, 16, 4), workers=3))
    assert np.allclose(np.concatenate(together), made.run(pictures), atol=0.05), "from several threads at once"


def test_a_converted_network_is_kept_and_found_again(
    trunk: torch.nn.Module, pictures: torch.Tensor, tmp_path: Path
) -> None:
    options = {"device": "cpu", "cache": tmp_path}
    small = engine.choose(trunk, SEEN, pictures, pictures=20, **options)
    assert not small.name.startswith("openvino"), "converting takes longer than twenty pictures do"
    large = engine.choose(trunk, SEEN, pictures, pictures=10**6, **options)
    assert large.name.startswith("openvino") and len(list(tmp_path.glob("*.xml"))) == 1
    assert engine.choose(trunk, SEEN, pictures, pictures=20, **options).name == large.name
    assert not list(tmp_path.glob("*.tmp*"))


def test_another_networks_conversion_is_not_taken(
    trunk: torch.nn.Module, pictures: torch.Tensor, expected: np.ndarray, tmp_path: Path
) -> None:
    engine.build("openvino-fp32", trunk, SEEN, "cpu", tmp_path)
    other = backbone.load(EMBEDDED, timeout=0)
    with torch.no_grad():
        next(other.parameters()).mul_(-1)
    found = engine.build("openvino-fp32", other, SEEN, "cpu", tmp_path).run(pictures)
    assert not np.allclose(found, expected, atol=0.1) and len(list(tmp_path.glob("*.xml"))) == 2


def test_an_engine_that_is_wrong_or_broken_is_passed_over(
    trunk: torch.nn.Module,
    pictures: torch.Tensor,
    expected: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = engine.build

    def build(name: engine.EngineName, *rest: object) -> engine.Engine:
        if name == "openvino-fp32":
            raise RuntimeError("an operation that is not known")
        made = honest(name, *rest)  # type: ignore[arg-type]
        return made if name == "torch-fp32" else engine.Engine(name, lambda batch: made.run(batch) + 1)

    monkeypatch.setattr(engine, "build", build)
    monkeypatch.setattr(engine, "candidates", lambda device: ["openvino-fp32", "torch-bf16", "torch-fp32"])
    chosen = engine.choose(trunk, SEEN, pictures, pictures=10**6, device="cpu", cache=tmp_path)
    assert chosen.name == "torch-fp32" and np.array_equal(chosen.run(pictures), expected)


@pytest.mark.parametrize(("count", "chosen"), [(300, "torch-fp32"), (3000, "openvino-fp32")])
def test_a_busy_machine_chooses_as_an_idle_one_does(
    trunk: torch.nn.Module,
    pictures: torch.Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    chosen: str,
) -> None:
    honest = engine.build

    def build(name: engine.EngineName, *rest: object) -> engine.Engine:
        made = honest(name, *rest)  # type: ignore[arg-type]
        wait = 1.5 if busy and name == "torch-fp32" else 0.0
        return engine.Engine(made.name, lambda batch: (time.sleep(wait), made.run(batch))[1])

    monkeypatch.setattr(engine, "build", build)
    monkeypatch.setattr(engine, "candidates", lambda device: ["openvino-fp32", "torch-fp32"])
    for busy in (False, True):
        folder = tmp_path / str(busy)  # a network that was converted once is always worth it
        found = engine.choose(trunk, SEEN, pictures, pictures=count, device="cpu", cache=folder)
        assert found.name == chosen


def test_features_that_are_not_the_same_are_told_apart(expected: np.ndarray) -> None:
    assert engine.reproduces(expected.copy(), expected)
    assert not engine.reproduces(expected[:, ::-1].copy(), expected)
    assert not engine.reproduces(np.full_like(expected, np.nan), expected)
    assert not engine.reproduces(np.repeat(expected.mean(0, keepdims=True), len(expected), 0), expected)


@pytest.mark.parametrize(
    ("flags", "known"), [("avx2 avx512f", False), ("avx512f avx512_bf16 avx512_vnni", True), ("amx_bf16", True)]
)
def test_bf16_in_hardware_is_known_by_the_flags(
    flags: str, known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"model name : some\nflags : fpu {flags}\n")
    monkeypatch.setattr(engine, "_CPUINFO", tmp_path / "cpuinfo")
    assert engine.has_bf16() is known
    monkeypatch.setattr(engine, "_CPUINFO", tmp_path / "none, as outside of Linux")
    assert not engine.has_bf16()


def test_bf16_is_only_tried_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "has_bf16", lambda: False)
    assert engine.candidates("cpu") == ["openvino-fp32", "torch-fp32"]
    monkeypatch.setattr(engine, "has_bf16", lambda: True)
    assert engine.candidates("cpu") == ["openvino-bf16", "torch-bf16", "torch-fp32"]
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    assert engine.candidates("cpu") == ["torch-bf16", "torch-fp32"], "it works without OpenVINO"
