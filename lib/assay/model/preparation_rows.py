"""Consumes matrices, produces sums along their rows in a fixed order: a row's result is the same in any batch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
BLOCK_ROWS = 4096


def weighted_sums(values: Floats, weights: Floats) -> Floats:
    """(n, p) and (p, k) -> (n, k), their matrix product.

    A product of BLAS would be faster, but picks its order of adding by the shape of the batch.
    """
    result = np.zeros((len(values), weights.shape[1]))
    for first in range(0, len(values), BLOCK_ROWS):
        block = slice(first, first + BLOCK_ROWS)
        part = result[block]
        for position, row in enumerate(weights):
            part += values[block, position, None] * row
    return result
