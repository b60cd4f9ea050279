"""Consumes how many labelled rows each time has, produces folds: pairs of rows to learn from and rows to judge by."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from collections.abc import Sequence

from assay.errors import DataError
from assay.runtime.conditions import any_of
from assay.training.split import Period


@dataclasses.dataclass(frozen=True)
class Fold:
    """A fit and its judge. train: rows that teach.  validate: rows that none of them knew of."""

    train: Period
    validate: Period


def rolling_origin(
    times: Sequence[dt.datetime], counts: Sequence[int], *, folds: int, share: float, gap: dt.timedelta
) -> list[Fold]:
    """Folds that move forward in time: each learns from all rows before a block of later rows, and is judged by them.

    (Tashman 2000, "Out-of-sample tests of forecasting accuracy"; the training window grows.)

    Args:
        times: distinct times of labelled rows, ascending, UTC: those that may be seen, so none of a test period.
        counts: labelled rows at each.
        folds: blocks; they are consecutive, and the last one ends with the last time.
        share: of all these rows, what each block has about.
        gap: between the last row that teaches and the first that judges: the embargo, or the target's delay.

    Raises:
        DataError: a fold has no row to learn from, or none to be judged by.
    """
    total = sum(counts)
    starts: list[int] = []
    later, wanted = 0, share * total
    for index in range(len(times) - 1, 0, -1):
        later += counts[index]
        if later >= wanted * (1 - 1e-9):
            starts.insert(0, index)
            if len(starts) == folds:
                break
            wanted = max(wanted, later) + share * total
    if len(starts) < folds:
        raise DataError(
            f"{total:,} labelled row(s) at {len(times)} distinct time(s) give {len(starts)} of {folds} folds "
            f"with {share:.0%} of the rows each: ask for fewer, or give more history"
        )
    found = []
    for number, start in enumerate(starts):
        end = starts[number + 1] if number + 1 < folds else len(times)
        train = period(times, counts, None, times[start] - gap)
        validate = period(times, counts, times[start], times[end] if end < len(times) else None, last=times[-1])
        if train is None or validate is None:
            raise DataError(
                f"fold {number + 1} of {folds} has no row to learn from before {times[start]:%Y-%m-%d}: a gap of "
                f"{gap / dt.timedelta(days=1):g} days (split.embargo_days, or the target's availability_delay_days) "
                "leaves none; make the gap smaller, or ask for fewer folds"
            )
        found.append(Fold(train, validate))
    return found


def blocked(
    times: Sequence[dt.datetime],
    counts: Sequence[int],
    *,
    folds: int,
    purge: dt.timedelta,
    embargo: dt.timedelta,
) -> list[Fold]:
    """K-fold over consecutive blocks of time: each is judged by what learned from the blocks before and after it.

    (López de Prado 2018, "Advances in Financial Machine Learning", 7.4.)

    Args:
        times, counts: as in `rolling_origin`.
        folds: blocks, with about as many rows each.
        purge: rows so shortly before a block do not teach: their outcome was known only within it.
        embargo: neither do rows so shortly after it, whose history it is.

    Raises:
        DataError: fewer times than folds, or a fold without a row to learn from.
    """
    reached = list(itertools.accumulate(counts))
    starts = [0, *(_first(reached, reached[-1] * number / folds) for number in range(1, folds))]
    if len(set(starts)) < folds or starts[-1] >= len(times):
        raise DataError(
            f"{reached[-1]:,} labelled row(s) at {len(times)} distinct time(s) do not make {folds} blocks: "
            "set validation.folds to fewer"
        )
    found = []
    for number, start in enumerate(starts):
        end = starts[number + 1] if number + 1 < folds else len(times)
        judge = period(times, counts, times[start], times[end] if end < len(times) else None, last=times[-1])
        before = period(times, counts, None, times[start] - purge)
        after = None
        if end < len(times):
            after = period(times, counts, times[end - 1] + embargo + dt.timedelta(microseconds=1), None, last=times[-1])
        parts = [part for part in (before, after) if part is not None]
        if not parts or judge is None:
            raise DataError(
                f"fold {number + 1} of {folds} has no row to learn from: make validation.purge_days and "
                "validation.embargo_days smaller"
            )
        first, last = parts[0].first, parts[-1].last
        drawn = any_of(*(part.conditions() for part in parts))
        found.append(Fold(Period(None, None, sum(part.rows for part in parts), first, last, drawn), judge))
    return found


def _first(reached: Sequence[int], rows: float) -> int:
    """Index of the first time before which there are at least so many rows."""
    return next(i + 1 for i, so_far in enumerate(reached) if so_far >= rows * (1 - 1e-9))


def period(
    times: Sequence[dt.datetime],
    counts: Sequence[int],
    start: dt.datetime | None,
    end: dt.datetime | None,
    *,
    last: dt.datetime | None = None,
) -> Period | None:
    """Rows with start <= time < end, None being open; None without any. last: where an open end ends after all."""
    inside = [
        (time, count)
        for time, count in zip(times, counts, strict=True)
        if (start is None or time >= start) and (end is None or time < end)
    ]
    if not inside:
        return None
    if end is None and last is not None:
        end = last + dt.timedelta(microseconds=1)
    return Period(start, end, sum(count for _, count in inside), inside[0][0], inside[-1][0])
