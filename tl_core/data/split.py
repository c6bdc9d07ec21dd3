"""Which pictures teach and which examine: copies of one picture stay together, every class is on both sides."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tl_core.data.imageset import ImageSet, Picture
from tl_core.data.layout import Part

TEST_FRACTION = 0.2


@dataclass(frozen=True)
class Split:
    """Indices into `ImageSet.pictures`. `test` takes no part in any choice. `moved` left an official test part because
    a copy of the picture is in the training part."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    moved: int
    official: bool


def exam_part(images: ImageSet) -> Part | None:
    """The official part that a set is judged by: its test part, or else its validation part; None without either."""
    parts = images.part_counts()
    return "test" if parts.get("test") else "val" if parts.get("val") else None


def split(images: ImageSet, *, seed: int = 0) -> Split:
    """The official split where the upload has one, else about a fifth of every class for testing.

    An official test part is the exam; where only a validation part exists, that is. Pictures of the exam with a copy
    on the training side move there. Deterministic in `seed`.
    """
    exam = exam_part(images)
    if exam is not None:
        seen = {p.group for p in images.pictures if p.part != exam}
        test = [i for i, p in enumerate(images.pictures) if p.part == exam and p.group not in seen]
        moved = images.part_counts()[exam] - len(test)
        chosen = set(test)
        train = [i for i in range(len(images.pictures)) if i not in chosen]
        if test and {images.pictures[i].label for i in train} == set(range(len(images.class_names))):
            return Split(tuple(train), tuple(test), moved, official=True)
    chosen = _stratified(images.pictures, TEST_FRACTION, seed)
    train = [i for i in range(len(images.pictures)) if i not in chosen]
    return Split(tuple(train), tuple(sorted(chosen)), 0, official=False)


def hold_out(images: ImageSet, among: Sequence[int], fraction: float, *, seed: int) -> tuple[list[int], list[int]]:
    """The pictures `among` in two: those to learn from, and about `fraction` of every class to judge by; copies stay
    together. Deterministic in `seed`."""
    chosen = _stratified([images.pictures[i] for i in among], fraction, seed)
    return [i for at, i in enumerate(among) if at not in chosen], [i for at, i in enumerate(among) if at in chosen]


def _stratified(pictures: Sequence[Picture], fraction: float, seed: int) -> set[int]:
    """About `fraction` of every class, in whole groups, at least one group a side and class."""
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for i, picture in enumerate(pictures):
        groups[picture.group].append(i)
    by_label: defaultdict[int, list[list[int]]] = defaultdict(list)
    for members in groups.values():
        labels = {pictures[i].label for i in members}
        if len(labels) == 1:  # one picture in two classes cannot be answered right: it teaches, it does not examine
            by_label[labels.pop()].append(members)
    chosen: set[int] = set()
    for candidates in by_label.values():
        # By a draw of each picture's own, so that what is dropped or moved elsewhere changes nothing for the others:
        # results before and after stay comparable, and what has examined goes on to do so.
        drawn = sorted(candidates, key=lambda members: min(_draw(pictures[i], seed) for i in members))
        wanted = max(1, round(fraction * sum(map(len, candidates))))
        taken = 0
        # The last group stays, so that the class can be learned at all.
        for members in drawn[:-1]:
            if taken >= wanted:
                break
            chosen.update(members)
            taken += len(members)
    return chosen


def _draw(picture: Picture, seed: int) -> bytes:
    """The picture's place in a lottery, by what is in its file and nothing else; its name where that is not known."""
    return hashlib.blake2b(f"{seed} {picture.digest or picture.name}".encode(), digest_size=8).digest()


def folds(groups: Sequence[int], labels: Sequence[int], count: int, *, seed: int = 0) -> np.ndarray:
    """(N,) fold number of each picture: groups whole, classes spread evenly over `count` folds."""
    members: defaultdict[int, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(members))
    keys = list(members)
    load: defaultdict[int, np.ndarray] = defaultdict(lambda: np.zeros(count))
    total = np.zeros(count)
    result = np.zeros(len(groups), dtype=np.int64)
    for at in order:
        rows = members[keys[at]]
        label = labels[rows[0]]
        fold = int(np.lexsort((total, load[label]))[0])
        load[label][fold] += len(rows)
        total[fold] += len(rows)
        result[rows] = fold
    return result
