"""Which pictures only say where something is in other pictures (masks). Pure: looks at names, never at pictures.

They lie in a folder that is called so, in a tree that repeats the one of the pictures: `masks/a/1` beside `images/a/1`,
`cats/mask/1` beside `cats/1`. A class may be called "mask" too, with files numbered like those of other classes: so
beside anything that may be a class, a tree has to repeat folders, not only names.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tl_core.data.folder_words import holds_annotations, names_a_class, says_nothing

Folders = tuple[str, ...]

LEAST_KNOWN = 0.9  # of the pictures in such a folder


@dataclass(frozen=True)
class _Picture:
    path: str
    folders: Folders
    stem: str

    @property
    def meant(self) -> Folders:
        """The same for a picture and its mask in trees side by side."""
        return (*_saying(self.folders), self.stem)


def annotations(pictures: Iterable[str]) -> frozenset[str]:
    """Those of the paths of pictures that are masks of others."""
    masks: dict[Folders, list[_Picture]] = defaultdict(list)  # by the outermost folder that is called so
    others: list[_Picture] = []
    for path in pictures:
        *above, file = path.split("/")
        picture = _Picture(path, tuple(above), file.rpartition(".")[0])
        at = next((at for at, folder in enumerate(above) if holds_annotations(folder)), None)
        (others if at is None else masks[picture.folders[: at + 1]]).append(picture)
    around = {top[:-1] for top in masks}
    beside_classes: set[Folders] = set()
    stems: dict[Folders, set[str]] = defaultdict(set)
    for picture in others if masks else ():
        for at in range(len(picture.folders) + 1):
            if (root := picture.folders[:at]) in around:
                stems[root].add(picture.stem)
                if at < len(picture.folders) and names_a_class(picture.folders[at]):
                    beside_classes.add(root)
    trees = {picture.meant for picture in others} if beside_classes else set()
    found: set[str] = set()
    for top, mine in masks.items():
        if (root := top[:-1]) in beside_classes:
            known = sum(bool(_saying(one.folders[len(top) :])) and one.meant in trees for one in mine)
        else:
            known = sum(one.stem in stems[root] for one in mine)
        if known >= LEAST_KNOWN * len(mine):
            found.update(one.path for one in mine)
    return frozenset(found)


def _saying(folders: Folders) -> Folders:
    """Folders without those that only tell masks from pictures."""
    return tuple([folder for folder in folders if not holds_annotations(folder) and not says_nothing(folder)])
