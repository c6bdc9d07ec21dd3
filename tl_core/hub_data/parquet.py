"""Pictures from Parquet files, row group by row group, as they are stored, never decoded. Runs in the limited child.

Memory stays flat: a column of pictures is read as a stream, a few rows at a time. Of a set that is too large, whole row
groups spread over the files are read, and of those a part of the rows, so that sorted sets give all their classes.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tl_core import dataset_errors
from tl_core.errors import TLError, plain
from tl_core.hub_data.harvest import FullError, Harvest, evenly, shares, spread
from tl_core.hub_data.repository import File, Repository
from tl_core.hub_data.splits import Splits

_BUFFER = 1 << 20  # bytes of a column that are fetched at a time
_BATCH_BYTES = 8_000_000
_TEXT_BYTES = 10_000  # a column with more bytes a row is no label
_MAX_COLUMNS = 100
_MAX_SHARDS = 400
_MAX_METADATA = 50_000_000  # bytes of names in a file's footer
_READ_OVER = 4  # at most so many rows are read for one that is kept


@dataclass(frozen=True)
class Shard:
    """A Parquet file whose footer has been read."""

    split: str
    file: File
    metadata: pq.FileMetaData
    rows: int


@dataclass(frozen=True)
class Columns:
    """The picture column, its leaf that holds bytes, the columns of text and numbers, and the classes' names by id."""

    picture: str
    leaf: str
    rest: tuple[str, ...]
    names: Mapping[str, Sequence[str]]
    other_pictures: tuple[str, ...]


def take(
    repository: Repository, splits: Splits, card_features: Any, harvest: Harvest, notice: Callable[..., None]
) -> bool:
    """Fill `harvest` from the files of `splits`; False when they have no column of pictures. Raises HubError."""
    files = {file.path: file for file in repository.files}
    chosen = [(split, files[path]) for split, paths in splits.items() for path in paths if path in files]
    several = [chosen[i] for i in evenly(len(chosen), _MAX_SHARDS)]
    first = _shard(repository, *several[0])
    columns = _columns(first.metadata.schema.to_arrow_schema(), card_features)
    if columns is None:
        return False
    if columns.other_pictures:
        others = ", ".join(plain(name, 40) for name in columns.other_pictures)
        notice("dataset_columns", column=columns.picture, others=others)
    with ThreadPoolExecutor(8) as pool:
        shards = [first, *pool.map(lambda one: _shard(repository, *one), several[1:])]
    shards = [shard for shard in shards if shard.metadata.num_row_groups]
    total = sum(shard.rows for shard in shards)
    wanted = _wanted(shards, columns.leaf, harvest, total)
    harvest.expect(sum(len(rows) for groups in wanted for rows in groups.values()))
    left_out = len(chosen) > len(several)
    if harvest.total < total or left_out:
        said = f"{'more than ' if left_out else ''}{total:,}"
        notice("dataset_sampled", total=said, taken=f"{harvest.total:,}")
    try:
        for shard, groups in zip(shards, wanted, strict=True):
            _take_shard(repository, shard, groups, columns, harvest)
    except FullError:
        notice("dataset_full", taken=f"{harvest.taken:,}")
    return True


def _shard(repository: Repository, split: str, file: File) -> Shard:
    try:
        with repository.open(file) as opened:
            metadata = pq.ParquetFile(opened, thrift_string_size_limit=_MAX_METADATA).metadata
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        if any(count < 0 for count in counts) or sum(counts) > file.size:  # a picture has a byte at least
            raise ValueError
    except TLError:
        raise
    except (pa.ArrowException, OSError, ValueError):
        raise dataset_errors.DatasetDamagedError(repo=repository.name, file=file.path) from None
    repository.hub.alive()
    return Shard(split, file, metadata, sum(counts))


