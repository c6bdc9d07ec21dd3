"""Whole pieces of work on cores of their own, each with one thread of torch.

torch's own threads work on one operation together and wait for each other at its end; beside any other busy process
that is several times slower than whole batches on one thread each, and alone no faster (bench/RESULTS.md).
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(work: Callable[[Item], Result], items: Sequence[Item], *, workers: int) -> Iterator[Result]:
    """`work` of every item, in order, `workers` at a time on a thread of torch each; a few items ahead at most."""
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        ahead = deque(pool.submit(work, item) for item in items[: workers + 1])
        following = iter(items[workers + 1 :])
        try:
            while ahead:
                result = ahead.popleft().result()
                if (item := next(following, None)) is not None:
                    ahead.append(pool.submit(work, item))
                yield result
        finally:
            for future in ahead:
                future.cancel()


class Workers:
    """One thread a core on a processor, kept between calls; the calling thread alone on a GPU. `share`: how many
    processes divide the cores."""

    def __init__(self, device: str, share: int = 1) -> None:
        self.count = max(1, cores() // share) if device == "cpu" else 1
        self._pool = ThreadPoolExecutor(self.count, initializer=torch.set_num_threads, initargs=(1,))

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """`work` of every item, in order."""
        return map(work, items) if self.count == 1 else self._pool.map(work, items)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch's own threads off in here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
