"""Consumes training rows, produces exact moments of prepared inputs, bit for bit the same for any number of tasks.

Every value is written as (value - centre) / unit, a number from -1 to 1 that is cut into five digits of 11 bits.
Digits are whole numbers, and so are sums of them and of their products: no addition rounds, in whatever order it is
done (Ozaki, Ogita, Oishi and Rump, 2012, multiply matrices so). Means are as exact as doubles. Of products, what is
below 2**-44 of the units' is cut off; as no value is further from the mean than sqrt(rows) standard deviations, a
variance of a million rows is right to 8 digits or more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.model.encoding import read_numbers
from assay.model.preparation import Preparation
from assay.model.scale import Floats
from assay.training.preparation_parts import pack
from assay.training.preparation_sample import RowRule, TrainingRows

BITS = 11
DIGITS = 5
PLACES = 4  # of products; those of smaller digits are below what a variance can show
BLOCK_ROWS = 4096  # whose digits stay in the processor's cache
TASK_ROWS = 1 << 29  # more rows in one task could pass 2**53, where sums of whole doubles begin to round
Whole = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Grid:
    """On what values are counted. centre, unit: (k,); units are powers of two, no value is further from its centre."""

    centre: Floats
    unit: Floats

    @classmethod
    def over(cls, low: Floats, high: Floats, *, near: Floats) -> Grid:
        """The grid of values from `low` to `high` with its centre `near`; without any value low is above high."""
        used = low <= high
        centre = np.where(used, np.clip(near, low, high), 0.0)
        reach = np.where(used, np.maximum(high - centre, centre - low), 0.0)
        return cls(centre, np.where(reach > 0, np.exp2(np.frexp(reach)[1]), 1.0))

    def digits(self, values: Floats) -> list[Floats]:
        """Values (k, n) without missing ones -> their digits, each (k, n), the greatest first."""
        rest = (values - self.centre[:, None]) / self.unit[:, None]
        found = []
        for _ in range(DIGITS):
            rest = rest * (1 << BITS)
            digit = np.rint(rest)
            found.append(digit)
            rest = rest - digit
        return found


@dataclasses.dataclass(frozen=True)
class Moments:
    """Of k inputs over all rows that know them, population moments.

    rows: all of them.  known: (k,).  mean, variance: (k,), NaN and 0 where nothing is known.  low, high: (k,).
    covariance: (k, k), or None where it was not asked for.
    """

    rows: int
    known: Whole
    mean: Floats
    variance: Floats
    low: Floats
    high: Floats
    covariance: Floats | None


@dataclasses.dataclass(frozen=True)
class Measure:
    """Kernel: digit sums of a share's inputs, clipped and imputed."""

    preparation: Preparation
    grid: Grid
    products: bool

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One row of `PARTS`."""
        columns = self.preparation.columns
        sums = DigitSums(len(columns), products=self.products)
        for batch in batches:
            raw = np.empty((batch.num_rows, len(columns)), dtype=np.float32)
            read_numbers(batch, columns, raw)
            sums.add(self.preparation.cleaned(raw.astype(np.float64)), self.grid)
        yield pack(**sums.arrays())


class DigitSums:
    """Running sums of digits and of their products, by the products' place; whole numbers all of them."""

    def __init__(self, inputs: int, *, products: bool) -> None:
        shape = (inputs, inputs) if products else (inputs,)
        self.rows = 0
        self.known = np.zeros(inputs, np.int64)
        self.low, self.high = np.full(inputs, np.inf), np.full(inputs, -np.inf)
        self.first = np.zeros((DIGITS, inputs))
        self.second = np.zeros((PLACES, *shape))

    def add(self, values: Floats, grid: Grid) -> None:
        """Add rows (n, k), NaN for missing; with products of inputs, none may be missing."""
        self.rows += len(values)
        assert self.rows < TASK_ROWS
        for first in range(0, len(values), BLOCK_ROWS):
            self._add(values[first : first + BLOCK_ROWS], grid)

    def _add(self, values: Floats, grid: Grid) -> None:
        columns = np.ascontiguousarray(values.T)
        missing = np.isnan(columns)
        self.known += (~missing).sum(axis=1)
        self.low = np.fmin(self.low, np.fmin.reduce(columns, axis=1, initial=np.inf))
        self.high = np.fmax(self.high, np.fmax.reduce(columns, axis=1, initial=-np.inf))
        digits = grid.digits(np.where(missing, grid.centre[:, None], columns))
        for place, digit in enumerate(digits):
            self.first[place] += digit.sum(axis=1)
        for one in range(PLACES):
            for other in range(one, PLACES - one):
                product = self._product(digits[one], digits[other])
                self.second[one + other] += product if one == other else product + product.T

    def _product(self, one: Floats, other: Floats) -> Floats:
        if self.second.ndim == 3:
            return np.asarray(one @ other.T)
        return np.asarray(np.einsum("ij,ij->i", one, other))

    def arrays(self) -> dict[str, Any]:
        """For the driver, which may add up more than 2**53."""
        first, second = self.first.astype(np.int64), self.second.astype(np.int64)
        return {
            "rows": self.rows,
            "known": self.known,
            "low": self.low,
            "high": self.high,
            "first": first,
            "second": second,
        }


def measure(
    rows: TrainingRows, preparation: Preparation, grid: Grid, *, products: bool = False, first: RowRule | None = None
) -> Moments:
    """One pass over the training rows that `first` lets through; a few numbers per input come to the driver."""
    return moments(rows.parts(Measure(preparation, grid, products), preparation.columns, first=first), grid)


def moments(parts: Sequence[Mapping[str, Any]], grid: Grid) -> Moments:
    """Moments from the digit sums of all tasks."""
    first = _from_places(np.sum([p["first"] for p in parts], axis=0), lowest=1)
    second = _from_places(np.sum([p["second"] for p in parts], axis=0), lowest=2)
    known = np.sum([p["known"] for p in parts], axis=0)
    low, high = np.min([p["low"] for p in parts], axis=0), np.max([p["high"] for p in parts], axis=0)
    count = np.maximum(known, 1)
    mean = first / count
    covariance = None
    if second.ndim == 2:
        covariance = (second / count - np.outer(mean, mean)) * np.outer(grid.unit, grid.unit)
        covariance[low == high] = 0.0
        covariance[:, low == high] = 0.0
        second = np.diagonal(second)
    variance = np.maximum(second / count - mean * mean, 0.0) * grid.unit * grid.unit
    return Moments(
        rows=int(sum(int(p["rows"]) for p in parts)),
        known=known,
        mean=np.where(known > 0, np.where(low == high, low, grid.centre + mean * grid.unit), np.nan),
        variance=np.where(low == high, 0.0, variance),
        low=low,
        high=high,
        covariance=covariance,
    )


def _from_places(sums: Whole, *, lowest: int) -> Floats:
    """Sums by place -> the numbers; place i is worth 2 ** (-BITS * (lowest + i))."""
    total = np.zeros(sums.shape[1:])
    for place in reversed(range(len(sums))):
        total += sums[place] * 2.0 ** (-BITS * (lowest + place))
    return total
