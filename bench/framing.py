"""Accuracy of each framing and of the automatic choice, and what choosing costs.

    python -m bench.framing [SET ...]

The quick path with the built-in network, three seeds, the standard error of the mean beside each accuracy. What a
comparison costs is the median difference between a run that compares and one that was told to crop, on sets read anew
and by turns, on a machine that was probed.
"""

import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench.machine import DATA, describe
from tl_core.bundle import bundle
from tl_core.data.imageset import ImageSet
from tl_core.data.intake import prepare
from tl_core.data.understand import load
from tl_core.doctor import probe
from tl_core.events import Finished
from tl_core.models.catalogue import EMBEDDED
from tl_core.settings import Settings
from tl_core.training.plan import Facts, Machine, Wishes, make_plan
from tl_core.training.run import BUNDLE, train

SETS, SEEDS = ("hymenoptera", "caltech101-15", "flowers5"), (0, 1, 2)
WAYS = ("crop", "pad", "squash", "auto")


def forget(images: ImageSet) -> None:
    """Delete what was kept of earlier passes."""
    for kept in images.folder.glob("features-*"):
        kept.unlink()


def run(images: ImageSet, folder: Path, settings: Settings, way: str, seed: int) -> tuple[float, float, str, float]:
    """Accuracy, seconds, the framing used, and the seconds said before."""
    forget(images)
    wishes = Wishes(framing=way, seed=seed)  # type: ignore[arg-type]
    plan = make_plan(wishes, Facts.of(images), local=[EMBEDDED], machine=Machine(settings))
    started = time.monotonic()
    last = list(train(images, folder, plan=plan, settings=settings))[-1]
    seconds = time.monotonic() - started
    assert isinstance(last, Finished)
    framing = bundle.load(folder / BUNDLE)[1].preprocessing.framing
    return last.accuracy, seconds, framing, plan.seconds or 0.0


def main() -> None:
    print(describe())
    for name in sys.argv[1:] or SETS:
        with tempfile.TemporaryDirectory() as scratch:
            settings = Settings(data_dir=Path(scratch, "data"))
            probe(settings)  # as the app's worker does before anybody trains: the network is converted once a machine
            for _ in prepare(DATA / f"{name}.zip", Path(scratch, "set"), settings):
                pass
            images = load(Path(scratch, "set"))
            run(images, Path(scratch, "warm"), settings, "crop", 0)
            found = {
                (way, seed): run(images, Path(scratch, f"{way} {seed}"), settings, way, seed)
                for seed in SEEDS
                for way in WAYS
            }
            for way in WAYS:
                scores = [found[way, seed][0] for seed in SEEDS]
                error = statistics.stdev(scores) / len(scores) ** 0.5
                seconds = statistics.median(found[way, seed][1] for seed in SEEDS)
                print(f"{name} {way}: {statistics.mean(scores):.3f} ± {error:.3f}, {seconds:.2f} s", flush=True)
            chosen = Counter(found["auto", seed][2] for seed in SEEDS)
            cost = statistics.median(found["auto", seed][1] - found["crop", seed][1] for seed in SEEDS)
            said = statistics.median(found["auto", seed][3] for seed in SEEDS)
            print(
                f"{name}: auto chose {dict(chosen)}; comparing cost {cost:.2f} s; said before {said:.1f} s", flush=True
            )


if __name__ == "__main__":
    main()
