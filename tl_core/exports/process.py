"""The process that exports, apart from the page: `python -m tl_core.exports.process`, a job as JSON on its stdin.

It writes events and at last the `Export` as JSON lines. Its caller is `export`.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tl_core import disk
from tl_core.data.child import SilentError, child_lines
from tl_core.data.edits import Edit, from_record, to_record
from tl_core.errors import DiskFullError, ExportFailedError
from tl_core.events import Progress
from tl_core.exports.record import Export, Kind
from tl_core.queue_errors import DiskFailedError
from tl_core.settings import scrubbed_environment

_SILENCE = 600.0  # seconds a conversion of a large network may take without a word


def export(
    bundle: Path,
    kind: Kind,
    into: Path,
    *,
    set_folder: Path | None = None,
    edits: Sequence[Edit] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Progress | Export]:
    """Make the export of `kind` in `into` in a process of its own, asking about the pictures of the set in `set_folder`
    as changed by `edits`, or about drawn ones. The last is an `Export`, unless stopped. Raises ExportFailedError,
    DiskFullError and DiskFailedError."""
    job = {
        "bundle": str(bundle),
        "kind": kind,
        "into": str(into),
        "set_folder": None if set_folder is None else str(set_folder),
        "edits": to_record(edits),
    }
    lines = child_lines(
        "tl_core.exports.process", job, scrubbed_environment(), silence=lambda: _SILENCE, should_stop=should_stop
    )
    try:
        for line in lines:
            if "progress" in line:
                yield Progress(**line["progress"])
            elif "disk" in line:
                raise DiskFullError(**line["disk"]) if line["disk"] else DiskFailedError
            else:
                yield Export.from_record(line["export"])
                return
    except SilentError:
        pass
    if not should_stop():
        raise ExportFailedError


def _pictures(job: dict[str, Any]) -> tuple[list[Any], bool]:
    """Up to 500 pictures of the set, spread over it, and that they are the user's; or drawn ones."""
    from tl_core.data.pixels import PixelStore
    from tl_core.data.understand import load
    from tl_core.exports.agreement import MOST

    if job["set_folder"] is None:
        from tl_core.exports.drawn import drawn

        return drawn(), False
    images = load(Path(job["set_folder"]), from_record(job["edits"]))
    store, count = PixelStore(images), len(images.pictures)
    return [store[at * count // min(MOST, count)] for at in range(min(MOST, count))], True


def main() -> None:
    from tl_core.exports.make import make

    job = json.loads(sys.stdin.read())
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # converters print what they like

    def say(**line: object) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    try:
        pictures, yours = _pictures(job)
        for step in make(Path(job["bundle"]), job["kind"], Path(job["into"]), pictures, yours=yours):
            say(**{"progress" if isinstance(step, Progress) else "export": asdict(step)})
    except Exception as error:
        if (sentence := disk.trouble(error, Path(job["into"]))) is None:
            raise
        say(disk=sentence.values)


if __name__ == "__main__":
    main()
