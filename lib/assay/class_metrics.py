"""Consumes classes that came true and their probabilities as arrays, produces what predictions of classes are worth.

`actual` is (n,), codes of classes as float64; `probabilities` is (n, K), each row's sum 1. scikit-learn measures.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
SURE = 1e-15  # probabilities are kept away from 0 and 1 by this where their logarithm is taken
BINS = 10


def log_losses(actual: npt.ArrayLike, probabilities: npt.ArrayLike) -> Vector:
    """-log of the probability of what came true, (n,)."""
    p = np.asarray(probabilities, dtype=np.float64)
    codes = np.asarray(actual).astype(np.intp)
    return np.asarray(-np.log(np.clip(p[np.arange(len(codes)), codes], SURE, 1.0)))


def brier_scores(actual: npt.ArrayLike, probabilities: npt.ArrayLike) -> Vector:
    """Squared distance of the probabilities from what came true, (n,): of two classes that of the second alone."""
    p, codes = np.asarray(probabilities, dtype=np.float64), np.asarray(actual).astype(np.intp)
    if p.shape[1] == 2:
        return np.asarray((p[:, 1] - codes) ** 2)
    return np.asarray(((p - np.eye(p.shape[1])[codes]) ** 2).sum(axis=1))


def class_metrics(actual: npt.ArrayLike, probabilities: npt.ArrayLike) -> dict[str, float]:
    """Figures of probabilities of classes.

    Keys: `log_loss`, `brier`, `calibration_error` (see there), shares from 0 to 1 `accuracy`, `balanced_accuracy` (mean
    share found of each class that came true) and `macro_f1` (of the likeliest class). Of two classes also `auc`
    (area under the ROC curve), `average_precision`, `precision`, `recall` and `f1` of the second one at a probability
    of 0.5, `base_rate`, its share, and `top_tenth_lift` (see `top_lift`). NaN where a figure is not defined: `auc`,
    precision and lift of what never came.

    Raises ValueError for no rows, unequal lengths, codes that are none, and probabilities that do not add up.
    """
    from sklearn import metrics

    p, codes = checked(actual, probabilities)
    classes = p.shape[1]
    likeliest = p.argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that never came, which is NaN or 0 here
        figures = {
            "log_loss": float(log_losses(codes, p).mean()),
            "brier": float(brier_scores(codes, p).mean()),
            "calibration_error": calibration_error(codes, p),
            "accuracy": float(metrics.accuracy_score(codes, likeliest)),
            "balanced_accuracy": float(metrics.balanced_accuracy_score(codes, likeliest)),
            "macro_f1": float(metrics.f1_score(codes, likeliest, average="macro", zero_division=0)),
        }
        if classes == 2:
            told = {"y_true": codes, "y_pred": likeliest, "zero_division": 0}
            figures |= {
                **ranking(codes, p[:, 1]),
                "precision": float(metrics.precision_score(**told)),
                "recall": float(metrics.recall_score(**told)),
                "f1": float(metrics.f1_score(**told)),
                "base_rate": float(codes.mean()),
            }
    return figures


def ranking(actual: npt.ArrayLike, probability: npt.ArrayLike) -> dict[str, float]:
    """`auc`, `average_precision` and `top_tenth_lift` (see `top_lift`) of the second class's probability (n,).

    NaN where it, or for `auc` the other, never came.
    """
    from sklearn import metrics

    codes = np.asarray(actual).astype(np.intp)
    both, some = 0 < codes.sum() < codes.size, bool(codes.any())
    return {
        "auc": float(metrics.roc_auc_score(codes, probability)) if both else math.nan,
        "average_precision": float(metrics.average_precision_score(codes, probability)) if some else math.nan,
        "top_tenth_lift": top_lift(codes, probability),
    }


def top_lift(actual: npt.ArrayLike, scores: npt.ArrayLike, share: float = 0.1) -> float:
    """How many times as often what is sought is among the rows with the highest scores as among all; NaN without any.

    Rows at the edge that have one score stand for their mean, as any of them might have been taken.

    Args:
        actual: (n,), 1 where it came, else 0.
        scores: (n,).
        share: of the rows, that is taken; at least one row.
    """
    came, scored = np.asarray(actual, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    taken = max(1, round(share * len(came)))
    edge = np.partition(scored, -taken)[-taken]
    above, tied = scored > edge, scored == edge
    found = came[above].sum() + came[tied].mean() * (taken - above.sum())
    return float(found / taken / came.mean()) if came.any() else math.nan


def calibration_error(actual: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: mean over rows of |share that came true - mean probability| of their bin.

    Bins of equal width (Naeini and others, 2015). Of two classes the probability of the second one, of several that of
    the likeliest, which came true or not.
    """
    _, means, shares, rows = reliability(actual, probabilities, bins)
    return float(np.sum(np.abs(means - shares) * rows) / max(1.0, rows.sum()))


