"""What is odd about a set, as the person should hear it before training: each with the pictures to look at and with
fixes that are edits. Pure: looks at names, sizes, copies and what a closer look found, never at pixels.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tl_core.data.closer_look import CloserLook
from tl_core.data.edits import Accept, Drop, Edit, LeaveOut, Move
from tl_core.data.imageset import ImageSet, Picture
from tl_core.data.split import exam_part
from tl_core.data.understand import accepted, too_small
from tl_core.settings import Settings

SMALL_CLASS = 10
UNEQUAL_RATIO = 5
TINY_SIDE = 32  # pixels: below it there is hardly anything to see
# A picture looks like another class when so many of its nearest neighbours are of that one class (bench/RESULTS.md).
ALIKE = 9
_CASES = 200  # more than anybody looks at
_KEPT = 8  # classes of one picture that are offered to keep it in


@dataclass(frozen=True)
class Fix:
    """A way out: `code` names the words on its button, `edits` are what it does."""

    code: str
    edits: tuple[Edit, ...]
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One occurrence: the rows of the pictures to look at, and ways out of this one alone."""

    rows: tuple[int, ...]
    fixes: tuple[Fix, ...] = ()


@dataclass(frozen=True)
class Finding:
    """Something odd: `code` and `values` make the sentence, `fixes` are for all `cases` at once. `level` "stop" must be
    settled before training, "warn" should be, "info" need not."""

    code: str
    level: Literal["stop", "warn", "info"]
    values: Mapping[str, str] = field(default_factory=dict)
    cases: tuple[Case, ...] = ()
    fixes: tuple[Fix, ...] = ()


def findings(
    images: ImageSet, settings: Settings, look: CloserLook | None = None, edits: Sequence[Edit] = ()
) -> tuple[Finding, ...]:
    """Everything odd about `images`, the most serious first. Without a closer `look` only what is seen without one."""
    groups: defaultdict[int, list[Picture]] = defaultdict(list)
    for picture in images.pictures:
        groups[picture.group].append(picture)
    copies = [members for members in groups.values() if len(members) > 1]
    found = [
        *_too_small(images, settings),
        *_conflicts(images, copies),
        *_leaks(images, copies, look),
        *_copies(copies),
        *(Finding("alike", "warn", {"label": label}) for label in images.alike),
        *_sizes(images),
        *_poor(images, edits),
    ]
    if look is not None:
        found += _outliers(images, look, accepted(edits, "outliers"))
    return tuple(found)


def _too_small(images: ImageSet, settings: Settings) -> Iterator[Finding]:
    for label, count in too_small(images, settings):
        values = {"label": label, "found": str(count), "needed": str(settings.min_pictures_per_class)}
        rows = tuple(p.row for p in images.pictures if images.class_names[p.label] == label)
        fixes = (Fix("leave_out_class", (LeaveOut(label),), {"label": label}),) if len(images.class_names) > 2 else ()
        yield Finding("too_few", "stop", values, (Case(rows),) if rows else (), fixes)


def _conflicts(images: ImageSet, copies: Sequence[list[Picture]]) -> Iterator[Finding]:
    conflicts = [members for members in copies if len({p.label for p in members}) > 1]
    if not conflicts:
        return
    cases = []
    for members in conflicts:
        labels = sorted({p.label for p in members})
        keep = [
            Fix(
                "keep_in",
                (Drop(tuple(p.row for p in members if p.label != label)),),
                {"label": images.class_names[label]},
            )
            for label in labels[:_KEPT]
        ]
        cases.append(Case(tuple(p.row for p in members), (*keep, _drop("leave_out", members))))
    first, second = conflicts[0][0], next(p for p in conflicts[0] if p.label != conflicts[0][0].label)
    values = {"count": str(len(conflicts)), "first": first.name, "second": second.name}
    everything = _drop("leave_out_all", [p for members in conflicts for p in members])
    yield Finding("copies_across_classes", "warn", values, tuple(cases[:_CASES]), (everything,))


def leaked(images: ImageSet, copies: Iterable[list[Picture]] | None = None) -> list[list[Picture]]:
    """For every picture of the official test part with a copy outside of it: that picture, then the copies."""
    exam = exam_part(images)
    if exam is None:
        return []
    if copies is None:
        groups: defaultdict[int, list[Picture]] = defaultdict(list)
        for picture in images.pictures:
            groups[picture.group].append(picture)
        copies = groups.values()
    found = []
    for members in copies:
        outside = [p for p in members if p.part != exam]
        found += [[p, *outside] for p in members if p.part == exam and outside]
    return found


def _leaks(images: ImageSet, copies: Sequence[list[Picture]], look: CloserLook | None) -> Iterator[Finding]:
    if not (found := leaked(images, copies)):
        return
    values, code = {"count": str(len(found))}, "copies_across_split"
    if look is not None and look.leak is not None:
        code = "leak_faked" if look.leak.faked > look.leak.honest else "leak_measured"
        hundreds = {"faked": look.leak.faked, "honest": look.leak.honest}
        values |= {name: f"{100 * share:.1f}" for name, share in hundreds.items()}
    cases = tuple(Case(tuple(p.row for p in members)) for members in found[:_CASES])
    yield Finding(code, "warn", values, cases)


