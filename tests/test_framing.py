"""How pictures become square: shown as they are framed, chosen by what the pictures say, and the same for good."""

import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.conftest import encode
from tl_core.bundle import bundle
from tl_core.bundle.predictor import Predictor
from tl_core.data.imageset import ImageSet
from tl_core.data.pixels import PixelStore
from tl_core.events import Event, Finished, Notice, Paused, Progress, StageDone
from tl_core.models.catalogue import EMBEDDED, find
from tl_core.settings import Settings
from tl_core.training.framing import (
    FRAMINGS,
    affordable,
    comparing_seconds,
    matters,
    most_elongated,
    preview,
    reframed,
)
from tl_core.training.judge import PENALTIES, held_out_answers, judge
from tl_core.training.plan import Facts, Machine, Plan, Wishes, make_plan
from tl_core.training.run import after, train
from tl_ui import choices, words

ROOT = Path(__file__).parents[1]
EACH = 45


@pytest.fixture
def time_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether comparing is worth its time is not for the speed of a machine that runs other tests to say."""
    monkeypatch.setattr("tl_core.training.framing._FREE_SECONDS", 60.0)


def tall(label: int, seed: int, *, ends: bool) -> bytes:
    """A tall picture whose class is the shape at both `ends`, or the one in the middle; the other place is random."""
    rng = random.Random(f"{label} {seed}")
    noise = np.random.default_rng([label, seed]).normal(128, 35, (384, 128, 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(noise)
    draw, red = ImageDraw.Draw(image), (200, rng.randint(20, 90), rng.randint(20, 90))
    told, other = label, rng.randint(0, 1)
    for y, kind in ((8, told if ends else other), (150, other if ends else told), (290, told if ends else other)):
        x, side = rng.randint(8, 32), rng.randint(70, 84)
        box = (x, y, x + side, y + side)
        if kind:
            draw.ellipse(box, fill=red)
        else:
            draw.line((box[0], box[1], box[2], box[3]), fill=red, width=22)
            draw.line((box[0], box[3], box[2], box[1]), fill=red, width=22)
    return encode(image)


def zipped(path: Path, drawn: Callable[[int, int], bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for label, name in enumerate(("crosses", "discs")):
            for seed in range(EACH):
                archive.writestr(f"{name}/{seed:03}.jpg", drawn(label, seed))
    return path


@pytest.fixture
def told_by_ends(time_to_compare: None, tmp_path: Path, read_set: Callable[..., ImageSet]) -> ImageSet:
    return read_set(zipped(tmp_path / "ends.zip", lambda label, seed: tall(label, seed, ends=True)), "ends")


@pytest.fixture
def told_by_middle(time_to_compare: None, tmp_path: Path, read_set: Callable[..., ImageSet]) -> ImageSet:
    return read_set(zipped(tmp_path / "middle.zip", lambda label, seed: tall(label, seed, ends=False)), "middle")


def plan_of(images: ImageSet, settings: Settings, **wishes: object) -> Plan:
    made = Wishes(**wishes)  # type: ignore[arg-type]
    return make_plan(made, Facts.of(images), local=[EMBEDDED], machine=Machine(settings))


def run_of(images: ImageSet, out: Path, settings: Settings, **wishes: object) -> list[Event]:
    return list(train(images, out, plan=plan_of(images, settings, **wishes), settings=settings))


def codes(events: list[Event]) -> list[str]:
    return [event.code for event in events if isinstance(event, Notice)]


def framing_of(out: Path) -> str:
    return bundle.load(out / "bundle")[1].preprocessing.framing


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("name", ["built_in", "resnet18"])
@pytest.mark.parametrize("shape", [(90, 300), (300, 90), (128, 128), (700, 40), (3, 200)])
def test_what_is_shown_is_what_the_network_sees(framing: str, name: str, shape: tuple[int, int]) -> None:
    ramp = np.linspace(0, 255, shape[0] * shape[1]).reshape(shape)
    picture = np.stack([ramp, ramp[::-1], ramp[:, ::-1]], axis=2).astype(np.uint8)
    seen = reframed(find(name), framing).preprocessing  # type: ignore[arg-type]
    shown, real = preview(picture, seen), seen.frame(picture).permute(1, 2, 0).numpy()
    assert shown.shape == real.shape == (seen.size, seen.size, 3)
    assert np.abs(shown.astype(float) - real).mean() < 4


def test_the_framings_differ_only_where_pictures_are_not_square() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    squares = [preview(picture, reframed(EMBEDDED, framing).preprocessing) for framing in FRAMINGS]
    assert all(np.array_equal(squares[0], other) for other in squares[1:])
    tall_ones = [preview(picture[:, :32], reframed(EMBEDDED, framing).preprocessing) for framing in FRAMINGS]
    assert not np.array_equal(tall_ones[0], tall_ones[1]) and not np.array_equal(tall_ones[1], tall_ones[2])


def test_the_page_needs_no_torch_for_it() -> None:
    code = "import sys, tl_core.training.framing, tl_ui.choices; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_page_shows_the_three_farthest_from_square_with_words_for_those_who_do_not_see_them(
    told_by_ends: ImageSet, make_zip: Callable[..., Path], read_set: Callable[..., ImageSet]
) -> None:
    hostile = "<img src=x onerror=alert(1)>\"'.jpg"
    named = replace(told_by_ends, pictures=tuple(replace(p, name=hostile) for p in told_by_ends.pictures))
    html = choices.frames(named, EMBEDDED, "en")
    assert html.count("<li>") == 3 and html.count("<figure>") == 9 and html.count("<img ") == 9
    assert html.count("onerror") == html.count("&lt;img src=x onerror") == 3 + 9
    for way in ("Only the middle is kept", "Bars added", "Squeezed"):
        assert html.count(f"<figcaption>{way}</figcaption>") == 3 and html.count(f': {way}" src=') == 3
    assert len(html) < 200_000
    square = choices.frames(read_set(make_zip({"star": 6, "circle": 6}), "square"), EMBEDDED, "zh")
    assert "<figure>" not in square and words.say("zh", "train.framing.none") in square


def test_every_way_can_be_wished_for_on_the_page() -> None:
    for framing in ("auto", *FRAMINGS, "<b>"):
        values = ("quick", "auto", "auto", "auto", 0, 0, 0, "auto", framing, "auto", "auto", "auto", "auto")
        assert choices.wishes(values)[0].framing == (framing if framing != "<b>" else "auto")


def test_answers_held_out_are_those_of_a_fit_without_the_fold() -> None:
    """The closed form against fitting anew for every fold, at the penalty it chose."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    x = rng.normal(size=(60, 8)).astype(np.float32) + np.eye(8, dtype=np.float32)[labels]
    fold_of = np.arange(60) % 5
    truth = np.eye(3)[labels]
    found = held_out_answers(x, truth, fold_of)
    scaled = (x - x.mean(0)) / x.std(0)
    closest = np.inf
    for penalty in PENALTIES:
        anew = np.empty_like(truth)
        for fold in range(5):
            out = fold_of == fold
            inner, mean = scaled[~out], truth[~out].mean(0)
            centre = inner.mean(0)
            gram = (inner - centre).T @ (inner - centre) + penalty * 60 * 8 * np.eye(8)
            weights = np.linalg.solve(gram, (inner - centre).T @ (truth[~out] - mean))
            anew[out] = mean + (scaled[out] - centre) @ weights
        closest = min(closest, float(np.abs(anew - found).max()))
    assert closest < 1e-4


