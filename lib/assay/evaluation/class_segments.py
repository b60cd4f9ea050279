"""Consumes what was summed of evaluated rows of classes, produces the long table of their metrics per segment."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from assay.class_counts import binned_error, counted_metrics, counted_ranking
from assay.class_metrics import ranking
from assay.evaluation.class_tally import OF_SETS, ClassSpec, ClassTally, probabilities_of
from assay.evaluation.over_time import LEAST_DAYS, Z
from assay.evaluation.parts import DAY, MISSING_SEGMENT
from assay.metrics import adjusted_p_values, binomial_bands, wilson_bands

SCHEMA = {
    "segment_column": pl.String,
    "segment": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "rows": pl.Int64,
}
Key = tuple[str, str]
Line = tuple[str, str, str, float, float | None, float | None, int]
BANDED = {"log_loss": "log_loss", "brier": "brier", "accuracy": "right"}  # metric -> what is summed of it


def class_segment_table(tally: ClassTally, spec: ClassSpec) -> pl.DataFrame:
    """Every metric of `class_metrics` and of sets for all rows together and for each value of each segment column.

    Grain, columns and the bands of coverages as in `table_of`; set metrics end in the level's label. Of all rows
    together `log_loss`, `brier` and `accuracy` have the 95 % band of `day_band`.
    """
    found: list[Line] = []
    bands = {name: day_band(tally, name) for name in BANDED}
    for column in ("", *dict.fromkeys(spec.segment_columns)):
        sums = tally.of(column)
        figures, coverages = class_figures_of(tally, spec, column), _coverages(sums, spec)
        for place, (segment, rows) in enumerate(sums.select("segment", "rows").iter_rows()):
            told: dict[str, tuple[float, float | None, float | None]] = {
                name: (value, *((bands.get(name) if column == "" else None) or (None, None)))
                for name, value in figures[segment].items()
            }
            told |= {name: (float(v[place]), *ends(place)) for name, (v, ends) in coverages.items()}
            found += [(column, segment, name, *values, rows) for name, values in sorted(told.items())]
    return pl.DataFrame(found, schema=SCHEMA, orient="row").with_columns(pl.col("value", "low", "high").fill_nan(None))


def class_figures_of(tally: ClassTally, spec: ClassSpec, column: str) -> dict[str, dict[str, float]]:
    """Of each segment of a column the figures of `class_metrics`, and those of sets with the level's label."""
    marks, bins, rankings = _marks(tally, spec, column), _bins(tally, column), _rankings(tally, spec, column)
    found = {}
    for line in tally.of(column).iter_rows(named=True):
        segment, rows = line["segment"], line["rows"]
        found[segment] = {
            "log_loss": line["log_loss_sum"] / rows,
            "brier": line["brier_sum"] / rows,
            "calibration_error": bins[segment],
            **counted_metrics(marks[segment]),
            **rankings.get(segment, {}),
            **{f"{name}_{label}": line[f"{name}_{label}_sum"] / rows for label in spec.labels for name in OF_SETS},
        }
    return found


def confusion_of(tally: ClassTally, spec: ClassSpec) -> npt.NDArray[np.int64]:
    """All rows by the class that came true and the one that was likeliest, (K, K)."""
    return _marks(tally, spec, "")[""]


def reliability_of(tally: ClassTally) -> npt.NDArray[np.float64]:
    """Bins of all rows that have some, (3, m): mean probability, share that came true, and rows."""
    bins = tally.bins.filter(pl.col("segment_column") == "").sort("bin")
    said, held = bins["p"] / bins["rows"], bins["held"] / bins["rows"]
    return np.stack([each.to_numpy().astype(np.float64) for each in (said, held, bins["rows"])])


def ranking_error(tally: ClassTally, spec: ClassSpec) -> float:
    """How far AUC of all rows may be off; 0 where it is of the rows themselves."""
    counts = _buckets(tally, "").get("") if len(spec.classes) == 2 else None
    return counted_ranking(counts[0], counts[1])[1] if counts is not None and not tally.complete else 0.0


