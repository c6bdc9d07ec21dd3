"""Every row of the catalogue loads as its library means it, from the place its library keeps it."""

import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision

from tl_core.bundle import bundle
from tl_core.errors import UnknownBackboneError, WeightsUnavailableError
from tl_core.evaluation.metrics import evaluate
from tl_core.models import backbone
from tl_core.models.availability import best_local, hub_cache, is_local
from tl_core.models.catalogue import CATALOGUE, EMBEDDED, find

TORCHVISION = [row for row in CATALOGUE if row.source == "torchvision"]


def lay_in_cache(row_id: str, *, old: bool = False) -> torch.nn.Module:
    """Put random weights where torch hub keeps this row's, under the name torchvision gives them."""
    weights = torchvision.models.get_weight(find(row_id).weights)
    torch.manual_seed(0)
    options = {"init_weights": False} if row_id == "inception_v3" else {}
    model = torchvision.models.get_model(row_id, **options).eval()
    for module in model.modules():  # random statistics, so that a wrong order of layers cannot go unseen
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.7, 1.5)
    file = Path(torch.hub.get_dir(), "checkpoints", weights.url.rsplit("/", 1)[1])
    file.parent.mkdir(parents=True, exist_ok=True)
    state = model.state_dict()
    if old:  # as files from before PyTorch 0.4.1, and DenseNets from before its layers were renamed
        state = {
            re.sub(r"(denselayer\d+\.(?:norm|conv))", r"\1.", k): v for k, v in state.items() if "tracked" not in k
        }
    torch.save(dict(state), file)
    return model


@pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: row.id)
def test_a_row_is_complete_and_true(row) -> None:
    model = backbone.untrained(row, 0)
    assert model.head_hidden_size == row.width
    assert row.weights_licence and row.url.startswith("https://")
    assert len(row.preprocessing.mean) == len(row.preprocessing.std) == 3
    with_classifier = timm.create_model(row.architecture, num_classes=1000, **row.model_args)
    assert with_classifier.default_cfg["classifier"] == row.classifier
    count = sum(p.numel() for p in (model if row.source == "embedded" else with_classifier).parameters()) / 1e6
    assert count == pytest.approx(row.params_millions, abs=0.06)


def test_ids_are_unique_and_the_embedded_one_always_works() -> None:
    assert len({row.id for row in CATALOGUE}) == len(CATALOGUE)
    assert best_local() == EMBEDDED
    assert backbone.load(EMBEDDED, timeout=0)(torch.zeros(2, 3, 128, 128)).shape == (2, EMBEDDED.width)


def test_the_embedded_weights_are_small_and_described() -> None:
    assert (backbone.WEIGHTS_DIR / EMBEDDED.weights).stat().st_size <= 12_000_000
    assert "corpora" in (backbone.WEIGHTS_DIR / "README.md").read_text()


@pytest.mark.parametrize("row", TORCHVISION, ids=lambda row: row.id)
def test_torchvision_weights_in_the_cache_give_torchvisions_features(row) -> None:
    theirs = lay_in_cache(row.id)
    assert is_local(row) and hub_cache() == Path(torch.hub.get_dir(), "checkpoints")
    ours = backbone.load(row, timeout=0)
    x = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        head = [module for module in theirs.modules() if isinstance(module, torch.nn.Linear)][-1]
        logits, expected = ours(x) @ head.weight.T + head.bias, theirs(x)
        assert (logits - expected).abs().max() < 1e-4 * max(1.0, float(expected.std()))


@pytest.mark.parametrize("row_id", ["resnet18", "densenet121", "mobilenet_v2"])
def test_files_as_older_versions_wrote_them_are_read(row_id: str) -> None:
    theirs, x = lay_in_cache(row_id, old=True), torch.randn(2, 3, 96, 96)
    ours = backbone.load(find(row_id), timeout=0)
    with torch.inference_mode():
        head = [module for module in theirs.modules() if isinstance(module, torch.nn.Linear)][-1]
        logits, expected = ours(x) @ head.weight.T + head.bias, theirs(x)
        assert (logits - expected).abs().max() < 1e-4 * max(1.0, float(expected.std()))


@pytest.mark.parametrize("row", TORCHVISION, ids=lambda row: row.id)
def test_a_row_tells_what_torchvision_tells(row) -> None:
    weights = torchvision.models.get_weight(row.weights)
    assert row.hub_file == weights.url.rsplit("/", 1)[1]
    assert row.download_mb == pytest.approx(weights.meta["_file_size"], abs=1)
    assert row.gflops == pytest.approx(weights.meta["_ops"], rel=0.06)
    transform = weights.transforms()
    assert row.preprocessing.size == transform.crop_size[0]
    assert row.preprocessing.size / row.preprocessing.crop_pct == pytest.approx(transform.resize_size[0], abs=1)
    if row.id != "inception_v3":  # its own normalisation is inside torchvision's network
        assert row.preprocessing.mean == tuple(transform.mean) and row.preprocessing.std == tuple(transform.std)


@pytest.mark.parametrize("row", [r for r in CATALOGUE if r.params_millions < 30], ids=lambda row: row.id)
def test_a_bundle_of_any_row_loads_in_timm_to_the_same_logits(row, tmp_path: Path) -> None:
    torch.manual_seed(0)
    trunk = backbone.untrained(row, 0)
    model = backbone.with_head(row, trunk, torch.randn(3, row.width) / row.width**0.5, torch.randn(3))
    chance, count = np.full((3, 3), 1 / 3, dtype=np.float32), range(3)
    scores = evaluate(chance, list(count), "abc", pictures=count, groups=count)
    info = bundle.BundleInfo(row, ("a", "b", "c"), row.preprocessing, scores, {"train_pictures": 9}, bundle.now())
    bundle.save(tmp_path / "b", model, info)
    ours, _ = bundle.load(tmp_path / "b")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'b'}", pretrained=True).eval()
    size = row.preprocessing.size
    x = row.preprocessing.normalise(torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8))
    with torch.inference_mode():
        assert torch.allclose(ours(x), model(x), atol=1e-6) and torch.allclose(theirs(x), ours(x), atol=1e-5)


def test_the_best_cached_one_is_chosen_by_itself() -> None:
    lay_in_cache("mobilenet_v3_small")
    assert best_local().id == "mobilenet_v3_small"
    lay_in_cache("resnet18")
    assert best_local().id == "resnet18"


def test_without_cache_and_network_it_says_so_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsUnavailableError, match="ResNet-18 are not on this machine"):
        backbone.load(find("resnet18"), timeout=2)


def test_a_damaged_download_in_the_cache_is_not_used() -> None:
    lay_in_cache("resnet18")
    file = hub_cache() / find("resnet18").hub_file
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WeightsUnavailableError):
        backbone.load(find("resnet18"), timeout=0)


def test_a_pickle_in_the_cache_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    file = hub_cache() / find("resnet18").hub_file
    file.parent.mkdir(parents=True)
    torch.save({"conv1.weight": Evil()}, file)
    with pytest.raises(WeightsUnavailableError):
        backbone.load(find("resnet18"), timeout=0)
    assert not (tmp_path / "ran").exists()


def test_a_mistyped_name_gets_the_closest() -> None:
    with pytest.raises(UnknownBackboneError, match="Did you mean “resnet18”"):
        find("resnet-18")
