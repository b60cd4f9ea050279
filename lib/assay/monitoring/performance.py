"""Consumes sums of days, produces how errors and coverage changed between two windows, and how sure that is.

Rows of a day move together, so days are what is drawn again (a bootstrap by cluster). Only cohorts whose outcomes all
had time to come in are compared: early outcomes may be of another kind than late ones. What is still awaited gets an
estimate from the widths that were promised.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from assay.runtime.tables import level_label

Floats = npt.NDArray[np.float64]
DRAWS, SEED = 2_000, 20_240_229
CONFIDENCE = 0.95  # that an error rose, that coverage is short: one-sided
LEAST_DAYS = 5  # of a window, below which nothing is said of how sure a change is


@dataclasses.dataclass(frozen=True)
class Changed:
    """A figure in two windows. low, high: of `change`, one-sided ends at `CONFIDENCE` each; NaN of too few days.

    change: of errors relative to the reference's; of coverage the difference from what was promised.
    """

    reference: float
    current: float
    change: float
    low: float
    high: float
    days: int
    rows: int


def matured(days: pl.DataFrame, known: dt.datetime) -> pl.DataFrame:
    """Days (UTC) whose last rows' outcomes had time to come in. known: time of the newest rows whose outcome may be."""
    return days.filter(pl.col("day") < known.date())


def between(days: pl.DataFrame, start: dt.datetime | None, end: dt.datetime | None) -> pl.DataFrame:
    """Days that begin at `start` or later and before `end`, either may be None."""
    kept = days if start is None else days.filter(pl.col("day") >= start.date())
    return kept if end is None else kept.filter(pl.col("day") < end.date())


def error_changed(reference: pl.DataFrame, current: pl.DataFrame, *, rooted: bool) -> Changed:
    """The mean loss of known rows, or its square root: how much higher it is than in the reference, as a share."""

    def error(sums: Floats) -> Floats:
        mean = sums[..., 0] / np.where(sums[..., 1] > 0, sums[..., 1], np.nan)
        return np.sqrt(mean) if rooted else mean

    parts = [_known(days).select("loss", "known").to_numpy() for days in (reference, current)]
    return _compared(parts, error, lambda one, other: other / one - 1)


def coverage_changed(current: pl.DataFrame, level: float, reference: pl.DataFrame | None = None) -> Changed:
    """Share of known outcomes that the intervals of a level hold: how far it is above (+) or below what is promised."""
    names = [f"held_{level_label(level)}", "known"]
    before = _known(reference).select(names).sum().to_numpy()[0] if reference is not None else np.zeros(2)
    found = _compared(
        [_known(current).select(names).to_numpy()] * 2,
        lambda sums: sums[..., 0] / np.where(sums[..., 1] > 0, sums[..., 1], np.nan),
        lambda _, other: other - level,
    )
    return dataclasses.replace(found, reference=float(before[0] / before[1]) if before[1] else math.nan)


def error_awaited(known: pl.DataFrame, awaited: pl.DataFrame, level: float) -> tuple[float, float, float]:
    """Mean absolute error to be expected of rows without an outcome: estimate, low and high (90 %), in the unit.

    Widths say how hard rows are: rows with an outcome tell the mean error per unit of width, and widths of the others
    are known. NaN where there are too few days or no finite width.
    """
    width = f"width_{level_label(level)}"
    sums = _known(known).select("absolute", width).to_numpy()
    waiting = awaited.select("awaited_width", "awaited").sum().to_numpy()[0]
    if len(sums) < LEAST_DAYS or not waiting[1] or not np.isfinite(sums).all() or not np.isfinite(waiting[0]):
        return math.nan, math.nan, math.nan
    mean = waiting[0] / waiting[1]

    def ratio(of: Floats) -> Floats:
        return of[..., 0] / np.where(of[..., 1] > 0, of[..., 1], np.nan)

    drawn = mean * ratio(_drawn(sums, 0))
    low, high = np.nanquantile(drawn, [0.05, 0.95])
    return float(mean * ratio(sums.sum(axis=0))), float(low), float(high)


def figures(days: pl.DataFrame, levels: Sequence[float], *, classes: bool) -> dict[str, float]:
    """All figures of some days together: errors in the target's unit, shares from 0 to 1; NaN of what is not known.

    sharpe: mean over days of the mean relative change in the foreseen direction, over its standard deviation; not
    annualised.  win_rate: share of changes whose direction was foreseen.
    """
    whole = days.select(pl.exclude("day", "model_version").sum())
    sums = {name: float(value or 0.0) for name, value in whole.row(0, named=True).items()}
    known = sums["known"]

    def per(name: str, of: str = "known") -> float:
        return sums[name] / sums[of] if sums[of] else math.nan

    found = {"rows": sums["rows"], "known": known, "days": float(days.height)}
    shares = {"unscored_share": per("unscored", "rows"), "bad_share": per("bad", "rows")}
    shares |= {"awaited": sums["awaited"], "awaited_width": per("awaited_width", "awaited")}
    if classes:
        errors = {"log_loss": per("loss"), "accuracy": per("hits")}
    else:
        errors = {"mse": per("loss"), "rmse": math.sqrt(per("loss")) if known else math.nan, "mae": per("absolute")}
        errors |= {"wape": per("absolute", "size"), "bias": per("error"), "within_20pct": per("hits")}
        gains = days.filter(pl.col("moves") > 0).select(pl.col("gain") / pl.col("moves")).to_series()
        spread = gains.std() if gains.len() > 1 else None
        errors |= {"win_rate": per("wins", "moves")}
        errors |= {"sharpe": float(gains.mean()) / float(spread) if spread else math.nan}  # type: ignore[arg-type]
    ends = [level_label(level) for level in levels]
    held = {
        f"{name}_{end}": per(f"{of}_{end}") for end in ends for name, of in (("coverage", "held"), ("width", "width"))
    }
    return {**found, **shares, **errors, **held}


def _known(days: pl.DataFrame) -> pl.DataFrame:
    return days.filter(pl.col("known") > 0)


def _compared(
    parts: Sequence[Floats], figure: Callable[[Floats], Floats], change: Callable[[Floats, Floats], Floats]
) -> Changed:
    """A figure of sums of days, in both windows, and what drawing days again does to its change."""
    one, other = (figure(part.sum(axis=0)) for part in parts)
    days, rows = min(map(len, parts)), int(parts[1].sum(axis=0)[1])
    low = high = math.nan
    if days >= LEAST_DAYS:
        drawn = change(*(figure(_drawn(part, place)) for place, part in enumerate(parts)))
        low, high = np.nanquantile(drawn, [1 - CONFIDENCE, CONFIDENCE])
    return Changed(float(one), float(other), float(change(one, other)), float(low), float(high), days, rows)


def _drawn(sums: Floats, stream: int) -> Floats:
    """Sums of as many days, drawn again and again, (draws, columns)."""
    draw = np.random.default_rng([SEED, stream])
    return np.asarray(draw.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), DRAWS) @ sums)
