"""From a reading, and what the person changed about it, to a set to train on."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tl_core import errors
from tl_core.data.closer_look import CloserLook
from tl_core.data.edits import Accept, Draft, Edit, Relabel, apply
from tl_core.data.imageset import ImageSet, Picture, Reading
from tl_core.data.layout import merge_labels, natural_order
from tl_core.data.quality import Pair, copy_groups
from tl_core.errors import IntakeError
from tl_core.settings import Settings


def load(folder: Path, edits: Sequence[Edit] = ()) -> ImageSet:
    """The set in `folder` after `edits`. Raises FileNotFoundError when there is none."""
    look = CloserLook.load(folder)
    return understand(Reading.load(folder), edits, look.near if look is not None else ())


def understand(reading: Reading, edits: Sequence[Edit] = (), near: Iterable[Pair] = ()) -> ImageSet:
    """The set that `reading` is after `edits`; the rows of each pair in `near` show one picture."""
    merged: dict[str, list[tuple[str, str]]] = {}

    def read(way: str) -> Draft:
        found = reading.way(way)
        shown, changed = merge_labels({*(label for label in found.labels if label is not None), *found.empty})
        merged[found.id] = changed
        labels = [None if label is None else shown[label] for label in found.labels]
        filled = set(labels)
        return Draft(found.id, labels, {shown[label] for label in found.empty if shown[label] not in filled})

    draft = apply(read(""), edits, read)
    way = reading.way(draft.way)
    present = {*(label for label in draft.labels if label is not None), *draft.empty}
    class_names = tuple(sorted(present, key=lambda label: (natural_order(label), label)))
    number = {label: i for i, label in enumerate(class_names)}
    used = [row for row, label in enumerate(draft.labels) if label is not None]
    labels = [number[draft.labels[row] or ""] for row in used]
    groups, alike = copy_groups([reading.stored[row].digest for row in used], labels, _within(used, near))
    pictures = tuple(
        Picture(
            name=stored.name,
            label=label,
            part=way.parts[row],
            group=group,
            offset=stored.offset,
            height=stored.height,
            width=stored.width,
            row=row,
            digest=stored.digest,
            traits=stored.traits,
        )
        for row, label, group in zip(used, labels, groups, strict=True)
        for stored in (reading.stored[row],)
    )
    return ImageSet(
        folder=reading.folder,
        source=reading.source,
        class_names=class_names,
        pictures=pictures,
        skipped=(*reading.skipped, *way.skipped),
        merged=tuple(merged[draft.way]),
        ignored=reading.ignored,
        stored=len(reading.stored),
        alike=tuple(class_names[label] for label in sorted(alike)),
    )


def _within(used: Sequence[int], near: Iterable[Pair]) -> list[Pair]:
    """The pairs of rows of which both are used, as places in `used`."""
    at = {row: i for i, row in enumerate(used)}
    return [replace(pair, a=at[pair.a], b=at[pair.b]) for pair in near if pair.a in at and pair.b in at]


def trouble(images: ImageSet, settings: Settings) -> IntakeError | None:
    """Why `images` cannot be trained on as they are; None when they can."""
    if not images.class_names:
        return errors.NothingLeftError()
    if len(images.class_names) < 2:
        return errors.OneClassError(label=images.class_names[0])
    if len(images.class_names) > settings.max_classes:
        return errors.TooManyClassesError(found=len(images.class_names), limit=settings.max_classes)
    if small := too_small(images, settings):
        label, found = small[0]
        return errors.TooFewPicturesError(label=label, found=found, needed=settings.min_pictures_per_class)
    return None


def too_small(images: ImageSet, settings: Settings) -> list[tuple[str, int]]:
    """Classes with fewer different pictures than are needed, and how many each has."""
    different: list[set[str]] = [set() for _ in images.class_names]
    for picture in images.pictures:
        different[picture.label].add(picture.digest)
    counts = [(label, len(found)) for label, found in zip(images.class_names, different, strict=True)]
    return [(label, count) for label, count in counts if count < settings.min_pictures_per_class]


def ready(images: ImageSet, settings: Settings) -> ImageSet:
    """`images` again. Raises IntakeError when they cannot be trained on."""
    if (problem := trouble(images, settings)) is not None:
        raise problem
    return images


def way_of(reading: Reading, edits: Sequence[Edit]) -> str:
    """The id of the way the classes are read after `edits`."""
    asked = [edit.way for edit in edits if isinstance(edit, Relabel)]
    return reading.way(asked[-1] if asked else "").id


def unconfirmed(reading: Reading, edits: Sequence[Edit]) -> bool:
    """Whether the classes are a guess that nobody has confirmed yet."""
    return reading.way(way_of(reading, edits)).guess and not any(isinstance(edit, Relabel) for edit in edits)


def accepted(edits: Sequence[Edit], code: str) -> set[int]:
    """Rows of which the person said that they are fine, whatever `code` says."""
    return {row for edit in edits if isinstance(edit, Accept) and edit.code == code for row in edit.rows}
