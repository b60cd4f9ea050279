"""Consumes what monitoring knows of a target, produces one HTML page with timelines: how it is, and what happened."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from assay.model.deployments import Deployment, read_deployments
from assay.monitoring import health_plots
from assay.monitoring.findings import Level
from assay.monitoring.health import WHOLE
from assay.monitoring.watching import Watching
from assay.pages.canvas import to_svg
from assay.pages.published import publish, report_path
from assay.pages.templates import templates
from assay.runtime.conditions import Condition
from assay.runtime.monitoring_tables import ALERTS, DRIFT_DETECTIONS, HEALTH, PERFORMANCE
from assay.runtime.tables import Table, level_label

SHOWN = 20  # rows of a table in the page; the tables have them all
CAPTIONS = {
    "health": "Each day that was monitored. What health is made of is in the table below.",
    "error": "Days whose outcomes are known by now; the newest may still gain some.",
    "coverage": "Where a line stays below its dashed one, intervals are too narrow.",
}
NOT_DRAWN = {  # what a figure would show
    "health": "health",
    "error": "errors, of days whose outcomes are known",
    "coverage": "how many outcomes intervals hold",
}
Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class HealthView:
    """What the page shows of a target at a date.

    parts: rows of `health` of that date, the whole first.  history: day and health of each monitored day.  days: rows
    of `performance`.  alerts: rows of `alerts`, open ones first, the worst of them first.  drifted: rows of
    `drift_detections` of that date that did, of all rows, the largest PSI first.  deployments: oldest first.
    """

    target: str
    as_of: str
    version: str
    levels: Sequence[float]
    parts: Sequence[Row]
    history: Sequence[tuple[dt.date, float]]
    days: pl.DataFrame
    alerts: Sequence[Row]
    drifted: Sequence[Row]
    deployments: Sequence[Deployment]

    @property
    def score(self) -> float | None:
        """Health at the date."""
        return next((part["score"] for part in self.parts if part["part"] == WHOLE), None)

    @property
    def open_alerts(self) -> list[Row]:
        """Those that have not recovered."""
        return [one for one in self.alerts if one["status"] == "open"]


def draw(watching: Watching) -> Path:
    """Put the page where people find it, and all of it on record."""
    view = view_of(watching)
    drawn = figures_of(view)
    text = page(view, drawn)
    tracking = watching.context.tracking
    tracking.text(text, "health.html")
    for name, figure in drawn.items():
        tracking.text(to_svg(figure, name, CAPTIONS[name]), f"plots/{name}.svg")
    return publish(report_path(watching.context.config, "health", watching.target.name), text)


def view_of(watching: Watching) -> HealthView:
    """What the tables say until the date of the run."""

    def rows(table: Table, *where: Condition) -> pl.DataFrame:
        version = watching.context.plane.version(table.name)
        found = table.schema().empty_table() if version is None else watching.rows(table, version, *where)
        frame = pl.from_arrow(found)
        assert isinstance(frame, pl.DataFrame)
        return frame

    until, health = watching.as_of, rows(HEALTH).filter(pl.col("as_of") <= watching.as_of)
    whole = health.filter(pl.col("part") == WHOLE, pl.col("score").is_not_null()).sort("as_of")
    history = zip(whole["as_of"].to_list(), whole["score"].to_list(), strict=True)
    parts = health.filter(pl.col("as_of") == until).to_dicts()
    drift = rows(DRIFT_DETECTIONS, watching.of_date, Condition("segment", "==", "")).filter(pl.col("drifted"))
    alerts = rows(ALERTS).filter(pl.col("opened_at") <= watching.now).to_dicts()
    alerts.sort(key=lambda row: (row["status"] == "open", Level[row["level"]], row["seen_at"]), reverse=True)
    return HealthView(
        target=watching.target.name,
        as_of=until,
        version=watching.champion.label,
        levels=tuple(watching.champion.calibration["levels"]),
        parts=sorted(parts, key=lambda row: (row["part"] != WHOLE, row["score"] is None, row["score"] or 0.0)),
        history=[(dt.date.fromisoformat(day), score) for day, score in history],
        days=rows(PERFORMANCE).filter(pl.col("day") <= watching.now.date()).sort("day"),
        alerts=alerts,
        drifted=drift.sort("psi", descending=True, nulls_last=True).to_dicts(),
        deployments=read_deployments(watching.context.plane, watching.target.name),
    )


def figures_of(view: HealthView) -> dict[str, Figure]:
    """Figures that there is something to draw of."""
    levels = [(level_label(level), level) for level in view.levels]
    found = {
        "health": health_plots.health(view.history, view.deployments),
        "error": health_plots.error(view.days),
        "coverage": health_plots.coverage(view.days, levels),
    }
    return {name: figure for name, figure in found.items() if figure is not None}


def page(view: HealthView, drawn: Mapping[str, Figure]) -> str:
    """The HTML page; it makes no request and needs no script."""
    moves = [(one, move) for one in view.deployments for move in one.moves]
    alternatives = health_plots.alternatives(view.history, view.days, view.levels)
    return (
        templates("assay.monitoring")
        .get_template("health.html.j2")
        .render(
            view=view,
            as_of=dt.date.fromisoformat(view.as_of),
            figures={name: to_svg(figure, name, alternatives[name]) for name, figure in drawn.items()},
            missing=[words for name, words in NOT_DRAWN.items() if name not in drawn],
            captions=CAPTIONS,
            moves=moves[::-1],
            shown=SHOWN,
            headline=headline(view),
        )
    )


def headline(view: HealthView) -> str:
    """The page's first line."""
    if view.score is None:
        return f"How {view.target} does is not known yet"
    worst = [part for part in view.parts if part["part"] != WHOLE and (part["score"] or 100.0) < 100]
    told = f"{view.target} is at {view.score:.0f} of 100"
    return f"{told}, mostly for its {worst[0]['part']}" if worst else f"{told}: all is as it was tested"
