"""Consumes what was summed of evaluated rows of classes, produces what sets are worth, of all and of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from assay.evaluation.class_segments import SCHEMA
from assay.evaluation.class_tally import CLASS, OF_SETS, ClassSpec, ClassTally
from assay.evaluation.content import CoverageResult
from assay.metrics import binomial_band
from assay.runtime.tables import level_label


@dataclass(frozen=True)
class ClassResult:
    """Rows in which one class came true. metrics: `recall`, the share whose likeliest class it is, and `log_loss`.

    coverage: of each level's sets; its band is that of the promise, which only calibration by class makes of a class.
    """

    name: str
    rows: int
    metrics: Mapping[str, float]
    coverage: Sequence[CoverageResult]


@dataclass(frozen=True)
class ProbabilityRecord:
    """What calibration made of probabilities in the test period. method: `none` for nothing.

    by_class: whether sets were calibrated by class.  before, after: `log_loss`, `brier` and `calibration_error`.
    bins: (m, 3) before, mean probability, share that came true, and rows.
    """

    method: str
    by_class: bool
    before: Mapping[str, float]
    after: Mapping[str, float]
    bins: Sequence[Sequence[float]]

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> ProbabilityRecord:
        """Of what the job `train` put on record."""
        before, after = (
            {name: float(value) for name, value in told[key].items() if name != "bins"} for key in ("before", "after")
        )
        return cls(told["method"], told["by_class"], before, after, told["before"]["bins"])


def class_results(tally: ClassTally, spec: ClassSpec) -> list[ClassResult]:
    """Of every class that came true at least once, in the order of the classes."""
    lines = {line["segment"]: line for line in tally.of(CLASS).iter_rows(named=True)}
    found = []
    for name in spec.classes:
        if name not in lines:
            continue
        line, rows = lines[name], int(lines[name]["rows"])
        coverage = [
            CoverageResult(level, _of_sets(line, level_label(level)), *binomial_band(level, rows))
            for level in sorted(spec.levels)
        ]
        metrics = {"recall": line["right_sum"] / rows, "log_loss": line["log_loss_sum"] / rows}
        found.append(ClassResult(name, rows, metrics, coverage))
    return found


def set_results(tally: ClassTally, spec: ClassSpec, calibration_rows: int | None) -> list[CoverageResult]:
    """Set metrics of each level over all rows, with `binomial_band`; see there for calibration_rows."""
    (line,) = tally.of("").iter_rows(named=True)
    return [
        CoverageResult(
            level,
            _of_sets(line, level_label(level)),
            *binomial_band(level, tally.rows, calibration_rows=calibration_rows),
        )
        for level in sorted(spec.levels)
    ]


def _of_sets(line: Mapping[str, Any], label: str) -> dict[str, float]:
    return {name: line[f"{name}_{label}_sum"] / line["rows"] for name in OF_SETS}


def class_coverage_table(results: Sequence[ClassResult], target: str) -> pl.DataFrame:
    """The same as rows of `class_segment_table`: the target is the segment's column, a class its value."""
    lines: list[tuple[str, str, str, float, float | None, float | None, int]] = []
    for result in results:
        told: dict[str, tuple[float, float | None, float | None]] = {
            name: (value, None, None) for name, value in result.metrics.items()
        }
        for one in result.coverage:
            label = level_label(one.level)
            told |= {f"{name}_{label}": (value, None, None) for name, value in one.metrics.items()}
            told[f"coverage_{label}"] = (one.metrics["coverage"], one.low, one.high)
        lines += [(target, result.name, metric, *figures, result.rows) for metric, figures in sorted(told.items())]
    return pl.DataFrame(lines, schema=SCHEMA, orient="row")


def class_coverage_figures(results: Sequence[ClassResult]) -> dict[str, float]:
    """Figures for MLflow: `coverage_80_of_<class>` and `set_size_80_of_<class>`, and the least of the coverages."""
    found: dict[str, float] = {}
    for result in results:
        for one in result.coverage:
            label, held = level_label(one.level), one.metrics["coverage"]
            found[f"coverage_{label}_of_{result.name}"] = held
            found[f"set_size_{label}_of_{result.name}"] = one.metrics["set_size"]
            least = f"coverage_{label}_least_class"
            found[least] = min(held, found.get(least, 1.0))
    return found