def features_of(gain: float, seed: int, count: int = 100) -> tuple[dict[str, np.ndarray], list[int]]:
    """Features in which the classes lie `gain` farther apart when padded than otherwise; the noise is nearly shared."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    shared_noise = rng.normal(size=(count, 16))
    sides = {"crop": 0.8, "squash": 0.8, "pad": 0.8 + gain}
    made = {
        name: (shared_noise + 0.5 * rng.normal(size=(count, 16)) + distance * (2 * labels[:, None] - 1) * 0.2).astype(
            np.float32
        )
        for name, distance in sides.items()
    }
    return made, labels.tolist()


def test_another_framing_needs_more_than_chance() -> None:
    """Where nothing differs the own framing is nearly always kept; a real difference is nearly always found."""
    kept, found = 0, 0
    for seed in range(40):
        same, labels = features_of(0.0, seed)
        kept += judge(same, labels, range(100), own="crop", seed=seed).framing == "crop"  # type: ignore[arg-type]
        better, labels = features_of(1.5, seed)
        found += judge(better, labels, range(100), own="crop", seed=seed).framing == "pad"  # type: ignore[arg-type]
    assert kept >= 36 and found >= 36


@pytest.mark.slow
def test_copies_do_not_make_it_surer() -> None:
    """Each picture four times is no more evidence than once."""
    decided = {True: 0, False: 0}
    for seed in range(40):
        made, labels = features_of(0.0, seed, count=60)
        four = {name: np.repeat(x, 4, axis=0) for name, x in made.items()}
        groups = [i // 4 for i in range(240)]
        for grouped in (True, False):
            told = groups if grouped else list(range(240))
            verdict = judge(four, list(np.repeat(labels, 4)), told, own="crop", seed=seed)  # type: ignore[arg-type]
            decided[grouped] += verdict.framing != "crop"
    assert decided[True] <= 4 and decided[True] < decided[False]


def test_it_is_compared_on_as_many_pictures_as_time_allows() -> None:
    assert affordable(1_000, 800, 1_000) == 400
    slow = [affordable(pictures, round(0.8 * pictures), 20) for pictures in (100, 400, 1_600, 6_400)]
    assert slow == sorted(slow) and slow[0] == 0 and slow[-1] == 400
    for pictures in (400, 1_600, 6_400):
        for speed in (5, 20, 100, 1_000, 10_000):
            cost = comparing_seconds(pictures, round(0.8 * pictures), 1 / speed)
            assert cost <= 1 + 0.25 * pictures / speed


def test_a_plan_tells_of_the_comparison_and_counts_its_time(told_by_ends: ImageSet, settings: Settings) -> None:
    Machine(settings).remember(EMBEDDED, 500)
    assert matters(told_by_ends) and len(most_elongated(told_by_ends, 3)) == 3
    auto, pad = plan_of(told_by_ends, settings), plan_of(told_by_ends, settings, framing="pad")
    assert auto.seconds and pad.seconds and auto.seconds > pad.seconds
    assert "framing_compare" in [r.code for r in auto.reasons] and "framing_pad" in [r.code for r in pad.reasons]
    assert Plan.from_dict(json.loads(json.dumps(pad.to_dict()))) == pad


def test_auto_finds_that_the_ends_tell_and_everything_follows_it(
    told_by_ends: ImageSet, settings: Settings, tmp_path: Path
) -> None:
    out, cut = tmp_path / "out", tmp_path / "cut"
    events = run_of(told_by_ends, out, settings)
    chosen = framing_of(out)
    assert chosen in ("pad", "squash") and f"framing_{chosen}" in codes(events)
    assert any(isinstance(e, Progress) and e.stage == "comparing" for e in events)
    assert any(isinstance(e, StageDone) and e.stage == "comparing" for e in events)
    run_of(told_by_ends, cut, settings, framing="crop")
    accuracies = [json.loads((f / "report.json").read_text())["evaluation"]["accuracy"] for f in (out, cut)]
    assert accuracies[0] >= accuracies[1] + 0.2
    report = json.loads((out / "report.json").read_text())["training"]
    assert report["framing"] == chosen
    predictor, store = Predictor(out / "bundle"), PixelStore(told_by_ends)
    answers = predictor.predict([store[i] for i in range(len(told_by_ends.pictures))])
    right = sum(
        a.label == told_by_ends.class_names[p.label] for a, p in zip(answers, told_by_ends.pictures, strict=True)
    )
    assert right >= 0.9 * len(answers), "the predictor frames as the training did"


def test_auto_keeps_the_middle_where_that_tells(told_by_middle: ImageSet, settings: Settings, tmp_path: Path) -> None:
    events = run_of(told_by_middle, tmp_path / "out", settings)
    assert framing_of(tmp_path / "out") == "crop" and "framing_crop" in codes(events)


@pytest.mark.slow
def test_a_framing_asked_for_is_used_without_comparing(
    told_by_middle: ImageSet, settings: Settings, tmp_path: Path
) -> None:
    for framing in FRAMINGS:
        events = run_of(told_by_middle, tmp_path / framing, settings, framing=framing)
        assert framing_of(tmp_path / framing) == framing
        assert not any(isinstance(e, Progress) and e.stage == "comparing" for e in events)


def test_a_machine_too_busy_to_compare_says_so(
    told_by_middle: ImageSet, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tl_core.training.framing._FREE_SECONDS", 0.0)
    events = run_of(told_by_middle, tmp_path / "out", settings)
    assert framing_of(tmp_path / "out") == "crop" and "framing_not_compared" in codes(events)


def test_nearly_square_pictures_cost_nothing(
    make_zip: Callable[..., Path], read_set: Callable[..., ImageSet], settings: Settings, tmp_path: Path
) -> None:
    images = read_set(make_zip({"star": 30, "circle": 30}))
    assert not matters(images) and most_elongated(images, 3) == []
    events = run_of(images, tmp_path / "out", settings)
    assert not any(isinstance(e, Progress | StageDone) and e.stage == "comparing" for e in events)
    assert not any(code.startswith("framing") for code in codes(events))


def test_fine_tuning_sees_the_framing_too(told_by_ends: ImageSet, settings: Settings, tmp_path: Path) -> None:
    wishes = {"framing": "pad", "strategy": "last", "epochs": 2, "image_size": 64, "flips": "off"}
    run_of(told_by_ends, tmp_path / "out", settings, **wishes)
    frames = [np.load(f, mmap_mode="r") for f in told_by_ends.folder.glob("frames-*.npy")]
    assert len(frames) == 1
    grey = np.array([round(255 * value) for value in EMBEDDED.preprocessing.mean])
    assert (frames[0][0, :, 5, 0] == grey).all() and (frames[0][0, :, 40, 1] == grey).all(), (
        "bars beside a tall picture"
    )
    assert framing_of(tmp_path / "out") == "pad"


@pytest.mark.slow
def test_sliced_anywhere_it_ends_with_the_same_weights_and_verdict(
    told_by_ends: ImageSet, read_set: Callable[..., ImageSet], settings: Settings, tmp_path: Path
) -> None:
    """A slice a batch: nothing of the comparison is lost or decided twice."""
    straight, sliced = tmp_path / "straight", tmp_path / "sliced"
    run_of(told_by_ends, straight, settings)
    kept = json.loads((straight / "journal.json").read_text())
    for left_over in [*told_by_ends.folder.glob("features-*")]:
        left_over.unlink()
    sliced.mkdir()
    (sliced / "journal.json").write_text(json.dumps({name: kept[name] for name in ("engine", "framing_sample")}))
    plan, stages = plan_of(told_by_ends, settings), []
    for _ in range(60):
        events = list(train(told_by_ends, sliced, plan=plan, settings=settings, should_pause=after(0.0)))
        if isinstance(events[-1], Finished):
            break
        assert isinstance(events[-1], Paused)
        stages.append(events[-1].stage)
    assert isinstance(events[-1], Finished) and {"comparing", "features"} <= set(stages)
    assert json.loads((sliced / "journal.json").read_text())["framing"] == kept["framing"]
    one, two = (bundle.load(f / "bundle")[0].state_dict() for f in (straight, sliced))
    assert all((one[name] == two[name]).all() for name in one)


@pytest.mark.slow
def test_stopped_while_comparing_there_is_a_model_and_who_goes_on_compares(
    told_by_ends: ImageSet, settings: Settings, tmp_path: Path
) -> None:
    seen: list[Event] = []
    plan, out = plan_of(told_by_ends, settings), tmp_path / "out"
    begun = lambda: any(isinstance(e, Progress) and e.stage == "comparing" and e.done >= 48 for e in seen)  # noqa: E731
    for event in train(told_by_ends, out, plan=plan, settings=settings, should_stop=begun):
        seen.append(event)
    assert isinstance(seen[-1], Finished) and seen[-1].reason == "stopped" and framing_of(out) == "crop"
    again = list(train(told_by_ends, out, plan=plan, settings=settings))
    assert isinstance(again[-1], Finished) and again[-1].reason == "completed" and framing_of(out) != "crop"


@pytest.mark.slow
def test_the_next_run_compares_from_what_is_on_disk(
    told_by_middle: ImageSet, settings: Settings, tmp_path: Path
) -> None:
    run_of(told_by_middle, tmp_path / "one", settings)
    events = run_of(told_by_middle, tmp_path / "two", settings)
    assert "framing_crop" in codes(events)
    assert not any(isinstance(e, Progress) and e.stage == "comparing" for e in events), "nothing is looked at again"
