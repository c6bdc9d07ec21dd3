"""Turns an upload into a prepared `ImageSet` by driving the limited child that does the opening and decoding.

The child may die of any file: its lines come in order, so the file that killed it is known, named and left out, and a
fresh child goes on behind it. Nothing stays in the folder when the upload is refused.
"""

import base64
import contextlib
import json
import os
import selectors
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tl_core import errors
from tl_core.data.imageset import FILE, PIXELS, RGB, ImageSet, Picture, Remark, Skipped
from tl_core.data.layout import PARTS, Part, looks_like_picture, merge_labels, natural_order
from tl_core.data.quality import THUMB_SIDE, copy_groups, remarks
from tl_core.errors import IntakeError, plain
from tl_core.events import Event, PicturesReady, Progress
from tl_core.settings import Settings, scrubbed_environment

_REPORT_EVERY = 0.2  # seconds between two progress events
_MAX_DEATHS = 50  # a set that kills more children than this is given up
_MAX_THREADS = 4  # they share the child's memory limit


@dataclass
class _Reading:
    """What the children have said so far."""

    total: int = 0
    listed: bool = False
    ignored: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    offset: int = 0  # bytes of pixels that belong to `rows`
    next: int = 0  # the picture the next line will be about
    complete: bool = False


def prepare(
    source: Path,
    folder: Path,
    settings: Settings,
    *,
    name: str | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Read `source` (zip or folder) into `folder`, yielding progress and `PicturesReady` last.

    `name` is what the person called the upload. Stops without an event when `should_stop` says so. Raises IntakeError.
    """
    name = plain(name or source.name)
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
    errors.refuse_foreign(folder, FILE)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    finished = False
    try:
        free = shutil.disk_usage(folder).free
        if free < settings.free_disk_reserve:
            raise errors.DiskFullError(free=f"{free / 1e9:.1f} GB")
        reading = _Reading()
        yield from _read(source, folder, settings, reading, should_stop, name=name)
        if not reading.complete:
            return
        made = _understand(reading, folder, name, settings)
        made.save()
        finished = True
        yield PicturesReady(str(folder), len(made.pictures), len(made.class_names), len(made.skipped))
    finally:
        if not finished:
            shutil.rmtree(folder, ignore_errors=True)


def decode_files(files: list[Path], settings: Settings) -> list[RGB | str]:
    """Each file as (H, W, 3) uint8 RGB, decoded in the limited child, or the code of the reason why not."""
    scratch = settings.data_dir / "scratch" / os.urandom(8).hex()
    uploads = scratch / "files"
    uploads.mkdir(parents=True)
    try:
        for number, file in enumerate(files):
            # Under plain numbers, so that no name matters; hard links, or copies from another disk.
            own = uploads / f"{number:06}"
            try:
                os.link(file.resolve(), own)
            except OSError:
                shutil.copyfile(file, own)
        reading = _Reading()
        with contextlib.suppress(errors.IntakeCrashedError):  # what was read until then counts
            for _ in _read(uploads, scratch, settings, reading, lambda: False, loose=True):
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


def _read(
    source: Path,
    folder: Path,
    settings: Settings,
    reading: _Reading,
    should_stop: Callable[[], bool],
    *,
    name: str = "",
    loose: bool = False,
) -> Iterator[Event]:
    """Fill `reading` with as many children as it takes."""
    most = min(_MAX_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    job: dict[str, Any] = {
        "source": str(source.resolve()),
        "name": name,
        "settings": settings.to_json(),
        "pixels": str(folder.resolve() / PIXELS),
        "loose": loose,
        "blamed": [],
    }
    started, reported, deaths, alone = time.monotonic(), 0.0, 0, False
    while deaths < _MAX_DEATHS:
        until = reading.next + 2 * most if alone else settings.max_entries
        job |= {"offset": reading.offset, "start": reading.next, "until": until, "threads": 1 if alone else most}
        for line in _child_lines(job, settings, should_stop):
            _take(line, reading)
            if reading.complete:
                break  # and not wait for the child to tidy up
            now = time.monotonic()
            if now - reported > _REPORT_EVERY and reading.total:
                reported = now
                left = (now - started) / max(reading.next, 1) * (reading.total - reading.next)
                yield Progress("reading", reading.next, reading.total, left if reading.next else None)
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


def _take(line: dict[str, Any], reading: _Reading) -> None:
    if "error" in line:
        raise _error(line)
    if "total" in line:
        reading.total, reading.ignored, reading.listed = line["total"], line["ignored"], True
        reading.skipped = [(plain(name, 200), reason) for name, reason in line["skipped"]]
    else:
        reading.rows.append(line)
        reading.next = line["n"] + 1
        if "skip" not in line:
            line["offset"] = reading.offset
            reading.offset += line["height"] * line["width"] * 3
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
    command = [sys.executable, "-m", "tl_core.data.decoder_process"]
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # Ctrl-C in a terminal is for the parent, which then ends this child
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps(job).encode())
            child.stdin.close()
        buffer, patience = b"", time.monotonic() + settings.decoder_seconds_per_picture
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while time.monotonic() < patience and not should_stop():
                if not selector.select(timeout=0.2):
                    continue
                chunk = os.read(child.stdout.fileno(), 1 << 16)
                if not chunk:
                    return
                patience = time.monotonic() + settings.decoder_seconds_per_picture
                *lines, buffer = (buffer + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def _understand(reading: _Reading, folder: Path, name: str, settings: Settings) -> ImageSet:
    """The set that the rows make. Raises IntakeError when they do not make one."""
    skipped = reading.skipped + [(plain(row["name"], 200), row["skip"]) for row in reading.rows if "skip" in row]
    rows = [row for row in reading.rows if "skip" not in row]
    if not rows:
        raise _none_usable(skipped, name)
    # A folder is a class when it holds a readable picture; one whose pictures all failed must not vanish unseen.
    tried_labels = {row["label"] for row in reading.rows if row.get("skip") != "not_a_picture"}
    shown, changed = merge_labels(tried_labels)
    class_names = tuple(sorted(set(shown.values()), key=natural_order))
    if len(class_names) == 1:
        raise errors.OneClassError(label=class_names[0])
    if len(class_names) > settings.max_classes:
        raise errors.TooManyClassesError(found=len(class_names), limit=settings.max_classes)
    number = {label: i for i, label in enumerate(class_names)}
    thumbs = np.stack([np.frombuffer(base64.b64decode(row["thumb"]), dtype=np.uint8) for row in rows])
    assert thumbs.shape[1] == 3 * THUMB_SIDE**2
    groups = copy_groups([row["hash"] for row in rows], thumbs)
    pictures = tuple(
        Picture(
            name=plain(row["name"], 200),
            label=number[shown[row["label"]]],
            part=_part(row["part"]),
            group=group,
            offset=row["offset"],
            height=row["height"],
            width=row["width"],
        )
        for row, group in zip(rows, groups, strict=True)
    )
    different: list[set[int]] = [set() for _ in class_names]
    for picture in pictures:
        different[picture.label].add(picture.group)
    for label, distinct in zip(class_names, different, strict=True):
        if len(distinct) < settings.min_pictures_per_class:
            raise errors.TooFewPicturesError(label=label, found=len(distinct), needed=settings.min_pictures_per_class)
    notes = [Remark("renamed_class", {"written": written, "shown": to}) for written, to in changed]
    return ImageSet(
        folder=folder,
        source=name,
        class_names=class_names,
        pictures=pictures,
        skipped=tuple(Skipped(file, reason) for file, reason in skipped),
        remarks=(*notes, *remarks(pictures, class_names)),
        ignored=reading.ignored,
    )


def _none_usable(skipped: list[tuple[str, str]], name: str) -> IntakeError:
    """Why not one picture of an upload can be used."""
    reasons = Counter(reason for _, reason in skipped)
    damaged = sum(reasons[reason] for reason in ("damaged", "too_many_pixels", "too_large_file", "crashed"))
    if damaged:
        return errors.UnreadablePicturesError(name=name, found=damaged)
    if reasons["unsupported_compression"]:
        return errors.CompressionError(name=name)
    loose = sum(reason in ("no_class_folder", "outside_parts") and looks_like_picture(file) for file, reason in skipped)
    return errors.NoClassFoldersError(name=name, found=loose) if loose else errors.NoPicturesError(name=name)


def _part(text: str) -> Part:
    return next((part for part in PARTS if part == text), "")
