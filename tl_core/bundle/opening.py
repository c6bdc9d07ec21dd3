"""A model made earlier becomes a run again: unpacked and looked at in a limited child before anything else loads it.

python -m tl_core.bundle.opening        (a job as JSON on stdin, one JSON line on stdout; started by `open_bundle`)
"""

import json
import os
import resource
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tl_core import errors
from tl_core.bundle.files import CARD, MAX_WEIGHTS, from_zip
from tl_core.data.child import SilentError, child_lines
from tl_core.errors import BundleError, NotABundleError
from tl_core.events import Finished, to_line
from tl_core.settings import scrubbed_environment

REPORT, BUNDLE, EVENTS = "report.json", "bundle", "events.jsonl"
# Bytes on top of the program's own: the largest weights there may be, in the file, in the network, and once more.
_UNPACKING, _LOADING = 500_000_000, 8_000_000_000
_SECONDS = 120.0


def open_bundle(source: Path, folder: Path, *, name: str = "") -> float:
    """Make the zip or folder `source` a finished run in the new `folder`; gives its accuracy. A folder is moved there.
    `name` is what the person knows it by, where that is not the name of the file.

    Raises BundleError, and leaves nothing then.
    """
    name = name or source.name
    job = {"source": str(source), "folder": str(folder), "name": name}
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
        raise NotABundleError(name=name, reason="it took more memory or time than any model made here")
    raise _error(answer)


def _error(answer: dict[str, Any]) -> BundleError:
    kind = getattr(errors, str(answer.get("error")), NotABundleError)
    if not (isinstance(kind, type) and issubclass(kind, BundleError)):
        kind = NotABundleError
    return kind(**answer["values"])


def _opened(source: Path, folder: Path) -> float:
    """In the child: unpack, load once, and describe the run."""
    bundle = folder / BUNDLE
    folder.mkdir(parents=True)
    _limit_memory(_UNPACKING)
    if source.is_dir():
        shutil.move(source, bundle)
    else:
        from_zip(source, bundle)
    _limit_memory(None)
    from tl_core.bundle.bundle import load  # brings torch, and is not what the limits are for
    from tl_core.bundle.card import card
    from tl_core.bundle.card_facts import CardFacts
    from tl_core.models.heads import describe

    _limit_memory(_LOADING)
    model, info = load(bundle)
    if not (bundle / CARD).is_file():  # somebody took it from the Hub; a download has one
        facts = CardFacts(info, describe(model.head)["kind"])
        (bundle / CARD).write_text(card(facts), encoding="utf-8")
    accuracy = float(info.evaluation.accuracy)
    record = {
        "evaluation": info.evaluation.to_dict(),
        "crossed": None if info.crossed is None else info.crossed.to_dict(),
        "likely": None if info.likely is None else asdict(info.likely),
        "false_alarm": None if info.unknown is None else info.unknown.false_alarm,
        "training": info.training,
        "backbone": info.backbone.id,
        "seconds": {},
        "created": info.created,
    }
    (folder / EVENTS).write_text(to_line(Finished(str(bundle), accuracy, "completed", {})), encoding="ascii")
    (folder / REPORT).write_text(json.dumps(record), encoding="utf-8")
    return accuracy


def _limit_memory(more: int | None) -> None:
    """No more than `more` bytes of address space on top of what the program has by now; None: as it likes."""
    statm, (_, most) = Path("/proc/self/statm"), resource.getrlimit(resource.RLIMIT_AS)
    if not statm.exists():  # not Linux
        return
    limit = most
    if more is not None:
        limit = int(statm.read_text().split()[0]) * resource.getpagesize() + more
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))


def main() -> None:
    job = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    limits = {resource.RLIMIT_CPU: int(_SECONDS), resource.RLIMIT_FSIZE: MAX_WEIGHTS, resource.RLIMIT_CORE: 0}
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
    source, folder = Path(job["source"]), Path(job["folder"])
    try:
        answer: dict[str, Any] = {"accuracy": _opened(source, folder)}
    except BundleError as error:  # by the name that the person knows
        answer = {"error": type(error).__name__, "values": error.values | {"name": job["name"]}}
    except (MemoryError, OSError, ValueError, TypeError, RecursionError, RuntimeError, LookupError):
        answer = {"error": "NotABundleError", "values": {"name": job["name"], "reason": "it cannot be read"}}
    out.write(json.dumps(answer) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
