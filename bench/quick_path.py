"""The quick path against its limit: decoding every picture once plus one forward pass, nothing else.

    python -m bench.quick_path [ZIP ...]

Both sides run in one process, interleaved, five times each, with everything imported and warm. Ours is the whole job:
opening the zip, decoding in the limited child, grouping copies, splitting, features, solving with cross-validation,
evaluating, saving the bundle with its checksums. The limit decodes the same files from memory with the same decoder in
as many threads as there are cores and pushes ready-made tensors through the same network in the same engine.
"""

import shutil
import statistics
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from bench.machine import DATA, describe
from tl_core.data.decode import decode
from tl_core.data.imageset import ImageSet
from tl_core.data.intake import prepare
from tl_core.models import backbone
from tl_core.models.catalogue import EMBEDDED
from tl_core.settings import Settings
from tl_core.training.cores import cores, in_order
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
    images = ImageSet.load(work / "set")
    plan = make_plan(Wishes(), Facts.of(images), local=[EMBEDDED], machine=Machine(settings))
    for _ in train(images, work / "run", plan=plan, settings=settings):
        pass
    return time.monotonic() - started


def limit(files: list[bytes], model: torch.nn.Module, settings: Settings) -> float:
    """Seconds of decoding `files` and one forward pass over as many tensors."""
    size = EMBEDDED.preprocessing.size
    batch = torch.rand(BATCH, 3, size, size).contiguous(memory_format=torch.channels_last)

    def forward(count: int) -> np.ndarray:
        with torch.inference_mode():
            return model(batch[:count]).numpy()

    counts = [min(BATCH, len(files) - start) for start in range(0, len(files), BATCH)]
    started = time.monotonic()
    with ThreadPoolExecutor(cores()) as pool:
        for _ in pool.map(lambda data: decode(data, settings), files):
            pass
    for _ in in_order(forward, counts, workers=cores()):
        pass
    return time.monotonic() - started


def main() -> None:
    sources = [Path(name) for name in sys.argv[1:]] or [DATA / "hymenoptera.zip", DATA / "caltech101-15.zip"]
    print(describe())
    with tempfile.TemporaryDirectory() as scratch:
        settings = Settings(data_dir=Path(scratch, "data"))
        model = backbone.load(EMBEDDED, timeout=0)
        for source in sources:
            with zipfile.ZipFile(source) as archive:
                files = [archive.read(entry) for entry in archive.infolist() if not entry.is_dir()]
            limit(files[:64], model, settings)
            pairs = []
            for _ in range(ROUNDS):
                pairs.append((ours(source, Path(scratch, "work"), settings), limit(files, model, settings)))
            mine, least = (statistics.median(side) for side in zip(*pairs, strict=True))
            ratio = statistics.median(a / b for a, b in pairs)
            print(f"{source.name}: {len(files)} pictures, ours {mine:.2f} s, limit {least:.2f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
