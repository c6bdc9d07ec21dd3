"""Frames for training: every picture at one size, a little larger than what the network sees, made once."""

from collections.abc import Callable, Generator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tl_core.data.imageset import ImageSet
from tl_core.data.pixels import PixelStore
from tl_core.events import Event, Progress
from tl_core.models.catalogue import Backbone
from tl_core.training.cores import cores, in_order
from tl_core.training.rows import Rows

_ROOM = 1.15  # so that views can move and zoom


def frame_rows(images: ImageSet, row: Backbone, size: int) -> Rows:
    """Where the frames for training at `size` pixels are kept: (N, 3, S, S) uint8."""
    seen = replace(row.preprocessing, size=round(size * _ROOM), crop_pct=1.0)
    return Rows(images.folder, "frames", [seen.size, seen.framing, seen.interpolation, seen.mean], images.rows)


def frame(images: ImageSet, row: Backbone, size: int, should_pause: Callable[[], bool]) -> Generator[Event, None, bool]:
    """Make the frames unless they are there; True when time was up before they were."""
    rows, total = frame_rows(images, row, size), len(images.pictures)
    if rows.complete() is not None:
        return False
    seen, store, order = (
        replace(row.preprocessing, size=round(size * _ROOM), crop_pct=1.0),
        PixelStore(images),
        range(total),
    )
    made, done = rows.begun(order)
    if made is None:
        made = rows.begin((3, seen.size, seen.size), np.uint8)

    def one(start: int) -> npt.NDArray[np.uint8]:
        framed: npt.NDArray[np.uint8] = store.framed(range(start, min(start + 32, total)), seen).numpy()
        return framed

    for batch in in_order(one, range(done, total, 32), workers=cores()):
        made[done : done + len(batch)] = batch
        done += len(batch)
        yield Progress("framing", done, total)
        if done < total and should_pause():
            rows.save_progress(made, done, order)
            return True
    rows.finish(made)
    return False
