"""Consumes how many labelled rows each time has, produces folds: pairs of rows to learn from and rows to judge by."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence

from assay.errors import DataError
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
