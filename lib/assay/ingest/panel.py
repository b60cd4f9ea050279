"""Consumes events of whole entities, produces observations: one row per entity and period, and what came of it.

A row's time is the start of its period. Facts are of events before that moment; values, and rules of them, are of the
period itself and those after it, so they are what a model may learn to predict, and no row knows them too early
(`EventsConfig.delay_days`).
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from assay.config import DatasetConfig
from assay.config.dataset import stored_name
from assay.config.events import BEFORE, FROM_ZERO, EventsConfig, KnownConfig, ValueConfig, columns_in, sql
from assay.errors import DataError
from assay.ingest.alignment import first_moment, period_start
from assay.ingest.labels import as_code, setting
from assay.ingest.rules import row_ids, source_names
from assay.ingest.values import as_text
from assay.runtime.arrow_files import conform_table
from assay.runtime.tables import OBSERVATIONS, SOURCE_ROWS, observation_fields

if TYPE_CHECKING:
    import polars as pl

# Columns of our own, beside those that the dataset names.
STEP, FIRST, START, AT, FACT = "\0step", "\0first", "\0start", "\0at", "\0fact"
DAY_US = 86_400_000_000


@dataclasses.dataclass(frozen=True)
class BuildPanel:
    """Kernel over events of whole entities: their observations.

    newest: time of the newest event of all.
    """

    dataset: DatasetConfig
    newest: dt.datetime

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `observations`."""
        import polars as pl

        table = pa.Table.from_batches(kept) if (kept := list(batches)) else None
        if table is None or not table.num_rows:
            return
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        schema = OBSERVATIONS.schema(observation_fields(self.dataset))
        yield from conform_table(panel(frame, self.dataset, self.newest).to_arrow(), schema)


def panel(events: pl.DataFrame, dataset: DatasetConfig, newest: dt.datetime) -> pl.DataFrame:
    """Observations of `events` rows, by entity and time. Grain: entity and period, without gaps.

    Raises:
        DataError: a rule gives a text that is none of its target's classes.
    """
    import polars as pl

    settings, entity = dataset.events, list(dataset.entity)
    assert settings is not None
    names = source_names(dataset.ingested)
    moment = dataset.time.column
    frame = events.rename({stored: name for stored, name in names.items() if stored != name})
    frame = frame.sort(*entity, moment, "source_file", "source_row")
    starts = _starts(frame[moment].min(), newest, settings.period, dataset.time.zone)
    last = len(starts) - 1
    frame = frame.with_columns((starts.search_sorted(frame[moment], side="right").cast(pl.Int64) - 1).alias(STEP))
    rows = frame.group_by(entity).agg(pl.col(STEP).min().alias(FIRST)).sort(entity)
    rows = rows.with_columns(pl.int_ranges(FIRST, last + 1, dtype=pl.Int64).alias(STEP)).explode(STEP)
    rows = rows.with_columns(starts.gather(rows[STEP]).alias(START))
    rows = _with_sources(rows, frame, entity)
    for periods in sorted({value.periods for value in settings.values.values()}):
        values = {name: value for name, value in settings.values.items() if value.periods == periods}
        rows = _with_values(rows, frame, values, entity, periods, last)
    for name, fact in settings.known.items():
        rows = _with_fact(rows, frame, name, fact, entity, moment)
    rows = _with_rules(rows, settings, entity, last)
    # In its first period an entity was not known beforehand: there was nothing to predict.
    asked = dict.fromkeys(target.source_column for target in dataset.targets)
    rows = rows.with_columns(pl.when(pl.col(STEP) > pl.col(FIRST)).then(pl.col(name)).alias(name) for name in asked)
    return _typed(rows, dataset)


def _starts(oldest: object, newest: dt.datetime, period: str, zone: str) -> pl.Series:
    """Starts of consecutive periods, UTC: the first holds the oldest event, the last one the newest."""
    import polars as pl

    ends = pl.Series([oldest, newest], dtype=pl.Datetime("us", "UTC"))
    first, last = period_start(ends, period, zone).dt.convert_time_zone(zone).dt.replace_time_zone(None)
    floors = pl.Series([first, last], dtype=pl.Datetime("us")).dt.truncate(period)
    return first_moment(pl.datetime_range(floors[0], floors[1], period, eager=True, time_unit="us"), zone)


def _with_sources(rows: pl.DataFrame, frame: pl.DataFrame, entity: Sequence[str]) -> pl.DataFrame:
    """How many events each row has, and where its last one came from."""
    import polars as pl

    found = frame.group_by(*entity, STEP, maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias(SOURCE_ROWS), pl.col("source_file", "source_row").last()
    )
    joined = rows.join(found, on=[*entity, STEP], how="left", maintain_order="left")
    return joined.with_columns(pl.col(SOURCE_ROWS).fill_null(0))


