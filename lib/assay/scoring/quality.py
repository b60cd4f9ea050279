"""Consumes a model and feature batches, produces how far each row's prediction is to be trusted, with reasons.

A reason is a kind, and after a colon the column, level or error it is of:

    missing_input:COLUMN      an important input is missing that training rows usually had              warn
    many_missing_inputs       more than a share of the inputs that training rows usually had is missing  bad
    unseen_category:COLUMN    a value that no training row had                                           warn
    below_range:COLUMN        less than any training row had, in an important input                      warn
    above_range:COLUMN        more than any training row had, in an important input                      warn
    infinite_interval:LEVEL   too few calibration rows for the level; bad where it is so at every level  warn
    not_followed              the intervals should follow their misses, but the scores behind them are gone  warn
    no_prediction             the model gave no finite number                                            bad
    not_scored:ERROR          the row makes the model raise, so it has no prediction                     bad

Inputs of little importance have no range: moving averages and counts of many columns leave theirs as time goes on, and
hardly move a prediction. Rows are looked at column by column; what costs time is spent only where a column's own
extremes show something.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from assay.config.profile import ScoringConfig
from assay.model.bundle import Model
from assay.model.encoding import Seen

USUAL = 0.95  # share of training rows that have a value, from which on it is usual
OK, WARN, BAD = 0, 1, 2
LABELS = pa.array(["ok", "warn", "bad"])
REASONS = pa.list_(pa.string())


class Findings:
    """What was found of the rows of one batch."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.worst = np.zeros(rows, np.int8)
        self.reasons: list[str] = []
        self._found: list[npt.NDArray[np.intp]] = []

    def add(self, reason: str, where: npt.NDArray[np.bool_], *, bad: bool = False) -> None:
        """A reason of the rows that a mask (rows,) tells."""
        found = np.flatnonzero(where)
        if len(found):
            self.reasons.append(reason)
            self._found.append(found)
            self.worst[found] = np.maximum(self.worst[found], BAD if bad else WARN)

    def quality(self) -> pa.Array:
        """Column `quality`."""
        return LABELS.take(pa.array(self.worst))

    def lists(self) -> pa.Array:
        """Column `quality_reasons`: texts in the order in which they were found, null where there is none."""
        if not self._found:
            return pa.nulls(self.rows, REASONS)
        rows = np.concatenate(self._found)
        codes = np.repeat(np.arange(len(self.reasons)), [len(found) for found in self._found])
        counts = np.bincount(rows, minlength=self.rows)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        texts = pa.array(self.reasons, pa.string()).take(pa.array(codes[np.argsort(rows, kind="stable")]))
        return pa.ListArray.from_arrays(pa.array(offsets), texts, mask=pa.array(counts == 0))


def counted(quality: pa.Array, reasons: pa.Array) -> Counter[str]:
    """Rows of each quality (`quality_ok`, ...) and of each reason (as it is) in the two columns of a batch."""
    found: Counter[str] = Counter()
    for prefix, values in (("quality_", quality), ("", pc.list_flatten(reasons))):
        for pair in values.value_counts():
            found[f"{prefix}{pair['values']}"] = pair["counts"].as_py()
    return found


@dataclasses.dataclass(frozen=True)
class Check:
    """What is looked at in one input.

    usual: training rows mostly had it.  important: the model relies on it.  ranged: its range in training is known, and
    it is important, or nobody says what is.  categories: its known values; None for a number.
    """

    column: str
    seen: Seen | None
    usual: bool
    important: bool
    ranged: bool
    categories: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class InputChecks:
    """Checks of a model's inputs: plain data, made once and sent to executors.

    missing_share: of the usual inputs, what a bad row misses more of.
    """

    checks: tuple[Check, ...]
    missing_share: float

    @classmethod
    def of(cls, model: Model, config: ScoringConfig) -> InputChecks:
        """The checks that a model's facts allow: of a model without ranges, missing inputs and categories alone.

        Where a learner does not say what its inputs are worth, all ranges count, and no single missing value does.
        """
        encoding = model.encoding
        shares = model.importance_shares()
        told = bool(shares) and encoding.preparation is None  # else features are not the columns that they are made of

        def check(column: str, categories: tuple[str, ...] | None = None) -> Check:
            seen = encoding.seen.get(column)
            important = told and shares.get(column, 0.0) >= config.important_share
            return Check(
                column,
                seen,
                usual=seen is None or seen.known >= USUAL,
                important=important,
                ranged=categories is None and seen is not None and seen.low is not None and (important or not told),
                categories=categories,
            )

        numbers = [name for name in encoding.columns if name not in encoding.categories]
        checks = [*map(check, numbers), *(check(name, known) for name, known in encoding.categories.items())]
        return cls(tuple(checks), config.bad_missing_share)

    def find(self, batch: pa.RecordBatch) -> Findings:
        """What a batch's inputs show."""
        found = Findings(batch.num_rows)
        usual = sum(check.usual for check in self.checks)
        missing = np.zeros(batch.num_rows, np.int32)
        if not batch.num_rows:
            return found
        for check in self.checks:
            column = batch.column(check.column)
            absent = _unknown(column, check, found) if check.categories is not None else _outside(column, check, found)
            if absent is not None and check.usual:
                missing += absent
                if check.important:
                    found.add(f"missing_input:{check.column}", absent)
        if usual:
            found.add("many_missing_inputs", missing > self.missing_share * usual, bad=True)
        return found


def _outside(column: pa.Array, check: Check, found: Findings) -> npt.NDArray[np.bool_] | None:
    """Note numbers out of range; returns which rows have no number, None where all have one."""
    if not (check.ranged or check.usual):
        return None
    values: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    if check.ranged:
        assert check.seen is not None
        low, high = check.seen.low, check.seen.high
        assert low is not None
        assert high is not None
        if not values.min() >= low:  # NaN, which is neither, passes on to the look at each row
            found.add(f"below_range:{check.column}", values < low)
        if not values.max() <= high:
            found.add(f"above_range:{check.column}", values > high)
    if not check.usual or not np.isnan(values.sum()):
        return None
    absent = np.isnan(values)
    return absent if absent.any() else None


def _unknown(column: pa.Array, check: Check, found: Findings) -> npt.NDArray[np.bool_] | None:
    """Note categories that training did not see; returns which rows have none, None where all have one."""
    assert check.categories is not None
    known = pc.is_in(column, value_set=pa.array(check.categories, pa.string()), skip_nulls=True)
    present = pc.is_valid(column)
    if (valid := len(column) - column.null_count) != known.true_count:
        found.add(f"unseen_category:{check.column}", pc.and_not(present, known).to_numpy(zero_copy_only=False))
    return None if valid == len(column) else pc.invert(present).to_numpy(zero_copy_only=False)
