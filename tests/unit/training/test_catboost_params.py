"""Consumes `engine.params` as users write them for CatBoost, checks that bad ones are refused before any stage."""

from __future__ import annotations

import pytest

from assay.errors import ConfigError
from assay.model.encoding import Encoding
from assay.training.catboost_params import DEFAULTS, metric_of, reason_of, resolve

TWO = Encoding(("size",), {"city": ("Austin", "Waco")})


def test_users_parameters_go_over_the_defaults_under_any_of_their_names():
    assert resolve({}, TWO, seed=3) == {**DEFAULTS, "random_seed": 3}
    found = resolve({"max_depth": 3, "eta": 0.2, "l2_leaf_reg": 9, "subsample": 0.05}, TWO, seed=3)
    assert found == {
        "loss_function": "RMSE",
        "max_depth": 3,
        "eta": 0.2,
        "l2_leaf_reg": 9,
        "subsample": 0.05,
        "random_seed": 3,
    }
    assert metric_of(resolve({"objective": "Quantile:alpha=0.9"}, TWO, seed=3)) == "Quantile:alpha=0.9"
    assert metric_of(resolve({"eval_metric": "MAE"}, TWO, seed=3)) == "MAE"


def test_monotone_inputs_are_told_by_position():
    assert resolve({}, TWO, seed=3, monotone={"size": -1})["monotone_constraints"] == [-1, 0]
    with pytest.raises(ConfigError, match=r"engine\.params\.monotone_constraints: this is set by engine\.monotone"):
        resolve({"monotone_constraints": [1, 0]}, TWO, seed=3, monotone={"size": -1})


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"depthh": 3}, ["engine.params.depthh", "did you mean engine.params.depth?"]),
        ({"zzz": 3}, ["engine.params.zzz", "does not know it"]),
        ({"loss_function": "nonsense"}, ["engine.params.loss_function=nonsense", "choose among RMSE"]),
        ({"objective": "MultiClass"}, ["engine.params.objective=MultiClass", "choose among RMSE"]),
        ({"loss_function": "Poisson"}, ["choose among RMSE"]),
        ({"loss_function": "Quantile:beta=1"}, ["engine.params.loss_function", "beta"]),
        ({"eval_metric": "R2"}, ["engine.params.eval_metric=R2", "choose among RMSE"]),
        ({"learning_rate": "fast"}, ["engine.params.learning_rate", "fast"]),
        ({"depth": -3}, ["engine.params.depth", "-3"]),
        ({"depth": 40}, ["Maximum tree depth is 16"]),
        ({"eta": 0.1, "learning_rate": 0.2}, ["only one of the parameters"]),
        ({"l2_leaf_reg": -1}, ["L2LeafRegularizer should be >= 0"]),
        ({"subsample": 2}, ["Subsample should be in (0,1]"]),
        ({"grow_policy": "x"}, ["'x' not found"]),
        ({"monotone_constraints": "(1,1)"}, ["only on float features"]),
        ({"random_seed": 1}, ["engine.params.random_seed", "engine.seed"]),
        ({"thread_count": 8}, ["engine.params.thread_count", "spark.task.cpus"]),
        ({"iterations": 50}, ["engine.params.iterations", "engine.rounds"]),
        ({"od_wait": 5}, ["engine.params.od_wait", "engine.early_stopping_rounds"]),
        ({"task_type": "GPU"}, ["engine.params.task_type", "spark.task.resource.gpu.amount"]),
        ({"has_time": True}, ["engine.params.has_time", "no order of time"]),
        ({"train_dir": "x"}, ["engine.params.train_dir", "no files"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_parameters_are_refused_in_one_line(params, words):
    with pytest.raises(ConfigError, match=r"^engine\.params") as caught:
        resolve(params, TWO, seed=3)
    message = str(caught.value)
    assert "\n" not in message
    assert ".cpp" not in message
    assert ".h:" not in message
    for word in words:
        assert word in message


def test_reason_drops_the_place_in_catboosts_source():
    raw = "catboost/private/libs/options/json_helper.h:41: Can't parse parameter\n depth"
    assert reason_of(RuntimeError(raw)) == "Can't parse parameter depth"
