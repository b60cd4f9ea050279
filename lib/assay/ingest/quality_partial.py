"""Consumes checked rows of one task, produces what is counted of them: small frames that add up across tasks.

Counts, extremes and reasons simply add up. Quartiles and series need rows: of these a sample is kept whose members are
those with the smallest hashes (of the row; of the entity, with all of its rows). The smallest hashes of a union are
among the smallest hashes of its parts, so samples add up as well, to the same rows however the data were cut. One thing
must not be cut: rows of one entity at one time, because duplicates are counted where they meet.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from assay.config import DatasetConfig
from assay.config.dataset import stored_name
from assay.config.quality import parse_check
from assay.ingest.alignment import EXACT_TIME
from assay.ingest.csv_rows import RawChunk
from assay.ingest.json_rows import BROKEN
from assay.ingest.labels import NOT_A_CLASS

if TYPE_CHECKING:
    import polars as pl

WHOLE = 2**64 - 1
BROKEN_ROWS = (RawChunk.why_broken, BROKEN)
NOT_A_NUMBER, NOT_FINITE = "not a number", "target is NaN or infinite"
NAME_SEPARATOR = ", "


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How many rows are kept for what needs rows.

    rows, moments: most rows of the sample, and of whole series.  row_share, moment_share: shares that tasks thin to
    before, so that all of them together send little.
    """

    rows: int
    moments: int
    row_share: float = 1.0
    moment_share: float = 1.0

    @classmethod
    def of(cls, rows: int, moments: int, *, rows_hint: int) -> Sampling:
        """Shares that fit about `rows_hint` rows; four times too many, since the hint is a guess."""
        many = max(1, rows_hint)
        return cls(rows, moments, min(1.0, 4 * rows / many), min(1.0, 4 * moments / many))


