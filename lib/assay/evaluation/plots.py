"""Consumes evaluated rows, the segment table and importances, produces the figures of an evaluation.

`rows` is as in `segments.py`. Every figure explains itself: it stands alone in MLflow, and in the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from assay.evaluation.explanations import Explained
from assay.pages.canvas import (
    BLUE,
    GREEN,
    GRID,
    INK,
    MUTED,
    ORANGE,
    SMALL,
    TITLE_LEFT,
    compact,
    date_axis,
    label,
    new_figure,
    note,
    plain,
    short,
    subtitle,
)
from assay.runtime.tables import level_label

HEX_ABOVE_ROWS = 2_000
MOST_SEGMENTS = 30
MOST_FEATURES = 20
MOST_BUCKETS = 60
FAN_PANELS = 4
BUCKETS = (  # length in days, polars duration, word
    *((1 / 24, "1h", "hour"), (1, "1d", "day"), (7, "1w", "week")),
    *((30.4, "1mo", "month"), (91.3, "1q", "quarter"), (365.25, "1y", "year")),
)

Vector = npt.NDArray[np.float64]


def predicted_against_actual(rows: pl.DataFrame, target: str = "value", unit: str = "") -> Figure:
    """Prediction over outcome with the zone of 20 % either way; log scale when positive and over two decades wide.

    Above HEX_ABOVE_ROWS rows, dots become hexagons, darker where there are more rows, and the frame holds the middle
    99.8 % of the values; the figure says how many rows lie outside.
    """
    x, y = rows["actual"].to_numpy(), rows["prediction"].to_numpy()
    figure, (axes,) = new_figure(f"Predicted against actual {plain(target)}")
    both = np.concatenate([x, y])
    many = x.size > HEX_ABOVE_ROWS
    low, high = (float(v) for v in (np.quantile(both, [0.001, 0.999]) if many else (both.min(), both.max())))
    positive = both.min() > 0
    logarithmic = bool(positive and high / low > 100)
    margin = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = (low / 1.15, high * 1.15) if logarithmic else (low - margin, high + margin)
    ends = np.geomspace(low, high, 60) if logarithmic else np.array([low, high])
    if positive:
        ends = np.clip(ends, 0, None)
        axes.fill_between(ends, 0.8 * ends, 1.2 * ends, color=GREEN, alpha=0.13, linewidth=0)
    axes.plot(ends, ends, color=INK, linewidth=0.9)
    inside = (x >= low) & (x <= high) & (y >= low) & (y <= high)
    if many:
        _hexagons(axes, x[inside], y[inside], (low, high), logarithmic=logarithmic)
    else:
        axes.scatter(x, y, s=11, color=BLUE, alpha=0.45 if x.size > 300 else 0.7, linewidths=0)
    outside = f"; {int((~inside).sum()):,} outside the frame" if not inside.all() else ""
    zone = "; green: within 20 %" if positive else ""
    axes.set(xscale="log" if logarithmic else "linear", yscale="log" if logarithmic else "linear")
    axes.set(xlim=(low, high), ylim=(low, high))
    suffix = f" ({plain(unit)})" if unit else ""
    axes.set_xlabel(f"actual{suffix}")
    axes.set_ylabel(f"predicted{suffix}")
    for axis in (axes.xaxis, axes.yaxis):
        steps = (1.0, 2.0, 5.0) if logarithmic and high / low < 2_000 else (1.0,)
        axis.set_major_locator(LogLocator(subs=steps, numticks=12) if logarithmic else MaxNLocator(6))
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(compact))
    subtitle(figure, axes, f"{x.size:,} rows{' (darker: more)' if many else ''}{outside}{zone}")
    return figure


def residuals_over_time(rows: pl.DataFrame, target: str = "value", unit: str = "") -> Figure:
    """Median error and its 10-90 % band per hour, day, week, month, quarter or year: the finest with <= 60 buckets.

    Error = prediction - actual, in percent of the outcome where all outcomes are positive, else in the target's unit.
    """
    relative = bool((rows["actual"] > 0).all())
    error = pl.col("prediction") - pl.col("actual")
    moments = rows["time"].dt.epoch("s").to_numpy()
    span_days = float(moments.max() - moments.min()) / 86_400
    _, every, word = next((b for b in BUCKETS if span_days / b[0] < MOST_BUCKETS), BUCKETS[-1])
    buckets = (
        rows.select(
            pl.col("time").dt.replace_time_zone(None).dt.truncate(every),
            (100 * error / pl.col("actual") if relative else error).alias("error"),
        )
        .group_by("time")
        .agg(pl.col("error").quantile(q, "linear").alias(f"q{q}") for q in (0.1, 0.5, 0.9))
        .sort("time")
    )
    figure, (axes,) = new_figure(f"Error per {word}: {plain(target)}")
    time, low, median, high = (buckets[name].to_numpy() for name in ("time", "q0.1", "q0.5", "q0.9"))
    axes.axhline(0, color=INK, linewidth=0.9)
    if time.size == 1:
        axes.errorbar(time, median, [median - low, high - median], color=BLUE, marker="o", capsize=4)
        axes.set_xlim(time[0] - np.timedelta64(3, "D"), time[0] + np.timedelta64(3, "D"))
    else:
        axes.fill_between(time, low, high, color=BLUE, alpha=0.16, linewidth=0)
        axes.plot(time, median, color=BLUE, linewidth=1.8, marker="o" if time.size <= 36 else None, markersize=3)
        axes.margins(x=0.02)
    label(axes, "median", (time[-1], median[-1]), BLUE)
    date_axis(axes)
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{'+' if value > 0 else ''}{compact(value)}{' %' if relative else ''}")
    )
    axes.set_ylabel("too low  ←  predicted  →  too high")
    subtitle(
        figure,
        axes,
        f"{'in percent of the outcome' if relative else plain(unit)}; band: 8 of 10 rows".removeprefix("; "),
    )
    return figure


def coverage_per_segment(table: pl.DataFrame, levels: Sequence[float], segment_column: str | None = None) -> Figure:
    """Observed coverage per segment, a panel per level (the four highest), over the 95 % binomial band of the promise.

    table: `segment_table`. segment_column: default is the table's first; without any, all rows together are one point.
    The MOST_SEGMENTS largest segments are drawn, best covered on top, and the figure says how many there are.
    """
    columns = table["segment_column"].unique(maintain_order=True).to_list()
    column = segment_column if segment_column is not None else next((name for name in columns if name), "")
    wanted = {f"coverage_{level_label(level)}": level for level in sorted(levels)[-4:]}
    known = table.filter((pl.col("segment_column") == column) & pl.col("metric").is_in(list(wanted)))
    known = known.filter(pl.col("value").is_not_null())
    sizes = known.group_by("segment").agg(pl.col("rows").max(), pl.col("value").sum())
    shown = sizes.sort("rows", "segment", descending=[True, False]).head(MOST_SEGMENTS).sort("value", "rows", "segment")
    places = {name: place for place, name in enumerate(shown["segment"])}
    height = max(2.0, 1.25 + 0.185 * len(places))
    title = f"Coverage by {plain(column)}" if column else "Coverage over all rows"
    figure, panels = new_figure(title, height, columns=max(1, len(wanted)))
    for axes, (metric, level) in zip(panels, wanted.items(), strict=False):
        part = known.filter((pl.col("metric") == metric) & pl.col("segment").is_in(list(places)))
        _coverage_panel(axes, part, np.array([places[name] for name in part["segment"]], dtype=np.float64), level)
    for axes in panels:
        axes.set_yticks(range(len(places)), [short(name) or "all rows" for name in places])
        axes.tick_params(axis="y", labelleft=axes is panels[0], labelsize=SMALL)
        axes.set_ylim(-0.7, max(len(places), 1) - 0.3)
        axes.grid(visible=False, axis="y")
    for place, count in enumerate(shown["rows"]):
        label(panels[-1], f"{count:,}", (1, place), xycoords=("axes fraction", "data"), size=8)
    few = f"the {len(places)} largest of {sizes.height:,} segments; " if sizes.height > len(places) else ""
    words = f"{few}bars: what chance allows; right: rows\n● holds   ◆ too few inside   ▲ more than promised"
    figure.supxlabel(words, size=8, color=MUTED, x=TITLE_LEFT, ha="left")
    return figure


def importance(names: Sequence[str], gains: Sequence[float]) -> Figure:
    """The features with the largest gain, in percent of the gain of all features; a bar each, at most MOST_FEATURES."""
    ranked = sorted(zip(gains, names, strict=True), reverse=True)
    total = sum(gains) or 1.0
    top = ranked[:MOST_FEATURES][::-1]
    figure, (axes,) = new_figure("What the model looks at", max(2.0, 0.9 + 0.2 * len(top)))
    shares = [100 * gain / total for gain, _ in top]
    axes.barh(range(len(top)), shares, height=0.66, color=BLUE)
    for place, share in enumerate(shares):
        label(axes, f"{share:.1f} %" if share >= 0.1 else "< 0.1 %", (share, place))
    axes.set_yticks(range(len(top)), [short(name, 32) for _, name in top])
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.set(xticks=[], xlim=(0, 1.16 * max(shares, default=0) or 1), ylim=(-0.7, max(len(top), 1) - 0.3))
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    rest = 100 * sum(gain for gain, _ in ranked[MOST_FEATURES:]) / total
    more = f"; {len(ranked) - len(top)} more features share {rest:.1f} %" if len(ranked) > len(top) else ""
    subtitle(figure, axes, f"share of the total gain{more}" if ranked else "the model names no features")
    return figure


def contributions(found: Explained, scale: str) -> Figure:
    """What inputs add to predictions: the middle 90 % of rows, and the mean where the input is low and where high.

    Low and high are the lowest and the highest third of the known values; categories have no such marks. The
    MOST_FEATURES with the largest mean absolute contribution. scale: of the model: `log`, `logit` or `none`.
    """
    places = found.order[:MOST_FEATURES][::-1]
    figure, (axes,) = new_figure("What moves the predictions", max(2.2, 1.1 + 0.2 * len(places)))
    for place, column in enumerate(places):
        added, value = found.contributions[:, column], found.inputs[:, column]
        low, high = np.quantile(added, [0.05, 0.95])
        axes.plot([low, high], [place, place], color=GRID, linewidth=5, solid_capstyle="round")
        known = ~np.isnan(value)
        if found.names[column] in found.encoding.categories or not known.any():
            continue
        third, other = np.quantile(value[known], [1 / 3, 2 / 3])
        if third < other:
            axes.plot(added[known & (value <= third)].mean(), place, marker="v", color=BLUE, linestyle="none")
            axes.plot(added[known & (value >= other)].mean(), place, marker="^", color=ORANGE, linestyle="none")
    axes.axvline(0, color=MUTED, linewidth=0.7)
    axes.set_yticks(range(len(places)), [short(found.names[column], 32) for column in places])
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.set_ylim(-0.7, max(len(places), 1) - 0.3)
    axes.grid(visible=False, axis="y")
    words = {"log": "logarithmic: 0.01 is about 1 %", "logit": "logit of the probability"}
    told = words.get(scale, "in the target's unit")
    subtitle(figure, axes, f"added to the prediction, {told}; {found.rows.height:,} rows")
    figure.supxlabel(
        "bar: 9 in 10 rows   ▼ where the input is low   ▲ where it is high",
        size=8,
        color=MUTED,
        x=TITLE_LEFT,
        ha="left",
    )
    return figure


def fan(
    rows: pl.DataFrame, entity_column: str, levels: Sequence[float], target: str = "value", unit: str = ""
) -> Figure | None:
    """Outcome, prediction and interval bands over time for up to four entities, from most to least precisely priced.

    Entities are taken at even steps of the ranking by median relative error, among those observed at six times or
    more; of several rows at one time the first is drawn. Infinite bounds run out of the frame. None if no entity fits.
    """
    ape = (pl.col("prediction") - pl.col("actual")).abs() / pl.col("actual").abs()
    ranked = (
        rows.group_by(entity_column)
        .agg(pl.col("time").n_unique().alias("times"), ape.filter(pl.col("actual") != 0).median().alias("ape"))
        .filter((pl.col("times") >= 6) & pl.col("ape").is_not_null() & pl.col(entity_column).is_not_null())
        .sort("ape", entity_column)
    )
    if ranked.is_empty():
        return None
    chosen = np.unique(np.linspace(0, ranked.height - 1, min(FAN_PANELS, ranked.height)).round().astype(int)).tolist()
    title = f"{'Examples, most to least precise' if len(chosen) > 1 else 'An example'}: {plain(target)}"
    down = 2 if len(chosen) > 2 else 1
    figure, panels = new_figure(title, 4.3 if down == 2 else 2.9, -(-len(chosen) // down), down)
    for axes in panels[len(chosen) :]:
        axes.set_visible(False)
    for axes, place in zip(panels, chosen, strict=False):
        name, error = ranked[entity_column][place], ranked["ape"][place]
        one = rows.filter(pl.col(entity_column) == name).unique("time", keep="first", maintain_order=True)
        _fan_panel(axes, one.sort("time").tail(400), sorted(levels, reverse=True))
        note(axes, f"{short(str(name), 20)}: {100 * error:.1f} % off")
    bands = " and ".join(f"{100 * level:.10g} %" for level in sorted(levels))
    words = f"dots: outcome{f' ({plain(unit)})' if unit else ''}; line: prediction; bands: {bands} intervals"
    figure.supxlabel(words, size=8, color=MUTED, x=TITLE_LEFT, ha="left")
    return figure


def missing(shares: Mapping[str, float]) -> Figure | None:
    """Share of empty cells per column, the emptiest on top, at most MOST_FEATURES. None where no cell is empty."""
    ranked = sorted(((share, name) for name, share in shares.items() if share > 0), reverse=True)
    top = ranked[:MOST_FEATURES][::-1]
    if not top:
        return None
    figure, (axes,) = new_figure("Missing values", max(1.6, 0.9 + 0.2 * len(top)))
    percent = [100 * share for share, _ in top]
    axes.barh(range(len(top)), [100] * len(top), height=0.66, color=GRID)
    axes.barh(range(len(top)), percent, height=0.66, color=BLUE)
    for place, share in enumerate(percent):
        label(axes, f"{share:.1f} %" if share >= 0.1 else "< 0.1 %", (100, place))
    axes.set_yticks(range(len(top)), [short(name, 32) for _, name in top])
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.set(xticks=[], xlim=(0, 118), ylim=(-0.7, len(top) - 0.3))
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    complete = len(shares) - len(ranked)
    more = f"; {len(ranked) - len(top)} more have some" if len(ranked) > len(top) else ""
    subtitle(figure, axes, f"share of a column's cells that are empty; columns without any: {complete}{more}")
    return figure


def _hexagons(axes: Any, x: Vector, y: Vector, ends: tuple[float, float], *, logarithmic: bool) -> None:
    scale = "log" if logarithmic else "linear"
    extent = tuple(np.log10(ends)) * 2 if logarithmic else ends * 2
    drawn = axes.hexbin(x, y, gridsize=(38, 24), mincnt=1, extent=extent, xscale=scale, yscale=scale, linewidths=0.2)
    counts = np.asarray(drawn.get_array(), dtype=np.float64)
    # Depth by opacity instead of a colour map: it reads the same on a light and on a dark page. Logarithmic, so that
    # single rows stay visible beside the crowd.
    depth = 0.14 + 0.86 * np.log1p(counts) / np.log1p(counts.max(initial=1))
    drawn.set_array(None)
    drawn.set(facecolor=BLUE, edgecolor="none")
    drawn.set_alpha(depth)


def _coverage_panel(axes: Any, part: pl.DataFrame, y: Vector, level: float) -> None:
    value, low, high = (100 * part[name].to_numpy() for name in ("value", "low", "high"))
    axes.barh(y, high - low, left=low, height=0.62, color=GRID)
    axes.axvline(100 * level, color=INK, linewidth=0.9)
    below, above = value < low, value > high
    states = ((~(below | above), BLUE, "o", 24), (below, ORANGE, "D", 22), (above, GREEN, "^", 30))
    for mask, colour, marker, size in states:
        axes.scatter(value[mask], y[mask], s=size, color=colour, marker=marker, zorder=3, linewidths=0)
    note(axes, f"promise {100 * level:.10g} %")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g} %" if share <= 100 else ""))
    axes.margins(x=0.06)


def _fan_panel(axes: Any, one: pl.DataFrame, levels: Sequence[float]) -> None:
    time = one["time"].dt.replace_time_zone(None).to_numpy()
    names = [f"{end}_{level_label(level)}" for level in levels for end in ("lower", "upper")]
    bounds = [one[name].cast(pl.Float64).to_numpy() for name in names]
    seen = np.concatenate([one["actual"].to_numpy(), one["prediction"].to_numpy(), *bounds])
    seen = seen[np.isfinite(seen)]
    margin = 0.06 * float(np.ptp(seen)) or 1.0
    floor, ceiling = seen.min() - margin, seen.max() + margin
    for low, high in zip(bounds[::2], bounds[1::2], strict=True):
        axes.fill_between(
            time, np.clip(low, floor, None), np.clip(high, None, ceiling), color=BLUE, alpha=0.16, linewidth=0
        )
    axes.plot(time, one["prediction"].to_numpy(), color=BLUE, linewidth=1.4)
    axes.plot(time, one["actual"].to_numpy(), color=INK, linewidth=0, marker="o", markersize=2.6)
    axes.set_ylim(floor, ceiling)
    axes.margins(x=0.02)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(compact))
    date_axis(axes, 5)
