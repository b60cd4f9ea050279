"""Consumes observations and a plan, produces feature rows with the job's own kernels, without Spark."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from assay.config.dataset import CalendarConfig
from assay.config.features import FeaturesConfig, FourierConfig, InteractionsConfig, TargetEncodingConfig
from assay.features.condensed import condense
from assay.features.kernel import BuildFeatures, Condense, GroupHistory, observation_columns, packed, past_of
from assay.features.plan import FeaturePlan, HistoryOf
from assay.features.ranks import AddBins, CountBins, counted_bins_schema, rank_features
from assay.features.timeline import Timeline

UTC_TIME = pl.Datetime("us", "UTC")


def plan_of(**changes: Any) -> FeaturePlan:
    """A plan with every family: a target, an outcome that is known late, two markets, holidays."""
    settings: dict[str, Any] = {
        "entity": ("thing",),
        "texts": ("thing", "place"),
        "numeric": ("size",),
        "categorical": ("place",),
        "targets": ("price",),
        "history": (HistoryOf("price", 0.0), HistoryOf("sales", 2.5)),
        "groups": {"place": ("place",), "all": ()},
        "anchors": ("price",),
        "ratios": ("price",),
        "temporal": True,
        "market": True,
        "calendar": CalendarConfig(country="US"),
        "settings": settings_of(),
        **changes,
    }
    return FeaturePlan(**settings)


def settings_of(**changes: Any) -> FeaturesConfig:
    """Settings with every family, for the entity and for groups."""
    chosen: dict[str, Any] = {
        "lags": (1, 2),
        "windows_days": (3, 40),
        "windows_rows": (2,),
        "statistics": ("mean", "std", "min", "max", "count"),
        "halflives_days": (0.5, 20.0),
        "expanding": ("mean", "std", "min", "max", "count"),
        "trend_days": (40,),
        "seasonality_days": (7.0,),
        "group_families": ("smoothing", "expanding", "trend", "seasonality"),
        "market_momentum_months": (1, 3),
        "market_trend_months": (2,),
        "beta_days": (40,),
        **changes,
    }
    return FeaturesConfig(**chosen)


def widest_plan(*, widest: dict[str, Any] | None = None, **changes: Any) -> FeaturePlan:
    """A plan with really every family, in short periods.  widest: changes of its settings."""
    chosen: dict[str, Any] = {
        "technical": ("price", "sales"),
        "technical_periods": (2, 3),
        "macd": (2, 3, 2),
        "bollinger": (2, 2.0),
        "group_families": ("smoothing", "expanding", "trend", "seasonality", "technical"),
        "fourier": FourierConfig(year=2, week=2, day=1),
        "interactions": InteractionsConfig(
            columns=("price", "sales", "size"), kinds=("ratio", "product", "difference"), degree=3
        ),
        "target_encoding": TargetEncodingConfig(columns=("place", "thing"), smoothing=2.0),
        "forward_fill": ("size",),
        **(widest or {}),
    }
    settings: dict[str, Any] = {
        "groups": {"place": ("place",), "all": (), "thing": ("thing",)},
        "encoding_groups": ("thing",),
        "interactions": True,
        "calendar": CalendarConfig(country="US", business=True, market="NYSE", hours=True),
        "settings": settings_of(**chosen),
        **changes,
    }
    return plan_of(**settings)


def observations(rows: Sequence[dict[str, Any]], plan: FeaturePlan) -> pl.DataFrame:
    """Rows with `time` and any of the plan's columns as a frame like the table `observations`."""
    kinds: dict[str, Any] = {"row_id": pl.Int64, "time": UTC_TIME}
    kinds |= dict.fromkeys(plan.texts, pl.String)
    kinds |= dict.fromkeys([*plan.numeric, *plan.targets, *(h.column for h in plan.history)], pl.Float64)
    frame = pl.DataFrame([{name: row.get(name) for name in kinds} for row in rows], schema=kinds)
    return frame.with_columns(month=pl.col("time").dt.strftime("%Y-%m"))


