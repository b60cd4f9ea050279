"""Consumes raw columns, produces what each holds: times, numbers, texts or truths, and how many."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np
import polars as pl

from assay.describing.names import CODE, KEY, words
from assay.describing.sampling import Sample
from assay.describing.times import Times, times_in
from assay.ingest.values import as_number, as_text

Codes = np.ndarray[Any, Any]
MARKERS = frozenset(
    {"?", "-", "--", ".", "n/a", "na", "nan", "none", "null", "nil", "missing", "#n/a", "#value!", "unknown"}
)
MOST_MARKERS = 0.5  # of the filled cells
STRAY = 0.001  # texts among numbers, which go to the quarantine
GROUPED = (
    r"^\s*[-(]?\s*[$€£¥]?\s*-?\d{1,3}(,\d{3})+(\.\d+)?\s*\)?$|^\s*[$€£¥]\s*-?\d|^-?\d+(\.\d+)?\s*[%€£$]$|^-?\d+,\d+$"
)


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the sample.

    values: times in UTC, float64, or text. codes: the same as dense numbers, 0 for missing; (rows,). distinct: values,
    missing left out. missing: share of rows. whole: numbers without a fraction. markers: texts that mean "no value"
    and are none by default. trouble: why it can't be used as it is.
    """

    name: str
    kind: Literal["time", "number", "text", "truth"]
    values: pl.Series
    codes: Codes
    distinct: int
    missing: float
    whole: bool = False
    times: Times | None = None
    markers: tuple[str, ...] = ()
    trouble: str = ""

    @property
    def numbers(self) -> Codes:
        """float64 values, NaN where missing; of texts their codes in order of their values. Shape: (rows,)."""
        if self.kind == "number":
            return self.values.to_numpy()
        return np.where(self.codes == 0, np.nan, self.codes.astype(float))

    @property
    def constant(self) -> bool:
        """Whether it says nothing."""
        return self.distinct == 0 or (self.distinct == 1 and self.missing == 0)

    @property
    def running(self) -> bool:
        """Numbers of rows: whole, each once, hardly one left out."""
        if not self.whole or self.missing or self.distinct < 0.99 * len(self.codes) or self.distinct < 10:
            return False
        return float(np.mean(np.diff(np.sort(self.values.to_numpy())) == 1)) > 0.8

    @property
    def like_years(self) -> bool:
        """Whole numbers between 1700 and 2200."""
        least, most = self.span
        return self.whole and least >= 1700 and most <= 2200

    @property
    def like_codes(self) -> bool:
        """Whole numbers that lie close together far from 0, such as 98178: names, not amounts."""
        least, most = self.span
        near = (most - least) < (0.5 if words(self.name) & (KEY | CODE) else 0.05) * least
        return self.whole and least >= 1000 and near and not self.like_years

    @property
    def span(self) -> tuple[float, float]:
        """Least and greatest number; 0 and 0 where there is none."""
        least, most = self.values.min(), self.values.max()
        return (float(least), float(most)) if self.kind == "number" and least is not None else (0.0, 0.0)  # type: ignore[arg-type]


def columns_of(sample: Sample) -> dict[str, Column]:
    """Every column of a sample by its name."""
    return {name: _column(sample.frame[name], sample.typed) for name in sample.names}


def _column(raw: pl.Series, typed: bool) -> Column:
    name, rows = raw.name, len(raw)
    found = times_in(raw)
    if found is not None and found.read > 0.9:
        return column_of(name, "time", found.values, times=found)
    if raw.dtype == pl.Boolean:
        return column_of(name, "truth", raw.cast(pl.String))
    number, bad = as_number(raw)
    filled = rows - number.null_count() - int(number.is_nan().sum() or 0) + int(bad.sum())
    if raw.dtype.is_numeric() or (raw.dtype == pl.String and filled and not _coded(raw)):
        wrong = raw.filter(bad).str.strip_chars().unique().to_list() if bad.any() else []
        markers = tuple(sorted(text for text in wrong if text.casefold() in MARKERS))
        known = bad & raw.str.strip_chars().is_in(markers) if markers and not typed else pl.Series([False] * rows)
        stray = int(bad.sum()) - int(known.sum())
        if stray <= STRAY * filled and int(bad.sum()) <= MOST_MARKERS * filled:
            endless = int(number.is_infinite().sum() or 0)
            number = number.set(~number.is_finite(), None)
            inside = number.drop_nulls()
            whole = bool((inside == inside.round(0)).all()) if len(inside) else False
            wrong_ones = stray + endless
            told = f"{wrong_ones:,} of {rows:,} values are no finite numbers: ingest sets those rows aside"
            told = told if wrong_ones else ""
            shown = () if typed else markers
            return column_of(name, "number", number.alias(name), whole=whole, markers=shown, trouble=told)
    text = as_text(raw)
    sample = text.drop_nulls()
    grouped = len(sample) and float(sample.str.contains(GROUPED).mean() or 0) > 0.95  # type: ignore[arg-type]
    trouble = (
        f"looks like numbers, written as {sample[0]!r}: take signs and commas out in the source" if grouped else ""
    )
    kind: Literal["truth", "text"] = "truth" if set(sample.unique().str.to_lowercase()) == {"true", "false"} else "text"
    return column_of(name, kind, text, trouble=trouble)


def _coded(raw: pl.Series) -> bool:
    """Texts of digits that are names, such as 00501."""
    return bool(raw.str.contains(r"^\s*0\d").any())


def column_of(name: str, kind: Any, values: pl.Series, **more: Any) -> Column:
    """A column of values of a kind. more: what else is known of it."""
    rows = len(values)
    codes = values.rank("dense").fill_null(0).to_numpy().astype(np.int64)
    distinct = int(codes.max()) if rows else 0
    return Column(name, kind, values, codes, distinct, values.null_count() / rows, **more)


def joined(*codes: Codes) -> Codes:
    """One dense code per combination. Each: (rows,)."""
    together = codes[0]
    for other in codes[1:]:
        together = together * (int(other.max()) + 1) + other
        if len(codes) > 2:
            together = pl.Series(together).rank("dense").to_numpy().astype(np.int64)
    return together


def count_distinct(*codes: Codes) -> int:
    """How many combinations there are."""
    return pl.Series(joined(*codes)).n_unique()


def determined(by: Codes, what: Codes, least: float = 0.0) -> float:
    """Share of rows whose value of `what` is the commonest one of their value of `by`, of values that come repeatedly.

    0 where none comes repeatedly, or, for short, where it cannot be `least`: each further value costs a row or more.
    """
    if least and count_distinct(by, what) - count_distinct(by) > (1 - least) * len(by):
        return 0.0
    pairs = pl.DataFrame({"by": by, "what": what}).group_by("by", "what").len()
    groups = pairs.group_by("by").agg(pl.col("len").sum().alias("rows"), pl.col("len").max().alias("most"))
    often = groups.filter(pl.col("rows") > 1)
    rows = int(often["rows"].sum())
    return int(often["most"].sum()) / rows if rows else 0.0


def ranks(values: Codes) -> Codes:
    """Average ranks; NaN stays NaN. Shape: (rows,)."""
    return pl.Series(values).fill_nan(None).rank("average").fill_null(math.nan).to_numpy()
