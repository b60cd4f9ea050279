"""Consumes a calibrated model and the runs it comes from, produces its version's tags: semantic version and lineage."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.config import canonical_json
from assay.model.bundle import Model
from assay.model.signature import input_kinds, output_example
from assay.model.versions import (
    CHAMPION,
    INPUT,
    OUTPUT,
    SEMANTIC,
    Version,
    change_between,
    next_semantic,
    taken_of,
)

if TYPE_CHECKING:
    from assay.runtime.tracking import Tracking

LEARNED_ROWS = "assay.learned_rows"  # of a training run: rows that the model which serves has learned from
OBSERVATIONS = "assay.observations_version"  # of a training run: what its features were made from
MEANING = ("source_column", "task", "positive", "negative", "above")  # of a target; how it is learned is no part of it
COVERAGE = "coverage"  # of a version: level -> share of the test's outcomes that its intervals held


def lineage(
    tracking: Tracking,
    name: str,
    run_id: str,
    model: Model,
    calibration: Mapping[str, Any],
    versions: Sequence[Version],
    *,
    target: str,
    coverage: Mapping[float, float] | None = None,
) -> dict[str, str]:
    """Tags of a version that is about to be registered, of the training run `run_id`.

    versions: those that there are.  coverage: of its levels, on the test period.
    """
    run, parent = tracking.client.get_run(run_id), next((one for one in versions if CHAMPION in one.aliases), None)
    calibrating, trained = tracking.mlflow.active_run(), run.data.tags
    of_calibration = table_versions(tracking.client.get_run(calibrating.info.run_id)) if calibrating else {}
    commit, changed = trained.get("mlflow.source.git.commit", ""), trained.get("assay.git_dirty") == "true"
    found = {
        "parent": str(parent.number) if parent is not None else "",
        "parent_semantic_version": str(parent.semantic or "") if parent is not None else "",
        "run_id": run_id,
        "features_version": table_versions(run).get("features", ""),
        "observations_version": trained.get(OBSERVATIONS, ""),
        "calibration_features_version": of_calibration.get("features", ""),
        "code": commit + ("-dirty" if commit and changed else ""),
        "assay_version": trained.get("assay.version", ""),
        "config_hash": trained.get("assay.config_hash", ""),
        "study": trained.get("assay.study", ""),
        "study_run_id": trained.get("assay.study_run", ""),
        "engine": model.engine,
        "plan_hash": model.plan_hash,
        "learned_rows": trained.get(LEARNED_ROWS, ""),
        "learned_until": model.learned_until,
        "registered_at": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        COVERAGE: json.dumps({f"{level:g}": share for level, share in coverage.items()}) if coverage else "",
    }
    tags = {f"assay.{key}": value for key, value in found.items() if value}
    tags |= {OUTPUT: _hash(promised(tracking, target, model, calibration)), INPUT: _hash(read_by(model, calibration))}
    compared = parent if parent is not None and parent.semantic is not None else None
    compared = compared or next((one for one in reversed(versions) if one.semantic is not None), None)
    change = change_between(compared.tags, tags) if compared is not None else "first"
    taken = taken_of(tracking.client, name, versions) if versions else []
    semantic = next_semantic(compared.semantic if compared is not None else None, change, taken)
    return {**tags, "assay.change": change, SEMANTIC: str(semantic)}


def promised(tracking: Tracking, target: str, model: Model, calibration: Mapping[str, Any]) -> dict[str, Any]:
    """What a version says and of what: the target, its task and classes, and the columns of a prediction."""
    told = next((one for one in tracking.config.dataset.targets if one.name == target), None)
    return {
        "target": [target, *([getattr(told, key) for key in MEANING] if told is not None else [])],
        "kind": model.outcome.kind,
        "classes": model.outcome.classes,
        "columns": list(output_example(model, calibration)),
    }


def read_by(model: Model, calibration: Mapping[str, Any]) -> dict[str, Any]:
    """What a version reads: features of which plan, and which of them."""
    return {"plan": model.plan_hash, "columns": input_kinds(model, calibration)}


def table_versions(run: Any) -> dict[str, str]:
    """Table -> version of the inputs that a run has on record."""
    names = (one.dataset.name for one in run.inputs.dataset_inputs)
    found = (re.fullmatch(r"(\w+)@v(\d+)", name) for name in names)
    return {one[1]: one[2] for one in found if one is not None}


def _hash(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]
