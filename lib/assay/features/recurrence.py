"""Consumes series in which keys lie one after the other, produces states of linear recurrences from any start.

A recurrence y(i) = M y(i - 1) + u(i) over 2k steps is the one over k steps applied twice, so that tables of the last
1, 2, 4, ... steps give any stretch. (The idea is the parallel scan of Blelloch, 1990.) Neither keys nor rows are looped
over, and a figure is a function of its own stretch alone, to the last bit: products are added one by one, as matrix
routines do not promise to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from assay.features.timeline import Numbers, Positions

NEGLIGIBLE = 2.0**-60


def recurrence(
    matrix: Numbers,
    drivers: Sequence[tuple[Numbers, float]],
    seed: Numbers,
    first: Positions,
    last: Positions,
) -> Numbers:
    """States y(last), shape (states, rows), where y(first) = seed and y(i) = matrix @ y(i - 1) + u(i).

    Steps whose weight has fallen under 2**-60 are left out.  Cost: O((stretch + rows) log steps), memory O(stretch).

    Args:
        matrix: shape (states, states), whose powers vanish.
        drivers: for each state a series and a factor: u(i) is the series' number at i times the factor.
        seed: shape (states, rows).
        first, last: positions in the series, first <= last; shape (rows,).
    """
    state, at, steps = seed.copy(), first.copy(), last - first
    if not len(last):
        return state
    most = _levels(matrix)
    base = int(np.maximum(first, last - (1 << most)).min()) + 1
    stretch = slice(base, int(last.max()) + 1)
    table = np.stack([series[stretch] * factor for series, factor in drivers])
    near, power = steps < 1 << most, matrix
    for level in range(most):
        mine = np.flatnonzero(near & ((steps >> level) & 1 == 1))
        if len(mine):
            at[mine] += 1 << level
            state[:, mine] = _times(power, state[:, mine]) + table[:, at[mine] - base]
        if not (steps >= 2 << level).any():
            return state
        table[:, 1 << level :] += _times(power, table[:, : -(1 << level)])
        power = _times(power, power)
    far = np.flatnonzero(~near)
    state[:, far] = table[:, last[far] - base]
    return state


def _times(matrix: Numbers, columns: Numbers) -> Numbers:
    """matrix @ columns, added up in order."""
    found = np.zeros((len(matrix), columns.shape[1]))
    for row, column in zip(*np.nonzero(matrix), strict=True):
        found[row] += matrix[row, column] * columns[column]
    return found


def _levels(matrix: Numbers) -> int:
    """Least k for which matrix ** (2 ** k) is negligible."""
    level, power = 0, matrix
    while np.abs(power).max() > NEGLIGIBLE:
        level, power = level + 1, _times(power, power)
    return level
