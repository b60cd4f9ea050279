"""Consumes a study and its surrogate, produces the figures of its report. Each one explains itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from assay.pages.canvas import BLUE, GRID, INK, MUTED, ORANGE, label, new_figure, note, short, subtitle
from assay.tuning.journal import COMPLETE, PRUNED, Record, Trial
from assay.tuning.space import Choice, Number, Space
from assay.tuning.surrogate import Surrogate, levels

MOST_SLICES = 8
MOST_STUDIES = 6
BAR_INCHES = 0.28


def best_so_far(trials: Sequence[Trial]) -> list[tuple[int, float, float]]:
    """(trials that had ended, seconds, least loss of complete ones), from the first complete one on."""
    found: list[tuple[int, float, float]] = []
    best = np.inf
    for count, trial in enumerate(sorted(trials, key=lambda t: t.at_s), start=1):
        if trial.state == COMPLETE and trial.loss is not None and trial.share == 1:
            best = min(best, trial.loss)
        if np.isfinite(best):
            found.append((count, trial.at_s, best))
    return found


def history(trials: Sequence[Trial]) -> Figure:
    """Losses in the order in which trials ended, and the best so far."""
    figure, (axes,) = new_figure("Optimisation history")
    subtitle(figure, axes, "Loss of each trial, in the order in which they ended; the line is the best so far")
    ended = sorted((t for t in trials if t.loss is not None), key=lambda t: t.at_s)
    order = {t.number: place for place, t in enumerate(sorted(trials, key=lambda t: t.at_s), start=1)}
    styles: list[tuple[bool, str, dict[str, str]]] = [
        (True, COMPLETE, {"color": MUTED, "marker": "x"}),
        (False, PRUNED, {"facecolors": "none", "edgecolors": MUTED}),
        (False, COMPLETE, {"color": BLUE}),
    ]
    for screened, state, style in styles:
        some = [t for t in ended if t.state == state and (t.share < 1) == screened]
        axes.scatter([order[t.number] for t in some], [t.loss for t in some], s=20, linewidths=1, zorder=3, **style)
    line = best_so_far(trials)
    axes.step([p[0] for p in line], [p[2] for p in line], where="post", color=ORANGE, linewidth=1.6)
    _upper_limit(axes, [t.loss for t in ended if t.loss is not None])
    axes.set_xlabel("trial")
    axes.set_ylabel("loss")
    return figure


def importance(shares: Mapping[str, float]) -> Figure:
    """What each parameter does alone, in percent of the variance of the loss."""
    named = sorted(shares.items(), key=lambda item: item[1])
    figure, (axes,) = new_figure("Importance of parameters", height=1.3 + BAR_INCHES * len(named))
    subtitle(figure, axes, "Share of the loss's variance that each parameter explains alone, in percent")
    axes.barh([short(name) for name, _ in named], [100 * share for _, share in named], color=BLUE, height=0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(left=0)
    return figure


def interactions(space: Space, pairs: Mapping[tuple[str, str], float]) -> Figure:
    """What each pair of parameters does beyond what its two do alone."""
    names = list(space.parameters)
    table = np.full((len(names), len(names)), np.nan)
    for (one, other), share in pairs.items():
        table[names.index(other), names.index(one)] = 100 * share
    figure, (axes,) = new_figure("Interaction of parameters", height=1.6 + 0.36 * len(names))
    subtitle(figure, axes, "Share of the loss's variance that two parameters explain only together, in percent")
    axes.imshow(table, cmap="Blues", vmin=0, vmax=max(float(np.nanmax(table)), 1.0), aspect="auto")
    axes.grid(visible=False)
    axes.set_xticks(range(len(names)), [short(name, 14) for name in names], rotation=40, ha="right")
    axes.set_yticks(range(len(names)), [short(name, 18) for name in names])
    for row, column in zip(*np.nonzero(~np.isnan(table)), strict=True):
        dark = table[row, column] > 0.6 * np.nanmax(table)
        axes.text(
            column, row, f"{table[row, column]:.1f}", ha="center", va="center", size=8, color="white" if dark else INK
        )
    return figure


def slices(space: Space, trials: Sequence[Trial], names: Sequence[str]) -> Figure:
    """Loss over each parameter, one panel each."""
    names = list(names)[:MOST_SLICES]
    rows = -(-len(names) // 2)
    figure, panels = new_figure("Slices", height=0.7 + 1.9 * rows, columns=2, rows=rows)
    complete = [t for t in trials if t.state == COMPLETE and t.loss is not None]
    best = min(complete, key=lambda t: t.loss or 0.0)
    for axes, name in zip(panels, names, strict=False):
        note(axes, short(name, 28))
        _axis(axes, "x", space, name)
        axes.scatter([_at(space, name, t) for t in complete], [t.loss for t in complete], s=12, color=BLUE)
        axes.scatter([_at(space, name, best)], [best.loss], s=50, marker="D", color=ORANGE, zorder=4)
        _upper_limit(axes, [t.loss for t in complete if t.loss is not None])
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    return figure


def contour(surrogate: Surrogate, trials: Sequence[Trial], one: str, other: str) -> Figure:
    """The loss over two parameters, averaged over all others, with the trials."""
    space = surrogate.space
    figure, (axes,) = new_figure(f"Loss over {short(one)} and {short(other)}", height=4.0)
    subtitle(figure, axes, "Expected loss, averaged over all other parameters: darker is better; dots are trials")
    surface = surrogate.effect(one, other)
    x, y = ([_axis_value(space, name, share) for share in levels()] for name in (one, other))
    axes.contourf(x, y, surface.T, levels=12, cmap="Blues_r", alpha=0.8)
    complete = [t for t in trials if t.state == COMPLETE and t.loss is not None]
    best = min(complete, key=lambda t: t.loss or 0.0)
    axes.scatter([_at(space, one, t) for t in complete], [_at(space, other, t) for t in complete], s=12, color=INK)
    axes.scatter([_at(space, one, best)], [_at(space, other, best)], s=60, marker="D", color=ORANGE, zorder=4)
    _axis(axes, "x", space, one)
    _axis(axes, "y", space, other)
    axes.set_xlabel(short(one))
    axes.set_ylabel(short(other))
    return figure


def comparison(studies: Sequence[tuple[str, Record]]) -> Figure:
    """The best so far of several studies, by trials and by seconds. The first one is this study."""
    figure, (by_trials, by_seconds) = new_figure("This study and others of the target", height=3.4, columns=2)
    note(by_trials, "Best loss by trials")
    note(by_seconds, "Best loss by seconds")
    tops = []
    for place, (name, record) in reversed(list(enumerate(studies[:MOST_STUDIES]))):
        line = best_so_far(record.trials)
        if not line:
            continue
        color, width = (ORANGE, 2.0) if not place else (MUTED, 1.0)
        for axes, x in ((by_trials, 0), (by_seconds, 1)):
            axes.step([p[x] for p in line], [p[2] for p in line], where="post", color=color, linewidth=width)
        label(by_trials, short(name, 18), (line[-1][0], line[-1][2]), color=color)
        tops += [p[2] for p in line]
    for axes in (by_trials, by_seconds):
        _upper_limit(axes, tops)
    by_seconds.set_xlabel("seconds")
    by_trials.set_xlabel("trials")
    return figure


def _at(space: Space, name: str, trial: Trial) -> float:
    parameter, value = space.parameters[name], trial.point[name]
    return float(parameter.values.index(value)) if isinstance(parameter, Choice) else float(value)


def _axis_value(space: Space, name: str, share: float) -> float:
    parameter = space.parameters[name]
    if isinstance(parameter, Choice):
        return share * len(parameter.values) - 0.5
    return float(Number(parameter.low, parameter.high, parameter.log).at(share))


def _axis(axes: Any, which: str, space: Space, name: str) -> None:
    """Scale and ticks of a parameter."""
    parameter = space.parameters[name]
    if isinstance(parameter, Choice):
        ticks = range(len(parameter.values)), [short(str(value), 10) for value in parameter.values]
        (axes.set_xticks if which == "x" else axes.set_yticks)(*ticks)
    elif parameter.log:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        (axes.xaxis if which == "x" else axes.yaxis).set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", color=GRID)


def _upper_limit(axes: Any, losses: Sequence[float]) -> None:
    """Hopeless trials would leave no room for the others: they are cut off."""
    if len(losses) > 4:
        low, high = min(losses), float(np.quantile(losses, 0.9))
        margin = max(high - low, 1e-12) * 0.1
        axes.set_ylim(low - margin, high + 3 * margin)
