"""One pass of the pictures through the frozen backbone; the features are kept on disk, so the next run skips it."""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tl_core.data.imageset import ImageSet
from tl_core.data.pixels import PixelStore, Preprocessing

BATCH = 32


def extract(
    model: nn.Module, images: ImageSet, indices: Sequence[int], preprocessing: Preprocessing, *, device: str
) -> Iterator[npt.NDArray[np.float32]]:
    """Pooled features of the pictures at `indices`, in that order: (n, width) float32 for one batch after another.

    On a CPU every core works on batches of its own. One batch on all cores is no faster alone and, beside any other
    busy process, several times slower: its threads wait for each other (bench/RESULTS.md).
    """
    store = PixelStore(images)

    def one(start: int) -> npt.NDArray[np.float32]:
        batch = store.framed(indices[start : start + BATCH], preprocessing)
        with torch.inference_mode():
            features: npt.NDArray[np.float32] = model(preprocessing.normalise(batch.to(device))).float().cpu().numpy()
        return features

    yield from in_order(one, range(0, len(indices), BATCH), workers=cores() if device == "cpu" else 1)


def in_order(
    work: Callable[[int], npt.NDArray[np.float32]], items: Sequence[int], *, workers: int
) -> Iterator[npt.NDArray[np.float32]]:
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


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class FeatureCache:
    """Features of a whole set under one backbone and preprocessing: `features-<key>.npy` in the set's folder."""

    def __init__(self, images: ImageSet, backbone_id: str, model: nn.Module, preprocessing: Preprocessing) -> None:
        weights = hashlib.blake2b(digest_size=8)
        for value in model.state_dict().values():
            weights.update(value.detach().cpu().contiguous().view(-1)[:64].numpy().tobytes())
        key = json.dumps([backbone_id, weights.hexdigest(), asdict(preprocessing), len(images.pictures)])
        name = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
        self._file: Path = images.folder / f"features-{name}.npy"

    def load(self) -> npt.NDArray[np.float32] | None:
        """(N, width) in the order of the set's pictures, or None when there is nothing usable."""
        try:
            features: npt.NDArray[np.float32] = np.load(self._file, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return features

    def save(self, features: npt.NDArray[np.float32]) -> None:
        temporary = self._file.with_suffix(f".{os.getpid()}.tmp")
        with temporary.open("wb") as out:
            np.save(out, features)
        temporary.replace(self._file)


def interleaved(labels: Sequence[int], seed: int) -> list[int]:
    """Every index once, all labels in proportion from the start: whoever stops half-way has something of each."""
    rng = np.random.default_rng((seed, 1))  # a stream of its own: the split draws from (seed)
    keys = np.empty(len(labels))
    labels_array = np.asarray(labels)
    for label in np.unique(labels_array):
        members = rng.permutation(np.flatnonzero(labels_array == label))
        keys[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return [int(i) for i in np.argsort(keys, kind="stable")]
