"""The quick path against its limit: decoding every picture once plus one forward pass, nothing else.

    python -m bench.quick_path [ZIP ...]

Both sides run in one process, interleaved, five times each, with everything imported and warm. Ours is the whole job:
opening the zip, decoding in the limited child, grouping copies, splitting, features, solving with cross-validation,
evaluating, saving the bundle with its checksums. The limit decodes the same files from memory with the same decoder in
as many threads as there are cores and pushes ready-made tensors through the same network: once in PyTorch as it is, and
once in the engine that ours chooses. A rerun is ours on the same set, whose features are on disk.
"""

import shutil
import statistics
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from bench.machine import DATA, describe
from tl_core.data.decode import decode
from tl_core.data.intake import prepare
from tl_core.data.understand import load
from tl_core.doctor import probe
from tl_core.models import backbone
from tl_core.models.catalogue import EMBEDDED
from tl_core.settings import Settings
from tl_core.training.cores import cores, in_order
from tl_core.training.engine import ENGINES, Engine, build, candidates
from tl_core.training.features import BATCH as BATCHES
from tl_core.training.plan import Facts, Machine, Wishes, make_plan
from tl_core.training.run import train

ROUNDS, BATCH = 5, BATCHES["cpu"]


def ours(source: Path, work: Path, settings: Settings) -> float:
    """Seconds of the whole job on `source`."""
    shutil.rmtree(work, ignore_errors=True)
    started = time.monotonic()
    for _ in prepare(source, work / "set", settings):
        pass
    images = load(work / "set")
    plan = make_plan(Wishes(), Facts.of(images), local=[EMBEDDED], machine=Machine(settings))
    for _ in train(images, work / "run", plan=plan, settings=settings):
        pass
    return time.monotonic() - started


def rerun(work: Path, settings: Settings) -> float:
    """Seconds of training again on the set that `ours` read."""
    images = load(work / "set")
    plan = make_plan(Wishes(), Facts.of(images), local=[EMBEDDED], machine=Machine(settings))
    started = time.monotonic()
    for _ in train(images, work / "again", plan=plan, settings=settings):
        pass
    return time.monotonic() - started


def limit(files: list[bytes], engine: Engine, settings: Settings) -> float:
    """Seconds of decoding `files` and one forward pass over as many tensors."""
    size = EMBEDDED.preprocessing.size
    batch = torch.randint(0, 256, (BATCH, 3, size, size), dtype=torch.uint8)
    counts = [min(BATCH, len(files) - start) for start in range(0, len(files), BATCH)]
    started = time.monotonic()
    with ThreadPoolExecutor(cores()) as pool:
        for _ in pool.map(lambda data: decode(data, settings), files):
            pass
    for _ in in_order(lambda count: engine.run(batch[:count]), counts, workers=cores()):
        pass
    return time.monotonic() - started


def main() -> None:
    sources = [Path(name) for name in sys.argv[1:]] or [DATA / "hymenoptera.zip", DATA / "caltech101-15.zip"]
    print(describe())
    with tempfile.TemporaryDirectory() as scratch:
        settings = Settings(data_dir=Path(scratch, "data"))
        probe(settings)  # as the app's worker does before anybody trains: the network is converted once a machine
        model, cache = backbone.load(EMBEDDED, timeout=0), settings.data_dir / ENGINES
        fastest = candidates("cpu")[0]
        engines = [build(name, model, EMBEDDED.preprocessing, "cpu", cache) for name in ("torch-fp32", fastest)]
        for source in sources:
            with zipfile.ZipFile(source) as archive:
                files = [archive.read(entry) for entry in archive.infolist() if not entry.is_dir()]
            work, rounds = Path(scratch, "work"), []
            for engine in engines:
                limit(files[:64], engine, settings)
            for _ in range(ROUNDS):
                whole = ours(source, work, settings)
                limits = [limit(files, engine, settings) for engine in engines]
                rounds.append((whole, *limits, whole / limits[0], whole / limits[1], rerun(work, settings)))
            mine, plain, fast, ratio, strict, again = (statistics.median(side) for side in zip(*rounds, strict=True))
            print(
                f"{source.name}: {len(files)} pictures, ours {mine:.2f} s; limit in PyTorch fp32 {plain:.2f} s, ratio "
                f"{ratio:.2f}; limit in {fastest} {fast:.2f} s, ratio {strict:.2f}; rerun {again:.2f} s, "
                f"{mine / again:.0f} times faster"
            )


if __name__ == "__main__":
    main()
