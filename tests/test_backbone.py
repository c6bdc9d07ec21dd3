"""Every row of the catalogue loads as its library means it, from the place its library keeps it."""

import hashlib
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.hub_stand_in import Repo, StandIn, serve
from tests.pace import in_time
from tl_core.bundle import bundle
from tl_core.data.pixels import Preprocessing
from tl_core.errors import DamagedBundleError, WeightsUnavailableError
from tl_core.evaluation.metrics import evaluate
from tl_core.models import backbone
from tl_core.models.availability import hub_cache, huggingface_cache, is_local, local_rows
from tl_core.models.backbone import NoRandomNumbers, blank
from tl_core.models.catalogue import CATALOGUE, EMBEDDED, Backbone, find
from tl_core.models.renames import timm_name

TORCHVISION = [row for row in CATALOGUE if row.source == "torchvision"]
BUILT_IN = [row for row in CATALOGUE if row.source == "embedded"]
TIMM = [row for row in CATALOGUE if row.source == "timm"]
# The large ones are made like the small ones.
BUNDLED = [row for row in CATALOGUE if row.params_millions < 16] + [find("swin_t"), find("dinov3_small")]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads of torch wait for each other beside any busy process; these networks are too small to gain from two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def shuffled(model: nn.Module) -> nn.Module:
    """Everything in `model` random, statistics too, so that no layer in a wrong place can go unseen."""
    torch.manual_seed(0)
    with torch.no_grad():
        for value in model.state_dict(keep_vars=True).values():
            if value.ndim > 1:
                bound = (3 / value[0].numel()) ** 0.5
                value.uniform_(-bound, bound)
            elif value.is_floating_point():
                value.uniform_(0.5, 1)
    return model.eval()


def lay_in_cache(row_id: str, *, old: bool = False) -> nn.Module:
    """Put random weights where torch hub keeps this row's, under the name torchvision gives them."""
    weights = torchvision.models.get_weight(find(row_id).weights)
    options = {"init_weights": False} if row_id == "inception_v3" else {}
    with NoRandomNumbers():
        model = torchvision.models.get_model(row_id, **options)
    state = shuffled(model).state_dict()
    if old:  # as files from before PyTorch 0.4.1, and DenseNets from before their layers were renamed
        state = {k: v for k, v in state.items() if "tracked" not in k}
        state = {re.sub(r"(denselayer\d+\.(?:norm|conv))", r"\1.", k): v for k, v in state.items()}
    file = Path(torch.hub.get_dir(), "checkpoints", weights.url.rsplit("/", 1)[1])
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state), file)
    return model


def lay_in_hub_cache(row: Backbone, name: str = "model.safetensors") -> Path:
    """Where huggingface_hub would keep the file `name` of this row's, with everything around it."""
    folder = huggingface_cache() / f"models--{row.hub_file.rpartition('/')[0].replace('/', '--')}"
    commit, blob = "0" * 40, folder / "blobs" / "abc"
    for part in (folder / "refs", blob.parent, folder / "snapshots" / commit):
        part.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    blob.touch()
    (folder / "snapshots" / commit / name).symlink_to(blob)
    return blob


