"""Consumes training rows, produces the input stage of learners that know neither missing values nor categories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from assay.model.encoding import Encoding
from assay.model.learner_inputs import LearnerInputs
from assay.model.scale import Floats
from assay.training.learner_rows import Rows

Integers = npt.NDArray[np.int32]


def fit_inputs(rows: Rows, encoding: Encoding, *, max_categories: int, scales: bool) -> LearnerInputs:
    """Missing numbers at the median, numbers standardised (with `scales`), one input per frequent category.

    A row of weight 2 counts as two rows.
    """
    numbers = len(encoding.numeric)
    fill, centre, spread = np.zeros(numbers), np.zeros(numbers), np.ones(numbers)
    for position in range(numbers):
        values = rows.matrix[:, position].astype(np.float64)
        known = ~np.isnan(values)
        fill[position] = weighted_median(values[known], rows.weight[known])
        if scales:
            values[~known] = fill[position]
            centre[position] = np.average(values, weights=rows.weight)
            found = float(np.sqrt(np.average((values - centre[position]) ** 2, weights=rows.weight)))
            spread[position] = usable_spread(found, centre[position])
    counts = [
        category_weights(rows.matrix[:, numbers + i], rows.weight, len(known))
        for i, known in enumerate(encoding.categories.values())
    ]
    return LearnerInputs(fill, centre, spread, *frequent(counts, first=numbers, most=max_categories))


def usable_spread(spread: float, centre: float) -> float:
    """1 where there is none, or none that is more than rounding."""
    return spread if spread > 1e-12 * abs(centre) else 1.0


def weighted_median(values: Floats, weight: Floats) -> float:
    """Where half of the weight lies on either side; 0 without values. Between two values it is their mean."""
    if not len(values):
        return 0.0
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order])
    low = int(np.searchsorted(reached, reached[-1] / 2))
    high = low + 1 if reached[low] == reached[-1] / 2 else low
    return float((values[order[low]] + values[order[high]]) / 2)


def category_weights(codes: npt.NDArray[np.float32], weight: Floats, known: int) -> Floats:
    """Codes (n,), missing as NaN -> the weight of each category's rows (known,)."""
    have = ~np.isnan(codes)
    return np.bincount(codes[have].astype(np.int64), weights=weight[have], minlength=known).astype(np.float64)


def frequent(counts: Sequence[Floats], *, first: int, most: int) -> tuple[Integers, Integers]:
    """Weights of each column's categories -> column and code of the inputs they get; rare ones get none.

    first: position of the first such column in the matrix. Categories without any weight get no input either.
    """
    columns, codes = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    for position, weight in enumerate(counts, start=first):
        chosen = np.argsort(-weight, kind="stable")[:most]
        kept = np.sort(chosen[weight[chosen] > 0]).astype(np.int32)
        columns.append(np.full(len(kept), position, np.int32))
        codes.append(kept)
    return np.concatenate(columns), np.concatenate(codes)
