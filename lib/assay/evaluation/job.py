"""Consumes `predictions` and the outcomes known by now, produces `segment_metrics`, plots and the HTML report."""

from __future__ import annotations

from assay.config import TargetConfig
from assay.errors import DataError
from assay.evaluation.class_job import ClassEvaluation
from assay.evaluation.number_job import NumberEvaluation
from assay.evaluation.records import ingested
from assay.evaluation.target_job import JOB, KIND
from assay.model.registry import version_before
from assay.pages.published import report_path
from assay.runtime.job import JobContext, Plan
from assay.runtime.tables import DECISIONS, EXPLANATIONS, FEATURES, PREDICTIONS, SEGMENT_METRICS


def plan(context: JobContext, target: TargetConfig) -> Plan:
    """What evaluation is about to compare."""
    predictions = context.version(PREDICTIONS.name, made_by="score")
    features = context.version(FEATURES.name, made_by="build_features")
    commit = context.plane.last_commit(PREDICTIONS.name, target.name)
    if commit is None:
        raise DataError(f"table predictions has none of {target.name!r}: run the job score first")
    of_kind = ClassEvaluation if target.decides else NumberEvaluation
    before = None if target.decides else version_before(context.tracking, target.name, commit.details["run_id"])
    combined = context.plane.version(DECISIONS.name) if target.name in context.config.dataset.decision else None
    return Plan(
        job=JOB,
        inputs={
            PREDICTIONS.name: predictions,
            FEATURES.name: features,
            **({DECISIONS.name: combined} if combined is not None else {}),
        },
        sections=("dataset", "training", "explain", "evaluation", "where"),
        slots=[(EXPLANATIONS.name, target.name), (SEGMENT_METRICS.name, target.name)],
        extra={
            "target": target.name,
            "predictions": commit.identity,
            "data": ingested(context),
            "before": str(before.number) if before is not None else "",
        },
        execute=lambda identity: of_kind(context, target, commit.details["run_id"]).run(
            identity, predictions, features
        ),
        still_valid=lambda _: report_path(context.config, KIND, target.name).is_file(),
    )
