"""Consumes `dataset.features`, produces `FeaturesConfig`: what each family of features is made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.strict import STRICT, Days, Name

Statistic = Literal["mean", "std", "min", "max", "count"]
Window = Annotated[int, Field(ge=1, le=36_500)]
Halflife = Annotated[float, Field(ge=0.01, le=3_650)]
Period = Annotated[int, Field(ge=2, le=10_000)]


@dataclass(frozen=True, config=STRICT)
class FourierConfig:
    """How many pairs of sine and cosine of the year, the week and the day; the k-th turns k times a cycle.

    Year and week turn by whole days (four or more a week would repeat the first three), the day by minutes.
    """

    year: Annotated[int, Field(ge=0, le=50)] = 1
    week: Annotated[int, Field(ge=0, le=3)] = 1
    day: Annotated[int, Field(ge=0, le=24)] = 0


@dataclass(frozen=True, config=STRICT)
class InteractionsConfig:
    """What `enable_interaction_features` combines.

    columns: all pairs of them, and their powers. A numeric attribute stands for itself, a target or outcome for its
        last known value; any other numeric feature goes by its own name. With neither columns nor pairs, they are the
        targets and the first four numeric attributes. (What helps most is for the selection stage to find.)
    pairs: further pairs.  kinds: of each pair (a, b): a / b, a * b, a - b.  degree: highest power, 1 for none.
    transforms: `log1p` and `sqrt` of the columns, with their sign; `zscore` and `range` put the last known value of
        targets and outcomes on the scale of its own past.
    """

    columns: tuple[Name, ...] = ()
    pairs: tuple[tuple[Name, Name], ...] = ()
    kinds: tuple[Literal["ratio", "product", "difference"], ...] = ("ratio", "product")
    degree: Annotated[int, Field(ge=1, le=3)] = 2
    transforms: tuple[Literal["log1p", "sqrt", "zscore", "range"], ...] = ("log1p", "sqrt", "zscore", "range")


@dataclass(frozen=True, config=STRICT)
class TargetEncodingConfig:
    """Categories as the mean of the target over their rows known before, shrunk to the mean of all rows.

    columns: any key, group, segment or categorical columns.  smoothing: rows that the mean of all rows counts for.
    """

    columns: tuple[Name, ...] = ()
    smoothing: Annotated[float, Field(ge=0, le=1e9)] = 20.0


@dataclass(frozen=True, config=STRICT)
class FeaturesConfig:
    """Refines the feature families that the profile's flags switch on. Windows are in days, lags in observations.

    lags: k-th last known value.  lookback: lags 1 to so many besides, the window that an LSTM or GRU reads.
    windows_days, windows_rows: spans of `statistics`, in days and in known values.
    halflives_days: of exponentially weighted means.  expanding: statistics over everything known.
    trend_days: spans of slope, trend strength and change-point score.  seasonality_days: periods whose strength is
        measured.  group_families: what groups have beside lag, age and windows.
    group_step: groups are looked at as of the start of a row's day or hour, which bounds their tables.
    max_history_days: older values are forgotten, which bounds what an incremental build reads.
    horizon_days: how far ahead is forecast: values become known to the features this much later.
    market_momentum_months, market_trend_months: of the market's level.  market_standing: the
        entity's last value against its market's level, its share of the market, its rank in it.  beta_days: span of its
        beta to the market.
    technical: price-like targets and outcomes that get technical indicators, counted in bars (times with a value).
    technical_periods: of averages, RSI, volatility and momentum.  macd: fast, slow and signal period.
    bollinger: period of the bands, and their distance in standard deviations.
    fourier: cycles of the row's own time.  interactions: combinations of columns.
    target_encoding: categories as numbers.  forward_fill: numeric attributes that, where missing, take the last
        value of the same entity known before.  families: names of families that extensions add.
    """

    lags: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = (1, 2, 3)
    lookback: Annotated[int, Field(ge=0, le=1000)] = 0
    windows_days: tuple[Window, ...] = (30, 90, 365)
    windows_rows: tuple[Annotated[int, Field(ge=1, le=100_000)], ...] = ()
    statistics: tuple[Statistic, ...] = ("mean", "std", "count")
    halflives_days: tuple[Halflife, ...] = (30.0,)
    expanding: tuple[Statistic, ...] = ("mean", "std", "count")
    trend_days: tuple[Window, ...] = (365,)
    seasonality_days: tuple[Annotated[float, Field(ge=0.1, le=36_500)], ...] = (365.25,)
    group_families: tuple[Literal["smoothing", "expanding", "trend", "seasonality", "technical"], ...] = ()
    group_step: Literal["1h", "1d"] = "1d"
    max_history_days: Window | None = None
    horizon_days: Days = 0.0
    market_momentum_months: tuple[Annotated[int, Field(ge=1, le=120)], ...] = (1, 3, 12)
    market_trend_months: tuple[Annotated[int, Field(ge=2, le=120)], ...] = (12,)
    market_standing: tuple[Literal["price", "share", "rank"], ...] = ("price", "share", "rank")
    beta_days: tuple[Window, ...] = (365,)
    technical: tuple[Name, ...] = ()
    technical_periods: tuple[Period, ...] = (14,)
    macd: tuple[Period, Period, Period] = (12, 26, 9)
    bollinger: tuple[Period, Annotated[float, Field(gt=0, le=100)]] = (20, 2.0)
    fourier: FourierConfig = FourierConfig()
    interactions: InteractionsConfig = InteractionsConfig()
    target_encoding: TargetEncodingConfig = TargetEncodingConfig()
    forward_fill: tuple[Name, ...] = ()
    families: tuple[Name, ...] = ()
