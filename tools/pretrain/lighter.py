"""Teach a network cut from the embedded one what `remembered.py` kept.

    torchrun --nproc-per-node 2 -m tools.pretrain.lighter --work /tmp/pretrain --bf16 --minutes 80 --out l.safetensors

Every target has a linear layer of its own on the student's pooled features; that of the network it was cut from begins
as the identity. The same command goes on with an interrupted run.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tools.pretrain import weights
from tools.pretrain.clock import Clocked
from tools.pretrain.prune import pruned
from tools.pretrain.remembered import COLUMNS, Versions, opened
from tools.pretrain.spoils import spoil
from tools.pretrain.teachers import normalised

# What is cut from `resnet10t`: half of the multiply-adds, and one more block where they are cheapest.
ARGUMENTS = {"stem_width": 16, "block_reduce_first": 2, "layers": [1, 1, 2, 1], "channels": [48, 128, 256, 512]}
WEIGHTS = {"squeeze": 3.0, "mobile": 5.0, "embedded": 6.0, "imagenet": 0.3, "labels": 0.3}
SIZES = ((96, 0.45), (128, 1.0))  # the student's pixels until that share of the time is gone
_STANDARDISED_BY = 8192  # rows


class Student(nn.Module):
    """A backbone with one linear layer a target; `forward` gives the losses, so DDP sees one call."""

    def __init__(self, backbone: nn.Module, classes: int, sample: Tensor) -> None:
        super().__init__()
        self.backbone = backbone
        width = backbone.num_features
        self.heads = nn.ModuleDict({name: nn.Linear(width, wide) for name, wide in COLUMNS.items()})
        self.heads["labels"] = nn.Linear(width, classes)
        nn.init.eye_(self.heads["embedded"].weight)
        nn.init.zeros_(self.heads["embedded"].bias)
        for name, columns in zip(COLUMNS, sample.split(list(COLUMNS.values()), 1), strict=True):
            deviation = columns.std(0)
            self.register_buffer(f"{name}_mean", columns.mean(0))
            self.register_buffer(f"{name}_scale", 1 / (deviation + 0.1 * deviation.mean()))

    def forward(self, pictures: Tensor, labels: Tensor, remembered: Tensor) -> dict[str, Tensor]:
        pooled = self.backbone(pictures)
        with torch.autocast(pictures.device.type, enabled=False):
            guesses = {name: head(pooled.float()) for name, head in self.heads.items()}
            targets = dict(zip(COLUMNS, remembered.split(list(COLUMNS.values()), 1), strict=True))
            losses = {
                "imagenet": F.kl_div(
                    F.log_softmax(guesses["imagenet"], 1), F.softmax(targets["imagenet"], 1), reduction="batchmean"
                ),
                "labels": F.cross_entropy(guesses["labels"], labels, label_smoothing=0.05),
            }
            for name in ("squeeze", "mobile", "embedded"):
                mean, scale = getattr(self, f"{name}_mean"), getattr(self, f"{name}_scale")
                guess, target = guesses[name], (targets[name] - mean) * scale
                guess = (guess - mean) * scale if name == "embedded" else guess
                losses[name] = F.smooth_l1_loss(guess, target.clamp(-6, 6))
            return losses


class Training(Clocked):
    """One process of a run."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args, args.out)
        self.crops = Versions(args.work, seed=0, collages=args.collages)
        rows = (args.work / "remembered.f16").stat().st_size // (2 * sum(COLUMNS.values()))
        self.remembered = opened(args.work, rows)
        sample = torch.from_numpy(self.remembered[:: -(-rows // _STANDARDISED_BY)].astype(np.float32))
        network, wide = weights.read(args.begin_with)
        self.network, backbone = pruned(wide, network, args.arguments)
        self.student = Student(backbone, len(self.crops.classes), sample)
        self.student.to(self.device, memory_format=torch.channels_last)
        self.model = DistributedDataParallel(self.student) if self.world > 1 else self.student
        everything = list(self.student.parameters())
        groups = [
            {"params": [p for p in everything if p.ndim > 1], "weight_decay": 0.02},
            {"params": [p for p in everything if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.98), fused=True)
        self.begin()
        self.rng = np.random.default_rng((args.seed, self.rank, self.step))
        self.left = np.empty(0, np.int64)

    def _numbers(self) -> np.ndarray:
        """Of the crops to learn from next. Each process goes through all of them, in an order of its own."""
        if len(self.left) < self.args.batch:
            self.left = self.rng.permutation(len(self.remembered))
        take, self.left = self.left[: self.args.batch], self.left[self.args.batch :]
        return take

    def learn(self, progress: float) -> dict[str, Tensor]:
        """One step; gives its losses."""
        size = next(size for size, until in SIZES if progress < until)
        cosine = max(0.005, 0.5 * (1 + math.cos(math.pi * progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.args.rate * cosine * min(1.0, (self.step + 1) / 500)
        numbers = self._numbers()
        raw, labels = self.crops.make(numbers, size)
        targets = torch.from_numpy(self.remembered[numbers].astype(np.float32))
        pictures = normalised(spoil(raw, self.rng, self.args.spoiled).to(self.device))
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.args.bf16):
            losses: dict[str, Tensor] = self.model(pictures, labels.to(self.device), targets.to(self.device))
        self.descend(losses, WEIGHTS)
        return losses


def main() -> None:
    Training(_arguments()).go()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where remembered.py left what it kept")
    parser.add_argument("--begin-with", type=Path, default=Path("tl_core/models/weights/embedded.safetensors"))
    parser.add_argument("--arguments", type=json.loads, default=ARGUMENTS, help="what timm is to make, as JSON")
    parser.add_argument("--out", type=Path, required=True, help="file of the new weights; its state beside it")
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--batch", type=int, default=64, help="crops a step and process")
    parser.add_argument("--bf16", action="store_true", help="for chips with AMX or AVX-512 for bf16")
    parser.add_argument("--rate", type=float, default=1.2e-3)
    parser.add_argument("--collages", type=float, default=0.1, help="as remembered.py had it")
    parser.add_argument("--spoiled", type=float, default=0.4, help="share of crops the student sees spoiled")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
