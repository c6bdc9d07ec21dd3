"""A closer look at a set that was read: near copies, look-alikes, and how far copies would have faked the score.

    for event in review(folder, settings=settings): ...        (or `python -m tl_core.review FOLDER`)

Every picture goes once through the embedded backbone. Its features stay beside the set, so a quick run on it has its
longest part behind it. One process looks at a folder at a time; whoever comes second waits and finds it done.
"""

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tl_core.data.closer_look import CloserLook, Leak
from tl_core.data.findings import leaked
from tl_core.data.imageset import THUMB_SIDE, THUMBS, ImageSet, Picture, Reading
from tl_core.data.quality import confirmed, near_pairs
from tl_core.data.split import exam_part
from tl_core.data.understand import understand
from tl_core.events import Event, Progress
from tl_core.models import backbone as backbones
from tl_core.models.catalogue import EMBEDDED
from tl_core.settings import Settings
from tl_core.training.cores import one_thread
from tl_core.training.engine import ENGINES
from tl_core.training.features import FeaturePass
from tl_core.training.plan import Machine
from tl_core.training.solve import SolvedHead, solve

NEIGHBOURS = 10
_LOCK = "review.lock"
_BLOCK = 1024  # rows compared at a time
_WAIT = 0.2  # seconds between two tries to get the folder
_LEAST_TESTED = 20  # honest test pictures: a score on fewer says nothing


def review(folder: Path, *, settings: Settings, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """Take the look unless it was taken; `CloserLook.load(folder)` then gives it. Leaves nothing when stopped."""
    with (folder / _LOCK).open("w") as lock:
        while True:  # never blocks for long, so that a stop is heard
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if should_stop():
                return
            yield Progress("reviewing", 0, 1)
            time.sleep(_WAIT)
        if CloserLook.load(folder) is None:
            yield from _look(Reading.load(folder), settings, should_stop)


def _look(reading: Reading, settings: Settings, should_stop: Callable[[], bool]) -> Iterator[Event]:
    images, total = everything(reading), len(reading.stored)
    trunk = backbones.load(EMBEDDED, timeout=0)
    cache = settings.data_dir / ENGINES
    looks = FeaturePass(images, trunk, EMBEDDED.preprocessing, kind="features", device="cpu", cache=cache)
    seen = looks.cached()
    if seen is None:
        steps = looks.run(looks.choose_engine(), range(total), should_stop=should_stop, should_pause=lambda: False)
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                seen = end.value
                break
            yield Progress("reviewing", step.done, step.total, step.seconds_left)
    assert seen is not None
    if seen.speed is not None:
        Machine(settings).remember(EMBEDDED, seen.speed)
    if seen.reason != "done" or should_stop():
        return
    features = np.asarray(seen.rows, dtype=np.float32)
    unit = _unit(features)
    thumbs = np.fromfile(reading.folder / THUMBS, dtype=np.uint8).reshape(total, 3 * THUMB_SIDE**2)
    near = confirmed(near_pairs(thumbs, [stored.digest for stored in reading.stored]), unit)
    understood = understand(reading, near=near)
    group = {picture.row: picture.group for picture in understood.pictures}
    neighbours = _neighbours(unit, np.array([group.get(row, -1 - row) for row in range(total)]))
    CloserLook(tuple(near), _leak(understood, features), neighbours).save(reading.folder)
    yield Progress("reviewing", total, total, 0.0)


def everything(reading: Reading) -> ImageSet:
    """All that is stored as one set, whatever its classes: picture i is row i."""
    pictures = tuple(
        Picture(s.name, 0, "", row, s.offset, s.height, s.width, row) for row, s in enumerate(reading.stored)
    )
    return ImageSet(reading.folder, reading.source, ("",), pictures, (), (), 0, len(pictures))


def _unit(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N, D) features less what all have in common, each of length 1: their products are centred cosines."""
    centred: npt.NDArray[np.float32] = features - features.mean(axis=0)
    lengths: npt.NDArray[np.float32] = np.linalg.norm(centred, axis=1, keepdims=True)
    centred /= np.maximum(lengths, 1e-12)
    return centred


def _neighbours(unit: npt.NDArray[np.float32], groups: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """(N, K) the rows most like each of N by (N, D) `unit`, those of its own group left out; N where there are none."""
    count = len(unit)
    found = np.full((count, NEIGHBOURS), count, dtype=np.int32)
    for start in range(0, count, _BLOCK):
        alike = unit[start : start + _BLOCK] @ unit.T
        alike[groups[start : start + _BLOCK, None] == groups[None, :]] = -2
        most = min(NEIGHBOURS, count - 1)
        nearest = np.argpartition(-alike, most - 1, axis=1)[:, :most]
        order = np.argsort(-np.take_along_axis(alike, nearest, axis=1), axis=1)
        nearest = np.take_along_axis(nearest, order, axis=1)
        nearest[np.take_along_axis(alike, nearest, axis=1) < -1] = count
        found[start : start + _BLOCK, :most] = nearest
    return found


def _leak(images: ImageSet, features: npt.NDArray[np.float32]) -> Leak | None:
    """How right a solved head is on the official test part as it came, and on the honest part of it."""
    copied, exam = leaked(images), exam_part(images)
    taught = [p for p in images.pictures if p.part != exam]
    tested = [p for p in images.pictures if p.part == exam]
    wrong = {members[0].row for members in copied}
    honest = np.array([p.row not in wrong for p in tested])
    if (
        not copied
        or honest.sum() < _LEAST_TESTED
        or len({p.group for p in taught}) < 2
        or len({p.label for p in taught}) < 2
    ):
        return None
    steps = solve(
        features[[p.row for p in taught]], [p.label for p in taught], [p.group for p in taught], len(images.class_names)
    )
    head = next(step for step in steps if isinstance(step, SolvedHead))
    with one_thread():
        logits = features[[p.row for p in tested]] @ head.weight.numpy().T + head.bias.numpy()
    right = logits.argmax(axis=1) == np.array([p.label for p in tested])
    return Leak(len(copied), float(right.mean()), float(right[honest].mean()))


def main() -> None:
    """Look at the folder that is named, ending with the process that asked for it."""
    import torch

    torch.set_num_threads(1)
    parent = os.getppid()
    for _ in review(
        Path(sys.argv[1]), settings=Settings.from_environment(), should_stop=lambda: os.getppid() != parent
    ):
        pass


if __name__ == "__main__":
    main()
