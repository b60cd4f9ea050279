"""Consumes numeric inputs of rows, produces how far each stands alone, by an isolation forest kept as arrays."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.model.tree_nodes import Nodes, nodes_of

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]
BLOCK_ROWS = 8192


@dataclasses.dataclass(frozen=True)
class Forest:
    """An isolation forest (Liu, Ting and Zhou, 2008) as scikit-learn fits it, its trees' nodes one after the other.

    typical: (p,) stands in for missing inputs.  roots: (t,) first node of each tree.
    feature, threshold, left, right: (nodes,); a leaf leads to itself.  path: (nodes,) path length of a row that ends
    there.  depth: of the deepest tree.  normal: path length that makes a score of 1/2.  offset: rows whose score is
    above it are flagged.
    """

    typical: npt.NDArray[np.float32]
    roots: Integers
    feature: Integers
    threshold: Floats
    left: Integers
    right: Integers
    path: Floats
    depth: int
    normal: float
    offset: float

    def scores(self, raw: npt.NDArray[np.float32]) -> Floats:
        """(n, p) with NaN for missing -> anomaly scores (n,), from 0 to 1, higher for rows that stand alone."""
        result = np.empty(len(raw))
        for first in range(0, len(raw), BLOCK_ROWS):
            block = raw[first : first + BLOCK_ROWS]
            filled = np.where(np.isnan(block), self.typical, block)
            result[first : first + BLOCK_ROWS] = self._paths(filled)
        scale = len(self.roots) * self.normal
        return np.exp2(-result / scale) if scale else np.full(len(raw), 0.5)

    def flags(self, raw: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """(n, p) -> (n,), True for rows that stand alone."""
        return self.scores(raw) > self.offset

    def _paths(self, filled: npt.NDArray[np.float32]) -> Floats:
        """Path lengths over all trees, summed in their order (n,)."""
        nodes = Nodes(self.roots, self.feature, self.threshold, self.left, self.right, self.depth)
        total = np.zeros(len(filled))
        for leaf in nodes.leaves(filled):
            total += self.path[leaf]
        return total


def forest_of(fitted: Any, typical: npt.NDArray[np.float32]) -> Forest:
    """The arrays of a fitted `sklearn.ensemble.IsolationForest`."""
    trees = [estimator.tree_ for estimator in fitted.estimators_]
    nodes, level = nodes_of(trees)
    shorter = [normal_path(int(rows)) for tree in trees for rows in tree.n_node_samples]
    return Forest(
        typical=typical,
        roots=nodes.roots,
        feature=nodes.feature,
        threshold=nodes.threshold,
        left=nodes.left,
        right=nodes.right,
        path=level + np.array(shorter),
        depth=nodes.depth,
        normal=normal_path(int(fitted.max_samples_)),
        offset=-float(fitted.offset_),
    )


def normal_path(rows: int) -> float:
    """Mean path length of an unsuccessful search in a binary tree of so many rows (Preiss, 1999)."""
    if rows <= 1:
        return 0.0
    return 1.0 if rows == 2 else 2.0 * (math.log(rows - 1.0) + float(np.euler_gamma)) - 2.0 * (rows - 1.0) / rows
