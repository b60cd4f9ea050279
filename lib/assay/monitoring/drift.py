"""Consumes two windows of inputs, predictions and residuals, produces `drift_detections`: what is not as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from assay.config.dataset import CALENDAR, stored_name
from assay.config.monitoring import MonitoringConfig
from assay.errors import ConfigError, DataError
from assay.monitoring.compared import apart_of
from assay.monitoring.comparison import Comparison, Side, Watched
from assay.monitoring.residuals import residuals_apart
from assay.monitoring.significance import Evidence, adjusted, evidences
from assay.monitoring.watching import Watching
from assay.monitoring.windows import Window
from assay.runtime.job import Done, Plan
from assay.runtime.monitoring_tables import DRIFT_DETECTIONS
from assay.runtime.tables import FEATURES, PREDICTIONS

JOB = "drift"
DISTRIBUTION, MISSING, NEW = "distribution", "missing", "new_categories"
TOLD = 5  # columns of the summary


def plan(watching: Watching) -> Plan:
    """What drift detection is about to compare."""
    return watching.plan(JOB, watching.inputs, DRIFT_DETECTIONS, lambda identity: Drift(watching).run(identity))


class Drift:
    """One target's columns in two windows."""

    def __init__(self, watching: Watching) -> None:
        self.watching, self.context, self.config = watching, watching.context, watching.config
        self.by = tuple(stored_name(name) for name in self.config.by)

    def run(self, identity: str) -> Done:
        """Compare, test, write."""
        plane, (reference, current) = self.context.plane, self.watching.windows
        with self.context.reporter.step("comparing two windows of rows"):
            watched = self.watched((reference, current))
            residuals = residuals_apart(self.watching, (reference, current), self.by)
            more = [residuals] if residuals is not None else []
            compared = Comparison(plane, self.config, self.by).of(watched, more)
        rows = judged(compared.to_pylist(), self.config)
        if not any(row["rows_current"] for row in rows) or not any(row["rows_reference"] for row in rows):
            raise DataError(
                f"{'the current' if any(row['rows_reference'] for row in rows) else 'the reference'} window of "
                f"{self.watching.target.name} has no row: set monitoring.window_days or monitoring.reference_from"
            )
        table = self.table(rows, reference, current)
        written = self.watching.write(DRIFT_DETECTIONS, table, JOB, identity)
        return Done(metrics=figures(rows), written=written, summary=told(rows))

    def watched(self, windows: tuple[Window, Window]) -> list[Watched]:
        """Inputs of the champion, but for those that the time alone makes and must change; and what it said."""
        encoding, plane = self.watching.champion.model.encoding, self.context.plane
        schema = plane.schema(FEATURES.name)
        wrong = [name for name in self.by if name not in schema.names]
        if wrong:
            raise ConfigError(f"monitoring.by: the features have no column {', '.join(wrong)}")
        texts = tuple(encoding.categories)
        numbers = tuple(c for c in encoding.columns if c not in encoding.categories and not c.startswith(CALENDAR))
        reference, current = (Side(window.version, (*self.watching.where, *window.conditions)) for window in windows)
        inputs = Watched(FEATURES.name, numbers, texts, (reference, current))
        if self.context.config.where or self.config.reference_version >= 0:
            return [inputs]
        said = plane.schema(PREDICTIONS.name)
        names = tuple(f.name for f in said if f.name == "prediction" or f.name.startswith("width_"))
        # A test that was drawn may hang on columns that predictions lack; rows that were not drawn have none.
        reference, current = (
            Side(self.watching.predictions, (self.watching.of_target, *window.span)) for window in windows
        )
        return [inputs, Watched(PREDICTIONS.name, names, (), (reference, current), ("prediction", "category"))]

    def table(self, rows: Sequence[Mapping[str, Any]], reference: Window, current: Window) -> pa.Table:
        """Rows of `drift_detections`."""
        common = {
            "reference_start": reference.start,
            "reference_end": reference.end,
            "current_start": current.start,
            "current_end": current.end,
            "model_version": self.watching.champion.model.version,
            **self.watching.dated,
        }
        return pa.Table.from_pylist([{**row, **common} for row in rows], DRIFT_DETECTIONS.schema())


