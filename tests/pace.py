"""Waiting, and limits of seconds that mean the same on a slow or busy machine."""

import time
from collections.abc import Callable

_QUICK = 0.014  # seconds of `_chores` on a quiet machine with the processors of 2024


def _chores() -> float:
    started = time.perf_counter()
    names = {f"{number}/a_{number % 7}": number for number in range(60_000)}
    assert sum(len(name.split("/")) for name in names) == 120_000
    return time.perf_counter() - started


def in_time(taken: float, seconds: float) -> bool:
    """Whether `taken` is below `seconds`, or below as many as this machine just now takes for the same work."""
    return taken < seconds or taken < seconds * max(_chores() for _ in range(5)) / _QUICK


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something that another thread or process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
