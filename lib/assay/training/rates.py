"""Consumes the training period of a target of classes, produces its baselines: how often each class came, and where."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from assay.model.baselines import MIN_GROUP_ROWS, season_of
from assay.model.rates import RateBaselines, bounded
from assay.model.scale import as_floats
from assay.runtime.arrow_files import conform_table
from assay.runtime.conditions import Condition
from assay.runtime.plane import Plane
from assay.runtime.tables import FEATURES
from assay.training.baselines import MIN_LINE_ROWS, WEEKLY_BELOW_DAYS, past_columns
from assay.training.split import Period

if TYPE_CHECKING:
    import polars as pl

PARENT_ROWS = 5.0  # that the parent's shares count for beside a group's own


def fit_rates(
    plane: Plane,
    *,
    version: int,
    where: Sequence[Condition],
    target: str,
    classes: int,
    group_columns: Sequence[str],
    periods: Sequence[Period],
    times: int,
) -> RateBaselines:
    """Exact figures over the training period: one shuffle for each level of groups.

    classes: how many.  For the others see `fit_baselines`.
    """
    first, last = periods[0], periods[-1]
    span = (last.last - first.first).total_seconds() / 86_400
    weekly = span / max(1, times - 1) < WEEKLY_BELOW_DAYS
    flow = plane.read(
        FEATURES.name, version=version, columns=list(dict.fromkeys([*group_columns, "time", target])), where=where
    )
    groups: list[dict[str, list[Any]]] = []
    seasons: list[dict[str, list[Any]]] = []
    for depth in range(len(group_columns) + 1):
        keys = tuple(group_columns[:depth])
        kernel = GroupCounts(keys, target, classes, weekly, least_span_days=span / 2)
        schema = counts_schema(keys, classes)
        found = flow.by_key(keys, rows_hint=sum(period.rows for period in periods)).map(kernel, schema).collect()
        rows = found.sort_by([(name, "ascending") for name in [*keys, "season"]]).to_pylist()
        whole, parts = ([r for r in rows if (r["season"] is None) == of_all] for of_all in (True, False))
        parent = groups[-1] if groups else None
        groups.append(_table(whole, keys, shrunk(whole, keys[:-1], parent, classes), classes, lines=True))
        seasons.append(_table(parts, (*keys, "season"), shrunk(parts, keys, groups[-1], classes), classes))
    past = past_columns(plane.schema(FEATURES.name).names, target)
    lag, level = past.get("last_value"), past.get("market_level") if classes == 2 else None
    after: tuple[tuple[float, ...], ...] = ()
    if lag is not None:
        pairs = plane.read(FEATURES.name, version=version, columns=[lag, target], where=where)
        counts = pairs.map(CountAfter(lag, target, classes), AFTER).collect()
        seen = np.zeros((classes, classes))
        np.add.at(seen, tuple(counts.column(n).to_numpy() for n in ("last", "next")), counts.column("rows").to_numpy())
        overall = np.array([groups[0][f"rate_{k}"][0] for k in range(classes)])
        shares = (seen + PARENT_ROWS * overall) / (seen.sum(axis=1, keepdims=True) + PARENT_ROWS)
        after = tuple(map(tuple, bounded(shares).tolist()))
    return RateBaselines(
        classes=classes,
        group_columns=tuple(group_columns),
        end_days=last.last.timestamp() / 86_400,
        span_days=span,
        groups=tuple(groups),
        seasons=tuple(seasons),
        weekly=weekly,
        last_value=lag,
        market_level=level,
        after=after,
    )


def shrunk(
    rows: Sequence[Mapping[str, Any]], parent_keys: Sequence[str], parent: Mapping[str, list[Any]] | None, classes: int
) -> np.ndarray[Any, Any]:
    """Shares (groups, K): counts, and the parent's shares as `PARENT_ROWS` rows; without a parent all classes alike."""
    counts = np.array([[row[f"count_{k}"] for k in range(classes)] for row in rows]).reshape(-1, classes)
    about = np.full(counts.shape, 1 / classes)
    if parent is not None:
        shares = np.array([parent[f"rate_{k}"] for k in range(classes)]).T
        places = {key: place for place, key in enumerate(zip(*(parent[name] for name in parent_keys), strict=True))}
        found = [places.get(tuple(row[name] for name in parent_keys), 0) if parent_keys else 0 for row in rows]
        about = shares[found].reshape(-1, classes)
    weight = PARENT_ROWS if parent is not None else 1.0
    return bounded((counts + weight * about) / (counts.sum(axis=1, keepdims=True) + weight))


