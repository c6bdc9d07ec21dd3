"""The embedded backbones beside others: size, speed on a processor, accuracy on five sets, and on spoiled pictures.

    python -m bench.backbones speed|quick|balanced|spoiled [--sets SET ...] [NAME=WEIGHTS.safetensors ...]

Candidates are the two that ship, the first with random weights, SqueezeNet 1.1 with ImageNet's (at its own 224 pixels)
and any other weights of an embedded architecture that are named. Quick and Balanced as the command line runs them,
near copies grouped as the closer look finds them; three seeds, the error is the standard error of their mean. Spoiled:
the head is solved on pictures as they are and asked about test pictures without colour, blurred, of 32 pixels, turned.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from bench.balanced import SEEDS, ours
from bench.machine import DATA, describe
from tl_core.data.imageset import ImageSet
from tl_core.data.intake import prepare
from tl_core.data.pixels import PixelStore
from tl_core.data.split import split
from tl_core.data.understand import load
from tl_core.models import backbone, sources
from tl_core.models.catalogue import CATALOGUE, EMBEDDED, Backbone, find
from tl_core.review import review
from tl_core.settings import Settings
from tl_core.training.cores import cores, in_order
from tl_core.training.engine import ENGINES, Engine, build, candidates
from tl_core.training.features import BATCH
from tl_core.training.plan import Effort
from tl_core.training.solve import SolvedHead, solve

SETS = ("hymenoptera", "flowers5", "dtd10", "caltech101-15", "monkeys10")
SPOILED: dict[str, Callable[[Tensor], Tensor]] = {
    "as they are": lambda batch: batch,
    "grey": lambda batch: transforms.rgb_to_grayscale(batch, num_output_channels=3),
    "blurred": lambda batch: transforms.gaussian_blur(batch, [_odd(batch, 0.1)] * 2, [batch.shape[-1] / 64] * 2),
    "small": lambda batch: transforms.resize(transforms.resize(batch, [32, 32]), list(batch.shape[-2:])),
    "turned": lambda batch: transforms.rotate(
        batch, 30, interpolation=transforms.InterpolationMode.BILINEAR, fill=[124.0, 116.0, 104.0]
    ),
}


def _odd(batch: Tensor, share: float) -> int:
    return int(batch.shape[-1] * share) // 2 * 2 + 1


@dataclass(frozen=True)
class Candidate:
    """A backbone, and the file of weights it is to take instead of those that ship."""

    name: str
    row: Backbone
    weights: Path | None = None

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While it lasts, the app's embedded backbone of that architecture is this one."""
        with tempfile.TemporaryDirectory() as folder:
            shipped = sources.WEIGHTS_DIR
            if self.weights is not None:
                for file in shipped.glob("*.safetensors"):
                    taken = self.weights.absolute() if file.name == self.row.weights else file
                    Path(folder, file.name).symlink_to(taken)
                sources.WEIGHTS_DIR = Path(folder)
            try:
                yield
            finally:
                sources.WEIGHTS_DIR = shipped


def everybody(scratch: Path, named: list[str]) -> list[Candidate]:
    """The candidates; SqueezeNet's weights are laid where torchvision looks for them."""
    os.environ["TORCH_HOME"] = str(scratch / "torch")
    squeezenet = find("squeezenet1_1")
    checkpoints = scratch / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    state = load_file(DATA / "weights" / "squeezenet1_1.torchvision-keys.safetensors")
    torch.save(state, checkpoints / squeezenet.hub_file)
    torch.manual_seed(0)
    random = backbone.untrained(EMBEDDED, 0).state_dict()
    save_file({name: value.contiguous() for name, value in random.items()}, scratch / "random.safetensors")
    others = [Candidate(name, _row(Path(file)), Path(file)) for name, _, file in (one.partition("=") for one in named)]
    return [
        Candidate("built-in", EMBEDDED),
        Candidate("older", find("embedded")),
        *others,
        Candidate("random weights", EMBEDDED, scratch / "random.safetensors"),
        Candidate("SqueezeNet 1.1, ImageNet", squeezenet),
    ]


def _row(weights: Path) -> Backbone:
    """The embedded backbone that such weights are of."""
    with safe_open(weights, "pt") as opened:
        arguments = json.loads(opened.metadata().get("model_args", "{}"))
    return next(row for row in CATALOGUE if row.source == "embedded" and row.model_args == arguments)


def read(name: str, scratch: Path, settings: Settings) -> ImageSet:
    """A set as the app reads it, with its closer look (by what ships, for all candidates alike)."""
    folder = scratch / name
    for _ in prepare(DATA / f"{name}.zip", folder, settings):
        pass
    for _ in review(folder, settings=settings):
        pass
    return load(folder)


