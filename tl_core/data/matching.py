"""Which file of the upload each row of a table is about, however the table writes it.

A cell may be a whole path, a path from the table's own folder, the end or a longer form of one, a name alone, or a name
without its ending, in any case and with either slash. What fits several files fits none.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tl_core.data.layout import PICTURE_ENDINGS, Part, affixed_part, looks_like_picture, pictures
from tl_core.data.tables import Table

LEAST_MATCHED = 0.5  # of the rows, or of the pictures where the table knows more
_DEEPEST = 12
_SAMPLED_ROWS = 2_000
_SAMPLED_CELLS = 200_000
_SEARCHED_CELLS = 400_000
_SEVERAL = ""  # stands for "fits more than one file"
_FILE_WORDS = {
    *("file", "filename", "filepath", "path", "image", "imagename", "imagepath", "imageid", "img", "imgname"),
    *("imgpath", "picture", "photo", "name", "id", "idcode", "文件", "文件名", "图片", "路径", "图像"),
}
_BOX_WORDS = {
    *("xmin", "ymin", "xmax", "ymax", "boundingbox", "box", "boxes", "x1", "y1", "x2", "y2"),
    *("roix1", "roiy1", "roix2", "roiy2", "polygon", "segmentation", "xcenter", "ycenter"),
}


@dataclass(frozen=True)
class Rows:
    """One table, or several that continue each other, matched with files: row i is about the file `files[i]`.

    `parts[i]` is the part that the table's own name says ("" when it says none); `missing` counts rows whose file is
    not in the upload; `cut` when rows were left out unread.
    """

    title: str
    tables: tuple[str, ...]
    columns: tuple[str, ...]
    file_column: int
    files: list[str] = field(default_factory=list)
    cells: list[tuple[str, ...]] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    missing: int = 0
    cut: bool = False


class FileIndex:
    """Finds the file that a cell of a table names."""

    def __init__(self, names: Iterable[str]) -> None:
        every = sorted(names)
        shown = set(pictures(every))
        self.count = len(shown)
        self._exact: dict[str, str] = {}
        self._ends: dict[str, str] = {}
        self._stems: dict[str, str] = {}
        for name in every:
            path = _path(name)
            self._exact[path] = _SEVERAL if path in self._exact else name
            self._exact[name] = name
            _add_ends(self._ends, path, name)
            if name in shown:
                _add_ends(self._stems, _without_ending(path), name)

    def find(self, cell: str, folder: str = "") -> tuple[str, bool] | None:
        """(the file, whether the cell named it with its ending) that `cell`, of a table in `folder`, is about."""
        if not cell:
            return None
        path = _path(cell)
        beside = f"{_path(folder)}/{path}" if folder else path
        for whole in (f"{folder}/{cell}" if folder else cell, beside, cell, path):
            if name := self._exact.get(whole):
                return name, True
        if name := _by_end(self._ends, path):
            return name, True
        stem = _without_ending(path)
        if name := self._stems.get(_without_ending(beside)) or _by_end(self._stems, stem):
            return name, False
        return None


def match(tables: Mapping[str, Table], names: Sequence[str], folder_parts: Mapping[str, Part]) -> list[Rows]:
    """The tables that are about files of the upload; those that continue each other (`train.csv` and `val.csv`, or one
    `_classes.csv` in every folder) as one."""
    if not tables:
        return []
    everything = FileIndex(names)
    within: dict[Part, FileIndex] = {}
    groups: dict[tuple[object, str], list[tuple[Table, int, Part]]] = defaultdict(list)
    indices: dict[str, list[FileIndex]] = {}
    for table in sorted(tables.values(), key=lambda table: (table.name.count("/"), table.name)):
        what, part = affixed_part(_without_ending(_path(table.name)).rpartition("/")[2]) or (table.name, "")
        if part and part not in within:
            within[part] = FileIndex(name for name in names if folder_parts.get(name) == part)
        # `train.csv` says "1.jpg" of "train/1.jpg", though there is a "test/1.jpg" too.
        indices[table.name] = [within[part], everything] if part else [everything]
        headed = _headed(table, everything)
        column = _file_column(headed, indices[table.name])
        if column is not None:
            base = what.rpartition("/")[2].casefold()
            groups[(tuple(map(str.casefold, headed.columns)), base)].append((headed, column, part))
    found = [_joined(group, indices) for group in groups.values()]
    return [rows for rows in found if _is_about_files(rows, everything.count)]


def heading(text: str) -> str:
    """A column's name as compared with words: "Image ID" and "image_id" are "imageid"."""
    return "".join(letter for letter in unicodedata.normalize("NFKC", text).casefold() if letter.isalnum())


def is_box(column: str) -> bool:
    """Whether a column says where in a picture something is."""
    name = heading(column)
    return name in _BOX_WORDS or name.startswith("bbox")


