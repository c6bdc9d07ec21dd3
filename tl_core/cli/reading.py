"""Pictures for the command line: read once, described in words."""

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tl_core import wording
from tl_core.cli.terminal import show
from tl_core.data.closer_look import CloserLook
from tl_core.data.edits import Edit, Relabel
from tl_core.data.findings import Finding, findings
from tl_core.data.imageset import PIXELS, ImageSet, Reading
from tl_core.data.intake import prepare
from tl_core.data.understand import load, ready, unconfirmed, way_of
from tl_core.errors import NothingTrainedError, OptionError
from tl_core.hub_data.fetch import fetch, from_hub
from tl_core.settings import Settings

_STAMP = "source.json"


@dataclass(frozen=True)
class Understood:
    """A set as it was read: `edits` are the choices made for it, `found` is what is odd about it."""

    reading: Reading
    edits: tuple[Edit, ...]
    images: ImageSet
    found: tuple[Finding, ...]


def add_way(command: argparse.ArgumentParser) -> None:
    """The option by which a person says how classes are to be read."""
    command.add_argument(
        "--classes-from",
        default="",
        metavar="WAY",
        help="folders, names (of the files), or table:FILE:COLUMN; `inspect` says which there are",
    )


def prepared(
    data: Path, folder: Path, should_stop: Callable[[], bool], *, way: str = "", as_lines: bool = False
) -> Understood:
    """The set in `data`, read into `folder` and looked at closely, or what is there already from the same data; its
    classes read the `way` that is asked for. Raises OptionError when there is no such way."""
    settings = Settings.from_environment()
    if not _is_there(data, folder):
        source = data
        if from_hub(data):
            source = folder.with_name(f"{folder.name}-fetched")
            shutil.rmtree(source, ignore_errors=True)
            show(fetch(str(data), source, settings, should_stop=should_stop), as_lines=as_lines)
        if not should_stop():
            show(prepare(source, folder, settings, should_stop=should_stop), as_lines=as_lines)
        if source is not data:
            shutil.rmtree(source, ignore_errors=True)
        if should_stop():
            raise NothingTrainedError
        (folder / _STAMP).write_text(json.dumps(_stamp(data)))
    from tl_core.review import review  # and with it torch: a wrong path is answered without

    show(review(folder, settings=settings, should_stop=should_stop), as_lines=as_lines)
    if should_stop():
        raise NothingTrainedError
    reading = Reading.load(folder)
    if way and way not in (known := [one.id for one in reading.ways]):
        raise OptionError(
            option="--classes-from", found=f"“{way}”", needed=f"one of these is needed: {', '.join(known)}"
        )
    edits = (Relabel(way),) if way else ()
    images = load(folder, edits)
    return Understood(reading, edits, images, findings(images, settings, CloserLook.load(folder), edits))


def to_train_on(understood: Understood) -> ImageSet:
    """The set, if it can be trained on. Raises IntakeError, or OptionError where its classes are only guessed."""
    if unconfirmed(understood.reading, understood.edits):
        names = ", ".join(understood.images.class_names[:5])
        raise OptionError(
            option="--classes-from",
            found=f"no class folders; the file names suggest the classes {names}",
            needed="if that is right, say --classes-from names",
        )
    return ready(understood.images, Settings.from_environment())


def _is_there(data: Path, folder: Path) -> bool:
    try:
        stamp = _stamp(data)
        same: bool = stamp is not None and json.loads((folder / _STAMP).read_text()) == stamp
        return same and (folder / PIXELS).exists() and bool(Reading.load(folder).ways)
    except (OSError, ValueError, KeyError, TypeError):
        return False  # read anew


def _stamp(data: Path) -> list[Any] | None:
    """What identifies an unchanged zip; None for a folder or a data set of the Hub, which may change unseen."""
    if not data.is_file():
        return None
    status = data.stat()
    return [str(data.resolve()), status.st_size, status.st_mtime_ns]


def describe(understood: Understood) -> None:
    """Say what was understood."""
    images = understood.images
    print(f"{len(images.pictures)} pictures in {len(images.class_names)} classes:")
    for label, count in zip(images.class_names, images.counts(), strict=True):
        print(f"  {label}: {count}")
    if parts := splits(images):
        print("Parts in the upload: " + ", ".join(f"{part} {count}" for part, count in parts.items()))
    if len(understood.reading.ways) > 1 or understood.reading.ways[0].kind != "folders":
        used = way_of(understood.reading, understood.edits)
        told = [f"{wording.way(way)}{' (used)' if way.id == used else ''}" for way in understood.reading.ways]
        print("The classes can be read from: " + "; ".join(told))
    for written, shown in images.merged:
        print(f"The folder “{written}” is shown as class “{shown}”.")
    for sentence in (*wording.traits(images), *(wording.finding(one) for one in understood.found)):
        print(sentence)
    if images.skipped:
        print(f"{len(images.skipped)} files are not used:")
    for skipped in images.skipped:
        print(f"  {skipped.name}: {wording.SKIP_REASONS[skipped.reason]}")


def splits(images: ImageSet) -> dict[str, int]:
    """Pictures in each official part of the upload; {} when it had none."""
    return {part: count for part, count in images.part_counts().items() if part}


def summary(images: ImageSet) -> dict[str, Any]:
    """The same for programs."""
    return {
        "images": len(images.pictures),
        "classes": dict(zip(images.class_names, images.counts(), strict=True)),
        "splits": splits(images),
        "skipped": [{"name": s.name, "reason": s.reason} for s in images.skipped],
        "ignored": images.ignored,
        "merged": [{"folder": written, "class": shown} for written, shown in images.merged],
        "traits": dict(Counter(trait for picture in images.pictures for trait in picture.traits)),
    }


def oddities(understood: Understood) -> dict[str, Any]:
    """What is odd about a set, for programs: counts of pictures, the files of each case, and advice in words; and the
    ways in which its classes can be read."""
    images, found = understood.images, understood.found
    counts = {one.code: int(one.values.get("count", 1)) for one in found}
    names = {picture.row: picture.name for picture in images.pictures}
    return {
        "copies": counts.get("copies", 0),
        "near_copies": counts.get("near_copies", 0),
        "conflicts": counts.get("copies_across_classes", 0),
        "leaks": sum(counts.get(code, 0) for code in ("copies_across_split", "leak_measured", "leak_faked")),
        "classes_from": way_of(understood.reading, understood.edits),
        "ways": [{"id": w.id, "kind": w.kind, "guess": w.guess, **w.values} for w in understood.reading.ways],
        "findings": [
            {
                "code": one.code,
                "level": one.level,
                "values": dict(one.values),
                "cases": [[names[row] for row in case.rows] for case in one.cases],
            }
            for one in found
        ],
        "advice": [wording.finding(one) for one in found],
    }
