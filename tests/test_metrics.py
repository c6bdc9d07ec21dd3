"""Scores mean what they say."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from tl_core.evaluation.intervals import by_class, wilson
from tl_core.evaluation.metrics import Evaluation, evaluate


def example(count: int = 60, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), size=count).astype(np.float32)
    return probabilities, rng.integers(0, classes, count).tolist()


def test_scores_are_the_librarys() -> None:
    probabilities, labels = example()
    found = evaluate(probabilities, labels, "abc", pictures=range(60), groups=range(60))
    p, r, f, s = precision_recall_fscore_support(labels, probabilities.argmax(1), labels=[0, 1, 2], zero_division=0)
    assert [c.precision for c in found.per_class] == pytest.approx(p)
    assert [c.recall for c in found.per_class] == pytest.approx(r)
    assert [c.f1 for c in found.per_class] == pytest.approx(f)
    assert [c.support for c in found.per_class] == s.tolist()
    assert sum(map(sum, found.confusion)) == 60
    assert found.majority == max(np.bincount(labels)) / 60


def test_mistakes_come_most_confident_first_and_by_picture() -> None:
    probabilities, labels = example()
    found = evaluate(probabilities, labels, "abc", pictures=range(100, 160), groups=range(60))
    sure = [m.confidence for m in found.mistakes]
    assert sure == sorted(sure, reverse=True)
    assert all(m.truth == labels[m.picture - 100] != m.predicted for m in found.mistakes)


def test_copies_widen_the_interval() -> None:
    probabilities, labels = example()
    alone = evaluate(probabilities, labels, "abc", pictures=range(60), groups=range(60)).interval
    copied = evaluate(probabilities, labels, "abc", pictures=range(60), groups=[i // 4 for i in range(60)]).interval
    assert copied[1] - copied[0] > alone[1] - alone[0]


@given(st.integers(1, 2000), st.data())
def test_the_interval_holds_the_share_and_stays_a_share(count: int, data: st.DataObject) -> None:
    share = data.draw(st.integers(0, count)) / count
    low, high = wilson(share, count)
    assert 0 <= low <= share + 1e-9 and share - 1e-9 <= high <= 1
    assert low < high


def test_the_interval_of_a_textbook() -> None:
    low, high = wilson(0.5, 10)
    assert (round(low, 3), round(high, 3)) == (0.237, 0.763)


def test_it_survives_json() -> None:
    probabilities, labels = example()
    found = evaluate(probabilities, labels, "abc", pictures=range(60), groups=range(60))
    assert Evaluation.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize(
    ("classes", "each", "recall"), [(2, 6, 0.9), (2, 6, 0.97), (5, 4, 0.8), (10, 10, 0.95), (3, 40, 0.7)]
)
def test_the_intervals_hold_the_truth_as_often_as_they_say(classes: int, each: int, recall: float) -> None:
    """95 of 100 simulated test sets, less what 300 of them leave to chance."""
    table = np.full((classes, classes), (1 - recall) / (classes - 1))
    np.fill_diagonal(table, recall)
    truth, rng, held = np.repeat(np.arange(classes), each), np.random.default_rng(0), np.zeros(3)
    f1 = recall  # of every class, as all of them are alike
    for seed in range(300):
        called = np.array([rng.choice(classes, p=table[label]) for label in truth])
        balanced, macro = by_class(truth, called, range(len(truth)), classes, seed=seed)
        plain = wilson(float((called == truth).mean()), len(truth))
        held += [low <= share <= high for share, (low, high) in ((recall, balanced), (f1, macro), (recall, plain))]
    assert (held / 300 >= 0.92).all(), held / 300


def test_copies_widen_the_intervals_of_the_classes_too() -> None:
    rng = np.random.default_rng(1)
    truth, called = np.repeat([0, 1], 30), np.repeat([0, 1], 30)
    called[rng.choice(60, 12, replace=False)] ^= 1
    alone = by_class(truth, called, range(60), 2)
    copied = by_class(np.tile(truth, 4), np.tile(called, 4), [*range(60)] * 4, 2)
    for (low, high), (low_4, high_4) in zip(alone, copied, strict=True):
        assert high_4 - low_4 == pytest.approx(high - low, rel=0.15)


def test_balanced_scores_are_about_the_classes_that_were_tested() -> None:
    probabilities = np.eye(3, dtype=np.float32)[[0, 0, 0, 0, 1, 0]]
    found = evaluate(probabilities, [0, 0, 0, 0, 1, 1], "abc", pictures=range(6), groups=range(6))
    assert found.balanced == pytest.approx(0.75) and found.macro_f1 == pytest.approx((8 / 9 + 2 / 3) / 2)
    assert found.balanced_interval is not None and found.balanced_interval[0] < 0.75 < found.balanced_interval[1]


def test_the_reliability_figure_counts_every_answer_once() -> None:
    probabilities, labels = example(200)
    bins = evaluate(probabilities, labels, "abc", pictures=range(200), groups=range(200)).reliability
    assert sum(one.count for one in bins) == 200
    assert [one.confidence for one in bins] == sorted(one.confidence for one in bins)
    right = sum(one.right * one.count for one in bins)
    assert right == pytest.approx((probabilities.argmax(1) == labels).sum())
