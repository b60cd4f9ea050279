"""Consumes comparisons, coverage over time and curves of rows kept, produces their figures.

Every figure explains itself: it stands alone in MLflow, and in the report.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from assay.evaluation.over_time import LevelOverTime
from assay.evaluation.risk import Abstention
from assay.evaluation.rivals import RivalResult
from assay.pages.canvas import (
    BLUE,
    GREEN,
    GRID,
    INK,
    MUTED,
    ORANGE,
    SMALL,
    TITLE_LEFT,
    date_axis,
    label,
    new_figure,
    note,
    plain,
    subtitle,
)
from assay.pages.formats import readable

MOST_POINTS = 400


def rivals(found: Sequence[RivalResult], loss: str = "RMSE") -> Figure | None:
    """How much of each rival's loss the model saves, in percent, with the 95 % band; None without rivals."""
    if not found:
        return None
    figure, (axes,) = new_figure("How much less the model errs than ...", max(1.9, 1.1 + 0.24 * len(found)))
    lowest = min(0.0, *(100 * one.gain for one in found))
    for place, one in enumerate(reversed(found)):
        gain, (low, high) = 100 * one.gain, (100 * end for end in one.gains)
        better, worse = one.verdict == "better", one.verdict == "worse"
        colour = BLUE if better else ORANGE if worse else MUTED
        if math.isfinite(low):
            axes.plot([max(low, lowest - 50), high], [place, place], color=GRID, linewidth=6, solid_capstyle="round")
        marker = "o" if better else "D" if worse else "s"
        axes.plot(gain, place, marker=marker, color=colour, linestyle="none", markersize=6)
        label(axes, f"{gain:.0f} %", (1, place), xycoords=("axes fraction", "data"))
    axes.axvline(0, color=INK, linewidth=0.9)
    axes.set_yticks(range(len(found)), [plain(readable(one.name)) for one in reversed(found)])
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.set_ylim(-0.7, len(found) - 0.3)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    drawn = "whole days" if found[0].dated else "random groups of rows"
    subtitle(figure, axes, f"share of the other's {loss} that is saved, same rows; bar: 95 %, by {drawn}")
    words = "● better beyond chance   ■ not told apart   ◆ worse beyond chance"
    figure.supxlabel(words, size=8, color=MUTED, x=TITLE_LEFT, ha="left")
    return figure


def coverage_over_time(found: Sequence[LevelOverTime], what: str = "intervals") -> Figure | None:
    """Rolling coverage as a line over what chance allows, months as marks; a panel per level, at most four."""
    shown = list(found)[-4:]
    if not shown:
        return None
    figure, panels = new_figure(f"Do {what} keep holding?", 1.2 + 1.75 * len(shown), rows=len(shown))
    for axes, each in zip(panels, shown, strict=True):
        windows = list(each.windows)[:: max(1, len(each.windows) // MOST_POINTS)]
        end = np.array([one.end for one in windows], dtype="datetime64[D]")
        low, high, value = (np.array([100 * getattr(w, n) for w in windows]) for n in ("low", "high", "coverage"))
        if len(windows) > 1:
            axes.fill_between(end, low, high, color=GRID, linewidth=0)
            axes.plot(end, value, color=BLUE, linewidth=1.6)
        for off, below in ((False, False), (True, True), (True, False)):
            months = [m for m in each.months if m.off is off and (not off or (m.coverage < each.level) is below)]
            at = np.array([m.start + (m.end - m.start) / 2 for m in months], dtype="datetime64[D]")
            marker, colour = ("o", BLUE) if not off else ("D", ORANGE) if below else ("^", GREEN)
            axes.plot(
                at, [100 * m.coverage for m in months], marker=marker, color=colour, linestyle="none", markersize=5
            )
        axes.axhline(100 * each.level, color=INK, linewidth=0.9)
        note(axes, f"promise {100 * each.level:.10g} %; line: {each.window_days} days up to then; marks: months")
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g} %" if share <= 100 else ""))
        axes.margins(x=0.03)
        date_axis(axes, 6)
    words = "grey: what chance allows   ● holds   ◆ too few inside   ▲ more than promised"
    figure.supxlabel(words, size=8, color=MUTED, x=TITLE_LEFT, ha="left")
    return figure


def rows_kept(found: Sequence[Abstention]) -> Figure | None:
    """Error of the rows kept against the share kept, the widest intervals being left out; None without any."""
    if not found:
        return None
    one = found[-1]
    relative = one.relative
    values = [100 * value for value in one.judged] if relative else list(one.judged)
    figure, (axes,) = new_figure("What leaving the unsure ones undecided is worth")
    shares = [100 * share for share in one.shares]
    axes.plot(shares, values, color=BLUE, linewidth=1.8, marker="o", markersize=3)
    axes.axhline(values[-1], color=MUTED, linewidth=0.9)
    below = -11 if values[0] < values[-1] else 10  # on the side that the line leaves free
    for share in (0.5, 0.8):
        place = min(range(len(shares)), key=lambda k: abs(one.shares[k] - share))
        told = f"{values[place]:.1f} %" if relative else f"{values[place]:.3g}"
        label(axes, f"{100 * share:.0f} % kept: {told}", (shares[place], values[place]), INK, xytext=(4, below))
    axes.set_xlabel("share of rows kept, narrowest intervals first")
    axes.set_ylabel("median error" if relative else "mean error")
    axes.set_xlim(0, 104)
    axes.set_ylim(0, 1.12 * float(np.nanmax(values)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    if relative:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    saved = f"{100 * (1 - one.area):.0f} % less error on average over all shares"
    subtitle(figure, axes, f"by the width of the {100 * one.level:.10g} % interval; {saved}")
    return figure
