"""Files to be classified, not learned from: pictures and archives of pictures in any mixture, a row for every file.

The limited child opens and decodes them (`intake.read_loose`). What folders they lie in does not matter. Rows keep the
order in which the files were given; those of an archive are in its place, in the order of their names.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tl_core.data.archive import Upload, is_archive
from tl_core.data.imageset import PIXELS, RGB, THUMB_SIDE, THUMBS, Stored
from tl_core.data.intake import ORIGINALS, Kept, Loose, read_loose
from tl_core.data.layout import natural_order
from tl_core.data.listing import is_junk
from tl_core.data.uploads import told_apart
from tl_core.errors import IntakeError, TooLargeError, plain
from tl_core.events import Progress
from tl_core.settings import Settings

NOT_REACHED = "not_reached"  # reading was stopped before it was this file's turn
_NAME, _STORED_NAME = 1_100, 200  # characters of a path that are kept
_THUMB_BYTES = 3 * THUMB_SIDE**2


@dataclass(frozen=True)
class Filed:
    """One file: its path as the person knows it, and its picture, which is number `row` of the store; or why there is
    none: the code of a reason, or the error of a whole archive. `original` is where in the originals it lies and how
    long it is; None where it could not be kept."""

    name: str
    picture: Stored | None = None
    row: int = -1
    problem: str = ""
    error: IntakeError | None = None
    original: tuple[int, int] | None = None


@dataclass(frozen=True)
class Pile:
    """What was read into `folder`; `ignored` counts what an operating system left behind."""

    folder: Path
    files: tuple[Filed, ...]
    ignored: int = 0

    @property
    def readable(self) -> list[int]:
        """The places of the files that are pictures."""
        return [at for at, file in enumerate(self.files) if file.picture is not None]

    def picture(self, at: int) -> Stored:
        """The picture at a place that is one of `readable`."""
        found = self.files[at].picture
        assert found is not None, "only readable files are pictures"
        return found

    def pixels(self, at: int) -> RGB:
        """(H, W, 3) uint8 of the picture at a place, read from the disk."""
        picture = self.picture(at)
        size = picture.height * picture.width * 3
        flat = np.fromfile(self.folder / PIXELS, np.uint8, size, offset=picture.offset)
        return flat.reshape(picture.height, picture.width, 3)

    def thumb(self, at: int) -> bytes:
        """The picture at a place as 16 x 16 RGB bytes."""
        with (self.folder / THUMBS).open("rb") as thumbs:
            thumbs.seek(self.files[at].row * _THUMB_BYTES)
            return thumbs.read(_THUMB_BYTES)

    def original(self, at: int) -> bytes | None:
        """The bytes of the file at a place as it came; None where they were not kept."""
        if (place := self.files[at].original) is None:
            return None
        with (self.folder / ORIGINALS).open("rb") as originals:
            originals.seek(place[0])
            return originals.read(place[1])


def read_pile(
    files: Sequence[tuple[str, Path]], folder: Path, settings: Settings, *, should_stop: Callable[[], bool]
) -> Iterator[Progress | Pile]:
    """Read `files` (path as the person knows it, file on disk) into `folder`, which is there; the `Pile` comes last,
    also when it was stopped. An archive that cannot be opened is a row. Raises TooLargeError for more than
    `settings.max_batch` files in all, DiskFullError, and an archive's own error when there is nothing else."""
    meant = [(number, plain(name, _NAME), file) for number, (name, file) in enumerate(files) if not _is_left(name)]
    reader = _Reader(folder, settings, should_stop)
    reader.ignored = len(files) - len(meant)
    if len(meant) > settings.max_batch:
        raise reader.too_large(len(meant), meant[0][1])
    archives = [one for one in meant if is_archive(one[1], one[2])]
    singles = [one for one in meant if one not in archives]
    if singles:
        yield from reader.singles(singles, last=not archives)
    told = told_apart([plain(name) for _, name, _ in archives])
    for (number, _, file), name in zip(archives, told, strict=True):
        prefix = f"{name}/" if len(meant) > 1 else ""
        yield from reader.archive(number, Upload(name, file), prefix, last=number == archives[-1][0])
    every = tuple(one for number in sorted(reader.files) for one in reader.files[number])
    errors = [one.error for one in every if one.error is not None]
    if errors and len(errors) == len(every):
        raise errors[0]
    yield Pile(folder, every, reader.ignored)