def day_band(tally: ClassTally, metric: str) -> tuple[float, float] | None:
    """95 % band of a mean over all rows, whole days as one draw (Cochran 1977, ch. 9); None of few days."""
    days = tally.of(DAY)
    if days.height < LEAST_DAYS:
        return None
    total, rows = days[f"{BANDED[metric]}_sum"].to_numpy(), days["rows"].to_numpy().astype(np.float64)
    mean = total.sum() / rows.sum()
    variance = float(((total - mean * rows) ** 2).sum()) / rows.sum() ** 2 * days.height / (days.height - 1)
    reach = Z * math.sqrt(variance)
    return mean - reach, mean + reach


def _coverages(sums: pl.DataFrame, spec: ClassSpec) -> dict[str, tuple[npt.NDArray[np.float64], _Ends]]:
    """Coverage of each segment with what chance allows, with its own band, and how far off the promise it is."""
    rows, found = sums["rows"].to_numpy(), {}
    for label, level in spec.labels.items():
        inside = sums[f"coverage_{label}_sum"].to_numpy()
        share, none = inside / rows, np.full(len(rows), np.nan)
        found[f"coverage_{label}"] = share, _Ends(*binomial_bands(level, rows))
        found[f"coverage_{label}_confidence"] = share, _Ends(*wilson_bands(inside, rows))
        found[f"coverage_{label}_adjusted_p"] = adjusted_p_values(inside, rows, level), _Ends(none, none)
    return found


class _Ends:
    """Both ends of a band per segment; None where there is none."""

    def __init__(self, low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]) -> None:
        self.low, self.high = low, high

    def __call__(self, place: int) -> tuple[float | None, float | None]:
        low, high = float(self.low[place]), float(self.high[place])
        return (low, high) if math.isfinite(low) else (None, None)


def _marks(tally: ClassTally, spec: ClassSpec, column: str) -> dict[str, npt.NDArray[np.int64]]:
    found: dict[str, npt.NDArray[np.int64]] = {}
    part = tally.marks.filter(pl.col("segment_column") == column)
    for segment, actual, said, count in part.select("segment", "actual", "said", "count").iter_rows():
        found.setdefault(segment, np.zeros((len(spec.classes),) * 2, dtype=np.int64))[actual, said] = count
    return found


def _bins(tally: ClassTally, column: str) -> dict[str, float]:
    parts = tally.bins.filter(pl.col("segment_column") == column).partition_by("segment", as_dict=True)
    return {str(k): binned_error(*(part[n].to_numpy() for n in ("rows", "p", "held"))) for (k,), part in parts.items()}


def _rankings(tally: ClassTally, spec: ClassSpec, column: str) -> Mapping[str, dict[str, float]]:
    if len(spec.classes) != 2:
        return {}
    if not tally.complete:
        return {
            segment: counted_ranking(counts[0], counts[1])[0] for segment, counts in _buckets(tally, column).items()
        }
    by = pl.col(column).cast(pl.String).fill_null(MISSING_SEGMENT) if column else pl.lit("")
    rows = tally.sample.select(by.alias("segment"), "actual", pl.Series("p", probabilities_of(tally.sample, 2)[:, 1]))
    parts = rows.partition_by("segment", as_dict=True).items()
    return {str(segment): ranking(part["actual"].to_numpy(), part["p"].to_numpy()) for (segment,), part in parts}


def _buckets(tally: ClassTally, column: str) -> dict[str, npt.NDArray[np.int64]]:
    """Of each segment rows of the first and of the second class per bucket (2, B), buckets rising."""
    found: dict[str, npt.NDArray[np.int64]] = {}
    parts = tally.scores.filter(pl.col("segment_column") == column).partition_by("segment", as_dict=True)
    for (segment,), part in parts.items():
        _, place = np.unique(part["bucket"].to_numpy(), return_inverse=True)
        counts = np.zeros((2, int(place.max()) + 1), dtype=np.int64)
        np.add.at(counts, (part["actual"].to_numpy(), place), part["count"].to_numpy())
        found[str(segment)] = counts
    return found
