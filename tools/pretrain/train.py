"""Train the embedded backbone by distilling ImageNet teachers over the corpora.

    torchrun --nproc-per-node 2 -m tools.pretrain.train --data ../shared/data --work /tmp/pretrain --minutes 60

Every loss has a linear layer of its own on the student's pooled features (or its stride-16 map), so what a
linear classifier can read from a teacher, it can read from the student. The schedule follows the clock, the state
is saved every minute, and the same command continues an interrupted run.
"""

import argparse
import os
import time
from pathlib import Path

import timm
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tools.pretrain.corpus import Crops, pack
from tools.pretrain.teachers import MEAN, STD, Targets, Teaching


class Student(nn.Module):
    """A timm backbone with one linear head a target; `forward` gives the losses, so DDP sees one call."""

    def __init__(self, architecture: str, classes: int) -> None:
        super().__init__()
        self.backbone = timm.create_model(architecture, pretrained=False, num_classes=0)
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


# Student's pixels by the share of time gone: small pictures teach most a second, the last ones are what users get.
SIZES = ((0.2, 64), (0.5, 96), (1.0, 128))
WEIGHTS = {"squeeze": 4.0, "mobile": 4.0, "squeeze_map": 2.0, "imagenet": 0.5, "labels": 0.3}


def _norm(width: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(width, affine=False, momentum=0.02)


def _distance(guess: Tensor, target: Tensor) -> Tensor:
    return F.smooth_l1_loss(guess, target.clamp(-6, 6))


def main() -> None:
    args = _arguments()
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    if rank == 0:
        pack(args.data, args.work)
    if world > 1:
        dist.init_process_group("gloo" if device.type == "cpu" else "nccl")
        dist.barrier()
    crops = Crops(args.work, batch=args.batch, size=args.teacher_size, seed=args.seed, rank=rank, world=world)
    student = Student(args.architecture, len(crops.classes)).to(device, memory_format=torch.channels_last)
    model = DistributedDataParallel(student) if world > 1 else student
    decay = [p for p in student.parameters() if p.ndim > 1]
    rest = [p for p in student.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.02}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.98))
    average = {k: v.clone() for k, v in student.backbone.state_dict().items()}
    state_file = args.work / f"{args.name}.state.pt"
    step, spent, seen = 0, 0.0, 0
    if state_file.exists():
        state = torch.load(state_file, map_location=device, weights_only=True)
        student.load_state_dict(state["student"])
        optimizer.load_state_dict(state["optimizer"])
        average, step, spent, seen = state["average"], state["step"], state["spent"], state["seen"]
        crops.epoch = seen // len(crops.index)
    teaching = Teaching(args.weights or args.data / "weights", size=args.teacher_size, device=device)
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD))
    total, saved = args.minutes * 60, time.monotonic()
    print(f"{len(crops.index)} pictures, {len(crops.classes)} classes, {device}", flush=True)
    while spent < total:
        started = time.monotonic()
        progress = torch.tensor(spent / total)
        if world > 1:  # every process must take the same rate and size
            dist.broadcast(progress, 0)
        done = float(progress)
        if done >= 1:
            break
        size = next(size for until, size in SIZES if done < until)
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / 300)
            group["lr"] = args.rate * warm * max(0.005, 0.5 * (1 + torch.cos(progress * torch.pi).item()))
        raw, labels = crops.next()
        pictures = (raw.to(device, torch.float32) / 255 - mean) / std
        targets = teaching(pictures)
        small = (
            pictures if size == args.teacher_size else F.interpolate(pictures, size, mode="bilinear", antialias=True)
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=args.bf16):
            losses = model(small.contiguous(memory_format=torch.channels_last), labels.to(device), targets)
        loss = sum(WEIGHTS[name] * value for name, value in losses.items())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
        step, seen = step + 1, seen + args.batch * world
        keep = min(0.999, step / (step + 10))
        for key, value in student.backbone.state_dict().items():
            average[key].lerp_(value, 1 - keep) if value.is_floating_point() else average[key].copy_(value)
        spent += time.monotonic() - started
        if step % 50 == 0 and rank == 0:
            shown = " ".join(f"{name} {value.item():.3f}" for name, value in losses.items())
            print(f"{spent / 60:5.1f} min  step {step}  {seen / spent:.0f} img/s  {shown}", flush=True)
        if rank == 0 and time.monotonic() - saved > 60:
            _save(args, student, optimizer, average, step, spent, seen)
            saved = time.monotonic()
    if rank == 0:
        _save(args, student, optimizer, average, step, spent, seen)
        print(f"done: {seen} crops in {spent / 60:.1f} minutes", flush=True)
    if world > 1:
        dist.destroy_process_group()


def _save(args, student, optimizer, average, step, spent, seen) -> None:  # type: ignore[no-untyped-def]
    state = {"student": student.state_dict(), "optimizer": optimizer.state_dict(), "average": average}
    state |= {"step": step, "spent": spent, "seen": seen}
    file = args.work / f"{args.name}.state.pt"
    torch.save(state, file.with_suffix(".tmp"))
    file.with_suffix(".tmp").replace(file)
    half = {k: (v.half() if v.is_floating_point() else v).contiguous().cpu() for k, v in average.items()}
    metadata = {"format": "pt", "architecture": args.architecture, "crops": str(seen)}
    save_file(half, args.work / f"{args.name}.safetensors", metadata=metadata)


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
    parser.add_argument("--teacher-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