def _is_left(name: str) -> bool:
    """Whether an operating system left the file behind."""
    parts = [part for part in name.replace("\\", "/").split("/") if part]
    return not parts or is_junk(parts)


class _Reader:
    """What is in the folder after some of the uploads: `files` by the number of what was given."""

    def __init__(self, folder: Path, settings: Settings, should_stop: Callable[[], bool]) -> None:
        self._folder, self._settings, self._should_stop = folder, settings, should_stop
        self._kept, self._count = Kept(), 0
        self.files: dict[int, list[Filed]] = {}
        self.ignored = 0

    def singles(self, given: Sequence[tuple[int, str, Path]], *, last: bool) -> Iterator[Progress]:
        """Pictures that are in no archive."""
        # Under plain numbers, so that no name matters.
        upload = Upload("", files=tuple((f"{number:06}", file.resolve()) for number, _, file in given))
        found = yield from self._read(upload, last)
        read = {one.name: one for one in self._filed(found)}
        missing = Filed("", problem=NOT_REACHED if self._should_stop() else "crashed")
        self._add(found, {number: [_called(read.get(f"{number:06}", missing), name)] for number, name, _ in given})

    def archive(self, number: int, upload: Upload, prefix: str, *, last: bool) -> Iterator[Progress]:
        """The files of an archive, with `prefix` before their names; or a row that says why it cannot be opened."""
        if self._should_stop():
            self.files[number] = [Filed(upload.name, problem=NOT_REACHED)]
            return
        if self._count >= self._settings.max_batch:
            raise self.too_large(self._count + 1, upload.name)
        found = yield from self._read(upload, last)
        read = sorted(self._filed(found), key=lambda one: natural_order(one.name))
        files = [_called(one, plain(prefix + one.name, _NAME)) for one in read]
        if found.problem is not None:
            files.append(Filed(upload.name, error=found.problem))
        elif self._should_stop() and not files:
            files.append(Filed(upload.name, problem=NOT_REACHED))
        self._add(found, {number: files})

    def too_large(self, found: int, name: str) -> TooLargeError:
        limit = f"{self._settings.max_batch:,}"
        return TooLargeError(found=f"{found:,}", unit="files", name=name, limit=limit)

    def _read(self, upload: Upload, last: bool) -> Generator[Progress, None, Loose]:
        """One upload; how long it will take is known for the last one only."""
        most = self._settings.max_batch - self._count
        reading = read_loose(upload, self._folder, self._settings, self._kept, most=most, should_stop=self._should_stop)
        while True:
            try:
                event = next(reading)
            except StopIteration as end:
                found: Loose = end.value
                return found
            left = event.seconds_left if last else None
            yield Progress(event.stage, self._count + event.done, self._count + event.total, left)

    def _filed(self, found: Loose) -> Iterator[Filed]:
        """What the child said of the files of one upload."""
        row = self._kept.stored
        for line in found.rows:
            original = tuple(line["original"]) if "original" in line else None
            if "skip" in line:
                yield Filed(line["name"], problem=line["skip"], original=original)
                continue
            where = {key: line[key] for key in ("digest", "offset", "height", "width")}
            yield Filed(line["name"], Stored("", **where, traits=tuple(line["traits"])), row, original=original)
            row += 1
        for name, reason in found.skipped:
            yield Filed(name, problem=reason)

    def _add(self, found: Loose, files: dict[int, list[Filed]]) -> None:
        self.files |= files
        self._kept, self.ignored = found.kept, self.ignored + found.ignored
        self._count += sum(map(len, files.values()))


def _called(file: Filed, name: str) -> Filed:
    picture = None if file.picture is None else replace(file.picture, name=plain(name, _STORED_NAME))
    return replace(file, name=name, picture=picture)
