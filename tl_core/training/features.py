"""One pass of the pictures through the frozen backbone; what it gives is kept on disk, so the next run skips it.

The pass can be left after any batch and gone on with by any process. Classes and both sides of the split are mixed
from the start, so stopping early leaves something of everything.
"""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from tl_core.data.imageset import ImageSet
from tl_core.data.pixels import PixelStore, Preprocessing
from tl_core.models.backbone import feature_map
from tl_core.training.batches import free_memory, out_of_memory
from tl_core.training.cores import cores, in_order
from tl_core.training.engine import CHECKED, Engine, EngineName, build, by_pytorch, choose, fingerprint
from tl_core.training.recipe import Precision
from tl_core.training.rows import Rows

Kind = Literal["features", "maps"]
BATCH = {"cpu": 16, "cuda": 128, "mps": 64}
_SAVE_SECONDS = 2.0
_SPEED_SAMPLE = 64  # pictures before a speed means anything


@dataclass(frozen=True)
class Seen:
    """What a pass brought: rows of a whole set, of which those of the pictures at `indices` are there. `reason` is why
    it ended; `speed` in pictures a second, None when nothing had to be done."""

    rows: npt.NDArray[Any]
    indices: list[int]
    reason: Literal["done", "stopped", "paused"]
    speed: float | None = None


@dataclass(frozen=True)
class Look:
    """`done` of `total` pictures have been looked at; the others will take `seconds_left`, None while unknown."""

    done: int
    total: int
    seconds_left: float | None


