"""Consumes a configuration, produces results of jobs: the one module that knows all stages and their order."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal

from assay.config import RunConfig, TargetConfig, canonical_json, load_run
from assay.config.strict import nearest
from assay.errors import UserError
from assay.runtime.job import DONE, REFUSED, UNCHANGED, JobContext, Result, run_stage
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings

if TYPE_CHECKING:
    from assay.deployment.job import Order
    from assay.tuning.job import Studies


@dataclasses.dataclass(frozen=True)
class Job:
    """A job as users know it: what it reads and writes, what it is for, and how to run it."""

    name: str
    purpose: str
    reads: str
    writes: str
    example: str
    run: Callable[[JobContext], Result]


def ingest(context: JobContext) -> Result:
    """Raw rows -> observations, quarantine and quality. Of events: raw rows -> events, events -> observations."""
    from assay.ingest import job, panel_job

    dataset = context.config.dataset
    reading = context if dataset.events is None else context.about(dataset.ingested)
    taken = run_stage(reading, job.plan(reading))
    if dataset.events is None or taken.status == REFUSED:
        return taken
    first = dataset.targets[0].name
    made = run_stage(context, panel_job.plan(context))
    return _merged(job.JOB, context, [(first, taken), (first, made)], run_id=taken.run_id)


def build_features(context: JobContext, plan: Literal["config", "champion"] = "config") -> Result:
    """Observations -> features, as the configuration or the champion has them."""
    from assay.features import job

    return run_stage(context, job.plan(context, of=plan))


def train(context: JobContext) -> Result:
    """Features -> model, and, where the gates let it pass, its calibration and its registration."""
    return _train(context, "train", tune=context.config.training.enable_hyperparameter_tuning)


def tune(context: JobContext) -> Result:
    """Features -> the best parameters, and at once the model that is trained with them."""
    return _train(context, "tune", tune=True)


def _train(context: JobContext, job: str, *, tune: bool, only: Collection[str] | None = None) -> Result:
    """Train, calibrate and register all targets, or some."""
    from assay.conformal import job as conformal
    from assay.features import certificate
    from assay.training import job as training

    wanted = [target for target in context.config.dataset.targets if only is None or target.name in only]
    certified = run_stage(context, certificate.plan(context))
    results: list[tuple[str, Result]] = [(wanted[0].name, certified)]
    targets = wanted if certified.status != REFUSED else ()
    studies = _studies(context, targets) if tune and targets else None
    for target in targets:
        best = None
        if studies is not None:
            studied, best = studies.tuned(target)
            results.append((target.name, studied))
        trained = run_stage(context, training.plan(context, target, best))
        results.append((target.name, trained))
        if trained.status != REFUSED:
            results.append((target.name, run_stage(context, conformal.plan(context, target, trained.run_id))))
    run_id = next((result.run_id for _, result in results if result.job == training.JOB), certified.run_id)
    return _merged(job, context, results, run_id=run_id)


def _studies(context: JobContext, targets: Sequence[TargetConfig]) -> Studies:
    from assay.tuning.job import Studies

    return Studies(context, targets)


def calibrate(context: JobContext) -> Result:
    """The champion and every outcome known by now -> its intervals anew, without training."""
    from assay.conformal import job
    from assay.model.registry import champion

    targets = context.config.dataset.targets
    runs = {target.name: champion(context.tracking, target.name).run_id for target in targets}
    results = [(t.name, run_stage(context, job.plan(context, t, runs[t.name]))) for t in targets]
    return _merged("calibrate", context, results, run_id=results[0][1].run_id)


def score(context: JobContext) -> Result:
    """Features and champion -> predictions."""
    from assay.scoring import job

    results = [(t.name, run_stage(context, job.plan(context, t))) for t in context.config.dataset.targets]
    if context.config.dataset.decision:
        from assay.scoring import decisions

        results.append((results[0][0], run_stage(context, decisions.plan(context))))
    return _merged("score", context, results, run_id=results[0][1].run_id)


def evaluate(context: JobContext) -> Result:
    """Predictions and outcomes -> metrics, segments and the report."""
    from assay.evaluation import job

    results = [(t.name, run_stage(context, job.plan(context, t))) for t in context.config.dataset.targets]
    return _merged("evaluate", context, results, run_id=results[0][1].run_id)


def monitor(context: JobContext) -> Result:
    """Two windows of inputs, predictions and outcomes -> what drifted, and how well the champion still does."""
    from assay.monitoring import alarm_job, drift, health_job, performance_job
    from assay.monitoring.watching import Watching

    results = []
    for target in context.config.dataset.targets:
        watching = Watching.of(context, target)
        for step in (drift, performance_job, health_job, alarm_job):
            results.append((target.name, run_stage(context, step.plan(watching))))
    return _merged("monitor", context, results, run_id=results[0][1].run_id)


def retrain(context: JobContext) -> Result:
    """What monitoring found -> jobs of the queue; those that are due, done as `train` does."""
    from assay.deployment import retrain_job

    tune = context.config.training.enable_hyperparameter_tuning
    return retrain_job.run(context, lambda inside, target: _train(inside, "train", tune=tune, only=[target]))


def deploy(context: JobContext, order: Order | None = None, target: str | None = None) -> Result:
    """Champion, challenger and what both predicted -> the moves of a deployment that are due."""
    from assay.deployment import job
    from assay.deployment.registry_context import one_target

    told = order or job.Order()
    # What a person orders is ordered for one target.
    ordered = target is not None or told.orders
    targets = [one_target(context, target)] if ordered else context.config.dataset.targets
    results = [(t.name, run_stage(context, job.plan(context, t, told))) for t in targets]
    return _merged(job.JOB, context, results, run_id=results[0][1].run_id)


def segment(context: JobContext) -> Result:
    """Features -> segments of similar entities, and what each is like."""
    from assay.segmentation import job

    return run_stage(context, job.plan(context))


def pipeline(context: JobContext) -> Result:
    """All stages in order, as one MLflow run with the stages nested below it. Ends at the first refusal."""
    last = (segment,) if context.config.profile.segmentation.enabled else ()
    return _in_turn("pipeline", context, (ingest, build_features, train, score, evaluate, *last))


DAY = (ingest, build_features, score, monitor, retrain, deploy)
BY_TIME = (monitor, retrain)  # jobs of a day that have nothing to look at where rows have no time


def daily(context: JobContext) -> Result:
    """What `DAY` says, as one MLflow run. Targets without a champion are trained first, and then evaluated, too.

    Where rows have no time, `BY_TIME` is left out. A refusal ends the day, but that of a model that `retrain` made: the
    champion serves on, and the result is refused.

    Raises:
        UserError: the run is of a slice.
    """
    context.refuse_slice("daily")
    dated = context.config.dataset.time.dated
    stages: list[Callable[[JobContext], Result]] = [stage for stage in DAY if dated or stage not in BY_TIME]
    if missing := _without_champion(context):
        tuned = context.config.training.enable_hyperparameter_tuning

        def begin(context: JobContext) -> Result:
            return _train(context, "train", tune=tuned, only=missing)

        place = stages.index(score)
        stages[place : place + 1] = [begin, score, evaluate]
    return _in_turn("daily", context, stages)


def _without_champion(context: JobContext) -> list[str]:
    """Targets that no model serves yet."""
    from assay.model.registry import model_name
    from assay.model.versions import CHAMPION, aliases_of

    config, client = context.config, context.tracking.client
    names = [target.name for target in config.dataset.targets]
    return [name for name in names if CHAMPION not in (aliases_of(client, model_name(config, name)) or {})]


def _in_turn(name: str, context: JobContext, stages: Sequence[Callable[[JobContext], Result]]) -> Result:
    """Stages one after another, until one is refused; a champion serves on where a new model is."""
    tracking = context.tracking
    first = context.config.dataset.targets[0].name
    results: list[tuple[str, Result]] = []
    with tracking.run(name, context.config.hash_of()[:16]) as run_id:
        for stage in stages:
            result = stage(context)
            results.append((first, result))
            if result.status == REFUSED and stage is not retrain:
                break
        merged = _merged(name, context, results, run_id=run_id)
        tracking.metrics(merged.metrics)
        tracking.finish(REFUSED if merged.status == REFUSED else DONE)
    return merged


def _merged(job: str, context: JobContext, results: Sequence[tuple[str, Result]], *, run_id: str) -> Result:
    """Several results as one. Figures of further targets carry the target's name in front."""
    if len(results) == 1 and results[0][1].job == job:
        return results[0][1]
    first = context.config.dataset.targets[0].name
    metrics: dict[str, float] = {}
    tables: dict[str, Any] = {}
    summary: list[str] = []
    for target, result in results:
        metrics |= {k if target == first else f"{target}.{k}": v for k, v in result.metrics.items()}
        tables |= result.tables
        summary += result.summary
    statuses = {r.status for _, r in results}
    status = REFUSED if REFUSED in statuses else UNCHANGED if statuses == {UNCHANGED} else DONE
    identity = hashlib.sha256(canonical_json([r.identity for _, r in results]).encode()).hexdigest()[:16]
    report = next((r.report for _, r in reversed(results) if r.report), None)
    return Result(job, status, run_id, identity, metrics, tables, summary, report)


