"""Consumes fitted members of classes and of quantiles, checks that together they are one model like any other."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from class_harness import BINARY, QUANTILES, THREE, classes, learn, measured
from engine_harness import INPUTS, labelled

from assay.config.ensemble import EnsembleConfig
from assay.config.profile import ProfileConfig
from assay.conformal.calibration import fit as calibrated
from assay.conformal.intervals import score_batch
from assay.metrics import pinball_losses
from assay.model.bundle import MANIFEST, Model, digest_of
from assay.model.carried import Carried
from assay.model.ensemble import Combination, Member, packed
from assay.model.outcome import VALUE
from assay.model.predictors import LOADERS, Explains
from assay.model.row_sample import EVERY_ROW
from assay.model.scale import TargetScale
from assay.runtime.progress import Reporter
from assay.runtime.tables import TIME
from assay.training.engine import engine_named
from assay.training.ensemble import able_members
from assay.training.out_of_time import PredictMembers, out_of_time, predicted_schema

DECIDE = [name for name in LOADERS if name != "ensemble" and "multiclass" in engine_named(name).kinds]
PARAMS = {"random_forest": {"n_estimators": 5}, "xgboost": {"eta": 0.3, "max_depth": 3}}
LATER = {outcome: classes(120, outcome, seed=9) for outcome in (BINARY, THREE)} | {QUANTILES: labelled(120, 9)}
each_task = pytest.mark.parametrize("outcome", [BINARY, THREE], ids=["binary", "multiclass"])


@pytest.fixture(scope="module")
def members():
    """members(outcome, engines): fitted ones, each once."""
    found = {}

    def one(outcome, name):
        if (outcome, name) not in found:
            train = [classes(500, outcome, 1) if outcome.decides else labelled(500, 1, noise=2.0)]
            found[outcome, name] = learn(name, train, outcome, rounds=10, params=PARAMS.get(name, {}))[1]
        return found[outcome, name]

    return lambda outcome, names: {name: one(outcome, name) for name in names}


def ensemble(parts, outcome, method="average", **told):
    weights = told.pop("weights", np.full(len(parts), 1 / len(parts)))
    combination = Combination(method, weights, kind=outcome.kind, **told)
    stored = packed([Member(f"my_{name}", name, one.stored) for name, one in parts.items()], combination)
    return Model("ensemble", stored, INPUTS, TargetScale("y"), {}, "", {}, outcome=outcome)


@each_task
def test_members_of_all_engines_that_learn_classes_vote_softly(members, outcome, tmp_path):
    parts = members(outcome, DECIDE)
    model, later = ensemble(parts, outcome), LATER[outcome]
    each = np.stack([one.probabilities(later) for one in parts.values()])
    found, spread = model.probabilities_with_spread(later)
    np.testing.assert_allclose(found, each.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
    distance = np.abs(each - each.mean(axis=0)).sum(axis=2).mean(axis=0) / 2
    np.testing.assert_allclose(spread, distance, rtol=1e-9)
    np.testing.assert_array_equal(model.disagreement(later), spread)
    assert measured(model, later)["log_loss"] < np.mean([measured(one, later)["log_loss"] for one in parts.values()])
    model.save(tmp_path / "bundle")
    again = Model.load(tmp_path / "bundle", sha256=digest_of(model.files[MANIFEST]))
    np.testing.assert_array_equal(again.probabilities(later), found)
    np.testing.assert_array_equal(again.predict(later), model.predict(later))
    assert again.version == model.version
    weighed = sum(bool(one.importance()) for one in parts.values())  # neighbours and machines weigh no inputs
    assert sum(model.importance().values()) == pytest.approx(weighed / len(parts))


@each_task
def test_stacked_members_are_combined_in_the_logarithm(members, outcome):
    parts, later = members(outcome, ("xgboost", "linear")), LATER[outcome]
    weights, shifts = np.array([0.4, 0.9]), np.linspace(-0.3, 0.3, len(outcome.classes))
    model = ensemble(parts, outcome, "stacking", weights=weights, intercepts=shifts)
    logs = [w * np.log(one.probabilities(later)) for w, one in zip(weights, parts.values(), strict=True)]
    raised = np.exp(sum(logs) + shifts)
    np.testing.assert_allclose(model.probabilities(later), raised / raised.sum(axis=1, keepdims=True), rtol=1e-6)


def test_two_stacked_classes_are_explained_on_the_logit_and_pooled_ones_not(members):
    parts, later = members(BINARY, ("xgboost", "linear")), LATER[BINARY]
    model = ensemble(parts, BINARY, "stacking", weights=np.array([0.4, 0.9]), intercepts=np.array([0.2, -0.2]))
    assert isinstance(model.predictor, Explains)
    p = model.predict(later)
    added = model.predictor.contributions(INPUTS.matrix(later)).sum(axis=1)
    np.testing.assert_allclose(added, np.log(p / (1 - p)), rtol=1e-4, atol=1e-4)
    assert not isinstance(ensemble(parts, BINARY).predictor, Explains)
    assert not isinstance(ensemble(parts, BINARY, "voting").predictor, Explains)


@each_task
def test_scored_rows_have_sets_and_the_disagreement(members, outcome):
    model, later = ensemble(members(outcome, ("xgboost", "linear")), outcome), LATER[outcome]
    scores = np.random.default_rng(1).uniform(0, 1, 200)
    levels = {"min_segment_rows": 30, "segment_columns": (), "score": "lac"}
    calibration = calibrated(scores, np.full(200, "", dtype=object), (0.8, 0.9), **levels)
    scored = score_batch(model, calibration, later)
    np.testing.assert_array_equal(scored["disagreement"], model.disagreement(later))
    np.testing.assert_array_equal(scored["prediction"], model.predict(later))
    assert len(scored["set_80"]) == 120
    single = score_batch(members(outcome, ("linear",))["linear"], calibration, later)
    assert "disagreement" not in single


@pytest.mark.parametrize("outcome", [BINARY, THREE, QUANTILES], ids=["binary", "multiclass", "quantiles"])
def test_no_rows_are_no_predictions(members, outcome):
    model = ensemble(members(outcome, ("xgboost", "catboost")), outcome)
    none = LATER[outcome].slice(0, 0)
    if outcome.decides:
        assert model.probabilities(none).shape == (0, len(outcome.classes))
    else:
        assert model.predict_quantiles(none).shape == (0, 3)
    assert model.predict(none).shape == model.disagreement(none).shape == (0,)


@pytest.mark.parametrize("method", ["average", "voting", "weighted"])
def test_quantiles_of_several_members_rise_and_their_median_is_the_prediction(members, method, tmp_path):
    parts, later = members(QUANTILES, ("xgboost", "catboost")), LATER[QUANTILES]
    told = {"weights": np.array([0.3, 0.7])} if method == "weighted" else {}
    model = ensemble(parts, QUANTILES, method, **told)
    each = np.stack([one.predict_quantiles(later) for one in parts.values()])
    found = model.predict_quantiles(later)
    np.testing.assert_allclose(found, np.average(each, axis=0, weights=told.get("weights")), rtol=1e-9)
    assert (np.diff(found, axis=1) >= 0).all()
    np.testing.assert_array_equal(model.predict(later), found[:, 1])
    scaled, spread = model.predict_with_spread(later)
    np.testing.assert_array_equal(scaled, model.predict_scaled(later))
    assert spread.shape == (120,)
    model.save(tmp_path / "bundle")
    np.testing.assert_array_equal(Model.load(tmp_path / "bundle").predict_quantiles(later), found)
    actual = later.column("y").to_numpy()
    losses = [pinball_losses(actual, one, QUANTILES.levels).mean() for one in (found, *each)]
    assert losses[0] <= max(losses[1:])  # the loss is convex


@pytest.mark.parametrize("outcome", [BINARY, THREE, QUANTILES], ids=["binary", "multiclass", "quantiles"])
def test_what_reaches_the_choice_is_what_members_predict(members, outcome):
    parts, later = members(outcome, ("xgboost", "catboost")), LATER[outcome]
    model = ensemble(parts, outcome)
    dated = later.append_column("time", pa.array(np.arange(120) * 86_400_000_000 // 4, pa.int64()).cast(TIME))
    schema = predicted_schema(2, outcome)

    def kernel(batches):
        return pa.Table.from_batches(PredictMembers(Carried.of(model), EVERY_ROW)(iter(batches)), schema)

    cut = [kernel([dated.slice(start, 37)]) for start in range(0, 120, 37)]
    found = out_of_time(cut[::-1], ("a", "b"), most=1000, outcome=outcome)
    if outcome.decides:
        expected = np.stack([one.probabilities(later) for one in parts.values()], axis=1)
    else:
        expected = np.stack([one.predict_quantiles(later) for one in parts.values()], axis=1)
    order = np.argsort(found.truth, kind="stable"), np.argsort(later.column("y").to_numpy(), kind="stable")
    np.testing.assert_array_equal(found.truth[order[0]], later.column("y").to_numpy()[order[1]])
    if not outcome.decides:  # no two rows have one outcome
        np.testing.assert_allclose(found.members[order[0]], expected[order[1]], rtol=1e-12)
    np.testing.assert_allclose(np.sort(found.members, axis=0), np.sort(expected, axis=0), rtol=1e-12)
    drawn = out_of_time(cut, ("a", "b"), most=50, outcome=outcome, drawn=True)
    assert drawn.members.shape == (50, *expected.shape[1:])
    assert (np.diff(drawn.times) < 0).any()


@pytest.mark.parametrize(
    ("outcome", "members", "able"),
    [
        (VALUE, {}, ["xgboost", "catboost", "linear"]),
        (BINARY, {}, ["xgboost", "catboost", "linear"]),
        (QUANTILES, {}, ["xgboost", "catboost"]),
        (THREE, {"xgboost": {}, "lstm": {}, "forest": {"name": "random_forest"}}, ["xgboost", "forest"]),
        (THREE, {"xgboost": {}, "lstm": {}}, []),
        (QUANTILES, {"linear": {}, "knn": {}}, []),
    ],
)
def test_a_target_is_left_to_members_that_can_learn_it(outcome, members, able, capsys):
    profile = ProfileConfig(ensemble=EnsembleConfig(members=members))
    assert list(able_members(profile, outcome, "mood", Reporter())) == able
    told = " ".join(capsys.readouterr().err.split())
    unable = [name for name in members if name not in able and (able or name != "xgboost")]
    assert all(name in told for name in unable)
    assert ("mood is learned by xgboost alone" in told) == (not able)
    assert bool(told) == bool(members)
