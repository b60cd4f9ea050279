"""Consumes `engine.params`, produces XGBoost's parameters, tried out before a stage starts, or one plain message."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from assay.errors import ConfigError
from assay.model.encoding import Encoding
from assay.model.outcome import VALUE, Kind, Outcome

DEFAULTS: dict[str, Any] = {
    "objective": "reg:squarederror",
    "tree_method": "hist",
    "max_depth": 6,
    "eta": 0.05,
    "min_child_weight": 5,
    "subsample": 0.8,
    "colsample_bytree": 0.8,  # of few inputs; see `drawn_inputs`
    "max_bin": 256,  # of many rows; see `bins_worth`
}
FEW, LEAST_DRAWN = 16, 0.5
FEW_BINS, MOST_A_ROW = 64, 1.5
# A single round of many trees is a random forest, which needs no small steps; the values are those of XGBRFRegressor.
FOREST: dict[str, Any] = {"eta": 1.0, "colsample_bytree": 1.0, "colsample_bynode": 0.8, "lambda": 1e-5}
OTHER_NAMES = {"learning_rate": "eta", "reg_lambda": "lambda"}
OTHERS = (
    *("gamma", "alpha", "lambda", "max_leaves", "grow_policy", "max_delta_step", "colsample_bylevel", "eval_metric"),
    *("colsample_bynode", "num_parallel_tree", "sampling_method", "max_cat_to_onehot", "max_cat_threshold"),
    *("monotone_constraints", "interaction_constraints", "scale_pos_weight", "base_score", "device", "booster"),
)
ELSEWHERE = {
    "seed": "engine.seed",
    "random_state": "engine.seed",
    "nthread": "spark.task.cpus",
    "n_jobs": "spark.task.cpus",
    "n_estimators": "engine.rounds",
    "num_boost_round": "engine.rounds",
    "early_stopping_rounds": "engine.early_stopping_rounds",
    "seed_per_iteration": "engine.seed and engine.checkpoint_rounds",
}
ROWS = 8  # of the trial
OBJECTIVES: dict[Kind, str] = {
    "binary": "binary:logistic",
    "multiclass": "multi:softprob",
    "quantiles": "reg:quantileerror",
}


def resolve(
    given: Mapping[str, Any],
    encoding: Encoding,
    *,
    seed: int,
    rounds: int | None = None,
    rows: int | None = None,
    monotone: Mapping[str, int] | None = None,
    outcome: Outcome = VALUE,
) -> dict[str, Any]:
    """Defaults, then what the user gave, then the seed and the monotone inputs (input -> 1 or -1).

    The objective of classes and of quantiles is theirs. rows: that teach, by which `bins_worth` goes; None for many.

    Raises:
        ConfigError: XGBoost does not know a parameter or does not take its value.
    """
    forest = FOREST if rounds == 1 and given.get("num_parallel_tree", 1) not in (0, 1) else {}
    inputs = len(encoding.features)
    sized = {"colsample_bytree": drawn_inputs(inputs), "max_bin": bins_worth(rows, inputs)}
    params = {**DEFAULTS, **sized, **forest, **_objective(given, outcome), **given, "seed": seed}
    for other, name in OTHER_NAMES.items():
        if other in given and name not in given:
            params.pop(name, None)  # two names of one thing
    if monotone:
        if "monotone_constraints" in given:
            raise ConfigError("engine.params.monotone_constraints and engine.monotone say the same: leave one out")
        params["monotone_constraints"] = f"({','.join(str(monotone.get(name, 0)) for name in encoding.features)})"
    if given:
        for name, setting in ELSEWHERE.items():
            if name in given:
                raise ConfigError(f"engine.params.{name}: this is set by {setting}")
        _try_out(params, encoding, outcome, told=", ".join(f"engine.params.{name}" for name in given))
    return params


def drawn_inputs(inputs: int) -> float:
    """Share of the inputs that each tree may use: about 16 of them, but at least half and at most the default's share.

    Of many inputs several tell nearly the same, and trees that see other ones are less alike; of few, each says
    something of its own, and a tree without it cannot tell how two work together.
    """
    return round(float(np.clip(FEW / max(inputs, 1), LEAST_DRAWN, DEFAULTS["colsample_bytree"])), 3)


def bins_worth(rows: int | None, inputs: int) -> int:
    """Bins of each input: the default's, or a quarter of them where all inputs' bins would be many more than the rows.

    Whatever its rows, a node costs an entry of a histogram per bin of each input, to clear, to take from its sibling's
    and to look through; and bins of less than a row are no better to split by. With two bins for each row (prices of
    houses) a quarter of them took two thirds of the time and 0.5 to 2 % off the error under each of three seeds; with
    1.1 (prices of electricity) the error differed from -3 to +9 %.
    """
    many = int(DEFAULTS["max_bin"])
    return FEW_BINS if rows is not None and many * inputs > MOST_A_ROW * rows else many


def reason_of(error: BaseException) -> str:
    """XGBoost's own words, without the place in its source and the stack."""
    text = str(error).partition("Stack trace")[0]
    return " ".join(re.sub(r"^\[[\d:]+\] \S+: ", "", text).split())


def _objective(given: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
    """What a kind of outcome settles."""
    if outcome.kind == "value":
        return {}
    own = OBJECTIVES[outcome.kind]
    for name in ("objective", "num_class", "quantile_alpha"):
        if given.get(name, own) != own:
            why = "dataset.targets.task" if outcome.decides else "engine.quantiles"
            raise ConfigError(f"engine.params.{name}={given[name]}: this is set by {why}, to {own}; leave it out")
    more: dict[str, Any] = {"num_class": len(outcome.classes)} if outcome.kind == "multiclass" else {}
    if outcome.kind == "quantiles":
        more = {"quantile_alpha": list(outcome.levels)}
    return {"objective": own, **more}


def _try_out(params: Mapping[str, Any], encoding: Encoding, outcome: Outcome, *, told: str) -> None:
    """One round on a few invented rows with the real columns: XGBoost checks most parameters no earlier."""
    import xgboost as xgb

    data = np.arange(ROWS * len(encoding.features), dtype=np.float32).reshape(ROWS, -1) % 2
    label = np.arange(ROWS) % len(outcome.classes) if outcome.decides else np.linspace(0.25, 1.0, ROWS)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            matrix = xgb.QuantileDMatrix(
                data,
                label,
                feature_types=encoding.feature_types,
                enable_categorical=True,
                max_bin=int(params["max_bin"]),
                nthread=1,
            )
            booster = xgb.train({**params, "device": "cpu", "nthread": 1}, matrix, 1, verbose_eval=False)
            shape = booster.inplace_predict(data).shape
        except (xgb.core.XGBoostError, ValueError, TypeError) as error:
            raise ConfigError(f"{told}: XGBoost refuses: {reason_of(error)}") from None
    for warning in said:
        unused = re.search(r'Parameters: \{ "(\w+)"', str(warning.message))
        if unused:
            near = difflib.get_close_matches(unused[1], (*DEFAULTS, *OTHERS), n=1, cutoff=0.5)
            hint = f"; did you mean engine.params.{near[0]}?" if near else ""
            raise ConfigError(f"engine.params.{unused[1]}: XGBoost has no use for it here{hint}")
    if shape != (ROWS,) and outcome.kind in {"value", "binary"}:
        raise ConfigError(f"{told}: this objective predicts {shape[1]} values per row, a target is one")
