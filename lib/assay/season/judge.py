"""Consumes the calendar and rows of tables after a season, produces what was expected of each fault and what happened.

Pure functions of rows: they know neither jobs nor files.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from assay.season.faults import CANARY, LABEL_DAYS, Calendar, Fault, Kind
from assay.season.market import BROKEN, NEW_REGION

Row = Mapping[str, Any]
NEW_WORDS = ("opened", "escalated", "reopened")  # kinds of notifications that tell something new
PERFORMANCE = ("error", "coverage")  # rules of alerts that a model's misses raise
MONTH_DAYS = 30
TAKEN_BACK = ("rejected", "rolled_back", "aborted")
SERVES_ALL = ("watched", "completed")


@dataclasses.dataclass(frozen=True)
class Seen:
    """What there is to judge by.

    notifications: rows of `alert_deliveries`, of the log, which hears of all; posted: those of the webhook.  drift:
    rows of `drift_detections` that drifted.  moves: rows of `deployments`.  events: of the season's record.  received:
    ids that the webhook's receiver took.  said: predictions as they were made (entity, day, prediction, lower_80,
    upper_80, model_version).  references: day that was monitored -> first day of the window it was compared with.
    """

    notifications: Sequence[Row]
    posted: Sequence[Row]
    drift: Sequence[Row]
    moves: Sequence[Row]
    events: Sequence[Row]
    received: Sequence[str]
    said: pl.DataFrame
    references: Mapping[dt.date, dt.date] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Happened:
    """A fault and what became of it. noticed: the day; None where nobody noticed in time.  told: in words."""

    fault: Fault
    expected: str
    noticed: dt.date | None
    told: str

    @property
    def good(self) -> bool:
        """Whether it went as expected."""
        return self.noticed is not None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        fault = self.fault
        return {
            "fault": fault.kind,
            "planted": fault.first.isoformat(),
            "due": fault.due.isoformat(),
            "expected": self.expected,
            "noticed": self.noticed.isoformat() if self.noticed else None,
            "happened": self.told,
        }


def judged(calendar: Calendar, seen: Seen) -> list[Happened]:
    """What became of each planted fault, in the calendar's order."""
    found = []
    for fault in sorted(calendar.faults, key=lambda one: one.first):
        expected, judge = JUDGES[fault.kind]
        noticed, told = judge(fault, seen)
        found.append(Happened(fault, f"{expected} by {fault.due}: {fault.why}", noticed, told))
    return found


def _in_time(fault: Fault, day: dt.date) -> bool:
    return fault.first <= day <= fault.due


def _alerted(rules: Sequence[str], *, after_days: int = 0) -> Callable[[Fault, Seen], tuple[dt.date | None, str]]:
    """The first alert by one of these rules that was opened, or got worse, in time.

    after_days: from the fault to the first alert that can be its own.
    """

    def judge(fault: Fault, seen: Seen) -> tuple[dt.date | None, str]:
        earliest = fault.first + dt.timedelta(days=after_days)
        words = [one for one in seen.notifications if one["rule"] in rules and one["kind"] in NEW_WORDS]
        words = sorted((one for one in words if earliest <= one["raised_at"].date() <= fault.due), key=_when)
        if not words:
            return None, f"no alert of {' or '.join(rules)}"
        first = words[0]
        return first["raised_at"].date(), f"{first['level']} {first['rule']}: {first['message']}"

    return judge


def _when(row: Row) -> tuple[Any, ...]:
    return row["raised_at"], row["rule"], row["subject"]


def _drifted(column: str, holds: Callable[[Row], bool]) -> Callable[[Fault, Seen], tuple[dt.date | None, str]]:
    """The first day in time on which a column drifted in a way."""

    def judge(fault: Fault, seen: Seen) -> tuple[dt.date | None, str]:
        rows = [row for row in seen.drift if row["column"] == column and row["drifted"] and holds(row)]
        for row in sorted((row for row in rows if not row["segment"]), key=lambda row: row["as_of"]):
            day = dt.date.fromisoformat(row["as_of"])
            if _in_time(fault, day):
                return day, f"{column} drifted: PSI {row['psi']:.2f}, {', '.join(row['reasons'])}"
        return None, f"{column} did not drift in time"

    return judge


def _new_segment(row: Row) -> bool:
    return NEW_REGION in (row["new_categories"] or ())


def _outlived(job: str) -> Callable[[Fault, Seen], tuple[dt.date | None, str]]:
    def judge(fault: Fault, seen: Seen) -> tuple[dt.date | None, str]:
        died = _event(seen, "killed", fault.first, job=job, died=True)
        same = _event(seen, "outlived", fault.first, job=job, same=True)
        if died is None:
            return None, f"{job} was not killed in its middle"
        if same is None:
            return None, f"{job} was killed in its middle, and its tables are not those of a twin that lived"
        return fault.first, f"{job} died while it wrote; run again, its tables are those of a twin that lived"

    return judge


def _event(seen: Seen, kind: str, day: dt.date, **facts: Any) -> Row | None:
    wanted = {"event": kind, "day": day.isoformat(), **facts}
    return next((one for one in seen.events if wanted.items() <= one.items()), None)


