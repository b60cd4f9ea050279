"""Consumes points that stand for two samples, produces how far apart the samples are, as exactly as the points tell."""

from __future__ import annotations

import numpy as np

from assay.monitoring.samples import Apart, decile_edges
from assay.monitoring.sketch import Points


def points_apart(reference: Points, current: Points) -> Apart:
    """Compare as `numbers_apart` does.

    ks is told with an error of at most that of both points together, wasserstein with one of at most that times the
    range of all values, the median and the ends of bins with one of so many rows.
    """
    n, m = reference.rows, current.rows
    edges = decile_edges(reference.values, reference.until)
    bins = np.stack([np.diff(np.append(one.up_to(edges), one.rows), prepend=0) for one in (reference, current)])
    if not n or not m:
        return Apart(n, m, bins)
    values = np.sort(np.concatenate([reference.values, current.values]))
    gaps = np.abs(reference.up_to(values) / n - current.up_to(values) / m)
    return Apart(
        n,
        m,
        bins,
        ks=float(gaps.max()),
        wasserstein=float(gaps[:-1] @ np.diff(values.astype(np.float64))),
        spread=_spread(reference),
        medians=(_median(reference), _median(current)),
        error=reference.error + current.error,
    )


def _median(points: Points) -> float:
    return float(np.mean(points.at_rank([(points.rows - 1) // 2, points.rows // 2]), dtype=np.float64))


def _spread(points: Points) -> float:
    values, weights = points.values.astype(np.float64), np.diff(points.until, prepend=0)
    gaps = values - np.average(values, weights=weights)
    return float(np.sqrt(np.average(gaps * gaps, weights=weights)))
