"""Consumes the training period, produces the strongest simple alternatives: what a model must beat to be worth it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from assay.model.baselines import Baselines
from assay.training.group_tables import TrainingGroups, group_schema, grouped, of_line, slope, table_of

FIGURES = ("median", "days", "level", "slope")


def fit_baselines(rows: TrainingGroups, transform: str) -> Baselines:
    """Exact figures over the training period: one shuffle for each level of groups."""
    groups, seasons = [], []
    for keys, whole, parts in rows.levels(
        lambda keys: GroupFigures(keys, rows.target, transform, rows.weekly, least_span_days=rows.span_days / 2)
    ):
        groups.append(table_of(whole, [*keys, *FIGURES]))
        seasons.append(table_of(parts, [*keys, "season", "median"]))
    return Baselines(
        transform=transform,
        group_columns=rows.group_columns,
        end_days=rows.end_days,
        span_days=rows.span_days,
        groups=tuple(groups),
        seasons=tuple(seasons),
        weekly=rows.weekly,
        **past_columns(rows.features, rows.target),
    )


def past_columns(names: Sequence[str], target: str) -> dict[str, Any]:
    """Which features tell of a row's own past and of its market: fields of `Baselines`.

    Of several markets the last one is taken, of several momenta that of the fewest months.
    """
    own = {field: f"{target}__own__{name}" for field, name in (("last_value", "lag_1"), ("age_days", "age_days"))}
    found: dict[str, Any] = {field: name for field, name in own.items() if name in names}
    levels = [n for n in names if n.startswith(f"{target}__") and n.endswith("__market_level")]
    if levels:
        found["market_level"] = levels[-1]
        of_months = re.compile(re.escape(levels[-1].removesuffix("level")) + r"momentum_(\d+)m")
        momenta = {int(match[1]): name for name in names if (match := of_months.fullmatch(name))}
        if momenta:
            found |= {"market_momentum": momenta[min(momenta)], "momentum_months": min(momenta)}
    return found


@dataclasses.dataclass(frozen=True)
class GroupFigures:
    """Kernel over whole groups: median and line of each, and the medians of its seasons, where rows are enough.

    A line needs 20 rows over `least_span_days`; of fewer it has its level, and the slope is null. The order of rows
    changes nothing: figures are added up in order of time and target.
    """

    keys: tuple[str, ...]
    target: str
    transform: str
    weekly: bool
    least_span_days: float

    @property
    def schema(self) -> pa.Schema:
        """Keys, season and FIGURES."""
        return group_schema(self.keys, FIGURES)

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `schema`."""
        import polars as pl

        target = pl.col(self.target).cast(pl.Float64)
        value, scaled = pl.col("value"), pl.col("scaled")
        median = value.median().alias("median")
        line = of_line(slope(scaled), self.least_span_days).alias("slope")
        yield from grouped(
            batches,
            self.schema,
            self.keys,
            columns={"value": target, "scaled": target.log() if self.transform == "log" else target},
            groups=[median, pl.col("day").mean().alias("days"), scaled.mean().alias("level"), line],
            seasons=[median],
            weekly=self.weekly,
        )
