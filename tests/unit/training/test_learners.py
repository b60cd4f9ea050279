"""Consumes labelled rows, checks learners against scikit-learn on the same inputs, linear ones against all rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from engine_harness import CITIES, INPUTS, Heavy, changed, fit, labelled
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import ElasticNet, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor

from assay.model.encoding import Encoding
from assay.model.learner_inputs import LearnerInputs
from assay.model.row_sample import row_hash
from assay.model.scale import TargetScale
from assay.model.tree_nodes import Nodes
from assay.model.trees import rounded_down
from assay.training.learner_inputs import fit_inputs, weighted_median
from assay.training.learner_rows import RowReader
from assay.training.linear_engine import merged
from assay.training.triangle import Triangle, together

TRAIN, LATER = labelled(700), labelled(300, seed=8)


def seen_by(model, batch):
    """What the learner itself gets of a batch."""
    return model.predictor.inputs.apply(model.encoding.matrix(batch))


def ordered(batch):
    """Rows as a learner in memory gets them: by the hash of their row_id."""
    reader = RowReader("knn", INPUTS, TargetScale("y"))
    return reader.sample([lambda: iter([batch])], batch.num_rows)[0]


def centred(values, weight=None):
    mean = np.average(values, axis=0, weights=weight)
    return mean, np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weight))


@pytest.mark.parametrize(("alpha", "l1_ratio"), [(0.0, 0.0), (0.1, 0.0), (0.05, 1.0), (0.05, 0.4)])
@pytest.mark.parametrize("weights", [None, Heavy()], ids=["alike", "weighted"])
def test_a_linear_model_is_that_of_scikit_learn_on_all_rows_at_once(alpha, l1_ratio, weights):
    params = {"alpha": alpha, "l1_ratio": l1_ratio}
    _, model = fit("linear", [TRAIN.slice(0, 300), TRAIN.slice(300)], params=params, weights=weights, ranks=2)
    values, target = seen_by(model, TRAIN), TRAIN.column("y").to_numpy()
    weight = None if weights is None else weights(TRAIN).astype(np.float64)
    middle, spread = centred(target, weight)
    if l1_ratio:
        oracle = ElasticNet(alpha=alpha, l1_ratio=l1_ratio, tol=1e-10, max_iter=100_000)
    else:
        oracle = Ridge(alpha=alpha * (len(target) if weight is None else weight.sum()), solver="svd")
    oracle.fit(values, (target - middle) / spread, sample_weight=weight)
    expected = oracle.predict(seen_by(model, LATER)) * spread + middle
    np.testing.assert_allclose(model.predict(LATER), expected, rtol=1e-6 if l1_ratio else 1e-10)
    if l1_ratio == 1.0:
        assert (model.predictor.slopes[np.abs(oracle.coef_) < 1e-12] == 0).all()


def test_a_linear_model_says_what_each_input_adds():
    _, model = fit("linear", [TRAIN], params={"alpha": 0.0})
    found = model.predictor.contributions(model.encoding.matrix(LATER))
    np.testing.assert_allclose(found.sum(axis=1), model.predict(LATER), rtol=1e-5)
    size = LATER.column("size").to_numpy()
    slope = np.polyfit(size, found[:, 0], 1)[0]
    assert slope == pytest.approx(3, abs=0.1)  # as the rows were made
    taught = model.predictor.contributions(model.encoding.matrix(TRAIN))
    np.testing.assert_allclose(taught[:, :3].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(taught[:, 3], TRAIN.column("y").to_numpy().mean(), rtol=1e-5)


def test_numbers_of_a_linear_model_are_standardised_over_all_ranks():
    _, model = fit("linear", [TRAIN.slice(n, 100) for n in range(0, 700, 100)], ranks=3)
    found, spread = centred(seen_by(model, TRAIN)[:, :2])
    np.testing.assert_allclose(found, 0, atol=1e-9)
    np.testing.assert_allclose(spread, 1, atol=1e-9)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_nearest_neighbours_are_those_of_scikit_learn(weights):
    _, model = fit("knn", [TRAIN], params={"n_neighbors": 7, "weights": weights})
    rows = ordered(TRAIN)
    oracle = KNeighborsRegressor(7, weights=weights, algorithm="brute")
    oracle.fit(model.predictor.points.astype(np.float64), rows.target)
    here = np.vstack([seen_by(model, LATER), seen_by(model, TRAIN)]).astype(np.float32).astype(np.float64)
    found = np.concatenate([model.predict(LATER), model.predict(TRAIN)])
    np.testing.assert_allclose(found, oracle.predict(here), rtol=1e-9)
    if weights == "distance":  # nobody is nearer to a row than itself
        np.testing.assert_allclose(model.predict(TRAIN), TRAIN.column("y").to_numpy(), rtol=1e-12)


def test_of_equally_near_rows_the_first_by_hash_count():
    twin = changed(TRAIN, size=[0.5] * 700, age=[1.0] * 700, city=["Waco"] * 700)
    _, model = fit("knn", [twin], params={"n_neighbors": 3})
    np.testing.assert_allclose(model.predict(twin.slice(0, 4)), ordered(twin).target[:3].mean(), rtol=1e-12)


def test_neighbours_count_by_their_weight():
    _, model = fit("knn", [TRAIN], params={"n_neighbors": 2, "weights": "uniform"}, weights=Heavy())
    near = model.predictor
    points, here = near.points.astype(float), seen_by(model, LATER.slice(0, 1)).astype(np.float32).astype(float)
    order = np.argsort(((points - here) ** 2).sum(axis=1))[:2]
    assert set(near.weight) == {1.0, 2.0}
    expected = np.average(near.target[order], weights=near.weight[order])
    assert model.predict(LATER.slice(0, 1))[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("gamma", ["scale", 0.3])
def test_support_vectors_predict_what_scikit_learn_does(gamma):
    _, model = fit("svm", [TRAIN], params={"gamma": gamma, "C": 3.0, "epsilon": 0.05})
    rows = ordered(TRAIN)
    middle, spread = centred(rows.target)
    oracle = SVR(gamma=gamma, C=3.0, epsilon=0.05)
    oracle.fit(model.predictor.inputs.apply(rows.matrix), (rows.target - middle) / spread)
    expected = oracle.predict(seen_by(model, LATER)) * spread + middle
    np.testing.assert_allclose(model.predict(LATER), expected, rtol=1e-9)


@pytest.mark.parametrize("engine", ["decision_tree", "random_forest"])
def test_trees_predict_what_scikit_learn_does(engine):
    shared = {"min_samples_leaf": 2, "max_leaf_nodes": None}
    rows = ordered(TRAIN)
    if engine == "decision_tree":
        _, model = fit(engine, [TRAIN], params=shared)
        oracle = DecisionTreeRegressor(**shared, random_state=7)
    else:
        _, model = fit(engine, [TRAIN], params={**shared, "n_estimators": 9, "max_features": 0.5})
        oracle = RandomForestRegressor(9, **shared, max_features=0.5, random_state=7)
    oracle.fit(model.predictor.inputs.apply(rows.matrix).astype(np.float32), rows.target, sample_weight=rows.weight)
    values = np.vstack([seen_by(model, LATER), seen_by(model, TRAIN)]).astype(np.float32)
    found = np.concatenate([model.predict(LATER), model.predict(TRAIN)])
    np.testing.assert_allclose(found, oracle.predict(values), rtol=1e-12)
    importance = oracle.feature_importances_
    expected = {"size": importance[0], "age": importance[1], "city": importance[2:].sum()}
    assert model.importance() == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20), st.floats(-1e6, 1e6))
def test_a_single_is_at_most_a_threshold_where_it_is_at_most_the_rounded_one(values, threshold):
    singles = np.array([*values, np.float32(threshold)], dtype=np.float32)
    rounded = rounded_down(np.array([threshold]))[0]
    np.testing.assert_array_equal(singles <= rounded, singles.astype(np.float64) <= threshold)


def test_a_leaf_keeps_its_rows():
    zero, none = np.zeros(1, np.int32), np.full(1, np.inf)
    nodes = Nodes(zero, zero, none, zero, zero, depth=3)
    (leaf,) = nodes.leaves(np.ones((4, 2), np.float32))
    np.testing.assert_array_equal(leaf, 0)


@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(1, 4)), min_size=1, max_size=30),
)
def test_weighted_median_is_the_median_of_copies(pairs):
    values, weight = np.array([v for v, _ in pairs]), np.array([w for _, w in pairs])
    assert weighted_median(values, weight.astype(float)) == np.median(np.repeat(values, weight))


@settings(max_examples=50)
@given(st.integers(0, 1000), st.lists(st.integers(0, 30), min_size=1, max_size=5))
def test_a_triangle_has_the_squares_and_products_of_all_rows(seed, sizes):
    random = np.random.default_rng(seed)
    parts = [(random.normal(5, 2, (n, 3)), random.normal(size=n), random.uniform(0.5, 2, n)) for n in sizes]
    triangle = together([Triangle.empty(3).with_rows(*part) for part in parts])
    inputs, target, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    whole = np.column_stack([np.ones(len(target)), inputs, target])
    np.testing.assert_allclose(triangle.values.T @ triangle.values, whole.T @ (whole * weight[:, None]), atol=1e-8)
    if len(target):
        slopes = np.array([1.0, -2.0, 0.5])
        error = np.sqrt(np.average((target - inputs @ slopes - 3.0) ** 2, weights=weight))
        assert triangle.rmse(slopes, 3.0) == pytest.approx(error, rel=1e-9)
        mean, spread = centred(np.column_stack([inputs, target]), weight)
        np.testing.assert_allclose(triangle.means, mean, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(triangle.spreads, spread, rtol=1e-7, atol=1e-7)


@settings(max_examples=50)
@given(st.integers(0, 1000), st.lists(st.integers(0, 20), min_size=1, max_size=5))
def test_means_and_squares_of_parts_are_those_of_all(seed, sizes):
    random = np.random.default_rng(seed)
    parts = [random.normal(1e4, 1, n) for n in sizes]
    tuples = [
        (
            np.array([float(len(p))]),
            np.array([p.mean() if len(p) else 0.0]),
            ((p - p.mean()) ** 2).sum()[None] if len(p) else np.zeros(1),
        )
        for p in parts
    ]
    weight, mean, square = merged([(np.zeros(1), np.zeros(1), np.zeros(1)), *tuples])
    values = np.concatenate(parts)
    assert weight[0] == len(values)
    if len(values):
        assert mean[0] == pytest.approx(values.mean(), rel=1e-12)
        assert square[0] == pytest.approx(((values - values.mean()) ** 2).sum(), rel=1e-6, abs=1e-6)


def test_a_sample_of_many_rows_has_those_whose_hash_is_smallest():
    many, encoding = labelled(450_000), Encoding(("size",), {})
    batches = [many.slice(n, 50_000) for n in range(0, 450_000, 50_000)]
    rows, seen = RowReader("knn", encoding, TargetScale("y")).sample([lambda: iter(batches)], 1000)
    order = np.argsort(row_hash(many.column("row_id").to_numpy()))[:1000]
    assert seen == 450_000
    np.testing.assert_array_equal(rows.target, many.column("y").to_numpy()[order])
    np.testing.assert_array_equal(rows.matrix[:, 0], many.column("size").to_numpy()[order])


def test_rare_categories_get_no_input_and_missing_numbers_their_median():
    cities = pa.array(["Austin"] * 5 + ["Waco"] * 3 + ["Dallas"] * 2)
    batch = changed(labelled(10), city=cities, age=[np.nan, 4, 1, 3, np.nan, 8, 9, 10, 12, 2])
    rows = ordered(batch)
    inputs = fit_inputs(rows, INPUTS, max_categories=2, scales=True)
    assert [CITIES[code] for code in inputs.code] == ["Austin", "Waco"]
    values = inputs.apply(INPUTS.matrix(batch))
    assert values.shape == (10, 4)
    np.testing.assert_array_equal(values[:, 2:].sum(axis=1), [1] * 8 + [0] * 2)
    assert inputs.fill[1] == 6.0  # of 1 2 3 4 8 9 10 12
    np.testing.assert_allclose(values[:, :2].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(values[:, :2].std(axis=0), 1, rtol=1e-12)


def test_what_an_input_is_worth_counts_for_its_feature():
    inputs = LearnerInputs(
        np.zeros(1), np.zeros(1), np.ones(1), np.array([2, 2, 1], np.int32), np.array([0, 1, 0], np.int32)
    )
    assert inputs.by_feature(np.array([0.0, 1.0, 2.0, 4.0])) == {1: 4.0, 2: 3.0}


def test_more_rows_than_a_block_are_added_up_alike():
    many = labelled(20_000)
    _, whole = fit("linear", [many])
    _, parts = fit("linear", [many.slice(n, 777) for n in range(0, 20_000, 777)], ranks=3)
    np.testing.assert_allclose(parts.predict(LATER), whole.predict(LATER), rtol=1e-10)


def test_inputs_that_say_the_same_do_not_harm_a_linear_model():
    both = Encoding(("size", "age", "again"), {"city": CITIES})
    batches = [batch.append_column("again", batch.column("size")) for batch in (TRAIN, LATER)]
    _, model = fit("linear", [batches[0]], encoding=both, params={"alpha": 0.0})
    _, alone = fit("linear", [TRAIN], params={"alpha": 0.0})
    np.testing.assert_allclose(model.predict(batches[1]), alone.predict(LATER), rtol=1e-8)
