"""Checkpoints that survive being killed at any moment: atomic, verified, the last two kept.

    checkpoints/<name>-00000120/  state.safetensors  manifest.json

Every file is written under another name, flushed to the disk and renamed, the manifest with its checksums last: a
folder without one never counts. What does not verify is passed over for the one before. Tensors are safetensors,
everything else JSON: no pickle.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

_STATE, _MANIFEST = "state.safetensors", "manifest.json"
_KEEP = 2


@dataclass(frozen=True)
class Checkpoint:
    """What was saved at `step`: tensors by name and plain values."""

    step: int
    tensors: dict[str, Tensor]
    values: dict[str, Any]


class Checkpoints:
    """The checkpoints called `name` in `folder`. `identity` names what they belong to; others are never loaded."""

    def __init__(self, folder: Path, name: str, identity: str) -> None:
        self._folder, self._name, self._identity = folder, name, identity
        self.damaged = 0  # of its own, that `latest` had to pass over

    def save(self, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Keep the state at `step`; a kill in between leaves the ones before."""
        final = self._folder / f"{self._name}-{step:08}"
        temporary = final.with_name(f"{final.name}.tmp{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        # On the processor and apart from each other: safetensors refuses tensors that share memory.
        state = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
        save_file(state, temporary / _STATE)
        _flush(temporary / _STATE)
        record = {"identity": self._identity, "step": step, "sha256": _sha256(temporary / _STATE), "values": values}
        (temporary / _MANIFEST).write_text(json.dumps(record), encoding="utf-8")
        _flush(temporary / _MANIFEST)
        shutil.rmtree(final, ignore_errors=True)
        temporary.replace(final)
        _flush(self._folder)
        for old in self._complete()[:-_KEEP]:
            shutil.rmtree(old, ignore_errors=True)
        for leftover in self._folder.glob(f"{self._name}-*.tmp*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def latest(self) -> Checkpoint | None:
        """The newest one that verifies, or None."""
        self.damaged = 0
        for folder in reversed(self._complete()):
            try:
                record = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
                if record["identity"] != self._identity:
                    continue
                if record["sha256"] == _sha256(folder / _STATE):
                    return Checkpoint(int(record["step"]), load_file(folder / _STATE), dict(record["values"]))
            except (OSError, ValueError, KeyError, TypeError, SafetensorError):
                pass
            self.damaged += 1
        return None

    def _complete(self) -> list[Path]:
        return sorted(path for path in self._folder.glob(f"{self._name}-*") if path.suffix == "")


def _flush(path: Path) -> None:
    """Wait until `path`, a file or folder, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