JOBS: dict[str, Job] = {
    job.name: job
    for job in (
        Job(
            "ingest",
            "Check raw rows and keep the good ones; quarantine the others with reasons.",
            "the dataset's source: CSV, JSON or Parquet (of a folder, the files that are new or corrected), a Delta "
            "table, a catalog table, or a database",
            "observations, observations_quarantine, source_files, quality_reports",
            "assay ingest --dataset conf/datasets/txhousing.yml",
            ingest,
        ),
        Job(
            "build_features",
            "Build what was known of each row strictly before its time.",
            "observations",
            "features",
            "assay build_features --dataset conf/datasets/txhousing.yml --date 2012-12-31",
            build_features,
        ),
        Job(
            "train",
            "Train, test against baselines and gates, calibrate intervals, register the champion.",
            "features",
            "a model in MLflow, calibrations",
            "assay train --dataset conf/datasets/txhousing.yml --set engine.rounds=300",
            train,
        ),
        Job(
            "tune",
            "Find the best parameters by trials side by side, then train with them; a killed study is gone on with.",
            "features",
            "a study with its report, and what train writes",
            "assay tune --dataset conf/datasets/walmart_weekly.yml --set training.max_evals=100",
            tune,
        ),
        Job(
            "calibrate",
            "Calibrate the champion's intervals anew, with every outcome known by now, without training.",
            "features, the champion and the models it was tested with",
            "calibrations, conformity_scores, the champion with its new intervals",
            "assay calibrate --dataset conf/datasets/txhousing.yml --set conformal.levels=[0.5,0.8,0.95]",
            calibrate,
        ),
        Job(
            "score",
            "Predict with intervals, for every row later than the champion's calibration.",
            "features, calibrations, the champion",
            "predictions; shadow_predictions, of scoring.shadows; decisions, where the dataset combines targets",
            "assay score --dataset conf/datasets/txhousing.yml",
            score,
        ),
        Job(
            "evaluate",
            "Compare predictions with outcomes, by segment; write plots and the HTML report.",
            "predictions, features",
            "segment_metrics, explanations, reports/*.html",
            "assay evaluate --dataset conf/datasets/txhousing.yml --json",
            evaluate,
        ),
        Job(
            "segment",
            "Put entities into segments of similar ones by K-means, and say what each segment is like.",
            "features, the champion (for when its test period began)",
            "segments, segment_profiles",
            "assay segment --dataset conf/datasets/telco_churn.yml",
            segment,
        ),
        Job(
            "monitor",
            "Compare the newest rows with those of the champion's test: what drifted, how errors and coverage changed; "
            "raise alerts.",
            "features, predictions, shadow_predictions, the champion",
            "drift_detections, performance, health, alerts, alert_deliveries, reports/health-*.html",
            "assay monitor --dataset conf/datasets/walmart_weekly.yml",
            monitor,
        ),
        Job(
            "retrain",
            "Put targets whose champion does badly, drifts or is old into a queue, and train those that are due: each "
            "by one runner at a time, and again after a failure.",
            "health, drift_detections, performance, features, the champion",
            "retrain_queue, underperformers, and what train writes",
            "assay retrain --dataset conf/datasets/txhousing.yml --set retraining.schedule_days=90",
            retrain,
        ),
        Job(
            "deploy",
            "Let a challenger serve step by step, as the section `deployment` says; take it back where it does harm.",
            "MLflow's aliases, features, predictions, shadow_predictions, health",
            "deployments, experiments, MLflow's aliases, model_registry",
            "assay deploy --dataset conf/datasets/txhousing.yml --set deployment.strategy=canary",
            deploy,
        ),
        Job(
            "pipeline",
            "From ingest to evaluate, in this order; and segment where segmentation.enabled says so.",
            "the dataset's source",
            "all tables, a model, a report",
            "assay pipeline --dataset conf/datasets/kc_house.yml --workspace workspace/kc",
            pipeline,
        ),
        Job(
            "daily",
            "A day's work, for a scheduler: new rows, their predictions, how the champion does, and what is to be done "
            "about it. Where there is no champion yet, it is trained.",
            "the dataset's source",
            "what ingest, build_features, score, monitor, retrain and deploy write",
            "assay daily --dataset conf/datasets/txhousing.yml --workspace workspace/tx",
            daily,
        ),
    )
}


