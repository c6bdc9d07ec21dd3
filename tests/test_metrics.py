"""Scores mean what they say."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from tl_core.evaluation.metrics import Evaluation, evaluate, wilson


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
