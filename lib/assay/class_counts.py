"""Consumes counts of classes and of probabilities that were added up, produces what `class_metrics` says of rows."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Vector = npt.NDArray[np.float64]
BUCKET = 0.002  # width on the logit's scale: two probabilities in one bucket differ by 0.0005 at most
LARGEST_LOGIT = 20.0  # probabilities beyond share the outermost buckets


def counted_metrics(counts: Counts) -> dict[str, float]:
    """`accuracy`, `balanced_accuracy`, `macro_f1`, of two classes `precision`, `recall`, `f1` and `base_rate` as well.

    counts: rows by the class that came true and the one that was likeliest, (K, K).
    """
    hits, came, said = np.diag(counts).astype(np.float64), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore"):
        recall = hits / came
        f1 = 2 * hits / (came + said)
    figures = {
        "accuracy": float(hits.sum() / counts.sum()),
        "balanced_accuracy": float(recall[came > 0].mean()),
        "macro_f1": float(f1[came + said > 0].mean()),
    }
    if len(counts) == 2:
        figures |= {
            "precision": float(hits[1] / said[1]) if said[1] else 0.0,
            "recall": float(recall[1]) if came[1] else 0.0,
            "f1": float(f1[1]) if came[1] + said[1] else 0.0,
            "base_rate": float(came[1] / counts.sum()),
        }
    return figures


def bucket_of(probability: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """The bucket of each probability (n,): rising with it, of width `BUCKET` on the logit's scale."""
    p = np.asarray(probability, dtype=np.float64)
    with np.errstate(divide="ignore"):
        logit = np.clip(np.log(p) - np.log1p(-p), -LARGEST_LOGIT, LARGEST_LOGIT)
    return np.asarray(np.floor(logit / BUCKET), dtype=np.int32)


def counted_ranking(others: npt.ArrayLike, ours: npt.ArrayLike) -> tuple[dict[str, float], float]:
    """`auc`, `average_precision` and `top_tenth_lift` of rows counted by bucket, and how far the first may be off.

    others, ours: rows of the first and of the second class per bucket (B,), buckets rising. Rows of a bucket count as
    equally probable; AUC is then right to half the share of pairs of both classes that share a bucket, and no bound of
    average precision is told, which is off by about as little.
    """
    n, p = np.asarray(others, dtype=np.float64), np.asarray(ours, dtype=np.float64)
    pairs = n.sum() * p.sum()
    below = np.cumsum(n) - n
    auc = float((p * (below + n / 2)).sum() / pairs) if pairs else math.nan
    hits, taken = np.cumsum(p[::-1]), np.cumsum((n + p)[::-1])
    precision = hits / np.maximum(taken, 1)
    average = float((p[::-1] * precision).sum() / p.sum()) if p.sum() else math.nan
    wanted = max(1, round(0.1 * (n + p).sum()))  # of the last bucket that is needed, rows stand for their mean
    shares = np.clip((wanted - (taken - (n + p)[::-1])) / np.maximum((n + p)[::-1], 1), 0, 1)
    lift = float((shares * p[::-1]).sum() / wanted / (p.sum() / (n + p).sum())) if p.sum() else math.nan
    return {"auc": auc, "average_precision": average, "top_tenth_lift": lift}, float(
        (n * p).sum() / pairs / 2
    ) if pairs else math.nan


def binned_error(rows: npt.ArrayLike, said: npt.ArrayLike, held: npt.ArrayLike) -> float:
    """Expected calibration error of rows (B,), summed probabilities and how many came true, per bin."""
    gaps = np.abs(np.asarray(said, dtype=np.float64) - np.asarray(held, dtype=np.float64))
    return float(gaps.sum() / max(1.0, float(np.sum(rows))))
