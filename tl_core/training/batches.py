"""A batch as several small ones whose gradients are added up: on several cores, in less memory, or by several
processes, always the same sum to rounding."""

import gc
from collections.abc import Sequence

import torch
from torch import Tensor


def pieces(count: int, size: int) -> list[slice]:
    """`range(count)` cut into slices of at most `size`, as equal as can be."""
    parts = -(-count // size)
    edges = [round(at * count / parts) for at in range(parts + 1)]
    return [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]


def add(total: list[Tensor] | None, more: Sequence[Tensor]) -> list[Tensor]:
    """`total` plus `more`, in place; `more` itself to begin with."""
    if total is None:
        return list(more)
    torch._foreach_add_(total, list(more))
    return total


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on a GPU or a processor."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in text or "not enough memory" in text)


def free_memory() -> None:
    """Give back what a failed attempt left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
