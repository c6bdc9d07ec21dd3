"""Teach a backbone to see in spoiled pictures what it sees in them as they are.

    torchrun --nproc-per-node 2 -m tools.pretrain.steady --data ../shared/data --work /tmp/pretrain --minutes 60

The weights given look at a crop as it is; a copy of them looks at the same crop without colour, in other colours,
blurred, small, or turned, and learns to give the same features (invariance by consistency, as in
https://arxiv.org/abs/1904.12848, with the teacher held still so that nothing known is lost). About a third of the
crops are left as they are. Batch norm keeps its statistics: on pictures as they are, the copy starts as the original.
"""

import argparse
import copy
import math
import os
import time
from pathlib import Path

import numpy as np
import openvino as ov
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tools.pretrain import weights
from tools.pretrain.corpus import Crops, pack
from tools.pretrain.spoils import spoil
from tools.pretrain.teachers import normalised

SPOILED = 0.65  # of all crops


class Teacher:
    """What the weights given see: (N, 3, H, W) normalised RGB -> (N, width)."""

    def __init__(self, network: nn.Module, size: int) -> None:
        core = ov.Core()
        core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False})
        converted = ov.convert_model(network, example_input=torch.zeros(2, 3, size, size))
        self._engine = core.compile_model(converted, "CPU")

    def __call__(self, pictures: Tensor) -> Tensor:
        return torch.from_numpy(self._engine(pictures.numpy())[0])


class Steadying:
    """One process of a run."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        torch.set_num_threads(1)
        if self.rank == 0:
            pack(args.data, args.work)
        if self.world > 1:
            dist.init_process_group("gloo")
            dist.barrier()
        share = {"rank": self.rank, "world": self.world, "collages": args.collages}
        self.crops = Crops(args.work, batch=args.batch, size=args.size, seed=args.seed, **share)
        self.rng = np.random.default_rng((args.seed, self.rank))
        self.network, network = weights.read(args.weights)
        self.student = copy.deepcopy(network).to(memory_format=torch.channels_last)
        self.model = DistributedDataParallel(self.student) if self.world > 1 else self.student
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=args.rate, weight_decay=0.02, fused=True)
        self.average = {name: value.clone() for name, value in self.student.state_dict().items()}
        self.teacher = Teacher(network, args.size)
        self.spread: Tensor | None = None
        self.step = 0

    def learn(self, progress: float) -> float:
        """One step; gives its loss: squared error in units of the teacher's variance, so 1 is knowing only its mean."""
        rate = self.args.rate * max(0.01, 0.5 * (1 + math.cos(math.pi * progress))) * min(1.0, (self.step + 1) / 100)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        crops, _ = self.crops.next()
        wanted = self.teacher(normalised(crops))
        if self.spread is None:
            self.spread = wanted.var(0) + 0.1 * wanted.var(0).mean()
            if self.world > 1:
                dist.broadcast(self.spread, 0)
        views = normalised(spoil(crops, self.rng, SPOILED)).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.args.bf16):
            seen = self.model(views)
        loss = ((seen.float() - wanted) ** 2 / self.spread).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(0.998, self.step / (self.step + 10))
        for name, value in self.student.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - keep)
        return loss.item()

    def save(self) -> None:
        crops = self.step * self.args.batch * self.world
        weights.write(self.average, self.args.out, network=self.network, crops=crops)


def main() -> None:
    run = Steadying(_arguments())
    begun = saved = time.monotonic()
    progress = torch.zeros(())
    while progress < 1:
        loss = run.learn(float(progress))
        progress.fill_((time.monotonic() - begun) / (60 * run.args.minutes))
        if run.world > 1:
            dist.broadcast(progress, 0)
        if run.rank == 0 and run.step % 50 == 0:
            minutes = (time.monotonic() - begun) / 60
            seen = run.step * run.args.batch * run.world
            print(f"{minutes:5.1f} min  {seen} crops, {seen / minutes / 60:.0f} a second  {loss:.4f}", flush=True)
        if run.rank == 0 and time.monotonic() - saved > 120:
            run.save()
            saved = time.monotonic()
    if run.rank == 0:
        run.save()
    if run.world > 1:
        dist.destroy_process_group()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpus zips")
    parser.add_argument("--work", type=Path, required=True, help="packed pictures go here")
    parser.add_argument("--weights", type=Path, default=Path("tl_core/models/weights/embedded.safetensors"))
    parser.add_argument("--out", type=Path, required=True, help="file of the new weights")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=64, help="crops a step and process")
    parser.add_argument("--bf16", action="store_true", help="for chips with AMX or AVX-512 for bf16")
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--collages", type=float, default=0.25, help="share of crops that show four pictures")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
