"""The same work for programs and agents: five named endpoints, for `gradio_client`, plain HTTP and MCP.

Keys are those of the page: 22 characters that only their owner holds. A key that is unknown and one that is somebody
else's get the same answer.

Files are typed as text, though `gradio_client` sends objects: what an MCP client sends is checked against the type, and
of an object Gradio's own client behind the MCP tools would upload the file it names from this very machine.
"""

import hashlib
import time
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote

import gradio as gr

from tl_core import wording
from tl_core.cli.reading import Understood, oddities, summary
from tl_core.data.edits import Relabel
from tl_core.data.understand import unconfirmed, way_of
from tl_core.errors import OptionError, plain
from tl_core.events import Failed, Finished, Progress
from tl_core.exports.record import KINDS, Export
from tl_core.jobs.runs import EventLog, RunFolder
from tl_core.training.plan import Effort, Wishes
from tl_ui.handlers import speaks
from tl_ui.parts.uploads import uploaded
from tl_ui.run_report import Report
from tl_ui.words import DEFAULT, say
from tl_ui.workspace import Workspace

_EFFORTS: tuple[Effort, ...] = get_args(Effort)
_FILES = ("bundle", *KINDS)
_MOST_WAIT = 30.0  # seconds that one call waits
_POLL = 0.2
_SERVED = "/gradio_api/file="  # what the address of an uploaded file has before its path
# How many calls go on at once. Predictions and exports share the page's own turns at the processor.
_TURNS: dict[str, dict[str, Any]] = {
    "inspect": {"concurrency_limit": 8},
    "train": {"concurrency_limit": 4},
    "status": {"concurrency_limit": 16},
    "predict": {"concurrency_limit": 1, "concurrency_id": "predict"},
    "bundle": {"concurrency_limit": 2, "concurrency_id": "export"},
}
ENDPOINTS = frozenset(_TURNS)


