"""Which columns of a matched table say classes and which says the split. Best first.

A column of classes has few values that repeat. Its name decides before its values do: a "label" comes before a
"species", and both before a "camera". Widths, dates and addresses repeat too and are none.
"""

import re
from collections import Counter
from dataclasses import dataclass

from tl_core.data.layout import Part, part_of
from tl_core.data.matching import Rows, heading, is_box

_FIRST_WORDS = {
    *("label", "labels", "class", "classes", "classname", "classlabel", "labelname", "category", "categories"),
    *("categoryname", "target", "y", "groundtruth", "标签", "类别", "类", "分类", "类名", "类别名称", "标注"),
}
_SECOND_WORDS = {
    *("species", "breed", "type", "diagnosis", "dx", "disease", "variety", "kind", "subcategory", "emotion", "defect"),
    *("style", "cultivar", "种类", "品种", "物种", "类型", "种", "病害", "诊断"),
}
_NO_CLASSES = {
    *("width", "height", "w", "h", "size", "filesize", "bytes", "channels", "depth", "ext", "extension", "format"),
    *("mode", "url", "link", "source", "license", "licence", "author", "date", "time", "datetime", "timestamp"),
    *("year", "month", "day", "hour", "index", "md5", "sha256", "hash", "caption", "text", "description", "comment"),
    *("lat", "latitude", "lon", "longitude", "confidence", "score", "x", "z", "unnamed0", "宽", "高", "日期", "时间"),
}
_MISSING = {"", "nan", "null", "<na>", "n/a", "#n/a"}
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_WHOLE = re.compile(r"([+-]?\d+)\.0+")
_ZERO, _ONE = {"0", "0.0", "false"}, {"1", "1.0", "true"}
_LONGEST_CLASS = 100
_MOST_UNNAMED_NUMBERS = 20  # numbers under a heading that does not say class: more of them measure something
_SHARE_REPEATED = 0.8
_SHARE_FILLED = 0.5
_SHARE_CONFLICTS = 0.1
_SHARE_ONE_HOT = 0.99


@dataclass(frozen=True)
class Candidate:
    """A reading of one table: the column called `column`, or one column a class. Sorts by `rank`, best first."""

    rows: Rows
    column: str
    at: tuple[int, ...]
    rank: tuple[int, bool, int, int]
    split_at: int | None

    @property
    def one_hot(self) -> bool:
        return len(self.at) > 1


def candidates(rows: Rows, most_classes: int) -> list[Candidate]:
    """The columns of `rows` that may say the classes, best first."""
    by_column = {
        at: Counter(row[at] for row in rows.cells) for at in range(len(rows.columns)) if at != rows.file_column
    }
    split_at = next((at for at, counts in by_column.items() if _is_split(counts)), None)
    by_column = {at: counts for at, counts in by_column.items() if at != split_at}
    hot = _one_hot(rows, by_column)
    found: list[Candidate] = []
    if hot:
        names = [rows.columns[at] for at in hot]
        column = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        found.append(Candidate(rows, column, hot, (0, False, len(hot), hot[0]), split_at))
    text: list[int] = []
    for at, counts in by_column.items():
        if at in hot or not _may_be_classes(rows.columns[at], counts, most_classes):
            continue
        numbers = all(_NUMBER.fullmatch(value) for value in counts if value.casefold() not in _MISSING)
        if not numbers:
            text.append(at)
        rank = (_rank_of_name(rows.columns[at]), numbers, len(counts), at)
        if rank[0] == 3 and numbers and len(counts) > _MOST_UNNAMED_NUMBERS and not rows.columns[at].isdecimal():
            continue
        found.append(Candidate(rows, rows.columns[at], (at,), rank, split_at))
    said = {_division(rows, at) for at in text}
    twins = {one.at for one in found if one.rank[1] and said and _division(rows, one.at[0]) in said}
    return sorted((_after_all(one) if one.at in twins else one for one in found), key=lambda one: one.rank)