@dataclasses.dataclass(frozen=True)
class Partial:
    """What was counted of some rows. Column names are those of the source; an empty one is the whole table.

    counts: (column, measure, value).  numbers, texts: (column, low, high) of filled values.  reasons: (reason, rows).
    sample: hash and numeric columns of sampled rows.  series: entity, time (us), file, row, `target_<name>` of sampled
    entities' rows.  names: entity hash -> its name.  days: sum and rows of each usable target per day.
    kept: (of, threshold): hashes below it are all there.
    """

    counts: pl.DataFrame
    numbers: pl.DataFrame
    texts: pl.DataFrame
    reasons: pl.DataFrame
    sample: pl.DataFrame
    series: pl.DataFrame
    names: pl.DataFrame
    days: pl.DataFrame
    kept: pl.DataFrame

    def frames(self) -> dict[str, pl.DataFrame]:
        """All frames by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def packed(self) -> Iterable[tuple[str, bytes]]:
        """Each frame as Arrow IPC bytes."""
        for name, frame in self.frames().items():
            sink = io.BytesIO()
            frame.write_ipc_stream(sink, compression="zstd")
            yield name, sink.getvalue()

    @property
    def row_threshold(self) -> int:
        """Hash below which all rows are in the sample; `WHOLE` where the sample is all rows."""
        return self._threshold("sample")

    @property
    def entity_threshold(self) -> int:
        """Hash below which all entities are in `series`."""
        return self._threshold("series")

    def _threshold(self, of: str) -> int:
        import polars as pl

        return int(self.kept.filter(pl.col("of") == of)["threshold"].item())


def measure(frame: pl.DataFrame, dataset: DatasetConfig, now: dt.datetime, sampling: Sampling) -> Partial:
    """Count rows of `checked_schema`, before duplicates are resolved. One look at each column, a few at keys."""
    import polars as pl

    whole = frame.filter(~is_broken())
    counts = _table_counts(frame.height, whole, dataset, now)
    numbers, texts = [], []
    seen = _looked_at(whole, dataset)
    bad = whole.filter(pl.col("reasons").is_not_null())
    for name in dataset.numeric_columns:
        column, found = stored_name(name), seen[name]
        invalid = (
            int(bad.select((pl.col(column).is_null() & _is_invalid(dataset.source_name(name))).sum()).item())
            if bad.height
            else 0
        )
        unusable = found["infinite"] + invalid + found["not_positive"]
        counts += [(name, m, found[m]) for m in ("filled", "infinite", "outside")]
        counts += [(name, "missing", whole.height - found["filled"] - invalid), (name, "invalid", invalid)]
        if any(target.name == name for target in dataset.observed_targets):
            counts.append((name, "unusable", unusable))
        if found["low"] is not None:
            numbers.append((name, found["low"], found["high"]))
    for name in dataset.text_columns:
        found = seen[name]
        counts += [(name, m, found[m]) for m in ("filled", "unlisted")]
        counts.append((name, "missing", whole.height - found["filled"]))
        if found["low"] is not None:
            texts.append((name, found["low"], found["high"]))
    sample, row_threshold = _sample(whole, dataset, sampling)
    series, names, entity_threshold = _series(whole, dataset, sampling)
    part = Partial(
        counts=pl.DataFrame(
            counts, schema={"column": pl.String, "measure": pl.String, "value": pl.Int64}, orient="row"
        ),
        numbers=pl.DataFrame(
            numbers, schema={"column": pl.String, "low": pl.Float64, "high": pl.Float64}, orient="row"
        ),
        texts=pl.DataFrame(texts, schema={"column": pl.String, "low": pl.String, "high": pl.String}, orient="row"),
        reasons=pl.DataFrame(schema={"reason": pl.String, "rows": pl.Int64}),
        sample=sample,
        series=series,
        names=names,
        days=_days(whole, dataset),
        kept=_thresholds(row_threshold, entity_threshold),
    )
    return merge([part], sampling)


def is_broken() -> pl.Expr:
    """Whether a row could not be cut into cells at all."""
    import polars as pl

    return pl.col("reasons").is_in(list(BROKEN_ROWS)).fill_null(False)


def merge(parts: Iterable[Partial], sampling: Sampling) -> Partial:
    """Several partials as one. Any order and any grouping give the same frames; sums of floats to rounding."""
    import polars as pl

    together = [part.frames() for part in parts]
    stacked = {name: pl.concat([frames[name] for frames in together]) for name in together[0]}
    kept = stacked["kept"].group_by("of").agg(pl.col("threshold").min())
    limits = dict(kept.iter_rows())
    sample, row_limit = _smallest_rows(stacked["sample"], limits["sample"], sampling.rows)
    series, entity_limit = _smallest_entities(stacked["series"], limits["series"], sampling.moments)
    names = stacked["names"].unique(["entity"]).join(series.select("entity").unique(), on="entity", how="semi")
    low_high = (pl.col("low").min(), pl.col("high").max())
    return Partial(
        counts=stacked["counts"].group_by("column", "measure").agg(pl.col("value").sum()).sort("column", "measure"),
        numbers=stacked["numbers"].group_by("column").agg(low_high).sort("column"),
        texts=stacked["texts"].group_by("column").agg(low_high).sort("column"),
        reasons=stacked["reasons"].group_by("reason").agg(pl.col("rows").sum()).sort("reason"),
        sample=sample,
        series=series,
        names=names.sort("entity"),
        days=stacked["days"].group_by("target", "day").agg(pl.col("total", "rows").sum()).sort("target", "day"),
        kept=_thresholds(row_limit, entity_limit),
    )


def unpack(rows: pa.Table, part: str, payload: str) -> Iterable[Partial]:
    """Partials from rows that hold one packed frame each, in any order: frames of one kind may be dealt out freely."""
    import polars as pl

    found: dict[str, list[pl.DataFrame]] = {}
    for name, data in zip(rows.column(part).to_pylist(), rows.column(payload).to_pylist(), strict=True):
        found.setdefault(name, []).append(pl.read_ipc_stream(io.BytesIO(data)))
    for index in range(max((len(frames) for frames in found.values()), default=0)):
        yield Partial(**{name: frames[index] for name, frames in found.items()})


def reasons_of(counted: Mapping[str, int], like: Partial) -> Partial:
    """`like` with these quarantine reasons."""
    import polars as pl

    frame = pl.DataFrame({"reason": list(counted), "rows": list(counted.values())}, schema=like.reasons.schema)
    return dataclasses.replace(like, reasons=frame)


def _thresholds(rows: int, entities: int) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame({"of": ["sample", "series"], "threshold": pl.Series([rows, entities], dtype=pl.UInt64)})


def _is_invalid(name: str) -> pl.Expr:
    """Whether a reason says that a column's value was there, but is none of its type."""
    import polars as pl

    reasons, start = pl.col("reasons"), f"column {name!r}: "
    kinds = (reasons.str.contains(start + kind, literal=True) for kind in (NOT_A_NUMBER, NOT_FINITE, NOT_A_CLASS))
    return pl.any_horizontal(*kinds)


