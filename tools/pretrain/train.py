"""Train the embedded backbone by distilling ImageNet teachers over the corpora.

    torchrun --nproc-per-node 2 -m tools.pretrain.train --data ../shared/data --work /tmp/pretrain --minutes 60

Every loss has a linear layer of its own on the student's pooled features (or its stride-16 map), so what a
linear classifier can read from a teacher, it can read from the student. The same command goes on with an interrupted
run.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tools.pretrain import weights
from tools.pretrain.clock import Clocked
from tools.pretrain.corpus import Crops, pack
from tools.pretrain.spoils import spoil
from tools.pretrain.teachers import Targets, Teaching, normalised
from tools.pretrain.weights import Network


class Student(nn.Module):
    """A timm backbone with one linear head a target; `forward` gives the losses, so DDP sees one call."""

    def __init__(self, network: Network, classes: int) -> None:
        super().__init__()
        self.backbone = network.create()
        width = self.backbone.head_hidden_size
        stride16 = next(info["num_chs"] for info in self.backbone.feature_info if info["reduction"] == 16)
        self.labels = nn.Linear(width, classes)
        self.imagenet = nn.Linear(width, 1000)
        self.squeeze = nn.Linear(width, 512)
        self.mobile = nn.Linear(width, 1280)
        self.squeeze_map = nn.Conv2d(stride16, 512, 1)
        # Standardise the teachers' features by running statistics: without it a few large channels are the whole loss.
        self.norms = nn.ModuleDict({"squeeze": _norm(512), "mobile": _norm(1280), "squeeze_map": _norm(512)})

    def forward(self, pictures: Tensor, labels: Tensor, targets: Targets) -> dict[str, Tensor]:
        final, maps = self.backbone.forward_intermediates(pictures)
        half = next(m for m in maps if m.shape[-1] == pictures.shape[-1] // 16)
        pooled = self.backbone.forward_head(final)
        guess = F.adaptive_avg_pool2d(self.squeeze_map(half), targets.squeeze_map.shape[-2:])
        with torch.no_grad(), torch.autocast(pictures.device.type, enabled=False):
            squeeze = self.norms["squeeze"](targets.squeeze)
            mobile = self.norms["mobile"](targets.mobile)
            spatial = targets.squeeze_map.permute(0, 2, 3, 1).reshape(-1, 512)
            spatial = self.norms["squeeze_map"](spatial)
        guess = guess.permute(0, 2, 3, 1).reshape(-1, 512)
        with torch.autocast(pictures.device.type, enabled=False):
            return {
                "squeeze": _distance(self.squeeze(pooled.float()), squeeze),
                "mobile": _distance(self.mobile(pooled.float()), mobile),
                "squeeze_map": _distance(guess.float(), spatial),
                "imagenet": F.kl_div(
                    F.log_softmax(self.imagenet(pooled.float()), 1), F.softmax(targets.logits, 1), reduction="batchmean"
                ),
                "labels": F.cross_entropy(self.labels(pooled.float()), labels, label_smoothing=0.05),
            }


# Student's pixels until that share of the time is gone: small pictures teach most a second, the last ones are what
# users get.
SIZES = ((64, 0.2), (96, 0.5), (128, 1.0))
WEIGHTS = {"squeeze": 4.0, "mobile": 4.0, "squeeze_map": 2.0, "imagenet": 0.5, "labels": 0.3}


def _norm(width: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(width, affine=False, momentum=0.02)


def _distance(guess: Tensor, target: Tensor) -> Tensor:
    return F.smooth_l1_loss(guess, target.clamp(-6, 6))


class Training(Clocked):
    """One process of a training run: its share of the crops."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args, args.work / f"{args.name}.safetensors")
        if self.rank == 0:
            pack(args.data, args.work)
        if self.world > 1:
            dist.barrier()
        share = {"rank": self.rank, "world": self.world, "collages": args.collages}
        self.crops = Crops(args.work, batch=args.batch, size=args.teacher_size, seed=args.seed, **share)
        self.network = Network(args.architecture)
        self.student = Student(self.network, len(self.crops.classes))
        self.student.to(self.device, memory_format=torch.channels_last)
        self.model = DistributedDataParallel(self.student) if self.world > 1 else self.student
        if args.begin_with:
            self.student.backbone.load_state_dict(weights.read(args.begin_with)[1].state_dict())
        self.optimizer = torch.optim.AdamW(list(self._groups()), lr=args.rate, betas=(0.9, 0.98), fused=True)
        self.begin()
        self.crops.epoch += self.seen // len(self.crops.index)
        self.rng = np.random.default_rng((args.seed, self.rank, self.step))
        self.teaching = Teaching(args.weights or args.data / "weights", size=args.teacher_size, device=self.device)

    def _groups(self) -> Iterator[dict[str, object]]:
        """What AdamW shall do with what: a backbone that knows something already waits for its new heads."""
        for name, warm_up in (("backbone", 1500 if self.args.begin_with else 300), ("heads", 300)):
            own = [p for n, p in self.student.named_parameters() if n.startswith("backbone.") == (name == "backbone")]
            yield {"params": [p for p in own if p.ndim > 1], "weight_decay": 0.02, "warm_up": warm_up}
            yield {"params": [p for p in own if p.ndim <= 1], "weight_decay": 0.0, "warm_up": warm_up}

    def learn(self, progress: float) -> dict[str, Tensor]:
        """One step; gives its losses."""
        size = next(size for size, until in self.args.sizes if progress < until)
        cosine = max(0.005, 0.5 * (1 + math.cos(math.pi * progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.args.rate * cosine * min(1.0, (self.step + 1) / group["warm_up"])
        raw, labels = self.crops.next()
        pictures = normalised(raw.to(self.device))
        targets = self.teaching(pictures)
        if self.args.spoiled:
            pictures = normalised(spoil(raw, self.rng, self.args.spoiled).to(self.device))
        if size != self.args.teacher_size:
            pictures = F.interpolate(pictures, size, mode="bilinear", antialias=True)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.args.bf16):
            losses: dict[str, Tensor] = self.model(pictures, labels.to(self.device), targets)
        self.descend(losses, WEIGHTS)
        return losses


def main() -> None:
    run = Training(_arguments())
    print(f"{len(run.crops.index)} pictures, {len(run.crops.classes)} classes, {run.device}", flush=True)
    run.go()


def _size(text: str) -> tuple[int, float]:
    """The student's pixels until that share of the time is gone, in order."""
    pixels, until = text.split(":")
    return int(pixels), float(until)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpus zips")
    parser.add_argument("--weights", type=Path, help="folder of the teachers' weights (default: DATA/weights)")
    parser.add_argument("--work", type=Path, required=True, help="packed pictures, state and result go here")
    parser.add_argument("--name", default="backbone", help="name of the state and result files")
    parser.add_argument("--architecture", default="resnet10t", help="a timm architecture")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=64, help="crops a step and process")
    parser.add_argument(
        "--bf16", action="store_true", help="for chips with AMX or a GPU; slower for depthwise networks"
    )
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--sizes", type=_size, nargs="+", default=SIZES, metavar="PIXELS:SHARE", help=_size.__doc__)
    parser.add_argument("--collages", type=float, default=0.0, help="share of crops that show four pictures")
    parser.add_argument("--spoiled", type=float, default=0.0, help="share of crops the student sees spoiled")
    parser.add_argument("--begin-with", type=Path, help="weights to go on from, with new heads")
    parser.add_argument("--teacher-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
