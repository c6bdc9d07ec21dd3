"""Turns uploads into a saved `Reading` by driving the limited child that does the opening and decoding.

The child may die of any file: its lines come in order, so the file that killed it is known, named and left out, and a
fresh child goes on behind it. Nothing stays in the folder when the upload is refused.
"""

import contextlib
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tl_core import disk, errors
from tl_core.data.archive import Upload
from tl_core.data.child import SilentError, child_lines
from tl_core.data.imageset import FILE, PIXELS, RGB, THUMBS, Classes, Reading, Skipped, Stored
from tl_core.data.layout import PARTS, Part, looks_like_picture
from tl_core.data.understand import understand
from tl_core.data.uploads import told_apart
from tl_core.errors import IntakeError, plain
from tl_core.events import Event, PicturesReady, Progress
from tl_core.settings import Settings, scrubbed_environment

ORIGINALS = "originals"  # the files as they came, one behind the other
_REPORT_EVERY = 0.2  # seconds between two progress events
_MAX_DEATHS = 50  # a set that kills more children than this is given up
_MUCH = 200_000_000  # bytes
_MAX_THREADS = 4  # they share the child's memory limit


@dataclass
class _SoFar:
    """What the children have said so far."""

    total: int = 0
    listed: bool = False
    ignored: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    ways: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    stored: int = 0  # of `rows` could be read
    offset: int = 0  # bytes of pixels that belong to them
    originals: int = 0  # bytes of files that are kept as they came
    next: int = 0  # the picture the next line will be about
    complete: bool = False


