"""Consumes MLflow's registered models, produces the table `model_registry`, which shows them to whoever asks in SQL."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from assay.config import canonical_json
from assay.model.lineage import COVERAGE
from assay.model.registry import model_name
from assay.model.versions import RETIRED, Version, versions_of
from assay.runtime.deployment_tables import MODEL_REGISTRY
from assay.runtime.job import JobContext
from assay.runtime.plane import Output, Written
from assay.runtime.tracking import Tracking

JOB, SLOT = "registry", "all"
FIGURES = ("rmse", "r2", "median_ape", "within_20pct", "log_loss", "auc", "accuracy")  # test_* of a training run
WHOLE = ("parent", "features_version", "observations_version")  # tags that are whole numbers
TEXTS = ("model_version", "calibration_version", "change", "run_id", "engine", "code", "config_hash", "plan_hash")


def write_registry(context: JobContext) -> list[Written]:
    """Write the table as a whole, unless it is as MLflow has it already."""
    schema, rows = MODEL_REGISTRY.schema(), registry_rows(context.tracking)
    identity = hashlib.sha256(canonical_json(rows).encode()).hexdigest()[:16]
    last = context.plane.last_commit(MODEL_REGISTRY.name, SLOT)
    if last is not None and last.identity == identity:
        return []
    output = Output(MODEL_REGISTRY, schema, context.commit(JOB, SLOT, identity))
    return context.plane.rows_of(MODEL_REGISTRY, schema, pa.Table.from_pylist(rows, schema)).write([output])


def registry_rows(tracking: Tracking) -> list[dict[str, Any]]:
    """Rows of the table: every version of every target of the dataset, oldest first."""
    return [
        _row(tracking, target.name, version)
        for target in tracking.config.dataset.targets
        for version in versions_of(tracking.client, model_name(tracking.config, target.name))
    ]


def tested_figures(tracking: Tracking, version: Version) -> dict[str, float]:
    """Figures of the test of a version's model, by MLflow's name of each; none where its run is gone."""
    try:
        metrics = tracking.client.get_run(version.trained_run_id).data.metrics
    except tracking.mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    return {name: float(value) for name, value in metrics.items() if name.startswith("test_")}


def coverage_of(version: Version) -> dict[float, float]:
    """Level -> share of the test's outcomes that is covered; none where it is not on record."""
    told = json.loads(version.tag(COVERAGE) or "{}")
    return {float(level): float(share) for level, share in told.items()}


def _row(tracking: Tracking, target: str, version: Version) -> dict[str, Any]:
    figures, coverage = tested_figures(tracking, version), coverage_of(version)
    return {
        "target": target,
        "number": version.number,
        "semantic_version": str(version.semantic) if version.semantic is not None else None,
        "aliases": list(version.aliases),
        "state": version.state,
        **{name: version.tag(name) or None for name in (*TEXTS, "study_run_id")},
        **{name: _read(version, name, int) for name in WHOLE},
        "rows": _read(version, "learned_rows", int),
        "learned_until": _read(version, "learned_until", dt.datetime.fromisoformat),
        **{name: figures.get(f"test_{name}") for name in FIGURES},
        "levels": list(coverage),
        "test_coverage": list(coverage.values()),
        "registered_at": version.registered_at,
        "retired_at": _read(version, RETIRED.removeprefix("assay."), dt.datetime.fromisoformat),
    }


def _read(version: Version, name: str, kind: Callable[[str], Any]) -> Any:
    """A tag as what it stands for; None where a version has none."""
    told = version.tag(name)
    return kind(told) if told else None
