"""A training that follows the clock: its share of the time gone sets rates and sizes, its state is saved every other
minute, and the same command goes on with what an interrupted one left. Its result is the average of the weights."""

import argparse
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from tools.pretrain import weights

_SAVED_EVERY = 120  # seconds
_AVERAGED_EVERY = 4  # steps; each time takes as long as a twentieth of a step
_KEPT = 0.999  # of the average, a step


class Clocked:
    """One process of a run. Whoever inherits sets `student`, whose `backbone` is a `network`, and `optimizer`, calls
    `begin`, and says in `learn` what one step is."""

    student: nn.Module
    network: weights.Network
    optimizer: Optimizer

    def __init__(self, args: argparse.Namespace, result: Path) -> None:
        self.args, self.result = args, result
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu":
            torch.set_num_threads(1)  # two processes of one thread use two cores better than one of two
        torch.manual_seed(args.seed)
        if self.world > 1:
            dist.init_process_group("gloo" if self.device.type == "cpu" else "nccl")
        self.step, self.spent, self.seen = 0, 0.0, 0
        self._state_file = result.with_suffix(".state.pt")

    def begin(self) -> None:
        """Start the average, or take everything from where an earlier process left it."""
        self.average = {k: v.clone() for k, v in self.backbone.state_dict().items()}
        if self._state_file.exists():
            state = torch.load(self._state_file, map_location=self.device, weights_only=True)
            self.student.load_state_dict(state["student"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average, self.step, self.spent, self.seen = (state[k] for k in ("average", "step", "spent", "seen"))

    @property
    def backbone(self) -> nn.Module:
        return self.student.get_submodule("backbone")

    def learn(self, progress: float) -> dict[str, Tensor]:
        """One step at that share of the time; gives its losses."""
        raise NotImplementedError

    def descend(self, losses: dict[str, Tensor], times: dict[str, float]) -> None:
        """The step itself, down the sum of so many `times` each loss; and the average, every few steps."""
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack([times[name] * loss for name, loss in losses.items()]).sum().backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
        self.optimizer.step()
        self.step, self.seen = self.step + 1, self.seen + self.args.batch * self.world
        if self.step % _AVERAGED_EVERY == 0:
            keep = min(_KEPT**_AVERAGED_EVERY, self.step / (self.step + 10))
            for key, value in self.backbone.state_dict().items():
                mean = self.average[key]
                mean.lerp_(value, 1 - keep) if value.is_floating_point() else mean.copy_(value)

    def go(self) -> None:
        """Learn until the time is gone."""
        saved = time.monotonic()
        while (progress := self._progress()) < 1:
            started = time.monotonic()
            losses = self.learn(progress)
            self.spent += time.monotonic() - started
            if self.rank == 0 and self.step % 50 == 0:
                shown = " ".join(f"{name} {value.item():.3f}" for name, value in losses.items())
                rate = self.seen / self.spent
                print(f"{self.spent / 60:5.1f} min  step {self.step}  {rate:.0f} a second  {shown}", flush=True)
            if self.rank == 0 and time.monotonic() - saved > _SAVED_EVERY:
                self.save()
                saved = time.monotonic()
        if self.rank == 0:
            self.save()
            print(f"done: {self.seen} crops in {self.spent / 60:.1f} minutes", flush=True)
        if self.world > 1:
            dist.destroy_process_group()

    def save(self) -> None:
        """The state to go on from, and the averaged backbone as fp16 safetensors."""
        state = {"student": self.student.state_dict(), "optimizer": self.optimizer.state_dict()}
        state |= {"average": self.average, "step": self.step, "spent": self.spent, "seen": self.seen}
        temporary = self._state_file.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self._state_file)
        weights.write(self.average, self.result, network=self.network, crops=self.seen)

    def _progress(self) -> float:
        """The share of the time gone, the same in every process, or their rates and sizes would part."""
        share = torch.tensor(self.spent / (self.args.minutes * 60))
        if self.world > 1:
            dist.broadcast(share, 0)
        return float(share)