def _looked_at(whole: pl.DataFrame, dataset: DatasetConfig) -> dict[str, dict[str, Any]]:
    """Column -> measure -> figure, from one select over all columns."""
    import polars as pl

    logarithmic = {target.name for target in dataset.targets if target.transform == "log"}
    expressions: dict[tuple[str, str], pl.Expr] = {}
    for name in dataset.numeric_columns:
        column = pl.col(stored_name(name))
        finite = column.filter(column.is_finite())
        low, high = dataset.bounds.get(name, (None, None))
        outside = (column < low) | (column > high) if low is not None else pl.lit(False)
        expressions |= {
            (name, "filled"): column.count(),
            (name, "infinite"): column.is_infinite().sum(),
            (name, "outside"): (outside & column.is_finite()).sum(),
            (name, "not_positive"): (finite <= 0).sum() if name in logarithmic else pl.lit(0),
            (name, "low"): finite.min(),
            (name, "high"): finite.max(),
        }
    for name in dataset.text_columns:
        column, allowed = pl.col(stored_name(name)), dataset.quality.categories.get(name)
        unlisted = ~column.is_in(list(allowed)) if allowed is not None else pl.lit(False)
        expressions |= {
            (name, "filled"): column.count(),
            (name, "unlisted"): (unlisted & column.is_not_null()).sum(),
            (name, "low"): column.min(),
            (name, "high"): column.max(),
        }
    row = whole.select(expression.alias(str(i)) for i, expression in enumerate(expressions.values())).row(0)
    found: dict[str, dict[str, Any]] = {}
    for (name, what), value in zip(expressions, row, strict=True):
        found.setdefault(name, {})[what] = value
    return found


def _table_counts(
    rows: int, whole: pl.DataFrame, dataset: DatasetConfig, now: dt.datetime
) -> list[tuple[str, str, int]]:
    import polars as pl

    entity = [stored_name(name) for name in dataset.entity]
    timed = whole.filter(pl.col("time").is_not_null())
    keyed = timed.drop_nulls(entity)
    moment = EXACT_TIME if dataset.time.align else "time"
    hashes = keyed.select(*entity, moment).hash_rows()
    everything = [*(stored_name(n) for n in (*dataset.text_columns, *dataset.numeric_columns)), moment]
    again = keyed.filter(hashes.is_duplicated()).select(everything)
    newest = timed["time"].max() if timed.height else None
    counts = [
        ("", "rows", rows),
        ("", "broken", rows - whole.height),
        ("", "timed", timed.height),
        ("", "future", timed.filter(pl.col("time") > now).height if newest is not None else 0),
        ("", "keyed", keyed.height),
        ("", "duplicate_keys", keyed.height - hashes.n_unique()),
        ("", "duplicate_rows", again.height - again.hash_rows().n_unique()),
    ]
    columns = set(dataset.text_columns) | set(dataset.numeric_columns)
    compare: dict[str, Callable[[Any, Any], Any]] = {
        "<=": pl.Expr.le,
        ">=": pl.Expr.ge,
        "==": pl.Expr.eq,
        "!=": pl.Expr.ne,
        "<": pl.Expr.lt,
        ">": pl.Expr.gt,
    }
    for text in dataset.quality.checks:
        check = parse_check(text, columns)
        left, right = pl.col(stored_name(check.left)), pl.col(stored_name(check.right))
        held = compare[check.operator](left, right)
        known, yes = whole.select(held.count().alias("known"), held.sum().alias("yes")).row(0)
        counts += [(text, "known", known), (text, "held", yes)]
    return counts


def _sample(whole: pl.DataFrame, dataset: DatasetConfig, sampling: Sampling) -> tuple[pl.DataFrame, int]:
    """Numeric columns of the rows with the smallest hashes of file and row."""
    import polars as pl

    hashes = _mixed(_file_hashes(whole["source_file"]) + whole["source_row"].fill_null(0).to_numpy().view(np.uint64))
    threshold = _threshold_of(sampling.row_share)
    columns = [pl.col(stored_name(name)) for name in dataset.numeric_columns]
    chosen = whole.select(pl.Series("row hash", hashes, dtype=pl.UInt64), *columns)
    return chosen.filter(pl.col("row hash") <= pl.lit(threshold, dtype=pl.UInt64)), threshold


