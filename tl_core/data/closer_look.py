"""What a closer look at a reading found (`tl_core.review`): near copies, look-alikes, and what a leak fakes."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tl_core.data.quality import Pair

FILE, NEIGHBOURS = "review.json", "neighbours.npy"


@dataclass(frozen=True)
class Leak:
    """What copies between the official parts do to the score: accuracy on the official test part as it came, and
    without the `leaked` pictures of it that have a copy among the training pictures."""

    leaked: int
    faked: float
    honest: float


@dataclass(frozen=True)
class CloserLook:
    """`near` are pairs of rows that show one picture. `neighbours` (N, K) are the rows that look most like each row,
    most alike first, copies of it left out."""

    near: tuple[Pair, ...]
    leak: Leak | None
    neighbours: npt.NDArray[np.int32]

    def save(self, folder: Path) -> None:
        """Keep it beside the reading; complete from the moment its JSON is there."""
        np.save(folder / NEIGHBOURS, self.neighbours)
        record = {
            "near": [[pair.a, pair.b, pair.sure] for pair in self.near],
            "leak": None if self.leak is None else self.leak.__dict__,
        }
        temporary = folder / f"{FILE}.tmp"
        temporary.write_text(json.dumps(record), encoding="utf-8")
        temporary.replace(folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> "CloserLook | None":
        """The look saved in `folder`; None when none was taken yet."""
        try:
            record = json.loads((folder / FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        leak = None if record["leak"] is None else Leak(**record["leak"])
        near = tuple(Pair(a, b, sure) for a, b, sure in record["near"])
        return cls(near, leak, np.load(folder / NEIGHBOURS, allow_pickle=False))
