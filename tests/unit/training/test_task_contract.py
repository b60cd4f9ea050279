"""Consumes rows of classes and of quantiles, checks that every engine keeps the contract of the tasks it can do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from class_harness import BINARY, QUANTILES, THREE, classes, learn, measured, of_class
from engine_harness import CITIES, Heavy, LocalPlane, changed, labelled

from assay.config.profile import SAMPLED
from assay.errors import ConfigError
from assay.metrics import pinball_losses
from assay.model.bundle import Model
from assay.model.encoding import Encoding
from assay.model.outcome import VALUE
from assay.model.predictors import LOADERS, Explains
from assay.model.scale import TargetScale
from assay.training.engine import check_kind, engine_named

KINDS = {name: engine_named(name).kinds for name in LOADERS if name != "ensemble"}  # which learns nothing itself
DECIDE = [name for name, kinds in KINDS.items() if "multiclass" in kinds]
SPREAD = [name for name, kinds in KINDS.items() if "quantiles" in kinds]
PARAMS = {
    "xgboost": {"eta": 0.3, "max_depth": 3},
    "catboost": {"learning_rate": 0.3, "depth": 4},
    "random_forest": {"n_estimators": 20},
}
decides = pytest.mark.parametrize("engine", DECIDE)
spreads = pytest.mark.parametrize("engine", SPREAD)
each_task = pytest.mark.parametrize("outcome", [BINARY, THREE], ids=["binary", "multiclass"])


def train(engine, batches, outcome, **options):
    return learn(engine, batches, outcome, **{"params": PARAMS.get(engine, {}), **options})


def test_every_engine_says_what_it_can_do():
    assert {"xgboost", "catboost", "linear", *SAMPLED} <= set(DECIDE)
    assert {"xgboost", "catboost"} <= set(SPREAD)
    for name, kinds in KINDS.items():
        check_kind(engine_named(name), VALUE, "price")
        for outcome, setting in ((QUANTILES, r"engine\.quantiles"), (BINARY, r"dataset\.targets\.task=binary")):
            if outcome.kind not in kinds:
                with pytest.raises(ConfigError, match=rf"engine\.name={name} .*'price'.*{setting}"):
                    check_kind(engine_named(name), outcome, "price")


@decides
@each_task
def test_probabilities_are_probabilities_and_tell_something(engine, outcome, tmp_path):
    _, model = train(engine, [classes(1500, outcome)], outcome)
    later = classes(600, outcome, seed=9)
    found = model.probabilities(later)
    assert found.shape == (600, len(outcome.classes))
    assert (found >= 0).all()
    assert (found <= 1).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-9)
    figures = measured(model, later)
    shares = np.bincount(later.column("y").to_numpy().astype(int), minlength=found.shape[1]) / 600
    assert figures["log_loss"] < 0.85 * -(shares * np.log(shares)).sum()
    assert figures["calibration_error"] < 0.12
    expected = found[:, 1] if outcome is BINARY else found.max(axis=1)
    np.testing.assert_array_equal(model.predict(later), expected)
    model.save(tmp_path / "bundle")
    again = Model.load(tmp_path / "bundle")
    assert again.outcome == outcome
    assert again.version == model.version
    np.testing.assert_array_equal(again.probabilities(later), found)
    assert set(model.importance()) <= set(model.encoding.features)


@decides
@each_task
def test_only_one_class_is_learned_as_sure(engine, outcome):
    last = len(outcome.classes) - 1
    for code in (0, last):
        _, model = train(engine, [of_class(classes(60, outcome), code)], outcome)
        found = model.probabilities(classes(20, outcome, seed=4))
        assert np.isfinite(found).all()
        assert (found.argmax(axis=1) == code).all()
        assert (found[:, code] > 0.9).all()


@decides
def test_a_class_that_never_came_has_its_place(engine):
    batch = classes(300, THREE)
    y = batch.column("y").to_numpy()
    _, model = train(engine, [changed(batch, y=np.where(y == 1, 2.0, y))], THREE)
    found = model.probabilities(classes(50, THREE, seed=4))
    assert found.shape == (50, 3)
    assert (found[:, 1] < 0.1).all()


@decides
@each_task
def test_missing_values_and_unseen_categories_get_probabilities(engine, outcome):
    _, model = train(engine, [classes(600, outcome)], outcome)
    batch = labelled(5, seed=3)
    strange = changed(
        batch, size=[np.nan, None, np.inf, -np.inf, 0.0], age=[None] * 5, city=["Houston", None, "", "Waco", "Wäco"]
    )
    assert np.isfinite(model.probabilities(strange)).all()
    unseen, missing = (model.probabilities(changed(batch, city=[value] * 5)) for value in ("Houston", None))
    np.testing.assert_array_equal(unseen, missing)
    assert model.probabilities(batch.slice(0, 0)).shape == (0, len(outcome.classes))


@decides
@each_task
def test_equal_seeds_give_equal_bytes_however_rows_are_cut(engine, outcome):
    whole = classes(900, outcome)
    slices = [whole.slice(start, 7) for start in range(0, 900, 7)]
    assert train(engine, slices, outcome)[0].stored == train(engine, [whole.slice(0, 0), whole], outcome)[0].stored


@decides
@each_task
def test_any_number_of_ranks_learns_about_the_same(engine, outcome):
    batches, later = [classes(300, outcome, seed=n, first=300 * n) for n in range(4)], classes(400, outcome, seed=9)
    plane = LocalPlane()
    one, three = (train(engine, batches, outcome, ranks=ranks, plane=plane)[1] for ranks in (1, 3))
    if engine in SAMPLED:
        assert plane.asked_for == [1, 1]
    if engine == "linear":
        np.testing.assert_allclose(three.probabilities(later), one.probabilities(later), rtol=1e-6)
    assert measured(three, later)["log_loss"] == pytest.approx(measured(one, later)["log_loss"], rel=0.1)


@decides
@each_task
def test_the_later_period_is_measured_by_log_loss_and_refit_learns_from_both(engine, outcome):
    first, tune = [classes(400, outcome)], [classes(300, outcome, seed=1, first=400)]
    plain, model = train(engine, first, outcome, tune=tune, rounds=15)
    refitted, _ = train(engine, first, outcome, tune=tune, rounds=15, refit=True)
    name = next(n for n in plain.history if n.startswith("tune_") and "unit" not in n)
    if engine != "xgboost":  # it may go on past its best round
        assert min(plain.history[name]) == pytest.approx(measured(model, tune[0])["log_loss"], rel=1e-4)
    assert refitted.history == plain.history
    both, _ = train(engine, [*first, *tune], outcome, rounds=plain.rounds)
    assert refitted.stored == both.stored != plain.stored


@decides
@each_task
def test_probabilities_lean_to_the_heavier_rows(engine, outcome):
    odd = np.arange(400) % 2 == 1
    last = len(outcome.classes) - 1
    flat = changed(
        classes(400, outcome), city=["Austin"] * 400, size=[0.0] * 400, age=[0.0] * 400,
        y=np.where(odd, float(last), 0.0), heavy=np.where(odd, 9.0, 1.0).astype(np.float32),
    )  # fmt: skip
    encoding, later = Encoding(("size", "age"), {"city": ("Austin",)}), flat.slice(0, 10)
    plain = train(engine, [flat], outcome, encoding=encoding)[1].probabilities(later)[:, last]
    leaning = train(engine, [flat], outcome, encoding=encoding, weights=Heavy())[1].probabilities(later)[:, last]
    assert (leaning > plain).all()


@decides
@pytest.mark.parametrize(
    "encoding", [Encoding(("size",), {}), Encoding((), {"city": CITIES}), Encoding((), {"city": ()})]
)
def test_narrow_inputs(engine, encoding):
    _, model = train(engine, [classes(500, BINARY)], BINARY, encoding=encoding)
    assert np.isfinite(model.probabilities(classes(50, BINARY, seed=4))).all()


@decides
def test_what_inputs_add_is_the_logit_where_an_engine_says_it(engine):
    _, model = train(engine, [classes(500, BINARY)], BINARY)
    later = classes(100, BINARY, seed=2)
    if isinstance(model.predictor, Explains):
        added = model.predictor.contributions(model.encoding.matrix(later)).sum(axis=1)
        p = model.predict(later)
        np.testing.assert_allclose(added, np.log(p / (1 - p)), rtol=1e-3, atol=1e-3)


@decides
def test_an_objective_of_another_task_is_refused(engine):
    name = {"catboost": "loss_function"}.get(engine, "objective")
    with pytest.raises(ConfigError, match=rf"engine\.params\.{name}\b"):
        train(engine, [classes(50, BINARY)], BINARY, params={name: "reg:squarederror"})


@spreads
@pytest.mark.parametrize("transform", ["none", "log"])
def test_quantiles_are_in_order_and_each_holds_its_share(engine, transform, tmp_path):
    scale = TargetScale("y", transform)
    batches = [labelled(2000, noise=2.0)]
    if transform == "log":
        batches = [changed(b, y=np.exp(b.column("y").to_numpy() / 10)) for b in batches]
    result, model = train(
        engine,
        batches,
        QUANTILES,
        scale=scale,
        tune=[labelled(500, seed=5, noise=2.0)] if transform == "none" else None,
    )
    later = labelled(1000, seed=9, noise=2.0)
    later = changed(later, y=np.exp(later.column("y").to_numpy() / 10)) if transform == "log" else later
    found, actual = model.predict_quantiles(later), later.column("y").to_numpy()
    assert found.shape == (1000, 3)
    assert (np.diff(found, axis=1) >= 0).all()
    np.testing.assert_allclose(model.predict(later), found[:, 1], rtol=1e-12)
    shares = (actual[:, None] <= found).mean(axis=0)
    np.testing.assert_allclose(shares, QUANTILES.levels, atol=0.12)
    naive = np.tile(np.quantile(batches[0].column("y").to_numpy(), QUANTILES.levels), (1000, 1))
    assert (
        pinball_losses(actual, found, QUANTILES.levels).mean()
        < 0.8 * pinball_losses(actual, naive, QUANTILES.levels).mean()
    )
    model.save(tmp_path / "bundle")
    np.testing.assert_array_equal(Model.load(tmp_path / "bundle").predict_quantiles(later), found)
    assert result.rounds >= 1


@spreads
def test_of_levels_without_a_median_the_nearest_is_the_prediction(engine):
    outcome = dataclasses.replace(QUANTILES, levels=(0.1, 0.6, 0.9))
    _, model = train(engine, [labelled(500)], outcome)
    later = labelled(20, seed=3)
    np.testing.assert_array_equal(model.predict(later), model.predict_quantiles(later)[:, 1])
