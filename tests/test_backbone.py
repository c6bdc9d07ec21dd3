"""Every row of the catalogue loads as its library means it, from the place its library keeps it."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision

from tl_core.errors import UnknownBackboneError, WeightsUnavailableError
from tl_core.models import backbone
from tl_core.models.availability import best_local, hub_cache, is_local
from tl_core.models.catalogue import CATALOGUE, EMBEDDED, find

TORCHVISION = [row for row in CATALOGUE if row.source == "torchvision"]


def lay_in_cache(row_id: str) -> torch.nn.Module:
    """Put random weights where torch hub keeps this row's, under the name torchvision gives them."""
    weights = torchvision.models.get_weight(find(row_id).weights)
    torch.manual_seed(0)
    model = torchvision.models.get_model(row_id).eval()
    for module in model.modules():  # random statistics, so that a wrong order of layers cannot go unseen
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    file = Path(torch.hub.get_dir(), "checkpoints", weights.url.rsplit("/", 1)[1])
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), file)
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
        head = theirs.fc if hasattr(theirs, "fc") else theirs.classifier[3]
        logits = ours(x) @ head.weight.T + head.bias
        assert torch.allclose(logits, theirs(x), atol=1e-5)


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
