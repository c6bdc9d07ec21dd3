"""Teach a backbone to see in spoiled pictures what it sees in them as they are.

    torchrun --nproc-per-node 2 -m tools.pretrain.steady --data ../shared/data --work /tmp/pretrain --minutes 60

The weights given look at a crop as it is; a copy of them looks at the same crop without colour, in other colours,
blurred, small, or turned, and learns to give the same features (invariance by consistency, as in
https://arxiv.org/abs/1904.12848, with the teacher held still so that nothing known is lost). About a third of the
crops are left as they are. Batch norm keeps its statistics: on pictures as they are, the copy starts as the original.

With --stem-width the copy has a narrower stem, and learns what the first block gives as well; with several --sizes it
sees crops of each by turns, while the original sees them at --size.
"""

import argparse
import copy
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino as ov
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tools.pretrain import weights
from tools.pretrain.corpus import Crops, pack
from tools.pretrain.narrow import FRESH, narrowed
from tools.pretrain.spoils import spoil
from tools.pretrain.teachers import MEAN, STD

SPOILED = 0.65  # of all crops


class Seeing(nn.Module):
    """(N, 3, H, W) normalised RGB -> (N, width) features, and (N, C, H / 4, W / 4) of the first block."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        final, (early,) = self.backbone.forward_intermediates(pictures, indices=[1])
        return self.backbone.forward_head(final), early


class Teacher:
    """What the weights given see: as `Seeing`, in OpenVINO."""

    def __init__(self, network: nn.Module, size: int) -> None:
        core = ov.Core()
        core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False})
        converted = ov.convert_model(Seeing(network), example_input=torch.zeros(2, 3, size, size))
        self._engine = core.compile_model(converted, "CPU")

    def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        seen = self._engine(pictures.numpy())
        return torch.from_numpy(seen[0]), torch.from_numpy(seen[1])


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
        self.network, original = weights.read(args.weights)
        student = copy.deepcopy(original)
        if args.stem_width:
            self.network, student = narrowed(original, self.network, args.stem_width)
        self.student = Seeing(student).to(memory_format=torch.channels_last)
        self.model = DistributedDataParallel(self.student) if self.world > 1 else self.student
        self.optimizer = torch.optim.AdamW(list(self._groups()), lr=args.rate, weight_decay=0.02, fused=True)
        self.average = {name: value.clone() for name, value in student.state_dict().items()}
        self.teacher = Teacher(original, args.size)
        self.mean, self.std = (torch.tensor(value).view(1, 3, 1, 1) for value in (MEAN, STD))
        self.spread: tuple[Tensor, Tensor] | None = None
        self.step = 0

    def _groups(self) -> Iterator[dict[str, object]]:
        """What AdamW shall do with what: what is there waits for what is new before it."""
        named = list(self.student.backbone.named_parameters())
        fresh = [p for name, p in named if self.args.stem_width and name.startswith(FRESH)]
        yield {"params": fresh, "warm_up": 50, "times": 3.0}
        known = [p for _, p in named if not any(p is other for other in fresh)]
        yield {"params": known, "warm_up": 600 if fresh else 100, "times": 1.0}

    def _normalised(self, crops: Tensor) -> Tensor:
        return (crops.float() / 255 - self.mean) / self.std

    def learn(self, progress: float) -> float:
        """One step; gives its loss: squared error in units of the teacher's variance, so 1 is knowing only its mean."""
        rate = self.args.rate * max(0.01, 0.5 * (1 + math.cos(math.pi * progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["times"] * min(1.0, (self.step + 1) / group["warm_up"])
        crops, _ = self.crops.next()
        wanted, early = self.teacher(self._normalised(crops))
        if self.spread is None:
            self.spread = wanted.var(0) + 0.1 * wanted.var(0).mean(), early.var((0, 2, 3)).mean()
            for spread in self.spread if self.world > 1 else ():
                dist.broadcast(spread, 0)
        views = self._normalised(spoil(crops, self.rng, SPOILED))
        size = self.args.sizes[self.step % len(self.args.sizes)]
        if size != self.args.size:
            views = F.interpolate(views, size, mode="bilinear", antialias=True)
        views = views.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.args.bf16):
            seen, begun = self.model(views)
        told = loss = ((seen.float() - wanted) ** 2 / self.spread[0]).mean()
        if self.args.stem_width:
            early = F.interpolate(early, begun.shape[-2:], mode="bilinear", antialias=True)
            loss = loss + ((begun.float() - early) ** 2).mean() / self.spread[1]
        else:
            loss = loss + 0.0 * begun.sum()  # DDP wants to see all that the network gives
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(0.998, self.step / (self.step + 10))
        for name, value in self.student.backbone.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - keep)
        return told.item()

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
    parser.add_argument("--size", type=int, default=128, help="pixels that the original sees")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128], help="pixels that the copy sees, by turns")
    parser.add_argument("--stem-width", type=int, default=0, help="of the copy; 0: as it is")
    parser.add_argument("--collages", type=float, default=0.25, help="share of crops that show four pictures")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