class _Mapped(nn.Module):
    """A backbone that gives its feature map as a sequence."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, x: Tensor) -> Tensor:
        return feature_map(self.trunk, x)


class FeaturePass:
    """All pictures of a set through `trunk`: pooled "features" (N, width) float32, or "maps" (N, T, C) float16."""

    def __init__(
        self, images: ImageSet, trunk: nn.Module, preprocessing: Preprocessing, *, kind: Kind, device: str, cache: Path
    ) -> None:
        self._images, self._preprocessing, self._device, self._cache = images, preprocessing, device, cache
        self._trunk = trunk
        self._kind: Kind = kind
        self._model = trunk if kind == "features" else _Mapped(trunk)
        self._store, self._dtype = PixelStore(images), np.float32 if kind == "features" else np.float16
        key = [fingerprint(trunk), asdict(preprocessing)]
        self._engine: Engine | None = None
        self._rows = Rows(images.folder, kind, key, images.rows)
        self._all = Rows(images.folder, kind, key, range(images.stored))

    def reframed(self, preprocessing: Preprocessing) -> "FeaturePass":
        """The same pass, by the same engine, of pictures framed as `preprocessing` does at this size."""
        images, kind = self._images, self._kind
        made = FeaturePass(images, self._trunk, preprocessing, kind=kind, device=self._device, cache=self._cache)
        made._engine = self._engine
        return made

    def choose_engine(self) -> EngineName:
        """The fastest engine for this pass, found by trying it on a few pictures spread over the set."""
        total = len(self._images.pictures)
        sample = np.unique(np.linspace(0, total - 1, min(CHECKED, total)).astype(int))
        batch = self._store.framed([int(i) for i in sample], self._preprocessing)
        self._engine = choose(
            self._model, self._preprocessing, batch, pictures=total, device=self._device, cache=self._cache
        )
        return self._engine.name

    def cached(self) -> Seen | None:
        """The pass when it is all on disk already, for these pictures or for all of the store."""
        rows = self._rows.complete()
        if rows is None and (everything := self._all.complete()) is not None:
            rows = everything[list(self._images.rows)]
        return None if rows is None else Seen(rows, list(range(len(rows))), "done")

    def begun(self, order: Sequence[int], most: int) -> Seen | None:
        """The first `most` pictures of a pass in `order`, when they are on disk already."""
        rows, done = self._rows.begun(order)
        return None if rows is None or done < most else Seen(rows, list(order[:done]), "done")

    def run(
        self,
        engine_name: EngineName,
        order: Sequence[int],
        *,
        should_stop: Callable[[], bool],
        should_pause: Callable[[], bool],
        most: int | None = None,
    ) -> Generator[Look, None, Seen]:
        """Look at the pictures in `order` from where the last pass was left, or at no more than the first `most` and
        what fills their last batch: a pass in parts has the batches of one in one go."""
        total, size, started, since = len(order), BATCH[self._device], 0.0, 0
        end = total if most is None else min(total, -(-most // size) * size)
        rows, done = self._rows.begun(order)
        engine = self._called(engine_name)
        saved, begun = time.monotonic(), done
        while done < end:
            try:
                for batch in self._ahead(engine, order[:end], done, size):
                    if rows is None:
                        rows = self._rows.begin(batch.shape[1:], self._dtype)
                    rows[order[done : done + len(batch)]] = batch
                    done += len(batch)
                    since += len(batch) if started else 0  # the first one waits for the threads to start
                    started = started or time.monotonic()
                    each = (time.monotonic() - started) / since if since else None
                    yield Look(done, total, None if each is None else each * (total - done))
                    pause = should_pause() and done > begun
                    if pause or time.monotonic() - saved > _SAVE_SECONDS:
                        self._rows.save_progress(rows, done, order)
                        saved = time.monotonic()
                    if pause:
                        return Seen(rows, list(order[:done]), "paused")
                    if should_stop() and done < total:
                        return Seen(rows, list(order[:done]), "stopped")
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or size == 1:
                    raise
                free_memory()
                size = max(1, size // 2)
        assert rows is not None
        speed = since / (time.monotonic() - started) if since >= _SPEED_SAMPLE else None
        if end < total:
            self._rows.save_progress(rows, done, order)
            return Seen(rows, list(order[:done]), "done", speed)
        return Seen(self._rows.finish(rows), list(range(total)), "done", speed)

    def _called(self, name: EngineName) -> Engine:
        """The engine chosen here, or the one that an earlier process chose."""
        if self._engine is None or self._engine.name != name:
            self._engine = build(name, self._model, self._preprocessing, self._device, self._cache)
        return self._engine

    def _ahead(
        self, engine: Engine, order: Sequence[int], done: int, size: int
    ) -> Generator[npt.NDArray[Any], None, None]:
        def one(start: int) -> npt.NDArray[np.float32]:
            return engine.run(self._store.framed(order[start : start + size], self._preprocessing))

        yield from in_order(one, range(done, len(order), size), workers=cores() if self._device == "cpu" else 2)


def interleaved(labels: Sequence[int], seed: int) -> list[int]:
    """Every index once, all labels in proportion from the start: whoever stops half-way has something of each."""
    rng = np.random.default_rng((seed, 1))  # a stream of its own: the split draws from (seed)
    keys = np.empty(len(labels))
    labels_array = np.asarray(labels)
    for label in np.unique(labels_array):
        members = rng.permutation(np.flatnonzero(labels_array == label))
        keys[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return [int(i) for i in np.argsort(keys, kind="stable")]


def outputs(
    model: nn.Module,
    store: PixelStore,
    indices: Sequence[int],
    preprocessing: Preprocessing,
    *,
    device: str,
    precision: Precision,
) -> npt.NDArray[np.float32]:
    """What `model` gives for the pictures at `indices`, in that order, by PyTorch in the precision it is trained in."""
    engine = build(by_pytorch(precision), model, preprocessing, device, Path())

    def one(start: int) -> npt.NDArray[np.float32]:
        return engine.run(store.framed(indices[start : start + BATCH[device]], preprocessing))

    parts = in_order(one, range(0, len(indices), BATCH[device]), workers=cores() if device == "cpu" else 1)
    return np.concatenate(list(parts))
