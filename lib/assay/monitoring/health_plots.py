"""Consumes the history of a target's health, days and deployments, produces figures along time.

Every figure explains itself: it stands alone in MLflow, and in the report.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import polars as pl
from matplotlib.figure import Figure

from assay.model.deployments import Deployment, State
from assay.pages import formats
from assay.pages.canvas import BLUE, GREEN, GRID, INK, MUTED, ORANGE, compact, date_axis, label, new_figure, subtitle

ROLLING_DAYS = 7  # of errors; of coverage, which needs more outcomes, four times as many
MOST_MOVES = 12  # that are drawn: more would cover what they stand in
SHOWN = {  # moves that are drawn: in words, and their colour
    State.WATCHED: ("serves all", GREEN),
    State.ROLLED_BACK: ("taken back", ORANGE),
    State.SPLIT: ("serves some", MUTED),
}
STYLES = {"champion": (BLUE, 1.8), "shadow": (ORANGE, 1.2)}  # of a role: colour, and width of its line


def health(history: Sequence[tuple[dt.date, float]], deployments: Sequence[Deployment]) -> Figure | None:
    """Health on each day that was monitored, 0 to 100, and the moves of deployments; None with fewer than two days."""
    if len(history) < 2:
        return None
    figure, (axes,) = new_figure("Health over time", 3.2)
    days, scores = zip(*sorted(history), strict=True)
    axes.fill_between(days, 0, 40, color=GRID, alpha=0.6, linewidth=0)
    axes.plot(days, scores, color=BLUE, linewidth=1.8, marker="o", markersize=3)
    axes.set_ylim(0, 104)
    label(axes, f"{scores[-1]:.0f}", (days[-1], scores[-1]), color=BLUE)
    moves = _moves(deployments, days[0])
    for day, words, colour in moves[-MOST_MOVES:]:
        axes.axvline(day, color=colour, linewidth=1, linestyle=(0, (3, 2)))
        label(axes, words, (day, 8), color=colour, rotation=90, va="bottom", xytext=(3, 0))
    date_axis(axes)
    which = f"the newest {MOST_MOVES} moves" if len(moves) > MOST_MOVES else "moves of deployments"
    subtitle(figure, axes, f"100 is as it was tested; below 40 (grey) is HIGH; dashed: {which}")
    return figure


def error(days: pl.DataFrame) -> Figure | None:
    """Error by day of outcome: RMSE, of classes log loss, over seven days; None with fewer than two days."""
    name = "rmse" if days["rmse"].is_not_null().any() else "log_loss"
    column = "mse" if name == "rmse" else name
    found = [(role, _rolled(days.filter(pl.col("role") == role), column, ROLLING_DAYS)) for role in STYLES]
    lines = [(role, known, known["rolled"].sqrt() if name == "rmse" else known["rolled"]) for role, known in found]
    lines = [line for line in lines if line[1].height >= 2]
    if not lines:
        return None
    figure, (axes,) = new_figure("Error over time", 3.2)
    # Labels of lines that end at one place stand above one another.
    top = max(lines, key=lambda line: line[2][-1])
    for role, known, shown in lines:
        colour, width = STYLES[role]
        axes.plot(known["day"].to_list(), shown.to_list(), color=colour, linewidth=width)
        side = "center" if len(lines) == 1 else "bottom" if role == top[0] else "top"
        label(axes, role, (known["day"][-1], shown[-1]), color=colour, va=side)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(compact)
    date_axis(axes)
    words = "RMSE, target's unit" if name == "rmse" else "log loss"
    subtitle(figure, axes, f"{words}, of {ROLLING_DAYS} days each; shadow: models that scored beside")
    return figure


def coverage(days: pl.DataFrame, levels: Sequence[tuple[str, float]]) -> Figure | None:
    """Share of outcomes inside the champion's intervals, over 28 days, by level; None with fewer than two days.

    levels: label, as in `coverage_80`, and promise of each.
    """
    mine = days.filter(pl.col("role") == "champion")
    found = [(promise, _rolled(mine, f"coverage_{end}", 4 * ROLLING_DAYS)) for end, promise in levels]
    found = [(promise, rows) for promise, rows in found if rows.height >= 2]
    if not found:
        return None
    figure, (axes,) = new_figure("Do intervals hold?", 3.2)
    for (promise, rows), colour in zip(found, (BLUE, GREEN, ORANGE, INK) * len(found), strict=False):
        axes.axhline(100 * promise, color=colour, linewidth=0.9, linestyle=(0, (3, 2)))
        axes.plot(rows["day"].to_list(), (100 * rows["rolled"]).to_list(), color=colour, linewidth=1.6)
        label(axes, f"{100 * promise:.10g} %", (rows["day"][-1], 100 * rows["rolled"][-1]), color=colour)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    date_axis(axes)
    subtitle(figure, axes, f"outcomes inside, of {4 * ROLLING_DAYS} days each; dashed: what is promised")
    return figure


def alternatives(
    history: Sequence[tuple[dt.date, float]], days: pl.DataFrame, levels: Sequence[float]
) -> dict[str, str]:
    """What each figure says, for those who do not see it."""
    scores = [score for _, score in sorted(history)]
    mine = days.filter(pl.col("role") == "champion", pl.col("known") > 0)["day"]
    promises = " and ".join(formats.percent(level, 0) for level in levels)
    health_says = f", from {scores[0]:.0f} to {scores[-1]:.0f}; the lowest is {min(scores):.0f}" if scores else ""
    ends = f", of {formats.count(mine.n_unique(), 'day')} until {formats.day(mine.max())}" if mine.len() else ""  # type: ignore[arg-type]
    return {
        "health": f"Health on {formats.count(len(scores), 'monitored day')}{health_says}.",
        "error": f"Error of the champion, and of models beside it{ends}, over {ROLLING_DAYS} days each.",
        "coverage": f"Share of outcomes inside the {promises} intervals{ends}, beside what is promised.",
    }


def _rolled(days: pl.DataFrame, column: str, length: int) -> pl.DataFrame:
    """day and `rolled`, the mean of a column by known rows over so many days until then; days that are known."""
    if column not in days.columns:
        return pl.DataFrame(schema={"day": pl.Date, "rolled": pl.Float64})
    known = days.filter(pl.col("known") > 0, pl.col(column).is_not_null())
    by_day = known.group_by("day").agg((pl.col(column) * pl.col("known")).sum().alias("sum"), pl.col("known").sum())
    window = f"{length}d"
    return by_day.sort("day").select(
        "day",
        (pl.col("sum").rolling_sum_by("day", window) / pl.col("known").rolling_sum_by("day", window)).alias("rolled"),
    )


def _moves(deployments: Sequence[Deployment], since: dt.date) -> list[tuple[dt.date, str, str]]:
    """Moves to draw: day, words, colour."""
    return [
        (move.at.date(), f"{one.challenger} {SHOWN[move.state][0]}", SHOWN[move.state][1])
        for one in deployments
        for move in one.moves
        if move.state in SHOWN and move.at.date() >= since
    ]