def reliability(
    actual: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS
) -> tuple[Vector, Vector, Vector, Vector]:
    """Of the bins of equal width that have rows: their number, mean probability, share that came true, and rows."""
    place, said, held = binned(actual, probabilities, bins)
    rows = np.bincount(place, minlength=bins).astype(np.float64)
    with np.errstate(invalid="ignore"):
        means = np.bincount(place, said, bins) / rows
        shares = np.bincount(place, held, bins) / rows
    filled = np.flatnonzero(rows)
    return filled.astype(np.float64), means[filled], shares[filled], rows[filled]


def binned(
    actual: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS
) -> tuple[npt.NDArray[np.intp], Vector, npt.NDArray[np.bool_]]:
    """Of each row the bin of equal width, the probability that it is of, and whether that came true; (n,) each."""
    p, codes = np.asarray(probabilities, dtype=np.float64), np.asarray(actual).astype(np.intp)
    said = p[:, 1] if p.shape[1] == 2 else p.max(axis=1)
    held = (codes == 1) if p.shape[1] == 2 else (p.argmax(axis=1) == codes)
    return np.minimum((said * bins).astype(np.intp), bins - 1), said, held


def set_metrics(actual: npt.ArrayLike, sets: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Of prediction sets (n, K): `coverage`, `set_size`, and shares of rows with `empty`, `single` and `full` sets."""
    codes, sizes = np.asarray(actual).astype(np.intp), sets.sum(axis=1)
    return {
        "coverage": float(sets[np.arange(len(codes)), codes].mean()),
        "set_size": float(sizes.mean()),
        "empty_share": float((sizes == 0).mean()),
        "single_share": float((sizes == 1).mean()),
        "full_share": float((sizes == sets.shape[1]).mean()),
    }


def confusion(actual: npt.ArrayLike, predicted: npt.ArrayLike, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Rows by the class that came true and the one that was likeliest, (K, K)."""
    from sklearn.metrics import confusion_matrix

    told = np.asarray(actual).astype(np.intp), np.asarray(predicted).astype(np.intp)
    return np.asarray(confusion_matrix(*told, labels=range(len(classes))), dtype=np.int64)


def checked(actual: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[Vector, npt.NDArray[np.intp]]:
    """Probabilities (n, K) and codes (n,). Raises ValueError for what means nothing; see `class_metrics`."""
    p, codes = np.asarray(probabilities, dtype=np.float64), np.asarray(actual, dtype=np.float64)
    if p.ndim != 2 or codes.shape != p.shape[:1]:
        raise ValueError(f"probabilities of shape {p.shape} do not fit outcomes of shape {codes.shape}")
    if not codes.size:
        raise ValueError("no rows to evaluate: no prediction has a known outcome")
    if not np.isin(codes, np.arange(p.shape[1])).all():
        raise ValueError(f"an outcome is none of the codes 0 to {p.shape[1] - 1}")
    if not (np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(axis=1), 1)):
        raise ValueError("probabilities must not be negative, and each row's sum must be 1")
    return p, codes.astype(np.intp)