def labels(candidate: Candidate) -> dict[str, str | None]:
    """File -> its class; None where the table says none, "" where it says several."""
    rows = candidate.rows
    found: dict[str, str | None] = {}
    whole = _all_whole(rows, candidate.at[0])
    for name, row in zip(rows.files, rows.cells, strict=True):
        if candidate.one_hot:
            ones = [at for at in candidate.at if row[at].casefold() in _ONE]
            label = rows.columns[ones[0]] if len(ones) == 1 else "" if ones else None
        else:
            value = row[candidate.at[0]]
            label = None if value.casefold() in _MISSING else _WHOLE.sub(r"\1", value) if whole else value
        if found.get(name) is None:
            found[name] = label
        elif label is not None and label != found[name]:
            found[name] = ""
    return found


def consistent(found: dict[str, str | None]) -> bool:
    """Whether nearly every file has one class: else the table lists several things in each picture."""
    return sum(label == "" for label in found.values()) <= _SHARE_CONFLICTS * len(found)


def parts(candidate: Candidate) -> dict[str, Part]:
    """File -> the official part that the table says, in a column or by its own name; empty when it says none."""
    rows, at = candidate.rows, candidate.split_at
    if at is not None:
        return {name: part_of(row[at]) or "" for name, row in zip(rows.files, rows.cells, strict=True)}
    return {name: part for name, part in zip(rows.files, rows.parts, strict=True) if part}


def _rank_of_name(column: str) -> int:
    name = heading(column)
    if name in _FIRST_WORDS:
        return 0
    if name in _SECOND_WORDS:
        return 1
    words = {heading(word) for word in re.split(r"[\s_\-./]+|(?<=[a-z])(?=[A-Z])", column)}
    return 2 if words & (_FIRST_WORDS | _SECOND_WORDS) - {"y"} else 3


def _may_be_classes(column: str, counts: Counter[str], most_classes: int) -> bool:
    values = {value: count for value, count in counts.items() if value.casefold() not in _MISSING}
    filled, rank = sum(values.values()), _rank_of_name(column)
    identifies = re.search(r"(?:^|[\s_\-.]|(?<=[a-z]))(?:id|ID|Id|uuid|guid)$", column) is not None
    if rank == 3 and (heading(column) in _NO_CLASSES or identifies or is_box(column)):
        return False
    if not 2 <= len(values) <= most_classes or len(values) > filled / 2 or filled < _SHARE_FILLED * counts.total():
        return False
    if sum(count for count in values.values() if count > 1) < _SHARE_REPEATED * filled:
        return False
    if any(len(value) > _LONGEST_CLASS for value in values):
        return False
    fractions = (found[1] or found[2] for value in values if (found := _NUMBER.fullmatch(value)))
    return not any(fraction and fraction.strip(".0") for fraction in fractions)


def _is_split(counts: Counter[str]) -> bool:
    values = [value for value in counts if value]
    if not 2 <= len(values) <= 12:
        return False
    found = {part_of(value) for value in values}
    return None not in found and "train" in found and len(found) > 1


def _one_hot(rows: Rows, by_column: dict[int, Counter[str]]) -> tuple[int, ...]:
    """Columns side by side of zeros and ones, in nearly every row a single one: each column is a class."""
    longest: list[int] = []
    run: list[int] = []
    for at, counts in by_column.items():
        if counts and all(value.casefold() in _ZERO | _ONE for value in counts):
            run = [*run, at] if run and run[-1] == at - 1 else [at]
            longest = run if len(run) > len(longest) else longest
    used = [at for at in longest if any(value.casefold() in _ONE for value in by_column[at])]
    if len(used) < 2:
        return ()
    single = sum(sum(row[at].casefold() in _ONE for at in longest) == 1 for row in rows.cells)
    return tuple(longest) if single >= _SHARE_ONE_HOT * len(rows.cells) else ()


def _division(rows: Rows, at: int) -> int:
    """Tells how a column divides the rows: the same for one of names and one that repeats them as numbers."""
    seen: dict[str, int] = {}
    return hash(tuple([seen.setdefault(row[at], len(seen)) for row in rows.cells]))


def _after_all(candidate: Candidate) -> Candidate:
    _, numbers, distinct, at = candidate.rank
    return Candidate(candidate.rows, candidate.column, candidate.at, (9, numbers, distinct, at), candidate.split_at)


def _all_whole(rows: Rows, at: int) -> bool:
    """Whether a column holds whole numbers written as "3.0", as happens when some rows are empty."""
    return all(_WHOLE.fullmatch(row[at]) or row[at].casefold() in _MISSING for row in rows.cells)
