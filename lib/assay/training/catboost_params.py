"""Consumes `engine.params`, produces CatBoost's parameters, tried out before a stage starts, or one plain message."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from assay.errors import ConfigError
from assay.model.catboost_predictor import inputs
from assay.model.encoding import Encoding
from assay.model.outcome import VALUE, Kind, Outcome

DEFAULTS: dict[str, Any] = {"loss_function": "RMSE", "depth": 6, "learning_rate": 0.05}
OTHER_NAMES = {"objective": "loss_function", "max_depth": "depth", "eta": "learning_rate"}
# Losses whose model predicts one value on the target's scale; as metrics, less is better, and shares can be pooled.
# Losses of the other kinds of outcomes.
OBJECTIVES: dict[Kind, str] = {"binary": "Logloss", "multiclass": "MultiClass", "quantiles": "MultiQuantile"}
LOSSES = ("RMSE", "MAE", "MAPE", "Quantile", "Expectile", "Huber", "LogCosh", "Lq")
METRICS = (*LOSSES, "SMAPE", "MSLE")
ELSEWHERE = {
    **dict.fromkeys(("seed", "random_seed", "random_state"), "engine.seed"),
    **dict.fromkeys(("iterations", "n_estimators", "num_boost_round", "num_trees"), "engine.rounds"),
    **dict.fromkeys(
        ("early_stopping_rounds", "od_wait", "od_type", "od_pval", "use_best_model"), "engine.early_stopping_rounds"
    ),
    "thread_count": "spark.task.cpus",
    **dict.fromkeys(("task_type", "devices"), "spark.task.resource.gpu.amount"),
    **dict.fromkeys(("cat_features", "text_features", "embedding_features", "ignored_features"), "the dataset"),
}
NOT_HERE = {
    "has_time": "rows come in no order of time",
    **dict.fromkeys(("logging_level", "verbose", "silent", "verbose_eval", "metric_period"), "rounds are told anyway"),
    **dict.fromkeys(
        ("allow_writing_files", "save_snapshot", "snapshot_file", "snapshot_interval", "train_dir", "name"),
        "training leaves no files behind",
    ),
    **dict.fromkeys(("custom_metric", "custom_loss"), "rounds are told by engine.params.eval_metric"),
}
QUIET: dict[str, Any] = {"allow_writing_files": False, "logging_level": "Silent"}
ROWS = 256  # of the trial: enough for any sampling rate


def resolve(
    given: Mapping[str, Any],
    encoding: Encoding,
    *,
    seed: int,
    monotone: Mapping[str, int] | None = None,
    outcome: Outcome = VALUE,
) -> dict[str, Any]:
    """Defaults, then what the user gave under any of CatBoost's names, then the seed and the monotone inputs.

    monotone: numeric input -> 1 or -1.

    Raises:
        ConfigError: CatBoost does not know a parameter or does not take its value.
    """
    params = {**DEFAULTS, **_objective(given, outcome), **given, "random_seed": seed}
    for other, name in OTHER_NAMES.items():
        if other in given and name not in given:
            del params[name]
    if monotone:
        if "monotone_constraints" in given:
            raise ConfigError("engine.params.monotone_constraints: this is set by engine.monotone")
        params["monotone_constraints"] = [monotone.get(name, 0) for name in encoding.features]
    if given or monotone:
        _refuse(given, outcome)
        told = [*(f"engine.params.{name}" for name in given), *(["engine.monotone"] if monotone else [])]
        _try_out(params, encoding, outcome, told=", ".join(told))
    return params


def metric_of(params: Mapping[str, Any]) -> str:
    """The metric that early stopping looks at, as CatBoost calls it."""
    return str(params.get("eval_metric") or params.get("loss_function") or params["objective"])


def reason_of(error: BaseException) -> str:
    """CatBoost's own words, without the place in its source."""
    return " ".join(re.sub(r"^\S+\.(?:cpp|h):\d+: ", "", str(error)).split())


def _objective(given: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
    """What a kind of outcome settles."""
    if outcome.kind == "value":
        return {}
    own = OBJECTIVES[outcome.kind]
    for name in ("loss_function", "objective", "classes_count", "class_names"):
        if given.get(name, own) != own:
            why = "dataset.targets.task" if outcome.decides else "engine.quantiles"
            raise ConfigError(f"engine.params.{name}={given[name]}: this is set by {why}, to {own}; leave it out")
    if outcome.kind == "quantiles":
        return {"loss_function": f"{own}:alpha={','.join(f'{level:g}' for level in outcome.levels)}"}
    return {"loss_function": own, **({"classes_count": len(outcome.classes)} if outcome.kind == "multiclass" else {})}


def _refuse(given: Mapping[str, Any], outcome: Outcome) -> None:
    for name in given:
        if name in ELSEWHERE:
            raise ConfigError(f"engine.params.{name}: this is set by {ELSEWHERE[name]}")
        if name in NOT_HERE:
            raise ConfigError(f"engine.params.{name}: not here: {NOT_HERE[name]}")
    if outcome.kind != "value":
        if "eval_metric" in given:
            raise ConfigError(
                f"engine.params.eval_metric={given['eval_metric']}: early stopping listens to "
                f"{OBJECTIVES[outcome.kind]} here; leave it out"
            )
        return
    chosen = [("loss_function", LOSSES), ("objective", LOSSES), ("eval_metric", METRICS)]
    for name, known in chosen:
        kind = str(given.get(name, known[0])).partition(":")[0]
        if kind not in known:
            raise ConfigError(f"engine.params.{name}={given[name]}: choose among {', '.join(known)}")


def _try_out(params: Mapping[str, Any], encoding: Encoding, outcome: Outcome, *, told: str) -> None:
    """One round on a few invented rows with the real columns: CatBoost checks most parameters no earlier."""
    import catboost

    numbers, features = len(encoding.numeric), len(encoding.features)
    data = np.random.default_rng(0).integers(0, 2, (ROWS, features)).astype(np.float32)
    data[0], data[1] = 0, 1
    label = np.arange(ROWS) % len(outcome.classes) if outcome.decides else np.linspace(0.25, 1.0, ROWS)
    try:
        pool = catboost.Pool(inputs(data, numbers), label, cat_features=list(range(numbers, features)) or None)
        catboost.CatBoost({**params, "iterations": 1, "thread_count": 1, **QUIET}).fit(pool)
    except (catboost.CatBoostError, ValueError, TypeError) as error:
        reason = reason_of(error)
        unknown = re.search(r"Unknown option \{(\w+)\}", reason)
        if unknown:
            known = inspect.signature(catboost.CatBoostRegressor.__init__).parameters
            near = difflib.get_close_matches(unknown[1], sorted(set(known) - {"self"}), n=1, cutoff=0.5)
            hint = f"; did you mean engine.params.{near[0]}?" if near else ""
            raise ConfigError(f"engine.params.{unknown[1]}: CatBoost does not know it{hint}") from None
        raise ConfigError(f"{told}: CatBoost refuses: {reason}") from None
