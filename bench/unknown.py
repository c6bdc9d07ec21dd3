"""How well pictures of other kinds are told from those of the kinds taught: `python -m bench.unknown`.

For each shared set: the score fitted to 80 % of its copy groups, then the area under the ROC curve of the other 20 %
against each other set; beside the distance to the nearest training picture and the model's own uncertainty.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from bench.machine import describe
from tl_core.data.imageset import ImageSet
from tl_core.data.intake import prepare
from tl_core.data.understand import load
from tl_core.evaluation.unknown import measure
from tl_core.models import backbone
from tl_core.models.catalogue import EMBEDDED
from tl_core.settings import Settings
from tl_core.training.features import FeaturePass

DATA = Path(__file__).parents[2] / "shared" / "data"
SETS = ("flowers5", "dtd10", "hymenoptera", "monkeys10", "caltech101-15")


def main() -> None:
    print(describe())
    with tempfile.TemporaryDirectory() as scratch:
        sets = {name: features_of(name, Path(scratch)) for name in SETS}
    print("taught | false alarms (5 % meant) | " + " | ".join(f"against {name}" for name in SETS))
    for name in SETS:
        _one(name, sets)


def features_of(name: str, scratch: Path) -> tuple[Tensor, ImageSet]:
    """(N, D) of a shared set by the embedded backbone, and the set."""
    settings = Settings(data_dir=scratch / "data")
    for _ in prepare(DATA / f"{name}.zip", scratch / name, settings):
        pass
    images, trunk = load(scratch / name), backbone.load(EMBEDDED, timeout=0)
    looks = FeaturePass(images, trunk, EMBEDDED.preprocessing, kind="features", device="cpu", cache=scratch)
    steps = looks.run(looks.choose_engine(), list(range(len(images.pictures))), should_stop=_no, should_pause=_no)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return torch.from_numpy(np.array(end.value.rows, dtype=np.float32)), images


def _no() -> bool:
    return False


def _one(name: str, sets: dict[str, tuple[Tensor, ImageSet]]) -> None:
    features, images = sets[name]
    groups = np.array([picture.group for picture in images.pictures])
    labels = [picture.label for picture in images.pictures]
    order = np.random.default_rng(0).permutation(np.unique(groups))
    held = np.isin(groups, order[: len(order) // 5])
    inner = np.flatnonzero(~held)
    found = measure(features[~held], groups[inner].tolist(), [labels[i] for i in inner])
    assert found is not None
    own, cells = found.scores(features[held]), []
    bank = torch.nn.functional.normalize(features[~held], dim=1)
    for other in SETS:
        if other == name:
            cells.append("-")
            continue
        ours = _area(own, found.scores(sets[other][0]))
        near = _area(_distance(features[held], bank), _distance(sets[other][0], bank))
        cells.append(f"{ours:.3f} ({near:.3f})")
    alarms = float((own > found.threshold).float().mean())
    print(f"{name} | {alarms:.1%} | " + " | ".join(cells))


def _distance(features: Tensor, bank: Tensor) -> Tensor:
    return 1 - (torch.nn.functional.normalize(features, dim=1) @ bank.T).amax(1)


def _area(own: Tensor, other: Tensor) -> float:
    truth = [0] * len(own) + [1] * len(other)
    return float(roc_auc_score(truth, torch.cat([own, other]).numpy()))


if __name__ == "__main__":
    main()
