"""What the table of backbones says is true, and any other network of timm's gets a row of the same kind."""

import functools
import subprocess
import sys

import pytest
import timm
import torch
import torchvision
from torch import nn

from tl_core.errors import UnknownBackboneError
from tl_core.models import backbone
from tl_core.models.catalogue import CATALOGUE, EMBEDDED, Backbone, find

TORCHVISION = [row for row in CATALOGUE if row.source == "torchvision"]
TIMM = [row for row in CATALOGUE if row.source == "timm"]
each_row = pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: row.id)


def other_size(row: Backbone) -> int:
    """Another input size than the row's, where there is one."""
    return row.size_step * (8 if row.size_step < 32 else 4) or row.preprocessing.size


@functools.lru_cache(maxsize=3)
def made(row_id: str, classes: int, size: int | None = None) -> nn.Module:
    """The network without memory: its shapes only."""
    with torch.device("meta"):
        return backbone.untrained(find(row_id), classes, image_size=size)


def pictures(size: int) -> torch.Tensor:
    return torch.empty(2, 3, size, size, device="meta")


@each_row
def test_a_row_is_complete_and_true(row: Backbone) -> None:
    trunk = made(row.id, 0)
    assert trunk(pictures(row.preprocessing.size)).shape == (2, row.width) and trunk.head_hidden_size == row.width
    assert made(row.id, 3).get_submodule(row.classifier).weight.shape == (3, row.width)
    assert row.weights_licence and row.url.startswith("https://") and row.title and row.gflops > 0
    assert len(row.preprocessing.mean) == len(row.preprocessing.std) == 3
    count = sum(p.numel() for p in trunk.parameters())
    if row.source != "embedded" and row.library == "timm":  # with the classifier that the weights came with
        classes = 1000 if row.source == "torchvision" else timm.get_pretrained_cfg(row.weights).num_classes
        count += classes * (row.width + 1)
    if row.library == "torchvision":
        count = torchvision.models.get_weight(row.weights).meta["num_params"]
    assert count / 1e6 == pytest.approx(row.params_millions, abs=0.06)


@each_row
def test_layer_groups_hold_every_parameter_once_from_input_to_output(row: Backbone) -> None:
    for classes in (0, 3):
        model = made(row.id, classes)
        groups = backbone.layer_groups(model)
        seen = [id(parameter) for group in groups for parameter in group]
        assert sorted(seen) == sorted(id(parameter) for parameter in model.parameters())
        assert 4 <= len(groups) <= 20 and all(groups)
        first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
        assert any(parameter is first.weight for parameter in groups[0])
    assert any(parameter is model.get_submodule(row.classifier).weight for parameter in groups[-1])


@each_row
def test_the_feature_map_is_a_sequence_of_places(row: Backbone) -> None:
    size = other_size(row)
    trunk = made(row.id, 0, size)
    steps = {"inception_v3": 2, "squeezenet1_1": 7}.get(row.id, size // (row.size_step or 32))
    assert backbone.feature_map(trunk, pictures(size)).shape == (2, steps * steps, trunk.num_features)


@each_row
def test_a_network_can_be_made_for_another_size_where_the_row_says_so(row: Backbone) -> None:
    size = other_size(row)
    assert row.fits(size) and not row.fits(size + 1)
    assert made(row.id, 0, size)(pictures(size)).shape == (2, row.width)
    if row.size_step == 0:
        with pytest.raises(ValueError, match="cannot be made for 96"):
            backbone.untrained(row, 0, image_size=96)


def test_ids_are_unique_and_auto_never_chooses_weights_with_conditions() -> None:
    assert len({row.id for row in CATALOGUE}) == len(CATALOGUE)
    below = {row.id for row in CATALOGUE[CATALOGUE.index(EMBEDDED) + 1 :]}
    assert below == {"embedded"} | {
        row.id for row in TIMM if not row.weights_licence.startswith(("apache", "mit", "bsd"))
    }


@pytest.mark.parametrize("row", TORCHVISION, ids=lambda row: row.id)
def test_a_row_tells_what_torchvision_tells(row: Backbone) -> None:
    weights = torchvision.models.get_weight(row.weights)
    assert row.hub_file == weights.url.rsplit("/", 1)[1]
    assert row.download_mb == pytest.approx(weights.meta["_file_size"], abs=1)
    assert row.gflops == pytest.approx(weights.meta["_ops"], rel=0.06)
    transform = weights.transforms()
    assert row.preprocessing.size == transform.crop_size[0]
    assert round(row.preprocessing.size / row.preprocessing.crop_pct) == transform.resize_size[0]
    assert row.preprocessing.interpolation == transform.interpolation.value
    if row.id != "inception_v3":  # its own normalisation is inside torchvision's network
        assert row.preprocessing.mean == tuple(transform.mean) and row.preprocessing.std == tuple(transform.std)


@pytest.mark.parametrize("row", TIMM, ids=lambda row: row.id)
def test_a_row_tells_what_timm_tells(row: Backbone) -> None:
    cfg, own = timm.get_pretrained_cfg(row.weights), find(f"timm/{row.weights}")
    assert row.weights_licence.startswith(cfg.license) and row.classifier == cfg.classifier
    seen = row.preprocessing
    assert (seen.mean, seen.std) == (cfg.mean, cfg.std)
    assert (seen.interpolation, seen.crop_pct) == (cfg.interpolation, cfg.crop_pct)
    assert (row.hub_file, row.url, row.width, row.size_step) == (own.hub_file, own.url, own.width, own.size_step)
    if row.id == "dinov2_small":  # at 224 instead of 518 pixels
        assert seen.size == 224 and cfg.input_size == (3, 518, 518)
    else:
        assert seen.size == cfg.input_size[1] and row.gflops == pytest.approx(own.gflops, rel=0.06)
        assert row.model_args == own.model_args
    with torch.device("meta"):
        stored = timm.create_model(row.weights).state_dict().values()
    assert row.download_mb == pytest.approx(sum(value.numel() for value in stored) * 4 / 2**20, abs=1)


@pytest.mark.parametrize(
    "name", ["timm/resnet34.a1_in1k", "timm:resnet34.a1_in1k", "resnet34.a1_in1k", "timm/resnet34"]
)
def test_any_network_of_timm_can_be_named(name: str) -> None:
    row = find(name)
    assert (row.id, row.source, row.architecture) == ("timm/resnet34.a1_in1k", "timm", "resnet34")
    assert (row.width, row.params_millions, row.weights_licence) == (512, 21.3, "apache-2.0")
    assert row.gflops == pytest.approx(3.66, rel=0.02) and row.preprocessing.interpolation == "bicubic"
    assert row.hub_file == "timm/resnet34.a1_in1k/model.safetensors"


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("resnet-18", "resnet18"),
        ("timm/resnet34.a1_in2k", "timm/resnet34.a1_in1k"),
        ("timm/../../etc/passwd", "timm/"),
        ("timm/hf-hub:someone/resnet18", "timm/"),
        ("hf-hub:someone/resnet18", ""),
        ("local-dir:/tmp", ""),
        ("timm/legacy_senet154", "timm/"),  # from elsewhere than the Hub
        ("timm/" + "a" * 5000, "timm/"),
    ],
)
def test_other_names_get_the_closest(name: str, closest: str) -> None:
    with pytest.raises(UnknownBackboneError, match=f"Did you mean “{closest}"):
        find(name)


def test_the_table_needs_no_torch() -> None:
    code = "import sys, tl_core.models.availability as a; a.local_rows(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
