"""Consumes the encoded matrix, produces what a recurrent network takes: windows of the past, numbers, category codes.

A window is made of lags that are columns of the row itself, so rows can be predicted in any order, apart from their
neighbours in time. Each one is brought to mean 0 and spread 1 by itself, and its own mean and spread become numbers
beside it (reversible instance normalisation; Kim and others, 2022): series of any size look alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.model.encoding import Matrix

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]

BLOCK_ROWS = 256  # rows are always worked on in so many: sums are then added in one order, whatever the batch
ZERO = -1  # stands in a window for the last value relative to itself
NO_SPREAD = 1e-12  # share of a window's mean below which its spread is rounding


@dataclasses.dataclass(frozen=True, eq=False)
class Taken:
    """Inputs of n rows.

    window: (n, lookback, channels), oldest first, missing as NaN.  numbers: (n, q), all finite.  codes: (n, c), 0 for
    missing and unseen categories.  spread: (n,) of the target's window, 1 on average in training; 0 without a window.
    """

    window: Floats32
    numbers: Floats32
    codes: Integers
    spread: Floats32

    def __len__(self) -> int:
        return len(self.spread)


@dataclasses.dataclass(frozen=True, eq=False)
class NeuralInputs:
    """How inputs are made of a matrix (n, features).

    window: (channels, lookback) columns of the matrix, oldest first; `ZERO` is the last value relative to itself.
    target: channel of the target, -1 where it has none.
    plain: (p,) columns taken as numbers.  categories: (c,) columns of codes.  known: (c,) how many codes there are.
    centre, width: (r,) mean and spread in training of the r = p + 4 * channels raw numbers: the plain ones, windows'
    means and spreads, and the signed logarithms of these.  low, high: (r,) their range in training, in which they are
    held, as a tree would; missing numbers are 0, the mean.  flags: (f,) which of the plain numbers get an input more,
    that says whether they are missing.  typical: mean spread of the target's windows in training.
    """

    window: Integers
    target: int
    plain: Integers
    categories: Integers
    known: Integers
    centre: Floats
    width: Floats
    low: Floats
    high: Floats
    flags: Integers
    typical: float

    @property
    def width_of_numbers(self) -> int:
        """How many numbers a row has beside its window."""
        return len(self.centre) + len(self.flags)

    def apply(self, matrix: Matrix) -> Taken:
        """(n, features), missing as NaN -> inputs of n rows. A row's inputs are the same in any matrix, to the bit."""
        channels, lookback = self.window.shape
        taken = Taken(
            np.empty((len(matrix), lookback, channels), np.float32),
            np.empty((len(matrix), self.width_of_numbers), np.float32),
            np.nan_to_num(matrix[:, self.categories] + 1, nan=0.0).astype(np.int32),
            np.zeros(len(matrix), np.float32),
        )
        for rows, block in blocks(matrix):
            here = slice(rows.start, rows.stop)
            count = rows.stop - rows.start
            window, levels = self.normalised(block)
            taken.window[here] = window[:count]
            raw = self.raw(block, levels)
            values = np.clip((raw - self.centre) / self.width, self.low, self.high)
            taken.numbers[here, : len(self.centre)] = np.nan_to_num(values, nan=0.0)[:count]
            taken.numbers[here, len(self.centre) :] = np.isnan(raw[:count, self.flags])
            if self.target >= 0 and self.typical > 0:
                own = levels[:count, channels + self.target] / self.typical
                taken.spread[here] = np.clip(np.nan_to_num(own, nan=0.0), 0.0, 100.0)
        return taken

    def normalised(self, matrix: Matrix) -> tuple[Floats, Floats]:
        """(n, features) -> windows (n, lookback, channels); their means, then their spreads (n, 2 * channels).

        Missing values are NaN; so are mean and spread of a window without any value.
        """
        values = np.where(self.window.T == ZERO, np.float32(0), matrix[:, self.window.T]).astype(np.float64)
        known = ~np.isnan(values)
        known &= (known & (self.window.T != ZERO)).any(axis=1, keepdims=True)  # 0 of what is not there says nothing
        count = np.maximum(known.sum(axis=1), 1)
        mean = np.where(known, values, 0.0).sum(axis=1) / count
        away = np.where(known, values - mean[:, None], 0.0)
        spread = np.sqrt((away**2).sum(axis=1) / count)
        usable = np.where(spread > NO_SPREAD * np.abs(mean), spread, 1.0)
        some = known.any(axis=1)
        window = np.where(known, away / usable[:, None], np.nan)
        return window, np.where(np.hstack([some, some]), np.hstack([mean, spread]), np.nan)

    def raw(self, matrix: Matrix, levels: Floats) -> Floats:
        """Numbers before they are scaled (n, r), missing as NaN; levels: what `normalised` found."""
        return np.hstack([matrix[:, self.plain].astype(np.float64), levels, signed_log(levels)])

    def arrays(self) -> dict[str, Any]:
        """For `to_bytes`, beside the network's own."""
        return {f"inputs.{field.name}": np.asarray(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> NeuralInputs:
        """Read back `arrays`."""
        told = {field.name: arrays[f"inputs.{field.name}"] for field in dataclasses.fields(cls)}
        return cls(**{**told, "target": int(told["target"]), "typical": float(told["typical"])})


def signed_log(values: Floats) -> Floats:
    """log(1 + |value|) with the value's sign."""
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)))


def blocks(matrix: Matrix) -> list[tuple[range, Matrix]]:
    """Rows and their part of the matrix, each of `BLOCK_ROWS` rows, the last one filled up with missing values."""
    found = []
    for first in range(0, len(matrix), BLOCK_ROWS):
        block = matrix[first : first + BLOCK_ROWS]
        rows = range(first, first + len(block))
        if len(block) < BLOCK_ROWS:
            filled = np.full((BLOCK_ROWS, matrix.shape[1]), np.nan, matrix.dtype)
            filled[: len(block)] = block
            block = filled
        found.append((rows, block))
    return found
