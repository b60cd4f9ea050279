"""Consumes members' quantiles of rows that they had not seen, produces the weighted mean of them that fits outcomes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from assay.model.ensemble import Combination
from assay.training.combination import equal_weights, trimmed

Floats = npt.NDArray[np.float64]
GAP = 1e-6  # share of the loss that the least one may be below what was found
MOST_CUTS = 300


def pinball_weights(truth: Floats, members: Floats, levels: Sequence[float]) -> Floats:
    """Weights (M,) of the least mean pinball loss, not negative and with sum 1; truth (n,), members (n, M, Q).

    All levels have the same weights, so that means of rising quantiles rise (Lichtendahl, Grushka-Cockayne and Winkler,
    2013, "Is it better to average probabilities or quantiles?"). The loss is convex and has kinks: cutting planes
    (Kelley, 1960), of which SciPy's `linprog` finds the least point, until that is `GAP` away from a loss reached.
    """
    from scipy.optimize import linprog

    count = members.shape[1]
    error = np.ascontiguousarray((members - truth[:, None, None]).swapaxes(0, 1)).reshape(count, -1)
    shares = np.tile(levels, len(truth))

    def slope(weights: Floats) -> Floats:
        """Of the loss, (M,). It is linear in the errors, so slope @ weights is the loss itself."""
        pull = (weights @ error > 0) - shares
        return np.asarray(error @ pull / len(shares))

    tried = [*np.eye(count), equal_weights(count)]
    cuts = [slope(weights) for weights in tried]
    losses = [float(cut @ weights) for cut, weights in zip(cuts, tried, strict=True)]
    while len(cuts) < MOST_CUTS:
        size = max(losses) or 1.0
        lowest = linprog(
            np.append(np.zeros(count), 1.0),
            A_ub=np.column_stack([np.array(cuts) / size, -np.ones(len(cuts))]),
            b_ub=np.zeros(len(cuts)),
            A_eq=np.append(np.ones(count), 0.0)[None],
            b_eq=[1.0],
            bounds=[(0.0, None)] * (count + 1),
        )
        if lowest.x is None or min(losses) <= (1 + GAP) * lowest.fun * size:
            break
        weights = trimmed(np.maximum(lowest.x[:count], 0.0), least=0.0)
        tried.append(weights)
        cuts.append(slope(weights))
        losses.append(float(cuts[-1] @ weights))
    return np.asarray(tried[int(np.argmin(losses))])


def averaged_quantiles(truth: Floats, members: Floats, levels: Sequence[float]) -> Combination:
    """Weights of the least pinball loss, without members that hardly count."""
    return Combination("weighted", trimmed(pinball_weights(truth, members, levels)), kind="quantiles")
