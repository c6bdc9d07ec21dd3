"""Several processes that train one model together, started by `torchrun` or `accelerate launch`.

Each works on its share of every batch and the gradients are summed: the same result as one process with the same
batch, to rounding. The first process alone decides, writes and reports. On GPUs through NCCL, on processors through
gloo (https://docs.pytorch.org/docs/stable/distributed.html).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

Value = TypeVar("Value")
# The others wait while the first process reads the pictures and looks at them once.
_PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class World:
    """This process's place: number `rank` of `size`, `local_size` of them on this machine."""

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of `range(count)`."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Add up `tensors` over all processes, in place and as one message. All must give the same shapes."""
        if self.size == 1:
            return
        flat = torch.cat([t.reshape(-1).float() for t in tensors])
        dist.all_reduce(flat)
        at = 0
        for tensor in tensors:
            tensor.copy_(flat[at : at + tensor.numel()].view_as(tensor))
            at += tensor.numel()

    def agree(self, *wishes: bool) -> tuple[bool, ...]:
        """The first process's `wishes`, for all."""
        if self.size == 1:
            return wishes
        told = torch.tensor(wishes, dtype=torch.int64, device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.broadcast(told, src=0)
        return tuple(bool(wish) for wish in told.tolist())

    def tell(self, value: Value | None) -> Value:
        """The first process's `value`, for all; what the others give does not matter."""
        if self.size > 1:
            box = [value]
            dist.broadcast_object_list(box, src=0)
            value = box[0]
        return cast(Value, value)


def join(device: str) -> World:
    """Join the processes the launcher started with this one (it says so in the environment); alone without one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_PATIENCE)
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return World(dist.get_rank(), size, int(os.environ.get("LOCAL_WORLD_SIZE", size)))


def leave() -> None:
    """End the joint work."""
    if dist.is_initialized():
        dist.destroy_process_group()
