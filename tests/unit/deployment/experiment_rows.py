"""Losses of rows, and the sums by day and the moments by entity that a group-by makes of them."""

from __future__ import annotations

import numpy as np
import polars as pl

from assay.deployment.experiment_days import Arm, EntityMoments, Series, arm_days, paired_days

FIRST_DAY = np.datetime64("2024-03-01")


def series(champion: np.ndarray, difference: np.ndarray, rows: int = 100) -> Series:
    """Paired days with these summed losses."""
    champion = np.asarray(champion, dtype=float)
    days = FIRST_DAY + np.arange(len(champion))
    return paired_days(days, np.full(len(champion), rows), champion, champion + difference)


def steady(effect: float, *, days: int = 56, noise: float = 0.02, seed: int = 0, rows: int = 100) -> Series:
    """A challenger that saves `effect` by estimate, to the last digit: its noise has a mean of 0."""
    apart = np.random.default_rng(seed).normal(size=days)
    return series(np.full(days, 50.0), 50 * (noise * (apart - apart.mean()) - effect), rows)


def arm_of(rows: pl.DataFrame, days: pl.Series) -> Arm:
    """Sums of an arm's rows. Grain: one row; columns entity, day, loss.  days: of both arms."""
    n, s = pl.col("n"), pl.col("s")
    moments = {"squares": (s * s).sum(), "products": (s * n).sum(), "rows_squared": (n * n).sum()}
    by_day = rows.group_by("entity", "day").agg(n=pl.len(), s=pl.col("loss").sum())
    daily = by_day.group_by("day").agg(rows=n.sum(), losses=s.sum(), **moments)
    daily = days.to_frame().join(daily, on="day", how="left").sort("day").fill_null(0)
    by_entity = by_day.group_by("entity").agg(n.sum(), s.sum()).select(entities=pl.len(), **moments)
    sums = {name: daily[name].to_numpy() for name in ("rows", "losses", "squares", "products", "rows_squared")}
    return Arm(**sums, entities=EntityMoments(**by_entity.to_dicts()[0]))


def arm_series(rows: pl.DataFrame) -> Series:
    """Of rows. Grain: one row; columns arm (`champion` or `challenger`), entity, day, loss."""
    days = rows["day"].unique().sort()
    arms = (arm_of(rows.filter(pl.col("arm") == arm), days) for arm in ("champion", "challenger"))
    return arm_days(days.to_numpy(), *arms)
