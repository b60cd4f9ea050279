"""Consumes nothing, produces the declarations of deployment's tables: grain, key, partitions, columns, units."""

from __future__ import annotations

import pyarrow as pa

from assay.runtime.tables import TIME, Table

MODEL_REGISTRY = Table(
    name="model_registry",
    stage="deployment",
    grain="one version of one target's model, as MLflow has it: a view, written whole whenever the registry changes",
    key=("target", "number"),
    partition_by=(),
    columns={
        "target": (pa.string(), "target column"),
        "number": (pa.int64(), "version in MLflow's registry"),
        "semantic_version": (pa.string(), "MAJOR.MINOR.PATCH; null of one registered before there were any"),
        "aliases": (pa.list_(pa.string()), "names that it has in MLflow's registry, sorted"),
        "state": (pa.string(), "serving, challenger, previous, registered, or retired"),
        "model_version": (pa.string(), "hash of the content of the model that serves"),
        "calibration_version": (pa.string(), "hash of its calibration"),
        "change": (pa.string(), "what it was to the version that it was compared with: first, major, minor or patch"),
        "parent": (pa.int64(), "number of the champion when it was registered; null where there was none"),
        "run_id": (pa.string(), "MLflow run of its training"),
        "engine": (pa.string(), "kind of learner"),
        "rows": (pa.int64(), "rows that the model which serves has learned from"),
        "learned_until": (TIME, "time of the newest of them, UTC"),
        "rmse": (pa.float64(), "on the test period, target's unit; of classes null, and so are the next three"),
        "r2": (pa.float64(), "share of the outcomes' variance that the model explains, at most 1"),
        "median_ape": (pa.float64(), "median error as a share of the outcome"),
        "within_20pct": (pa.float64(), "percent of predictions within 20 % of the outcome"),
        "log_loss": (
            pa.float64(),
            "mean of -log of the probability of what came true; of numbers null, as the next two",
        ),
        "auc": (pa.float64(), "area under the ROC curve, 0 to 1; of two classes"),
        "accuracy": (pa.float64(), "share of rows whose likeliest class came true"),
        "levels": (pa.list_(pa.float64()), "promised coverage of its intervals or sets, 0 to 1"),
        "test_coverage": (pa.list_(pa.float64()), "per level the share of the test's outcomes that is covered"),
        "registered_at": (TIME, "when it was registered, by the clock, UTC"),
        "retired_at": (TIME, "when it was retired, UTC; null where it was not"),
        "code": (
            pa.string(),
            "git revision of its training, -dirty where files were changed; null outside of a checkout",
        ),
        "config_hash": (pa.string(), "hash of the resolved configuration of its training"),
        "plan_hash": (pa.string(), "hash of the plan of the features that it learned from"),
        "features_version": (pa.int64(), "version of `features` that it learned from"),
        "observations_version": (pa.int64(), "version of `observations` that these were made from"),
        "study_run_id": (pa.string(), "MLflow run of the study that found its parameters; null without one"),
    },
)

DEPLOYMENT_TABLES = {table.name: table for table in (MODEL_REGISTRY,)}