def judged(compared: Sequence[Mapping[str, Any]], config: MonitoringConfig) -> list[dict[str, Any]]:
    """Rows of `COMPARED` -> what `drift_detections` says of each, in the same order."""
    missing = [tuple(row[f"rows_{w}"] - row[f"known_{w}"] for w in ("reference", "current")) for row in compared]
    found = evidences([apart_of(row) for row in compared], missing, [row["numeric"] for row in compared])
    p = adjusted([one.p for one in found])
    return [_row(row, one, float(q), config) for row, one, q in zip(compared, found, p, strict=True)]


def _row(row: Mapping[str, Any], found: Evidence, q: float, config: MonitoringConfig) -> dict[str, Any]:
    missing = [_share(row[f"rows_{w}"] - row[f"known_{w}"], row[f"rows_{w}"]) for w in ("reference", "current")]
    new = _share(row["new"], row["rows_current"])
    sure = q < config.alpha
    reasons = {
        DISTRIBUTION: sure and found.psi > max(config.psi, found.psi_by_chance),
        MISSING: sure and abs(missing[1] - missing[0]) > config.missing,
        NEW: new > config.new_categories,
    }
    told = [reason for reason, holds in reasons.items() if holds]
    scaled = row["wasserstein"] / row["spread"] if row["spread"] else np.nan
    tests = {name: getattr(found, name) for name in ("psi", "psi_by_chance", "js", "ks_p", "chi2", "chi2_p")}
    numbers = {**tests, "missing_p": found.missing_p, "wasserstein_scaled": scaled}
    numbers |= {name: row[name] for name in ("ks", "error", "wasserstein", "median_reference", "median_current")}
    return {
        **{name: row[name] for name in ("column", "kind", "segment", "rows_reference", "rows_current")},
        **{name: None if np.isnan(value) else float(value) for name, value in numbers.items()},
        "missing_reference": missing[0],
        "missing_current": missing[1],
        "new_share": new,
        "new_categories": row["new_categories"],
        "p": found.p,
        "p_adjusted": q,
        "drifted": bool(told),
        "reasons": told,
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of all rows together: columns that were compared and that drifted; of segments, how many pairs did."""
    everyone = [row for row in rows if not row["segment"]]
    drifted = [row for row in everyone if row["drifted"]]
    found = {"columns": len(everyone), "drifted_columns": len(drifted)}
    found |= {f"drifted_{why}": sum(why in row["reasons"] for row in drifted) for why in (DISTRIBUTION, MISSING, NEW)}
    if len(rows) > len(everyone):
        found |= {"segment_columns": len(rows) - len(everyone)}
        found |= {"drifted_segment_columns": sum(row["drifted"] for row in rows if row["segment"])}
    return {name: float(value) for name, value in found.items()}


def told(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The worst columns, for the terminal."""
    everyone = [row for row in rows if not row["segment"]]
    drifted = sorted((row for row in everyone if row["drifted"]), key=lambda row: -(row["psi"] or 0.0))
    lines = [f"{len(drifted)} of {len(everyone)} columns drifted"]
    for row in drifted[:TOLD]:
        lines.append(f"  {row['column']}: {', '.join(reason_words(row, why) for why in row['reasons'])}")
    if len(drifted) > TOLD:
        lines.append(f"  and {len(drifted) - TOLD} more: see {DRIFT_DETECTIONS.name}")
    return lines


def reason_words(row: Mapping[str, Any], why: str) -> str:
    """A reason of a row of `drift_detections`, with its figures."""
    if why == MISSING:
        return f"{row['missing_current']:.1%} missing ({row['missing_reference']:.1%} before)"
    if why == NEW:
        return f"{row['new_share']:.1%} in new categories ({', '.join(row['new_categories'])})"
    medians = [row["median_reference"], row["median_current"]]
    moved = f", median {medians[0]:,.6g} -> {medians[1]:,.6g}" if None not in medians else ""
    return f"PSI {row['psi']:.2f}{moved}"
