"""Consumes columns and a target, produces columns that tell it: other writings of it, and what is known only after."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np
import polars as pl

from assay.describing.columns import Codes, Column, determined
from assay.describing.granularity import Looked, rank_correlation
from assay.describing.names import AFTER, words

TWIN = 0.99  # rank correlation
EXACT = 0.9999  # correlation of what is left of a product or a sum
TELLS = 0.98  # share of the variance, or of the rows, that a column's value determines
AFTERWARDS = 0.8  # association of a column whose name says that it is known only after
BINS = 200
PAIRED_ROWS = 5_000
MOST_PAIRED = 60  # columns


@dataclasses.dataclass(frozen=True)
class Leak:
    """column: it tells the target. why: with figures. past: whether its past may still be used."""

    column: str
    why: str
    past: bool


def find_leaks(target: str, looked: Looked, names: list[str]) -> dict[str, Leak]:
    """Columns of `names` that a row has of its own and that tell the row's target."""
    own = looked.columns[target]
    found: dict[str, Leak] = {}
    for name in names:
        column = looked.columns[name]
        # What an entity, or all rows of a time, have in common cannot tell a row's own target.
        if looked.grains.get(name, "own") in {"own", "held"} and not column.constant:
            leak = _tells(column, own, looked)
            if leak is not None:
                found[name] = leak
    if own.kind == "number" and own.distinct > BINS:
        rest = [n for n in names if n not in found and looked.grains.get(n, "own") == "own"]
        found |= {leak.column: leak for leak in _pairs(own, looked.columns, rest) if leak.column not in found}
    return found


def _tells(column: Column, target: Column, looked: Looked) -> Leak | None:
    history = looked.entity.has_history
    if column.kind == "number" and target.kind == "number" and target.distinct > 2:
        rank = rank_correlation(column.numbers, target.numbers)
        if abs(rank) > TWIN:
            rewritten = abs(rank) > EXACT and determined(column.codes, target.codes, TELLS) > TELLS
            what = "another writing of the target" if rewritten else "goes with the target"
            return Leak(column.name, f"{what}: rank correlation {rank:.4f}", False)
        if abs(rank) > AFTERWARDS and words(column.name) & AFTER:
            return Leak(column.name, f"its name says that it is known only after; rank correlation {rank:.2f}", history)
    missing = _missing_tells(column, target)
    if missing:
        return Leak(column.name, missing, False)
    share = explained(column, target)
    if share > TELLS:
        return Leak(column.name, f"its values tell {share:.1%} of the target", history and column.kind == "number")
    if share > AFTERWARDS and words(column.name) & AFTER:
        return Leak(column.name, f"its name says that it is known only after; tells {share:.0%} of the target", history)
    return None


def _missing_tells(column: Column, target: Column) -> str:
    """Filled for one class of the target alone, such as the reason why customers left."""
    if not 0.01 < column.missing < 0.99 or (target.distinct > 20 and target.kind == "number"):
        return ""
    filled = (column.codes > 0).astype(np.int64)
    if determined(filled, target.codes) > TELLS and target.distinct == 2:
        return f"filled or missing as the target is one class or the other, in {determined(filled, target.codes):.1%}"
    return ""


def explained(column: Column, target: Column) -> float:
    """How much of the target a column's value tells, 0 to 1, beyond what chance gives.

    Of numbers the share of the variance of ranks between values (numbers in `BINS` bins of equal counts), adjusted for
    their count; of classes the share of the errors of the commonest one that knowing the value avoids.
    """
    codes = _bins(column.codes) if column.distinct > BINS else column.codes
    groups = int(codes.max()) + 1
    rows = len(codes)
    if rows < 5 * groups:
        return 0.0
    if target.kind == "number" and target.distinct > 2:
        values = target.numbers
        known = np.isfinite(values)
        return variance_between(codes[known], pl.Series(values[known]).rank("average").to_numpy())
    classes = target.codes
    base = np.bincount(classes).max() / rows
    counts = pl.DataFrame({"by": codes, "what": classes}).group_by("by", "what").len()
    right = int(counts.group_by("by").agg(pl.col("len").max())["len"].sum()) / rows
    return float((right - base) / (1 - base)) if base < 1 else 0.0


def variance_between(codes: Codes, values: Codes) -> float:
    """Adjusted share of the variance of values between groups; below 0 is 0. Both: (rows,)."""
    counts = np.bincount(codes)
    means = np.bincount(codes, values) / np.maximum(counts, 1)
    groups, rows = int((counts > 0).sum()), len(values)
    total = float(((values - values.mean()) ** 2).sum())
    if rows <= groups or not total:
        return 0.0
    inside = float(((values - means[codes]) ** 2).sum())
    return max(0.0, 1 - (inside / (rows - groups)) / (total / (rows - 1)))


def _bins(codes: Codes) -> Codes:
    filled = codes > 0
    place = pl.Series(np.where(filled, codes, 0)).rank("average").to_numpy()
    return np.asarray(np.where(filled, 1 + place * BINS // (len(codes) + 1), 0), dtype=np.int64)


def _pairs(target: Column, columns: Mapping[str, Column], names: list[str]) -> list[Leak]:
    """Two columns whose product, quotient, sum or difference is the target: the one that is made of it leaks."""
    numbers = [columns[n] for n in names if columns[n].kind == "number" and columns[n].distinct > 2][:MOST_PAIRED]
    rows = np.linspace(0, len(target.codes) - 1, min(PAIRED_ROWS, len(target.codes))).astype(int)
    values = {c.name: c.numbers[rows] for c in numbers}
    own = target.numbers[rows]
    found = []
    for scale, sign in (("log", "times"), ("log", "over"), ("plain", "plus"), ("plain", "minus")):
        for one, other in itertools.permutations(numbers, 2):
            if sign in {"times", "plus"} and one.name > other.name:
                continue
            if _makes(own, values[one.name], values[other.name], scale, sign):
                derived = _made(one, other)
                why = f"{one.name!r} {sign} {other.name!r} is the target: what is left agrees to {EXACT:.2%}"
                found.append(Leak(derived.name, why, False))
    return found


def _makes(target: Codes, one: Codes, other: Codes, scale: str, sign: str) -> bool:
    if scale == "log":
        usable = (target > 0) & (one > 0) & (other > 0)
        if usable.sum() < 0.5 * len(target) or usable.sum() < 20:
            return False
        target, one, other = (np.log(v[usable]) for v in (target, one, other))
    else:
        usable = np.isfinite(target) & np.isfinite(one) & np.isfinite(other)
        if usable.sum() < 20:
            return False
        target, one, other = (v[usable] for v in (target, one, other))
    left = target - one if sign in {"times", "plus"} else one - target
    spread = other.std()
    if not spread or not target.std() or not one.std():
        return False
    # Both must matter: where one alone is the target, the other one says nothing.
    if min(spread, one.std()) < 0.05 * target.std():
        return False
    return bool(np.std(left - other) < np.sqrt(1 - EXACT**2) * spread)


def _made(one: Column, other: Column) -> Column:
    """Of the two the one that is made of the target: with a fraction, else of more values."""
    if one.whole != other.whole:
        return other if one.whole else one
    return max(one, other, key=lambda column: column.distinct)
