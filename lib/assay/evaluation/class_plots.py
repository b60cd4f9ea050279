"""Consumes what was summed and sampled of evaluated rows of classes, produces figures: reliability, mistakes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from assay.class_metrics import log_losses
from assay.evaluation.class_coverage import ProbabilityRecord
from assay.evaluation.class_tally import probabilities_of
from assay.evaluation.plots import BUCKETS, MOST_BUCKETS
from assay.pages.canvas import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    date_axis,
    label,
    new_figure,
    plain,
    short,
    subtitle,
)

MOST_CLASSES = 12


def reliability_plot(
    bins: npt.NDArray[np.float64], classes: Sequence[str], record: ProbabilityRecord | None = None
) -> Figure:
    """Share that came true over the probability that was said, in ten bins; the area of a dot is its rows.

    bins: (3, m), mean probability, share that came true, and rows.  record: where probabilities were calibrated, what
    they were before is drawn as well.
    """
    said, held, count = bins
    figure, (axes,) = new_figure("Do probabilities keep their word?")
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9)
    words = f"{int(count.sum()):,} rows in ten bins; on the line, both agree"
    if record is not None and record.method != "none":
        was_said, was_held, was = np.array(record.bins).T
        axes.plot(was_said, was_held, color=MUTED, linewidth=1.0, linestyle="--")
        axes.scatter(was_said, was_held, s=14 + 160 * was / was.max(), edgecolors=MUTED, facecolors="none")
        words += "; hollow: before"
    axes.plot(said, held, color=BLUE, linewidth=1.2)
    axes.scatter(said, held, s=14 + 160 * count / count.max(), color=BLUE, alpha=0.75, linewidths=0)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    what = plain(classes[1]) if len(classes) == 2 else "the likeliest class"
    axes.set_xlabel(f"probability of {what}")
    axes.set_ylabel("share that came true")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    subtitle(figure, axes, words)
    return figure


def confusion_plot(counts: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure | None:
    """Of each class that came true, the share that was said to be each; None of more than MOST_CLASSES.

    counts: rows by the class that came true and the one that was likeliest, (K, K).
    """
    if len(classes) > MOST_CLASSES:
        return None
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, (axes,) = new_figure("What is mistaken for what", max(2.6, 1.4 + 0.34 * len(classes)))
    axes.grid(visible=False)
    for true in range(len(classes)):
        for said in range(len(classes)):
            colour = GREEN if true == said else ORANGE  # no deeper than text can be read on
            axes.barh(true, 0.94, left=said - 0.47, height=0.9, color=colour, alpha=0.06 + 0.4 * shares[true, said])
            words = f"{100 * shares[true, said]:.0f} %\n{counts[true, said]:,}"
            axes.annotate(words, (said, true), ha="center", va="center", size=8, color=INK)
    names = [short(name, 16) for name in classes]
    axes.set_xticks(range(len(classes)), names)
    axes.set_yticks(range(len(classes)), names)
    axes.set(xlim=(-0.5, len(classes) - 0.5), ylim=(len(classes) - 0.5, -0.5))
    axes.set_xlabel("likeliest class")
    axes.set_ylabel("class that came true")
    subtitle(figure, axes, "share of the row, and rows")
    return figure


def loss_over_time(rows: pl.DataFrame, classes: Sequence[str], target: str) -> Figure:
    """Mean log loss per hour, day, week, month, quarter or year, and the strongest rule's where there is one."""
    moments = rows["time"].dt.epoch("s").to_numpy()
    span_days = float(moments.max() - moments.min()) / 86_400
    _, every, word = next((b for b in BUCKETS if span_days / b[0] < MOST_BUCKETS), BUCKETS[-1])
    losses = {"model": pl.Series(log_losses(rows["actual"].to_numpy(), probabilities_of(rows, len(classes))))}
    rules = [name for name in rows.columns if name.startswith("baseline_")]
    if rules:
        best = min(rules, key=lambda name: float(rows[name].mean()))  # type: ignore[arg-type]
        losses["rule"] = rows[best]
    when = rows["time"].dt.replace_time_zone(None).dt.truncate(every)
    means = pl.DataFrame({"time": when, **losses}).group_by("time").mean().sort("time")
    figure, (axes,) = new_figure(f"Log loss per {word}: {plain(target)}")
    for name, colour in (("rule", MUTED), ("model", BLUE)):
        if name in means.columns:
            axes.plot(means["time"].to_numpy(), means[name].to_numpy(), color=colour, linewidth=1.6, marker="o", ms=3)
            words = "model" if name == "model" else best.removeprefix("baseline_").replace("_", " ")
            label(axes, words, (means["time"].to_numpy()[-1], means[name].to_numpy()[-1]), colour)
    date_axis(axes)
    axes.margins(x=0.02)
    axes.set_ylabel("less is better")
    subtitle(figure, axes, "mean of each period")
    return figure
