"""Fine-tuning steps against a bare loop on random tensors, the same network and precision.

    python -m bench.steps

The bare loop is forward, backward and a fused AdamW step on one ready-made batch, once with PyTorch's own threads as
everybody writes it, and once a small batch a core as ours does. Ours does what a run does: pictures from the frames on
disk, random views, normalisation, summing, clipping, averaging. Interleaved, medians of five.
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bench.machine import describe
from tl_core.models import backbone
from tl_core.models.catalogue import EMBEDDED
from tl_core.models.classifier import Classifier
from tl_core.training.checkpoint import Checkpoints
from tl_core.training.cores import Workers, cores, one_thread
from tl_core.training.distributed import World
from tl_core.training.engine import has_bf16
from tl_core.training.finetune import Step, Tuner
from tl_core.training.gradient import TrainingData
from tl_core.training.recipe import Precision, Recipe

ROUNDS, STEPS, BATCH, CLASSES = 5, 6, 32, 10
SIZE = EMBEDDED.preprocessing.size


def network() -> Classifier:
    trunk = backbone.load(EMBEDDED, timeout=0)
    return Classifier(trunk, nn.Linear(EMBEDDED.width, CLASSES), CLASSES).requires_grad_(True)


def bare(precision: Precision, *, split: bool) -> float:
    """Pictures a second of the bare loop."""
    model, workers = network(), Workers("cpu")
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=1e-5, fused=True)
    x = torch.randn(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, CLASSES, (BATCH,))

    def gradient(part: slice) -> tuple[torch.Tensor, ...]:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(x[part])
        loss = nn.functional.cross_entropy(logits.float(), y[part], reduction="sum") / BATCH
        return torch.autograd.grad(loss, weights)

    def step() -> None:
        half = BATCH // cores()
        parts = [slice(at, at + half) for at in range(0, BATCH, half)] if split else [slice(0, BATCH)]
        found = list(workers.map(gradient, parts)) if split else [gradient(parts[0])]
        total = list(found[0])
        for more in found[1:]:
            torch._foreach_add_(total, list(more))
        for weight, value in zip(weights, total, strict=True):
            weight.grad = value
        optimizer.step()

    def run() -> float:
        step()
        started = time.monotonic()
        for _ in range(STEPS):
            step()
        return STEPS * BATCH / (time.monotonic() - started)

    if not split:
        return run()
    with one_thread():
        return run()


def ours(precision: Precision, folder: Path) -> float:
    """Pictures a second of a run's own loop."""
    frames = np.lib.format.open_memmap(folder / "frames.npy", "w+", np.uint8, (256, 3, 147, 147))
    frames[:] = np.random.default_rng(0).integers(0, 256, frames.shape, dtype=np.uint8)
    numbers = np.arange(len(frames))
    data = TrainingData(frames, numbers % CLASSES, numbers, np.ones(len(frames), dtype=np.float32))
    tuner = Tuner(
        network(),
        data,
        Recipe("all", 2, SIZE, precision=precision, batch=BATCH),
        sizes=[SIZE],
        preprocessing=EMBEDDED.preprocessing,
        device="cpu",
        seed=0,
        checkpoints=Checkpoints(folder / "none", "x", ""),
        world=World(),
    )
    started, steps = 0.0, 0
    for report in tuner.run(should_stop=lambda: False):
        if isinstance(report, Step):
            started, steps = started or time.monotonic(), steps + 1
            if steps == STEPS + 1:
                break
    return STEPS * BATCH / (time.monotonic() - started)


def main() -> None:
    print(describe())
    for precision in ("bf16", "fp32") if has_bf16() else ("fp32",):
        rounds = []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as scratch:
                mine = ours(precision, Path(scratch))
            rounds.append((mine, bare(precision, split=False), bare(precision, split=True)))
        mine, plain, split = (statistics.median(side) for side in zip(*rounds, strict=True))
        print(
            f"{EMBEDDED.title} {SIZE} px {precision}: ours {mine:.0f} pictures/s; bare loop {plain:.0f}, ratio "
            f"{statistics.median(r[0] / r[1] for r in rounds):.2f}; bare loop with a small batch a core {split:.0f}, "
            f"ratio {statistics.median(r[0] / r[2] for r in rounds):.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
