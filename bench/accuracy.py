"""Accuracy of the quick path with the embedded backbone, beside the same architecture with random weights.

    python -m bench.accuracy [SET ...]

Everything as the app does it: copies grouped, strength by cross-validation on training pictures, the test part only
scored. Three seeds (of the split, where there is no official one); the error is the standard error of their mean.
"""

import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from bench.machine import DATA, describe
from tl_core.data.imageset import ImageSet
from tl_core.data.intake import prepare
from tl_core.data.pixels import PixelStore
from tl_core.data.split import split
from tl_core.data.understand import load
from tl_core.models import backbone
from tl_core.models.catalogue import EMBEDDED
from tl_core.settings import Settings
from tl_core.training.features import outputs
from tl_core.training.solve import SolvedHead, solve

SETS = ("hymenoptera", "flowers5", "dtd10", "caltech101-15", "monkeys10")
SEEDS = (0, 1, 2)


def accuracy(images: ImageSet, features: np.ndarray, seed: int) -> float:
    """Share of the test pictures that a head solved on the others names right."""
    parts = split(images, seed=seed)
    labels = [picture.label for picture in images.pictures]
    groups = [picture.group for picture in images.pictures]
    train, test = list(parts.train), list(parts.test)
    steps = solve(
        features[train], [labels[i] for i in train], [groups[i] for i in train], len(images.class_names), seed=seed
    )
    head = list(steps)[-1]
    assert isinstance(head, SolvedHead)
    guess = (torch.from_numpy(features[test]) @ head.weight.T + head.bias).argmax(1)
    return float((guess == torch.tensor([labels[i] for i in test])).float().mean())


def main() -> None:
    print(describe())
    torch.manual_seed(0)
    models = {"embedded": backbone.load(EMBEDDED, timeout=0), "random": backbone.untrained(EMBEDDED, 0)}
    for name in sys.argv[1:] or SETS:
        with tempfile.TemporaryDirectory() as scratch:
            for _ in prepare(DATA / f"{name}.zip", Path(scratch, "set"), Settings(data_dir=Path(scratch, "data"))):
                pass
            images = load(Path(scratch, "set"))
            indices = range(len(images.pictures))
            for kind, model in models.items():
                store = PixelStore(images)
                features = outputs(model, store, indices, EMBEDDED.preprocessing, device="cpu", precision="fp32")
                scores = [accuracy(images, features, seed) for seed in SEEDS]
                error = statistics.stdev(scores) / len(scores) ** 0.5
                print(f"{name} {kind}: {statistics.mean(scores):.3f} ± {error:.3f}", flush=True)


if __name__ == "__main__":
    main()
