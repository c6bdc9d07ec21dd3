"""What is deleted by itself: sets and runs after the time they are kept, and what crashes and strangers leave behind.

Nothing that a run which waits or is trained needs is touched, no link is followed, and what has an age in the future
(a clock was set back) is young.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from tl_core.jobs.runs import REMOVED, WORKERS, RunFolder
from tl_core.jobs.store import Store
from tl_core.queue_errors import QueueUnreachableError
from tl_core.settings import Settings

DOWNLOADS = "exports"  # in the page's folder: what may be downloaded, below the id of the set or run it belongs to
_PARTIAL_MINUTES = 4  # that an upload may bring nothing before it counts as broken off
log = logging.getLogger("transfer_lab.janitor")


def sweep(settings: Settings, store: Store) -> int:
    """Delete what is too old, and what was removed while somebody worked on it; gives how many folders went. What
    cannot be deleted keeps nothing else from going. Raises QueueUnreachableError when it cannot be known what is
    needed; uploads have gone by then."""
    sweep_uploads(settings)
    busy = _needed(settings, store)
    old = time.time() - settings.keep_hours * 3600
    runs = [mark.parent for mark in settings.runs_dir.glob(f"*/{REMOVED}")]
    runs += [run for run in _folders(settings.runs_dir) if _age(run) < old and run not in busy and run not in runs]
    removed = 0
    for folder in runs:
        try:
            removed += delete_run(settings, store, RunFolder(folder))
        except OSError:
            log.exception("run %s cannot be deleted", folder.name)
    for parent in (settings.sets_dir, settings.data_dir / "scratch", settings.web_dir / DOWNLOADS):
        for folder in _folders(parent):
            if _age(folder) < old and folder not in busy:
                removed += _delete(folder)
    for heart in _entries(settings.data_dir / WORKERS):  # of a worker whose page was killed
        if _age(heart) < old:
            _delete(heart)
    return removed


def sweep_uploads(settings: Settings) -> None:
    """Delete files that the page was sent: what it makes of them it keeps elsewhere."""
    now = time.time()
    for entry in _entries(settings.web_dir):
        if entry.name == DOWNLOADS or entry.is_symlink():
            continue
        partial = entry.is_file() and entry.name.startswith("tmp")
        minutes = _PARTIAL_MINUTES if partial else settings.upload_minutes
        if _age(entry) < now - minutes * 60:
            _delete(entry)


def delete_run(settings: Settings, store: Store, run: RunFolder) -> bool:
    """Delete a run, what could be downloaded of it, and its place in the queue. False while a live process works on it:
    it is then asked to stop, the run is gone for everybody, and this is to be called again."""
    _delete(settings.web_dir / DOWNLOADS / run.path.name)
    gone = run.remove()  # before the queue is told, which cannot be written on a full disk
    try:
        if gone:
            store.forget(run.path.name)
        else:
            store.withdraw(run.path.name)
    except QueueUnreachableError:  # a run that has no folder is over for whoever takes it, and forgotten by a restart
        log.warning("the queue does not know yet that run %s is deleted", run.path.name)
    return gone


def delete_set(settings: Settings, folder: Path) -> None:
    """Delete a set and what could be downloaded of it. Runs made from it keep their models."""
    _delete(settings.web_dir / DOWNLOADS / folder.name)
    _delete(folder)


def bytes_of(folder: Path) -> int:
    """What a folder takes on the disk; links are not followed, and what goes meanwhile counts nothing."""
    total = 0
    for entry in folder.rglob("*"):
        try:
            total += 0 if entry.is_symlink() else entry.stat().st_blocks * 512
        except OSError:
            continue
    return total


def _needed(settings: Settings, store: Store) -> set[Path]:
    """Folders of runs that wait or are trained, and of their sets."""
    found: set[Path] = set()
    for job in (*store.waiting(), *store.running()):
        run = RunFolder(settings.runs_dir / job.id)
        found.add(run.path)
        try:
            found.add(Path(run.request().set_folder).parent)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _folders(parent: Path) -> Iterator[Path]:
    return (entry for entry in _entries(parent) if entry.is_dir() and not entry.is_symlink())


def _entries(parent: Path) -> list[Path]:
    try:
        return list(parent.iterdir())
    except OSError:
        return []


def _age(path: Path) -> float:
    """When something last changed directly in it; never, for what is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return float("inf")


def _delete(path: Path) -> bool:
    """Delete what can be; whether nothing is left."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    return not path.exists()