def _copies(copies: Sequence[list[Picture]]) -> Iterator[Finding]:
    """Copies within one class and part: exact ones, and ones that only look the same."""
    alone = [members for members in copies if len({(p.label, p.part) for p in members}) == 1]
    exact = [members for members in alone if len({p.digest for p in members}) < len(members)]
    near = [members for members in alone if len({p.digest for p in members}) > 1]
    for code, chosen, extra in (("copies", exact, _seconds), ("near_copies", near, _lesser)):
        every = [picture for members in chosen for picture in extra(members)]
        if every:
            cases = tuple(Case(tuple(p.row for p in members)) for members in chosen[:_CASES])
            yield Finding(code, "info", {"count": str(len(every))}, cases, (_drop("keep_one", every),))


def _seconds(members: Sequence[Picture]) -> list[Picture]:
    """All but one of each digest."""
    first = {picture.digest: picture for picture in reversed(members)}
    return [picture for picture in members if first[picture.digest] is not picture]


def _lesser(members: Sequence[Picture]) -> list[Picture]:
    """One of each digest, but for the largest picture's."""
    best = max(members, key=lambda p: p.height * p.width)
    return [picture for digest, picture in {p.digest: p for p in reversed(members)}.items() if digest != best.digest]


def _sizes(images: ImageSet) -> Iterator[Finding]:
    counts = list(zip(images.class_names, images.counts(), strict=True))
    if not counts:
        return
    small = [label for label, count in counts if 1 < count < SMALL_CLASS]
    if small:
        values = {"classes": ", ".join(small[:5]), "count": str(len(small)), "least": str(SMALL_CLASS)}
        some = len(counts) - len(small) >= 2
        fixes = (Fix("leave_out_small", tuple(LeaveOut(label) for label in small)),) if some else ()
        yield Finding("small_classes", "info", values, (), fixes)
    (least, fewest), (most, largest) = min(counts, key=lambda c: c[1]), max(counts, key=lambda c: c[1])
    if largest >= UNEQUAL_RATIO * max(fewest, 1):
        values = {"large": most, "small": least, "large_count": str(largest), "small_count": str(fewest)}
        yield Finding("unequal_classes", "info", values)


def _poor(images: ImageSet, edits: Sequence[Edit]) -> Iterator[Finding]:
    """Pictures with hardly anything on them."""
    tests: dict[str, Callable[[Picture], bool]] = {
        "one_colour": lambda p: "one_colour" in p.traits,
        "tiny": lambda p: min(p.height, p.width) < TINY_SIDE,
    }
    for code, is_so in tests.items():
        fine = accepted(edits, code)
        chosen = [p for p in images.pictures if is_so(p) and p.row not in fine]
        # Where most pictures are like this, it is what the set is about.
        if chosen and 2 * len(chosen) < len(images.pictures):
            rows = tuple(p.row for p in chosen)
            fixes = (_drop("leave_out_all", chosen), Fix("fine", (Accept(code, rows),)))
            values = {"count": str(len(chosen)), "least": str(TINY_SIDE)}
            yield Finding(code, "info", values, tuple(Case((row,)) for row in rows[:_CASES]), fixes)


def _outliers(images: ImageSet, look: CloserLook, fine: set[int]) -> Iterator[Finding]:
    """Pictures whose nearest look-alikes are nearly all of one other class: perhaps in the wrong folder."""
    labels = np.full(images.stored + 1, -1)  # the last for "no neighbour"
    labels[list(images.rows)] = [p.label for p in images.pictures]
    cases: list[tuple[int, Case]] = []
    counts = images.counts()
    for picture in images.pictures:
        around = Counter(labels[look.neighbours[picture.row]].tolist())
        around.pop(-1, None)
        other, count = around.most_common(1)[0] if around else (picture.label, 0)
        if other == picture.label or count < ALIKE or counts[picture.label] <= ALIKE or picture.row in fine:
            continue
        name = images.class_names[other]
        fixes = (
            Fix("move_to", (Move((picture.row,), name),), {"label": name}),
            Fix("leave_out", (Drop((picture.row,)),)),
            Fix("fine", (Accept("outliers", (picture.row,)),)),
        )
        cases.append((count, Case((picture.row,), fixes)))
    if cases:
        ranked = [case for _, case in sorted(cases, key=lambda found: -found[0])]
        every = Fix("fine", (Accept("outliers", tuple(case.rows[0] for case in ranked)),))
        yield Finding("outliers", "info", {"count": str(len(ranked))}, tuple(ranked[:_CASES]), (every,))


def _drop(code: str, pictures: Iterable[Picture]) -> Fix:
    return Fix(code, (Drop(tuple(p.row for p in pictures)),))
