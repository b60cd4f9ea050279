"""Consumes the body of a request, produces raw rows to be priced and their history as typed rows, or a clear refusal.

Rows go through the rules of ingest, so that a value means here what it means in the source's files. What is wrong with
the request as a whole is refused; what is wrong with one row is said of that row, and the others are priced.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pyarrow as pa

from assay.config import DatasetConfig
from assay.config.dataset import LAST_YEAR, stored_name
from assay.config.strict import nearest
from assay.errors import UserError
from assay.ingest.csv_rows import RawChunk
from assay.ingest.json_rows import column_of
from assay.ingest.rules import CheckRows, ResolveDuplicates, checked_schema
from assay.serving.keyed import polars_of

if TYPE_CHECKING:
    import polars as pl

AS_TEXT = frozenset({"auto", "csv", "json"})  # formats whose values are read as text, unless the file is Parquet
NEVER = dt.datetime(LAST_YEAR, 12, 31, tzinfo=dt.timezone.utc)
WHOLE = range(-(2**63), 2**63)
Records = Sequence[Mapping[str, Any]]


class BadRequest(UserError):
    """A mistake in a request. status: HTTP's code for it."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a request may have. rows: to be priced.  history: rows sent along.  body_mb: of its text."""

    rows: int = 10_000
    history: int = 200_000
    body_mb: float = 64.0


