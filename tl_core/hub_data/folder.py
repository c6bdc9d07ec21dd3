"""Pictures that lie in a repository as files, in folders of classes or in archives. Runs in the limited child."""

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from tl_core.data.archive import Source, Upload
from tl_core.data.layout import Place, interpret, looks_like_picture
from tl_core.data.listing import UnreadableEntryError
from tl_core.data.tables import MOST_BYTES, Table, parse, worth_reading
from tl_core.errors import TooLargeError, plain
from tl_core.hub_data.harvest import FullError, Harvest, spread
from tl_core.hub_data.repository import File, Repository

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_PARTS = {"train": "train", "val": "validation", "test": "test", "": "train"}
_AT_ONCE = 8


def picture_files(files: Sequence[File]) -> list[File]:
    return [file for file in files if looks_like_picture(file.path)]


def archive_files(files: Sequence[File]) -> list[File]:
    return [file for file in files if file.path.lower().endswith(ARCHIVES)]


def take_files(repository: Repository, files: Sequence[File], harvest: Harvest, notice: Callable[..., None]) -> None:
    """Download the picture `files`, several at once; their folders are their labels. Raises HubError."""
    places = interpret([file.path for file in files])
    told = _tables(repository, [file.path for file in files])
    mean = max(1, sum(file.size for file in files) // len(files))
    chosen = [files[i] for i in spread(len(files), _keep(harvest, mean))]
    _announce(harvest, len(files), len(chosen), notice)
    lock = Lock()
    limit = harvest.settings.max_picture_bytes

    def one(file: File) -> None:
        split, values = _known(places, file.path)
        fresh = harvest.folder / f".{id(file)}"
        with fresh.open("wb") as out:
            whole = file.size <= limit and repository.download(file, out, limit)
        size = fresh.stat().st_size
        head = fresh.open("rb").read(16)
        with lock:
            harvest.done += 1
            harvest.say(done=harvest.done, total=harvest.total)
            if not whole or not size:
                harvest.lost += 1
                fresh.unlink()
                return
            harvest.pay(size)
            name, path = harvest.name(split, head)
            fresh.rename(path)
            harvest.row(name, split, values | told.get(file.path, {}))

    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        for _ in pool.map(one, chosen):
            pass
    except FullError:
        notice("dataset_full", taken=f"{harvest.taken:,}")
    finally:
        pool.shutdown(cancel_futures=True)


def take_archives(
    repository: Repository, files: Sequence[File], scratch: Path, harvest: Harvest, notice: Callable[..., None]
) -> None:
    """Download the archives `files` and keep the pictures inside. Raises HubError and IntakeError."""
    settings = harvest.settings
    size = sum(file.size for file in files)
    if size > settings.max_upload:
        found, limit = (f"{count / 1e9:.1f} GB" for count in (size, settings.max_upload))
        raise TooLargeError(found=found, unit="of archives", name=repository.name, limit=limit)
    uploads = [Upload(Path(file.path).name, scratch / f"{i:06}") for i, file in enumerate(files)]
    came = 0

    def told(count: int) -> None:
        nonlocal came
        came += count
        harvest.say(done=came // 1_000_000, total=size // 1_000_000 + 1, share=came / max(1, size))

    for file, upload in zip(files, uploads, strict=True):
        assert upload.path is not None
        with upload.path.open("wb") as out:
            if not repository.download(file, out, settings.max_upload, told):
                raise TooLargeError(found="more", unit="bytes", name=upload.name, limit=settings.max_upload)
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(Source(upload, settings)) for upload in uploads]
        # Several archives are read as folders of one: `train.zip` and `test.zip`, or `cats.zip` and `dogs.zip`.
        before = [f"{upload.name.split('.')[0]}/" if len(uploads) > 1 else "" for upload in uploads]
        members = [
            (source, member, f"{prefix}{member.name}")
            for source, prefix in zip(sources, before, strict=True)
            for member in source.listing.members
            if looks_like_picture(member.name)
        ]
        places = interpret([name for _, _, name in members])
        mean = max(1, sum(member.size for _, member, _ in members) // max(1, len(members)))
        chosen = spread(len(members), _keep(harvest, mean))
        _announce(harvest, len(members), len(chosen), notice)
        for i in chosen:
            source, member, path = members[i]
            split, values = _known(places, path)
            data = b""
            with contextlib.suppress(UnreadableEntryError):
                data = source.read(member)
            try:
                name = harvest.picture(split, data)
            except FullError:
                notice("dataset_full", taken=f"{harvest.taken:,}")
                return
            if name is not None:
                harvest.row(name, split, values)
            harvest.say(done=harvest.done, total=harvest.total)


def _keep(harvest: Harvest, mean: int) -> int:
    return min(harvest.settings.max_pictures, harvest.room // mean)


def _announce(harvest: Harvest, found: int, chosen: int, notice: Callable[..., None]) -> None:
    harvest.expect(chosen)
    if chosen < found:
        notice("dataset_sampled", total=f"{found:,}", taken=f"{chosen:,}")


def _known(places: Mapping[str, Place | str], path: str) -> tuple[str, dict[str, str]]:
    """The split of a path, and its class if it has one."""
    place = places[path]
    if isinstance(place, str):
        return "train", {}
    return _PARTS[place.part], {"label": plain(place.label)}


def _tables(repository: Repository, paths: Sequence[str]) -> dict[str, dict[str, str]]:
    """What tables beside the pictures say: path of a picture -> column -> value."""
    by_path = {file.path: file for file in repository.files}
    known: dict[str, dict[str, str]] = {}
    for path in worth_reading((file.path, file.size) for file in repository.files):
        data = io.BytesIO()
        if repository.download(by_path[path], data, MOST_BYTES) and (table := parse(path, data.getvalue())):
            for picture, values in _matched(table, path.rpartition("/")[0], paths).items():
                known.setdefault(picture, {}).update(values)
    return known


def _matched(table: Table, folder: str, paths: Sequence[str]) -> dict[str, dict[str, str]]:
    """The rows of a table by the picture that one of its columns names, by its path from the table or its own name."""
    below = f"{folder}/" if folder else ""
    named = {path.rpartition("/")[2]: path for path in paths}
    if len(named) < len(paths):  # the same name in several folders tells nothing
        named = {}
    named |= {path.removeprefix(below): path for path in paths if path.startswith(below)}
    hits = [sum(row[i] in named for row in table.rows) for i in range(len(table.columns))]
    if not any(hits):
        return {}
    at = hits.index(max(hits))
    columns = [(i, plain(column)) for i, column in enumerate(table.columns) if i != at]
    return {
        named[row[at]]: {column: plain(row[i], 200) for i, column in columns if row[i]}
        for row in table.rows
        if row[at] in named
    }
