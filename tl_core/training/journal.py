"""What a run has decided so far, on disk: whoever goes on with the run takes the same decisions for granted.

Decisions depend on speeds and on what a probe saw; everything after them follows from them alone.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Value = TypeVar("Value")


class Journal:
    """Plain JSON values by name in one file of the run's folder."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def get(self, name: str) -> Any:
        """The value called `name`, or None."""
        return self._read().get(name)

    def put(self, name: str, value: Any) -> None:
        """Keep `value` under `name`; the file is complete at any moment."""
        record = self._read() | {name: value}
        temporary = self._file.with_suffix(f".tmp{os.getpid()}")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(record), encoding="utf-8")
        temporary.replace(self._file)

    def decided(self, name: str, decide: Callable[[], Value]) -> Value:
        """The decision called `name`, taken now if it was not before."""
        if (found := self.get(name)) is not None:
            value: Value = found
            return value
        value = decide()
        self.put(name, value)
        return value

    def _read(self) -> dict[str, Any]:
        try:
            record = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}
