"""Consumes the record and the tables of a season, produces its figures: what was promised, and whether it was kept."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from assay.season.faults import Calendar
from assay.season.judge import (
    MONTH_DAYS,
    SERVES_ALL,
    Happened,
    Seen,
    apart,
    bad_share,
    coverage_of,
    coverages,
    false_criticals,
    judged,
)
from assay.season.market import Stream
from assay.season.record import Record
from assay.synthetic.presets import TIME
from assay.workspace import Workspace

TARGET_COVERAGE = 0.80
OFF = 0.01  # by how much the coverage of a whole season may be off
OFF_MONTH = 0.05  # by how much that of any 30 days may be short
LONG_DAYS = 90  # of a season whose coverage is judged: in shorter ones faults are most of it
FALSE_ALERTS = 1


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a season. figures: see `figures_of`.  floors: what is not as promised, in words."""

    calendar: Calendar
    happened: Sequence[Happened]
    figures: Mapping[str, float]
    floors: Sequence[str]

    def lines(self) -> list[str]:
        """For a person: each fault, then the figures."""
        found = []
        for one in self.happened:
            mark = "as expected" if one.good else "NOT as expected"
            found.append(f"{one.fault.kind}, planted on {one.fault.first}: {mark}")
            found.append(f"  expected: {one.expected}")
            found.append(f"  happened: {one.told}" + (f" ({one.noticed})" if one.noticed else ""))
        if self.calendar.left_out:
            found.append(f"not planted: {', '.join(self.calendar.left_out)}")
        found += [f"{name}: {value:.6g}" for name, value in self.figures.items()]
        return found + [f"missed: {floor}" for floor in self.floors]


def outcome_of(record: Record, stream: Stream, days: Sequence[dt.date]) -> Outcome:
    """Judge the days that were played. days: at least one."""
    seen, calendar = seen_of(record, days), record.calendar(stream.calendar)
    happened = judged(calendar, seen)
    figures = figures_of(record, stream, days, seen, happened)
    return Outcome(calendar, happened, figures, missed(figures, calendar))


def seen_of(record: Record, days: Sequence[dt.date]) -> Seen:
    """What there is to judge by, from the tables."""
    told = _rows(record.workspace, "alert_deliveries")
    compared = _rows(record.workspace, "drift_detections")
    moves = _rows(record.workspace, "deployments")
    return Seen(
        notifications=told.filter(pl.col("sink") == "log").to_dicts(),
        posted=told.filter(pl.col("sink") == "webhook").to_dicts(),
        drift=compared.filter(pl.col("drifted")).to_dicts(),
        moves=moves.to_dicts(),
        events=record.events,
        received=record.received_ids(),
        said=record.said(days),
        references=_references(compared),
    )


def _references(compared: pl.DataFrame) -> dict[dt.date, dt.date]:
    """Day that was monitored -> first day of its reference window, of rows of `drift_detections`."""
    if "as_of" not in compared.columns:
        return {}
    found = compared.group_by("as_of").agg(pl.col("reference_start").min()).drop_nulls()
    return {dt.date.fromisoformat(day): start.date() for day, start in found.rows()}


def _rows(workspace: Path, table: str) -> pl.DataFrame:
    """A table; one that is not there has no rows."""
    if not (workspace / "lake" / table / "_delta_log").is_dir():
        return pl.DataFrame(schema={"sink": pl.String, "drifted": pl.Boolean})
    return Workspace(workspace).table(table)


def figures_of(
    record: Record, stream: Stream, days: Sequence[dt.date], seen: Seen, happened: Sequence[Happened]
) -> dict[str, float]:
    """Figures of a season.

    undetected_faults: planted ones that did not go as expected.  false_critical_alerts: see `false_criticals`.
    rows_lost, rows_duplicated: of what the market sent, in observations and quarantine, and among predictions on their
    own days.  coverage_80, worst_month_coverage_80: of predictions as they were made, 0 to 1.  bad_challenger_share:
    of the entities, on any day; NaN where none was planted.  challengers, promotions: of the season's deployments.
    """
    lost, doubled = moved_rows(record, stream, days, seen.said)
    whole, month = coverage_of(coverages(seen.said, stream.outcomes()))
    planted = any(one.fault.kind == "bad_challenger" for one in happened)
    return {
        "undetected_faults": float(sum(not one.good for one in happened)),
        "false_critical_alerts": float(len(false_criticals(record.calendar(stream.calendar), seen))),
        "rows_lost": float(lost),
        "rows_duplicated": float(doubled),
        "coverage_80": whole,
        "worst_month_coverage_80": month,
        "bad_challenger_share": bad_share(seen) if planted else math.nan,
        "challengers": float(len({row["challenger_version"] for row in seen.moves})),
        "promotions": float(len({row["challenger_version"] for row in seen.moves if row["state"] in SERVES_ALL})),
        "planted_faults": float(len(happened)),
        "days": float(len(days)),
        "predictions": float(seen.said.height),
    }


def moved_rows(record: Record, stream: Stream, days: Sequence[dt.date], said: pl.DataFrame) -> tuple[int, int]:
    """Rows that were lost, and rows that are there too often, counted wherever a row of the market must be."""
    workspace = Workspace(record.workspace)
    expected = stream.expected(days[-1])
    observed = workspace.table("observations").select("entity", pl.col("time").dt.replace_time_zone(None).alias(TIME))
    waiting = workspace.table("observations_quarantine").select("source_file", "source_row")
    found = [
        apart(expected.observations, Counter(observed.rows())),
        apart(expected.quarantine, Counter(waiting.rows())),
    ]
    for day in days:
        of_day = said.filter(pl.col("day") == day)
        found.append(apart(stream.scored(day), Counter(of_day.select("entity").rows())))
    ids = workspace.table("predictions")["row_id"]
    return sum(lost for lost, _ in found), sum(more for _, more in found) + len(ids) - ids.n_unique()


def missed(figures: Mapping[str, float], calendar: Calendar) -> list[str]:
    """Promises that a season did not keep, in words."""
    found = []
    for name in ("undetected_faults", "rows_lost", "rows_duplicated"):
        if figures[name]:
            found.append(f"{name} is {figures[name]:.0f}, not 0")
    if figures["false_critical_alerts"] > FALSE_ALERTS:
        found.append(f"false_critical_alerts is {figures['false_critical_alerts']:.0f}, above {FALSE_ALERTS}")
    if calendar.days >= LONG_DAYS:
        off = figures["coverage_80"] - TARGET_COVERAGE
        if not abs(off) <= OFF:
            found.append(f"coverage_80 is off by {100 * off:+.1f} points, more than {100 * OFF:.0f}")
        short = TARGET_COVERAGE - figures["worst_month_coverage_80"]
        if not short <= OFF_MONTH:
            found.append(
                f"{MONTH_DAYS} days in a row held {100 * short:.1f} points less than promised, "
                f"more than {100 * OFF_MONTH:.0f}"
            )
    return found