def accuracy(one: Candidate, images: ImageSet, work: Path, effort: Effort, settings: Settings) -> list[float]:
    """Of the test pictures, by seed."""
    folders = {seed: work / f"{effort} {one.name} {seed}" for seed in SEEDS}
    return [ours(images, folder, effort, seed, settings, one.row)[0] for seed, folder in folders.items()]


def spoiled(one: Candidate, images: ImageSet) -> dict[str, float]:
    """Accuracy by what was done to the test pictures, mean over the seeds."""
    model, store = backbone.load(one.row, timeout=0), PixelStore(images)
    engine = build("torch-fp32", model, one.row.preprocessing, "cpu", Path())
    features = {}
    for kind, change in SPOILED.items():

        def look(start: int, change: Callable[[Tensor], Tensor] = change) -> np.ndarray:
            indices = range(start, min(start + BATCH["cpu"], len(images.pictures)))
            return engine.run(change(store.framed(indices, one.row.preprocessing)))

        starts = range(0, len(images.pictures), BATCH["cpu"])
        features[kind] = np.concatenate(list(in_order(look, starts, workers=cores())))
    labels = [picture.label for picture in images.pictures]
    groups = [picture.group for picture in images.pictures]
    right: dict[str, list[float]] = {kind: [] for kind in SPOILED}
    for seed in SEEDS:
        parts = split(images, seed=seed)
        learn, test = list(parts.train), list(parts.test)
        steps = solve(
            features["as they are"][learn],
            [labels[i] for i in learn],
            [groups[i] for i in learn],
            len(images.class_names),
            seed=seed,
        )
        head = list(steps)[-1]
        assert isinstance(head, SolvedHead)
        for kind, rows in features.items():
            called = (torch.from_numpy(rows[test]) @ head.weight.T + head.bias).argmax(1)
            right[kind].append(float((called == torch.tensor([labels[i] for i in test])).float().mean()))
    return {kind: statistics.mean(scores) for kind, scores in right.items()}


def speeds(everyone: list[Candidate], cache: Path, *, pictures: int = 1024, rounds: int = 9) -> dict[str, float]:
    """Pictures a second of ready pixels in the fastest engine of this machine, interleaved, medians."""
    engines: dict[str, tuple[Engine, Tensor]] = {}
    for one in everyone:
        with one.in_place():
            model = backbone.load(one.row, timeout=0)
        batch = torch.randint(0, 256, (BATCH["cpu"], 3, *[one.row.preprocessing.size] * 2), dtype=torch.uint8)
        engines[one.name] = build(candidates("cpu")[0], model, one.row.preprocessing, "cpu", cache), batch
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds + 1):
        for name, (engine, batch) in engines.items():
            started = time.monotonic()
            for _ in in_order(lambda _, e=engine, b=batch: e.run(b), range(pictures // len(batch)), workers=cores()):
                pass
            seconds[name].append(time.monotonic() - started)
    return {name: pictures / statistics.median(taken[1:]) for name, taken in seconds.items()}


def megabytes(one: Candidate) -> float:
    """What its file takes where it ships, else its weights without a classifier as fp16."""
    with one.in_place():
        if one.row.source == "embedded" and one.weights is None:
            return (sources.WEIGHTS_DIR / one.row.weights).stat().st_size / 1e6
        model = backbone.load(one.row, timeout=0)
    return sum(2 * value.numel() for value in model.state_dict().values()) / 1e6


def said(scores: list[float]) -> str:
    return f"{statistics.mean(scores):.3f} ± {statistics.stdev(scores) / len(scores) ** 0.5:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "quick", "balanced", "spoiled"))
    parser.add_argument("named", nargs="*", metavar="NAME=WEIGHTS")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--only", nargs="+", help="of the candidates, by name")
    args = parser.parse_args()
    print(describe(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        settings = Settings(data_dir=scratch / "data")
        everyone = [one for one in everybody(scratch, args.named) if not args.only or one.name in args.only]
        if args.what == "speed":
            found = speeds(everyone, settings.data_dir / ENGINES)
            for one, speed in zip(everyone, found.values(), strict=True):
                ratio = speed / list(found.values())[-1]
                print(f"| {one.name} | {megabytes(one):.1f} MB | {speed:.0f} a second | {ratio:.2f} times the last |")
            return
        for name in args.sets:
            images = read(name, scratch, settings)
            for one in everyone:
                with one.in_place():
                    if args.what == "spoiled":
                        cells = [f"{score:.3f}" for score in spoiled(one, images).values()]
                    else:
                        cells = [said(accuracy(one, images, scratch / f"runs {name}", args.what, settings))]
                print(f"| {name} | {one.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