def theirs_of(row: Backbone) -> nn.Module:
    """A network of timm's with random weights, as its own library builds it at the size of the published weights."""
    with NoRandomNumbers():
        model = timm.create_model(row.weights, **({"dynamic_img_size": True} if row.model_args else {}))
    return shuffled(model)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Equal but for rounding, and not because there is nothing to see."""
    spread = float(theirs.std())
    return spread > 0.01 and float((ours - theirs).abs().max()) < 1e-3 * spread


def test_the_embedded_ones_always_work() -> None:
    assert local_rows()[0] == EMBEDDED
    for row in BUILT_IN:
        assert is_local(row)
        assert backbone.load(row, timeout=0)(torch.zeros(2, 3, 128, 128)).shape == (2, row.width)


def test_the_embedded_weights_are_small_and_described() -> None:
    files = [backbone.WEIGHTS_DIR / row.weights for row in BUILT_IN]
    assert sum(file.stat().st_size for file in files) <= 12_000_000
    card = (backbone.WEIGHTS_DIR / "README.md").read_text()
    assert "corpora" in card and all(file.name in card for file in files)


def test_the_embedded_one_is_half_the_work_of_the_one_it_replaced() -> None:
    work = {}
    for row in BUILT_IN:
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            backbone.load(row, timeout=0)(torch.zeros(1, 3, 128, 128))
        work[row.id] = counter.get_total_flops() / 2e9
        assert work[row.id] == pytest.approx(row.gflops, rel=0.03)
    assert work["built_in"] < 0.5 * work["embedded"]


@pytest.mark.parametrize("row", TORCHVISION, ids=lambda row: row.id)
@pytest.mark.few(6)
def test_torchvision_weights_in_the_cache_give_torchvisions_features(row: Backbone) -> None:
    theirs = lay_in_cache(row.id)
    assert is_local(row) and hub_cache() == Path(torch.hub.get_dir(), "checkpoints")
    ours = backbone.load(row, timeout=0)
    one_size = row.size_step == 0 or "img_size" in row.model_args
    x = torch.randn(2, 3, *([row.preprocessing.size] * 2 if one_size else (96, 96)))
    with torch.inference_mode():
        if row.id == "squeezenet1_1":  # its classifier has no features before it
            assert close(ours(x), theirs.features(x).mean((2, 3)))
        else:
            head = [module for module in theirs.modules() if isinstance(module, nn.Linear)][-1]
            assert close(head(ours(x)), theirs(x))
    if "img_size" in row.model_args:
        larger = backbone.load(row, timeout=0, image_size=row.preprocessing.size + row.size_step)
        assert torch.equal(larger.cls_token, ours.cls_token) and larger.pos_embed.shape[1] == 15 * 15 + 1
        mean = ours.pos_embed[:, 1:].mean((0, 1))
        assert (larger.pos_embed[:, 1:].mean((0, 1)) - mean).abs().max() < 0.01
    if row.id == "inception_v3":
        auxiliary_matches(row, theirs)


def auxiliary_matches(row: Backbone, theirs: nn.Module) -> None:
    trunk, auxiliary = backbone.load_with_auxiliary(row, 5, timeout=0)
    assert all(p.requires_grad for p in auxiliary.parameters()) and auxiliary.training
    seen: list[torch.Tensor] = []
    trunk.Mixed_6e.register_forward_hook(lambda *args: seen.append(args[2]))
    trunk(torch.randn(2, 3, 299, 299))
    assert seen[0].shape == (2, 768, 17, 17) and auxiliary.eval()(seen[0]).shape == (2, 5)
    auxiliary.fc = theirs.AuxLogits.fc
    with torch.inference_mode():
        assert close(auxiliary(seen[0]), theirs.AuxLogits(seen[0]))


@pytest.mark.parametrize("row_id", ["resnet18", "densenet121", "mobilenet_v2"])
def test_files_as_older_versions_wrote_them_are_read(row_id: str) -> None:
    row = find(row_id)
    theirs, x = lay_in_cache(row_id, old=True), torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        head = [module for module in theirs.modules() if isinstance(module, nn.Linear)][-1]
        assert close(head(backbone.load(row, timeout=0)(x)), theirs(x))


@pytest.mark.parametrize("name", ["mlp.linear_1", "mlp.0"])
def test_the_published_vision_transformer_has_names_of_its_own(name: str) -> None:
    theirs = f"encoder.layers.encoder_layer_11.{name}.weight"
    assert timm_name(theirs, "vit_base_patch16_224") == "blocks.11.mlp.fc1.weight"


@pytest.mark.parametrize("row", [*TIMM, find("timm/test_vit2.r160_in1k")], ids=lambda row: row.id)
@pytest.mark.few(4)
def test_timm_weights_in_the_cache_give_timms_features(row: Backbone) -> None:
    theirs = theirs_of(row)
    assert not is_local(row)
    save_file({k: v.contiguous() for k, v in theirs.state_dict().items()}, lay_in_hub_cache(row))
    assert is_local(row)
    ours = backbone.load(row, timeout=0)
    theirs.reset_classifier(0)
    x = torch.randn(1, 3, row.preprocessing.size, row.preprocessing.size)
    with torch.inference_mode():
        assert ours(x).shape == (1, row.width) and close(ours(x), theirs(x))
    if row.id == "dinov2_small":
        larger = backbone.load(row, timeout=0, image_size=252)
        x = torch.randn(1, 3, 252, 252)
        with torch.inference_mode():
            assert close(larger(x), theirs(x))


def test_weights_that_timm_downloaded_long_ago_are_read() -> None:
    row = find("timm/test_vit2.r160_in1k")
    theirs = theirs_of(row)
    torch.save(theirs.state_dict(), lay_in_hub_cache(row, "pytorch_model.bin"))
    theirs.reset_classifier(0)
    x = torch.randn(1, 3, row.preprocessing.size, row.preprocessing.size)
    with torch.inference_mode():
        assert close(backbone.load(row, timeout=0)(x), theirs(x))


def test_timm_weights_are_downloaded_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = find("timm/test_vit2.r160_in1k")
    save_file({k: v.contiguous() for k, v in theirs_of(row).state_dict().items()}, tmp_path / "w")
    hub, server = serve(StandIn(repos={"timm/test_vit2.r160_in1k": Repo(False, {})}))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    with pytest.raises(WeightsUnavailableError):  # it answers, but has no such file
        backbone.load(row, timeout=5)
    hub.repos["timm/test_vit2.r160_in1k"].files["model.safetensors"] = (tmp_path / "w").read_bytes()
    first = backbone.load(row, timeout=5)
    server.shutdown()
    assert is_local(row)
    assert torch.equal(backbone.load(row, timeout=0).pos_embed, first.pos_embed)


@pytest.mark.parametrize("row", BUNDLED, ids=lambda row: row.id)
@pytest.mark.few(5)
def test_a_bundle_of_any_row_loads_in_timm_to_the_same_logits(row: Backbone, tmp_path: Path) -> None:
    a_bundle_gives_the_same_logits(row, row.preprocessing.size, tmp_path / "b")


@pytest.mark.parametrize("name", ["timm/test_vit2.r160_in1k", "timm/test_convnext.r160_in1k", "timm:test_byobnet"])
def test_a_bundle_of_any_network_of_timms_is_the_same(name: str, tmp_path: Path) -> None:
    row = find(name)
    a_bundle_gives_the_same_logits(row, row.preprocessing.size, tmp_path / "b")


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(backbone="timm/hf-hub:someone/else"),
        lambda record: record.update(backbone="local-dir:/tmp"),
        lambda record: record.update(backbone="timm/vit_giant_patch14_dinov2.lvd142m"),  # more than a bundle can hold
        lambda record: record.update(backbone="x" * 1_000_000),
        lambda record: record.update(backbone=["timm/test_vit2"]),
        lambda record: record["preprocessing"].update(size=100),
        lambda record: record["preprocessing"].update(interpolation="lanczos"),
        lambda record: record["preprocessing"].update(std=[0, 1, 1]),
    ],
)
def test_a_hostile_bundle_makes_nothing_else_happen(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    a_bundle_gives_the_same_logits(find("timm/test_vit2.r160_in1k"), 160, tmp_path / "b")
    record = json.loads((tmp_path / "b" / "bundle.json").read_text())
    change(record)
    (tmp_path / "b" / "bundle.json").write_text(json.dumps(record))
    with pytest.raises(DamagedBundleError, match="describes no model"):
        bundle.load(tmp_path / "b")


def test_a_bundle_from_before_interpolation_was_told_is_bilinear(tmp_path: Path) -> None:
    a_bundle_gives_the_same_logits(find("timm/test_vit2.r160_in1k"), 160, tmp_path / "b")
    record = json.loads((tmp_path / "b" / "bundle.json").read_text())
    assert record["preprocessing"].pop("interpolation") == "bicubic"
    config = (tmp_path / "b" / "config.json").read_text().replace("bicubic", "bilinear")
    (tmp_path / "b" / "config.json").write_text(config)
    record["files"]["config.json"] = hashlib.sha256(config.encode()).hexdigest()
    (tmp_path / "b" / "bundle.json").write_text(json.dumps(record))
    assert bundle.load(tmp_path / "b")[1].preprocessing.interpolation == "bilinear"


def test_a_bundle_made_for_another_size_says_so(tmp_path: Path) -> None:
    a_bundle_gives_the_same_logits(find("timm/test_vit2.r160_in1k"), 96, tmp_path / "b")
    a_bundle_gives_the_same_logits(find("resnet18"), 96, tmp_path / "c")


def a_bundle_gives_the_same_logits(row: Backbone, size: int, folder: Path) -> None:
    trunk, p = shuffled(blank(row, 0, image_size=size)), row.preprocessing
    seen = Preprocessing(size, p.framing, p.crop_pct, p.mean, p.std, p.interpolation)
    head = nn.Linear(row.width, 3)
    chance, count = np.full((3, 3), 1 / 3, dtype=np.float32), range(3)
    scores = evaluate(chance, list(count), "abc", pictures=count, groups=count)
    info = bundle.BundleInfo(row, ("a", "b", "c"), seen, scores, {"train_pictures": 9}, bundle.now())
    bundle.save(folder, trunk, head, info)
    ours, read = bundle.load(folder)
    assert (read.backbone, read.preprocessing) == (row, seen)
    x = seen.normalise(torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8))
    with torch.inference_mode():
        logits = ours(x)
        assert close(logits, head(trunk(x)))
        if row.library == "timm":
            with NoRandomNumbers():
                theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
            assert close(theirs(x), logits)
            told = timm.data.resolve_model_data_config(theirs)
            assert tuple(told["input_size"]) == (3, size, size) and told["interpolation"] == seen.interpolation


def test_the_best_cached_one_is_chosen_by_itself() -> None:
    lay_in_cache("mobilenet_v3_small")
    assert local_rows()[0].id == "mobilenet_v3_small"
    lay_in_cache("resnet18")
    assert local_rows()[0].id == "resnet18"
    lay_in_hub_cache(find("dinov3_small"))
    assert local_rows()[0].id == "resnet18"
    lay_in_hub_cache(find("dinov2_small"))
    assert local_rows()[0].id == "dinov2_small"


@pytest.mark.parametrize("row_id", ["resnet18", "dinov2_small", "timm/resnet34.a1_in1k"])
def test_without_cache_and_network_it_says_so_quickly(row_id: str) -> None:
    row, start = find(row_id), time.monotonic()
    with pytest.raises(WeightsUnavailableError, match=f"{row.title} are not on this machine"):
        backbone.load(row, timeout=2)
    assert in_time(time.monotonic() - start, 2.5)


def test_a_host_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(WeightsUnavailableError):
            backbone.load(find("dinov2_small"), timeout=0.5)
        assert in_time(time.monotonic() - start, 1.5)


def test_a_damaged_download_in_the_cache_is_not_used() -> None:
    lay_in_cache("resnet18")
    file = hub_cache() / find("resnet18").hub_file
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WeightsUnavailableError):
        backbone.load(find("resnet18"), timeout=0)
    row = find("timm/test_vit2.r160_in1k")
    file = lay_in_hub_cache(row)
    save_file({k: v.contiguous() for k, v in theirs_of(row).state_dict().items()}, file)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WeightsUnavailableError):
        backbone.load(row, timeout=0)


def test_weights_of_another_network_are_not_used() -> None:
    row = find("timm/test_vit2.r160_in1k")
    state = theirs_of(row).state_dict()
    state.pop("blocks.0.attn.qkv.weight")
    save_file({k: v.contiguous() for k, v in state.items()}, lay_in_hub_cache(row))
    with pytest.raises(WeightsUnavailableError):
        backbone.load(row, timeout=0)
    lay_in_cache("mobilenet_v2")
    (hub_cache() / find("mobilenet_v2").hub_file).rename(hub_cache() / find("resnet18").hub_file)
    with pytest.raises(WeightsUnavailableError):
        backbone.load(find("resnet18"), timeout=0)


@pytest.mark.parametrize("place", ["torch", "pytorch_model.bin", "model.safetensors"])
def test_a_pickle_in_the_cache_runs_no_code(place: str, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    row = find("resnet18" if place == "torch" else "dinov2_small")
    file = hub_cache() / row.hub_file if place == "torch" else lay_in_hub_cache(row, place)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"conv1.weight": Evil()}, file)
    with pytest.raises(WeightsUnavailableError):
        backbone.load(row, timeout=0)
    assert is_local(row) and not (tmp_path / "ran").exists()


def test_a_picture_is_scaled_as_the_weights_were_made_with() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    framed = {}
    for kind in ("bilinear", "bicubic"):
        ours = Preprocessing(28, "crop", 0.875, mean, std, kind)
        theirs = timm.data.create_transform((3, 28, 28), interpolation=kind, crop_pct=0.875, mean=mean, std=std)
        framed[kind] = ours.normalise(ours.frame(picture)[None])[0]
        assert (theirs(torchvision.transforms.functional.to_pil_image(picture)) - framed[kind]).abs().max() < 0.02
    assert (framed["bilinear"] - framed["bicubic"]).abs().max() > 0.05
