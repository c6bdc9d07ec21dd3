"""The same work for programs and agents: five named endpoints, for `gradio_client`, plain HTTP and MCP.

Keys are those of the page: 22 characters that only their owner holds. A key that is unknown and one that is somebody
else's get the same answer.
"""

import functools
import logging
import math
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from tl_core import wording
from tl_core.cli.reading import Understood, oddities, summary
from tl_core.errors import OptionError, TLError
from tl_core.events import Failed, Finished, Progress
from tl_core.exports.record import Export
from tl_core.jobs.runs import EventLog
from tl_core.training.plan import Effort, Wishes
from tl_ui.parts.uploads import uploaded
from tl_ui.words import DEFAULT, error_sentence, say
from tl_ui.workspace import Workspace

_EFFORTS: tuple[Effort, ...] = get_args(Effort)
_MOST_WAIT = 30.0  # seconds that one call waits
_POLL = 0.2
log = logging.getLogger("transfer_lab.api")


class Api:
    """Registers the endpoints within a page that is being built."""

    def __init__(self, work: Workspace) -> None:
        self._work = work
        for endpoint in (self.inspect, self.train, self.status, self.predict, self.bundle):
            gr.api(_speaking(endpoint), api_name=endpoint.__name__, concurrency_limit=4)

    def inspect(self, upload: dict) -> dict:  # type: ignore[type-arg]  # as Gradio describes files
        """Read a zip of pictures in class folders and say what it is understood as.

        Args:
            upload: the file, uploaded before: `handle_file("pictures.zip")` of gradio_client, or {"path": P} with the P
                that POST /gradio_api/upload gives.

        Returns:
            set_key (keep it: it is the only way to the pictures), classes with their counts, splits, files that were
            skipped and why, and what is odd about the set.
        """
        name, file = _file(upload)
        sets = self._work.sets
        key = sets.take([(name, file)], name)
        events = sets.log(key)
        until = time.monotonic() + self._work.settings.max_reading_seconds
        while sets.images(key) is None:
            failed = next((e for e in (events.new() if events else []) if isinstance(e, Failed)), None)
            if failed is not None:
                raise gr.Error(failed.text, print_exception=False)
            if sets.lost(key) or time.monotonic() > until:
                raise gr.Error(say(DEFAULT, "error.gone"), print_exception=False)
            time.sleep(_POLL)
        images, reading = sets.images(key), sets.reading(key)
        assert images is not None and reading is not None
        found = Understood(reading, sets.edits(key), images, sets.findings(key, images))
        return {"set_key": key, **summary(images), **oddities(found)}

    def train(self, set_key: str, effort: str = "quick") -> dict:  # type: ignore[type-arg]
        """Start training a classifier on a set that was read. Returns at once; ask `status` how it goes on.

        Args:
            set_key: what `inspect` gave.
            effort: "quick" (seconds), "balanced" or "best" (minutes).

        Returns:
            run_key (keep it: it is the only way to the model) and the seconds that training takes at most.
        """
        images = self._work.sets.images(_key(set_key))
        if effort not in _EFFORTS:
            needed = f"one of {', '.join(_EFFORTS)} is needed"
            raise OptionError(option="effort", found=f"“{effort}”", needed=needed)
        wishes = Wishes(effort=effort)
        key = None if images is None else self._work.start(set_key, wishes)
        if images is None or key is None:
            raise _gone()
        self._work.warm_up()
        return {"run_key": key, "seconds": self._work.plan(images, wishes)[0].seconds}

    def status(self, run_key: str, wait_seconds: float = 0.0) -> dict:  # type: ignore[type-arg]
        """Say how a training goes on.

        Args:
            run_key: what `train` gave.
            wait_seconds: wait so long for its end before answering, 30 at most.

        Returns:
            state ("waiting", "training", "finished" or "failed"), the stage with done and total, seconds_left where
            known, and at the end accuracy with its 95 % interval, or the message of what went wrong.
        """
        run = self._work.run(_key(run_key))
        if run is None:
            raise _gone()
        patience = wait_seconds if isinstance(wait_seconds, int | float) and math.isfinite(wait_seconds) else 0.0
        until = time.monotonic() + min(max(patience, 0.0), _MOST_WAIT)
        events, seen = EventLog(run.path), []
        while True:
            seen += events.new()
            if (seen and isinstance(seen[-1], Finished | Failed)) or time.monotonic() >= until:
                break
            time.sleep(_POLL)
        return self._state(run_key, seen)

    def _state(self, run_key: str, seen: list[Any]) -> dict[str, Any]:
        last, report = (seen[-1] if seen else None), self._work.report(run_key)
        if isinstance(last, Failed):
            return {"state": "failed", "message": last.text}
        if isinstance(last, Finished) and report is not None:
            scores = report.evaluation
            numbers = {"accuracy": scores.accuracy, "interval": list(scores.interval), "tested": scores.tested}
            return {"state": "finished", **numbers, "classes": list(scores.class_names)}
        if not seen:
            return {"state": "waiting"}
        now = next((event for event in reversed(seen) if isinstance(event, Progress)), None)
        if now is None:
            return {"state": "training"}
        told = {"stage": wording.STAGES[now.stage], "done": now.done, "total": now.total}
        return {"state": "training", **told, "seconds_left": now.seconds_left}

    def predict(self, run_key: str, pictures: list[dict]) -> list[dict]:  # type: ignore[type-arg]
        """Classify pictures with a trained model.

        Args:
            run_key: what `train` gave.
            pictures: the files, uploaded before, as for `inspect`.

        Returns:
            for each picture in order its file, label, confidence (0 to 1), the ranking of all classes, and whether it
            is like nothing that was taught (strange); or the problem of a file that cannot be read.
        """
        report = self._work.report(_key(run_key))
        if report is None:
            raise _gone()
        limit = self._work.settings.max_batch
        if not isinstance(pictures, list) or not 0 < len(pictures) <= limit:
            found = len(pictures) if isinstance(pictures, list) else "no list"
            raise OptionError(option="pictures", found=found, needed=f"a list of 1 to {limit} files is needed")
        files = [_file(one) for one in pictures]
        _, results = self._work.predict_files(report.bundle, [file for _, file in files])
        return [_answer(name, result) for (name, _), result in zip(files, results, strict=True)]

    def bundle(self, run_key: str, kind: str = "bundle") -> dict:  # type: ignore[type-arg]
        """Give a trained model as a file.

        Args:
            run_key: what `train` gave.
            kind: "bundle" (the zip that Transfer Lab and timm open), "onnx", "int8", "web" or "script".

        Returns:
            the file; forms other than "bundle" are checked against the model's own answers before they are given.
        """
        report = self._work.report(_key(run_key))
        if report is None:
            raise _gone()
        if kind == "bundle":
            return _served(self._work.export_bundle(report.bundle))
        if kind not in ("onnx", "int8", "web", "script"):
            raise OptionError(option="kind", found=f"“{kind}”", needed="bundle, onnx, int8, web or script is needed")
        *_, made = self._work.export(run_key, kind)  # type: ignore[arg-type]  # checked above
        assert isinstance(made, Export)
        if not made.file:
            raise gr.Error(wording.EXPORT_PROBLEMS[made.problem], print_exception=False)
        return _served(self._work.shared_copy(Path(made.file)))


