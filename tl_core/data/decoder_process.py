"""The limited child: lists an upload, decodes its pictures in order, and writes their pixels. Started by `intake`.

    python -m tl_core.data.decoder_process        (a job as JSON on stdin, one JSON line a picture on stdout)

Address space, written bytes and open files are limited, the environment holds no secret, and whatever a file does to
this process, its parent only sees the line that is missing and starts another child behind it.
"""

import contextlib
import hashlib
import json
import os
import resource
import shutil
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tl_core import disk
from tl_core.data.archive import Source, Upload
from tl_core.data.decode import PictureProblemError, decode, thumbnail
from tl_core.data.imageset import RGB, THUMB_SIDE
from tl_core.data.labelling import Labelling, labellings
from tl_core.data.layout import Place, looks_like_picture
from tl_core.data.listing import Member, UnreadableEntryError
from tl_core.data.tables import Table, parse, worth_reading
from tl_core.errors import IntakeError, TooLargeError
from tl_core.settings import Settings

OUT_OF_MEMORY = 70  # exit status
THUMB_BYTES = 3 * THUMB_SIDE**2
TOGETHER, TOGETHER_BYTES = 8, 1_000_000  # files that one task decodes: small ones are not worth one each
MOST_AHEAD = 100_000_000  # bytes of files that wait for a thread
FLAT = 6  # grey levels between the darkest and the lightest place of a picture with nothing on it


