"""Sets of pictures behind their keys: reading uploads, what a person changed about a set, and the closer look at it.

<data>/sets/<id>/   name.txt  events.jsonl  edits.json  set/ (what was read)  collected/ (class by class)
"""

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tl_core import disk
from tl_core.bundle.table import table_csv
from tl_core.data.archive import Upload, is_archive
from tl_core.data.closer_look import CloserLook
from tl_core.data.edits import Edit, from_record, to_record
from tl_core.data.findings import Finding, findings
from tl_core.data.growth import grown
from tl_core.data.imageset import FILE, ImageSet, Reading
from tl_core.data.intake import prepare
from tl_core.data.pile import Pile
from tl_core.data.understand import understand
from tl_core.errors import TLError, plain
from tl_core.events import LAST, Event, Failed, PicturesReady
from tl_core.jobs.belongings import Belongings, sign
from tl_core.jobs.janitor import delete_set
from tl_core.jobs.runs import STOP, EventLog, folder_of, held, is_held, new_key
from tl_core.settings import Settings, scrubbed_environment
from tl_ui.collection import Collection
from tl_ui.downloads import Downloads
from tl_ui.words import say

SET, NAME, EDITS, COLLECTED = "set", "name.txt", "edits.json", "collected"
# One large upload leaves room for another; the others wait for their turn (SECURITY 5.1, case 39). A closer look needs
# both cores and much memory.
_AT_ONCE = {"fetch": 2, "read": 2, "look": 1}
_WAIT = 0.2  # seconds between two looks at whether somebody who waits has gone
_KEPT = 4  # readings in memory
_ROOT = Path(__file__).parents[1]
log = logging.getLogger("transfer_lab.page")

# Lays the pictures of a set into a folder, telling how that goes, until it is to stop; and the same for one folder.
Fetch = Callable[[Path, Callable[[], bool]], Iterator[Event]]
Before = Callable[[Callable[[], bool]], Iterator[Event]]


class _GoneError(Exception):
    """Nobody waits for this any more."""