def run_job(
    name: str, *, settings: SparkSettings | None = None, reporter: Reporter | None = None, **told: Any
) -> Result:
    """Run a job by its name, without a terminal: for notebooks and tests.

    told: what `load_run` takes. settings: how to reach Spark; a session that runs is taken as it is. reporter: who
    hears of progress; None says nothing.

    Raises:
        UserError: there is no such job, or a mistake in what it is told. A refusal of a gate is the result's status.
    """
    job_named(name)
    return run_configured(name, load_run(**told), settings=settings, reporter=reporter)


def run_configured(
    name: str, config: RunConfig, *, settings: SparkSettings | None = None, reporter: Reporter | None = None
) -> Result:
    """The same, with a configuration that was resolved before.

    Raises:
        UserError: there is no such job, or a mistake that shows only now.
    """
    job = job_named(name)
    context = JobContext(config, settings or SparkSettings(), reporter or Reporter(quiet=True))
    try:
        return job.run(context)
    finally:
        context.close()


def job_named(name: str) -> Job:
    """The job of this name.

    Raises:
        UserError: there is none; names the likest one.
    """
    if name not in JOBS:
        raise UserError(f"there is no job {name!r}{nearest(name, set(JOBS)) or '; choose ' + ', '.join(JOBS)}")
    return JOBS[name]