def _path(text: str) -> str:
    """A path as compared: case, slashes and detours aside; its last folders only, which bounds what it costs."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    parts = [part for part in text.replace("\\", "/").casefold().split("/") if part not in ("", ".", "..")]
    return "/".join(parts[-_DEEPEST:])


def _without_ending(path: str) -> str:
    return path.rpartition(".")[0] if path.endswith((*PICTURE_ENDINGS, ".csv", ".tsv", ".jsonl", ".json")) else path


def _add_ends(ends: dict[str, str], path: str, name: str) -> None:
    """Every end of a path that begins with a folder or with the file."""
    at = 0
    while True:
        end = path[at:]
        ends[end] = _SEVERAL if end in ends else name
        at = path.find("/", at) + 1
        if at == 0:
            return


def _by_end(ends: Mapping[str, str], path: str) -> str | None:
    """The file whose path ends like this one, or whose whole path this one ends with."""
    at = 0
    while True:
        if (name := ends.get(path[at:])) is not None:
            return name or None
        at = path.find("/", at) + 1
        if at == 0:
            return None


def _headed(table: Table, index: FileIndex) -> Table:
    """The table with its first row among the others when that is no heading, its columns then called 1, 2, ..."""
    numbers = tuple(str(at + 1) for at in range(len(table.columns)))
    folder = table.name.rpartition("/")[0]
    for cell in table.columns:
        found = index.find(cell, folder)
        if looks_like_picture(cell) or (found and (found[1] or any(letter.isdigit() for letter in cell))):
            return Table(table.name, numbers, (table.columns, *table.rows), table.cut)
    named = [
        name if name and table.columns.count(name) == 1 else number
        for name, number in zip(table.columns, numbers, strict=True)
    ]
    return Table(table.name, tuple(named), table.rows, table.cut)


def _find(cell: str, folder: str, indices: Sequence[FileIndex]) -> str | None:
    return next((found[0] for index in indices if (found := index.find(cell, folder))), None)


def _file_column(table: Table, indices: Sequence[FileIndex]) -> int | None:
    """The column that names most files; None without one, and when two columns name different files in a row."""
    folder = table.name.rpartition("/")[0]
    width = len(table.columns)
    step = max(1, len(table.rows) // max(1, min(_SAMPLED_ROWS, _SAMPLED_CELLS // width)))
    for sample in (table.rows[::step], table.rows):
        found = [[_find(row[at], folder, indices) for row in sample] for at in range(width)]
        counts = [len(set(column) - {None}) for column in found]
        if max(counts) >= max(2, 0.02 * len(sample)) or step == 1 or width * len(table.rows) > _SEARCHED_CELLS:
            break
    best = max(range(width), key=lambda at: (counts[at], _file_word(table.columns[at]), -at))
    if counts[best] == 0:
        return None
    for at in range(width):
        # A plain number may be the name of a file by chance.
        other = {
            b for a, b, row in zip(found[best], found[at], sample, strict=True) if a != b and not row[at].isdecimal()
        }
        if at != best and len(other - {None}) >= counts[best] / 2:
            return None
    return best


def _file_word(column: str) -> bool:
    return heading(column) in _FILE_WORDS


def _joined(group: Sequence[tuple[Table, int, Part]], indices: Mapping[str, Sequence[FileIndex]]) -> Rows:
    names = [table.name for table, _, _ in group]
    short = {name.rpartition("/")[2] for name in names}
    split = {part for _, _, part in group}
    split_by_table = "train" in split and len(split) > 1
    # One table in every folder goes by its name alone, and so does a table that is an upload of its own.
    alone = len(short) == 1 and (len(names) > 1 or names[0] == "/".join([*short, *short]))
    title = short.pop() if alone else ", ".join(names)
    files: list[str] = []
    cells: list[tuple[str, ...]] = []
    parts: list[Part] = []
    missing = 0
    for table, column, part in group:
        folder = table.name.rpartition("/")[0]
        for row in table.rows:
            name = _find(row[column], folder, indices[table.name])
            if name is None:
                missing += bool(row[column])
                continue
            files.append(name)
            cells.append(row)
            parts.append(part if split_by_table else "")
    cut = any(table.cut for table, _, _ in group)
    return Rows(title, tuple(names), group[0][0].columns, group[0][1], files, cells, parts, missing, cut)


def _is_about_files(rows: Rows, pictures_there: int) -> bool:
    """Whether a table is about enough files, and is not one of boxes in pictures."""
    distinct = len(set(rows.files))
    if any(map(is_box, rows.columns)) and distinct < len(rows.files):
        return False
    return distinct >= 2 and distinct >= LEAST_MATCHED * min(len(rows.files) + rows.missing, pictures_there)