class Api:
    """Registers the endpoints within a page that is being built. Gradio shows of a parameter its first line only."""

    def __init__(self, work: Workspace) -> None:
        self._work = work
        for endpoint in (self.inspect, self.train, self.status, self.predict, self.bundle):
            gr.api(speaks(endpoint), api_name=endpoint.__name__, **_TURNS[endpoint.__name__])

    def inspect(self, upload: str, request: gr.Request) -> dict:  # type: ignore[type-arg]  # as Gradio describes it
        """Read a zip or tar of pictures, one folder for each class, and say what it is understood as.

        Args:
            upload: path (or address) of the file after POST /gradio_api/upload; handle_file("pictures.zip") in Python

        Returns:
            set_key (the only way to the pictures), classes with counts, splits, skipped files and why, findings, advice
        """
        name, file = _file("upload", upload)
        sets = self._work.sets
        key = sets.take([(name, file)], name, owner=_owner(request))
        events = sets.log(key)
        until = time.monotonic() + self._work.settings.max_reading_seconds
        while (images := sets.images(key)) is None:
            failed = next((e for e in (events.new() if events else []) if isinstance(e, Failed)), None)
            if failed is not None:
                raise gr.Error(failed.text, print_exception=False)
            if sets.lost(key) or time.monotonic() > until:
                sets.cancel(key)
                raise _gone()
            time.sleep(_POLL)
        until = min(until, time.monotonic() + _MOST_WAIT)
        while sets.looking(key) and time.monotonic() < until:  # training would wait for the closer look, too
            time.sleep(_POLL)
        looked, images, reading = not sets.looking(key), sets.images(key), sets.reading(key)
        if images is None or reading is None:
            raise _gone()
        found = Understood(reading, sets.edits(key), images, sets.findings(key, images))
        return {"set_key": key, **summary(images), **oddities(found), "looked_closely": looked}

    def train(  # type: ignore[type-arg]
        self, set_key: str, request: gr.Request, effort: str = "quick", classes_from: str = ""
    ) -> dict:
        """Start training a classifier on pictures that `inspect` has read. Returns at once; `status` says how it goes.

        Args:
            set_key: what `inspect` gave
            effort: "quick" (seconds), "balanced" or "best" (minutes)
            classes_from: the id of one of the ways that `inspect` gave, needed where the classes are only a guess

        Returns:
            run_key (the only way to the model) and the seconds that training should take
        """
        images = self._work.sets.images(_key(set_key))
        if images is None:
            raise _gone()
        wanted = next((known for known in _EFFORTS if known == effort), None)
        if wanted is None:
            raise _option("effort", effort, f"one of {', '.join(_EFFORTS)} is needed")
        self._agree(set_key, classes_from)
        key = self._work.start(set_key, Wishes(effort=wanted), owner=_owner(request))
        run = None if key is None else self._work.run(key)
        if run is None:
            raise _gone()
        self._work.warm_up()
        return {"run_key": key, "seconds": run.request().plan.seconds}

    def _agree(self, set_key: str, classes_from: object) -> None:
        """Read the classes as asked for. Raises OptionError for an unknown way, and for a guess nobody confirmed."""
        sets = self._work.sets
        with sets.changing:
            reading, edits = sets.reading(set_key), sets.edits(set_key)
            if reading is None:
                raise _gone()
            known = [way.id for way in reading.ways]
            if classes_from and classes_from not in known:
                raise _option("classes_from", classes_from, f"one of these is needed: {', '.join(known)}")
            guessed = unconfirmed(reading, edits)
            if not classes_from and guessed:
                told = f"if the classes of `inspect` are right, give “{way_of(reading, edits)}”"
                raise OptionError(option="classes_from", found="classes that are only a guess", needed=told)
            if classes_from and (guessed or classes_from != way_of(reading, edits)):
                sets.change(set_key, (*edits, Relabel(str(classes_from))))

    def status(self, run_key: str, wait_seconds: float = 0.0) -> dict:  # type: ignore[type-arg]
        """Say how a training goes.

        Args:
            run_key: what `train` gave
            wait_seconds: wait up to so many seconds, 30 at most, for the training to end before answering

        Returns:
            state (waiting, training, finished, failed), stage, done, total, seconds_left; accuracy, interval; message
        """
        run = self._work.run(_key(run_key))
        if run is None:
            raise _gone()
        until = time.monotonic() + _patience(wait_seconds)
        events, seen = EventLog(run.path), []
        while True:
            seen += events.new()
            if (seen and isinstance(seen[-1], Finished | Failed)) or time.monotonic() >= until:
                break
            time.sleep(_POLL)
        return self._state(run_key, run, seen)

    def _state(self, run_key: str, run: RunFolder, seen: list[Any]) -> dict[str, Any]:
        last, report = (seen[-1] if seen else None), self._work.report(run_key)
        if isinstance(last, Failed):
            return {"state": "failed", "message": last.text}
        if isinstance(last, Finished) and report is not None:
            scores = report.evaluation
            numbers = {"accuracy": scores.accuracy, "interval": list(scores.interval), "tested": scores.tested}
            return {"state": "finished", **numbers, "classes": list(scores.class_names)}
        if not seen:
            trouble = {"message": say(DEFAULT, "train.trouble")} if self._work.trainer_in_trouble() else {}
            return {"state": "waiting", "ahead": self._work.line.place(run).ahead, **trouble}
        now = next((event for event in reversed(seen) if isinstance(event, Progress)), None)
        if now is None:
            return {"state": "training"}
        told = {"stage": wording.STAGES[now.stage], "done": now.done, "total": now.total}
        return {"state": "training", **told, "seconds_left": now.seconds_left}

    def predict(self, run_key: str, pictures: list[str]) -> list[dict]:  # type: ignore[type-arg]
        """Classify pictures with a trained model.

        Args:
            run_key: what `train` gave
            pictures: list of files, each given as for `inspect`

        Returns:
            for each file in order: file, label, confidence (0 to 1), ranking, unknown and strange; or the problem
        """
        report = self._finished(run_key)
        limit = self._work.settings.max_batch
        if not isinstance(pictures, list) or not 0 < len(pictures) <= limit:
            found = f"{len(pictures)} files" if isinstance(pictures, list) else "no list"
            raise OptionError(option="pictures", found=found, needed=f"a list of 1 to {limit} files is needed")
        files = [_file("pictures", one) for one in pictures]
        _, results = self._work.predict_files(report.bundle, [file for _, file in files])
        return [_answer(name, result) for (name, _), result in zip(files, results, strict=True)]

    def bundle(self, run_key: str, kind: str = "bundle") -> dict:  # type: ignore[type-arg]
        """Give a trained model as a file. Other forms than the bundle are first checked to answer as the model does.

        Args:
            run_key: what `train` gave
            kind: "bundle" (the zip that Transfer Lab opens), "onnx", "int8", "web", "script", "litert" or "coreml"

        Returns:
            the file
        """
        report = self._finished(run_key)
        if kind == "bundle":
            return _served(self._work.downloads.bundle(report.id, report.bundle))
        form = next((known for known in KINDS if known == kind), None)
        if form is None:
            raise _option("kind", kind, f"one of {', '.join(_FILES)} is needed")
        *_, made = self._work.export(run_key, form)
        assert isinstance(made, Export)
        if not made.file:
            raise gr.Error(f"{form}: {wording.EXPORT_PROBLEMS[made.problem]}.", print_exception=False)
        return _served(self._work.downloads.copy(report.id, Path(made.file)))

    def _finished(self, run_key: object) -> Report:
        """The result of a run. Raises OptionError while there is none."""
        report = self._work.report(_key(run_key))
        if report is None and self._work.run(_key(run_key)) is not None:
            told = "ask `status` until it has finished"
            raise OptionError(option="run_key", found="a training without a model so far", needed=told)
        if report is None:
            raise _gone()
        return report


def _key(key: object) -> str:
    return key if isinstance(key, str) else ""


def _gone() -> gr.Error:
    """The one answer to every key that opens nothing."""
    return gr.Error(say(DEFAULT, "error.gone"), print_exception=False)


def _owner(request: gr.Request) -> str:
    """Programs have no browser that remembers a key: whoever calls from one address is one owner."""
    return hashlib.sha256(f"address {request.client.host}".encode()).hexdigest()[:32]


def _option(option: str, given: object, needed: str) -> OptionError:
    """Refuses what a caller gave, which may be of any kind and size."""
    told = plain(given[:80]) if isinstance(given, str) else type(given).__name__
    return OptionError(option=option, found=f"“{told}”", needed=needed)


def _patience(given: object) -> float:
    """Seconds to wait. Raises OptionError for what is no number from 0 on."""
    if not isinstance(given, int | float) or isinstance(given, bool) or not given >= 0:  # NaN is not
        needed = f"a number of seconds from 0 to {_MOST_WAIT:.0f} is needed"
        raise OptionError(option="wait_seconds", found="something else", needed=needed)
    return float(min(given, _MOST_WAIT))


def _file(option: str, given: object) -> tuple[str, Path]:
    """The name and place of a file that the caller has uploaded, which they give by its path, by its address here, or
    as `gradio_client` does. Raises OptionError for anything else."""
    path = given.get("path") if isinstance(given, dict) else given
    if isinstance(path, str) and _SERVED in path:
        path = unquote(path.partition(_SERVED)[2])
    file = uploaded(path)
    if file is None:
        needed = "the path of a file uploaded to /gradio_api/upload is needed"
        raise OptionError(option=option, found="something else", needed=needed)
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
