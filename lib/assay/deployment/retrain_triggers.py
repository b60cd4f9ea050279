"""Consumes what monitoring found of a champion, date by date, produces what speaks for learning anew, in words."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from assay.config.retraining import RetrainingConfig

Kind = Literal["performance", "coverage", "drift", "schedule"]
Row = Mapping[str, Any]
NAMED = 3  # drifted inputs that a reason names


@dataclasses.dataclass(frozen=True)
class Trigger:
    """Something that speaks for a retraining. reason: in words, with the setting that it rests on."""

    kind: Kind
    reason: str


def often(found: Sequence[bool], *, at_least: int, of_last: int) -> bool:
    """Whether at_least of the last of_last are true, and the newest is. found: oldest first."""
    return bool(found) and found[-1] and sum(found[-of_last:]) >= at_least


def triggers_of(
    health: Sequence[Row],
    drift: Sequence[Row],
    *,
    learned: dt.date | None,
    today: dt.date,
    config: RetrainingConfig,
) -> list[Trigger]:
    """What speaks for learning a target's champion anew.

    health: its rows of `health`, of any dates up to today.  drift: its rows of `drift_detections` of the newest of
        these dates.
    learned: day of the newest row that it learned from, or of the last retraining; None where nobody knows.

    A date on which a part could not be told does not speak for a trigger, and is one of the last ones all the same.
    """
    dates = sorted({row["as_of"] for row in health})
    rows = {(row["part"], row["as_of"]): row for row in health}
    found = []
    for kind, part, speaks, words in _RULES:
        told = [rows.get((part, date)) for date in dates]
        flags = [row is not None and speaks(row, config) for row in told]
        newest = told[-1] if told else None
        if newest is not None and often(flags, at_least=config.at_least, of_last=config.of_last):
            last = flags[-config.of_last :]
            reason = f"{words(newest, config, drift)} on {dates[-1]}, on {sum(last)} of the last {len(last)} dates"
            found.append(Trigger(kind, reason))
    if config.schedule_days and learned is not None and (today - learned).days >= config.schedule_days:
        days = (today - learned).days
        reason = f"{days} days since {learned} (retraining.schedule_days {config.schedule_days:g})"
        found.append(Trigger("schedule", reason))
    return found


def _error_rose(row: Row, config: RetrainingConfig) -> bool:
    sure = row["low"] is not None and row["low"] > 0
    return bool(config.performance and sure and row["change"] > config.performance)


def _coverage_fell(row: Row, config: RetrainingConfig) -> bool:
    sure = row["high"] is not None and row["high"] < 0
    return bool(config.coverage and sure and -row["change"] > config.coverage)


def _inputs_drifted(row: Row, config: RetrainingConfig) -> bool:
    return bool(config.drift and row["value"] is not None and row["value"] > config.drift)


def _error_words(row: Row, config: RetrainingConfig, _: Sequence[Row]) -> str:
    return (
        f"the error was {row['value']:.6g}, {row['change']:+.1%} against {row['reference']:.6g} "
        f"(retraining.performance {config.performance:.0%})"
    )


def _coverage_words(row: Row, config: RetrainingConfig, _: Sequence[Row]) -> str:
    return (
        f"{row['value']:.1%} of outcomes were inside, {-row['change']:.1%} fewer than promised "
        f"(retraining.coverage {config.coverage:.0%})"
    )


def _drift_words(row: Row, config: RetrainingConfig, drift: Sequence[Row]) -> str:
    inputs = [one for one in drift if one["drifted"] and one["kind"] in ("number", "category") and not one["segment"]]
    worst = sorted(inputs, key=lambda one: (-(one["psi"] or 0.0), one["column"]))[:NAMED]
    named = f": {', '.join(one['column'] for one in worst)}" if worst else ""
    return f"{row['value']:.0%} of what the champion goes by had drifted (retraining.drift {config.drift:.0%}){named}"


# Kind, part of `health`, whether a row of it speaks for it, and its words.
_RULES: tuple[
    tuple[Kind, str, Callable[[Row, RetrainingConfig], bool], Callable[[Row, RetrainingConfig, Sequence[Row]], str]],
    ...,
] = (
    ("performance", "error", _error_rose, _error_words),
    ("coverage", "coverage", _coverage_fell, _coverage_words),
    ("drift", "features", _inputs_drifted, _drift_words),
)
