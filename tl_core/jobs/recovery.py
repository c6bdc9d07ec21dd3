"""After bad luck: the data folder is made ready, and the queue made to agree with the folders of runs."""

import secrets
import tempfile
from pathlib import Path

from tl_core.jobs.runs import RunFolder, all_runs
from tl_core.jobs.slices import SLICED
from tl_core.jobs.store import Job, Store
from tl_core.queue_errors import DataFolderError, NewerDataError
from tl_core.settings import Settings

FORM = 1  # of what lies in the data folder; one more whenever an older version could not read it
_FORM = "form"


def open_folder(settings: Settings) -> None:
    """Make the data folder ready. Raises DataFolderError when nothing can be written there, and NewerDataError when a
    newer version has."""
    file = settings.data_dir / _FORM
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.data_dir):
            pass
        found = file.read_text(encoding="ascii").strip() if file.exists() else ""
        if not found or (found.isdecimal() and int(found) < FORM):  # of an empty one, an earlier version was cut off
            _write(file)
            return
    except (OSError, ValueError) as error:
        raise DataFolderError(folder=settings.data_dir, problem=getattr(error, "strerror", "damaged")) from error
    if found != str(FORM):
        raise NewerDataError(folder=settings.data_dir, found=found, known=FORM)


def _write(file: Path) -> None:
    """Write the form down, complete or not at all."""
    temporary = file.with_name(f"{_FORM}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_text(str(FORM), encoding="ascii")
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def job_of(run: RunFolder) -> Job | None:
    """What the queue should know of a run; None when nobody can read what it is to do."""
    try:
        request = run.request()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    state = "over" if run.over() else "queued"
    return Job(run.path.name, request.owner, request.device, request.plan.seconds or 0.0, state)  # type: ignore[arg-type]


def recover(store: Store, settings: Settings) -> None:
    """Enter runs that the queue does not know, forget those whose folder is gone, and let go of those that nobody works
    on any more. For a process that starts and is the only one that trains on its machine's runs."""
    agree(store, settings)
    for job in store.running():
        if RunFolder(settings.runs_dir / job.id).free():
            store.give_back(job.id, job.worker)


def agree(store: Store, settings: Settings) -> None:
    """Enter runs that the queue does not know or wrongly holds for over, and forget those whose folder is gone."""
    known = {job.id: job for job in store.all()}  # before the folders, which are there before they are queued
    folders = {run.path.name: run for run in all_runs(settings)}
    for id in known.keys() - folders.keys():
        if not (settings.runs_dir / id).is_dir():  # an opened model has no request, yet an owner
            store.forget(id)
    for id, run in folders.items():
        if id in known and (known[id].state != "over" or known[id].device == SLICED):  # its owner goes on with that
            continue
        job = job_of(run)
        if job is not None and not (id in known and job.state == "over"):
            store.restore(job)
