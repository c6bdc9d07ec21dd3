"""Several zips or folders dropped at once, read as one: each for itself first, then together, then by their names.

`train.zip` and `val.zip` are parts; `cats.zip` and `dogs.zip` with loose pictures are classes, and so are `grade_0.zip`
and `grade_1.zip`; `photos-001.zip` and `photos-002.zip` with class folders are one tree that was cut for downloading.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tl_core.data.folder_words import says_nothing
from tl_core.data.layout import (
    Layout,
    Part,
    Place,
    looks_like_picture,
    part_of,
    pictures,
    read_folders,
    without_classes_named_as_parts,
    without_lonely_classes,
)

Upload = tuple[str, Sequence[str]]  # what it is called, the names of its files

_ARCHIVE_ENDING = re.compile(r"(\.tar)?\.(zip|tar|tgz|tbz2?|txz|gz|bz2|xz|7z|rar)$", re.IGNORECASE)
# As browsers and cloud drives number downloads: "cats (1)", "cats-001", "cats.part2".
_PIECE = re.compile(
    r"(?P<whole>.+?)(?:(?P<copy>\s*\(\d{1,3}\))|[\s._-]+0\d{0,4}|(?P<told>[\s._-]+(?:part|pt|chunk|vol)[\s._-]*\d{1,3}))",
    re.IGNORECASE,
)
_STAMP = re.compile(r"-\d{8}T\d{6}Z(?:-\d{1,4}){0,2}$")  # of cloud drives: "cats-20240131T120000Z-001"


@dataclass(frozen=True)
class _Tree:
    """One upload: what it is called, without ending and time, and its files: path within it -> name given to us.

    `meant` is the name without a number that certainly counts pieces, `whole` without any that may.
    """

    called: str
    meant: str
    whole: str
    files: dict[str, str]

    @property
    def part(self) -> Part:
        return part_of(self.whole) or ""


def told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """`names` of uploads with those that repeat another numbered, as browsers do: "a.zip" and "a (2).zip"."""
    told: dict[str, None] = {}
    given = set(names)
    for name in names:
        new, number = name, 2
        ending = found[0] if (found := _ARCHIVE_ENDING.search(name)) else ""
        while new in told or (new != name and new in given):
            new, number = f"{name.removesuffix(ending)} ({number}){ending}", number + 1
        told[new] = None
    return tuple(told)


def read_uploads(uploads: Sequence[Upload]) -> Layout:
    """The folders of one or several uploads, as one reading of all their names.

    With several, names begin with the upload's name and "/"; that is no folder of theirs. Their names are different
    (`told_apart`).
    """
    if len(uploads) == 1:
        return read_folders(uploads[0][1])
    trees = _trees(sorted(uploads, key=lambda upload: upload[0]))
    filled = [tree for tree in trees if any(map(looks_like_picture, tree.files))] or trees
    together = _together(trees)
    one_whole = len({tree.whole.casefold() for tree in filled}) == 1
    cut = one_whole and sum(not says_nothing(label) for label in classes(together)) >= 2
    # "photos-001" and "photos-002" say nothing; "photos" and "photos (2)" say that somebody kept them apart.
    pile = one_whole and says_nothing(filled[0].whole) and all(map(_is_a_piece, filled))
    if len(filled) < 2 or cut or pile:
        return together
    apart = _apart(trees)
    found = classes(apart)
    if len(found) < 2 and len(classes(together)) >= 2:
        return together
    if len(found) < 2 and not any(tree.part for tree in filled):
        apart = _named_by_upload(filled, apart)
        found = classes(apart)
    return replace(apart, numbered=one_whole and found <= {tree.called for tree in filled})


def classes(reading: Layout) -> set[str]:
    """The classes that the pictures of a reading are in."""
    return {place.label for name in pictures(reading.places) if isinstance(place := reading.places[name], Place)}


def _trees(uploads: Sequence[Upload]) -> list[_Tree]:
    called = [_called(name) for name, _ in uploads]
    pieces = [_PIECE.fullmatch(name) for name in called]
    there = {name.casefold() for name in called}
    trees = []
    for (upload, files), name, piece in zip(uploads, called, pieces, strict=True):
        whole = piece["whole"] if piece else name
        # "cats (1)" beside "cats" is more of it; "grade_01" beside "grade_02" is a class.
        counts = piece is not None and bool(piece["told"] or (piece["copy"] and whole.casefold() in there))
        within = {file.removeprefix(f"{upload}/"): file for file in files}
        trees.append(_Tree(name, whole if counts else name, whole, within))
    return trees


def _called(upload: str) -> str:
    """What an upload is called, without folders, ending and the time when it was packed."""
    name = upload.replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = _ARCHIVE_ENDING.sub("", name)[:255]
    return _STAMP.sub("", name) or name


def _is_a_piece(tree: _Tree) -> bool:
    piece = _PIECE.fullmatch(tree.called)
    return piece is not None and not piece["copy"]


def _together(trees: Sequence[_Tree]) -> Layout:
    """All files as if they lay in one tree."""
    reading = read_folders(sorted({path for tree in trees for path in tree.files}))
    return Layout(
        {name: reading.places[path] for tree in trees for path, name in tree.files.items()},
        {name: reading.parts[path] for tree in trees for path, name in tree.files.items()},
    )


def _apart(trees: Sequence[_Tree]) -> Layout:
    """Each upload for itself; one whose pictures lie loose is a class or a part, as it is called."""
    readings = [read_folders(tree.files) for tree in trees]
    trained = any(tree.part == "train" for tree in trees) or any("train" in one.parts.values() for one in readings)
    places: dict[str, Place | str] = {}
    parts: dict[str, Part] = {}
    for tree in trees:
        reading = read_folders(tree.files, trained_elsewhere=trained)
        labels = classes(reading)
        loose = all(map(says_nothing, labels)) and not looks_like_picture(tree.called) and not (trained and tree.part)
        for path, name in tree.files.items():
            place = reading.places[path]
            part = reading.parts[path] or (tree.part if trained else "")
            if loose and (isinstance(place, Place) or place == "no_class_folder") and looks_like_picture(path):
                place = Place(tree.meant, "")
            places[name] = Place(place.label, part) if isinstance(place, Place) else place
            parts[name] = part
    return without_lonely_classes(without_classes_named_as_parts(Layout(places, parts)))


def _named_by_upload(trees: Sequence[_Tree], apart: Layout) -> Layout:
    """Each upload a class, whatever it is called: they hold one folder each, called the same, as in "cats.zip" with all
    in "x/", or were taken for more of the same."""
    places = dict(apart.places)
    for tree in trees:
        places |= {name: Place(tree.called, "") for name in tree.files.values() if isinstance(places[name], Place)}
    return Layout(places, apart.parts)
