"""Consumes inputs of rows, produces the leaf of each tree in which they end; trees are kept as arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]


@dataclasses.dataclass(frozen=True, eq=False)
class Nodes:
    """Nodes of trees, one tree after the other.

    roots: (t,) first node of each tree.  feature, threshold, left, right: (nodes,); a row goes left where its feature
    is at most the threshold, and a leaf leads to itself.  depth: of the deepest tree.
    """

    roots: Integers
    feature: Integers
    threshold: npt.NDArray[Any]
    left: Integers
    right: Integers
    depth: int

    def leaves(self, values: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.int32]]:
        """Inputs (n, k) -> for each tree the node in which every row ends, (n,)."""
        rows, flat = np.arange(len(values)) * values.shape[1], np.ravel(values)
        for root in self.roots:
            node = np.full(len(values), root)
            for _ in range(self.depth):
                low = flat[rows + self.feature[node]] <= self.threshold[node]
                after = np.where(low, self.left[node], self.right[node])
                if np.array_equal(after, node):
                    break
                node = after
            yield node


def nodes_of(trees: Sequence[Any]) -> tuple[Nodes, Floats]:
    """The nodes of scikit-learn's fitted trees, and the depth at which each lies (nodes,)."""
    roots, parts, start = [], [], 0
    for tree in trees:
        leaf = tree.children_left < 0
        itself = np.arange(tree.node_count)
        left = np.where(leaf, itself, tree.children_left)
        right = np.where(leaf, itself, tree.children_right)
        level = np.zeros(tree.node_count)
        for node in itself[~leaf]:  # parents come before their children
            level[[left[node], right[node]]] = level[node] + 1
        feature, threshold = np.where(leaf, 0, tree.feature), np.where(leaf, np.inf, tree.threshold)
        parts.append((feature, threshold, left + start, right + start, level))
        roots.append(start)
        start += tree.node_count
    feature, threshold, left, right, level = (np.concatenate(part) for part in zip(*parts, strict=True))
    nodes = Nodes(
        roots=np.array(roots, dtype=np.int32),
        feature=feature.astype(np.int32),
        threshold=threshold.astype(np.float64),
        left=left.astype(np.int32),
        right=right.astype(np.int32),
        depth=int(level.max()),
    )
    return nodes, level
