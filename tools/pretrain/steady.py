"""Teach a backbone to see in spoiled pictures what it sees in them as they are.

    torchrun --nproc-per-node 2 -m tools.pretrain.steady --data ../shared/data --work /tmp/pretrain --minutes 60

The weights given look at a crop as it is; a copy of them looks at the same crop without colour, in other colours,
blurred, small, or turned, and learns to give the same features (invariance by consistency, as in
https://arxiv.org/abs/1904.12848, with the teacher held still so that nothing known is lost). About a third of the
crops are left as they are. Batch norm keeps its statistics: on pictures as they are, the copy starts as the original.
"""

import argparse
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import timm
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.transforms.v2 import functional as transforms

from tools.pretrain.corpus import Crops, pack
from tools.pretrain.teachers import MEAN, STD

ARCHITECTURE = "resnet10t"
_FILL = [124.0, 116.0, 104.0]  # where a turned picture leaves nothing: the mean of ImageNet


def _grey(crop: Tensor, _: np.random.Generator) -> Tensor:
    return transforms.rgb_to_grayscale(crop, num_output_channels=3)


def _recoloured(crop: Tensor, rng: np.random.Generator) -> Tensor:
    crop = transforms.adjust_hue(crop, rng.uniform(-0.1, 0.1))
    crop = transforms.adjust_saturation(crop, rng.uniform(0.2, 1.6))
    crop = transforms.adjust_contrast(crop, rng.uniform(0.6, 1.4))
    return transforms.adjust_brightness(crop, rng.uniform(0.6, 1.4))


def _blurred(crop: Tensor, rng: np.random.Generator) -> Tensor:
    return transforms.gaussian_blur(crop, [13, 13], [rng.uniform(0.5, 3.0)] * 2)


def _small(crop: Tensor, rng: np.random.Generator) -> Tensor:
    return transforms.resize(transforms.resize(crop, [int(rng.integers(24, 80))] * 2), list(crop.shape[-2:]))


def _turned(crop: Tensor, rng: np.random.Generator) -> Tensor:
    return transforms.rotate(crop, rng.uniform(-45, 45), transforms.InterpolationMode.BILINEAR, fill=_FILL)


# How often each happens to a crop that is spoiled; several can.
SPOILS: dict[Callable[[Tensor, np.random.Generator], Tensor], float] = {
    _grey: 0.35,
    _recoloured: 0.25,
    _blurred: 0.2,
    _small: 0.2,
    _turned: 0.35,
}
SPOILED = 0.65  # of all crops


def spoil(crops: Tensor, rng: np.random.Generator) -> Tensor:
    """(N, 3, H, W) uint8 -> the same, most of them spoiled."""
    views = crops.clone()
    for view in views:
        if rng.random() < SPOILED:
            for change, share in SPOILS.items():
                if rng.random() < share:
                    view.copy_(change(view, rng))
    return views


def _network(weights: Path) -> nn.Module:
    network = timm.create_model(ARCHITECTURE, pretrained=False, num_classes=0)
    network.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    return network.eval()


class Teacher:
    """What the weights given see: (N, 3, H, W) normalised RGB -> (N, width)."""

    def __init__(self, weights: Path, size: int) -> None:
        core = ov.Core()
        core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False})
        converted = ov.convert_model(_network(weights), example_input=torch.zeros(2, 3, size, size))
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
        self.student = _network(args.weights).to(memory_format=torch.channels_last)
        self.model = DistributedDataParallel(self.student) if self.world > 1 else self.student
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=args.rate, weight_decay=0.02, fused=True)
        self.average = {name: value.clone() for name, value in self.student.state_dict().items()}
        self.teacher = Teacher(args.weights, args.size)
        self.mean, self.std = (torch.tensor(value).view(1, 3, 1, 1) for value in (MEAN, STD))
        self.spread: Tensor | None = None
        self.step = 0

    def _normalised(self, crops: Tensor) -> Tensor:
        return (crops.float() / 255 - self.mean) / self.std

    def learn(self, progress: float) -> float:
        """One step; gives its loss: squared error in units of the teacher's variance, so 1 is knowing only its mean."""
        rate = self.args.rate * max(0.01, 0.5 * (1 + math.cos(math.pi * progress))) * min(1.0, (self.step + 1) / 100)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        crops, _ = self.crops.next()
        wanted = self.teacher(self._normalised(crops))
        if self.spread is None:
            self.spread = wanted.var(0) + 0.1 * wanted.var(0).mean()
            if self.world > 1:
                dist.broadcast(self.spread, 0)
        views = self._normalised(spoil(crops, self.rng)).contiguous(memory_format=torch.channels_last)
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
        half = {name: value.half() if value.is_floating_point() else value for name, value in self.average.items()}
        metadata = {
            "format": "pt",
            "architecture": ARCHITECTURE,
            "crops": str(self.step * self.args.batch * self.world),
        }
        save_file({name: value.contiguous() for name, value in half.items()}, self.args.out, metadata=metadata)


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
