"""Consumes pairs of samples that were compared, produces p-values and indices, and which of them drifted.

Hundreds of columns are tested at once: p-values are adjusted so that at most a stated share of all alarms is false
(Benjamini and Hochberg, 1995). Of many rows the least difference is significant, so an alarm needs a large one as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from assay.monitoring.samples import Apart

Floats = npt.NDArray[np.float64]
HALF_A_ROW = 0.5  # what an empty bin counts for in the index of population stability, which knows no logarithm of 0
CHANCE = 0.05
TAIL_ROWS = (500, 1_000_000)  # where SciPy adds Smirnov's sum up, for n d^2 in `TAIL`
TAIL = (2.2, 370.0)
TAIL_NODES = 128


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


def evidences(pairs: Sequence[Apart], missing: Sequence[tuple[int, int]], numeric: Sequence[bool]) -> list[Evidence]:
    """Test pairs of samples, in their order. missing: rows without a value in each of the two.

    p-values of numbers are those of `scipy.stats.ks_2samp(method="asymp")`, of categories and of missing values those
    of `scipy.stats.chi2_contingency(correction=False)`. Where ks has an error the least that it may be is tested.
    """
    together: dict[tuple[bool, int], list[int]] = {}
    for place, (apart, is_number) in enumerate(zip(pairs, numeric, strict=True)):
        together.setdefault((is_number, apart.bins.shape[1]), []).append(place)
    found: dict[int, Evidence] = {}
    for (is_number, _), places in together.items():
        tested = _tested([pairs[place] for place in places], [missing[place] for place in places], is_number)
        found.update((place, Evidence(*one)) for place, one in zip(places, tested.tolist(), strict=True))
    return [found[place] for place in range(len(pairs))]


def _tested(pairs: Sequence[Apart], missing: Sequence[tuple[int, int]], numeric: bool) -> Floats:
    """Figures of `Evidence` of pairs with as many bins, (pairs, 7)."""
    bins = np.stack([apart.bins for apart in pairs])
    known = np.array([(apart.reference, apart.current) for apart in pairs])
    nothing = np.full(len(pairs), np.nan)
    chi2, chi2_p = (nothing, nothing) if numeric else pearson(bins)
    ks = np.array([(apart.ks, apart.error) for apart in pairs])
    _, missing_p = pearson(np.stack([known, np.array(missing)], axis=1))
    least = ks[:, 0] if not ks[:, 1].any() else np.clip(ks[:, 0] - ks[:, 1], 0.0, None)
    return np.column_stack([*indices(bins), ks_p(least, known[:, 0], known[:, 1]), chi2, chi2_p, missing_p])


def indices(bins: npt.NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """psi, psi_by_chance and js of rows in bins, (..., 2, bins) -> (...); NaN where a sample has none.

    By chance psi is distributed as chi-square with bins - 1 degrees of freedom, times 1 / n + 1 / m (Yurdakul and
    Naranjo, 2020).
    """
    used = bins.sum(axis=-2, keepdims=True) > 0
    rows = bins.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        p, q = np.moveaxis(np.where(used, np.maximum(bins, HALF_A_ROW) / rows, 1.0), -2, 0)
        psi = ((q - p) * np.log(q / p)).sum(axis=-1)
        free = used.sum(axis=(-2, -1)) - 1
        by_chance = np.where(free > 0, special.chdtri(free, CHANCE) * (1 / rows).sum(axis=(-2, -1)), 0.0)
        shares = bins / rows
        middle = shares.mean(axis=-2, keepdims=True)
        js = np.sqrt(special.rel_entr(shares, middle).sum(axis=(-2, -1)) / 2 / np.log(2))
    empty = ~rows.all(axis=(-2, -1))
    psi, by_chance, js = (np.where(empty, np.nan, one) for one in (psi, by_chance, js))
    return psi, by_chance, js


def ks_p(distance: npt.ArrayLike, n: npt.ArrayLike, m: npt.ArrayLike) -> Floats:
    """P-values of Kolmogorov-Smirnov distances of n and m values; NaN where they are too few to tell anything."""
    d, n, m = (np.asarray(one, dtype=np.float64) for one in (distance, n, m))
    effective = np.round(n * m / np.maximum(n + m, 1))
    told = (effective > 0) & ~np.isnan(d)
    squared = effective * d * d
    many = (effective >= TAIL_ROWS[0]) & (effective <= TAIL_ROWS[1])
    tail = told & many & (squared >= TAIL[0]) & (squared < TAIL[1]) & (d < 0.5)
    found = np.full(d.shape, np.nan)
    found[tail] = smirnov_tail(d[tail], effective[tail])
    rest = told & ~tail
    found[rest] = stats.kstwo.sf(d[rest], effective[rest])
    p: Floats = np.clip(found, 0.0, 1.0)
    return p


def smirnov_tail(d: Floats, n: Floats) -> Floats:
    """Twice the probability that a one-sided distance of n values is at least d, (k,) and (k,) -> (k,).

    Smirnov's sum (1944) over j of C(n, j) d (d + j / n)^(j - 1) (1 - d - j / n)^(n - j) has up to n terms, which SciPy
    adds one by one. They are values of a smooth function that is nothing at both ends, so that few of them, at equal
    steps, tell the sum to 12 digits. Factorials are Stirling's series.
    """
    d, n = d[:, None], n[:, None]
    step = n * (1 - d) / TAIL_NODES
    j = step * (np.arange(TAIL_NODES) + 0.5)
    k = n - j
    binomial = 0.5 * np.log(n / (2 * np.pi * j * k)) + _stirling(n) - _stirling(j) - _stirling(k)
    powers = j * np.log1p(n * d / j) + k * np.log1p(-n * d / k) - np.log(d + j / n)
    found: Floats = 2 * d[:, 0] * (step * np.exp(binomial + powers)).sum(axis=1)
    return found


def _stirling(k: Floats) -> Floats:
    """Logarithm of k! over Stirling's formula."""
    s = 1 / (k * k)
    return np.asarray((1 / 12 - (1 / 360 - (1 / 1260 - s / 1680) * s) * s) / k)


def pearson(table: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Pearson's chi-square of tables of counts, (..., 2, columns), and its p-value, (...).

    NaN where a row or all columns but one are empty.
    """
    rows, columns = table.sum(axis=-1, keepdims=True), table.sum(axis=-2, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = rows * (columns / rows.sum(axis=-2, keepdims=True))
        chi2 = np.where(columns > 0, (table - expected) ** 2 / expected, 0.0).sum(axis=(-2, -1))
    free = (columns > 0).sum(axis=(-2, -1)) - 1
    nothing = (free < 1) | ~rows.all(axis=(-2, -1))
    chi2 = np.where(nothing, np.nan, chi2)
    return chi2, np.where(nothing, np.nan, special.chdtrc(np.maximum(free, 1), chi2))


def adjusted(p: Sequence[float]) -> Floats:
    """Benjamini's and Hochberg's adjusted p-values, (tests,)."""
    return np.asarray(stats.false_discovery_control(p)) if len(p) else np.empty(0)
