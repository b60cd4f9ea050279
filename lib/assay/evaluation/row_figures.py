"""Consumes columns of evaluated rows, produces what is summed of each row, and figures from the sums.

`actual`, `prediction`, per level `lower_<label>` and `upper_<label>` (null: no interval; infinite: no bound), and,
where a direction means something, `reference value`: what the outcome went up or down from, known before it.
"""

from __future__ import annotations

import polars as pl

from assay.metrics import WITHIN_PERCENTS

REFERENCE = "reference value"  # stored names have no blanks
PER_LEVEL = (
    *("coverage", "width", "interval_score", "below_share", "above_share", "infinite_share", "missing_share"),
    *("pinball", "shortfall", "lower_value", "bounded_value", "bounded_actual"),
)
DIRECTION = ("moved", "called", "right", "returns")


def per_row(labels: dict[str, float], *, reference: bool = False, relative: bool = True) -> list[pl.Expr]:
    """Columns per row, computed once, so that `additive` is plain sums and counts. Null: left out."""
    actual, prediction = pl.col("actual"), pl.col("prediction")
    error = prediction - actual
    columns = [
        actual,
        error.alias("error"),
        pl.when(actual != 0).then(error.abs() / actual.abs()).alias("ape"),
        pl.col("time"),
    ]
    for label, level in labels.items():
        columns += [expression.alias(f"{name}_{label}") for name, expression in _of_level(label, level).items()]
    if reference:
        columns += [expression.alias(name) for name, expression in _direction(relative=relative).items()]
    return columns


def _of_level(label: str, level: float) -> dict[str, pl.Expr]:
    actual, alpha = pl.col("actual"), 1 - level
    low, high = pl.col(f"lower_{label}").fill_nan(None), pl.col(f"upper_{label}").fill_nan(None)
    given = low.is_not_null() & high.is_not_null()
    finite = low.is_finite() & high.is_finite()
    miss = (low - actual).clip(lower_bound=0) + (actual - high).clip(lower_bound=0)
    score = high - low + 2 / alpha * miss
    return {
        "coverage": pl.when(given).then((low <= actual) & (actual <= high)),
        "width": pl.when(finite).then(high - low),
        "interval_score": pl.when(finite).then(score),
        "below_share": pl.when(given).then(actual < low),
        "above_share": pl.when(given).then(actual > high),
        "infinite_share": pl.when(given).then(~finite),
        "missing_share": ~given,
        # Of both ends, as quantiles at alpha / 2 and 1 - alpha / 2: their pinball losses add up to alpha / 2 scores.
        "pinball": pl.when(finite).then(alpha / 4 * score),
        "shortfall": pl.when(low.is_finite() & (actual < low)).then(low - actual),
        "lower_value": pl.when(low.is_finite()).then(low),
        "bounded_value": pl.when(low.is_finite()).then(pl.col("prediction")),
        "bounded_actual": pl.when(low.is_finite()).then(actual),
    }


def _direction(*, relative: bool) -> dict[str, pl.Expr]:
    """Of rows with a reference: whether the outcome moved, whether that was called, and what following it gave."""
    reference = pl.col(REFERENCE).fill_nan(None)
    moved, called = pl.col("actual") - reference, pl.col("prediction") - reference
    gain = called.sign() * moved
    return {
        "moved": moved != 0,
        "called": (moved != 0) & (called != 0),
        "right": (moved.sign() == called.sign()) & (moved != 0),
        "returns": pl.when(reference != 0).then(gain / reference.abs()) if relative else gain,
    }


def additive(labels: dict[str, float], present: list[str]) -> list[pl.Expr]:
    """Aggregates of `per_row` that add up, as `Tally.merge` does it. present: columns that there are."""
    actual, error, ape = pl.col("actual"), pl.col("error"), pl.col("ape")
    found = [
        pl.len().cast(pl.Int64).alias("rows"),
        actual.mean().alias("mean"),
        (actual.var(ddof=0) * pl.len()).alias("m2"),
        actual.min().alias("lowest"),
        actual.max().alias("highest"),
        pl.col("time").min().alias("first"),
        pl.col("time").max().alias("last"),
        error.sum().alias("error_sum"),
        error.abs().sum().alias("error_abs"),
        error.pow(2).sum().alias("error_squared"),
        ape.count().cast(pl.Int64).alias("ape_rows"),
        ape.sum().alias("ape_sum"),
        *((ape <= p / 100).sum().cast(pl.Int64).alias(f"within_{p}") for p in WITHIN_PERCENTS),
    ]
    names = [f"{name}_{label}" for label in labels for name in PER_LEVEL]
    for name in [*names, *(name for name in DIRECTION if name in present)]:
        found += [pl.col(name).cast(pl.Float64).sum().alias(f"{name}_sum")]
        found += [pl.col(name).count().cast(pl.Int64).alias(f"{name}_rows")]
    return found


def figures(labels: dict[str, float], present: list[str]) -> dict[str, pl.Expr]:
    """Metric -> its expression over merged sums; null where no row is left to average. Units as in `metrics.py`."""
    rows = pl.col("rows")
    constant = pl.col("lowest") == pl.col("highest")
    ape_rows = pl.col("ape_rows")
    found = {
        "r2": pl.when(~constant).then(1 - pl.col("error_squared") / pl.col("m2")),
        "rmse": (pl.col("error_squared") / rows).sqrt(),
        "mae": pl.col("error_abs") / rows,
        "bias": pl.col("error_sum") / rows,
        "mape": pl.when(ape_rows > 0).then(pl.col("ape_sum") / ape_rows),
        **{
            f"within_{p}pct": pl.when(ape_rows > 0).then(100 * pl.col(f"within_{p}") / ape_rows)
            for p in WITHIN_PERCENTS
        },
        "zero_actuals": rows - ape_rows,
        "pinball_50": pl.col("error_abs") / rows / 2,
    }
    for label in labels:
        found |= {f"{name}_{label}": _mean(f"{name}_{label}") for name in PER_LEVEL[:8]}
        below = pl.col(f"shortfall_{label}_rows")
        found[f"shortfall_{label}"] = pl.when(below > 0).then(pl.col(f"shortfall_{label}_sum") / below)
        found[f"lower_total_{label}"] = _total(f"lower_value_{label}", label)
        found[f"predicted_total_{label}"] = _total(f"bounded_value_{label}", label)
        found[f"actual_total_{label}"] = _total(f"bounded_actual_{label}", label)
    if "moved_sum" in present:
        moved, called = pl.col("moved_sum"), pl.col("called_sum")
        found["direction_accuracy"] = pl.when(moved > 0).then(pl.col("right_sum") / moved)
        found["win_rate"] = pl.when(called > 0).then(pl.col("right_sum") / called)
        found["mean_return"] = _mean("returns")
    return found


def _mean(name: str) -> pl.Expr:
    return pl.when(pl.col(f"{name}_rows") > 0).then(pl.col(f"{name}_sum") / pl.col(f"{name}_rows"))


def _total(name: str, label: str) -> pl.Expr:
    return pl.when(pl.col(f"lower_value_{label}_rows") > 0).then(pl.col(f"{name}_sum"))
