"""Where a picture speaks for a class is where the object is, for every network and head, and asking changes nothing."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from examples.make_data import draw_shape
from tests.conftest import Trained
from tests.test_backbone import shuffled
from tl_core.bundle.closeup import features_of, why
from tl_core.bundle.predictor import Predictor
from tl_core.data.imageset import RGB
from tl_core.data.pixels import PixelStore
from tl_core.models import backbone, heads
from tl_core.models.catalogue import CATALOGUE, EMBEDDED, Backbone, find
from tl_core.models.classifier import Classifier
from tl_core.models.heatmap import heatmap
from tl_core.training import fit_heads
from tl_core.training.fit_heads import FittedHead, fit_head
from tl_core.training.solve import SolvedHead, solve
from tl_ui.thumbnails import heated

SHAPES = ("star", "circle", "heart")
SEEN = EMBEDDED.preprocessing
OTHERS = ("timm/test_vit2.r160_in1k", "timm/test_convnext.r160_in1k", "timm/test_efficientnet.r160_in1k")
QUICK = [row for row in CATALOGUE if row.params_millions < 6] + [find(name) for name in OTHERS]
LARGE = [row for row in CATALOGUE if row not in QUICK]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trunk() -> nn.Module:
    return backbone.load(EMBEDDED, timeout=0)


def drawn(count: int, seed: int) -> tuple[Tensor, list[int], list[int]]:
    """Shapes in a quarter each of noisy paper, normalised; their labels; their quarters."""
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    labels, quarters, pictures = [i % 3 for i in range(count)], [rng.randrange(4) for _ in range(count)], []
    for label, quarter in zip(labels, quarters, strict=True):
        paper = noise.normal(rng.randint(150, 220), 12, (128, 128, 3)).clip(0, 255).astype(np.uint8)
        image = Image.fromarray(paper)
        image.paste(draw_shape(SHAPES[label], rng).resize((64, 64)), (quarter % 2 * 64, quarter // 2 * 64))
        pictures.append(SEEN.frame(np.array(image)))
    return SEEN.normalise(torch.stack(pictures)), labels, quarters


def share_inside(heat: Tensor, quarter: int) -> float:
    """How much of the heat is in the quarter of the picture where the object is; by chance 0.25."""
    grown = F.interpolate(heat[None, None], (64, 64), mode="bilinear")[0, 0]
    top, left = quarter // 2 * 32, quarter % 2 * 32
    return float(grown[top : top + 32, left : left + 32].sum() / grown.sum().clamp(min=1e-9))


@pytest.fixture(scope="module")
def maps(trunk: nn.Module) -> Tensor:
    """(150, 16, 512) of the pictures that heads are fitted to here."""
    with torch.inference_mode():
        return torch.cat([backbone.feature_map(trunk, part) for part in drawn(150, 0)[0].split(50)])


def fitted(kind: str, maps: Tensor) -> nn.Module:
    features = (maps if kind in ("gru", "lstm") else maps.mean(1)).numpy()
    labels = [i % 3 for i in range(len(maps))]
    *_, fit = fit_head(kind, features, labels, list(range(len(maps))), 3, seed=0, epochs=6)  # type: ignore[arg-type]
    assert isinstance(fit, FittedHead)
    return fit.head


def opposites(trunk: nn.Module, width: int) -> Classifier:
    """Two classes of which one is what the other is not, so that every place speaks for one of them."""
    weight = torch.randn(1, width, generator=torch.Generator().manual_seed(1))
    return Classifier(trunk, heads.linear(torch.cat([weight, -weight]), torch.zeros(2)), 2).eval()


@pytest.mark.parametrize("kind", heads.KINDS)
@pytest.mark.few(3)
def test_the_heat_of_every_head_is_on_the_object(
    kind: str, trunk: nn.Module, maps: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_heads, "TREES", 60)
    monkeypatch.setattr(fit_heads, "ROUNDS", 40)
    model = Classifier(trunk, fitted(kind, maps), 3).eval()
    x, labels, quarters = drawn(9, 1)
    shares = []
    for i, (label, quarter) in enumerate(zip(labels, quarters, strict=True)):
        heat = heatmap(model, x[i : i + 1], label)
        assert heat.dtype == torch.float32 and heat.min() >= 0 and heat.max() == 1 and not heat.requires_grad
        shares.append(share_inside(heat, quarter))
    assert np.mean(shares) > 0.45, shares


def test_with_a_solved_head_over_averages_it_is_the_class_activation_map(trunk: nn.Module, maps: Tensor) -> None:
    labels = [i % 3 for i in range(150)]
    *_, solved = solve(maps.mean(1).numpy(), labels, list(range(150)), 3)
    assert isinstance(solved, SolvedHead)
    model = Classifier(trunk, heads.linear(solved.weight, solved.bias), 3).eval()
    x, labels, _ = drawn(6, 2)
    for i, label in enumerate(labels):
        with torch.no_grad():
            cam = (backbone.feature_map(trunk, x[i : i + 1])[0] @ solved.weight[label]).relu().view(4, 4)
        assert torch.allclose(heatmap(model, x[i : i + 1], label), cam / cam.max(), atol=1e-4)


def has_heat(row: Backbone, size: int) -> None:
    trunk = shuffled(backbone.blank(row, 0, image_size=size))
    places = backbone.feature_map(trunk, torch.zeros(1, 3, size, size)).shape[1]
    torch.manual_seed(2)
    x, linear = torch.randn(1, 3, size, size), opposites(trunk, row.width)
    found = [heatmap(linear, x, label) for label in (0, 1)]
    recurrent = Classifier(trunk, heads.Recurrent("gru", trunk.num_features, 8, 2), 2).requires_grad_(False).eval()  # type: ignore[arg-type]
    mlp = Classifier(trunk, heads.MLP(row.width, 8, 2), 2).requires_grad_(False).eval()
    for model in (recurrent, mlp):
        found += [heatmap(model, x, label) for label in (0, 1)]
    for heat in found:
        assert torch.isfinite(heat).all() and heat.numel() == places and heat.shape[0] == heat.shape[1]
    for one, other in zip(found[::2], found[1::2], strict=True):
        assert max(one.std(), other.std()) > 1e-3 and max(one.max(), other.max()) == 1


@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.id)
def test_every_small_network_has_heat(row: Backbone) -> None:
    has_heat(row, 96 if row.fits(96) else row.preprocessing.size)


@pytest.mark.slow
@pytest.mark.parametrize("row", LARGE, ids=lambda row: row.id)
def test_every_large_network_has_heat(row: Backbone) -> None:
    small = next((size for size in (160, 112) if row.fits(size)), row.preprocessing.size)
    has_heat(row, small)


@pytest.mark.parametrize("pooling", ["token", "avg", "map"])
@pytest.mark.slow
def test_a_transformer_loses_its_class_with_the_hottest_places(pooling: str) -> None:
    """Trained here to name the colour of a square beside a white one. Where a token is pooled, attention alone knows of
    places, and this small one does not look at all of a square; so the heat is judged by what covering it does."""
    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}
    trunk = VisionTransformer(**sizes, num_classes=0, global_pool=pooling, class_token=pooling == "token")
    model = Classifier(trunk, nn.Linear(32, 3), 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    x, labels = coloured(160, 0)
    for step in range(120):
        rows = torch.arange(32) + step % 5 * 32
        loss = F.cross_entropy(model(x[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    x, labels = coloured(30, 1)
    assert (model(x).argmax(1) == labels).float().mean() > 0.85
    heats = [heatmap(model, x[i : i + 1], int(labels[i])) for i in range(30)]
    assert all(heat.shape == (8, 8) for heat in heats)
    hottest, coldest = (covered(x, heats, largest=largest) for largest in (True, False))
    with torch.no_grad():
        lost = [
            F.cross_entropy(model(pictures), labels) - F.cross_entropy(model(x), labels)
            for pictures in (hottest, coldest)
        ]
    assert lost[0] > 0.5 and lost[0] > 5 * lost[1]


def covered(x: Tensor, heats: list[Tensor], *, largest: bool) -> Tensor:
    """(N, 3, 32, 32) with the 8 hottest or coldest of the 64 places of each empty."""
    out = x.clone()
    for picture, heat in zip(out, heats, strict=True):
        for place in heat.flatten().topk(8, largest=largest).indices.tolist():
            picture[:, place // 8 * 4 : place // 8 * 4 + 4, place % 8 * 4 : place % 8 * 4 + 4] = 0
    return out


def coloured(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(count, 3, 32, 32) noise with a red, green or blue square in one quarter and a white one in another."""
    chance = torch.Generator().manual_seed(seed)
    x, labels = torch.randn(count, 3, 32, 32, generator=chance) * 0.3, torch.arange(count) % 3
    quarters = torch.randint(0, 4, (count,), generator=chance)
    beside = (quarters + torch.randint(1, 4, (count,), generator=chance)) % 4
    for i in range(count):
        for quarter, colour in ((quarters[i], torch.eye(3)[labels[i]] * 2), (beside[i], torch.ones(3))):
            top, left = int(quarter) // 2 * 16 + 4, int(quarter) % 2 * 16 + 4
            x[i, :, top : top + 8, left : left + 8] += colour[:, None, None]
    return x, labels


