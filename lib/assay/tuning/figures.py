"""Consumes a study and its surrogate, produces the figures of its report. Each one explains itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from assay.pages.canvas import BLUE, GRID, INK, MUTED, ORANGE, label, new_figure, note, short, subtitle
from assay.tuning.journal import COMPLETE, PRUNED, Record, Trial
from assay.tuning.space import Choice, Number, Space
from assay.tuning.surrogate import Surrogate, levels

MOST_SLICES = 8
MOST_STUDIES = 6
MOST_DOTS = 400  # of trials in a panel: a page of thousands would not open on a phone
MOST_IN_HISTORY = 1_500
BAR_INCHES = 0.28
DEPTHS = 12  # of the surface of a loss


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


def sample(trials: Sequence[Trial], most: int) -> list[Trial]:
    """At most so many of them, at even steps from the least loss to the largest, which are both among them."""
    ranked = sorted(trials, key=lambda t: (t.loss or 0.0, t.number))
    if len(ranked) <= most:
        return ranked
    return [ranked[place] for place in np.linspace(0, len(ranked) - 1, most).round().astype(int)]


def history(trials: Sequence[Trial]) -> Figure:
    """Losses in the order in which trials ended, and the best so far."""
    figure, (axes,) = new_figure("Optimisation history")
    subtitle(figure, axes, "Loss of each trial, in the order in which they ended; the line is the best so far")
    ended = sorted((t for t in trials if t.loss is not None), key=lambda t: t.at_s)
    drawn = sample(ended, MOST_IN_HISTORY)
    order = {t.number: place for place, t in enumerate(sorted(trials, key=lambda t: t.at_s), start=1)}
    styles: list[tuple[bool, str, dict[str, str]]] = [
        (True, COMPLETE, {"color": MUTED, "marker": "x"}),
        (False, PRUNED, {"facecolors": "none", "edgecolors": MUTED}),
        (False, COMPLETE, {"color": BLUE}),
    ]
    for screened, state, style in styles:
        some = [t for t in drawn if t.state == state and (t.share < 1) == screened]
        axes.scatter([order[t.number] for t in some], [t.loss for t in some], s=20, linewidths=1, zorder=3, **style)
    line = best_so_far(trials)
    axes.step([p[0] for p in line], [p[2] for p in line], where="post", color=ORANGE, linewidth=1.6)
    _upper_limit(axes, [t.loss for t in ended if t.loss is not None])
    axes.set_xlabel(f"trial{_few(drawn, ended)}")
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
    table = np.zeros((len(names), len(names)))
    for (one, other), share in pairs.items():
        table[names.index(other), names.index(one)] = 100 * share
    figure, (axes,) = new_figure("Interaction of parameters", height=1.6 + 0.36 * len(names))
    subtitle(figure, axes, "Share of the loss's variance that two parameters explain only together, in percent")
    axes.grid(visible=False)
    axes.set_xticks(range(len(names) - 1), [short(name, 14) for name in names[:-1]], rotation=40, ha="right")
    axes.set_yticks(range(1, len(names)), [short(name, 18) for name in names[1:]])
    axes.set(xlim=(-0.5, len(names) - 1.5), ylim=(len(names) - 0.5, 0.5))
    # Depth by opacity instead of a colour map, and no deeper than text can be read on, of a light and of a dark page.
    depth = 0.06 + 0.42 * table / max(float(table.max()), 1.0)
    for row, column in zip(*np.tril_indices(len(names), -1), strict=True):
        axes.barh(row, 0.94, left=column - 0.47, height=0.9, color=BLUE, alpha=depth[row, column])
        if table[row, column] >= 0.05:
            axes.text(column, row, f"{table[row, column]:.1f}", ha="center", va="center", size=8, color=INK)
    return figure


def slices(space: Space, trials: Sequence[Trial], names: Sequence[str]) -> Figure:
    """Loss over each parameter, one panel each."""
    names = list(names)[:MOST_SLICES]
    rows = -(-len(names) // 2)
    figure, panels = new_figure("Slices", height=0.7 + 1.9 * rows, columns=2, rows=rows)
    complete = [t for t in trials if t.state == COMPLETE and t.loss is not None]
    best, losses = min(complete, key=lambda t: t.loss or 0.0), [t.loss for t in complete if t.loss is not None]
    drawn = sample(complete, MOST_DOTS)
    for axes, name in zip(panels, names, strict=False):
        note(axes, short(name, 28))
        _axis(axes, "x", space, name)
        axes.scatter([_at(space, name, t) for t in drawn], [t.loss for t in drawn], s=12, color=BLUE)
        axes.scatter([_at(space, name, best)], [best.loss], s=50, marker="D", color=ORANGE, zorder=4)
        _upper_limit(axes, losses)
    if few := _few(drawn, complete):
        figure.supxlabel(few.removeprefix(": "), size=8, color=MUTED)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    return figure


def contour(surrogate: Surrogate, trials: Sequence[Trial], one: str, other: str) -> Figure:
    """The loss over two parameters, averaged over all others, with the trials."""
    space = surrogate.space
    figure, (axes,) = new_figure(f"Loss over {short(one)} and {short(other)}", height=4.0)
    subtitle(figure, axes, "Expected loss, averaged over all others: deeper is better; dots are trials")
    surface = surrogate.effect(one, other)
    x, y = ([_axis_value(space, name, share) for share in levels()] for name in (one, other))
    low, high = float(surface.min()), float(surface.max())
    ends = np.linspace(low, max(high, low + 1e-9 * max(abs(low), 1.0)), DEPTHS + 1)  # of a flat one they differ, too
    shades = [to_rgba(BLUE, depth) for depth in np.linspace(0.62, 0.04, DEPTHS)]
    axes.contourf(x, y, surface.T, levels=ends, colors=shades)
    complete = [t for t in trials if t.state == COMPLETE and t.loss is not None]
    best, drawn = min(complete, key=lambda t: t.loss or 0.0), sample(complete, MOST_DOTS)
    axes.scatter([_at(space, one, t) for t in drawn], [_at(space, other, t) for t in drawn], s=12, color=INK)
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


def _few(drawn: Sequence[Trial], trials: Sequence[Trial]) -> str:
    return f": {len(drawn):,} of {len(trials):,} trials, from best to worst" if len(drawn) < len(trials) else ""


def _upper_limit(axes: Any, losses: Sequence[float]) -> None:
    """Hopeless trials would leave no room for the others: they are cut off."""
    if len(losses) > 4:
        low, high = min(losses), float(np.quantile(losses, 0.9))
        margin = max(high - low, 1e-12) * 0.1
        axes.set_ylim(low - margin, high + 3 * margin)
