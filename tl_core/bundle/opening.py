"""A model made earlier becomes a run again: unpacked and looked at in a limited child before anything else loads it.

python -m tl_core.bundle.opening        (a job as JSON on stdin, one JSON line on stdout; started by `open_bundle`)
"""

import json
import os
import resource
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

from tl_core import errors
from tl_core.bundle.files import from_zip
from tl_core.data.child import SilentError, child_lines
from tl_core.errors import BundleError, NotABundleError
from tl_core.events import Finished, to_line
from tl_core.settings import scrubbed_environment

REPORT, BUNDLE, EVENTS = "report.json", "bundle", "events.jsonl"
_MEMORY = 24_000_000_000  # bytes of address space; importing torch takes up to half of it
_SECONDS = 120.0


def open_bundle(source: Path, folder: Path) -> float:
    """Make the zip or folder `source` a finished run in the new `folder`; gives its accuracy. A folder is moved there.

    Raises BundleError, and leaves nothing then.
    """
    job = {"source": str(source), "folder": str(folder)}
    try:
        lines = child_lines(
            "tl_core.bundle.opening",
            job,
            scrubbed_environment(),
            silence=lambda: _SECONDS,
            should_stop=lambda: False,
        )
        answer: dict[str, Any] | None = next(lines, None)
        lines.close()
    except SilentError:
        answer = None
    if answer is not None and "accuracy" in answer:
        return float(answer["accuracy"])
    shutil.rmtree(folder, ignore_errors=True)
    if answer is None:
        raise NotABundleError(name=source.name, reason="it took more memory or time than any model made here")
    raise _error(answer)


def _error(answer: dict[str, Any]) -> BundleError:
    kind = getattr(errors, str(answer.get("error")), NotABundleError)
    if not (isinstance(kind, type) and issubclass(kind, BundleError)):
        kind = NotABundleError
    return kind(**answer["values"])


def _opened(source: Path, folder: Path) -> float:
    """In the child: unpack, load once, and describe the run."""
    from tl_core.bundle.bundle import load

    bundle = folder / BUNDLE
    folder.mkdir(parents=True)
    if source.is_dir():
        shutil.move(source, bundle)
    else:
        from_zip(source, bundle)
    try:
        _, info = load(bundle)
    except BundleError as error:  # the person knows it by the name of the file
        error.values["name"] = source.name
        raise type(error)(**error.values) from error
    evaluation = info.evaluation.to_dict()
    accuracy = float(info.evaluation.accuracy)
    record = {
        "evaluation": evaluation,
        "training": info.training,
        "backbone": info.backbone.id,
        "seconds": {},
        "created": info.created,
    }
    (folder / EVENTS).write_text(to_line(Finished(str(bundle), accuracy, "completed", {})), encoding="ascii")
    (folder / REPORT).write_text(json.dumps(record), encoding="utf-8")
    return accuracy


def main() -> None:
    job = json.load(sys.stdin)
    limits = {resource.RLIMIT_AS: _MEMORY, resource.RLIMIT_CPU: int(_SECONDS), resource.RLIMIT_CORE: 0}
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    source, folder = Path(job["source"]), Path(job["folder"])
    try:
        answer: dict[str, Any] = {"accuracy": _opened(source, folder)}
    except BundleError as error:
        answer = {"error": type(error).__name__, "values": error.values}
    except (MemoryError, OSError, ValueError, TypeError, RecursionError, zipfile.BadZipFile):
        answer = {"error": "NotABundleError", "values": {"name": source.name, "reason": "it cannot be read"}}
    out.write(json.dumps(answer) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
