"""One row a picture, filled in a fixed order and kept on disk: features, feature maps, frames for training.

A memory-mapped .npy under another name until it is complete; how many rows are done is beside it, so that whoever
comes next (another slice, another process after a kill) goes on where the last one was.
"""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tl_core import disk

_RESERVE = 50_000_000  # bytes that stay free


class Rows:
    """A row of one shape and type for each of `pictures` (rows of the store), under `folder`, found again by `key`
    (anything JSON can say)."""

    def __init__(self, folder: Path, kind: str, key: object, pictures: Sequence[int]) -> None:
        digest = hashlib.blake2b(json.dumps([key, _digest(pictures)]).encode(), digest_size=8).hexdigest()
        self._file = folder / f"{kind}-{digest}.npy"
        self._partial = folder / f"{kind}-{digest}.partial"
        self._done_file = folder / f"{kind}-{digest}.done"
        self._count = len(pictures)

    def complete(self) -> npt.NDArray[Any] | None:
        """All rows, in the order of the set, memory-mapped read-only; None while any is missing."""
        return self._open(self._file)

    def begun(self, order: Sequence[int]) -> tuple[npt.NDArray[Any] | None, int]:
        """The rows so far and how many are done, `order` saying which; (None, 0) to begin with."""
        try:
            record = json.loads(self._done_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None, 0
        rows = self._open(self._partial, mode="r+")
        if rows is None or record.get("order") != _digest(order):
            return None, 0
        return rows, min(int(record["done"]), self._count)

    def begin(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Room for all rows of `shape` and `dtype`, none of them done. Raises DiskFullError where there is none: a
        full disk under a memory map would kill the process."""
        self._done_file.unlink(missing_ok=True)
        self._partial.unlink(missing_ok=True)
        disk.need(self._partial.parent, self._count * math.prod(shape) * np.dtype(dtype).itemsize + _RESERVE)
        rows: npt.NDArray[Any] = np.lib.format.open_memmap(
            self._partial, mode="w+", dtype=dtype, shape=(self._count, *shape)
        )
        if hasattr(os, "posix_fallocate"):  # others may fill the disk meanwhile
            with self._partial.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, self._partial.stat().st_size)
        return rows

    def save_progress(self, rows: npt.NDArray[Any], done: int, order: Sequence[int]) -> None:
        """Say that the first `done` pictures of `order` are in `rows`, durably."""
        assert isinstance(rows, np.memmap)
        rows.flush()
        temporary = self._done_file.with_suffix(f".tmp{os.getpid()}")
        temporary.write_text(json.dumps({"done": done, "order": _digest(order)}), encoding="utf-8")
        temporary.replace(self._done_file)

    def finish(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """All rows are there: they appear under their final name."""
        assert isinstance(rows, np.memmap)
        rows.flush()
        self._partial.replace(self._file)
        self._done_file.unlink(missing_ok=True)
        found = self.complete()
        assert found is not None
        return found

    def _open(self, file: Path, mode: Any = "r") -> npt.NDArray[Any] | None:
        try:
            rows: npt.NDArray[Any] = np.load(file, mmap_mode=mode, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return rows if len(rows) == self._count else None


def _digest(order: Sequence[int]) -> str:
    return hashlib.blake2b(np.asarray(order, dtype=np.int64).tobytes(), digest_size=8).hexdigest()
