"""Consumes the training period of a target of classes, produces its baselines: how often each class came, and where."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from assay.model.rates import RateBaselines, bounded
from assay.model.scale import as_floats
from assay.training.baselines import past_columns
from assay.training.group_tables import TrainingGroups, group_schema, grouped, of_line, slope, table_of

PARENT_ROWS = 5.0  # that the parent's shares count for beside a group's own


def fit_rates(rows: TrainingGroups, classes: int) -> RateBaselines:
    """Exact figures over the training period: one shuffle for each level of groups. classes: how many."""
    groups: list[dict[str, list[Any]]] = []
    seasons: list[dict[str, list[Any]]] = []
    for keys, whole, parts in rows.levels(
        lambda keys: GroupCounts(keys, rows.target, classes, rows.weekly, least_span_days=rows.span_days / 2)
    ):
        shares = shrunk(whole, keys[:-1], groups[-1] if groups else None, classes)
        groups.append(table_of(whole, keys) | _rates(shares) | table_of(whole, _line_names(classes)))
        shares = shrunk(parts, keys, groups[-1], classes)
        seasons.append(table_of(parts, [*keys, "season"]) | _rates(shares))
    past = past_columns(rows.features, rows.target)
    lag, level = past.get("last_value"), past.get("market_level") if classes == 2 else None
    after: tuple[tuple[float, ...], ...] = ()
    if lag is not None:
        counts = rows.read([lag, rows.target]).map(CountAfter(lag, rows.target, classes), AFTER).collect()
        seen = np.zeros((classes, classes))
        np.add.at(seen, tuple(counts.column(n).to_numpy() for n in ("last", "next")), counts.column("rows").to_numpy())
        overall = np.array([groups[0][f"rate_{k}"][0] for k in range(classes)])
        shares = (seen + PARENT_ROWS * overall) / (seen.sum(axis=1, keepdims=True) + PARENT_ROWS)
        after = tuple(map(tuple, bounded(shares).tolist()))
    return RateBaselines(
        classes=classes,
        group_columns=rows.group_columns,
        end_days=rows.end_days,
        span_days=rows.span_days,
        groups=tuple(groups),
        seasons=tuple(seasons),
        weekly=rows.weekly,
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


def _rates(shares: np.ndarray[Any, Any]) -> dict[str, list[Any]]:
    return {f"rate_{k}": column.tolist() for k, column in enumerate(shares.T)}


def _line_names(classes: int) -> list[str]:
    return ["days", *(f"slope_{k}" for k in range(classes))]


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

    @property
    def schema(self) -> pa.Schema:
        """Keys, season, rows of each class, mean day, slope of each share."""
        return group_schema(self.keys, [*(f"count_{k}" for k in range(self.classes)), *_line_names(self.classes)])

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `schema`."""
        import polars as pl

        ones = {f"is_{k}": (pl.col(self.target) == k).cast(pl.Float64) for k in range(self.classes)}
        counts = [pl.col(one).sum().alias(f"count_{k}") for k, one in enumerate(ones)]
        lines = [pl.col("day").mean(), *(slope(pl.col(one)) for one in ones)]
        named = zip(lines, _line_names(self.classes), strict=True)
        yield from grouped(
            batches,
            self.schema,
            self.keys,
            columns=ones,
            groups=[*counts, *(of_line(line, self.least_span_days).alias(name) for line, name in named)],
            seasons=counts,
            weekly=self.weekly,
        )


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
