"""A set and pictures that a person has put right become a new set: all that was read before, and those at the end.

A reading is never changed, so a run that was made from it stays what it was. Every picture keeps its row; the new ones
come behind them. The closer look (`review`) has to be taken anew.
"""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tl_core import disk
from tl_core.data.edits import Edit, Move
from tl_core.data.imageset import PIXELS, THUMBS, Classes, Reading, Stored
from tl_core.data.layout import Part, merge_labels
from tl_core.data.pile import Pile
from tl_core.data.understand import understand, way_of
from tl_core.errors import TooLargeError
from tl_core.settings import Settings

_PIECE = 1 << 24  # bytes


def grown(
    reading: Reading,
    edits: Sequence[Edit],
    pile: Pile,
    labels: Mapping[int, str],
    folder: Path,
    settings: Settings,
) -> tuple[Reading, tuple[Edit, ...]]:
    """`reading` with the pictures at the places `labels` of `pile` added, saved in `folder`, which is made; and `edits`
    with steps behind them that put each into its class, as classes are called after `edits`.

    They are for training where the set came in official parts. Raises TooLargeError and DiskFullError; nothing is left
    then.
    """
    places = sorted(labels)
    total = len(reading.stored) + len(places)
    if total > settings.max_pictures:
        limit = f"{settings.max_pictures:,}"
        raise TooLargeError(found=f"{total:,}", unit="pictures", name=reading.source, limit=limit)
    sizes = [(reading.folder / name).stat().st_size for name in (PIXELS, THUMBS)]
    disk.need(reading.folder, sum(sizes) + settings.free_disk_reserve)
    folder.mkdir(parents=True)
    try:
        for name in (PIXELS, THUMBS):
            _copy(reading.folder / name, folder / name)
        stored = (*reading.stored, *_append(pile, places, folder))
        new, used = [labels[at] for at in places], way_of(reading, edits)
        written = _written(reading, edits, new)
        ways = tuple(_with(way, new, written if way.id == used else {}) for way in reading.ways)
        made = replace(reading, folder=folder, stored=stored, ways=ways)
        made.save()
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        if (sentence := disk.trouble(error, folder.parent)) is None:
            raise
        raise sentence from error
    rows: dict[str, list[int]] = {}
    for row, at in enumerate(places, start=len(reading.stored)):
        rows.setdefault(labels[at], []).append(row)
    return made, (*edits, *(Move(tuple(mine), to=label) for label, mine in rows.items()))


def _append(pile: Pile, places: Sequence[int], folder: Path) -> list[Stored]:
    """Add the pictures at `places` to the store in `folder`; gives where they lie now."""
    stored = []
    with (folder / PIXELS).open("ab") as pixels, (folder / THUMBS).open("ab") as thumbs:
        for at in places:
            stored.append(replace(pile.picture(at), offset=pixels.tell()))
            pixels.write(pile.pixels(at).data)
            thumbs.write(pile.thumb(at))
    return stored


def _written(reading: Reading, edits: Sequence[Edit], wanted: Iterable[str]) -> dict[str, str]:
    """How the way in use is to write new pictures of the classes `wanted`, so that none is left out with a class that
    was called so before: by each class's name in small letters. Found by trying every way to write a class."""
    way = reading.way(way_of(reading, edits))
    known = sorted({label for label in way.labels if label is not None})
    shown = {name.casefold() for name in merge_labels(known)[0].values()}
    fresh = {name.casefold(): name for name in wanted}
    tried = [*known, *(name for key, name in fresh.items() if key not in shown)]
    more = replace(
        reading,
        stored=(*reading.stored, *(Stored("", str(n), 0, 1, 1) for n in range(len(tried)))),
        ways=tuple(one if one.id != way.id else _longer(one, tried, "") for one in reading.ways),
    )
    images, first = understand(more, edits), len(reading.stored)
    becomes = {tried[p.row - first]: images.class_names[p.label].casefold() for p in images.pictures if p.row >= first}
    right = {name: label for label, name in becomes.items()}
    # A class that pictures only come into one by one: anything that stays will do, as such a step puts it right.
    return {key: right.get(key) or next(iter(becomes), name) for key, name in fresh.items()}


def _with(way: Classes, labels: Sequence[str], written: Mapping[str, str]) -> Classes:
    """`way` with more pictures of these classes, called as `written` says, else as the way has them, if it has them."""
    shown, _ = merge_labels({*(label for label in way.labels if label is not None), *way.empty})
    called = {name.casefold(): label for label, name in shown.items()} | dict(written)
    return _longer(way, [called.get(label.casefold(), label) for label in labels], "train" if any(way.parts) else "")


def _longer(way: Classes, labels: Sequence[str], part: Part) -> Classes:
    empty = tuple(label for label in way.empty if label not in labels)
    return replace(way, labels=(*way.labels, *labels), parts=(*way.parts, *(part for _ in labels)), empty=empty)


def _copy(source: Path, target: Path) -> None:
    """Copy a file inside the kernel, which on some file systems copies nothing until one of them is changed."""
    left = source.stat().st_size
    with source.open("rb") as old, target.open("wb") as new:
        try:
            while left and hasattr(os, "copy_file_range"):
                done = os.copy_file_range(old.fileno(), new.fileno(), min(left, 1 << 30))
                if not done:
                    break
                left -= done
        except OSError:  # not between these two file systems
            left = source.stat().st_size
            new.seek(0)
            old.seek(0)
        if left:
            shutil.copyfileobj(old, new, _PIECE)
