"""Consumes one run's rows of `quality_reports` and its patterns, produces `DataFacts` for the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assay.evaluation.content import DataFacts, QualityMetric, SeriesPattern

COUNTED = ("rows_in", "rows_kept", "rows_quarantined")
SCORE = "score_"
COLUMNS = (
    *("column", "measure", "value", "unit", "score", "weight", "points_lost", "limit", "at_least", "status"),
    *("recommendation", "detail", "meaning"),
)
STATUSES = {"fail": 0, "warn": 1}


def data_facts(rows: Iterable[Mapping[str, Any]], patterns: Sequence[Mapping[str, Any]] = ()) -> DataFacts:
    """Facts from rows with COLUMNS, in any order. Without rows nothing is known of the data."""
    whole = [row for row in rows if not row["column"]]
    parts = [row for row in rows if row["column"]]
    counts = {row["measure"]: int(row["value"]) for row in whole if row["unit"] == "rows"}
    reasons = {row["measure"]: int(row["value"]) for row in whole if row["unit"] == "quarantined rows"}
    scores = {row["measure"].removeprefix(SCORE): row["value"] for row in whole if row["unit"] == "points"}
    judged = [row for row in whole if row["unit"] == "share"]
    advised = [row for row in judged if row["recommendation"]]
    advised.sort(key=lambda row: (STATUSES.get(row["status"], 2), -(row["points_lost"] or 0.0), row["measure"]))
    missing = {
        r["column"]: 1.0 - r["value"] for r in parts if r["measure"] == "completeness" and r["value"] is not None
    }
    known = {field.name for field in dataclasses.fields(SeriesPattern)}
    return DataFacts(
        rows_read=counts.get("rows_in", 0),
        rows_kept=counts.get("rows_kept", 0),
        quarantined=dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        scores=scores,
        metrics=sorted((_metric(row) for row in judged), key=lambda m: (m.score, -(m.points or 0.0), m.name)),
        advice=[row["recommendation"] for row in advised],
        missing=dict(sorted(missing.items(), key=lambda item: (-item[1], item[0]))),
        patterns=[SeriesPattern(**{k: v for k, v in found.items() if k in known}) for found in patterns],
    )


def _metric(row: Mapping[str, Any]) -> QualityMetric:
    return QualityMetric(
        name=row["measure"],
        score=row["score"],
        value=row["value"],
        status=row["status"],
        limit=row["limit"],
        at_least=bool(row["at_least"]),
        points=row["points_lost"] if row["weight"] else None,
        meaning=row["meaning"] or "",
        detail=row["detail"] or "",
    )