def test_nothing_speaks_for_a_class_without_weights(trunk: nn.Module) -> None:
    head = heads.linear(torch.zeros(2, EMBEDDED.width), torch.tensor([1.0, 0.0]))
    heat = heatmap(Classifier(trunk, head, 2).eval(), drawn(1, 0)[0], 0)
    assert torch.equal(heat, torch.zeros_like(heat))


def test_a_map_of_one_place_is_looked_into_by_covering(trunk: nn.Module) -> None:
    heats = [heatmap(opposites(trunk, EMBEDDED.width), torch.randn(1, 3, 32, 32), label) for label in (0, 1)]
    assert all(heat.numel() > 1 for heat in heats) and max(heat.max() for heat in heats) == 1


@pytest.mark.parametrize("name", ["built_in", "timm/test_vit2.r160_in1k"])
def test_threads_that_ask_at_once_are_told_the_same_and_nothing_is_left_behind(name: str) -> None:
    row = find(name)
    model = opposites(shuffled(backbone.blank(row, 0)), row.width)
    model.head.requires_grad_(True)
    torch.manual_seed(3)
    pictures = [torch.randn(1, 3, row.preprocessing.size, row.preprocessing.size) for _ in range(6)]

    def traces() -> list[object]:
        hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), list(m._modules)) for m in model.modules()]
        return [[id(m) for m in model.modules()], hooks, [(p.requires_grad, p.grad) for p in model.parameters()]]

    def predict(x: Tensor) -> Tensor:
        with torch.inference_mode():
            return model(x)

    before = traces()
    alone = [heatmap(model, x, i % 2) for i, x in enumerate(pictures)]
    answers = [predict(x) for x in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = [pool.submit(heatmap, model, x, i % 2) for i, x in enumerate(pictures)]
        beside = [pool.submit(predict, x) for x in pictures]
        assert all(torch.equal(a, b.result()) for a, b in zip(alone, together, strict=True))
        assert all(torch.equal(a, b.result()) for a, b in zip(answers, beside, strict=True))
    assert traces() == before


def test_a_failure_leaves_nothing_behind() -> None:
    row = find("timm/test_vit2.r160_in1k")
    model = opposites(shuffled(backbone.blank(row, 0)), row.width)
    with pytest.raises(AssertionError):
        heatmap(model, torch.zeros(1, 3, 17, 17), 0)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert "forward_features" not in vars(model.trunk)


@pytest.mark.parametrize("name", ["built_in", "timm/test_vit2.r160_in1k"])
def test_it_works_in_whatever_mode_it_is_asked_and_was_loaded(name: str) -> None:
    row = find(name)
    x = torch.randn(1, 3, row.preprocessing.size, row.preprocessing.size)
    wanted = heatmap(opposites(shuffled(backbone.blank(row, 0)), row.width), x, 0)
    with torch.inference_mode():
        model = opposites(shuffled(backbone.blank(row, 0)), row.width)
        seen = x.clone()
        assert all(p.is_inference() for p in model.parameters())
        assert torch.allclose(heatmap(model, seen, 0), wanted, atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(heatmap(model, seen, 0), wanted, atol=1e-5)
    assert all(p.is_inference() for p in model.parameters())


def test_why_of_a_trained_model_is_asked_of_what_it_saw(trained: Trained) -> None:
    predictor, store = Predictor(trained.bundle), PixelStore(trained.images)
    picture = store[0]
    found = why(predictor, picture)
    side = predictor.info.preprocessing.size
    assert found.framed.shape == (side, side, 3) and found.framed.dtype == np.uint8
    assert np.array_equal(found.framed.transpose(2, 0, 1), predictor.info.preprocessing.frame(picture).numpy())
    assert found.heat.dtype == np.float32 and found.heat.shape == (4, 4) and found.heat.max() == 1
    label = int(predictor.logits([picture]).argmax())
    assert np.array_equal(why(predictor, picture, label).heat, found.heat)
    assert not np.array_equal(why(predictor, picture, 1 - label).heat, found.heat)


def test_features_are_those_that_the_answer_comes_from(trained: Trained) -> None:
    predictor, store = Predictor(trained.bundle), PixelStore(trained.images)
    pictures = [store[i] for i in range(35)]  # more than a batch
    features = features_of(predictor, pictures)
    assert features.shape == (35, EMBEDDED.width) and features.dtype == np.float32
    with torch.no_grad():
        logits = predictor.model.head(torch.from_numpy(features))
    assert torch.allclose(logits, predictor.logits(pictures), atol=1e-4)
    assert features_of(predictor, []).shape == (0, EMBEDDED.width)


def test_a_heated_picture_keeps_what_mattered_and_greys_the_rest() -> None:
    framed: RGB = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    framed[:] = framed[:1, :1]  # one colour, so that enlarging changes nothing
    all_of_it, nothing = (heated(framed, np.full((4, 4), value, dtype=np.float32)) for value in (1.0, 0.0))
    assert all_of_it.shape == (384, 384, 3) and (all_of_it == framed[0, 0]).all()
    assert np.ptp(nothing, axis=2).max() == 0
    half = np.zeros((4, 4), dtype=np.float32)
    half[:, :2] = 1
    both = heated(framed, half)
    assert (both[:, :100] == framed[0, 0]).all() and np.ptp(both[:, 300:], axis=2).max() == 0
    line = both[:, 180:204].reshape(-1, 3)
    assert (line == 0).all(1).any() and (line == 255).all(1).any()
