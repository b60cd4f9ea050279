"""Consumes stored decision trees, produces the mean of their predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.model.arrays import from_bytes, to_bytes
from assay.model.encoding import Matrix
from assay.model.learner_inputs import LearnerInputs
from assay.model.tree_nodes import Nodes, nodes_of

Floats = npt.NDArray[np.float64]
BLOCK_ROWS = 8192


@dataclasses.dataclass(frozen=True, eq=False)
class Trees:
    """One tree, or the mean of a forest. value: (nodes,) mean target, of several classes
    (nodes, K), their shares.  gain: (k,) what each input's splits explain."""

    inputs: LearnerInputs
    nodes: Nodes
    value: Floats
    gain: Floats

    def predict(self, matrix: Matrix) -> Floats:
        """(n, features) -> (n,), of several classes (n, classes)."""
        result = np.zeros((len(matrix), *self.value.shape[1:]))
        for first in range(0, len(matrix), BLOCK_ROWS):
            block = slice(first, first + BLOCK_ROWS)
            for leaf in self.nodes.leaves(self.inputs.apply(matrix[block]).astype(np.float32)):
                result[block] += self.value[leaf]
        return result / len(self.nodes.roots)

    def importance(self) -> dict[int, float]:
        """Share of the explained variance."""
        return self.inputs.by_feature(self.gain)

    def store(self) -> bytes:
        """As npz."""
        nodes = {f.name: getattr(self.nodes, f.name) for f in dataclasses.fields(Nodes)}
        return to_bytes(**self.inputs.arrays(), **nodes, value=self.value, gain=self.gain)


def trees_of(trees: Sequence[Any], inputs: LearnerInputs, gain: Floats, prior: Floats | None = None) -> Trees:
    """Of scikit-learn's fitted trees; thresholds take half of their room.

    prior: of classes, the shares (K,) of those that scikit-learn saw, which count as one row more in each leaf.
    """
    nodes, _ = nodes_of(trees)
    if prior is None:
        value = np.concatenate([tree.value[:, 0, 0] for tree in trees])
    else:
        rows = np.concatenate([tree.weighted_n_node_samples for tree in trees])[:, None]
        shares = np.concatenate([tree.value[:, 0, :] for tree in trees])
        value = (rows * shares / shares.sum(axis=1, keepdims=True) + prior) / (rows + 1)
    return Trees(inputs, dataclasses.replace(nodes, threshold=rounded_down(nodes.threshold)), value, gain)


def rounded_down(thresholds: Floats) -> npt.NDArray[np.float32]:
    """The greatest single that is no greater: inputs are singles, and are at most the one where at most the other."""
    near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)


def load_trees(stored: bytes, _: int = 1) -> Trees:
    """Read back `Trees.store`."""
    arrays = from_bytes(stored)
    plain = {name: arrays[name] for name in ("roots", "feature", "threshold", "left", "right")}
    nodes = Nodes(**plain, depth=int(arrays["depth"]))
    return Trees(LearnerInputs.of(arrays), nodes, arrays["value"], arrays["gain"])
