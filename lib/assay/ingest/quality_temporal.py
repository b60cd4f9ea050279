"""Consumes the sampled series and the market's days, produces a pattern report: trend, season, dominant period, gaps.

Strengths are those of Hyndman & Athanasopoulos, Forecasting: Principles and Practice, 3rd edition, section 6.3 [Wang,
Smith & Hyndman 2006]: with the STL decomposition y = T + S + R, trend strength is max(0, 1 - Var(R) / Var(T + R)) and
seasonal strength is max(0, 1 - Var(R) / Var(S + R)).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.config import DatasetConfig
from assay.config.quality import QualityConfig
from assay.ingest.quality_partial import Partial
from assay.ingest.quality_series import DAY, missing_moments, rhythm, steps_of

if TYPE_CHECKING:
    import polars as pl

SEASONAL, TRENDING = 0.64, 0.6  # strengths from which one speaks of a season (Wang et al. 2006) and of a trend
AS_STRONG = 0.05  # a week of hours repeats each day as well: the shortest of periods that are as strong is the season's
MIN_MOMENTS = 24
MOST_MOMENTS = 5_000
MOST_FILLED = 0.2  # a series with a larger share of gaps is not decomposed
MARKET = "all rows together"
PERIODS = (  # step from, step below (days), then the natural periods in steps
    (0.9 / 24, 1.1 / 24, (24, 168)),
    (0.9, 1.1, (7, 365)),
    (6.5, 7.5, (13, 52)),
    (27.0, 32.0, (12,)),
    (88.0, 94.0, (4,)),
)

BUSINESS_PERIODS = (5, 261)
SEASON_WINDOW = 11  # of the STL, as Hyndman & Athanasopoulos use it

Vector = np.ndarray[Any, np.dtype[np.float64]]


@dataclasses.dataclass(frozen=True)
class Pattern:
    """One series of one target.

    moments: with a value.  step_days: its usual step.  gaps: moments between its ends without a value.
    trend, season: strengths, 0 to 1; None where it is too short or has too many gaps.  period_days: of the season, the
    shortest candidate that is as strong as any.  words: the pattern in a few words.
    """

    target: str
    series: str
    moments: int
    step_days: float
    gaps: int
    trend: float | None
    season: float | None
    period_steps: int | None
    period_days: float | None
    words: str


def patterns(partial: Partial, dataset: DatasetConfig, config: QualityConfig) -> list[Pattern]:
    """The whole market's pattern and those of the longest series, per target; at most `quality.series` of these."""
    import polars as pl

    if not config.series:
        return []
    found: list[Pattern] = []
    for target in (t.name for t in dataset.observed_targets if t.task != "multiclass"):
        days = partial.days.filter(pl.col("target") == target).select(
            pl.lit(0, dtype=pl.UInt64).alias("entity"),
            pl.col("day").cast(pl.Datetime("us")).dt.timestamp("us").alias("time"),
            (pl.col("total") / pl.col("rows")).alias("value"),
        )
        if partial.names.height != 1:
            found += _of_each(days, {0: MARKET}, target, dataset)
        rows = partial.series.select("entity", "time", pl.col(f"target_{target}").alias("value"))
        rows = rows.filter(pl.col("value").is_finite()).group_by("entity", "time").agg(pl.col("value").mean())
        names = dict(partial.names.iter_rows())
        sizes = rows.group_by("entity").len("rows").filter(pl.col("rows") >= MIN_MOMENTS)
        named = sizes.with_columns(
            name=pl.col("entity").replace_strict(names, default="", return_dtype=pl.String)
        ).sort("rows", "name", descending=[True, False])
        chosen = named.head(config.series)
        shown = dict(chosen.select("entity", "name").iter_rows())
        found += _of_each(rows.join(chosen, on="entity", how="semi"), shown, target, dataset)
    return found


def _of_each(rows: pl.DataFrame, names: dict[int, str], target: str, dataset: DatasetConfig) -> Iterator[Pattern]:
    import polars as pl

    steps = steps_of(rows)
    known = rhythm(steps, dataset)
    rhythms = {row["entity"]: row for row in known.iter_rows(named=True)}
    missing = missing_moments(steps.join(known, on="entity", maintain_order="left"), dataset)
    for entity, name in names.items():
        if entity not in rhythms:
            continue
        one = rows.filter(pl.col("entity") == entity).sort("time").tail(MOST_MOMENTS)
        holes = missing.filter((pl.col("entity") == entity) & (pl.col("time") > one["time"][0]))
        yield _pattern(target, name, one["value"].to_numpy(), holes, rhythms[entity])


