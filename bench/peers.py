"""The quick path against what people would run instead, on the same pictures, split and backbone.

    python -m bench.peers [SET]

- The PyTorch tutorial with a frozen backbone, as written
  (https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html): files read and augmented anew every
  epoch by four worker processes (two here, as many as there are cores), batches of 4, SGD, 25 epochs, train and val.
- fastai's `fine_tune(4)`, its recipe in plain PyTorch (fastai itself does not install beside this torch): an epoch of
  the head alone, then four of everything, batches of 64, its usual augmentation left out, which flatters it.
- transformers' image-classification example with Trainer: ViT-B/16 at 224 px, five epochs, batches of 8
  (https://github.com/huggingface/transformers/tree/main/examples/pytorch/image-classification); random weights, since
  only time is measured. Its seconds are those of a few steps times their number: a whole run takes half an hour.
Ours is the whole job from the zip to the saved bundle; theirs starts from unpacked files and saves nothing. One round:
theirs take minutes each.
"""

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from bench.machine import DATA, describe
from bench.quick_path import ours
from tl_core.bundle.bundle import load
from tl_core.doctor import probe
from tl_core.models import backbone
from tl_core.models.catalogue import EMBEDDED
from tl_core.settings import Settings
from tl_core.training.cores import cores

SIZE, MEAN, STD = EMBEDDED.preprocessing.size, EMBEDDED.preprocessing.mean, EMBEDDED.preprocessing.std
EPOCHS, ROUNDS = 25, 1
_TENSOR = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(MEAN), list(STD))]
TRAIN = v2.Compose([v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip(), *_TENSOR])
VAL = v2.Compose([v2.Resize(round(SIZE * 256 / 224)), v2.CenterCrop(SIZE), *_TENSOR])


def network(classes: int) -> nn.Sequential:
    return nn.Sequential(backbone.load(EMBEDDED, timeout=0), nn.Linear(EMBEDDED.width, classes))


def accuracy(model: nn.Module, loader: "DataLoader[object]") -> float:
    right = total = 0
    with torch.no_grad():
        for x, y in loader:
            right, total = right + int((model(x).argmax(1) == y).sum()), total + len(y)
    return right / total


def tutorial(folder: Path) -> tuple[float, float]:
    """Seconds, and the accuracy of the best epoch on the pictures it is scored on."""
    sets = {"train": ImageFolder(str(folder / "train"), TRAIN), "val": ImageFolder(str(folder / "val"), VAL)}
    loaders = {k: DataLoader(v, batch_size=4, shuffle=True, num_workers=cores()) for k, v in sets.items()}
    torch.manual_seed(0)
    model = network(len(sets["train"].classes))
    model[1].requires_grad_(True)
    optimizer = torch.optim.SGD(model[1].parameters(), lr=0.001, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    best, started = 0.0, time.monotonic()
    for _ in range(EPOCHS):
        model[1].train()
        for x, y in loaders["train"]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        scheduler.step()
        best = max(best, accuracy(model.eval(), loaders["val"]))
    return time.monotonic() - started, best


def fine_tune_four(folder: Path) -> tuple[float, float]:
    """Seconds and accuracy of one frozen epoch and four unfrozen ones."""
    sets = {"train": ImageFolder(str(folder / "train"), VAL), "val": ImageFolder(str(folder / "val"), VAL)}
    loaders = {k: DataLoader(v, batch_size=64, shuffle=k == "train", num_workers=cores()) for k, v in sets.items()}
    torch.manual_seed(0)
    model, started = network(len(sets["train"].classes)), time.monotonic()
    for epochs, everything, rate in ((1, False, 2e-3), (4, True, 1e-3)):
        model.requires_grad_(everything)
        model[1].requires_grad_(True)
        groups = [{"params": model[1].parameters()}]
        if everything:
            groups.insert(0, {"params": model[0].parameters()})
        optimizer = torch.optim.Adam(groups, lr=rate)
        rates = [rate] if not everything else [rate / 100, rate]
        steps = epochs * len(loaders["train"])
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rates, total_steps=steps)
        for _ in range(epochs):
            for x, y in loaders["train"]:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
                scheduler.step()
            score = accuracy(model, loaders["val"])
    return time.monotonic() - started, score


def trainer_recipe(pictures: int) -> float:
    """Seconds that five epochs of Trainer's ViT-B/16 recipe take, from a few of its steps."""
    from transformers import ViTConfig, ViTForImageClassification

    model = ViTForImageClassification(ViTConfig(num_labels=2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    seconds = []
    for _ in range(4):
        started = time.monotonic()
        model(pixel_values=torch.randn(8, 3, 224, 224), labels=torch.randint(0, 2, (8,))).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.monotonic() - started)
    return statistics.median(seconds[1:]) * 5 * -(-pictures // 8)


def main() -> None:
    source = DATA / f"{sys.argv[1] if len(sys.argv) > 1 else 'hymenoptera'}.zip"
    print(describe())
    with tempfile.TemporaryDirectory() as scratch:
        shutil.unpack_archive(source, scratch)
        folder = next(Path(scratch).rglob("train")).parent
        settings = Settings(data_dir=Path(scratch, "data"))
        probe(settings)
        rounds, scores = [], []
        for _ in range(ROUNDS):
            mine = ours(source, Path(scratch, "work"), settings)
            theirs = [tutorial(folder), fine_tune_four(folder)]
            rounds.append((mine, *(seconds for seconds, _ in theirs)))
            score = load(Path(scratch, "work", "run", "bundle"))[1].evaluation.accuracy
            scores.append((score, *(score for _, score in theirs)))
        pictures = len(ImageFolder(str(folder / "train")))
        trainer = trainer_recipe(pictures)
    seconds = [statistics.median(side) for side in zip(*rounds, strict=True)]
    right = [float(np.mean(side)) for side in zip(*scores, strict=True)]
    for name, at in (("ours", 0), ("tutorial, frozen, 25 epochs", 1), ("fastai's fine_tune(4)", 2)):
        print(f"{name}: {seconds[at]:.1f} s, accuracy {right[at]:.3f}, {seconds[at] / seconds[0]:.0f} times ours")
    print(f"transformers' Trainer recipe: {trainer:.0f} s from a few steps, {trainer / seconds[0]:.0f} times ours")


if __name__ == "__main__":
    main()
