"""Several zips or folders dropped at once, read as one: each for itself first, then together, then by their names.

`train.zip` and `val.zip` are parts; `cats.zip` and `dogs.zip` with loose pictures are classes; `photos-001.zip` and
`photos-002.zip` are one tree that was cut for downloading.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tl_core.data.layout import (
    Layout,
    Part,
    Place,
    looks_like_picture,
    part_of,
    pictures,
    read_folders,
    without_classes_named_as_parts,
)

Upload = tuple[str, Sequence[str]]  # what it is called, the names of its files

_ARCHIVE_ENDING = re.compile(r"(\.tar)?\.(zip|tar|tgz|tbz2?|txz|gz|bz2|xz|7z|rar)$", re.IGNORECASE)
# As browsers and cloud drives number downloads: "cats (1)", "cats-001", "cats-20240131T120000Z-001", "cats.part2".
_PIECE = re.compile(
    r"(?P<whole>.+?)[\s._-]*(?:-\d{8}T\d{6}Z)?"
    r"(?:\s*\(\d{1,3}\)|[\s._-]0\d{0,4}|-\d{8}T\d{6}Z-\d{1,3}-\d{1,4}|[\s._-]+(?:part|pt|chunk|vol)[\s._-]*\d{1,3})",
    re.IGNORECASE,
)
# Folders that say nothing about what is in them.
_GENERIC = {
    *("image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "pics", "jpg", "jpeg", "png"),
    *("data", "dataset", "dcim", "export", "files", "samples", "图片", "照片", "数据", "图像"),
}


@dataclass(frozen=True)
class _Tree:
    """One upload: what it is called without ending and number, and its files: path within it -> name given to us."""

    called: str
    files: dict[str, str]

    @property
    def part(self) -> Part:
        return part_of(self.called) or ""


def read_uploads(uploads: Sequence[Upload]) -> Layout:
    """The folders of one or several uploads, as one reading of all their names.

    With several, names begin with the upload's name and "/"; that is no folder of theirs.
    """
    if len(uploads) == 1:
        return read_folders(uploads[0][1])
    trees = [_tree(name, files) for name, files in sorted(uploads, key=lambda upload: upload[0])]
    filled = [tree for tree in trees if any(map(looks_like_picture, tree.files))] or trees
    together = _together(trees)
    if len(filled) < 2 or len({tree.called.casefold() for tree in filled}) == 1:
        return together
    apart = _apart(trees)
    if len(classes(apart)) >= 2:
        return apart
    if len(classes(together)) >= 2:
        return together
    if not any(tree.part for tree in filled):
        return _named_by_upload(filled, apart)
    return apart


def classes(reading: Layout) -> set[str]:
    """The classes that the pictures of a reading are in."""
    return {place.label for name in pictures(reading.places) if isinstance(place := reading.places[name], Place)}


def _tree(name: str, files: Sequence[str]) -> _Tree:
    called = _ARCHIVE_ENDING.sub("", name.replace("\\", "/").rstrip("/").rpartition("/")[2])[:255]
    piece = _PIECE.fullmatch(called)
    return _Tree(piece["whole"] if piece else called, {file.removeprefix(f"{name}/"): file for file in files})


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
        loose = labels <= _GENERIC and not looks_like_picture(tree.called) and not (trained and tree.part)
        for path, name in tree.files.items():
            place = reading.places[path]
            part = reading.parts[path] or (tree.part if trained else "")
            if loose and (isinstance(place, Place) or place == "no_class_folder") and looks_like_picture(path):
                place = Place(tree.called, "")
            places[name] = Place(place.label, part) if isinstance(place, Place) else place
            parts[name] = part
    return without_classes_named_as_parts(Layout(places, parts))


def _named_by_upload(trees: Sequence[_Tree], apart: Layout) -> Layout:
    """Each upload a class: they hold one folder each, called the same, as in "cats.zip" with all in "images/"."""
    places = dict(apart.places)
    for tree in trees:
        places |= {name: Place(tree.called, "") for name in tree.files.values() if isinstance(places[name], Place)}
    return Layout(places, apart.parts)
