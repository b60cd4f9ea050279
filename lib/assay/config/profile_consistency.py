"""Consumes a profile, produces nothing or the contradiction of its keys that no single one shows."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from assay import extensions
from assay.config import conformal
from assay.config.conformal import missing_quantiles
from assay.config.deployment import check_deployment
from assay.config.evaluation import EvaluationConfig
from assay.config.experiments import check_experiments
from assay.config.lake import check_lake
from assay.config.members import is_engine, members_of, samples, unknown
from assay.config.preparation import PreparationConfig
from assay.config.profile import ENGINES, MONOTONE, SAMPLED, ProfileConfig, RuntimeConfig
from assay.config.quality import METRICS, SCORES
from assay.config.retraining import check_retraining
from assay.config.strict import check_repeats, nearest
from assay.errors import ConfigError


def check_profile(profile: ProfileConfig, origin: str) -> None:
    """Refuse a profile whose keys contradict one another.

    Raises:
        ConfigError: names the keys and what to change.
    """
    lists: list[tuple[str, Sequence[Any]]] = [
        ("conformal.levels", profile.conformal.levels),
        ("engine.quantiles", profile.engine.quantiles),
        ("scoring.shadows", profile.scoring.shadows),
        ("alerts.sinks", profile.alerts.sinks),
    ]
    check_repeats(lists, origin)
    split = profile.split
    held_back = split.tune + split.calibrate + split.test
    if held_back >= 1:
        raise ConfigError(
            f"{origin}: split.tune + split.calibrate + split.test = {held_back:g}: nothing is left to train on; "
            "make them smaller"
        )
    engine = profile.engine
    if not is_engine(engine.name):
        raise unknown("engine.name", engine.name, "engine", ENGINES, origin)
    score = profile.conformal.score
    if score not in conformal.SCORES and not extensions.is_here("score", score):
        raise unknown("conformal.score", score, "score", conformal.SCORES, origin)
    if engine.sample_rows and not samples(engine.name):
        raise ConfigError(
            f"{origin}: engine.sample_rows has no use with engine.name={engine.name}, which learns from all rows; "
            f"it is of {', '.join(SAMPLED)}"
        )
    if engine.monotone and engine.name not in MONOTONE:
        raise ConfigError(
            f"{origin}: engine.monotone has no use with engine.name={engine.name}; it is of {' and '.join(MONOTONE)}"
        )
    missing = missing_quantiles(profile.conformal.levels, engine.quantiles)
    if profile.conformal.score == "cqr" and missing:
        raise ConfigError(
            f"{origin}: conformal.score=cqr needs the model's quantiles at {', '.join(f'{end:g}' for end in missing)}: "
            "name them in engine.quantiles (engines xgboost and catboost), or choose another score"
        )
    if profile.training.enable_advanced_ensemble or profile.ensemble.members:
        members_of(profile, origin)
    check_repeats([("ensemble.methods", profile.ensemble.methods)], origin)
    _check_preparation(profile.preparation, origin)
    _check_evaluation(profile.evaluation, origin)
    check_deployment(profile.deployment, origin)
    check_experiments(profile.experiments, origin)
    check_retraining(profile.retraining, origin)
    _check_runtime(profile.runtime, origin)
    check_lake(profile.runtime, origin)
    _check_quality_names(profile, origin)


def _check_runtime(runtime: RuntimeConfig, origin: str) -> None:
    """What Databricks asks of names: experiments are workspace objects, models of Unity Catalog are in a schema."""
    unity = runtime.registry_uri.startswith("databricks-uc")
    if unity and not re.fullmatch(r"[^.\s/]+\.[^.\s/]+", runtime.catalog):
        raise ConfigError(
            f"{origin}: runtime.registry_uri={runtime.registry_uri} needs runtime.catalog as catalog.schema, found "
            f"{runtime.catalog!r}: models of Unity Catalog are catalog.schema.model"
        )
    folder = runtime.experiment_folder
    if folder and runtime.tracking_uri.startswith("databricks") and not folder.startswith("/"):
        raise ConfigError(
            f"{origin}: runtime.experiment_folder={folder}: on Databricks an experiment is a workspace object, whose "
            "path begins with /; set it to /Shared/assay, say"
        )


def _check_evaluation(evaluation: EvaluationConfig, origin: str) -> None:
    check_repeats([("evaluation.segments", evaluation.segments)], origin)
    check_repeats([("evaluation.clusters.columns", evaluation.clusters.columns)], origin)
    if evaluation.act_width > evaluation.review_width:
        raise ConfigError(
            f"{origin}: evaluation.act_width {evaluation.act_width:g} is above evaluation.review_width "
            f"{evaluation.review_width:g}; an interval to act on is narrower than one to look at"
        )


def _check_preparation(preparation: PreparationConfig, origin: str) -> None:
    outliers, impute, selection = preparation.outliers, preparation.impute, preparation.selection
    check_repeats([("preparation.outliers.columns", outliers.columns)], origin)
    for name, (low, high) in outliers.bounds.items():
        if low > high:
            raise ConfigError(
                f"{origin}: preparation.outliers.bounds.{name}: the lowest value {low} is above the highest {high}"
            )
    if outliers.winsorize is not None and outliers.winsorize[0] >= outliers.winsorize[1]:
        raise ConfigError(
            f"{origin}: preparation.outliers.winsorize {list(outliers.winsorize)}: expected a lower and a higher "
            "quantile, such as [0.01, 0.99]"
        )
    for name, rule in impute.columns.items():
        if rule.value is not None and rule.method != "constant":
            raise ConfigError(
                f"{origin}: preparation.impute.columns.{name}.value has no use with method {rule.method}; it is of "
                "method constant"
            )
    if preparation.pca.enabled:
        kept = [f"preparation.impute.columns.{n}.method" for n, r in impute.columns.items() if r.method == "keep"]
        kept += ["preparation.impute.default"] if impute.default == "keep" else []
        if kept:
            raise ConfigError(
                f"{origin}: preparation.pca.enabled takes no missing values, but {kept[0]} is keep; set it to median, "
                "say"
            )
    if selection.method == "none" and (selection.max_features is not None or selection.min_score):
        key = "max_features" if selection.max_features is not None else "min_score"
        raise ConfigError(
            f"{origin}: preparation.selection.{key} needs scores; set preparation.selection.method to importance, say"
        )


def _check_quality_names(profile: ProfileConfig, origin: str) -> None:
    quality = profile.quality
    named: list[tuple[str, Mapping[str, float], Collection[str]]] = [
        ("ingest.quality_limits", profile.ingest.quality_limits, METRICS),
        ("quality.warn_limits", quality.warn_limits, METRICS),
        ("quality.metric_weights", quality.metric_weights, METRICS),
        ("quality.score_weights", quality.score_weights, SCORES),
    ]
    for path, given, known in named:
        for name in given:
            if name not in known:
                hint = nearest(name, set(known)) or f" (valid here: {', '.join(sorted(known))})"
                raise ConfigError(f"{origin}: unknown key {path}.{name}{hint}")
    if not any(quality.score_weights.get(name, 1.0) for name in SCORES):
        raise ConfigError(f"{origin}: quality.score_weights are all 0: give one of {', '.join(SCORES)} a weight")
