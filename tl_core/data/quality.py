"""Which pictures are copies of each other: exact ones by their bytes, near ones by 16 x 16 colour thumbnails (a
perceptual hash with 768 values) and, where a network has looked at them, by its features too."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# A pair may show one picture when its thumbnails correlate by more than this, one of them mirrored or not; it does when
# the centred features agree by more than that. Of no photo's variants in other sizes, qualities, brightness, contrast
# or cut by 3 % is one missed; two pictures that correlate at random agree by 0.88 at most (bench/RESULTS.md).
CORRELATION, AGREEMENT = 0.8, 0.9
# Where thumbnails leave hardly any doubt, so much is enough: small or poor versions lose what the network looks at.
_LEAST_AGREEMENT = 0.8
# Pairs are beyond doubt, also between classes, when thumbnails differ, by root mean square, by less than this many grey
# levels of 255 and by less than this share of their contrast.
_DISTANCE, _SHARE = 8.0, 0.15
# Nearly flat pictures are all alike at 16 x 16: those are only copies when their bytes are equal.
_MIN_CONTRAST = 8.0
# The same drawing in other colours is another picture: grey levels by which mean colours, less their brightness, may
# differ. Brighter or more contrasty versions of a photo differ by about half of it.
_CAST = 10.0
_BLOCK = 512
_PARTNERS = 32  # of one picture; a heap of a thousand copies hangs together by fewer
# Where near copies leave fewer different pictures than this in a class, and half as many as there seemed to be, it
# could hardly be split: then only exact copies count (a webcam's frames).
LEAST_GROUPS = 4


@dataclass(frozen=True)
class Pair:
    """Two pictures that may be one, by their index; `sure` where the thumbnails alone leave no doubt."""

    a: int
    b: int
    sure: bool


def near_pairs(thumbs: npt.NDArray[np.uint8], digests: Sequence[str]) -> list[Pair]:
    """Pairs of N pictures that may be copies by their `thumbs`, (N, 768) RGB, exact copies counted once."""
    first: dict[str, int] = {}
    for i, digest in enumerate(digests):
        first.setdefault(digest, i)
    different = np.fromiter(first.values(), dtype=np.int64)
    different = different[thumbs[different].std(axis=1) >= _MIN_CONTRAST]
    x = thumbs[different].astype(np.float32)
    cast = x.reshape(-1, 256, 3).mean(axis=1)
    cast -= cast.mean(axis=1, keepdims=True)
    x -= x.mean(axis=1, keepdims=True)
    contrast = x.std(axis=1)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    pairs: list[Pair] = []
    for start in range(0, len(unit), _BLOCK):
        block = unit[start : start + _BLOCK]
        mirrored = block.reshape(-1, 16, 16, 3)[:, :, ::-1].reshape(len(block), -1)
        alike = np.maximum(block @ unit[start:].T, mirrored @ unit[start:].T)
        for i, row in enumerate(alike):
            coloured = np.abs(cast[start + i + 1 :] - cast[start + i]).max(axis=1, initial=0) <= _CAST
            partners = np.flatnonzero((row[i + 1 :] > CORRELATION) & coloured) + i + 1
            if len(partners) > _PARTNERS:  # the most alike, and the next ones so that a heap of equals hangs together
                most = partners[np.argpartition(-row[partners], _PARTNERS // 2)[: _PARTNERS // 2]]
                partners = np.union1d(most, partners[: _PARTNERS // 2])
            for j in partners + start:
                a, b = int(different[start + i]), int(different[j])
                limit = min(_DISTANCE, _SHARE * contrast[start + i], _SHARE * contrast[j])
                distance = np.sqrt(np.square(thumbs[a].astype(np.float32) - thumbs[b]).mean())
                pairs.append(Pair(a, b, bool(distance < limit)))
    return pairs


def confirmed(pairs: Sequence[Pair], unit: npt.NDArray[np.float32]) -> list[Pair]:
    """The `pairs` that are copies by (N, D) centred features of length 1 as well."""
    a, b = [pair.a for pair in pairs], [pair.b for pair in pairs]
    least = np.array([_LEAST_AGREEMENT if pair.sure else AGREEMENT for pair in pairs])
    agree = (unit[a] * unit[b]).sum(axis=1) > least
    return [pair for pair, same in zip(pairs, agree, strict=True) if same]


def copy_groups(
    digests: Sequence[str], labels: Sequence[int], pairs: Iterable[Pair] = ()
) -> tuple[list[int], frozenset[int]]:
    """A group number for each of N pictures, equal for copies; and the labels whose pictures are all alike.

    Exact copies are one group whatever their labels, near ones where they are sure or of one label. A class that this
    would leave with hardly any different picture keeps its near copies apart, as else it could not be tested at all.
    """
    same = _same(digests)
    within: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    between = []
    for pair in pairs:
        if labels[pair.a] == labels[pair.b]:
            within[labels[pair.a]].append((pair.a, pair.b))
        elif pair.sure:
            between.append((pair.a, pair.b))
    members: defaultdict[int, list[int]] = defaultdict(list)
    for i, label in enumerate(labels):
        members[label].append(i)
    links, alike = list(same), set()
    for label, linked in within.items():
        at = {i: place for place, i in enumerate(members[label])}
        local = [digests[i] for i in members[label]]
        groups = joined(len(local), [*_same(local), *((at[a], at[b]) for a, b in linked)])
        different, before = len(set(groups)), len(set(local))
        if different < LEAST_GROUPS and 2 * different <= before:
            alike.add(label)
        else:
            links += linked
    crossing = [(a, b) for a, b in between if labels[a] not in alike and labels[b] not in alike]
    return joined(len(digests), links + crossing), frozenset(alike)


def _same(digests: Sequence[str]) -> list[tuple[int, int]]:
    """Each picture that has the digest of an earlier one, with the first of those."""
    first: dict[str, int] = {}
    return [(before, i) for i, digest in enumerate(digests) if (before := first.setdefault(digest, i)) != i]


def joined(count: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """A group number for each of `count` things: equal for those that `links` connect, numbered as they come."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in links:
        a, b = sorted((root(i), root(j)))
        parent[b] = a
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(i), len(numbers)) for i in range(count)]
