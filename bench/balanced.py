"""Accuracy of Balanced beside Quick and the PyTorch tutorial's fine-tuning, all with the embedded backbone.

    python -m bench.balanced [SET ...] [--tutorial-seeds N]

Quick and Balanced as the command line runs them. The tutorial's recipe as it is written
(https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html): the same network with a new last layer,
SGD 0.001 with momentum 0.9, batches of 4, RandomResizedCrop and flips, a tenth of the rate every 7 epochs, 25 epochs,
the best epoch chosen on the very pictures it is scored on (which flatters it), at the backbone's own size. Its steps
run in bfloat16 where ours would, to be done in time. Same splits; the error is the standard error over the seeds.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.transforms import v2

from bench.machine import DATA, describe
from tl_core.data.imageset import ImageSet
from tl_core.data.intake import prepare
from tl_core.data.pixels import PixelStore
from tl_core.data.split import split
from tl_core.data.understand import load
from tl_core.events import Finished
from tl_core.models import backbone
from tl_core.models.catalogue import EMBEDDED, Backbone
from tl_core.settings import Settings
from tl_core.training.engine import has_bf16
from tl_core.training.features import outputs
from tl_core.training.plan import Effort, Facts, Machine, Wishes, make_plan
from tl_core.training.run import train

SETS, SEEDS = ("hymenoptera", "flowers5", "dtd10", "caltech101-15"), (0, 1, 2)
EPOCHS, BATCH = 25, 4


def ours(
    images: ImageSet, folder: Path, effort: Effort, seed: int, settings: Settings, row: Backbone = EMBEDDED
) -> tuple[float, float]:
    """Test accuracy and seconds of a run."""
    wishes = Wishes(effort=effort, seed=seed, backbone=row.id)
    plan = make_plan(wishes, Facts.of(images), local=[row], machine=Machine(settings))
    started = time.monotonic()
    last = list(train(images, folder, plan=plan, settings=settings))[-1]
    assert isinstance(last, Finished)
    return last.accuracy, time.monotonic() - started


def tutorial(images: ImageSet, seed: int) -> tuple[float, float]:
    """Test accuracy of the best epoch, and seconds."""
    torch.manual_seed(seed)
    parts, store, size = split(images, seed=seed), PixelStore(images), EMBEDDED.preprocessing.size
    labels = torch.tensor([picture.label for picture in images.pictures])
    net = backbone.load(EMBEDDED, timeout=0)
    model = nn.Sequential(net, nn.Linear(EMBEDDED.width, len(images.class_names))).requires_grad_(True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    views = v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()])
    train_pictures, test = np.array(parts.train), list(parts.test)
    best, started = 0.0, time.monotonic()
    for _ in range(EPOCHS):
        model.train()
        order = torch.randperm(len(train_pictures)).tolist()
        for at in range(0, len(order), BATCH):
            chosen = [int(train_pictures[i]) for i in order[at : at + BATCH]]
            batch = torch.stack([views(torch.from_numpy(store[i]).permute(2, 0, 1)) for i in chosen])
            with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16()):
                logits = model(EMBEDDED.preprocessing.normalise(batch))
            loss = nn.functional.cross_entropy(logits.float(), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        model.eval()
        found = outputs(model, store, test, EMBEDDED.preprocessing, device="cpu", precision="fp32")
        best = max(best, float((found.argmax(1) == labels[test].numpy()).mean()))
    return best, time.monotonic() - started


def said(results: list[tuple[float, float]]) -> str:
    scores = [score for score, _ in results]
    error = statistics.stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else float("nan")
    return f"{statistics.mean(scores):.3f} ± {error:.3f} ({statistics.median(s for _, s in results):.0f} s)"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sets", nargs="*", default=list(SETS))
    parser.add_argument("--tutorial-seeds", type=int, default=len(SEEDS))
    args = parser.parse_args()
    print(describe())
    for name in args.sets:
        with tempfile.TemporaryDirectory() as scratch:
            settings = Settings(data_dir=Path(scratch, "data"))
            for _ in prepare(DATA / f"{name}.zip", Path(scratch, "set"), settings):
                pass
            images = load(Path(scratch, "set"))
            for effort in ("quick", "balanced"):
                found = [ours(images, Path(scratch, f"{effort}{seed}"), effort, seed, settings) for seed in SEEDS]
                print(f"{name} {effort}: {said(found)}  {[round(score, 3) for score, _ in found]}", flush=True)
            if seeds := SEEDS[: args.tutorial_seeds]:
                print(f"{name} tutorial: {said([tutorial(images, seed) for seed in seeds])}", flush=True)


if __name__ == "__main__":
    main()
