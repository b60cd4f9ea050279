"""Consumes labelled rows and small models, checks what is found of classes and of quantiles on the test period."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math

import numpy as np
import pyarrow as pa
import pytest
from class_harness import BINARY, QUANTILES, THREE, classes, learn, measured
from engine_harness import labelled
from sklearn.metrics import log_loss

from assay.class_metrics import class_metrics
from assay.config.profile import GatesConfig
from assay.conformal.class_probabilities import FITS, Temperature
from assay.model.baselines import Baselines
from assay.model.carried import Carried
from assay.model.outcome import VALUE
from assay.model.rates import RateBaselines
from assay.training.champion import compare, compare_losses
from assay.training.gates import AdvancedTrainingConfig
from assay.training.holdout import kernel_of
from assay.training.judging import folds_sentence, gates, merged_sentence, refit_sentence, sentence

START = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
FLAGS = AdvancedTrainingConfig()
CV = {"cv_folds": 3.0, "cv_log_loss": 0.5, "cv_log_loss_std": 0.1}


def dated(batch):
    times = [START + dt.timedelta(hours=n) for n in range(batch.num_rows)]
    return batch.append_column("time", pa.array(times, pa.timestamp("us", tz="UTC")))


def rates(count):
    whole = (
        {f"rate_{k}": [1 / count] for k in range(count)}
        | {"days": [None]}
        | {f"slope_{k}": [None] for k in range(count)}
    )
    seasons = {"season": [], **{f"rate_{k}": [] for k in range(count)}}
    return RateBaselines(count, (), 18_000.0, 100.0, (whole,), (seasons,))


def collected(kernel, batch):
    table = pa.Table.from_batches(list(kernel(iter([batch.slice(0, 100), batch.slice(100)]))))
    assert table.schema.names == kernel.names
    return {name: table.column(name).to_numpy() for name in kernel.names}


@pytest.mark.parametrize("outcome", [BINARY, THREE], ids=["binary", "multiclass"])
def test_models_of_classes_are_measured_beside_rates_and_one_another(outcome):
    model, champion, held_back = (
        learn("linear", [classes(rows, outcome, seed=rows)], outcome)[1] for rows in (800, 60, 300)
    )
    later = dated(classes(400, outcome, seed=9))
    models = {"model": model, "champion": champion, "held_back": held_back}
    kernel = kernel_of({k: Carried.of(m) for k, m in models.items()}, rates(len(outcome.classes)), "y", outcome)
    found = collected(kernel, later)
    metrics = kernel.figures(found)
    expected = measured(model, later)
    assert {f"test_{k}": v for k, v in expected.items()}.items() <= metrics.items()
    truth = model.truth(later)
    for name, one in models.items():
        loss = log_loss(truth, one.probabilities(later), labels=range(len(outcome.classes)))
        assert kernel.losses(found, name).mean() == pytest.approx(loss)
    assert metrics["baseline_global_rate_log_loss"] == pytest.approx(math.log(len(outcome.classes)))
    assert metrics["baseline_combined_log_loss"] == pytest.approx(math.log(len(outcome.classes)))
    better = {**metrics, "best_baseline_log_loss": math.log(len(outcome.classes))}
    (verdict,) = gates(better, FLAGS, outcome)
    assert verdict.passed
    assert not gates({**better, "test_log_loss": 2.0}, FLAGS, outcome)[0].passed
    assert not gates({**better, "test_log_loss": math.nan}, FLAGS, outcome)[0].passed
    said = sentence("mood", better, outcome)
    assert said.startswith("mood: log loss 0.")
    assert ("AUC" in said) == (outcome is BINARY)
    assert "R²" not in said
    said = refit_sentence({**better, "test_log_loss_without_refit": 0.7}, outcome, START)
    assert said.startswith("fitted again on all rows known by then: log loss 0.")
    assert said.endswith("until 2020-01-01")


@pytest.mark.parametrize("outcome", [BINARY, THREE], ids=["binary", "multiclass"])
@pytest.mark.parametrize("method", FITS)
def test_what_is_judged_is_what_a_map_of_probabilities_serves(outcome, method):
    """The map is one that changes much, for the better or the worse: the gate follows it, not the raw model."""
    model, held_back, champion = (learn("linear", [classes(900, outcome, seed=one)], outcome)[1] for one in (1, 2, 3))
    earlier, later = classes(600, outcome, seed=4), dated(classes(400, outcome, seed=9))
    maps = {
        "model": FITS[method](held_back.truth(earlier), Temperature(0.2)(held_back.probabilities(earlier))),
        "champion": Temperature(3.0),
    }
    maps["held_back"] = maps["model"]
    carried = {name: Carried.of(one) for name, one in zip(maps, (model, champion, held_back), strict=True)}
    kernel = kernel_of(carried, rates(len(outcome.classes)), "y", outcome, maps)
    found = collected(kernel, later)
    metrics, truth = kernel.figures(found), model.truth(later)
    models = zip(maps, (model, champion, held_back), strict=True)
    served = {name: maps[name](one.probabilities(later)) for name, one in models}
    expected = class_metrics(truth, served["model"])
    assert {f"test_{k}": v for k, v in expected.items()}.items() <= metrics.items()
    for name, each in served.items():
        assert kernel.losses(found, name).mean() == pytest.approx(log_loss(truth, each, labels=range(each.shape[1])))
    raw = measured(model, later)
    assert metrics["test_log_loss_uncalibrated"] == pytest.approx(raw["log_loss"])
    assert metrics["test_brier_uncalibrated"] == pytest.approx(raw["brier"])
    assert metrics["test_log_loss"] != metrics["test_log_loss_uncalibrated"]
    between = {**metrics, "best_baseline_log_loss": (metrics["test_log_loss"] + raw["log_loss"]) / 2}
    (verdict,) = gates(between, FLAGS, outcome)
    assert verdict.passed == (metrics["test_log_loss"] < raw["log_loss"])
    assert "before calibration" in verdict.rule
    assert "before calibration" in sentence("mood", between, outcome)
    assert "not calibrated" in folds_sentence(between | CV, outcome, "kfold")[0]


def test_quantiles_are_measured_by_pinball_loss_beside_the_median():
    model = learn("xgboost", [labelled(800, noise=2.0)], QUANTILES, params={"eta": 0.3})[1]
    later = dated(labelled(300, seed=9, noise=2.0))
    whole = {"median": [20.0], "days": [0.0], "level": [20.0], "slope": [None]}
    plain = Baselines("none", (), 18_000.0, 100.0, (whole,), ({"season": [], "median": []},))
    kernel = kernel_of({"model": Carried.of(model)}, plain, "y", QUANTILES)
    found = collected(kernel, later)
    metrics = kernel.figures(found)
    errors = later.column("y").to_numpy() - model.predict_quantiles(later)[:, 1]
    assert metrics["test_rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)))
    assert kernel.losses(found, "model").mean() == pytest.approx(np.mean(errors**2))
    assert metrics["test_below_10"] < metrics["test_below_50"] < metrics["test_below_90"]
    half = np.abs(errors).mean() / 2
    assert 0 < metrics["test_pinball"] < half  # the median's own loss is the largest of the three
    said = sentence("price", {**metrics, "best_baseline_rmse": 5.0}, QUANTILES)
    assert "pinball loss" in said
    assert "min_r2" in {v.gate for v in gates({**metrics, "best_baseline_rmse": 5.0}, FLAGS, QUANTILES)}
    assert dataclasses.replace(QUANTILES, kind="value", levels=()) == VALUE


def test_squared_errors_are_compared_as_before_and_other_losses_by_their_mean():
    random, config = np.random.default_rng(0), GatesConfig()
    actual, new, champion = random.normal(size=(3, 500))
    days = np.arange(500) // 10
    one = compare(actual, actual + new, actual + champion, days, config, seed=1)
    two = compare_losses(new**2, champion**2, days, config, seed=1, root=True)
    assert dataclasses.astuple(one) == pytest.approx(dataclasses.astuple(two))
    plain = compare_losses(new**2, champion**2, days, config, seed=1)
    assert plain.rmse == pytest.approx(np.mean(new**2))
    assert plain.low < plain.rmse - plain.champion_rmse < plain.high


@pytest.mark.parametrize(("loss", "word"), [("rmse", "RMSE"), ("log_loss", "log loss"), ("pinball", "pinball loss")])
def test_shards_are_told_beside_their_mean(loss, word):
    figures = {f"tune_{loss}_merged": 0.5, f"tune_{loss}_shard_0": 0.7, f"tune_{loss}_shard_1": 0.6}
    (said,) = merged_sentence(figures)
    assert f"the mean of 2 shards: {word} 0.5" in said
    assert merged_sentence({}) == []
