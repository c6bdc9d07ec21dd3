"""What a run was taught, kept beside its model: the features of the training pictures, to show which are most like one.

They stay in the run folder and never travel in a bundle: they say much of single pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tl_core.evaluation.answers import DAMAGE

FILE = "taught.npz"
_LARGEST = float(np.finfo(np.float16).max)
_CHUNK = 4_096  # rows in float32 at a time


@dataclass(frozen=True)
class Taught:
    """`rows` (n,) int64 of the pictures in their store and their pooled `features` (n, D) float16."""

    rows: npt.NDArray[np.int64]
    features: npt.NDArray[np.float16]

    @classmethod
    def of(cls, rows: Sequence[int], features: npt.NDArray[np.floating]) -> "Taught":
        """From (n, D) features of any precision."""
        bounded = np.clip(features, -_LARGEST, _LARGEST).astype(np.float16)
        return cls(np.asarray(rows, dtype=np.int64), bounded)

    def save(self, folder: Path) -> None:
        """Keep it in a run folder, complete or not at all."""
        temporary = folder / f"{FILE}.tmp"
        with temporary.open("wb") as file:
            np.savez(file, rows=self.rows, features=self.features)
        temporary.replace(folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> "Taught | None":
        """What was saved in `folder`; None where nothing was, or what is there is damaged."""
        try:
            with np.load(folder / FILE, allow_pickle=False) as stored:
                rows, features = stored["rows"], stored["features"]
        except DAMAGE:
            return None
        shapes = rows.ndim == 1 and features.ndim == 2 and len(rows) == len(features)
        if not shapes or rows.dtype != np.int64 or features.dtype != np.float16 or not np.isfinite(features).all():
            return None
        return cls(rows, features)

    def nearest(self, features: npt.NDArray[np.float32], k: int = 5) -> tuple[tuple[int, float], ...]:
        """The `k` pictures most like one with `features` (D,), most alike first: their row, and the cosine between
        both less the mean of all, from -1 to 1 (nearest neighbours of normalised features tell even strange pictures
        from others: Sun et al. 2022, arXiv 2204.06507). Fewer where fewer were taught."""
        if not len(self.rows):
            return ()
        mean = self.features.mean(0, dtype=np.float32)
        asked = _unit((features - mean)[None])[0]
        starts = range(0, len(self.rows), _CHUNK)
        alike = np.concatenate([_unit(self.features[at : at + _CHUNK] - mean) @ asked for at in starts])
        best = np.argsort(-alike, kind="stable")[:k]
        return tuple((int(self.rows[at]), float(np.clip(alike[at], -1, 1))) for at in best)


def _unit(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The (n, D) rows at length 1; those of length 0 stay so."""
    scaled: npt.NDArray[np.float32] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    return scaled
