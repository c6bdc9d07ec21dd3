"""What was answered for every single picture of a run, kept in its folder: what figures that can be clicked, suspected
labels and comparisons are made from. It stays with the run and is in no bundle."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

FILE = "answers.npz"
# What reading a damaged file of numpy's may raise; the last two are of entries that seem encrypted or oddly packed.
# fmt: off
DAMAGE = (
    OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error, RuntimeError,
    NotImplementedError,
)
# fmt: on


@dataclass(frozen=True)
class Answers:
    """N pictures by their `rows` (N,) in the store, with `labels` (N,) and (N, C) calibrated `probabilities` by heads
    that had not seen them: of those that are `tested` (N,) by the model itself, of the others by heads like its first
    one; (N,) `unknown` scores of the tested ones, 0 for the others. `crossed` (N, C) are answers of cross-validation to
    all of them, None where there was none."""

    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    tested: npt.NDArray[np.bool_]
    unknown: npt.NDArray[np.float32]
    crossed: npt.NDArray[np.float32] | None = None

    def judged(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Which of the N the scores that are shown are about, and (n, C) the answers to them: all where they were
        cross-validated, else those tested."""
        if self.crossed is not None:
            return np.arange(len(self.rows)), self.crossed
        chosen = np.flatnonzero(self.tested)
        return chosen, self.probabilities[chosen]

    def save(self, folder: Path) -> None:
        """Keep them in `folder`, complete or not at all."""
        arrays = {name: value for name, value in self.__dict__.items() if value is not None}
        temporary = folder / f"{FILE}.tmp"
        with temporary.open("wb") as out:
            np.savez(out, **arrays)
        temporary.replace(folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> "Answers | None":
        """What is kept in `folder`; None where there is nothing, or nothing that can be read."""
        try:
            with np.load(folder / FILE, allow_pickle=False) as kept:
                return cls(**{name: kept[name] for name in kept.files})
        except DAMAGE:
            return None
