"""Decision trees as tensors: a fitted ensemble that answers, travels and exports without the library that grew it.

All trees lie in one table of nodes, siblings side by side, so that one number a node says where its children are. The
walk takes `depth` steps for every tree at once, made of lookups and comparisons only (what ONNX knows too). A table
from an untrusted file can give wrong answers but cannot leave its bounds (`check`) or walk for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

# A forest gives a class without a vote exactly 0, whose logarithm is no number. Of 0.1 to 0.0003 this has
# the least calibrated out-of-bag log loss, or one within 0.03 of it, on hymenoptera, flowers5, dtd10, caltech101.
FLOOR = 0.01

Kind = Literal["forest", "boosting"]


@dataclass(frozen=True)
class TreeSizes:
    """What the tables of an ensemble measure; `columns` is how many values a leaf has, `depth` the longest walk."""

    trees: int
    nodes: int
    leaves: int
    columns: int
    depth: int


class Trees(nn.Module):
    """(N, width) float32 features -> (N, classes) logits by a fitted ensemble.

    A leaf has a value for each class (`columns` = classes), or one only, where trees come in rounds of one a class
    (`columns` = 1). "forest": the sum of leaf values is the mean of probabilities, and its logarithm (see FLOOR) the
    logits; "boosting": the sum itself. Buffers, M nodes and L leaves:

    root (trees,) int64; feature (M,) int64 and threshold (M,) float32: right when the feature is above; child (M,)
    int64: the left child, the right one follows it, or -1 - leaf; value (L, columns) float32; base (classes,) float32
    is added; temperature () float32 divides the logits.
    """

    needs: Literal["pooled", "map"] = "pooled"
    root: Tensor
    feature: Tensor
    threshold: Tensor
    child: Tensor
    value: Tensor
    base: Tensor
    temperature: Tensor

    def __init__(self, kind: Kind, width: int, classes: int, sizes: TreeSizes) -> None:
        super().__init__()
        self.kind, self.width, self.classes, self.sizes = kind, width, classes, sizes
        for name, shape in (("root", sizes.trees), ("feature", sizes.nodes), ("child", sizes.nodes)):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(sizes.nodes))
        self.register_buffer("value", torch.zeros(sizes.leaves, sizes.columns))
        self.register_buffer("base", torch.zeros(classes))
        self.register_buffer("temperature", torch.ones(()))

    def scores(self, x: Tensor) -> Tensor:
        """(N, classes): `base` and the sum of the leaves that the rows of (N, width) reach."""
        at = self.root.expand(x.shape[0], -1)  # (N, trees)
        for _ in range(self.sizes.depth):
            below = self.child[at]
            right = (x.gather(1, self.feature[at]) > self.threshold[at]).to(torch.int64)
            at = torch.where(below >= 0, below + right, at)
        leaf = (-1 - self.child[at]).clamp(min=0)  # below 0 only where a file's `depth` is too small
        # A round of trees has a value for every class: one tree of `classes` columns, or `classes` trees of one.
        rounds = self.value[leaf].reshape(x.shape[0], self.sizes.trees * self.sizes.columns // self.classes, -1)
        return rounds.sum(1) + self.base

    def forward(self, x: Tensor) -> Tensor:
        scores = self.scores(x)
        return (torch.log(scores.clamp(min=0) + FLOOR) if self.kind == "forest" else scores) / self.temperature

    def check(self) -> None:
        """Raises ValueError when a table points outside of another, so that no lookup of `scores` can."""
        sizes = self.sizes
        for name, table, low, high in (
            ("root", self.root, 0, sizes.nodes - 1),
            ("feature", self.feature, 0, self.width - 1),
            ("child", self.child, -sizes.leaves, sizes.nodes - 2),
        ):
            if int(table.min()) < low or int(table.max()) > high:
                raise ValueError(f"{name} of the trees points outside")


def from_fitted(
    kind: Kind, width: int, classes: int, trees: Sequence[tuple[Any, npt.NDArray[Any]]], base: npt.NDArray[Any]
) -> Trees:
    """The ensemble of scikit-learn's `tree_` objects, each with the (node_count, columns) values of its nodes.

    Rows of values that are alike are stored once: the leaves of a fully grown forest are one row a class.
    """
    tables = [_siblings(tree) for tree, _ in trees]
    starts = np.cumsum([0, *(len(table.child) for table in tables)])
    leaf_values = [values[table.source[table.child < 0]] for table, (_, values) in zip(tables, trees, strict=True)]
    value, row = np.unique(np.concatenate(leaf_values).astype(np.float32), axis=0, return_inverse=True)
    shifted = [np.where(t.child < 0, -1, t.child + start) for t, start in zip(tables, starts[:-1], strict=True)]
    child = np.concatenate(shifted)
    child[child < 0] = -1 - row.reshape(-1)
    depth = max(int(tree.max_depth) for tree, _ in trees)
    sizes = TreeSizes(len(trees), len(child), len(value), value.shape[1], depth)
    head = Trees(kind, width, classes, sizes)
    state = {
        "root": starts[:-1],
        "feature": np.concatenate([table.feature for table in tables]),
        "threshold": np.concatenate([table.threshold for table in tables]),
        "child": child,
        "value": value,
        "base": base.astype(np.float32),
        "temperature": np.float32(1),
    }
    head.load_state_dict({name: torch.from_numpy(np.array(table)) for name, table in state.items()}, strict=True)
    return head.eval()


@dataclass(frozen=True)
class _Table:
    """One tree with siblings side by side; `child` is -1 at leaves, `source` the number of a node at scikit-learn."""

    feature: npt.NDArray[np.int64]
    threshold: npt.NDArray[np.float32]
    child: npt.NDArray[np.int64]
    source: npt.NDArray[np.int64]


def _siblings(tree: Any) -> _Table:
    """The nodes of a `tree_` in breadth-first order, two children always following each other."""
    left, right = tree.children_left, tree.children_right
    source, child, at = [0], [], 0
    while at < len(source):
        node = source[at]
        child.append(len(source) if left[node] >= 0 else -1)
        if left[node] >= 0:
            source += [int(left[node]), int(right[node])]
        at += 1
    order, below = np.array(source, dtype=np.int64), np.array(child, dtype=np.int64)
    leaf = below < 0
    feature = np.where(leaf, 0, tree.feature[order]).astype(np.int64)
    threshold = np.where(leaf, np.float32(0), round_down(tree.threshold[order]))
    return _Table(feature, threshold.astype(np.float32), below, order)


def round_down(threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 that is no larger: scikit-learn compares float32 features with float64 thresholds, and so
    the same features stay below."""
    near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near)
