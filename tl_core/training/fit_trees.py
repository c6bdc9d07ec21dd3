"""Grows trees: a random forest by scikit-learn, and gradient boosting on its single trees.

Which pictures a tree of either sees depends on (seed, number of the tree) alone. Time and memory are bounded: a tree
sees a few thousand pictures at most, and there are fewer trees where there are very many classes.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from tl_core.models.trees import Trees, from_fitted

Array = npt.NDArray[Any]

TREES = 200  # of a forest
ROUNDS = 300  # of boosting; up to 0.03 better than 200 on many classes, the same on few
CHUNK = 10  # trees or rounds between two looks at whether to stop
_TREE_PICTURES = 5_000  # that one tree sees at most
_TREE_NUMBERS = 1_000_000  # trees times classes, held for every picture that asks (heads.py refuses twice that)
_MAX_DEPTH = 100  # of a forest's trees; the deepest yet, of 102 classes, had 81
# Of a tree of boosting: leaves, size of the step, share of the pictures it sees. Compared like the recipes in
# fit_heads.py: 8 leaves lost up to 0.03, 32 gained as little as they lost but on 102 classes (0.02), a step of 0.2 or
# more features a split gained nothing on average.
_LEAVES, _RATE, _SHARE = 16, 0.1, 0.7


def tree_count(wanted: int, classes: int) -> int:
    """`wanted` trees or rounds, fewer where that many with a value for each class would be too much to hold."""
    return min(wanted, max(CHUNK, _TREE_NUMBERS // classes // CHUNK * CHUNK))


class Forest:
    """A random forest of fully grown trees on (N, D) float32 features, (N,) labels and weights of pictures."""

    def __init__(self, x: Array, labels: Array, classes: int, seed: int, weights: Array) -> None:
        from sklearn.ensemble import RandomForestClassifier

        self._x, self._labels, self._classes, self._weights = x, labels, classes, weights
        self._forest = RandomForestClassifier(
            max_depth=_MAX_DEPTH,
            max_samples=min(len(x), _TREE_PICTURES),
            warm_start=True,
            n_jobs=1,
            random_state=seed % 2**32,
        )

    def grow(self, count: int) -> None:
        """Until there are `count` trees; the first ones are the same however often one stops on the way."""
        self._forest.set_params(n_estimators=count).fit(self._x, self._labels, sample_weight=self._weights)

    def head(self) -> Trees:
        """The mean of the trees' probabilities, a column for every class whether it was seen or not."""
        grown = []
        for tree in self._forest.estimators_:
            values = np.zeros((tree.tree_.node_count, self._classes))
            values[:, self._forest.classes_] = tree.tree_.value[:, 0] / len(self._forest.estimators_)
            grown.append((tree.tree_, values))
        return from_fitted("forest", self._x.shape[1], self._classes, grown, np.zeros(self._classes))

    def unseen_votes(self, groups: Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The pictures (n,) that some tree saw neither themselves nor in a copy, and those trees' mean (n, C)."""
        _, group = np.unique(groups, return_inverse=True)
        votes, voters = np.zeros((len(self._x), self._classes), np.float32), np.zeros(len(self._x), np.float32)
        for tree, bag in zip(self._forest.estimators_, self._forest.estimators_samples_, strict=True):
            seen = np.zeros(group.max() + 1, dtype=bool)
            seen[group[bag]] = True
            unseen = np.flatnonzero(~seen[group])
            if len(unseen):
                votes[np.ix_(unseen, self._forest.classes_)] += tree.predict_proba(self._x[unseen])
                voters[unseen] += 1
        rows = np.flatnonzero(voters)
        return rows, votes[rows] / voters[rows, None]


class Boosting:
    """Gradient boosting (Friedman 2001) on (n, D) float32 features, (n,) labels and weights of pictures.

    Every round is one tree for all classes at once: 100 classes take as many trees as two, where scikit-learn's
    GradientBoostingClassifier, no better on these features on average, grows one a class.
    """

    def __init__(self, x: Array, labels: Array, classes: int, seed: int, weights: Array) -> None:
        self._x, self._seed, self._weights = x, seed, weights.astype(np.float64)
        self._truth = np.eye(classes)[labels]  # (n, C)
        share = self._weights @ self._truth / self._weights.sum()
        self._base = np.log(share + 1e-3)
        self._scores = np.tile(self._base, (len(x), 1))
        self._grown: list[tuple[Any, Array]] = []

    def round(self, number: int) -> None:
        """One tree more: a step towards what those before it leave over."""
        from sklearn.tree import DecisionTreeRegressor

        rng = np.random.default_rng((self._seed, number))
        count, classes = self._truth.shape
        rows = rng.permutation(count)[: max(2, min(round(_SHARE * count), _TREE_PICTURES))]
        odds = np.exp(self._scores - self._scores.max(1, keepdims=True))
        chance = odds / odds.sum(1, keepdims=True)
        left_over, weights = (self._truth - chance)[rows], self._weights[rows]
        tree = DecisionTreeRegressor(
            max_leaf_nodes=_LEAVES,
            max_features="sqrt",
            min_samples_leaf=int(np.clip(count // 40, 1, 5)),
            random_state=int(rng.integers(2**31)),
        ).fit(self._x[rows], left_over, sample_weight=weights)
        leaf = tree.apply(self._x)
        up, down = np.zeros((2, tree.tree_.node_count, classes))
        np.add.at(up, leaf[rows], weights[:, None] * left_over)
        np.add.at(down, leaf[rows], weights[:, None] * (chance * (1 - chance))[rows])
        # Friedman's one Newton step a leaf, its divisor kept from 0 by a penalty on large steps (XGBoost's lambda).
        values = _RATE * (classes - 1) / classes * up / (down + 1)
        self._scores += values[leaf]
        self._grown.append((tree.tree_, values))

    def head(self) -> Trees:
        return from_fitted("boosting", self._x.shape[1], len(self._base), self._grown, self._base)
