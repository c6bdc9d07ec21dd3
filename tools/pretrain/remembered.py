"""What the teachers see in a fixed number of crops of every picture, looked at once and kept.

    torchrun --nproc-per-node 2 -m tools.pretrain.remembered --data ../shared/data --work /tmp/pretrain --versions 3

Three networks look at a crop for longer than a light student learns from it; kept, what they see serves every epoch
(fast knowledge distillation, https://arxiv.org/abs/2112.01528). An interrupted look goes on where it was.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import openvino as ov
import torch
import torch.distributed as dist
from torch import Tensor, nn

from tools.pretrain import weights
from tools.pretrain.corpus import NO_LABEL, Crops, pack
from tools.pretrain.teachers import Teachers, normalised

# Columns of a row: pooled features of SqueezeNet and its logits, of MobileNetV2, of the embedded backbone.
COLUMNS = {"squeeze": 512, "imagenet": 1000, "mobile": 1280, "embedded": 512}
_SIZE = 128


class Versions(Crops):
    """Crops that can be made again: number `n` is version n // P of picture n % P, of P pictures, at any size."""

    def __init__(self, folder: Path, *, seed: int, collages: float) -> None:
        super().__init__(folder, batch=0, size=_SIZE, seed=seed, collages=collages)

    def make(self, numbers: np.ndarray, size: int) -> tuple[Tensor, Tensor]:
        """((N, 3, size, size) uint8, (N,) int64 labels)."""
        self.size = size
        crops = torch.empty(len(numbers), 3, size, size, dtype=torch.uint8)
        labels = torch.full((len(numbers),), NO_LABEL)
        for at, number in enumerate(numbers):
            self.rng = np.random.default_rng((self.seed, int(number)))
            crops[at], labels[at] = self.one(int(number) % len(self.index))
        return crops, labels


class Everybody(nn.Module):
    """(N, 3, H, W) normalised RGB -> (N, sum of COLUMNS)."""

    def __init__(self, teachers: Path, embedded: Path) -> None:
        super().__init__()
        self.teachers = Teachers(teachers)
        self.embedded = weights.read(embedded)[1]

    def forward(self, pictures: Tensor) -> Tensor:
        squeeze, _, logits, mobile = self.teachers(pictures)
        return torch.cat([squeeze, logits, mobile, self.embedded(pictures)], 1)


def opened(work: Path, rows: int, *, mode: str = "r") -> np.memmap:
    """(rows, sum of COLUMNS) float16; a row of noughts was not looked at."""
    return np.memmap(work / "remembered.f16", np.float16, mode, shape=(rows, sum(COLUMNS.values())))


def main() -> None:
    args = _arguments()
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo")
    if rank == 0:
        pack(args.data, args.work)
    if world > 1:
        dist.barrier()
    crops = Versions(args.work, seed=args.seed, collages=args.collages)
    rows = args.versions * len(crops.index)
    if rank == 0 and not (args.work / "remembered.f16").exists():
        opened(args.work, rows, mode="w+").flush()
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()
    kept = opened(args.work, rows, mode="r+")
    core = ov.Core()
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False})
    everybody = Everybody(args.weights or args.data / "weights", args.embedded).eval()
    engine = core.compile_model(ov.convert_model(everybody, example_input=torch.zeros(2, 3, _SIZE, _SIZE)), "CPU")
    started, done = time.monotonic(), 0
    for first in range(rank * args.batch, rows, args.batch * world):
        numbers = np.arange(first, min(first + args.batch, rows))
        if kept[numbers].any():
            continue
        pictures, _ = crops.make(numbers, _SIZE)
        kept[numbers] = engine(normalised(pictures).numpy())[0]
        done += len(numbers)
        if rank == 0 and done % (args.batch * 50) == 0:
            print(f"{first} of {rows}, {done * world / (time.monotonic() - started):.0f} a second", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpus zips")
    parser.add_argument("--weights", type=Path, help="folder of the ImageNet teachers (default: DATA/weights)")
    parser.add_argument("--embedded", type=Path, default=Path("tl_core/models/weights/embedded.safetensors"))
    parser.add_argument("--work", type=Path, required=True, help="packed pictures, and what is remembered of them")
    parser.add_argument("--versions", type=int, default=3, help="crops of every picture; 0.6 GB each")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--collages", type=float, default=0.1, help="share of crops that show four pictures")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
