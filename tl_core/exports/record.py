"""What an export came to, as it is kept beside it. Needs no torch, so the page may read it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from tl_core.bundle.files import MANIFEST
from tl_core.errors import NotABundleError

Kind = Literal["onnx", "int8", "web", "script", "litert", "coreml"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_FILE = "export.json"


@dataclass(frozen=True)
class Agreement:
    """Of `compared` pictures `agree` got the same class from both; `largest` is the largest difference of any class's
    probability, `unknown` that of the unknown score. `yours` says whether they were the user's own pictures."""

    compared: int
    agree: int
    largest: float
    unknown: float
    yours: bool = True


def state_of(bundle: Path) -> str:
    """What is different whenever the model in `bundle` is: a run that is gone on with puts another in its place.
    Raises NotABundleError where there is none."""
    try:
        return hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise NotABundleError(name=bundle.name, reason=f"{MANIFEST} is missing") from error


@dataclass(frozen=True)
class Export:
    """`file` is what to download, "" when it is not offered: `problem` is then the code of the reason. `model` is the
    state of the bundle it was made from, as `state_of` gives it."""

    kind: Kind
    file: str
    agreement: Agreement | None = None
    problem: str = ""
    model: str = ""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Export":
        """The inverse of `asdict`, also after JSON."""
        found = record["agreement"]
        agreement = None if found is None else Agreement(**found)
        return cls(record["kind"], record["file"], agreement, record["problem"], record["model"])

    @classmethod
    def load(cls, into: Path, kind: Kind, model: str) -> "Export | None":
        """The export of `kind` that was made in `into` earlier from `model`, if it is still there."""
        try:
            found = cls.from_record(json.loads((into / kind / _FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if found.model == model and (not found.file or Path(found.file).is_file()) else None

    def save(self, into: Path) -> "Export":
        """Keep it beside its file."""
        (into / self.kind / _FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")
        return self
