"""What is odd about a set: copies, copies across classes or across an official split, small or unequal classes."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tl_core.data.imageset import Picture, Remark

THUMB_SIDE = 16
# Two pictures are one when their 16 x 16 colour thumbnails differ, by root mean square, by less than this many grey
# levels of 255 and by less than this share of their contrast. On monkeys10 that finds the 54 known copies between train
# and val, on hymenoptera none, and on dtd10 it does not take one striped cloth for another (bench/RESULTS.md).
COPY_DISTANCE, COPY_SHARE = 8.0, 0.15
# Nearly flat pictures are all alike at 16 x 16: those are only copies when their pixels are equal.
_MIN_CONTRAST = 8.0
SMALL_CLASS = 10
UNEQUAL_RATIO = 5


def copy_groups(hashes: Sequence[str], thumbs: npt.NDArray[np.uint8]) -> list[int]:
    """A group number for each of N pictures: equal for copies, exact (by hash) or near (by `thumbs`, (N, 768) RGB)."""
    parent = list(range(len(hashes)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for i, digest in enumerate(hashes):
        parent[root(i)] = root(first.setdefault(digest, i))
    for i, j in _near_pairs(thumbs):
        a, b = sorted((root(i), root(j)))
        parent[b] = a
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(i), len(numbers)) for i in range(len(hashes))]


def _near_pairs(thumbs: npt.NDArray[np.uint8]) -> list[tuple[int, int]]:
    x = thumbs.astype(np.float32)
    contrast = x.std(axis=1)
    textured = np.flatnonzero(contrast >= _MIN_CONTRAST)
    x, contrast = x[textured], contrast[textured]
    norms = (x * x).mean(axis=1)
    limits = np.minimum(COPY_DISTANCE, COPY_SHARE * contrast) ** 2
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(x), 512):
        block = slice(start, start + 512)
        squares = norms[block, None] + norms[None, start:] - 2 * (x[block] @ x[start:].T) / x.shape[1]
        rows, columns = np.nonzero(squares < np.minimum(limits[block, None], limits[None, start:]))
        near = zip(rows, columns, strict=True)
        pairs += [(int(textured[start + i]), int(textured[start + j])) for i, j in near if j > i]
    return pairs


def remarks(pictures: Sequence[Picture], class_names: Sequence[str]) -> list[Remark]:
    """What the person should know before training, most serious first."""
    found: list[Remark] = []
    groups: defaultdict[int, list[Picture]] = defaultdict(list)
    for picture in pictures:
        groups[picture.group].append(picture)
    copies = [members for members in groups.values() if len(members) > 1]
    conflicts = [members for members in copies if len({p.label for p in members}) > 1]
    leaks = sum(len({p.part for p in members}) > 1 for members in copies)
    if conflicts:
        a, b = conflicts[0][0], next(p for p in conflicts[0] if p.label != conflicts[0][0].label)
        values = {"count": str(len(conflicts)), "first": a.name, "second": b.name}
        found.append(Remark("copies_across_classes", values))
    if leaks:
        found.append(Remark("copies_across_split", {"count": str(leaks)}))
    if extra := sum(len(members) - 1 for members in copies):
        found.append(Remark("copies", {"count": str(extra)}))
    sizes = Counter(picture.label for picture in pictures)
    small = [class_names[label] for label, size in sorted(sizes.items()) if size < SMALL_CLASS]
    if small:
        found.append(Remark("small_classes", {"classes": ", ".join(small[:5]), "count": str(len(small))}))
    largest, smallest = sizes.most_common()[0], sizes.most_common()[-1]
    if largest[1] >= UNEQUAL_RATIO * smallest[1]:
        values = {"large": class_names[largest[0]], "small": class_names[smallest[0]]}
        values |= {"large_count": str(largest[1]), "small_count": str(smallest[1])}
        found.append(Remark("unequal_classes", values))
    return found
