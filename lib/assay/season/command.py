"""Consumes the command line of `assay season`, produces a season, and what was expected of it and what happened."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay import errors
from assay.config.options import ConfFile, Json, Master, Overrides
from assay.runtime.failures import failures_told

if TYPE_CHECKING:
    from assay.season.outcome import Outcome

NAME = "season"
PURPOSE = "Half a year of an invented market, day by day through the real jobs, with planted faults."


def season(
    days: Annotated[int, typer.Option("--days", min=5, max=365, help="Days to play.")] = 180,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**62, help="Equal seeds give equal seasons.")] = 7,
    workspace: Annotated[
        Path | None,
        typer.Option("--workspace", metavar="DIR", help="Its own folder. Default: workspace/season."),
    ] = None,
    set_: Overrides = None,
    master: Master = None,
    conf_file: ConfFile = None,
    as_json: Json = False,
) -> None:
    """Play an invented market day by day through the real jobs, plant faults, and say what was expected and happened.

    Faults: a price level that jumps, a segment nobody has seen, a column that is silently zero, a challenger that is
    plainly worse, a changed byte in the champion, a webhook that is dead for days, two jobs that are killed. A season
    that was stopped goes on with the day that was not finished. Exit code 3 where a promise was not kept.

    Reads: nothing.

    Writes: a whole workspace, by default workspace/season; its folder `season` has the raw files and the record.

    Example:  `assay season --days 30 --workspace workspace/season-30`
    """
    from assay.runtime.logs import set_up_logging
    from assay.runtime.progress import Reporter
    from assay.runtime.session import SparkSettings
    from assay.season.play import play

    set_up_logging()
    folder = (workspace or Path("workspace") / NAME).absolute()
    with failures_told(NAME, as_json, lambda: folder):
        outcome = play(
            folder, days=days, seed=seed, spark=SparkSettings(master, conf_file), reporter=Reporter(), more=set_ or ()
        )
    status = "refused" if outcome.floors else "done"
    for line in [*outcome.lines(), f"{NAME}: {status}"]:
        print(line, flush=True)
    if as_json:
        print(json.dumps({**as_dict(outcome), "status": status, "workspace": str(folder)}), flush=True)
    if outcome.floors:
        raise SystemExit(errors.EXIT_REFUSED)


def as_dict(outcome: Outcome) -> dict[str, Any]:
    """The object that `--json` prints, without what depends on the machine."""
    figures = {name: (value if math.isfinite(value) else None) for name, value in outcome.figures.items()}
    return {
        "job": NAME,
        "metrics": figures,
        "faults": [{**one.as_dict(), "as_expected": one.good} for one in outcome.happened],
        "not_planted": list(outcome.calendar.left_out),
        "missed": list(outcome.floors),
    }
