"""Tables inside an upload (CSV, TSV, JSON) as columns and rows of text. Untrusted: bounded in memory and time.

Does not judge what a table says (`columns` does), nor whether its first row is a heading, which takes the names of the
upload's files to tell.
"""

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Literal

from tl_core.settings import Settings

TABLE_ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
MOST_TABLES = 20
MOST_BYTES = 16_000_000  # of one table; parsed it takes at most about 25 times that
MOST_COLUMNS = 200
LONGEST_CELL = 2_048  # longer than any path or class name that can be used

_DELIMITERS = ",;\t|"
_SNIFFED = 100_000  # letters
_SNIFFED_ROWS = 50
_BROKEN_LINES = 100
_QUOTINGS: tuple[Literal[0, 3], ...] = (csv.QUOTE_MINIMAL, csv.QUOTE_NONE)


@dataclass(frozen=True)
class Table:
    """`rows` hold a cell for every column. `cut`: there were more rows than can be used, which were left out."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    cut: bool = False


def worth_reading(files: Iterable[tuple[str, int]]) -> list[str]:
    """Those of (name, bytes) that may be tables and are small enough: at most `MOST_TABLES`, outermost first, together
    no larger than one may be. JSON comes last: tools write one such file beside every picture."""
    chosen: list[str] = []
    left = MOST_BYTES
    found = [(name, size) for name, size in files if name.lower().endswith(TABLE_ENDINGS)]
    for name, size in sorted(found, key=lambda file: (file[0].lower().endswith(".json"), file[0].count("/"), file)):
        if size <= left and len(chosen) < MOST_TABLES:
            chosen.append(name)
            left -= size
    return chosen


def parse(name: str, data: bytes, *, most_rows: int = Settings.max_entries + 1) -> Table | None:
    """The table in a file called `name`, or None when there is none in it. Never raises, whatever the bytes."""
    if len(data) > MOST_BYTES or (text := _decoded(data)) is None:
        return None
    ending = name.lower().rpartition(".")[2]
    try:
        if ending in ("csv", "tsv"):
            return _separated(name, text, "\t" if ending == "tsv" else "", most_rows)
        return _from_records(name, _listed(json.loads(text)) if ending == "json" else _lines(text), most_rows)
    except (ValueError, RecursionError):  # not JSON, or nested as no table is
        return None


def _decoded(data: bytes) -> str | None:
    """Text in UTF-8, UTF-16, GBK (as GB 18030, which includes it) or else Windows Latin; None for what is no text."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _text(data, "utf-16")
    head = data[:2000]
    if head.count(0) > len(head) // 3:  # Latin letters in UTF-16 without its mark
        return _text(data, "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be")
    found = (_text(data, encoding) for encoding in ("utf-8-sig", "gb18030", "cp1252"))
    return next((text for text in found if text is not None), None)


def _text(data: bytes, encoding: str) -> str | None:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _separated(name: str, text: str, delimiter: str, most_rows: int) -> Table | None:
    text = text.lstrip("\r\n")
    first, _, rest = text.partition("\n")
    if re.fullmatch(r"sep=[,;\t|]\s*", first, re.IGNORECASE):  # Excel's own note on the delimiter
        delimiter, text = first[4], rest
    if not delimiter or delimiter not in text[:_SNIFFED]:
        delimiter = _sniffed(text[:_SNIFFED])
    if not delimiter:
        return None
    for quoting in _QUOTINGS:
        lines = io.StringIO(text, newline="")
        try:
            rows = csv.reader(lines, delimiter=delimiter, quoting=quoting, skipinitialspace=delimiter != "\t")
            return _table(name, (row for row in rows if any(row)), most_rows)
        except csv.Error:  # a quote that is never closed makes one endless cell
            continue
    return None


def _sniffed(head: str) -> str:
    """The delimiter that gives most rows the same width, "" when none does."""
    best, delimiter = (0, 0), ""
    for candidate in _DELIMITERS:
        try:
            rows = list(islice(csv.reader(io.StringIO(head, newline=""), delimiter=candidate), _SNIFFED_ROWS))
        except csv.Error:
            continue
        (width, count), *_ = Counter(len(row) for row in rows if row).most_common(1) or [(0, 0)]
        if width > 1 and (count, width) > best:
            best, delimiter = (count, width), candidate
    return delimiter


def _table(name: str, rows: Iterator[list[str]], most_rows: int) -> Table | None:
    head = list(islice(rows, _SNIFFED_ROWS))
    width = min(MOST_COLUMNS, max(map(len, head), default=0))
    if width < 2:
        return None
    padding, every = [""] * width, chain(head, rows)
    kept = [
        tuple([cell[:LONGEST_CELL].strip() for cell in (row + padding)[:width]]) for row in islice(every, most_rows + 1)
    ]
    return Table(name, kept[0], tuple(kept[1:]), cut=next(every, None) is not None)


def _lines(text: str) -> Iterator[object]:
    """The object in every line. A few lines may be broken; what has many is something else."""
    broken = 0
    for line in io.StringIO(text):
        try:
            if line.strip():
                yield json.loads(line)
        except ValueError:
            broken += 1
            if broken > _BROKEN_LINES:
                raise


def _listed(found: object) -> Iterator[object]:
    """The objects of a list, or those that an object names: {"1.jpg": "cat"} or {"1.jpg": {"label": "cat"}}."""
    if isinstance(found, list):
        yield from found
    elif isinstance(found, dict):
        for name, value in found.items():
            if isinstance(value, list):
                raise ValueError("lists side by side, as of boxes and pictures, are no table")
            yield {"file": name} | (value if isinstance(value, dict) else {"label": value})


def _from_records(name: str, records: Iterator[object], most_rows: int) -> Table | None:
    columns: dict[str, None] = {}
    kept: list[dict[str, str]] = []
    for record in islice(records, most_rows):
        if not isinstance(record, dict):
            return None
        row = {str(key)[:LONGEST_CELL]: _cell(value) for key, value in islice(record.items(), MOST_COLUMNS)}
        kept.append(row)
        if len(columns) < MOST_COLUMNS:
            columns.update(dict.fromkeys(row))
    names = tuple(islice(columns, MOST_COLUMNS))
    if len(names) < 2:
        return None
    rows = tuple(tuple([row.get(column, "") for column in names]) for row in kept)
    return Table(name, names, rows, cut=next(records, None) is not None)


def _cell(value: object) -> str:
    """A value of JSON as text; lists and objects are none that could name a file or a class."""
    if isinstance(value, str):
        return value[:LONGEST_CELL].strip()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else "" if math.isnan(value) else str(value)
    return "" if value is None or isinstance(value, list | dict) else str(value)[:LONGEST_CELL]