def _smallest_rows(frame: pl.DataFrame, threshold: int, most: int) -> tuple[pl.DataFrame, int]:
    import polars as pl

    frame = frame.filter(pl.col("row hash") <= pl.lit(threshold, dtype=pl.UInt64)).sort(pl.all())
    if frame.height <= most:
        return frame, threshold
    last = int(frame["row hash"][most - 1])
    return frame.head(most), last


def _series(whole: pl.DataFrame, dataset: DatasetConfig, sampling: Sampling) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Moments, places and usable targets of all rows of the entities with the smallest hashes, and their names."""
    import pandas as pd
    import polars as pl

    keys = {f"key {n}": pl.col(stored_name(name)) for n, name in enumerate(dataset.entity)}  # a source may say "entity"
    usable = pl.col("reasons").is_null()
    targets = [
        pl.when(usable).then(pl.col(stored_name(t.name))).alias(f"target_{t.name}") for t in dataset.observed_targets
    ]
    rows = whole.filter(pl.col("time").is_not_null()).select(
        "source_file", "source_row", pl.col("time").dt.timestamp("us"), *targets, **keys
    )
    rows = rows.drop_nulls([*keys])
    known = rows.select(*keys).unique().with_columns(pl.concat_str([*keys], separator=NAME_SEPARATOR).alias("name"))
    hashes = np.zeros(known.height, dtype=np.uint64)
    for key in keys:
        hashes = _mixed(hashes ^ pd.util.hash_array(known[key].to_numpy().astype(object)))
    threshold = _threshold_of(sampling.moment_share)
    known = known.with_columns(pl.Series("entity", hashes, dtype=pl.UInt64))
    known = known.filter(pl.col("entity") <= pl.lit(threshold, dtype=pl.UInt64))
    rows = rows.with_columns(pl.Series("file", _file_hashes(rows["source_file"]), dtype=pl.UInt64))
    found = rows.join(known.drop("name"), on=[*keys], maintain_order="left").select(
        "entity",
        "time",
        "file",
        pl.col("source_row").fill_null(0).alias("row"),
        *(t.meta.output_name() for t in targets),
    )
    return found, known.select("entity", "name"), threshold


def _smallest_entities(frame: pl.DataFrame, threshold: int, most: int) -> tuple[pl.DataFrame, int]:
    """Entities in order of their hashes, as many as have `most` rows together; never a part of one."""
    import polars as pl

    frame = frame.filter(pl.col("entity") <= pl.lit(threshold, dtype=pl.UInt64)).sort(pl.all())
    if frame.height <= most:
        return frame, threshold
    sizes = frame.group_by("entity").len("rows").sort("entity").with_columns(pl.col("rows").cum_sum())
    first_out = int(sizes.filter(pl.col("rows") > most)["entity"][0])
    return frame.filter(pl.col("entity") < pl.lit(first_out, dtype=pl.UInt64)), max(0, first_out - 1)


def _days(whole: pl.DataFrame, dataset: DatasetConfig) -> pl.DataFrame:
    """Sum and rows of each usable target per UTC day."""
    import polars as pl

    good = whole.filter(pl.col("reasons").is_null() & pl.col("time").is_not_null())
    found = [
        good.select(pl.col("time").dt.date().alias("day"), pl.col(stored_name(t.name)).alias("value"))
        .filter(pl.col("value").is_finite())
        .group_by("day")
        .agg(pl.col("value").sum().alias("total"), pl.len().cast(pl.Int64).alias("rows"))
        .select(pl.lit(t.name).alias("target"), "day", "total", "rows")
        for t in dataset.observed_targets
    ]
    nothing = {"target": pl.String, "day": pl.Date, "total": pl.Float64, "rows": pl.Int64}
    return pl.concat([pl.DataFrame(schema=nothing), *found])


def _threshold_of(share: float) -> int:
    return WHOLE if share >= 1 else int(share * 2.0**64)


def _file_hashes(files: pl.Series) -> np.ndarray[Any, Any]:
    """A 64-bit number per row that stands for its file; pandas' hash is fixed, so it is the same in every task."""
    import pandas as pd
    import polars as pl

    files = files.fill_null("")
    names = files.unique().sort()
    places = files.cast(pl.Enum(names)).to_physical().to_numpy()
    hashes = _mixed(pd.util.hash_array(names.to_numpy().astype(object)))
    return np.asarray(hashes[places])


def _mixed(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """SplitMix64's finaliser (Steele, Lea & Flood 2014): neighbours come to lie anywhere."""
    z = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