@dataclasses.dataclass(frozen=True)
class Raw:
    """Raw rows whose columns and sizes are right.

    kinds: column -> the type of its values, None where all are null; where a column has several types there is none.
    """

    rows: Records
    history: Records
    kinds: Mapping[str, type | None] | None

    def goes_with(self, other: Raw) -> bool:
        """Whether the rows of both have the same meaning in one frame as in two."""
        mine, its = self.kinds, other.kinds
        if mine is None or its is None or mine.keys() != its.keys() or self.history or other.history:
            return False
        return all(its[name] in {None, kind} or kind is None for name, kind in mine.items())


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request that can be answered.

    rows: of `observations`, to be priced, with ``place``, their place in the request.  history: of `observations`.
    wrong: place -> why that row cannot be priced.  total: rows of the request.
    """

    rows: pl.DataFrame
    history: pl.DataFrame
    wrong: Mapping[int, str]
    total: int


def parsed(body: bytes) -> tuple[Records, Records]:
    """Rows and history of ``{"rows": [...], "history": [...]}``.

    In place of ``rows`` MLflow's forms are understood: ``dataframe_records`` and ``dataframe_split``.

    Raises:
        BadRequest: it is no such thing; 400 where it is no JSON.
    """

    def constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is no JSON value, write null")

    try:
        tree = json.loads(body, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is no JSON: {' '.join(str(error).split())[:200]}", 400) from None
    forms = ("rows", "dataframe_records", "dataframe_split")
    known = (*forms, "history")
    if not isinstance(tree, dict) or sum(form in tree for form in forms) != 1:
        raise BadRequest('the body must be an object such as {"rows": [{column: value}], "history": []}', 400)
    for name in tree:
        if name not in known:
            raise BadRequest(f"unknown key {name!r}{nearest(name, known)} (known: {', '.join(known)})", 400)
    form = next(form for form in forms if form in tree)
    rows = _split(tree[form]) if form == "dataframe_split" else _objects(tree[form], form)
    return rows, _objects(tree.get("history") or [], "history")


def _objects(value: Any, what: str) -> Records:
    if not isinstance(value, list):
        raise BadRequest(f"{what}: expected a list of objects, one per row")
    for place, row in enumerate(value):
        if not isinstance(row, dict):
            raise BadRequest(f"{what}[{place}]: expected an object of columns and values")
    return value


def _split(value: Any) -> Records:
    names, rows = (value.get(key) if isinstance(value, dict) else None for key in ("columns", "data"))
    if not isinstance(names, list) or not isinstance(rows, list):
        raise BadRequest("dataframe_split: expected an object with columns and data")
    for place, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            raise BadRequest(f"dataframe_split.data[{place}]: expected a list of {len(names)} values")
    return [dict(zip(names, row, strict=True)) for row in rows]


@dataclasses.dataclass(frozen=True)
class Reader:
    """Raw rows -> rows as `observations` has them.

    history: source columns whose past the model looks at, which history that is sent along must have.
    """

    dataset: DatasetConfig
    history: tuple[str, ...]
    limits: Limits = Limits()

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns that every row must have."""
        return (*self.dataset.time_columns, *self.dataset.entity)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns that a row to be priced has: all but targets and outcomes, which are not known at its time."""
        kept = {*self.dataset.text_columns, *self.dataset.columns.numeric, *self.dataset.time_columns}
        return tuple(name for name in self.dataset.source_columns if name in kept)

    def raw(self, rows: Records, history: Records) -> Raw:
        """A request whose columns and sizes are right; values are not looked at yet.

        Raises:
            BadRequest: no or too many rows, an unknown or missing column, or a value that is a list or an object.
        """
        for what, found, most in (("rows", rows, self.limits.rows), ("history", history, self.limits.history)):
            if len(found) > most:
                raise BadRequest(f"{what}: {len(found):,} rows, at most {most:,} are taken (--max-{what})", 413)
        if not rows:
            raise BadRequest("rows: there are none")
        self._check_columns(rows, "rows", self.inputs)
        if history:
            self._check_columns(history, "history", (*self.keys, *self.history))
        types = {name: _types(rows, name) - {type(None)} for name in self.inputs}
        if any(len(found) > 1 or (int in found and not _whole(rows, name)) for name, found in types.items()):
            return Raw(rows, history, None)
        return Raw(rows, history, {name: next(iter(found), None) for name, found in types.items()})

    def _check_columns(self, records: Records, what: str, needed: Sequence[str]) -> None:
        known = self.dataset.source_columns
        given = dict.fromkeys(name for row in records for name in row)
        for name in given:
            if name not in known:
                place = next(i for i, row in enumerate(records) if name in row)
                hint = nearest(name, known) or f" (the source has {', '.join(known)})"
                raise BadRequest(f"{what}[{place}]: unknown column {name!r}{hint}")
            for bad in {list, dict} & _types(records, name):
                place = next(i for i, row in enumerate(records) if type(row.get(name)) is bad)
                raise BadRequest(f"{what}[{place}]: column {name!r}: expected one value, found a {bad.__name__}")
        for name in needed:
            if name not in given:
                raise BadRequest(f"{what}: column {name!r} is missing from all rows; write null where it is not known")

    def read(self, requests: Sequence[Raw]) -> list[Asked | BadRequest]:
        """Rows to be priced and their history; of a request that cannot be answered, why.

        That is one of which no row can be used, or a row of the history cannot. Several requests must go with each
        other.
        """
        import polars as pl

        checked = self._checked([row for raw in requests for row in raw.rows], self.inputs, NEVER)
        found: list[Asked | BadRequest] = []
        first = 0
        for raw in requests:
            mine = checked[first : first + len(raw.rows)].with_row_index("place")
            first += len(raw.rows)
            bad = mine.filter(pl.col("reasons").is_not_null())
            if bad.height == mine.height:
                found.append(BadRequest(f"rows[0]: {bad['reasons'][0]}"))
                continue
            asked, wrong = mine.filter(pl.col("reasons").is_null()), dict(bad.select("place", "reasons").iter_rows())
            try:
                found.append(Asked(asked, self._past(mine, raw.history), wrong, mine.height))
            except BadRequest as error:
                found.append(error)
        return found

    def _past(self, rows: pl.DataFrame, history: Records) -> pl.DataFrame:
        """The history of some rows as ingest would keep it: doubles resolved, rows of a period merged."""
        import polars as pl

        schema = checked_schema(self.dataset)
        if not history:
            return polars_of(schema.empty_table())
        past = self._checked(history, self.dataset.source_columns, dt.datetime.now(dt.timezone.utc))
        wrong = past.with_row_index("place").filter(pl.col("reasons").is_not_null()).head(1)
        for place, reason in wrong.select("place", "reasons").iter_rows():
            raise BadRequest(f"history[{place}]: {reason}")
        kernel = ResolveDuplicates(self.dataset)
        resolved = polars_of(pa.Table.from_batches(list(kernel(iter(past.to_arrow().cast(schema).to_batches())))))
        past = resolved.filter(pl.col("reasons").is_null())
        self._check_order(rows, past)
        return past

    def _checked(self, records: Records, columns: Sequence[str], now: dt.datetime) -> pl.DataFrame:
        """Rows of `checked_schema` in their order. columns: those that are read, the others are null."""
        import polars as pl

        wanted = frozenset(columns)
        frame = pl.DataFrame([self._column(n, records, read=n in wanted) for n in self.dataset.source_columns])
        batches = list(CheckRows(self.dataset, now).check(RawChunk(frame, np.arange(len(records))), "request"))
        return polars_of(pa.Table.from_batches(batches, checked_schema(self.dataset)))

    def _column(self, name: str, records: Records, *, read: bool) -> pl.Series:
        import polars as pl

        values = [row.get(name) for row in records] if read else [None] * len(records)
        if self._as_text:
            return column_of(name, values, frozenset(self.dataset.source.null_values))
        kinds = {type(value) for value in values if value is not None}
        if kinds == {int} and not _whole(records, name):
            kinds = {float}
        if len(kinds) > 1 and kinds != {int, float}:  # what is no number is then a mistake of its own row
            return column_of(name, values, frozenset())
        types: dict[type, Any] = {bool: pl.Boolean, int: pl.Int64, float: pl.Float64, str: pl.String}
        kind = float if len(kinds) > 1 else next(iter(kinds), None)
        if kind is float:
            values = [None if value is None else float(value) for value in values]
        return pl.Series(name, values, dtype=types[kind] if kind is not None else pl.Null)

    @property
    def _as_text(self) -> bool:
        """Whether the source's values are texts: those of CSV and JSON are, those of Parquet and tables have types."""
        source = self.dataset.source
        if source.format == "auto":
            return not source.path.endswith((".parquet", ".pq"))
        return source.format in AS_TEXT

    def _check_order(self, rows: pl.DataFrame, past: pl.DataFrame) -> None:
        """Refuse history that no row to be priced can look back on: it is not earlier than the newest of its entity."""
        import polars as pl

        entity = [stored_name(name) for name in self.dataset.entity]
        newest = rows.group_by(entity).agg(pl.col("time").max().alias("newest"), there=pl.lit(True))
        found = past.join(newest, on=entity, how="left", nulls_equal=True, maintain_order="left")
        late = found.filter(pl.col("there").is_null() | (pl.col("time") >= pl.col("newest"))).head(1)
        for row in late.iter_rows(named=True):
            who = ", ".join(f"{name}={row[stored]}" for name, stored in zip(self.dataset.entity, entity, strict=True))
            if row["there"] is None:
                raise BadRequest(f"history: a row of {who}, of which there is no row to be priced")
            raise BadRequest(
                f"history: a row of {who} at {row['time'].isoformat()}, and the newest row to be priced of it is at "
                f"{row['newest'].isoformat()}: history must be earlier"
            )


def _types(records: Records, name: str) -> set[type]:
    return {type(row.get(name)) for row in records}


def _whole(records: Records, name: str) -> bool:
    """Whether whole numbers of a column are no longer than 64 bits."""
    return all(value is None or value in WHOLE for value in (row.get(name) for row in records))
