"""Run folders: the whole interface between a page, a worker and whoever comes back later.

    <data>/sets/<id>/   imageset.json, pixels.u8, features-*.npy, events.jsonl while it is read
    <data>/runs/<id>/   request.json, events.jsonl, stop, claimed, attempts, worked.txt, reserve, journal.json,
                        checkpoints/, bundle/, report.json, name.txt, removed

`<id>` is the hash of a 128-bit key that only its owner holds: folders cannot be found by guessing, and what is on disk
does not give the key away. Whoever works on a run holds the lock on `claimed`, which ends with the process. A run whose
last event ends it is over; one that is `removed` is gone for everybody and goes from the disk once nobody works on it.
Whose turn it is says the store.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tl_core import disk
from tl_core.data.edits import Edit, from_record, to_record
from tl_core.errors import plain
from tl_core.events import LAST, Event, Paused, from_line, to_line
from tl_core.settings import Settings
from tl_core.training.plan import Plan

EVENTS, REQUEST, STOP, CLAIMED, ATTEMPTS = "events.jsonl", "request.json", "stop", "claimed", "attempts"
NAME, REMOVED, WORKED = "name.txt", "removed", "worked.txt"
# In the data folder: what living workers touch; workers die before they get that far.
WORKERS, TROUBLE = "workers", "worker.trouble"
_KEY = re.compile(r"[A-Za-z0-9_-]{22}")
_MOST_NAME = 80
_RESERVE_BYTES = 16_384


def new_key() -> str:
    """A fresh 128-bit key, URL-safe text of 22 characters."""
    return secrets.token_urlsafe(16)


def folder_of(parent: Path, key: str) -> Path | None:
    """The folder that belongs to `key`, existing or not; None when `key` cannot be one."""
    id = hashed(key)
    return None if id is None else parent / id


def hashed(key: object) -> str | None:
    """What is kept of a key; None when it cannot be one."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        return None
    return hashlib.sha256(key.encode()).hexdigest()[:32]


class EventLog:
    """The events of one folder, appended by one process and followed by any number of others."""

    def __init__(self, folder: Path) -> None:
        self._file, self._reserve = folder / EVENTS, folder / "reserve"
        self._offset = 0

    def append(self, event: Event) -> None:
        """Add a line; one that a killed process or a full disk left half-written is closed first. On a full disk the
        reserve of the folder is given up for it."""
        try:
            self._write(to_line(event))
        except OSError as error:
            if error.errno not in disk.FULL or not self._reserve.exists():
                raise
            self._reserve.unlink(missing_ok=True)
            self._write(to_line(event))

    def reserve(self) -> None:
        """Keep room for news of a disk that is full."""
        self._reserve.write_bytes(bytes(_RESERVE_BYTES))

    def _write(self, line: str) -> None:
        with self._file.open("ab+") as out:
            if out.tell() and os.pread(out.fileno(), 1, out.tell() - 1) != b"\n":
                out.write(b"\n")
            out.write(line.encode("ascii"))

    def new(self) -> list[Event]:
        """Events appended since the last call; none while there is no file."""
        try:
            with self._file.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        complete = data[: data.rfind(b"\n") + 1]  # a line being written is read next time
        self._offset += len(complete)
        return [event for line in complete.splitlines() if (event := _readable(line)) is not None]


