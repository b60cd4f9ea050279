"""Consumes a trained model and its calibration period, produces `calibrations` and the registered, calibrated model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.conformal.calibration import Calibration, fit
from assay.conformal.intervals import labels_of
from assay.conformal.scores import SCORES
from assay.model.carried import Carried
from assay.model.registry import TrainedRun, load_trained, register
from assay.runtime.conditions import Condition, period_conditions
from assay.runtime.job import Done, JobContext, Plan
from assay.runtime.plane import Output
from assay.runtime.tables import CALIBRATIONS, FEATURES, level_label

JOB = "calibrate"
SCORE = "absolute"
PYFUNC = Path(__file__).with_name("pyfunc.py")
SCORED = pa.schema([pa.field("label", pa.string()), pa.field("score", pa.float64())])


def plan(context: JobContext, target: TargetConfig, trained_run_id: str) -> Plan:
    """What calibration is about to do for the model of one training run."""
    trained = load_trained(context.tracking, trained_run_id)
    version = context.version(FEATURES.name, made_by="build_features")
    return Plan(
        job=JOB,
        inputs={FEATURES.name: version},
        sections=("dataset", "conformal", "where"),
        slots=[(CALIBRATIONS.name, target.name)],
        extra={"target": target.name, "model": trained.model.version},
        execute=lambda identity: _execute(context, identity, target, trained, version),
    )


def _execute(context: JobContext, identity: str, target: TargetConfig, trained: TrainedRun, version: int) -> Done:
    config, plane, model = context.config, context.plane, trained.model
    column = stored_name(target.name)
    segments = tuple(stored_name(s) for s in config.dataset.segments)
    where = [
        *(Condition(stored_name(c), "==", v) for c, v in config.where),
        Condition(column, "not_null"),
        *period_conditions(model.facts["split"]["calibrate"]),
    ]
    columns = list(dict.fromkeys([*model.input_columns, *segments, column]))
    with context.reporter.step("conformity scores of the calibration period"):
        flow = plane.read(FEATURES.name, version=version, columns=columns, where=where)
        scored = flow.map(ConformityScores(Carried.of(model), segments), SCORED).collect()
    calibration = fit(
        scored.column("score").to_numpy(),
        np.array(scored.column("label").to_pylist(), dtype=object),
        config.profile.conformal.levels,
        min_segment_rows=config.profile.conformal.min_segment_rows,
        segment_columns=segments,
        score=SCORE,
    )
    with context.reporter.step("registering the calibrated model"):
        schema = CALIBRATIONS.schema()
        rows = _rows(calibration, model.version, target.name).cast(schema)
        commit = context.commit(JOB, target.name, identity, calibration=calibration.version)
        written = plane.rows_of(CALIBRATIONS, schema, rows).write(
            [Output(CALIBRATIONS, schema, commit, owns={"target": target.name})]
        )
        context.tracking.json(calibration.to_dict(), "calibration.json")
        number = register(context.tracking, trained, calibration.to_dict(), calibration.version, PYFUNC)
    everyone = calibration.quantiles[""]
    own = sum(1 for label in calibration.quantiles if label and calibration.label_used(label) == label)
    summary = [
        f"calibrated on {everyone.rows:,} rows; {own} of {len(calibration.quantiles) - 1} segments have "
        f"{config.profile.conformal.min_segment_rows} rows or more and intervals of their own",
        f"registered {trained.registered_name} version {number}, now champion",
    ]
    metrics = {"calibration_rows": float(everyone.rows), "calibrated_segments": float(own)}
    metrics |= {
        f"quantile_{level_label(level)}": q for level, q in zip(calibration.levels, everyone.quantiles, strict=True)
    }
    return Done(metrics=metrics, written=written, summary=summary)


def _rows(calibration: Calibration, model_version: str, target: str) -> pa.Table:
    """The calibration as rows of `calibrations`."""
    rows = [
        {
            "segment": label,
            "level": level,
            "quantile": quantile,
            "rows": found.rows,
            "model_version": model_version,
            "calibration_version": calibration.version,
            "target": target,
        }
        for label, found in calibration.quantiles.items()
        for level, quantile in zip(calibration.levels, found.quantiles, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=CALIBRATIONS.schema())


@dataclasses.dataclass(frozen=True)
class ConformityScores:
    """Kernel: segment label and conformity score of labelled rows, on the model's scale."""

    carried: Carried
    segments: tuple[str, ...]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `SCORED`."""
        model = self.carried.model()
        for batch in batches:
            truth, prediction = model.residual_inputs(batch)
            score = SCORES[SCORE].score(truth, prediction)
            yield pa.record_batch([pa.array(labels_of(batch, self.segments)), pa.array(score)], schema=SCORED)
