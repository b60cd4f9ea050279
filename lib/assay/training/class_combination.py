"""Consumes members' probabilities of rows that they had not seen, produces the combinations that fit what came true.

truth is (n,), codes of K classes; members (n, M, K), the probabilities of each of M members.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from assay.class_metrics import SURE
from assay.model.ensemble import STACKING, Combination, logarithms
from assay.model.outcome import Kind
from assay.training.combination import PENALTY, equal_weights, simplex_minimum, trimmed

Floats = npt.NDArray[np.float64]
CLOSE = 1e-13  # what a step of Newton's must win to be followed by another
MOST_STEPS, HALVINGS = 60, 30


def pool_weights(truth: Floats, members: Floats) -> Floats:
    """Weights (M,) of the least log loss of the mean of probabilities, not negative and with sum 1.

    The linear opinion pool (Stone, 1961) with the weights of Hall and Mitchell (2007), a convex problem.
    """
    came = members[np.arange(len(truth)), :, truth.astype(np.intp)]

    def pooled(weights: Floats) -> Floats:
        return np.maximum(came @ weights, SURE)

    return simplex_minimum(
        lambda w: -float(np.log(pooled(w)).mean()), lambda w: -(came / pooled(w)[:, None]).mean(axis=0), came.shape[1]
    )


def pooled(truth: Floats, members: Floats, kind: Kind) -> Combination:
    """Weights of the least log loss, without members that hardly count."""
    return Combination("weighted", trimmed(pool_weights(truth, members)), kind=kind)


def stacked_classes(truth: Floats, members: Floats, kind: Kind) -> Combination | None:
    """Logistic regression on members' log-odds, no weight below 0: one for each member, and an intercept per class.

    P(k) is in proportion to exp(intercept k + sum over members of weight * log P(k)): with two classes the logit is
    regressed on members' logits, with more it is the conditional logit (McFadden, 1974), which as a combination is a
    logarithmic opinion pool with weights that need not sum to 1 (Genest and Zidek, 1986). Least is the mean log loss
    + PENALTY / 2 * the squares of weights and intercepts; a member's own share of classes is what intercepts leave.
    None where no member has a weight.
    """
    odds = logarithms(members)
    odds -= odds.mean(axis=2, keepdims=True)
    weights, intercepts = _least(truth.astype(np.intp), odds)
    if not weights.sum() > 0:
        return None
    return Combination(STACKING, trimmed(weights), kind=kind, intercepts=intercepts)


def _least(codes: npt.NDArray[np.intp], odds: Floats) -> tuple[Floats, Floats]:
    """Newton's method. Each step's quadratic problem with bounds is left to SciPy's BVLS (Stark and Parker, 1995)."""
    from scipy.optimize import lsq_linear

    _, width, classes = odds.shape
    least = np.concatenate([np.zeros(width), np.full(classes, -np.inf)])
    found = np.concatenate([equal_weights(width), np.zeros(classes)])
    loss, each = _loss(codes, odds, found)
    for _ in range(MOST_STEPS):
        slope, curve = _derivatives(codes, odds, each, found)
        half = np.linalg.cholesky(curve)
        wanted = half.T @ found - np.linalg.solve(half, slope)
        step = lsq_linear(half.T, wanted, (least, np.inf), method="bvls").x - found
        for _ in range(HALVINGS):
            tried, tried_each = _loss(codes, odds, found + step)
            if tried < loss:
                break
            step = step / 2
        else:
            break
        won, found, loss, each = loss - tried, found + step, tried, tried_each
        if won < CLOSE:
            break
    return np.maximum(found[:width], 0.0), found[width:]


def _loss(codes: npt.NDArray[np.intp], odds: Floats, at: Floats) -> tuple[float, Floats]:
    """What is to be least, and the probabilities (n, K). at: weights, then intercepts."""
    raised = np.tensordot(odds, at[: odds.shape[1]], axes=(1, 0)) + at[odds.shape[1] :]
    raised -= raised.max(axis=1, keepdims=True)
    each = np.exp(raised)
    total = each.sum(axis=1)
    loss = float((np.log(total) - raised[np.arange(len(codes)), codes]).mean()) + PENALTY / 2 * float(at @ at)
    return loss, each / total[:, None]


def _derivatives(codes: npt.NDArray[np.intp], odds: Floats, each: Floats, at: Floats) -> tuple[Floats, Floats]:
    """Slope (M + K,) and curvature (M + K, M + K) of `_loss`. each: probabilities (n, K)."""
    rows, width, classes = odds.shape
    off = each.copy()
    off[np.arange(rows), codes] -= 1
    mean = np.zeros((rows, width))
    slope, curve = np.zeros(len(at)), np.zeros((len(at), len(at)))
    for k in range(classes):
        slope[:width] += off[:, k] @ odds[:, :, k]
        curve[:width, :width] += (each[:, k, None] * odds[:, :, k]).T @ odds[:, :, k]
        curve[:width, width + k] = each[:, k] @ odds[:, :, k]
        mean += each[:, k, None] * odds[:, :, k]
    curve[:width, :width] -= mean.T @ mean
    curve[:width, width:] -= mean.T @ each
    curve[width:, :width] = curve[:width, width:].T
    curve[width:, width:] = np.diag(each.sum(axis=0)) - each.T @ each
    slope[width:] = off.sum(axis=0)
    return slope / rows + PENALTY * at, curve / rows + PENALTY * np.eye(len(at))
