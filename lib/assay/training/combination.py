"""Consumes predictions of members that had not seen the rows, produces the combinations that fit their outcomes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from assay.model.ensemble import STACKING, Combination

Floats = npt.NDArray[np.float64]
LEAST_WEIGHT = 0.01  # of all weights together; a member below it is not worth its time
PENALTY = 1e-3  # of stacking, per row and on standardised values: settles what nearly equal members get
ROWS_PER_MEMBER = 10


def equal_weights(members: int) -> Floats:
    """(M,)."""
    return np.full(members, 1 / members)


def optimised_weights(truth: Floats, members: Floats) -> Floats:
    """Weights (M,) of the least squared error, not negative and with sum 1, for truth (n,) and members (n, M).

    The quadratic problem of Bates and Granger (1969) in the errors' second moments.
    """
    error = members - truth[:, None]
    moments = error.T @ error / len(error)
    size = float(np.trace(moments)) / len(moments)
    if not size > 0:
        return equal_weights(len(moments))
    moments /= size
    return simplex_minimum(lambda w: float(w @ moments @ w), lambda w: 2 * moments @ w, len(moments))


def simplex_minimum(loss: Callable[[Floats], float], slope: Callable[[Floats], Floats], members: int) -> Floats:
    """Weights (M,), not negative and with sum 1, of the least convex loss with a slope (M,), by SciPy's SLSQP.

    None that it finds are worse than those of a single member, or equal ones.
    """
    from scipy.optimize import minimize

    found = minimize(
        loss,
        equal_weights(members),
        jac=slope,
        bounds=[(0.0, 1.0)] * members,
        constraints=[{"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": np.ones_like}],
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-14},
    )
    starts = [*np.eye(members), equal_weights(members)]
    if np.isfinite(found.x).all():
        starts.append(trimmed(np.maximum(found.x, 0.0), least=0.0))
    return min(starts, key=loss)


def trimmed(weights: Floats, *, least: float = LEAST_WEIGHT) -> Floats:
    """The same sum of weights without those members whose share is below `least`."""
    total = weights.sum()
    kept = np.where(weights < least * total, 0.0, weights)
    result: Floats = kept * (total / kept.sum())
    return result if least else result / result.sum()


def weighted(truth: Floats, members: Floats) -> Combination:
    """Optimised weights, without members that hardly count."""
    return Combination("weighted", trimmed(optimised_weights(truth, members)))


def stacked(truth: Floats, members: Floats) -> Combination | None:
    """Ridge regression on members' predictions, no weight below 0 (Breiman, 1996, "Stacked regressions").

    SciPy's non-negative least squares (Lawson and Hanson, 1974), exact, on the M normal equations. None where no member
    has a weight.
    """
    from scipy.optimize import nnls

    spread = float(members.std(axis=0).max())
    if not spread > 0:
        return None
    centre, middle = members.mean(axis=0), float(truth.mean())
    values, wanted = (members - centre) / spread, (truth - middle) / spread
    half = np.linalg.cholesky(values.T @ values / len(truth) + PENALTY * np.eye(members.shape[1]))
    weights, _ = nnls(half.T, np.linalg.solve(half, values.T @ wanted / len(truth)))
    if not weights.sum() > 0:
        return None
    weights = trimmed(np.asarray(weights, np.float64))
    return Combination(STACKING, weights, middle - float(centre @ weights))
