"""Consumes a number of days and a seed, produces a season in a workspace; one that was stopped goes on where it was."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from pathlib import Path

from assay.errors import UserError
from assay.pipeline import JOBS
from assay.runtime.environment import variable
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings
from assay.season.days import ADDRESS, Player
from assay.season.faults import FIRST_DAY, calendar_of
from assay.season.market import Stream
from assay.season.outcome import Outcome, outcome_of
from assay.season.receiver import listening
from assay.season.record import Record
from assay.version import __version__


def play(
    workspace: Path,
    *,
    days: int,
    seed: int,
    spark: SparkSettings | None = None,
    reporter: Reporter | None = None,
    more: Sequence[str] = (),
) -> Outcome:
    """Play what is left of a season and judge the whole. more: settings of the jobs, as `--set` takes them.

    Raises:
        UserError: the workspace has another season, or cannot be written; its tables shall lie elsewhere.
        AssayError: a job failed or was refused that no fault was planted for.
    """
    if any(setting.startswith(("runtime.lake", "runtime.catalog")) for setting in more):
        raise UserError("a season looks at the files of its tables: leave runtime.lake and runtime.catalog out")
    calendar, reporter = calendar_of(days, seed, JOBS), reporter or Reporter(quiet=True)
    stream = Stream(calendar)
    played = {"days": days, "seed": seed, "jobs": sorted(JOBS), "settings": list(more), "version": __version__}
    record = Record.of(workspace, played)
    with listening(record.received) as receiver, variable(ADDRESS, receiver.address):
        player = Player(record, stream, receiver, spark or SparkSettings(), more)
        before = FIRST_DAY - dt.timedelta(days=1)
        if not record.finished(before):
            started = time.monotonic()
            player.open()
            record.finish(before, {"all": round(time.monotonic() - started, 2)})
        for number, day in enumerate(calendar.dates, 1):
            if record.finished(day):
                continue
            seconds = player.play(day)
            record.finish(day, seconds)
            planted = ", ".join(one.kind for one in calendar.faults if one.first == day)
            reporter.say(
                f"{day}: day {number} of {days}, {sum(seconds.values()):.1f} s" + (f"; {planted}" if planted else "")
            )
    return outcome_of(record, stream, calendar.dates)
