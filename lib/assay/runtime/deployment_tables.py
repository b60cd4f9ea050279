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

EXPERIMENTS = Table(
    name="experiments",
    stage="deployment",
    grain="one look at one experiment of one target",
    key=("experiment", "target", "looked_until"),
    partition_by=("target", "experiment"),
    columns={
        "looked_until": (pa.date32(), "day up to which outcomes had matured at this look"),
        "champion": (pa.string(), "number of the champion in the registry"),
        "challenger": (pa.string(), "number of the challenger in the registry"),
        "loss": (pa.string(), "what is compared per row, such as squared, absolute or interval score"),
        "design": (pa.string(), "paired: both models on the same rows; arms: each entity has one model"),
        "decision": (pa.string(), "promote, reject or extend"),
        "reasons": (pa.list_(pa.string()), "why, in words, each with the setting that it rests on"),
        "days": (pa.int64(), "days with matured rows that were judged, experiments.max_days at most"),
        "rows": (pa.int64(), "matured rows of these days; of arms those of both"),
        "first_day": (pa.date32(), "first of these days; null without any"),
        "last_day": (pa.date32(), "last of these days; null without any"),
        "champion_loss": (pa.float64(), "mean loss per row, in the loss's unit; null without rows"),
        "challenger_loss": (pa.float64(), "mean loss per row, in the loss's unit; null without rows"),
        "effect": (
            pa.float64(),
            "share of the champion's loss that the challenger saves, 0.01 is 1 %; below 0 where it loses more; null "
            "without rows",
        ),
        "low": (
            pa.float64(),
            "lower bound of the effect; with 1 - alpha both bounds hold at all looks; minus infinity while unknown",
        ),
        "high": (pa.float64(), "upper bound of the effect; 1 while unknown"),
        "p": (pa.float64(), "of no effect, two-sided, 0 to 1, valid at all looks until the planned end"),
        "alpha": (pa.float64(), "experiments.alpha: share of experiments in which anything false may be shown"),
        "min_effect": (pa.float64(), "experiments.min_effect: effect that a promotion needs"),
        "max_days": (pa.int64(), "experiments.max_days: planned end, days with matured rows"),
        "harm_p": (pa.float64(), "of being no worse than the margin, 0 to 1, valid at all looks"),
        "harm_margin": (pa.float64(), "experiments.harm_margin: share by which the challenger may be worse"),
        "target": (pa.string(), "target column"),
        "experiment": (pa.string(), "name of the experiment, which is of one deployment"),
    },
)

DEPLOYMENTS = Table(
    name="deployments",
    stage="deployment",
    grain="one move of one deployment of one target: a challenger on its way to serving",
    key=("target", "deployment_id", "number"),
    partition_by=("target", "deployment_id"),
    columns={
        "number": (pa.int64(), "0 plans it, then one more for each move"),
        "state": (
            pa.string(),
            "after the move: planned, shadowing (scores beside the champion), split (serves a share), watched (serves "
            "all, and may be taken back), completed, rejected, rolled_back, aborted",
        ),
        "share": (pa.float64(), "share of the entities that the challenger serves after it, 0 to 1"),
        "below": (
            pa.float64(),
            "entities are the challenger's whose place is below this, 0 to 1: the share of those with a row of late",
        ),
        "step": (pa.int64(), "step of a canary, from 1; else 0"),
        "at": (TIME, "time of the first row that is served so, UTC"),
        "made_at": (TIME, "when the move was made, by the clock, UTC"),
        "by": (pa.string(), "who made it; assay where nobody told it to"),
        "why": (pa.string(), "in words, with the setting that it rests on"),
        "evidence": (pa.string(), "figures that it rests on, as JSON"),
        "strategy": (pa.string(), "immediate, blue_green, canary, ab or shadow"),
        "champion_version": (pa.string(), "number of the champion in the registry when it was planned"),
        "challenger_version": (pa.string(), "number of the challenger in the registry"),
        "champion_model": (pa.string(), "hash of the content of the champion's model"),
        "challenger_model": (pa.string(), "the same of the challenger's"),
        "settings": (
            pa.string(),
            "sections `deployment` (config) and `experiments` that it was planned with, which hold to its end, as JSON",
        ),
        "target": (pa.string(), "target column"),
        "deployment_id": (pa.string(), "name of the deployment"),
    },
)

RETRAIN_QUEUE = Table(
    name="retrain_queue",
    stage="deployment",
    grain="one move of a retraining job; the last one of a job says where it stands",
    key=("job_id", "move"),
    partition_by=(),
    columns={
        "job_id": (pa.string(), "hash of target, champion and as_of"),
        "target": (pa.string(), "target column"),
        "champion": (pa.string(), "hash of the content of the model that was to be learned anew"),
        "as_of": (pa.date32(), "newest day of what speaks for it"),
        "triggers": (pa.list_(pa.string()), "performance, coverage, drift, schedule"),
        "reasons": (pa.list_(pa.string()), "of each trigger the words, with the setting that it rests on"),
        "move": (pa.int64(), "0 for its first move, 1, ..."),
        "is_last": (pa.bool_(), "whether the job has made no other move since"),
        "state": (pa.string(), "queued, leased, waiting, done, refused, failed or cancelled"),
        "at": (TIME, "clock's time of the move, UTC"),
        "attempt": (pa.int64(), "how often the job was taken by then"),
        "runner": (pa.string(), "host, process and its start, of who has or had it; null before"),
        "until": (
            TIME,
            "of leased: end of the lease, then anybody may take it; of waiting: when it is tried again; else null",
        ),
        "seen_at": (TIME, "newest sign of life of the runner, UTC; null before there was one"),
        "detail": (pa.string(), "of leased: the step it is at; else what came of it"),
        "run_id": (pa.string(), "MLflow run of the training; null where none ended"),
    },
)

UNDERPERFORMERS = Table(
    name="underperformers",
    stage="deployment",
    grain="one model that was found to lose, at one date",
    key=("target", "as_of", "model_version"),
    partition_by=("target", "as_of"),
    columns={
        "model_version": (pa.string(), "hash of the model's content"),
        "number": (pa.int64(), "its newest version in MLflow's registry; null where there is none"),
        "role": (pa.string(), "champion, or shadow"),
        "periods": (pa.int64(), "periods that were looked at, retraining.prune_of_last at most"),
        "lost": (pa.int64(), "those that it lost; the newest is among them"),
        "reasons": (pa.list_(pa.string()), "why, in words, each with the setting that it rests on"),
        "loss": (pa.float64(), "mean squared error of these periods, of classes mean log loss; null where unknown"),
        "champion_loss": (pa.float64(), "the champion's on the same days; null of the champion"),
        "win_rate": (pa.float64(), "share of changes whose direction was foreseen, 0 to 1; null where unknown"),
        "first_day": (pa.date32(), "first day of these periods"),
        "last_day": (pa.date32(), "last day of these periods, with matured outcomes"),
        "target": (pa.string(), "target column"),
        "as_of": (pa.string(), "day that the run pretended to be at, YYYY-MM-DD"),
    },
)

DEPLOYMENT_TABLES = {
    table.name: table for table in (MODEL_REGISTRY, EXPERIMENTS, DEPLOYMENTS, RETRAIN_QUEUE, UNDERPERFORMERS)
}
