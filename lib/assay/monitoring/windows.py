"""Consumes the configuration and the champion's test period, produces the two windows of rows that are compared."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any

from assay.config.monitoring import MonitoringConfig
from assay.errors import ConfigError
from assay.runtime.conditions import Condition, period_conditions

LEAST_DAYS, STEPS = 28.0, 8  # of a window whose length is not given: a month, and dates enough to tell chance apart


@dataclasses.dataclass(frozen=True)
class Window:
    """Rows of one version of a table whose time is at least `start` and before `end`, either may be None.

    more: further conditions, of a test period that was drawn.
    """

    version: int
    start: dt.datetime | None = None
    end: dt.datetime | None = None
    more: tuple[Condition, ...] = ()

    @property
    def span(self) -> list[Condition]:
        """What a row's time must fulfil."""
        found = [Condition("time", ">=", self.start)] if self.start is not None else []
        return [*found, *([Condition("time", "<", self.end)] if self.end is not None else [])]

    @property
    def conditions(self) -> list[Condition]:
        """What a row must fulfil."""
        return [*self.span, *self.more]


def windows_of(
    config: MonitoringConfig, test: dict[str, Any], *, version: int, newest: dt.datetime, step_days: Callable[[], float]
) -> tuple[Window, Window]:
    """The reference and the current window. version: newest of the features; newest: time of its newest row.

    test: the champion's test period, as data.  step_days: least time between two dates of
    rows; asked only where the length of the current window rests on it.

    Raises:
        ConfigError: only one version is given, or the current window begins before the reference window ends.
    """
    if (config.reference_version < 0) != (config.current_version < 0):
        raise ConfigError(
            "monitoring.reference_version and monitoring.current_version go together: set both, or none for windows of "
            "time"
        )
    if config.reference_version >= 0:
        return Window(config.reference_version), Window(config.current_version)
    end = newest + dt.timedelta(microseconds=1)
    if config.reference_from or config.reference_until:
        reference = Window(version, _day(config.reference_from), _day(config.reference_until))
    else:
        times = {key: dt.datetime.fromisoformat(test[key]) if test.get(key) else None for key in ("start", "end")}
        drawn = tuple(one for one in period_conditions(test) if one.op == "any")
        reference = Window(version, **times, more=drawn)
    length = _length(config, reference.start, end, step_days)
    start = end - length
    if reference.end is None or reference.end > start:  # the newest rows are compared with those before them
        reference = dataclasses.replace(reference, end=start)
    if reference.start is not None and reference.end is not None and reference.start >= reference.end:
        raise ConfigError(
            f"the reference window begins on {reference.start:%Y-%m-%d}, when the current one of "
            f"{length / dt.timedelta(days=1):g} days has begun already: shorten monitoring.window_days, or set "
            "monitoring.reference_from"
        )
    return reference, Window(version, start, end)


def _length(
    config: MonitoringConfig, since: dt.datetime | None, end: dt.datetime, step_days: Callable[[], float]
) -> dt.timedelta:
    """Of the current window. since: start of the reference window."""
    if config.window_days is not None:
        return dt.timedelta(days=config.window_days)
    wanted = dt.timedelta(days=max(LEAST_DAYS, STEPS * step_days()))
    return wanted if since is None or since >= end else min(wanted, (end - since) / 2)


def _day(text: str) -> dt.datetime | None:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.timezone.utc) if text else None
