"""Every way to read the classes of an upload, best first: by its folders, by a table in it, by its files' names.

Pure: names and tables in, classes out; never opens a picture.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tl_core.data import columns
from tl_core.data.columns import Candidate
from tl_core.data.filenames import read_names
from tl_core.data.folder_words import names_a_class
from tl_core.data.layout import Layout, Part, Place, pictures, read_folders
from tl_core.data.matching import match
from tl_core.data.tables import Table
from tl_core.data.uploads import Upload, classes, read_uploads
from tl_core.settings import Settings

Kind = Literal["folders", "subfolders", "names", "table"]
MOST_OFFERED = 12
MOST_TRIED = 30  # columns of tables, of which some turn out to say several classes for a picture

# Folders that a pile of pictures was cut into, not classes: "images_part_1", "batch 2", "100CANON" is a camera's.
_PIECE = re.compile(
    r"(?P<whole>.*(?:part|chunk|batch|piece|shard|images?|imgs?|photos?|pictures?|pics|图片|照片))[\s_\-.]*\d+|\d{3}[A-Z_]{5}",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Labelling:
    """One way to read the classes of an upload.

    `values` are for sentences: for a table {"file", "column", "missing": rows whose file is not in the upload}, for the
    folders in one folder, where others are beside it, {"folder"}; else {}. `places`: every file's class and part, or
    the code of the reason why it has none. A `guess` has to be confirmed.
    """

    kind: Kind
    values: Mapping[str, str]
    places: Mapping[str, Place | str]
    guess: bool = False
    one_hot: bool = False  # a table with a column for each class; `values["column"]` then names the first few

    @property
    def id(self) -> str:
        """Names this reading among those of the same upload, the same every time."""
        return f"table:{self.values['file']}:{self.values['column']}" if self.kind == "table" else self.kind


def labellings(
    uploads: Sequence[Upload], tables: Mapping[str, Table], *, most_classes: int = Settings.max_classes
) -> tuple[Labelling, ...]:
    """All ways to read the classes, best first, never none.

    `uploads`: the name and files of each archive or folder; with several, every file's name begins with its upload's
    name and "/". `tables`: what was parsed of the files, by their names there. Folders come first when they give two
    classes or more, then tables, and file names are a guess for when folders do not. Where nothing gives two classes,
    folders are the only reading.
    """
    layout = read_uploads(uploads)
    found = classes(layout)
    by_folder = [Labelling("folders", {}, layout.places), *_by_inner_folder(uploads, layout)]
    by_table = _by_table(layout, tables, most_classes)
    weak = len(found) < 2 or layout.numbered or _is_a_pile(found) or not any(map(names_a_class, found))
    by_name: list[Labelling] = []
    beside = {name: place for name, place in layout.places.items() if place == "annotation"}
    names = sorted(name for name in layout.places if name not in beside)
    if weak and (places := read_names(names, layout.parts)) is not None:
        by_name.append(Labelling("names", {}, {**places, **beside}, guess=True))
    if not weak:
        return (*by_folder, *by_table)
    kept = by_folder if len(found) >= 2 or not (by_table or by_name) else []
    return (*by_table, *by_name, *kept)


def _by_inner_folder(uploads: Sequence[Upload], layout: Layout) -> list[Labelling]:
    """The reading that leaves out what lies beside the folder with most of the folders, if there is one."""
    if not layout.inner:
        return []
    places = read_folders(uploads[0][1], within_inner=True).places
    return [Labelling("subfolders", {"folder": _text(layout.inner)}, places)]


def _text(name: str) -> str:
    """A name from a disk or a table as text that can be printed and kept: a lone surrogate cannot."""
    return re.sub("[\ud800-\udfff]", "\ufffd", name)


def _is_a_pile(found: set[str]) -> bool:
    """Whether folders are called as pieces of one pile."""
    pieces = [_PIECE.fullmatch(label) for label in found]
    return all(pieces) and len({piece["whole"] for piece in pieces if piece}) == 1


def _by_table(layout: Layout, tables: Mapping[str, Table], most_classes: int) -> list[Labelling]:
    beside = {name for name, place in layout.places.items() if place == "annotation"}
    names = sorted(name for name in layout.places if name not in beside and name not in tables)
    matched = match(tables, names, layout.parts)
    most = max((len(set(rows.files)) for rows in matched), default=0)
    offered = [
        (len(set(rows.files)) < most / 2, one.rank, -len(set(rows.files)), rows.title, one)
        for rows in matched
        for one in columns.candidates(rows, most_classes)
    ]
    offered.sort(key=lambda row: row[:4])
    found: dict[str, Labelling] = {}
    for *_, candidate in offered[:MOST_TRIED]:
        labelling = _read(candidate, layout)
        if labelling is not None and labelling.id not in found and not _says_the_same(labelling, layout):
            found[labelling.id] = labelling
        if len(found) == MOST_OFFERED:
            break
    return list(found.values())


def _read(candidate: Candidate, layout: Layout) -> Labelling | None:
    rows = candidate.rows
    labels = columns.labels(candidate)
    if not columns.consistent(labels) or len({label for label in labels.values() if label}) < 2:
        return None
    said: Mapping[str, Part] = columns.parts(candidate) or layout.parts
    split = {said.get(name, "") for name, label in labels.items() if label}
    keep = "train" in split and len(split) > 1
    missing = "table_too_long" if rows.cut else "not_in_table"
    places: dict[str, Place | str] = {
        name: "annotation" if place == "annotation" else missing for name, place in layout.places.items()
    }
    known: dict[tuple[str, Part], Place] = {}
    for name, label in labels.items():
        part: Part = said.get(name, "") if keep else ""
        if label:
            places[name] = known.setdefault((label, part), Place(label, part))
        else:
            places[name] = "no_label_in_table" if label is None else "several_labels"
    places |= {name: "label_table" for name in rows.tables if name in places}
    values = {"file": _text(rows.title), "column": _text(candidate.column), "missing": str(rows.missing)}
    return Labelling("table", values, places, one_hot=candidate.one_hot)


def _says_the_same(labelling: Labelling, layout: Layout) -> bool:
    """Whether a table only repeats what the folders say."""
    return all(labelling.places[name] == layout.places[name] for name in pictures(layout.places))
