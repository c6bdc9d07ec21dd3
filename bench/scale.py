"""How the quick path grows with the set: memory of the training process, and time a picture.

    python -m bench.scale

Sets of made-up pictures (112 x 112 noise in ten classes, written straight into a pixel store), each trained in a
process of its own. Memory is what only that process holds (RssAnon), at its highest; files it maps are the system's.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from bench.machine import describe
from tl_core.data.imageset import PIXELS, ImageSet, Picture
from tl_core.data.understand import load
from tl_core.models.catalogue import EMBEDDED
from tl_core.settings import Settings
from tl_core.training.plan import Facts, Machine, Wishes, make_plan

COUNTS, SIDE, CLASSES = (500, 1_000, 5_000, 10_000, 20_000), 112, 10


def made_up(folder: Path, count: int) -> ImageSet:
    """A prepared set of `count` pictures: a class is a colour cast."""
    folder.mkdir(parents=True)
    pixels = np.memmap(folder / PIXELS, dtype=np.uint8, mode="w+", shape=(count, SIDE, SIDE, 3))
    rng, casts = np.random.default_rng(0), np.random.default_rng(1).integers(-40, 40, (CLASSES, 1, 1, 3))
    for i in range(count):
        pixels[i] = (rng.integers(40, 216, (SIDE, SIDE, 3)) + casts[i % CLASSES]).clip(0, 255)
    pixels.flush()
    pictures = tuple(Picture(f"{i}.png", i % CLASSES, "", i, i * SIDE * SIDE * 3, SIDE, SIDE) for i in range(count))
    images = ImageSet(folder, "made up", tuple(f"c{i}" for i in range(CLASSES)), pictures, (), (), 0)
    images.save()
    return images


def child(folder: Path) -> None:
    """Train on the set in `folder`; say the seconds and the most memory."""
    from tl_core.training.run import train

    settings = Settings(data_dir=folder / "data")
    images = load(folder / "set")
    highest, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            lines = Path("/proc/self/status").read_text().splitlines()
            highest[0] = max(highest[0], *(int(line.split()[1]) for line in lines if line.startswith("RssAnon")))

    threading.Thread(target=watch, daemon=True).start()
    plan = make_plan(Wishes(), Facts.of(images), local=[EMBEDDED], machine=Machine(settings))
    started = time.monotonic()
    seconds = {}
    for event in train(images, folder / "run", plan=plan, settings=settings):
        seconds = getattr(event, "seconds", seconds)
    print(json.dumps({"seconds": time.monotonic() - started, "stages": seconds, "mb": highest[0] / 1024}))
    over.set()


def main() -> None:
    if len(sys.argv) > 1:
        return child(Path(sys.argv[1]))
    print(describe())
    with tempfile.TemporaryDirectory() as scratch:
        for count in COUNTS:
            folder = Path(scratch, str(count))
            made_up(folder / "set", count)
            arguments = [sys.executable, "-m", "bench.scale", str(folder)]
            found = json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
            each = 1000 * found["stages"]["features"] / count
            print(
                f"{count} pictures: {found['seconds']:.1f} s, {1000 * found['seconds'] / count:.2f} ms a picture "
                f"({each:.2f} looking), {found['mb']:.0f} MB at most",
                flush=True,
            )
    return None


if __name__ == "__main__":
    main()