def _columns(schema: pa.Schema, card_features: Any) -> Columns | None:
    """What the columns are: as the features in the file say, else those on the card, else by their types."""
    features = _features(schema.metadata or {}) or _card_features(card_features)
    leaves: dict[str, str] = {}
    for field in schema:
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            leaves[field.name] = f"{field.name}.bytes"
        elif pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            leaves[field.name] = field.name
    told = [name for name in leaves if _is(features.get(name), "Image")]
    other = [name for name in leaves if not any(_is(features.get(name), kind) for kind in ("Audio", "Video", "Pdf"))]
    pictures = told or other
    if not pictures:
        return None
    names = {
        name: [plain(label) for label in feature["names"]]
        for name, feature in features.items()
        if _is(feature, "ClassLabel") and isinstance(feature.get("names"), list)
    }
    known = [field.name for field in schema if _is_plain(field.type)]
    rest = tuple(
        sorted(known, key=lambda name: name not in names)[:_MAX_COLUMNS]
    )  # classes first, should room be short
    return Columns(pictures[0], leaves[pictures[0]], rest, names, tuple(pictures[1:]))


def _is(feature: Any, kind: str) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == kind


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string)
    return any(check(kind) for check in (*checks, pa.types.is_large_string))


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The features that the library `datasets` writes into every Parquet file; {} when there are none."""
    try:
        found = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _card_features(listed: Any) -> dict[str, Any]:
    """The same from a card, which lists them as `{"name": …, "dtype": {"class_label": {"names": {"0": …}}}}`."""
    found: dict[str, Any] = {}
    for item in listed if isinstance(listed, list) else ():
        kind = item.get("dtype") if isinstance(item, dict) else None
        name = str(item.get("name")) if isinstance(item, dict) else ""
        if kind == "image":
            found[name] = {"_type": "Image"}
        elif isinstance(kind, dict) and isinstance(kind.get("class_label"), dict):
            names = kind["class_label"].get("names")
            if isinstance(names, dict):
                names = [names.get(str(i), "") for i in range(len(names))]
            found[name] = {"_type": "ClassLabel", "names": names}
    return found


def _wanted(shards: Sequence[Shard], leaf: str, harvest: Harvest, total: int) -> list[dict[int, list[int]]]:
    """For each shard: row group -> the rows of it to take."""
    size = sum(_leaf_bytes(shard.metadata, group, leaf) for shard, group in _groups(shards))
    mean = max(1, size // max(1, total))
    keep = min(harvest.settings.max_pictures, harvest.room // mean)
    counts: dict[str, int] = {}
    for shard in shards:
        counts[shard.split] = counts.get(shard.split, 0) + shard.rows
    wanted: list[dict[int, list[int]]] = [{} for _ in shards]
    for split, share in shares(counts, keep).items():
        places = [
            (at, group, shards[at].metadata.row_group(group).num_rows)
            for at in range(len(shards))
            if shards[at].split == split
            for group in range(shards[at].metadata.num_row_groups)
        ]
        step = counts[split] / max(1, share)
        visited = [places[i] for i in evenly(len(places), math.ceil(len(places) * min(step, _READ_OVER) / step))]
        rows = [(at, group, row) for at, group, count in visited for row in range(count)]
        for i in spread(len(rows), share):
            at, group, row = rows[i]
            wanted[at].setdefault(group, []).append(row)
    return wanted


def _groups(shards: Sequence[Shard]) -> Iterator[tuple[Shard, int]]:
    for shard in shards:
        for group in range(shard.metadata.num_row_groups):
            yield shard, group


def _leaf_bytes(metadata: pq.FileMetaData, group: int, leaf: str) -> int:
    row_group = metadata.row_group(group)
    for i in range(row_group.num_columns):
        column = row_group.column(i)
        if column.path_in_schema == leaf:
            return max(0, int(column.total_uncompressed_size))
    return 0


def _take_shard(
    repository: Repository, shard: Shard, groups: Mapping[int, list[int]], columns: Columns, harvest: Harvest
) -> None:
    with repository.open(shard.file) as opened:
        try:
            # The footer's own claims are bounded by the limits of this process.
            file = pq.ParquetFile(opened, metadata=shard.metadata, buffer_size=_BUFFER, pre_buffer=False)
        except (pa.ArrowException, OSError, ValueError):
            raise dataset_errors.DatasetDamagedError(repo=repository.name, file=shard.file.path) from None
        for group, rows in groups.items():
            before = harvest.done
            try:
                _take_group(file, shard, group, rows, columns, harvest)
            except TLError:
                raise
            except (pa.ArrowException, MemoryError, OSError, ValueError, KeyError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # this machine's disk
                missed = len(rows) - (harvest.done - before)
                harvest.done += missed
                harvest.lost += missed
            repository.hub.alive()


def _take_group(
    file: pq.ParquetFile, shard: Shard, group: int, rows: Sequence[int], columns: Columns, harvest: Harvest
) -> None:
    """Pictures first, then what is known about them: in most files that is one pass forward."""
    count = max(1, shard.metadata.row_group(group).num_rows)
    # A text that long is a description, or worse.
    small = [name for name in columns.rest if _leaf_bytes(shard.metadata, group, name) // count <= _TEXT_BYTES]
    kept: dict[int, str] = {}
    known: dict[int, dict[str, str]] = {}
    try:
        try:
            _take_pictures(file, shard, group, set(rows), columns, harvest, kept)
        finally:
            known = _texts(file, group, small, columns.names, kept) if small and kept else {}
    finally:  # what was kept is in the table, whatever happened
        for row, name in kept.items():
            values = known.get(row, {})
            harvest.row(name, shard.split, {key: values[key] for key in map(plain, columns.rest) if key in values})


def _take_pictures(
    file: pq.ParquetFile,
    shard: Shard,
    group: int,
    rows: set[int],
    columns: Columns,
    harvest: Harvest,
    kept: dict[int, str],
) -> None:
    """Keep the pictures of `rows`; `kept` gets their names, also when an error ends it."""
    mean = max(1, _leaf_bytes(shard.metadata, group, columns.leaf) // shard.metadata.row_group(group).num_rows)
    at = 0
    for batch in _batches(file, group, [columns.leaf], max(1, min(64, _BATCH_BYTES // mean))):
        column = batch.column(batch.schema.names.index(columns.picture))
        cells = column.field("bytes") if pa.types.is_struct(column.type) else column
        for i, cell in enumerate(cells, at):
            if i in rows and (name := harvest.picture(shard.split, _buffer(cell))) is not None:
                kept[i] = name
        at += len(batch)


def _batches(file: pq.ParquetFile, group: int, names: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
    return file.iter_batches(size, row_groups=[group], columns=list(names), use_threads=False)  # type: ignore[no-any-return]


def _buffer(cell: pa.Scalar) -> memoryview:
    return memoryview(cell.as_buffer() or b"")


def _texts(
    file: pq.ParquetFile, group: int, names: Sequence[str], labels: Mapping[str, Sequence[str]], rows: Mapping[int, str]
) -> dict[int, dict[str, str]]:
    """Row -> column -> its value as one line of text; nothing for empty ones and for classes without a name."""
    known: dict[int, dict[str, str]] = {row: {} for row in rows}
    at = 0
    for batch in _batches(file, group, names, 256):
        for i, name in enumerate(batch.schema.names):
            if name not in names:  # two columns of one name, or a part of another
                continue
            for row, cell in enumerate(batch.column(i), at):
                if row in known and (text := _text(cell.as_py(), labels.get(name))):
                    known[row].setdefault(plain(name), text)
        at += len(batch)
    return known


def _text(value: Any, labels: Sequence[str] | None) -> str:
    if value is None:
        return ""
    if labels and isinstance(value, int):
        return labels[value] if 0 <= value < len(labels) else ""
    return plain(value, 200)
