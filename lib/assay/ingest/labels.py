"""Consumes a raw column of classes, produces the code of each value, and what is wrong with the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.config import TargetConfig
from assay.ingest.values import as_number, as_text, when

if TYPE_CHECKING:
    import polars as pl

NOT_A_CLASS = "none of its classes"


def as_code(column: pl.Series, target: TargetConfig) -> tuple[pl.Series, pl.Series]:
    """Codes as float64 (of a binary target 1 where positive), null where missing, and which values are no class.

    Texts are compared without the blanks around them, and whole numbers as `as_text` writes them.
    """
    import polars as pl

    if target.task == "binary" and target.positive is None:
        found, bad = as_number(column.cast(pl.Int8) if column.dtype == pl.Boolean else column)
        bad = bad | (found.is_not_nan() & ~found.is_in([0.0, 1.0])).fill_null(False)
        return found.fill_nan(None).set(bad, None), bad
    text, names = as_text(column), target.class_names
    if target.task == "binary" and target.negative is None:
        return (text == names[1]).cast(pl.Float64), text.is_null() & False
    codes = {name: float(code) for code, name in enumerate(names)}
    found = text.replace_strict(codes, default=None, return_dtype=pl.Float64)
    return found, text.is_not_null() & found.is_null()


def code_rule(bad: pl.Series, target: TargetConfig) -> list[pl.Series]:
    """The reason why values that are no class cannot be used; nothing where all are one."""
    return when(bad, f"column {target.source_column!r}: {NOT_A_CLASS} ({setting(target)})")


def setting(target: TargetConfig) -> str:
    """The setting that says which classes there are, and what it says."""
    if target.task == "multiclass":
        return f"dataset.targets.classes of {target.name!r}"
    if target.positive is None:
        return f"dataset.targets.positive of {target.name!r}: without it values are 0 and 1"
    return f"dataset.targets.positive and negative of {target.name!r}"


def as_class(codes: pl.Series, target: TargetConfig) -> pl.Series:
    """The classes of codes, as text; null where missing."""
    import polars as pl

    names = {float(code): name for code, name in enumerate(target.class_names)}
    return codes.replace_strict(names, default=None, return_dtype=pl.String)