def _speaking(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Errors as sentences: ours as they are, anything else as one with a code that the log has too."""

    @functools.wraps(endpoint)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return endpoint(*args, **kwargs)
        except gr.Error:
            raise
        except TLError as error:
            raise gr.Error(error_sentence(DEFAULT, error), print_exception=False) from None
        except Exception:
            code = secrets.token_hex(2)
            log.exception("bug %s in %s", code, endpoint.__name__)
            raise gr.Error(say(DEFAULT, "error.bug", code=code), print_exception=False) from None

    return wrapped


def _key(key: object) -> str:
    return key if isinstance(key, str) else ""


def _gone() -> gr.Error:
    """The one answer to every key that opens nothing."""
    return gr.Error(say(DEFAULT, "error.gone"), print_exception=False)


def _file(given: object) -> tuple[str, Path]:
    """The name and place of a file that the caller has uploaded. Raises OptionError for anything else."""
    path = given.get("path") if isinstance(given, dict) else given
    file = uploaded(path)
    if file is None:
        needed = "a file uploaded to /gradio_api/upload is needed"
        raise OptionError(option="file", found="something else", needed=needed)
    name = given.get("orig_name") if isinstance(given, dict) else None
    return (name if isinstance(name, str) and name else file.name)[:255], file


def _answer(name: str, result: Any) -> dict[str, Any]:
    if isinstance(result, str):
        return {"file": name, "problem": wording.SKIP_REASONS[result]}
    return {
        "file": name,
        "label": result.label,
        "confidence": result.confidence,
        "ranking": dict(result.ranking),
        "unknown": result.unknown,
        "strange": result.strange,
    }


def _served(file: Path) -> dict[str, Any]:
    """A file as Gradio hands it out."""
    return gr.FileData(path=str(file), orig_name=file.name).model_dump()
