"""Consumes nothing, produces the declarations of training's tables: grain, key, partitions, columns, units."""

from __future__ import annotations

import pyarrow as pa

from assay.runtime.tables import TIME, Table

TRAINING_METRICS = Table(
    name="training_metrics",
    stage="training",
    grain="one figure of one training of one target: of a round, or of all of it",
    key=("target", "training", "metric", "round"),
    partition_by=("target", "training"),
    columns={
        "run_id": (pa.string(), "MLflow run of the training"),
        "trained_at": (TIME, "when it ended, by the clock, UTC"),
        "as_of": (TIME, "date that the run pretended to be at, UTC; null without one"),
        "model_version": (pa.string(), "hash of the content of the model that was tested"),
        "engine": (pa.string(), "kind of learner"),
        "failed_gates": (pa.list_(pa.string()), "rules of the gates that failed, in words, each with its setting"),
        "refused": (pa.bool_(), "whether they keep the model from being used (training.force_production_quality)"),
        "metric": (
            pa.string(),
            "test_rmse, skill_over_best_baseline, rounds, ... as in MLflow; of rounds tune_rmse, on the scale that is "
            "learned on, or tune_unit_rmse, and the like",
        ),
        "round": (pa.int64(), "round that the figure is of, from 1; null of the training as a whole"),
        "value": (pa.float64(), "target's unit, a share from 0 to 1, or percent where the name says so"),
        "target": (pa.string(), "target column"),
        "training": (pa.string(), "hash of its inputs and settings: trained again, the same rows are replaced"),
    },
)

TRAINING_TABLES = {TRAINING_METRICS.name: TRAINING_METRICS}