def _table(
    rows: Sequence[Mapping[str, Any]], keys: Sequence[str], rates: Any, classes: int, *, lines: bool = False
) -> dict[str, list[Any]]:
    table = {key: [row[key] for row in rows] for key in keys}
    table |= {f"rate_{k}": rates[:, k].tolist() for k in range(classes)}
    if lines:
        table |= {name: [row[name] for row in rows] for name in ("days", *(f"slope_{k}" for k in range(classes)))}
    return table


def counts_schema(keys: Sequence[str], classes: int) -> pa.Schema:
    """Figures of a group (season null) or of one of its seasons: rows of each class, mean day, slope of each share."""
    names = [*(f"count_{k}" for k in range(classes)), "days", *(f"slope_{k}" for k in range(classes))]
    numbers = [pa.field("season", pa.int32()), *(pa.field(name, pa.float64()) for name in names)]
    return pa.schema([*(pa.field(key, pa.string()) for key in keys), *numbers])


@dataclasses.dataclass(frozen=True)
class GroupCounts:
    """Kernel over whole groups: rows of each class and the lines of their shares, and rows by season.

    A line needs 20 rows over `least_span_days`; of fewer the slopes are null. The order of rows changes nothing.
    """

    keys: tuple[str, ...]
    target: str
    classes: int
    weekly: bool
    least_span_days: float

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `counts_schema`."""
        import polars as pl

        found = list(batches)
        if not found:
            return
        rows = pl.from_arrow(pa.Table.from_batches(found))
        assert isinstance(rows, pl.DataFrame)
        season = season_of(pl.col("time"), weekly=self.weekly).alias("season")
        day = (pl.col("time").dt.epoch("us") / 86_400e6).alias("day")
        code = pl.col(self.target)
        rows = rows.select(*self.keys, season, day, *((code == k).cast(pl.Float64).alias(f"is_{k}") for k in self._all))
        rows = rows.sort("day", *(f"is_{k}" for k in self._all))
        counts = [pl.col(f"is_{k}").sum().alias(f"count_{k}") for k in self._all]
        schema = counts_schema(self.keys, self.classes)
        for keys, figures in (([*self.keys], [*counts, *self._lines()]), ([*self.keys, "season"], counts)):
            frame = (
                rows.group_by(keys, maintain_order=True).agg(*figures, pl.len().alias("rows"))
                if keys
                else (rows.select(*figures, pl.len().alias("rows")))
            )
            frame = frame.filter(pl.col("rows") >= MIN_GROUP_ROWS) if keys else frame
            missing = [pl.lit(None).alias(name) for name in schema.names if name not in frame.columns]
            yield from conform_table(frame.with_columns(missing).select(schema.names).to_arrow(), schema)

    @property
    def _all(self) -> range:
        return range(self.classes)

    def _lines(self) -> list[pl.Expr]:
        import polars as pl

        day = pl.col("day")
        spread = (day - day.mean()).pow(2).sum()
        enough = (pl.len() >= MIN_LINE_ROWS) & (day.max() - day.min() >= self.least_span_days) & (spread > 0)

        def slope(k: int) -> pl.Expr:
            share = pl.col(f"is_{k}")
            return ((day - day.mean()) * (share - share.mean())).sum() / spread

        return [
            pl.when(enough).then(day.mean()).alias("days"),
            *(pl.when(enough).then(slope(k)).alias(f"slope_{k}") for k in self._all),
        ]


AFTER = pa.schema([pa.field(name, pa.int64()) for name in ("last", "next", "rows")])


@dataclasses.dataclass(frozen=True)
class CountAfter:
    """Kernel: rows by the entity's last known class and their own."""

    last: str
    target: str
    classes: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `AFTER`."""
        seen = np.zeros((self.classes, self.classes), np.int64)
        for batch in batches:
            last, own = as_floats(batch.column(self.last)), as_floats(batch.column(self.target))
            known = np.isin(last, range(self.classes))
            np.add.at(seen, (last[known].astype(np.intp), own[known].astype(np.intp)), 1)
        places = np.nonzero(seen)
        yield pa.record_batch([*(pa.array(place) for place in places), pa.array(seen[places])], schema=AFTER)