class Sets:
    """All sets of one data folder."""

    def __init__(self, settings: Settings, belongings: Belongings) -> None:
        self._settings, self._belongings = settings, belongings
        self._free = {kind: threading.BoundedSemaphore(most) for kind, most in _AT_ONCE.items()}
        self._busy: dict[Path, int] = {}  # what is being read here, with the lock that tells others so
        self._looking: set[Path] = set()
        self._looker: subprocess.Popen[bytes] | None = None
        self._closed = threading.Event()
        self._readings: OrderedDict[Path, Reading] = OrderedDict()
        self._lock = threading.Lock()
        self.changing = threading.Lock()  # held from reading what is changed about a set to keeping more of it

    # reading

    def take(self, files: Sequence[tuple[str, Path]], name: str, *, owner: str = "") -> str:
        """Start reading `files` (path as the person knows it, file on disk) in the background; gives the set's key.

        Archives are uploads of their own; all else together is one. Raises OwnerFullError.
        """
        key, folder = self._new(name, owner)
        uploads: list[Upload] = []
        loose: list[tuple[str, Path]] = []
        for number, (told, file) in enumerate(files):
            own = folder / "uploads" / f"{number:06}"
            _link(file, own)
            if "/" not in told and is_archive(told, own):  # of what lies in a folder, archives are only skipped
                uploads.append(Upload(plain(told), own))
            else:
                loose.append((told, own))
        if loose:
            uploads.append(Upload("files" if uploads else plain(name), files=tuple(loose)))
        self._begin(folder, uploads, name)
        return key

    def fetch(self, name: str, fetched: Fetch, *, owner: str = "") -> str:
        """Start reading what `fetched` lays into a folder, in the background; gives the set's key. Raises
        OwnerFullError."""
        key, folder = self._new(name, owner)
        into = folder / "uploads" / "fetched"
        into.parent.mkdir()
        self._begin(folder, [Upload(plain(name), into)], name, lambda stop: fetched(into, stop))
        return key

    def grow(
        self,
        base: Path,
        edits: Sequence[Edit],
        pile: Pile,
        labels: Mapping[int, str],
        *,
        after: Sequence[Edit] = (),
        owner: str = "",
    ) -> str:
        """A new set: the one read into `base`, changed by `edits`, with the pictures at the places `labels` of `pile`
        in their classes, and then changed by `after`. Gives its key. Raises TooLargeError, DiskFullError and
        OwnerFullError."""
        reading = Reading.load(base)
        key, folder = self._new(reading.source, owner)
        try:
            made, changed = grown(reading, edits, pile, labels, folder / SET, self._settings)
            self.change(key, (*changed, *after))
            images = understand(made, (*changed, *after))
            counted = len(images.pictures), len(images.class_names), len(images.skipped)
            EventLog(folder).append(PicturesReady(str(made.folder), *counted))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._looking.add(folder)
        threading.Thread(target=self._look_closer, args=(folder,), name="looking", daemon=True).start()
        return key

    def holds(self, key: str, base: Path) -> bool:
        """Whether the set behind `key` is the one read into `base`, or was grown from it: every row of that is the same
        picture here."""
        reading = self.reading(key)
        if reading is None or reading.folder == base:
            return reading is not None
        try:
            old = Reading.load(base).stored
        except (OSError, ValueError, KeyError):
            return False
        return [one.digest for one in old] == [one.digest for one in reading.stored[: len(old)]]

    def _new(self, name: str, owner: str) -> tuple[str, Path]:
        key, folder = self._new_folder(owner)
        (folder / NAME).write_text(plain(name), encoding="utf-8")
        return key, folder

    def _new_folder(self, owner: str) -> tuple[str, Path]:
        self._belongings.admit(owner)
        key = new_key()
        folder = folder_of(self._settings.sets_dir, key)
        assert folder is not None, "keys come from new_key"
        folder.mkdir(parents=True)
        sign(folder, owner)
        return key, folder

    def _begin(self, folder: Path, uploads: Sequence[Upload], name: str, before: Before | None = None) -> None:
        self._busy[folder] = held(folder)
        work = (folder, uploads, name, before)
        threading.Thread(target=self._read, args=work, name="reading", daemon=True).start()

    def _read(self, folder: Path, uploads: Sequence[Upload], name: str, before: Before | None) -> None:
        events, stop = EventLog(folder), folder / STOP
        read = False
        try:
            if before is not None:
                with self._turn("fetch", stop.exists):
                    for event in before(stop.exists):
                        events.append(event)
            with self._turn("read", stop.exists):
                for event in prepare(uploads, folder / SET, self._settings, name=name, should_stop=stop.exists):
                    read = isinstance(event, PicturesReady)
                    if read:
                        self._looking.add(folder)
                    events.append(event)
        except _GoneError:
            pass
        except TLError as error:
            events.append(Failed.of(error))
        except Exception as error:
            log.exception("reading %s failed", folder.name)
            events.append(Failed.of(disk.trouble(error, folder) or error))
        finally:
            shutil.rmtree(folder / "uploads", ignore_errors=True)
            if stop.exists():
                (folder / NAME).unlink(missing_ok=True)  # gone for the page at once
                shutil.rmtree(folder, ignore_errors=True)
            os.close(self._busy.pop(folder))
        if read:
            self._look_closer(folder)

    @contextlib.contextmanager
    def _turn(self, kind: str, gone: Callable[[], bool]) -> Iterator[None]:
        """A turn at work of that kind, waited for. Raises _GoneError when nobody wants it any more."""
        while not self._free[kind].acquire(timeout=_WAIT):
            if gone() or self._closed.is_set():
                raise _GoneError
        try:
            yield
        finally:
            self._free[kind].release()

    def _look_closer(self, folder: Path) -> None:
        """Have the closer look taken by a process of its own; the page does not wait for it."""
        environment = scrubbed_environment(PYTHONPATH=str(_ROOT), TL_DATA_DIR=str(self._settings.data_dir))
        command = [sys.executable, "-m", "tl_core.review", str(folder / SET)]
        try:
            with self._turn("look", lambda: not folder.exists()):
                self._looker = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, cwd=_ROOT)
                while self._looker.poll() is None and not self._closed.wait(_WAIT):
                    if not folder.exists():
                        break
                self._looker.kill()
                self._looker.wait()
        except _GoneError:
            pass
        except OSError:
            log.exception("the closer look at %s could not be taken", folder.name)
        finally:
            self._looking.discard(folder)

    @property
    def busy(self) -> bool:
        """Whether anything is being read."""
        return bool(self._busy)

    def tidy(self) -> None:
        """Remove what readings that a restart cut off have left; their pages are told that they are gone. What cannot
        be looked at or removed is no reason not to begin."""
        for folder in self._settings.sets_dir.glob("*"):
            with contextlib.suppress(OSError):
                if is_held(folder):
                    continue
                shutil.rmtree(folder / "uploads", ignore_errors=True)
                if not (folder / SET / FILE).exists():
                    shutil.rmtree(folder / SET, ignore_errors=True)

    def cancel(self, key: str) -> None:
        folder = self.find(key)
        if folder is not None and not (folder / SET / FILE).exists():
            (folder / STOP).touch()

    def remove(self, key: str) -> None:
        """Delete the set behind `key`, read or being read; runs made from it keep their models."""
        folder = self.find(key)
        if folder is None:
            return
        if is_held(folder):
            (folder / STOP).touch()
        else:
            delete_set(self._settings, folder)

    def name(self, key: str) -> str | None:
        """What the upload behind `key` was called; None when there is no such set."""
        folder = self.find(key)
        with contextlib.suppress(OSError):
            return None if folder is None else (folder / NAME).read_text(encoding="utf-8")
        return None

    def lost(self, key: str) -> bool:
        """Whether the reading behind `key` neither ended nor goes on: the program was restarted in the middle."""
        folder = self.find(key)
        if folder is None or is_held(folder):
            return False
        events = EventLog(folder).new()
        return not events or not isinstance(events[-1], LAST)

    def log(self, key: str) -> EventLog | None:
        folder = self.find(key)
        return None if folder is None else EventLog(folder)

    # understanding

    def reading(self, key: str) -> Reading | None:
        """What was read of the upload behind `key`."""
        folder = self.find(key)
        if folder is None:
            return None
        with self._lock:
            if folder not in self._readings:
                try:
                    self._readings[folder] = Reading.load(folder / SET)
                except (OSError, ValueError, KeyError):
                    return None
                while len(self._readings) > _KEPT:
                    self._readings.popitem(last=False)
            self._readings.move_to_end(folder)
            return self._readings[folder]

    def images(self, key: str) -> ImageSet | None:
        """The set behind `key` as it is now, with the person's changes; None while there is none."""
        reading = self.reading(key)
        if reading is None:
            return None
        look = CloserLook.load(reading.folder)
        return understand(reading, self.edits(key), look.near if look is not None else ())

    def findings(self, key: str, images: ImageSet) -> tuple[Finding, ...]:
        """What is odd about the set behind `key`, as it is now."""
        return findings(images, self._settings, CloserLook.load(images.folder), self.edits(key))

    def edits(self, key: str) -> tuple[Edit, ...]:
        """What the person has changed about the set behind `key`, in order."""
        folder = self.find(key)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return () if folder is None else from_record(json.loads((folder / EDITS).read_text(encoding="utf-8")))
        return ()

    def change(self, key: str, edits: Sequence[Edit]) -> None:
        """Keep `edits` as all that is changed about the set behind `key`; runs begun before have theirs."""
        folder = self.find(key)
        if folder is not None:
            temporary = folder / f"{EDITS}.tmp{threading.get_ident()}"
            temporary.write_text(json.dumps(to_record(edits)), encoding="utf-8")
            temporary.replace(folder / EDITS)

    def skipped_file(self, key: str, images: ImageSet, language: str) -> str | None:
        """The files of the set behind `key` that are not used and why, as a CSV file to download; None without any."""
        folder = self.find(key)
        if folder is None or not images.skipped:
            return None
        path = Downloads(self._settings).fixed_place(folder.name, f"not-used-{language}.csv")
        rows = [(file.name, say(language, f"skip.{file.reason}")) for file in images.skipped]
        path.write_text(table_csv((say(language, "data.col_file"), say(language, "data.col_reason")), rows), "utf-8")
        return str(path)

    def looking(self, key: str) -> bool:
        """Whether the closer look at the set behind `key` is still being taken, or waits for its turn."""
        return self.find(key) in self._looking

    def close(self) -> None:
        """End the closer looks that are still being taken; whoever trains on such a set takes its look then."""
        self._closed.set()
        while self._looking:
            time.sleep(0.01)

    # collecting, class by class

    def new_collection(self, owner: str = "") -> str:
        """The key of a new, empty collection. Raises OwnerFullError."""
        return self._new_folder(owner)[0]

    def collection(self, key: object) -> Collection | None:
        """The collection behind `key`; None when it is gone."""
        folder = self.find(key)
        return None if folder is None else Collection(folder / COLLECTED, self._settings)

    def find(self, key: object) -> Path | None:
        """The folder behind `key`, if it is there."""
        folder = folder_of(self._settings.sets_dir, key) if isinstance(key, str) else None
        return folder if folder is not None and folder.is_dir() else None


def _link(file: Path, own: Path) -> None:
    """`file` also under the name `own`: not moved, as two people who upload the same file share one of Gradio's."""
    own.parent.mkdir(exist_ok=True)
    try:
        os.link(file, own)
    except OSError:
        shutil.copyfile(file, own)
