"""The pass over the pictures in the framing asked for, or in the one that a comparison on training pictures found best.

The comparison costs little: the pass with the network's own framing is one that is needed anyway and goes on later from
where the comparison left it; only a sample is looked at in the other ways; all stays on disk for the next run. Like
every pass it can be left after any batch.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from tl_core.data.imageset import ImageSet
from tl_core.data.pixels import Framing
from tl_core.data.split import Split
from tl_core.events import Event, Progress
from tl_core.models.catalogue import Backbone
from tl_core.settings import Settings
from tl_core.training.engine import ENGINES, EngineName, candidates
from tl_core.training.features import FeaturePass, Seen, interleaved
from tl_core.training.framing import FRAMINGS, SAMPLE, affordable, matters, reframed
from tl_core.training.journal import Journal
from tl_core.training.judge import Verdict, judge
from tl_core.training.plan import MAP_HEADS, Machine, Plan
from tl_core.wording import notice


@dataclass(frozen=True)
class Framed:
    """A pass, the order it looks in, and the backbone with the framing of the pass."""

    row: Backbone
    looks: FeaturePass
    order: list[int]


def engine_of(looks: FeaturePass, journal: Journal, device: str) -> EngineName:
    """The engine that features are made by, chosen once in a run."""
    engine: EngineName | None = journal.get("engine")
    if engine is None or engine not in candidates(device):  # none yet, or one that another machine had
        engine = looks.choose_engine()
        journal.put("engine", engine)
    return engine


def framed_pass(
    images: ImageSet,
    plan: Plan,
    parts: Split,
    row: Backbone,
    trunk: nn.Module,
    *,
    journal: Journal,
    settings: Settings,
    device: str,
    should_stop: Callable[[], bool],
    should_pause: Callable[[], bool],
) -> Generator[Event, None, Framed | None]:
    """The pass that `plan` asks for, in the framing that is found best where it leaves that open; None when time was up
    before it was found."""
    wished = plan.wishes.framing
    row = row if wished == "auto" else reframed(row, wished)
    kind: Literal["maps", "features"] = "maps" if plan.head in MAP_HEADS else "features"
    cache = settings.data_dir / ENGINES
    looks = FeaturePass(images, trunk, row.preprocessing, kind=kind, device=device, cache=cache)
    tested = set(parts.test)
    order = interleaved([2 * p.label + (i in tested) for i, p in enumerate(images.pictures)], plan.seed)
    own = Framed(row, looks, order)
    if wished != "auto" or not matters(images):
        return own
    comparison = _Comparison(images, own, parts.train, plan.seed)
    if (known := journal.get("framing")) is None:

        def sized(speed: float | None) -> int:
            machine = Machine(settings)
            if speed is not None:
                machine.remember(row, speed)
            rate = speed or machine.assumed(row, "features", plan.wishes)
            return journal.decided("framing_sample", lambda: affordable(len(order), len(parts.train), rate))

        verdict = yield from comparison.run(lambda: engine_of(looks, journal, device), sized, should_stop, should_pause)
        if not isinstance(verdict, Verdict):  # stopped: with what is known so far, and whoever goes on compares
            return None if verdict == "paused" else own
        known = asdict(verdict)
        journal.put("framing", known)
    found = Verdict(**known)
    if found.pictures:
        right, mine = found.right[found.framing], found.right[row.preprocessing.framing]
        yield notice(f"framing_{found.framing}", right=right, own=mine, count=found.pictures)
    else:
        yield notice("framing_not_compared")
    return comparison.framed(found.framing, found.pictures)


class _Comparison:
    """The ways of framing on a sample of the pictures that teach (`train`), `own` being the pass that is there."""

    def __init__(self, images: ImageSet, own: Framed, train: Sequence[int], seed: int) -> None:
        self._images, self._own, self._seed = images, own, seed
        teaching = set(train)
        self._first = [i for i in own.order if i in teaching][:SAMPLE]

    def framed(self, framing: Framing, sample: int) -> Framed:
        """The pass with `framing`; where it is not the network's own, it sees the `sample` that is compared first."""
        if framing == self._own.row.preprocessing.framing:
            return self._own
        row, first = reframed(self._own.row, framing), self._first[:sample]
        known = set(first)
        order = first + [i for i in self._own.order if i not in known]
        return Framed(row, self._own.looks.reframed(row.preprocessing), order)

    def run(
        self,
        engine: Callable[[], EngineName],
        sized: Callable[[float | None], int],
        should_stop: Callable[[], bool],
        should_pause: Callable[[], bool],
    ) -> Generator[Event, None, Verdict | Literal["stopped", "paused"]]:
        """The verdict, or why there is none yet. `sized` says on how many pictures to compare, 0 for not at all, given
        the pictures a second of the first pass (None: it was made before)."""
        own = self._own.row.preprocessing.framing
        features: dict[Framing, npt.NDArray[np.float32]] = {}
        sample = len(self._first)
        for at, framing in enumerate((own, *(other for other in FRAMINGS if other != own))):
            framed = self.framed(framing, sample)
            most = framed.order.index(self._first[sample - 1]) + 1
            seen = framed.looks.cached() or framed.looks.begun(framed.order, most)
            if seen is None:
                steps = framed.looks.run(
                    engine(), framed.order, most=most, should_stop=should_stop, should_pause=should_pause
                )
                seen = yield from _told(steps, at, most)
            if seen.reason != "done":
                return seen.reason
            if framing == own and not (sample := sized(seen.speed)):
                return Verdict(own, {}, 0)
            features[framing] = _pooled(seen.rows[self._first[:sample]])
        pictures = [self._images.pictures[i] for i in self._first[:sample]]
        labels, groups = [p.label for p in pictures], [p.group for p in pictures]
        return judge(features, labels, groups, own=own, seed=self._seed)


def _told(steps: Generator[Any, None, Seen], at: int, most: int) -> Generator[Event, None, Seen]:
    """A pass over `most` pictures, the one number `at`, as progress of the comparison."""
    while True:
        try:
            look = next(steps)
        except StopIteration as end:
            seen: Seen = end.value
            return seen
        yield Progress("comparing", at * most + min(look.done, most), len(FRAMINGS) * most)


def _pooled(rows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(n, D) of features, or of (n, T, D) feature maps."""
    pooled: npt.NDArray[np.float32] = rows.astype(np.float32) if rows.ndim == 2 else rows.mean(axis=1, dtype=np.float32)
    return pooled