def _pattern(target: str, name: str, values: Vector, holes: pl.DataFrame, known: dict[str, Any]) -> Pattern:
    step, gaps = float(known["median"]) / DAY, int(holes["missing"].sum())
    plain = Pattern(target, name, len(values), step, gaps, None, None, None, None, "")
    if not known["even"]:
        return dataclasses.replace(plain, gaps=0, words="its rows come at uneven times")
    if len(values) < MIN_MOMENTS:
        return dataclasses.replace(plain, words=f"fewer than {MIN_MOMENTS} moments")
    if gaps > MOST_FILLED * (len(values) + gaps):
        return dataclasses.replace(plain, words="too many gaps for a decomposition")
    places = np.concatenate([[0], np.cumsum(1 + holes.sort("time")["missing"].to_numpy())])
    even = np.interp(np.arange(places[-1] + 1), places, values)
    if not np.ptp(even) > 0:
        return dataclasses.replace(plain, words="always the same value")
    found = [decompose(even, period) for period in candidates(even, step, working=bool(known["working"]))]
    strongest = max((season for _, season, _ in found), default=0.0)
    best = next((d for d in found if d[1] >= strongest - AS_STRONG), None)
    if best is None:
        return dataclasses.replace(plain, words="shorter than two of any period")
    trend, season, period = best
    return dataclasses.replace(
        plain,
        trend=trend,
        season=season,
        period_steps=period,
        period_days=period * step,
        words=_words(trend, season, period * step),
    )


def candidates(values: Vector, step_days: float, *, working: bool = False) -> list[int]:
    """Periods in steps that are worth a look, the shortest first; each fits at least twice.

    Those of the calendar, where the step is one of its own; for other steps the largest peak of the spectrum (of the
    differences from a straight line) that fits three times, since a wandering series has its peak at the very left.
    """
    from scipy.signal import detrend, periodogram

    natural: tuple[int, ...] = next((p for low, high, p in PERIODS if low <= step_days < high), ())
    if working:
        natural = BUSINESS_PERIODS
    if not natural:
        frequency, power = periodogram(detrend(values))
        inside = (frequency >= 3 / len(values)) & (frequency <= 0.5)
        natural = (round(1 / float(frequency[inside][np.argmax(power[inside])])),) if inside.any() else ()
    return [period for period in natural if 2 <= period <= len(values) // 2]


def decompose(values: Vector, period: int) -> tuple[float, float, int]:
    """(trend strength, seasonal strength, period) of the STL decomposition at a period in steps.

    The season is smoothed by means over SEASON_WINDOW periods and the loess curves are interpolated over a tenth of
    their windows, as R's `stl` does.
    """
    from statsmodels.tsa.seasonal import STL

    trend = math.ceil(1.5 * period / (1 - 1.5 / SEASON_WINDOW))
    trend += 1 - trend % 2
    low = period + 1 - period % 2
    parts = STL(
        values,
        period=period,
        seasonal=SEASON_WINDOW,
        trend=trend,
        low_pass=low if low > period else low + 2,
        seasonal_deg=0,
        seasonal_jump=-(-SEASON_WINDOW // 10),
        trend_jump=-(-trend // 10),
        low_pass_jump=-(-low // 10),
    ).fit()
    rest = float(np.var(parts.resid))
    return _strength(rest, parts.trend + parts.resid), _strength(rest, parts.seasonal + parts.resid), period


def _strength(rest: float, with_part: Vector) -> float:
    whole = float(np.var(with_part))
    return max(0.0, 1.0 - rest / whole) if whole > 0 and math.isfinite(whole) else 0.0


def _words(trend: float, season: float, days: float) -> str:
    told = []
    if trend >= TRENDING:
        told.append("a strong trend")
    if season >= SEASONAL:
        told.append(f"a strong season of {period_words(days)}")
    return " and ".join(told) or "neither a strong trend nor a strong season"


def period_words(days: float) -> str:
    """A period for people: 364 days are a year."""
    for name, length in (("a year", 365.25), ("a quarter", 91.3), ("a month", 30.44), ("a week", 7.0), ("a day", 1.0)):
        if abs(days - length) <= 0.02 * length:
            return name
    return f"{days:.3g} days" if days >= 1 else f"{24 * days:.3g} hours"