def _with_values(
    rows: pl.DataFrame,
    frame: pl.DataFrame,
    values: dict[str, ValueConfig],
    entity: Sequence[str],
    periods: int,
    last: int,
) -> pl.DataFrame:
    """Values over so many periods; missing where the last of them holds the newest event of all, or comes after it."""
    import polars as pl

    # An event counts in its own period, and in the rows of those before it that look so far ahead.
    seen = pl.concat([frame.with_columns(pl.col(STEP) - back) for back in range(periods)])
    found = seen.group_by(*entity, STEP).agg(_aggregate(value).alias(name) for name, value in values.items())
    joined = rows.join(found, on=[*entity, STEP], how="left", maintain_order="left")
    over = pl.col(STEP) + periods <= last
    return joined.with_columns(
        pl.when(over)
        .then(pl.col(name).fill_null(0.0) if set(value.told) & set(FROM_ZERO) else pl.col(name))
        .alias(name)
        for name, value in values.items()
    )


def _aggregate(value: ValueConfig) -> pl.Expr:
    import polars as pl

    ((how, text),) = value.told.items()
    of = sql(text)
    where = sql(value.where) if value.where else pl.lit(True)
    if how == "any":
        return (of & where).any().cast(pl.Float64)
    chosen = of.filter(where).drop_nulls()
    if how in {"count", "distinct"}:
        return (chosen.len() if how == "count" else chosen.n_unique()).cast(pl.Float64)
    found: pl.Expr = getattr(chosen.cast(pl.Float64), how)()
    return found


def _with_fact(
    rows: pl.DataFrame, frame: pl.DataFrame, name: str, fact: KnownConfig, entity: Sequence[str], moment: str
) -> pl.DataFrame:
    """A fact of the events before each row's start; missing where there is none."""
    import polars as pl

    ((what, text),) = fact.told.items()
    given = sql(text).alias(FACT)
    seen = frame.select(*entity, pl.col(moment).alias(AT), given)
    seen = seen.drop_nulls(FACT) if what == "last" else seen.filter(pl.col(FACT))
    if what == "days_since_first":
        seen = seen.group_by(entity, maintain_order=True).first()
    found = rows.sort(START).join_asof(
        seen.sort(AT, maintain_order=True),
        left_on=START,
        right_on=AT,
        by=list(entity),
        strategy="backward",
        allow_exact_matches=False,
        check_sortedness=False,  # both are sorted, which is not checked with `by`
    )
    days = (pl.col(START) - pl.col(AT)).dt.total_microseconds() / DAY_US
    found = found.with_columns((pl.col(FACT) if what == "last" else days).alias(name))
    return found.drop(FACT, AT, strict=False).sort(*entity, STEP)


def _with_rules(rows: pl.DataFrame, settings: EventsConfig, entity: Sequence[str], last: int) -> pl.DataFrame:
    """Rules of each row's values; missing where a value of theirs is not known yet."""
    import polars as pl

    read = {name for rule in settings.rules.values() for name in columns_in(rule)}
    before = [name for name in settings.values if f"{name}{BEFORE}" in read]
    rows = rows.with_columns(
        pl.when(pl.col(name) != 0)
        .then(pl.col(name))
        .forward_fill()
        .shift(settings.values[name].periods)
        .over(entity)
        .alias(f"{name}{BEFORE}")
        for name in before
    )
    return rows.with_columns(
        pl.when(pl.col(STEP) + settings.periods(name) <= last).then(sql(rule)).alias(name)
        for name, rule in settings.rules.items()
    )


def _typed(rows: pl.DataFrame, dataset: DatasetConfig) -> pl.DataFrame:
    """Columns of `observations`, under their stored names and types."""
    import polars as pl

    columns = [rows[START].alias("time"), rows[SOURCE_ROWS], rows["source_file"], rows["source_row"]]
    columns += [as_text(rows[name]).alias(stored_name(name)) for name in dataset.text_columns]
    for name in dataset.numeric_columns:
        if name not in dataset.labels:
            number = rows[name].cast(pl.Float64)
            columns.append(number.set(~number.is_finite(), None).alias(stored_name(name)))
            continue
        target = dataset.labels[name]
        code, bad = as_code(rows[target.source_column], target)
        if bad.any():
            found = rows[target.source_column].filter(bad)[0]
            raise DataError(
                f"events make {found!r} of {target.source_column!r} in {bad.sum():,} row(s), which is none of the "
                f"classes; change {setting(target)}, or the expression in dataset.events"
            )
        columns.append(code.alias(stored_name(name)))
    frame = pl.DataFrame(columns)
    return frame.with_columns(row_ids(frame, dataset), month=pl.col("time").dt.strftime("%Y-%m"))
