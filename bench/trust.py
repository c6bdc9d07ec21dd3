"""How far the numbers that people are shown can be trusted: `python -m bench.trust`.

For each shared set, on features of the embedded backbone: seconds of the second look; suspected labels when 5 % of all
labels were moved to another class at random, by confident learning beside plain low confidence;
how often "one of these" holds; calibration before and after; and what a forecast from half of
the pictures says of all of them, beside what they really bring.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.machine import describe
from bench.unknown import SETS, features_of
from tl_core.data.split import folds
from tl_core.evaluation.conformal import measure
from tl_core.evaluation.metrics import calibration_error
from tl_core.evaluation.wrong_labels import suspects
from tl_core.training.second_look import Pictures, SecondLook, look_again
from tl_core.training.solve import SolvedHead, solve

SEEDS = 5
MOVED = 0.05


def main() -> None:
    print(describe())
    with tempfile.TemporaryDirectory() as scratch:
        for name in SETS:
            features, images = features_of(name, Path(scratch))
            labels, groups = [p.label for p in images.pictures], [p.group for p in images.pictures]
            known = Pictures(features.numpy(), labels, groups, len(images.class_names))
            print(f"{name}: {len(labels)} pictures, {known.classes} classes")
            _second_look(known)
            _wrong_labels(known)
            _promises(known)
            _forecast(known)


def _sides(known: Pictures, seed: int) -> tuple[np.ndarray, np.ndarray]:
    fold = folds(known.groups, known.labels, 5, seed=seed)
    return np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)


def _looked(known: Pictures, seed: int = 0) -> SecondLook:
    *_, last = look_again(known, *_sides(known, seed), seed=seed)
    assert isinstance(last, SecondLook)
    return last


def _solved(known: Pictures, seed: int = 0) -> SolvedHead:
    *_, last = solve(known.features, known.labels, known.groups, known.classes, seed=seed)
    assert isinstance(last, SolvedHead)
    return last


def _answers(head: SolvedHead, features: np.ndarray) -> np.ndarray:
    logits = features @ head.weight.numpy().T + head.bias.numpy()
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True))


def _second_look(known: Pictures) -> None:
    began = time.perf_counter()
    solved = _solved(known)
    plain, began = time.perf_counter() - began, time.perf_counter()
    found = _looked(known)
    took = time.perf_counter() - began
    right = " ".join(f"{share:.3f}" for share in found.accuracies)
    print(f"  second look {took:.2f} s, one solve {plain:.2f} s (its own folds say {solved.cv_accuracy:.3f}); {right}")


def _wrong_labels(known: Pictures) -> None:
    rows = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        moved = rng.choice(len(known.labels), max(1, round(MOVED * len(known.labels))), replace=False)
        labels = np.asarray(known.labels).copy()
        labels[moved] = (labels[moved] + rng.integers(1, known.classes, len(moved))) % known.classes
        wrong = Pictures(known.features, labels.tolist(), known.groups, known.classes)
        shares = _looked(wrong, seed).probabilities
        found = suspects(shares, wrong.labels)
        order = [suspect.at for suspect in found]
        truly, k = set(moved.tolist()), len(moved)
        own = shares[np.arange(len(labels)), labels]
        others = shares.copy()
        others[np.arange(len(labels)), labels] = -1
        margin = np.argsort(own - others.max(axis=1))[:k].tolist()
        named = [suspect.suggested == known.labels[suspect.at] for suspect in found if suspect.at in truly]
        first = len(truly.intersection(order[:10])) / 10
        rows.append(
            (first, _hit(order[:k], truly), _hit(margin, truly), len(order), _hit(order, truly), np.mean(named))
        )
    ten, top, margin_hits, count, every, right = np.mean(rows, axis=0)
    k = round(MOVED * len(known.labels))
    print(
        f"  {k} labels moved: precision at 10 {ten:.2f}; precision and recall at {k} {top:.2f} (by the margin between "
        f"the classes {margin_hits:.2f}); all {count:.0f} suspects hold {every:.2f} of them, "
        f"with the right class suggested for {right:.2f} of those"
    )


def _hit(found: Sequence[int], truly: set[int]) -> float:
    return len(truly.intersection(found)) / len(truly)


def _promises(known: Pictures) -> None:
    covered, sizes, before, after = [], [], [], []
    for seed in range(SEEDS):
        fit, exam = _sides(known, seed)
        head, truth = _solved(known.at(fit), seed), [known.labels[i] for i in exam]
        answers = _answers(head, known.features[exam])
        raw = answers**head.temperature  # what the head would say without its temperature
        after.append(calibration_error(answers, truth))
        before.append(calibration_error(raw / raw.sum(1, keepdims=True), truth))
        likely = measure(answers, truth)
        assert likely is not None and head.likely is not None
        kept = type(likely)(head.likely).tested(answers, truth)
        covered.append(kept.coverage)
        sizes.append(kept.size)
    print(
        f"  one of these: right {np.mean(covered):.3f} (0.95 meant) with {np.mean(sizes):.2f} classes; "
        f"calibration error {np.mean(before):.3f} before, {np.mean(after):.3f} after"
    )


def _forecast(known: Pictures) -> None:
    said, came, inside = [], [], 0
    for seed in range(SEEDS):
        half = folds(known.groups, known.labels, 2, seed=seed) == 0
        curve, whole = _looked(known.at(np.flatnonzero(half)), seed).curve, _looked(known, seed).curve
        if curve is None or whole is None:
            print("  forecast: too few pictures")
            return
        gain = whole.accuracies[-1] - curve.accuracies[-1]
        said.append(curve.gain)
        came.append(gain)
        inside += curve.likely[0] - 0.005 <= gain <= curve.likely[1] + 0.005
    told = f"said {np.mean(said):+.3f}, came {np.mean(came):+.3f}"
    print(f"  twice the pictures: {told}; inside the range {inside}/{SEEDS}")


if __name__ == "__main__":
    main()