def _refused(fault: Fault, seen: Seen) -> tuple[dt.date | None, str]:
    refused = _event(seen, "refused", fault.first)
    if refused is None:
        return None, "the changed model was loaded"
    clear = "was changed after it was saved; refusing to load it" in refused["error"]
    return (fault.first if clear else None), refused["error"]


def _dead_webhook(fault: Fault, seen: Seen) -> tuple[dt.date | None, str]:
    day, told = _alerted(["webhook"])(fault, seen)
    lost = lost_notifications(seen)
    kept = f"{len(seen.posted)} notifications were posted, {len(lost)} never arrived"
    return (day if not lost else None), f"{told}; {kept}"


def lost_notifications(seen: Seen) -> list[str]:
    """Ids of notifications that the webhook was to tell and the receiver never took."""
    taken = set(seen.received)
    return sorted(str(row["notification_id"]) for row in seen.posted if row["notification_id"] not in taken)


def _bad_challenger(fault: Fault, seen: Seen) -> tuple[dt.date | None, str]:
    planted = _event(seen, "challenger", fault.first)
    if planted is None:
        return None, "no challenger was registered"
    moves = sorted((row for row in seen.moves if str(row["challenger_version"]) == planted["number"]), key=_moved)
    way = " -> ".join(f"{row['state']} {row['share']:.0%} ({row['at']:%m-%d})" for row in moves) or "no move"
    back = [row["at"].date() for row in moves if row["state"] in TAKEN_BACK]
    served = [row for row in moves if row["state"] in SERVES_ALL or row["share"] > CANARY]
    share = bad_share(seen)
    told = f"{way}; it served {share:.1%} of the entities at most"
    ended = bool(back) and _in_time(fault, back[0])
    return (back[0] if ended and not served and share <= CANARY else None), told


def _moved(row: Row) -> tuple[Any, ...]:
    return row["at"], row.get("number", 0)


def bad_share(seen: Seen) -> float:
    """The largest share, of any day: of the entities that were priced by then, those whom bad challengers priced."""
    bad = [one["model_version"] for one in seen.events if one["event"] == "challenger"]
    found = [0.0]
    for day in sorted(seen.said.filter(pl.col("model_version").is_in(bad))["day"].unique()):
        known = seen.said.filter(pl.col("day") <= day)
        its = known.filter(pl.col("day") == day, pl.col("model_version").is_in(bad))
        found.append(its["entity"].n_unique() / known["entity"].n_unique())
    return max(found)


JUDGES: dict[Kind, tuple[str, Callable[[Fault, Seen], tuple[dt.date | None, str]]]] = {
    "killed_ingest": ("no row lost or doubled", _outlived("ingest")),
    "killed_score": ("no row lost or doubled", _outlived("score")),
    "bad_challenger": (f"serves {CANARY:.0%} at most and is taken back", _bad_challenger),
    "new_segment": ("new categories of region are told", _drifted("region", _new_segment)),
    "corrupted_artifact": ("refused with a clear error", _refused),
    "broken_feature": (f"drift of {BROKEN} is told", _drifted(BROKEN, lambda row: "distribution" in row["reasons"])),
    "price_level": (
        "an alert of error or coverage, of days whose outcomes it moved,",
        _alerted(PERFORMANCE, after_days=LABEL_DAYS + 1),
    ),
    "dead_webhook": ("an alert of its own, and nothing is lost", _dead_webhook),
}


def false_criticals(calendar: Calendar, seen: Seen) -> list[Row]:
    """CRITICAL alerts that were opened, or got so bad, on days that no fault explains."""
    new = [row for row in seen.notifications if row["level"] == "CRITICAL" and row["kind"] in NEW_WORDS]
    days = [row["raised_at"].date() for row in new]
    return [
        row for row, day in zip(new, days, strict=True) if not calendar.explains(day, seen.references.get(day, day))
    ]


def apart(expected: Counter[Any], found: Counter[Any]) -> tuple[int, int]:
    """Rows that are missing, and rows that are there too often or should not be."""
    return (expected - found).total(), (found - expected).total()


def coverages(said: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """Per day how many known outcomes there are, and how many lay inside of what was said: day, known, held."""
    joined = said.join(outcomes, on=["entity", "day"]).filter(pl.col("price").is_finite())
    held = pl.col("price").is_between("lower_80", "upper_80")
    return joined.group_by("day").agg(known=pl.len(), held=held.sum()).sort("day")


def coverage_of(days: pl.DataFrame) -> tuple[float, float]:
    """Share held of the whole season, and of the worst 30 days in a row (of all, where there are no more).

    days: rows of `coverages`.
    """
    known, held = days["known"].to_numpy(), days["held"].to_numpy()
    if not len(known):
        return float("nan"), float("nan")
    span = min(MONTH_DAYS, len(known))
    months = [float(held[at : at + span].sum() / known[at : at + span].sum()) for at in range(len(known) - span + 1)]
    return float(held.sum() / known.sum()), min(months)
