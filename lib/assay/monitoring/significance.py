"""Consumes pairs of samples that were compared, produces p-values and indices, and which of them drifted.

Hundreds of columns are tested at once: p-values are adjusted so that at most a stated share of all alarms is false
(Benjamini and Hochberg, 1995). Of many rows the least difference is significant, so an alarm needs a large one as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.spatial.distance import jensenshannon

from assay.monitoring.samples import Apart

Floats = npt.NDArray[np.float64]
HALF_A_ROW = 0.5  # what an empty bin counts for in the index of population stability, which knows no logarithm of 0


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What tests say of a pair of samples.

    psi: index of population stability, sum over bins of (q - p) ln(q / p), p and q the shares of the two samples.
    psi_by_chance: what it exceeds in one of 20 pairs of samples of the same distribution and these sizes.
    js: distance of Jensen and Shannon over the same bins, 0 to 1.  ks_p: Kolmogorov's and Smirnov's test of numbers.
    chi2, chi2_p: Pearson's of categories.  missing_p: his of the shares of missing values.
    """

    psi: float
    psi_by_chance: float
    js: float
    ks_p: float
    chi2: float
    chi2_p: float
    missing_p: float

    @property
    def p(self) -> float:
        """Of all tests of the pair together (Bonferroni); 1 where none could be made."""
        known = [p for p in (self.ks_p, self.chi2_p, self.missing_p) if not np.isnan(p)]
        return min(1.0, len(known) * min(known)) if known else 1.0


def evidence(apart: Apart, missing: tuple[int, int] = (0, 0), *, numeric: bool) -> Evidence:
    """Test a pair of samples. missing: rows without a value in each.

    p-values of numbers are those of `scipy.stats.ks_2samp(method="asymp")`, of categories and of missing values those
    of `scipy.stats.chi2_contingency(correction=False)`.
    """
    psi, by_chance, js = indices(apart.bins)
    chi2, chi2_p = (np.nan, np.nan) if numeric else pearson(apart.bins)
    known = (apart.reference, apart.current)
    _, missing_p = pearson(np.array([known, missing]))
    return Evidence(psi, by_chance, js, ks_p(apart.ks, *known), chi2, chi2_p, missing_p)


def indices(bins: npt.NDArray[np.int64]) -> tuple[float, float, float]:
    """psi, psi_by_chance and js of (2, bins) rows; NaN where a sample has none.

    By chance psi is distributed as chi-square with bins - 1 degrees of freedom, times 1 / n + 1 / m (Yurdakul and
    Naranjo, 2020).
    """
    used = bins[:, bins.sum(axis=0) > 0]
    rows = used.sum(axis=1, keepdims=True)
    if not used.size or not rows.all():
        return np.nan, np.nan, np.nan
    p, q = np.maximum(used, HALF_A_ROW) / rows
    psi = float(((q - p) * np.log(q / p)).sum())
    by_chance = float(stats.chi2.ppf(0.95, used.shape[1] - 1) * (1 / rows).sum()) if used.shape[1] > 1 else 0.0
    return psi, by_chance, float(jensenshannon(*(used / rows), base=2))


def ks_p(distance: float, n: int, m: int) -> float:
    """P-value of a Kolmogorov-Smirnov distance of n and m values; NaN where they are too few to tell anything."""
    effective = np.round(n * m / (n + m)) if n and m else 0
    if np.isnan(distance) or not effective:
        return np.nan
    return float(np.clip(stats.kstwo.sf(distance, effective), 0.0, 1.0))


def pearson(table: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Pearson's chi-square of a table of counts and its p-value; NaN where a row or all columns but one are empty."""
    used = table[:, table.sum(axis=0) > 0]
    if used.shape[1] < 2 or not used.sum(axis=1).all():
        return np.nan, np.nan
    found = stats.chi2_contingency(used, correction=False)
    return float(found.statistic), float(found.pvalue)


def adjusted(p: Sequence[float]) -> Floats:
    """Benjamini's and Hochberg's adjusted p-values, (tests,)."""
    return np.asarray(stats.false_discovery_control(p)) if len(p) else np.empty(0)
