"""Consumes how many labelled rows each time has, produces the forward split: train < tune < calibrate < test."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

from assay.config.profile import SplitConfig
from assay.errors import DataError
from assay.runtime.conditions import Condition, any_of, as_data

PERIODS = ("train", "tune", "calibrate", "test")


@dataclasses.dataclass(frozen=True)
class Period:
    """Rows with start <= time < end; None is open. first, last: times of the first and last labelled row in it.

    drawn: which of these rows, where they are drawn and not told apart by their time alone; an `any` condition.
    """

    start: dt.datetime | None
    end: dt.datetime | None
    rows: int
    first: dt.datetime
    last: dt.datetime
    drawn: Condition | None = None

    def conditions(self) -> list[Condition]:
        """The period as row conditions."""
        found = [Condition("time", ">=", self.start)] if self.start is not None else []
        found += [Condition("time", "<", self.end)] if self.end is not None else []
        return found + ([self.drawn] if self.drawn is not None else [])

    def to_dict(self) -> dict[str, Any]:
        """Plain data: times in ISO format."""
        return {
            "start": self.start.isoformat() if self.start else None,
            "end": self.end.isoformat() if self.end else None,
            "rows": self.rows,
            "first": self.first.isoformat(),
            "last": self.last.isoformat(),
            **({"drawn": as_data(self.drawn)} if self.drawn is not None else {}),
        }


def together(periods: Sequence[Period]) -> Period:
    """Consecutive periods as one, with the gaps between them; of drawn ones, the rows of either."""
    whole = dataclasses.replace(periods[0], end=periods[-1].end, last=periods[-1].last)
    whole = dataclasses.replace(whole, rows=sum(period.rows for period in periods))
    if all(period.drawn is None for period in periods):
        return whole
    return Period(None, None, whole.rows, whole.first, whole.last, any_of(*(period.conditions() for period in periods)))


@dataclasses.dataclass(frozen=True)
class Split:
    """The four periods, in order; or, where rows are drawn, four disjoint parts.

    Rows between periods teach no model: the embargo, and labels not known in time.
    """

    train: Period
    tune: Period
    calibrate: Period
    test: Period

    def to_dict(self) -> dict[str, Any]:
        """Plain data: times in ISO format."""
        return {name: getattr(self, name).to_dict() for name in PERIODS}


def forward_split(
    times: Sequence[dt.datetime], counts: Sequence[int], config: SplitConfig, *, label_delay_days: float
) -> Split:
    """Cut distinct times so that each later period has about its share of the labelled rows, and at least one time.

    Args:
        times: distinct times of labelled rows, ascending, UTC.
        counts: labelled rows at each.
        config: shares of tune, calibrate and test, and the embargo.
        label_delay_days: availability delay of the target. A row may teach only if its label was known when the next
            period began, so each period ends that long (or the embargo, if longer) before the next one starts.

    Raises:
        DataError: too few distinct times, or a period is left without rows.
    """
    if len(times) < len(PERIODS):
        raise DataError(
            f"{sum(counts):,} labelled row(s) at {len(times)} distinct time(s): a forward split into "
            f"{', '.join(PERIODS)} needs at least {len(PERIODS)} distinct times. Give more history (dataset.source)"
        )
    if config.tune + config.calibrate + config.test >= 1:
        raise DataError(
            f"split.tune + split.calibrate + split.test = {config.tune + config.calibrate + config.test:g}: "
            "nothing is left to train on; make them smaller"
        )
    cuts = _cuts(counts, (config.tune, config.calibrate, config.test))
    starts = [times[c] for c in cuts]
    gap = dt.timedelta(days=max(config.embargo_days, label_delay_days))
    bounds = [(None, starts[0] - gap), (starts[0], starts[1] - gap), (starts[1], starts[2] - gap), (starts[2], None)]
    periods = []
    for name, (start, end) in zip(PERIODS, bounds, strict=True):
        inside = [
            (t, c)
            for t, c in zip(times, counts, strict=True)
            if (start is None or t >= start) and (end is None or t < end)
        ]
        if not inside:
            raise DataError(
                f"the {name} period has no labelled rows ({start} to {end}): a gap of {gap / dt.timedelta(days=1):g} "
                "days (split.embargo_days, or the target's availability_delay_days) leaves none; make "
                f"split.{'tune' if name == 'train' else name} another size or the gap smaller"
            )
        periods.append(Period(start, end, sum(c for _, c in inside), inside[0][0], inside[-1][0]))
    return Split(*periods)


def _cuts(counts: Sequence[int], shares: tuple[float, float, float]) -> list[int]:
    """Index of the first time of tune, calibrate and test."""
    total, last = sum(counts), len(counts)
    cuts: list[int] = []
    wanted = 0.0
    for share in reversed(shares):
        wanted += share * total
        later, index = 0, last
        while index > 0 and later + counts[index - 1] <= wanted * (1 + 1e-9):
            index -= 1
            later += counts[index]
        limit = (cuts[0] if cuts else last) - 1
        cuts.insert(0, min(index, limit))
    # A period must leave a time to each one before it.
    return [max(cut, position + 1) for position, cut in enumerate(cuts)]