def held(folder: Path) -> int:
    """A lock on `folder` that ends with `os.close` of it, or with the process. Raises BlockingIOError when another has
    it, and FileNotFoundError without a folder."""
    handle = os.open(folder / CLAIMED, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def is_held(folder: Path) -> bool:
    """Whether some live process has the lock on `folder`."""
    if not (folder / CLAIMED).exists():
        return False
    try:
        os.close(held(folder))
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def _readable(line: bytes) -> Event | None:
    """The event of a line, or None for what a kill or a full disk left of one."""
    try:
        return from_line(line.decode("ascii"))
    except ValueError:
        return None


@dataclass(frozen=True)
class Request:
    """What a run is to do: train by `plan` on the set in `set_folder`, changed by `edits`, with `device`; and whose it
    is (the hash of their key)."""

    set_folder: str
    plan: Plan
    device: str = "auto"
    edits: tuple[Edit, ...] = ()
    owner: str = ""


class RunFolder:
    """One run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @classmethod
    def create(cls, settings: Settings, key: str, request: Request) -> "RunFolder":
        """Make the folder of a run under `key`; it exists from the moment its request is complete."""
        path = folder_of(settings.runs_dir, key)
        assert path is not None, "keys come from new_key"
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path)
        EventLog(path).reserve()
        run.ask_for(request)
        return run

    def ask_for(self, request: Request) -> None:
        """Write what the run is to do, complete or not at all."""
        temporary = self.path / f"{REQUEST}.tmp"
        record = asdict(request) | {"edits": to_record(request.edits)}
        temporary.write_text(json.dumps(record), encoding="utf-8")
        temporary.replace(self.path / REQUEST)

    def request(self) -> Request:
        record = json.loads((self.path / REQUEST).read_text(encoding="utf-8"))
        edits = from_record(record.get("edits", ()))
        plan, owner = Plan.from_dict(record["plan"]), str(record.get("owner", ""))
        return Request(record["set_folder"], plan, record.get("device", "auto"), edits, owner)

    def claim(self) -> bool:
        """Take the run for this process until `release` or its death. False when another live process has it, or when
        it is gone."""
        try:
            self._lock = held(self.path)
        except (BlockingIOError, FileNotFoundError):
            return False
        if not (self.path / CLAIMED).exists():  # whoever had it deleted it
            self.release()
            return False
        return True

    def release(self) -> None:
        """Let go of a claimed run."""
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_UN)  # closing is not enough where a process was forked meanwhile
            os.close(self._lock)
            self._lock = None

    def free(self) -> bool:
        """Whether no live process has taken the run."""
        return not is_held(self.path)

    def ask_to_stop(self) -> None:
        (self.path / STOP).touch()

    def stop_asked(self) -> bool:
        return (self.path / STOP).exists()

    def name(self) -> str:
        """What the person calls it; "" while it has no name."""
        try:
            return plain((self.path / NAME).read_text(encoding="utf-8"), _MOST_NAME)
        except (OSError, ValueError):
            return ""

    def rename(self, name: str) -> None:
        temporary = self.path / f"{NAME}.tmp{threading.get_ident()}"
        temporary.write_text(plain(name, _MOST_NAME), encoding="utf-8")
        temporary.replace(self.path / NAME)

    def remove(self) -> bool:
        """Delete the run. False while a live process works on it: it is then asked to stop, the run is gone for
        everybody, and this is to be called again."""
        try:
            for name in (REMOVED, STOP):
                (self.path / name).touch()
        except FileNotFoundError:
            return True
        if not self.claim():
            return not self.path.exists()
        (self.path / REQUEST).unlink(missing_ok=True)  # first, so that nobody begins with it
        shutil.rmtree(self.path, ignore_errors=True)
        self.release()
        return not self.path.exists()

    def open_again(self, device: str | None = None) -> bool:
        """Make a run that the queue holds for over ready to go on from where it was left, on another device where one
        is given. False, and nothing happens, when somebody works on it."""
        if not self.claim():
            return False
        try:
            if device is not None:
                self.ask_for(replace(self.request(), device=device))
            if self.over():
                EventLog(self.path).append(Paused("tuning"))
            for name in (STOP, ATTEMPTS):
                (self.path / name).unlink(missing_ok=True)
            EventLog(self.path).reserve()
        finally:
            self.release()
        return True

    def count_attempt(self) -> int:
        """One more process begins with the run; how many did since it was asked for or last left in order."""
        with (self.path / ATTEMPTS).open("a+") as file:
            file.write("x")
            return file.tell()

    def left_in_order(self) -> None:
        """The process that leaves the run now did not die of it."""
        (self.path / ATTEMPTS).unlink(missing_ok=True)

    def seconds_worked(self) -> float:
        """What all processes that worked on the run so far took for it, by the clock."""
        try:
            return float((self.path / WORKED).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0.0

    def note_worked(self, seconds: float) -> None:
        """Keep that; a full disk may cost it, not the run."""
        with contextlib.suppress(OSError):
            temporary = self.path / f"{WORKED}.tmp"
            temporary.write_text(f"{seconds:.1f}", encoding="ascii")
            temporary.replace(self.path / WORKED)

    def over(self) -> bool:
        """Whether the last event ended the run."""
        events = EventLog(self.path).new()
        return bool(events) and isinstance(events[-1], LAST)


def all_runs(settings: Settings) -> Iterator[RunFolder]:
    """Every run, oldest request first."""
    found = []
    for path in settings.runs_dir.glob(f"*/{REQUEST}"):
        try:
            if not (path.parent / REMOVED).exists():
                found.append((path.stat().st_mtime_ns, path.parent))
        except FileNotFoundError:
            continue  # deleted by its owner just now
    for _, folder in sorted(found):
        yield RunFolder(folder)