def main() -> None:
    job = json.load(sys.stdin)
    settings = Settings.from_json(job["settings"])
    free = shutil.disk_usage(Path(job["pixels"]).parent).free
    writable = max(1_000_000, free - settings.free_disk_reserve // 2)
    for limit, value in (
        (resource.RLIMIT_AS, settings.decoder_memory),
        (resource.RLIMIT_FSIZE, writable),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    try:
        with contextlib.ExitStack() as opened:
            uploads = [Upload.from_json(record) for record in job["uploads"]]
            sources = [opened.enter_context(Source(upload, settings, _alive)) for upload in uploads]
            _run(sources, job, settings)
    except IntakeError as error:
        _say(error=type(error).__name__, values=error.values)
    except OSError as error:
        if error.errno not in disk.FULL:
            raise
        _say(error="DiskFullError", values={"free": f"{free / 1e9:.1f} GB"})
    except MemoryError:
        os._exit(OUT_OF_MEMORY)


@dataclass(frozen=True)
class _File:
    """A file of one of the uploads, under the name by which it is known among all of them."""

    name: str
    source: Source
    member: Member

    def read(self) -> bytes:
        return self.source.read(self.member)


def _run(sources: list[Source], job: dict[str, Any], settings: Settings) -> None:
    """Say what there is, then read the job's share of the pictures: from `start` to before `until`."""
    prefixes = [f"{source.name}/" if len(sources) > 1 else "" for source in sources]
    listed = [[_File(p + m.name, s, m) for m in s.listing.members] for p, s in zip(prefixes, sources, strict=True)]
    skipped = [(p + name, why) for p, s in zip(prefixes, sources, strict=True) for name, why in s.listing.skipped]
    files = [file for of_source in listed for file in of_source]
    if not job["loose"]:
        ways = _ways(sources, listed, files, settings)
        files = [file for file in files if any(isinstance(way.places.get(file.name), Place) for way in ways)]
    count = sum(looks_like_picture(file.name) for file in files)
    if count > settings.max_pictures:
        limit, name = f"{settings.max_pictures:,}", sources[0].name
        raise TooLargeError(found=f"{count:,}", unit="pictures", name=name, limit=limit)
    told = [] if job["loose"] or job["start"] else [_told(way, files) for way in ways]
    ignored = sum(source.listing.ignored for source in sources)
    _say(total=len(files), skipped=skipped, ignored=ignored, ways=told)
    _decode_all(files, job, settings)


def _ways(
    sources: list[Source], listed: list[list[_File]], files: list[_File], settings: Settings
) -> tuple[Labelling, ...]:
    """The ways to read the classes; a table that is understood is none of the pictures."""
    tables: dict[str, Table] = {}
    worth = set(worth_reading((file.name, file.member.size) for file in files))
    for file in files:
        if file.name in worth:
            with contextlib.suppress(UnreadableEntryError):
                if (table := parse(file.name, file.read(), most_rows=settings.max_entries + 1)) is not None:
                    tables[file.name] = table
    uploads = [(source.name, [f.name for f in of]) for source, of in zip(sources, listed, strict=True)]
    return labellings(uploads, tables, most_classes=settings.max_classes)


def _told(way: Labelling, files: list[_File]) -> dict[str, Any]:
    """A way for the parent: the place or reason of each of the files to read, and the reasons of the others."""
    mine = {file.name for file in files}
    places = [way.places.get(file.name, "no_class_folder") for file in files]
    return {
        "id": way.id,
        "kind": "columns" if way.one_hot else way.kind,
        "values": dict(way.values),
        "guess": way.guess,
        "places": [[place.label, place.part] if isinstance(place, Place) else place for place in places],
        "skipped": [
            [name, place]
            for name, place in way.places.items()
            if isinstance(place, str) and place != "label_table" and name not in mine
        ],
    }


def _decode_all(files: list[_File], job: dict[str, Any], settings: Settings) -> None:
    """Decode the job's share; pixels and thumbnails go to their files, then one line a picture to the parent."""
    mine = range(job["start"], min(job["until"], len(files)))
    mode = "r+b" if job["stored"] else "wb"
    with Path(job["pixels"]).open(mode) as pixels, Path(job["thumbs"]).open(mode) as small:
        for file, at in ((pixels, job["offset"]), (small, job["stored"] * THUMB_BYTES)):
            file.seek(at)
            file.truncate()
        store = _Store(pixels.fileno(), job["offset"])
        with _Originals(job["originals"], job["originals_at"], settings.max_upload) as originals:
            for batch in _decoded(files, mine, job["threads"], set(job["blamed"]), store, originals.keep, settings):
                small.write(b"".join(result.thumb for _, result in batch if isinstance(result, _Read)))
                small.flush()
                lines = (_line(files[n], n, result) | originals.place(n) for n, result in batch)
                sys.stdout.writelines(json.dumps(line) + "\n" for line in lines)
                sys.stdout.flush()


class _Store:
    """The file of pixels, to which any thread adds a picture while it is still in that core's cache."""

    def __init__(self, file: int, end: int) -> None:
        self._file, self._end, self._lock = file, end, threading.Lock()

    def add(self, pixels: RGB) -> int:
        """Where in the file they begin."""
        with self._lock:
            at, self._end = self._end, self._end + pixels.nbytes
        rest, done = pixels.data.cast("B"), 0
        while done < len(rest):
            done += os.pwrite(self._file, rest[done:], at + done)
        return at


class _Originals:
    """The files as they came, one behind the other from byte `at` of the file at `path`, `most` bytes at the most: what
    a small upload unpacks to must not fill a disk. None are kept where `path` is empty."""

    def __init__(self, path: str, at: int, most: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT) if path else None
        self._end, self._most = at, most
        self._places: dict[int, tuple[int, int]] = {}
        if self._file is not None:
            os.ftruncate(self._file, at)

    def __enter__(self) -> "_Originals":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)

    def keep(self, number: int, data: bytes) -> None:
        """Add the file of that number."""
        if self._file is None or self._end + len(data) > self._most:
            return
        self._places[number] = (self._end, len(data))
        rest = memoryview(data)
        while rest:
            done = os.pwrite(self._file, rest, self._end)
            rest, self._end = rest[done:], self._end + done

    def place(self, number: int) -> dict[str, tuple[int, int]]:
        """Where it lies and how long it is, for the parent."""
        return {"original": place} if (place := self._places.pop(number, None)) else {}


@dataclass(frozen=True)
class _Read:
    """A picture in the store, its 16 x 16 RGB bytes, and the digest of its file."""

    offset: int
    height: int
    width: int
    thumb: bytes
    digest: str
    traits: tuple[str, ...]


def _line(file: _File, number: int, result: _Read | str) -> dict[str, Any]:
    line: dict[str, Any] = {"n": number, "name": file.name}
    if isinstance(result, str):
        return line | {"skip": result}
    return line | {name: value for name, value in vars(result).items() if name != "thumb"}


Batch = list[tuple[int, _Read | str]]


def _decoded(
    files: list[_File],
    numbers: range,
    threads: int,
    blamed: set[int],
    store: _Store,
    keep: Callable[[int, bytes], None],
    settings: Settings,
) -> Iterator[Batch]:
    """(number, picture | reason) in order, a few at a time. Files are read here, one after the other as they lie in the
    upload, and decoded ahead in threads; with one thread singly, so that whatever kills this process is known."""

    def decode_some(batch: list[tuple[int, bytes | str]]) -> Batch:
        return [(n, data if isinstance(data, str) else _one(data, store, settings)) for n, data in batch]

    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[tuple[int, Future[Batch]]] = deque()  # with the bytes of their files
        for batch in _batches(files, numbers, 1 if threads == 1 else TOGETHER):
            size = sum(files[n].member.size for n in batch)
            # Enough that no thread waits while the pixels are written, but never many large files at once.
            while ahead and (len(ahead) > 2 * threads or sum(held for held, _ in ahead) + size > MOST_AHEAD):
                yield ahead.popleft()[1].result()
            read = [(n, "crashed" if n in blamed else _bytes(files[n])) for n in batch]
            for n, data in read:
                if isinstance(data, bytes):
                    keep(n, data)
            ahead.append((size, pool.submit(decode_some, read)))
        while ahead:
            yield ahead.popleft()[1].result()


def _batches(files: list[_File], numbers: range, most: int) -> Iterator[list[int]]:
    """`numbers` in runs of at most `most`, shorter where the files are large."""
    batch: list[int] = []
    size = 0
    for n in numbers:
        if batch and (len(batch) == most or size + files[n].member.size > TOGETHER_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(n)
        size += files[n].member.size
    if batch:
        yield batch


def _bytes(file: _File) -> bytes | str:
    try:
        return file.read()
    except UnreadableEntryError as error:
        return str(error.args[0])


def _one(data: bytes, store: _Store, settings: Settings) -> _Read | str:
    try:
        decoded = decode(data, settings)
    except PictureProblemError as error:
        return str(error.args[0])
    except MemoryError:
        # Too much at once, or too much for one: the parent tries it alone in a fresh child and then knows.
        os._exit(OUT_OF_MEMORY)
    except Exception:  # no decoder's surprise may cost more than its picture; this process is there for that
        return "damaged"
    offset = store.add(decoded.pixels)
    height, width = decoded.pixels.shape[:2]
    small = thumbnail(decoded.pixels, THUMB_SIDE)
    bounds = cast("tuple[tuple[int, int], ...]", small.getextrema())
    flat = ("one_colour",) if max(high - low for low, high in bounds) <= FLAT else ()
    digest = hashlib.sha256(data).hexdigest()[:32]
    return _Read(offset, height, width, small.tobytes(), digest, (*decoded.traits, *flat))


def _alive(seen: int) -> None:
    _say(listed=seen)


def _say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
