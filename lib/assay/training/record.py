"""Consumes a training run's outcome, produces its record: tags and artifacts in MLflow, rows of `training_metrics`."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from assay.model.bundle import Model
from assay.model.lineage import LEARNED_ROWS
from assay.model.verdict import Verdict
from assay.runtime.job import JobContext
from assay.runtime.plane import Output, Written
from assay.runtime.training_tables import TRAINING_METRICS
from assay.training.ensemble import Learned
from assay.training.holdout import Rules
from assay.training.preparation import Prepared
from assay.training.split import Period, Split
from assay.training.tuned import Tuned


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a training run has found out.

    model: the tested one.  taught: what the served one learned from.  made_from: tag -> version of a table that the
    features were made from.  tuned: parameters that a study found; None where the profile's were taken.
    """

    target: str
    model: Model
    learned: Learned
    prepared: Prepared
    baselines: Rules
    split: Split
    verdicts: Sequence[Verdict]
    taught: Period
    made_from: Mapping[str, str]
    tuned: Tuned | None


def record(context: JobContext, trained: Trained) -> None:
    """Leave all of it but the models with the open run of MLflow."""
    tracking, learned, prepared, tuned = context.tracking, trained.learned, trained.prepared, trained.tuned
    fitted = learned.fitted
    tracking.rounds(fitted.history)
    tracking.json(trained.split.to_dict(), "split.json")
    tracking.json(trained.baselines.to_dict(), "baselines.json")
    tracking.json([dataclasses.asdict(v) for v in trained.verdicts], "gates.json")
    tracking.json(trained.model.importance(), "importance.json")
    if learned.record is not None:
        tracking.json(dict(learned.record), "ensemble.json")
    if prepared.facts:
        tracking.json(dict(prepared.facts), "preparation.json")
    if prepared.selection:
        tracking.json([dataclasses.asdict(one) for one in prepared.selection], "selection.json")
    if tuned is not None:
        tracking.json(dataclasses.asdict(tuned), "tuned.json")
    tracking.tags(
        {
            "assay.target": trained.target,
            "assay.model_version": trained.model.version,
            "assay.devices": ",".join(sorted(set(fitted.devices))),
            "assay.ranks": str(len(fitted.devices)),
            LEARNED_ROWS: str(fitted.sample[0] if fitted.sample is not None else trained.taught.rows),
            **trained.made_from,
            **(tuned.tags if tuned is not None else {}),
        }
    )


def write_metrics(
    context: JobContext, trained: Trained, metrics: Mapping[str, float], *, refused: bool, job: str, identity: str
) -> list[Written]:
    """Replace this training's rows of `training_metrics`. metrics: of the training as a whole."""
    owns = {"target": trained.target, "training": identity}
    told = {
        "run_id": context.tracking.mlflow.active_run().info.run_id,
        "trained_at": dt.datetime.now(dt.timezone.utc),
        "as_of": context.config.as_of,
        "model_version": trained.model.version,
        "engine": trained.learned.engine,
        "failed_gates": [verdict.rule for verdict in trained.verdicts if not verdict.passed],
        "refused": refused,
        **owns,
    }
    schema = TRAINING_METRICS.schema()
    figures = [{**told, **one} for one in _figures(metrics, trained.learned.fitted.history)]
    rows = pa.Table.from_pylist(figures, schema)
    output = Output(TRAINING_METRICS, schema, context.commit(job, trained.target, identity), owns=owns)
    return context.plane.rows_of(TRAINING_METRICS, schema, rows).write([output])


def _figures(metrics: Mapping[str, float], history: Mapping[str, Sequence[float]]) -> Iterator[dict[str, Any]]:
    """metric, round and value of each finite figure: of the training, then of its rounds."""
    for name, value in sorted(metrics.items()):
        if math.isfinite(value):
            yield {"metric": name, "round": None, "value": float(value)}
    for name, values in sorted(history.items()):
        for number, value in enumerate(values, 1):
            if math.isfinite(value):
                yield {"metric": name, "round": number, "value": float(value)}