NO_FAMILY: dict[str, Any] = dict.fromkeys(
    (
        *("lags", "windows_days", "windows_rows", "statistics", "halflives_days", "expanding", "trend_days"),
        *("seasonality_days", "group_families", "market_momentum_months", "market_trend_months", "beta_days"),
    ),
    (),
)


def past_at_each_time(
    rows: Sequence[dict[str, Any]], by: Sequence[str], *, delay_days: float = 0.0, market: bool = False, **asked: Any
) -> pl.DataFrame:
    """Features of the past of `v` at each key and time, without their prefix; asked: settings, all others are off.

    market: that of the market of these rows, as if each time were a step of its own.
    """
    plan = plan_of(
        targets=("v",) if market else (),
        history=(HistoryOf("v", delay_days),),
        groups={"g": tuple(by)},
        anchors=(),
        temporal=not market,
        market=market,
        settings=settings_of(**{**NO_FAMILY, **asked}),
    )
    schema: dict[str, Any] = {**dict.fromkeys(by, pl.String), "time": UTC_TIME, "v": pl.Float64}
    frame = pl.DataFrame([{name: row[name] for name in schema} for row in rows], schema=schema)
    timeline = Timeline(condense(frame, by, ["v"]), by, oldest_us=plan.oldest_us)
    label = "g" if market else "own"
    found = past_of(timeline, plan, label).rename(
        lambda name: name.removeprefix(f"v__{label}__market_" if market else f"v__{label}__")
    )
    return pl.concat([timeline.cells, found], how="horizontal")


def features_of(
    frame: pl.DataFrame, plan: FeaturePlan, *, dealt: Sequence[int] | None = None, batch_rows: int = 65_536
) -> pl.DataFrame:
    """Feature rows in order of row_id. dealt: for each row, the task that reads it; whole keys meet in tasks later."""
    hands = [frame] if dealt is None else _dealt(frame, dealt)
    groups = {}
    for label, columns in plan.groups.items() if plan.temporal or plan.market else ():
        condensed = [pa.Table.from_batches(list(Condense(plan, label)(_batches(hand, batch_rows)))) for hand in hands]
        whole = pl.from_arrow(pa.concat_tables(condensed))
        parts = [whole] if dealt is None else _by_key(whole, columns)
        tables = [list(GroupHistory(plan, label)(_batches(part, batch_rows))) for part in parts]
        groups[label] = packed(pa.Table.from_batches([batch for table in tables for batch in table]))
    ranks = ranks_of(hands, plan, batch_rows)
    rows = pl.concat(hands).select(observation_columns(plan))
    built = [
        pl.from_arrow(pa.Table.from_batches(list(BuildFeatures(plan, groups, ranks)(_batches(part, batch_rows)))))
        for part in (_by_key(rows, plan.entity) if dealt is not None else [rows])
    ]
    return pl.concat(built).sort("row_id")


def ranks_of(hands: Sequence[pl.DataFrame], plan: FeaturePlan, batch_rows: int = 65_536) -> dict[str, bytes]:
    """The counted values of each market, counted by each hand for itself."""
    ranks = {}
    for label in plan.markets:
        if rank_features(plan, label):
            schema = counted_bins_schema(plan, label)
            counted = [
                pa.Table.from_batches(list(CountBins(plan, label)(_batches(h, batch_rows))), schema) for h in hands
            ]
            added = AddBins(plan, label)(iter(pa.concat_tables(counted).to_batches()))
            ranks[label] = packed(pa.Table.from_batches(list(added), schema))
    return ranks


def _dealt(frame: pl.DataFrame, dealt: Sequence[int]) -> list[pl.DataFrame]:
    parts = [frame.filter(pl.Series(dealt) == hand) for hand in range(max(dealt) + 1)]
    return [part for part in parts if part.height]


def _by_key(frame: pl.DataFrame, columns: Sequence[str]) -> list[pl.DataFrame]:
    return frame.partition_by(columns) if columns else [frame]


def _batches(frame: pl.DataFrame, rows: int):
    return iter(frame.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches(max_chunksize=rows))


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.timezone.utc)
