"""Consumes rows before the test period, produces segments of similar rows (K-means), and the segment of each later row.

Found once by scikit-learn's MiniBatchKMeans (Sculley, 2010); tasks only look for the nearest centre, in NumPy.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.model.scale import Floats

CLIP = (0.01, 0.99)  # quantiles: beyond them a value counts as these, else single giants would be clusters
SILHOUETTE_ROWS = 5_000
TELLING = 0.5  # standard deviations from the mean that are worth a word
Places = npt.NDArray[np.int64]
WORDS = 2  # columns in a name
LEAST_ROWS = 100


@dataclasses.dataclass(frozen=True)
class Clusters:
    """Segments of similar rows, the largest first.

    columns: m inputs.  low, high, middle, mean, scale: (m,) how they are clipped, filled where missing, standardised.
    centres: (k, m) standardised.  shares: (k,) of the rows that they were found on.  silhouette: mean, of a sample
    (Rousseeuw, 1987): near 1 clusters are far apart, near 0 they touch.
    """

    columns: tuple[str, ...]
    low: Floats
    high: Floats
    middle: Floats
    mean: Floats
    scale: Floats
    centres: Floats
    shares: tuple[float, ...]
    silhouette: float

    def standardised(self, values: Floats) -> Floats:
        """Inputs (n, m) as clusters see them."""
        filled = np.where(np.isfinite(values), values, self.middle)
        return (np.clip(filled, self.low, self.high) - self.mean) / self.scale

    def nearest(self, values: Floats) -> tuple[Places, Floats]:
        """Of each row (n, m) the nearest cluster, counted from 0 (n,), and the distance to its centre (n,)."""
        seen = self.standardised(values)
        # |x - c|^2 without |x|^2, which is the same for every centre: no (n, k, m) array.
        place = (-2 * seen @ self.centres.T + (self.centres**2).sum(axis=1)).argmin(axis=1)
        return place, np.sqrt(((seen - self.centres[place]) ** 2).sum(axis=1))

    def assign(self, values: Floats) -> list[str]:
        """Name of the nearest cluster of each row (n, m)."""
        return list(np.array(self.names, dtype=object)[self.nearest(values)[0]])

    @property
    def names(self) -> list[str]:
        """What sets each cluster apart, in a few words."""
        found = []
        for place, centre in enumerate(self.centres, 1):
            top = [j for j in np.argsort(-np.abs(centre), kind="stable")[:WORDS] if abs(centre[j]) >= TELLING]
            told = [f"{self.columns[j]} {'high' if centre[j] > 0 else 'low'}" for j in top]
            found.append(f"{place}: {', '.join(told) or 'near the average'}")
        return found

    def described(self) -> list[dict[str, Any]]:
        """Per cluster and input: its mean there and over all rows, and how many standard deviations lie between."""
        return [
            {
                "cluster": name,
                "share": share,
                "input": column,
                "mean": float(centre[j] * self.scale[j] + self.mean[j]),
                "mean_of_all": float(self.mean[j]),
                "deviations": float(centre[j]),
                "distance": abs(float(centre[j])),
            }
            for name, share, centre in zip(self.names, self.shares, self.centres, strict=True)
            for j, column in enumerate(self.columns)
        ]


def find_clusters(values: Floats, columns: tuple[str, ...], *, number: int, most: int, seed: int) -> Clusters | None:
    """Clusters of rows (n, m); None where there is nothing to tell apart. Columns without spread are left out.

    number: how many; 0 takes the number up to `most` with the best silhouette.
    """
    from sklearn.metrics import silhouette_score

    if number == 1 or len(values) < LEAST_ROWS:
        return None
    values = np.where(np.isfinite(values), values, np.nan)
    known = ~np.isnan(values).all(axis=0)
    values, columns = values[:, known], tuple(np.array(columns, dtype=object)[known])
    if not columns:
        return None
    low, middle, high = np.nanquantile(values, [CLIP[0], 0.5, CLIP[1]], axis=0)
    clipped = np.clip(np.where(np.isnan(values), middle, values), low, high)
    mean, scale = clipped.mean(axis=0), clipped.std(axis=0)
    used = scale > 1e-9 * np.maximum(np.abs(mean), 1)
    if not used.any():
        return None
    seen = (clipped[:, used] - mean[used]) / scale[used]
    sample = np.random.default_rng(seed).permutation(len(seen))[:SILHOUETTE_ROWS]
    best: tuple[float, Any] | None = None
    for count in [number] if number else range(2, most + 1):
        found = _fitted(seen, count, seed)
        labels = found.labels_[sample]
        score = float(silhouette_score(seen[sample], labels)) if 1 < len(np.unique(labels)) < len(sample) else -1.0
        if best is None or score > best[0]:
            best = (score, found)
    assert best is not None
    counts = np.bincount(best[1].labels_, minlength=len(best[1].cluster_centers_))
    order = [k for k in np.argsort(-counts, kind="stable") if counts[k]]
    shares = tuple(float(counts[k] / len(seen)) for k in order)
    names = tuple(np.array(columns, dtype=object)[used])
    return Clusters(
        columns=names,
        low=low[used],
        high=high[used],
        middle=middle[used],
        mean=mean[used],
        scale=scale[used],
        centres=best[1].cluster_centers_[order],
        shares=shares,
        silhouette=best[0],
    )


def _fitted(seen: Floats, number: int, seed: int) -> Any:
    from sklearn.cluster import MiniBatchKMeans

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer different rows than clusters: some stay empty and are dropped
        return MiniBatchKMeans(number, random_state=seed, n_init=5, batch_size=4_096).fit(seen)