def prepare(
    source: Path | Sequence[Upload],
    folder: Path,
    settings: Settings,
    *,
    name: str | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Read `source` (a zip, tar or folder; or several uploads) into `folder`, yielding progress and `PicturesReady`
    last. `understand.load(folder)` is then the set.

    `name` is what the person called all of it. Stops without an event when `should_stop` says so. Raises IntakeError.
    """
    uploads = (Upload(plain(name or source.name), source),) if isinstance(source, Path) else tuple(source)
    told = told_apart([upload.name for upload in uploads])
    uploads = tuple(replace(upload, name=own) for upload, own in zip(uploads, told, strict=True))
    name = plain(name or ", ".join(told))
    for upload in uploads:
        if upload.path is not None:
            _check_place(upload.path, folder)
    errors.refuse_foreign(folder, FILE)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    finished = False
    try:
        disk.need(folder, settings.free_disk_reserve)
        so_far = _SoFar()
        yield from _read(uploads, folder, settings, so_far, should_stop, name=name)
        if not so_far.complete or should_stop():
            return
        reading = _reading(so_far, folder, name, settings)
        images = understand(reading)
        reading.save()
        finished = True
        yield PicturesReady(str(folder), len(images.pictures), len(images.class_names), len(images.skipped))
    finally:
        if not finished:
            _discard(folder)


def _discard(folder: Path) -> None:
    """Remove what was read; much of it in the background, as gigabytes take seconds to go."""
    pixels = folder / PIXELS
    if pixels.exists() and pixels.stat().st_size > _MUCH:
        gone = folder.with_name(f".{folder.name}-{os.urandom(4).hex()}")
        folder.rename(gone)
        threading.Thread(target=shutil.rmtree, args=(gone, True), name="discarding").start()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _check_place(source: Path, folder: Path) -> None:
    """Raises OptionError unless `source` can be read and `folder` is beside it."""
    if not source.exists():
        raise errors.OptionError(
            option="DATA", found=f"no file or folder “{source}”", needed="a zip or a folder is needed"
        )
    if not os.access(source, os.R_OK):
        raise errors.OptionError(option="DATA", found=f"“{source}” may not be read", needed="check its permissions")
    inside = folder.resolve().is_relative_to(source.resolve()) or source.resolve().is_relative_to(folder.resolve())
    if inside:
        found = f"“{folder.name}”, which is inside or around the pictures"
        raise errors.OptionError(option="--out", found=found, needed="choose a folder beside them")


def decode_files(files: list[Path], settings: Settings) -> list[RGB | str]:
    """Each file as (H, W, 3) uint8 RGB, decoded in the limited child, or the code of the reason why not."""
    scratch = settings.data_dir / "scratch" / os.urandom(8).hex()
    scratch.mkdir(parents=True)
    try:
        # Under plain numbers, so that no name matters.
        upload = Upload("", files=tuple((f"{number:06}", file.resolve()) for number, file in enumerate(files)))
        reading = _SoFar()
        # What was read until then counts.
        with contextlib.suppress(errors.IntakeCrashedError, errors.TooSlowError):
            for _ in _read((upload,), scratch, settings, reading, lambda: False, loose=True):
                pass
        results: list[RGB | str] = ["crashed"] * len(files)
        for name, reason in reading.skipped:
            results[int(name)] = reason
        pixels = np.memmap(scratch / PIXELS, dtype=np.uint8, mode="r") if reading.offset else np.empty(0, np.uint8)
        for row in reading.rows:
            if "skip" in row:
                results[int(row["name"])] = row["skip"]
                continue
            shape = (row["height"], row["width"], 3)
            size = row["height"] * row["width"] * 3
            results[int(row["name"])] = np.array(pixels[row["offset"] : row["offset"] + size]).reshape(shape)
        return results
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@dataclass(frozen=True)
class Kept:
    """How much a folder holds: pictures in the store, bytes of their pixels, bytes of the files they came in."""

    stored: int = 0
    offset: int = 0
    originals: int = 0


@dataclass(frozen=True)
class Loose:
    """What was read of one upload whose folders mean nothing. `rows` are the child's lines, in the order of the upload;
    `skipped` the names that are no files worth reading and why; `ignored` counts what an operating system left behind.
    `kept` is what the folder holds now; `problem` why not everything was read."""

    rows: tuple[dict[str, Any], ...]
    skipped: tuple[tuple[str, str], ...]
    ignored: int
    kept: Kept
    problem: IntakeError | None = None


def read_loose(
    upload: Upload, folder: Path, settings: Settings, kept: Kept, *, most: int, should_stop: Callable[[], bool]
) -> Generator[Progress, None, Loose]:
    """Add the pictures of `upload` to the store in `folder`, which holds `kept`, and all its files to the originals.

    Raises TooLargeError as soon as it is known to hold more than `most` files, and DiskFullError.
    """
    so_far, problem = _SoFar(stored=kept.stored, offset=kept.offset, originals=kept.originals), None
    try:
        for event in _read(
            (upload,), folder, settings, so_far, should_stop, name=upload.name, loose=True, originals=True
        ):
            _check_files(so_far, upload.name, most)
            if isinstance(event, Progress):
                yield event
        _check_files(so_far, upload.name, most)
    except errors.DiskFullError:
        raise
    except IntakeError as error:
        _check_files(so_far, upload.name, most)
        problem = error
    now = Kept(so_far.stored, so_far.offset, so_far.originals)
    return Loose(tuple(so_far.rows), tuple(so_far.skipped), so_far.ignored, now, problem)


def _check_files(so_far: _SoFar, name: str, most: int) -> None:
    if (found := so_far.total + len(so_far.skipped)) > most:
        raise errors.TooLargeError(found=f"{found:,}", unit="files", name=name, limit=f"{most:,}")


def _read(
    uploads: Sequence[Upload],
    folder: Path,
    settings: Settings,
    reading: _SoFar,
    should_stop: Callable[[], bool],
    *,
    name: str = "",
    loose: bool = False,
    originals: bool = False,
) -> Iterator[Event]:
    """Fill `reading` with as many children as it takes."""
    most = min(_MAX_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    job: dict[str, Any] = {
        "uploads": [upload.to_json() for upload in uploads],
        "settings": settings.to_json(),
        "pixels": str(folder.resolve() / PIXELS),
        "thumbs": str(folder.resolve() / THUMBS),
        "originals": str(folder.resolve() / ORIGINALS) if originals else "",
        "loose": loose,
        "blamed": [],
    }
    clock, deaths, alone = _Clock(name, settings), 0, False
    while deaths < _MAX_DEATHS:
        until = reading.next + 2 * most if alone else settings.max_entries
        job |= {"offset": reading.offset, "stored": reading.stored, "start": reading.next, "until": until}
        job["originals_at"] = reading.originals
        job["threads"] = 1 if alone else most
        for line in _child_lines(job, settings, should_stop):
            _take(line, reading)
            if reading.complete:
                break  # and not wait for the child to tidy up
            yield from clock.told(reading)
        if should_stop():
            return
        if reading.complete:
            yield Progress("reading", reading.total, reading.total, 0.0)
            return
        if not reading.listed:
            break
        if reading.next == until:  # got past the place where a child had died: all threads again
            alone = False
            continue
        # The child died. With one thread, the picture whose line is missing is the culprit; with more, find out first.
        deaths += 1
        if alone:
            job["blamed"].append(reading.next)
        alone = True
    raise errors.IntakeCrashedError(name=name)


class _Clock:
    """How long a reading takes, told now and then, and when it is too long."""

    def __init__(self, name: str, settings: Settings) -> None:
        self._name, self._most = name, settings.max_reading_seconds
        self._started, self._reported = time.monotonic(), 0.0

    def told(self, reading: _SoFar) -> Iterator[Event]:
        """The progress, if it is time to tell it. Raises TooSlowError."""
        now = time.monotonic()
        if now - self._started > self._most:
            raise errors.TooSlowError(name=self._name, done=reading.next, total=reading.total)
        if now - self._reported > _REPORT_EVERY and reading.total:
            self._reported = now
            left = (now - self._started) / max(reading.next, 1) * (reading.total - reading.next)
            yield Progress("reading", reading.next, reading.total, left if reading.next else None)


def _take(line: dict[str, Any], reading: _SoFar) -> None:
    if "error" in line:
        raise _error(line)
    if "listed" in line:
        return
    if "total" in line:
        if not reading.listed:  # a second child sees the same
            reading.total, reading.ignored, reading.listed = line["total"], line["ignored"], True
            reading.skipped, reading.ways = line["skipped"], line["ways"]
    else:
        reading.rows.append(line)
        reading.next = line["n"] + 1
        if "original" in line:
            reading.originals = sum(line["original"])
        if "skip" not in line:
            reading.stored += 1
            reading.offset = max(reading.offset, line["offset"] + line["height"] * line["width"] * 3)
    reading.complete = reading.listed and reading.next >= reading.total


def _error(line: dict[str, Any]) -> IntakeError:
    """The child's error as its class again; its values were cleaned where they arose."""
    kind = getattr(errors, line["error"], None)
    if isinstance(kind, type) and issubclass(kind, IntakeError):
        return kind(**line["values"])
    return IntakeError()


def _child_lines(job: dict[str, Any], settings: Settings, should_stop: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """The lines of one child, until it ends, hangs on one picture for too long, or is to stop."""
    environment = scrubbed_environment(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    seconds = float(settings.decoder_seconds_per_picture)
    with contextlib.suppress(SilentError):
        yield from child_lines(
            "tl_core.data.decoder_process", job, environment, silence=lambda: seconds, should_stop=should_stop
        )


def _reading(so_far: _SoFar, folder: Path, name: str, settings: Settings) -> Reading:
    """What the children said, as it is kept. Raises IntakeError when no way to read the classes gives two."""
    skipped = [(plain(file, 200), reason) for file, reason in so_far.skipped]
    failed = [(plain(row["name"], 200), row["skip"]) for row in so_far.rows if "skip" in row]
    stored = [row for row in so_far.rows if "skip" not in row]
    every = [_classes(way, so_far.rows) for way in so_far.ways]
    ways = tuple(way for way in every if 2 <= len(_labels(way)) <= settings.max_classes)
    if not stored:
        skipped += [(s.name, s.reason) for way in every[:1] for s in way.skipped]
        raise _none_usable(skipped + failed, name)
    if not ways:
        labels = _labels(every[0])
        if len(labels) > settings.max_classes:
            raise errors.TooManyClassesError(found=len(labels), limit=settings.max_classes)
        if not labels:
            raise errors.NoClassFoldersError(name=name, found=len(stored))
        raise errors.OneClassError(label=labels.pop())
    return Reading(
        folder=folder,
        source=name,
        stored=tuple(
            Stored(
                name=plain(row["name"], 200),
                digest=row["digest"],
                offset=row["offset"],
                height=row["height"],
                width=row["width"],
                traits=tuple(row["traits"]),
            )
            for row in stored
        ),
        ways=ways,
        skipped=tuple(Skipped(file, reason) for file, reason in skipped + failed),
        ignored=so_far.ignored,
    )


def _labels(way: Classes) -> set[str]:
    return {label for label in way.labels if label is not None} | set(way.empty)


def _classes(way: dict[str, Any], rows: list[dict[str, Any]]) -> Classes:
    """A way as the child told it, for the pictures that could be read."""
    labels: list[str | None] = []
    parts: list[Part] = []
    tried: set[str] = set()
    skipped = [Skipped(plain(name, 200), reason) for name, reason in way["skipped"]]
    for row, place in zip(rows, way["places"], strict=True):
        label, part = (None, "") if isinstance(place, str) else place
        # A folder is a class when it holds a readable picture; one whose pictures all failed must not vanish unseen.
        if "skip" in row:
            if label is not None and row["skip"] != "not_a_picture":
                tried.add(label)
            continue
        labels.append(label)
        parts.append(_part(part))
        if label is None:
            skipped.append(Skipped(plain(row["name"], 200), place))
    empty = tuple(sorted(tried - set(labels)))
    values = {key: plain(value) for key, value in way["values"].items()}
    id = way["id"].encode("utf-8", "replace").decode()
    return Classes(id, way["kind"], values, way["guess"], tuple(labels), tuple(parts), empty, tuple(skipped))


def _none_usable(skipped: list[tuple[str, str]], name: str) -> IntakeError:
    """Why not one picture of an upload can be used."""
    reasons = Counter(reason for _, reason in skipped)
    damaged = sum(
        reasons[reason] for reason in ("damaged", "unsupported_picture", "too_many_pixels", "too_large_file", "crashed")
    )
    if damaged:
        return errors.UnreadablePicturesError(name=name, found=damaged)
    if reasons["unsupported_compression"]:
        return errors.CompressionError(name=name)
    loose = sum(reason in ("no_class_folder", "outside_parts") and looks_like_picture(file) for file, reason in skipped)
    return errors.NoClassFoldersError(name=name, found=loose) if loose else errors.NoPicturesError(name=name)


def _part(text: str) -> Part:
    return next((part for part in PARTS if part == text), "")
