"""Consumes fitted members, checks that an ensemble is one model: data plus a hash, explained where it can be."""

from __future__ import annotations

import numpy as np
import pytest
from engine_harness import INPUTS, fit, labelled

from assay.errors import AssayError
from assay.model.bundle import MANIFEST, Model, digest_of
from assay.model.ensemble import Combination, Member, packed, unpacked
from assay.model.predictors import Explains
from assay.model.scale import TargetScale

LATER = labelled(80, 3, first=10_000)


@pytest.fixture(scope="module")
def members():
    """Fitted ones by engine."""
    train = [labelled(300, 1)]
    options = {"random_forest": {"params": {"n_estimators": 5}}}
    engines = ("xgboost", "catboost", "linear", "random_forest")
    return {name: fit(name, train, rounds=10, **options.get(name, {}))[1] for name in engines}


def ensemble(members, names, method="weighted", weights=(0.7, 0.3), intercept=0.25):
    stored = packed(
        [Member(f"my_{n}", n, members[n].stored) for n in names], Combination(method, np.array(weights), intercept)
    )
    told = [{"name": f"my_{n}", "engine": n, "weight": w} for n, w in zip(names, weights, strict=True)]
    return Model("ensemble", stored, INPUTS, TargetScale("y"), {}, "", {"ensemble": {"members": told}})


def test_it_predicts_the_weighted_sum_of_its_members(members):
    model = ensemble(members, ("xgboost", "linear"))
    one, two = members["xgboost"].predict_scaled(LATER), members["linear"].predict_scaled(LATER)
    np.testing.assert_allclose(model.predict(LATER), 0.25 + 0.7 * one + 0.3 * two, rtol=1e-12)
    mean = 0.7 * one + 0.3 * two
    spread = np.sqrt(0.7 * (one - mean) ** 2 + 0.3 * (two - mean) ** 2)
    np.testing.assert_allclose(model.disagreement(LATER), spread, rtol=1e-9)
    predicted, disagreement = model.predict_with_spread(LATER)
    np.testing.assert_array_equal(predicted, model.predict_scaled(LATER))
    np.testing.assert_array_equal(disagreement, model.disagreement(LATER))
    assert model.engines == ("xgboost", "linear")
    assert members["linear"].disagreement(LATER) is None


def test_saved_and_loaded_it_is_the_same(members, tmp_path):
    model = ensemble(members, ("xgboost", "catboost", "random_forest"), "voting", (1 / 3, 1 / 3, 1 / 3), 0.0)
    model.save(tmp_path / "bundle")
    again = Model.load(tmp_path / "bundle", sha256=digest_of(model.files[MANIFEST]))
    np.testing.assert_array_equal(again.predict(LATER), model.predict(LATER))
    np.testing.assert_array_equal(again.disagreement(LATER), model.disagreement(LATER))
    assert again.version == model.version
    middle = np.median([members[n].predict_scaled(LATER) for n in ("xgboost", "catboost", "random_forest")], axis=0)
    np.testing.assert_allclose(model.predict_scaled(LATER), middle, rtol=1e-12)


def test_a_tampered_member_is_refused(members, tmp_path):
    ensemble(members, ("xgboost", "linear")).save(tmp_path)
    content = bytearray((tmp_path / "ensemble.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "ensemble.npz").write_bytes(bytes(content))
    with pytest.raises(AssayError, match=r"file ensemble\.npz was changed after it was saved; refusing to load it"):
        Model.load(tmp_path)


def test_pickled_objects_are_not_loaded():
    import io

    sink = io.BytesIO()
    np.savez(sink, names=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        unpacked(sink.getvalue())


def test_contributions_add_up_to_the_prediction(members):
    model = ensemble(members, ("xgboost", "linear"))
    assert isinstance(model.predictor, Explains)
    found = model.predictor.contributions(INPUTS.matrix(LATER))
    assert found.shape == (80, 4)
    np.testing.assert_allclose(found.sum(axis=1), model.predict_scaled(LATER), rtol=1e-4)


@pytest.mark.parametrize(
    ("names", "method"), [(("xgboost", "random_forest"), "weighted"), (("xgboost", "linear"), "voting")]
)
def test_it_does_not_explain_what_a_member_or_a_median_cannot(members, names, method):
    assert not isinstance(ensemble(members, names, method).predictor, Explains)


def test_importance_is_shares(members):
    found = ensemble(members, ("xgboost", "catboost")).importance()
    assert sum(found.values()) == pytest.approx(1)
    assert set(found) == {"size", "age", "city"}
    shares = []
    for name in ("xgboost", "catboost"):
        own = members[name].importance()
        shares.append(own["city"] / sum(own.values()))
    assert found["city"] == pytest.approx(0.7 * shares[0] + 0.3 * shares[1])
