"""Pictures for the command line: read once, described in words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tl_core import wording
from tl_core.cli.terminal import show
from tl_core.data.imageset import PIXELS, ImageSet
from tl_core.data.intake import prepare
from tl_core.errors import NothingTrainedError
from tl_core.settings import Settings


def prepared(data: Path, folder: Path, should_stop: Callable[[], bool], *, as_lines: bool = False) -> ImageSet:
    """The set in `data`, read into `folder`, or the one that is there already from the same unchanged data."""
    stamp_file = folder / "source.json"
    stamp = _stamp(data)
    try:
        if stamp is not None and json.loads(stamp_file.read_text()) == stamp and (folder / PIXELS).exists():
            return ImageSet.load(folder)
    except (OSError, ValueError, KeyError):
        pass  # read anew
    show(prepare(data, folder, Settings.from_environment(), should_stop=should_stop), as_lines=as_lines)
    if should_stop():
        raise NothingTrainedError
    stamp_file.write_text(json.dumps(stamp))
    return ImageSet.load(folder)


def _stamp(data: Path) -> list[Any] | None:
    """What identifies an unchanged zip; None for a folder, whose files may change without a trace."""
    if not data.is_file():
        return None
    status = data.stat()
    return [str(data.resolve()), status.st_size, status.st_mtime_ns]


def describe(images: ImageSet) -> None:
    """Say what was understood."""
    print(f"{len(images.pictures)} pictures in {len(images.class_names)} classes:")
    for label, count in zip(images.class_names, images.counts(), strict=True):
        print(f"  {label}: {count}")
    parts = {part: count for part, count in images.part_counts().items() if part}
    if parts:
        print("Parts in the upload: " + ", ".join(f"{part} {count}" for part, count in parts.items()))
    for found in images.remarks:
        print(wording.remark(found))
    if images.skipped:
        print(f"{len(images.skipped)} files are not used:")
    for skipped in images.skipped:
        print(f"  {skipped.name}: {wording.SKIP_REASONS[skipped.reason]}")


def summary(images: ImageSet) -> dict[str, Any]:
    """The same for programs."""
    return {
        "images": len(images.pictures),
        "classes": dict(zip(images.class_names, images.counts(), strict=True)),
        "skipped": [{"name": s.name, "reason": s.reason} for s in images.skipped],
    }
