"""Consumes a dataset and a workspace, produces a job's result: each job as a function, for notebooks and programs.

`assay train --dataset my.yml --workspace ws --set engine.rounds=300` is

    jobs.train("my.yml", "ws", overrides=["engine.rounds=300"])

or, with a configuration that was resolved before, `jobs.train(jobs.configuration("my.yml", "ws"))`. A mistake raises
`UserError`; a refusal of a gate is the result's status. Results show themselves in notebooks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from assay.config import RunConfig
    from assay.runtime.progress import Reporter
    from assay.runtime.session import SparkSettings
    from assay.shown import JobResult


class Told(TypedDict, total=False):
    """What a run may be told beside its dataset and its workspace.

    profile: production (the default), research or development.  overrides: as after `--set`.  date: pretend to be
    there.  where: `COLUMN=VALUE`, the slice of the data.
    """

    profile: str
    overrides: Sequence[str]
    date: str | None
    where: Sequence[str]


class Options(Told, total=False):
    """The same, and how to reach Spark (a session that runs is taken), and who hears of progress (nobody)."""

    settings: SparkSettings | None
    reporter: Reporter | None


def configuration(dataset: str | Path, workspace: str | Path | None = None, **told: Unpack[Told]) -> RunConfig:
    """All that a run is told, resolved and checked, as every job takes it.

    Raises:
        ConfigError: an unknown key, a wrong value or a contradiction.
    """
    from assay.config import load_run

    folder = Path(workspace) if workspace is not None else None
    return load_run(dataset=Path(dataset), workspace=folder, **told)


def run(
    job: str, dataset: str | Path | RunConfig, workspace: str | Path | None = None, **options: Unpack[Options]
) -> JobResult:
    """Run a job by its name, as `assay JOB --dataset ... --workspace ... --set ...` does.

    run("calibrate", "my_data.yml", "workspace/mine", overrides=["conformal.adaptive=true"])

    Raises:
        UserError: there is no such job, or a mistake in what it is told. A refusal of a gate is the result's status.
    """
    from assay.config import RunConfig
    from assay.errors import UserError
    from assay.pipeline import job_named, run_configured
    from assay.shown import JobResult

    job_named(job)
    if isinstance(dataset, RunConfig):
        more = [
            *(["workspace"] if workspace is not None else []),
            *(name for name in Told.__annotations__ if name in options),
        ]
        if more:
            raise UserError(f"{job}: a configuration says {more[0]} already; give it to assay.configuration")
        config = dataset
    else:
        config = configuration(
            dataset,
            workspace,
            profile=options.get("profile", "production"),
            overrides=options.get("overrides", ()),
            date=options.get("date"),
            where=options.get("where", ()),
        )
    started = time.monotonic()
    result = run_configured(job, config, settings=options.get("settings"), reporter=options.get("reporter"))
    return JobResult.of(result, seconds=time.monotonic() - started, workspace=config.workspace)


def ingest(
    dataset: str | Path | RunConfig, workspace: str | Path | None = None, **options: Unpack[Options]
) -> JobResult:
    """Check raw rows and keep the good ones; quarantine the others with reasons."""
    return run("ingest", dataset, workspace, **options)


def build_features(
    dataset: str | Path | RunConfig, workspace: str | Path | None = None, **options: Unpack[Options]
) -> JobResult:
    """Build what was known of each row strictly before its time."""
    return run("build_features", dataset, workspace, **options)


def train(
    dataset: str | Path | RunConfig, workspace: str | Path | None = None, **options: Unpack[Options]
) -> JobResult:
    """Train, test against baselines and gates, calibrate intervals, register the champion."""
    return run("train", dataset, workspace, **options)


def tune(dataset: str | Path | RunConfig, workspace: str | Path | None = None, **options: Unpack[Options]) -> JobResult:
    """Find the best parameters by trials side by side, then train with them; a killed study is gone on with."""
    return run("tune", dataset, workspace, **options)


def calibrate(
    dataset: str | Path | RunConfig, workspace: str | Path | None = None, **options: Unpack[Options]
) -> JobResult:
    """Calibrate the champion's intervals anew, with every outcome known by now, without training."""
    return run("calibrate", dataset, workspace, **options)


def score(
    dataset: str | Path | RunConfig, workspace: str | Path | None = None, **options: Unpack[Options]
) -> JobResult:
    """Predict with intervals, for every row later than the champion's calibration."""
    return run("score", dataset, workspace, **options)


def evaluate(
    dataset: str | Path | RunConfig, workspace: str | Path | None = None, **options: Unpack[Options]
) -> JobResult:
    """Compare predictions with outcomes, by segment; write plots and the HTML report."""
    return run("evaluate", dataset, workspace, **options)


def segment(
    dataset: str | Path | RunConfig, workspace: str | Path | None = None, **options: Unpack[Options]
) -> JobResult:
    """Put entities into segments of similar ones by K-means, and say what each segment is like."""
    return run("segment", dataset, workspace, **options)


def monitor(
    dataset: str | Path | RunConfig, workspace: str | Path | None = None, **options: Unpack[Options]
) -> JobResult:
    """Compare the newest rows with those of the champion's test: what drifted, and how errors changed; raise alerts."""
    return run("monitor", dataset, workspace, **options)


def retrain(
    dataset: str | Path | RunConfig, workspace: str | Path | None = None, **options: Unpack[Options]
) -> JobResult:
    """Put targets whose champion does badly, drifts or is old into a queue, and train those that are due."""
    return run("retrain", dataset, workspace, **options)


def deploy(
    dataset: str | Path | RunConfig, workspace: str | Path | None = None, **options: Unpack[Options]
) -> JobResult:
    """Let a challenger serve step by step, as the section `deployment` says; take it back where it does harm."""
    return run("deploy", dataset, workspace, **options)


def pipeline(
    dataset: str | Path | RunConfig, workspace: str | Path | None = None, **options: Unpack[Options]
) -> JobResult:
    """From ingest to evaluate, in this order; and segment where segmentation.enabled says so."""
    return run("pipeline", dataset, workspace, **options)


def daily(
    dataset: str | Path | RunConfig, workspace: str | Path | None = None, **options: Unpack[Options]
) -> JobResult:
    """A day's work: new rows, their predictions, how the champion does, and what is to be done about it."""
    return run("daily", dataset, workspace, **options)


predict = score
