"""Consumes training rows, checks each fitted step against scikit-learn, and that tasks and order change no bit."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from preparation_harness import COLUMNS, ENCODING, fit, invented, raw, training_rows
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from assay.errors import ConfigError, DataError
from assay.model.arrays import from_bytes
from assay.model.preparation import Preparation
from assay.model.row_sample import row_hash
from assay.model.scale import TargetScale
from assay.training.preparation_moments import Grid, Measure, moments
from assay.training.preparation_sample import survey

MEDIAN = {"default": "median"}
EVERYTHING = {
    "outliers": {
        "bounds": {"tax": [-0.002, 0.002]},
        "winsorize": [0.02, 0.98],
        "remove": "zscore",
        "columns": ["age", "noise"],
        "isolation_forest": "score",
        "trees": 20,
    },
    "impute": {
        "default": "mean",
        "columns": {"size": {"method": "knn"}, "rooms": {"method": "knn"}, "tax": {"method": "iterative"}},
        "indicators": True,
        "neighbour_rows": 300,
    },
    "scaling": "standard",
    "pca": {"enabled": True, "keep_columns": True},
    "sample_rows": 500,
}
METHODS = {
    "clip": {"outliers": {"bounds": {"age": [0, 9]}, "winsorize": [0.05, 0.9]}},
    "forest flag": {"outliers": {"isolation_forest": "flag", "trees": 10}},
    "forest removes": {"outliers": {"isolation_forest": "remove", "trees": 10}},
    "iqr": {"outliers": {"remove": "iqr"}},
    "median": {"impute": MEDIAN},
    "most frequent": {"impute": {"default": "most_frequent"}},
    "constant": {"impute": {"default": "constant", "value": -1.0}},
    "iterative": {"impute": {"default": "iterative"}},
    "minmax": {"scaling": "minmax"},
    "robust": {"scaling": "robust"},
    "components alone": {"impute": MEDIAN, "scaling": "robust", "pca": {"enabled": True}},
    "everything": EVERYTHING,
}

rows = invented(800, seed=3)
NEW = invented(300, seed=4, missing=0.3)


def prepared(tree, batch=NEW, **options):
    return fit(tree, rows, **options).encoding.preparation.apply(raw(batch))


@pytest.mark.parametrize(
    ("rule", "imputer"),
    [
        (MEDIAN, SimpleImputer(strategy="median")),
        ({"default": "mean"}, SimpleImputer(strategy="mean")),
        ({"default": "most_frequent"}, SimpleImputer(strategy="most_frequent")),
        ({"default": "constant", "value": 2.5}, SimpleImputer(strategy="constant", fill_value=2.5)),
        ({"default": "knn", "neighbours": 4}, KNNImputer(n_neighbors=4)),
        ({"default": "iterative"}, "iterative"),
    ],
    ids=lambda value: value["default"] if isinstance(value, dict) else "",
)
def test_imputers_fill_as_those_of_scikit_learn(rule, imputer):
    train, new = raw(rows).astype(np.float64), raw(NEW).astype(np.float64)
    unit = StandardScaler().fit(train) if rule["default"] in ("knn", "iterative") else None
    if imputer == "iterative":
        seen = unit.transform(train)
        imputer = IterativeImputer(min_value=np.nanmin(seen, axis=0), max_value=np.nanmax(seen, axis=0), random_state=0)
    if unit is None:
        expected = imputer.fit(train).transform(new)
    else:
        expected = unit.inverse_transform(imputer.fit(unit.transform(train)).transform(unit.transform(new)))
    found = prepared({"impute": rule})
    assert np.isnan(new).sum() > 300
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    known = ~np.isnan(new)
    np.testing.assert_array_equal(found[known], new[known])  # what is known stays as it is


@pytest.mark.parametrize(
    ("scaling", "scaler"),
    [("standard", StandardScaler()), ("minmax", MinMaxScaler()), ("robust", RobustScaler())],
)
def test_scalers_are_those_of_scikit_learn_and_leave_missing_values(scaling, scaler):
    expected = scaler.fit(raw(rows).astype(np.float64)).transform(raw(NEW).astype(np.float64))
    np.testing.assert_allclose(prepared({"scaling": scaling}), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("scaling", "share"), [("standard", 0.95), ("robust", 0.6), ("none", 0.999)])
def test_components_are_those_of_scikit_learn(scaling, share):
    scaler = {"standard": [StandardScaler()], "robust": [RobustScaler()], "none": []}[scaling]
    pipe = make_pipeline(SimpleImputer(strategy="median"), *scaler, PCA(share, svd_solver="full"))
    expected = pipe.fit(raw(rows).astype(np.float64)).transform(raw(NEW).astype(np.float64))
    tree = {"impute": MEDIAN, "scaling": scaling, "pca": {"enabled": True, "variance": share}}
    found = fit(tree, rows).encoding
    assert found.numeric == tuple(f"pca__{i + 1}" for i in range(expected.shape[1]))
    np.testing.assert_allclose(found.preparation.apply(raw(NEW)), expected, rtol=1e-6, atol=1e-6 * expected.std())
    np.testing.assert_allclose(found.preparation.components.variance, pipe[-1].explained_variance_, rtol=1e-7)


def test_a_small_spread_around_a_large_mean_keeps_its_components():
    values = 1e7 + np.random.default_rng(0).normal(size=(500, 2)).cumsum(axis=1).round() * 8
    far = pa.record_batch(
        {
            **{n: rows.column(n).slice(0, 500) for n in rows.schema.names},
            **dict(zip(("size", "age"), (pa.array(v, pa.float32()) for v in values.T), strict=True)),
        }
    )
    tree = {"impute": MEDIAN, "pca": {"enabled": True, "variance": 0.9999999}}
    found = fit(tree, far).encoding.preparation.components
    complete = SimpleImputer(strategy="median").fit_transform(raw(far).astype(np.float64))
    np.testing.assert_allclose(
        found.variance, PCA(len(found.variance), svd_solver="full").fit(complete).explained_variance_, rtol=1e-8
    )


def test_the_isolation_forest_is_that_of_scikit_learn():
    def complete(batch):
        return SimpleImputer(strategy="median").fit(raw(rows)).transform(raw(batch)).astype(np.float32)

    order = np.argsort(row_hash(rows.column("row_id").to_numpy()))  # of the sample, from which trees draw their rows
    forest = IsolationForest(n_estimators=40, max_samples=256, contamination=0.05, random_state=7)
    forest.fit(complete(rows)[order])
    both = {"trees": 40, "contamination": 0.05}
    scores = prepared({"outliers": {**both, "isolation_forest": "score"}})[:, -1]
    np.testing.assert_allclose(scores, -forest.score_samples(complete(NEW)), rtol=1e-12)
    flags = prepared({"outliers": {**both, "isolation_forest": "flag"}})[:, -1]
    np.testing.assert_array_equal(flags == 1, forest.predict(complete(NEW)) == -1)
    assert 0 < flags.sum() < 50
    removing = fit({"outliers": {**both, "isolation_forest": "remove"}}, rows)
    assert removing.metrics["training_rows_removed"] == (forest.predict(complete(rows)) == -1).sum()


def test_values_are_clipped_to_bounds_then_to_quantiles_and_missing_ones_stay():
    found = prepared({"outliers": {"bounds": {"age": [0.1, 9]}, "winsorize": [0.05, 0.9], "columns": ["age"]}})
    low, high = np.nanquantile(np.clip(raw(rows)[:, 1], 0.1, 9), [0.05, 0.9])
    np.testing.assert_allclose(found[:, 1], np.clip(raw(NEW)[:, 1], low, high), rtol=1e-7)
    np.testing.assert_array_equal(found[:, [0, 2, 3, 4]], raw(NEW)[:, [0, 2, 3, 4]])


@pytest.mark.parametrize("rule", ["zscore", "iqr"])
def test_training_rows_with_outliers_teach_nothing(rule):
    tree = {
        "outliers": {"remove": rule, "zscore": 2.0, "iqr": 1.0, "columns": ["noise"]},
        "impute": {"default": "mean"},
    }
    values, noise = raw(rows).astype(np.float64), raw(rows)[:, 4].astype(np.float64)
    low, high = np.quantile(noise, [0.25, 0.75])
    far = np.abs(noise - noise.mean()) > 2 * noise.std()
    far = far if rule == "zscore" else (noise < low - (high - low)) | (noise > high + (high - low))
    found = fit(tree, rows)
    assert found.metrics["training_rows_removed"] == far.sum() > 5
    np.testing.assert_allclose(found.encoding.preparation.fill, np.nanmean(values[~far], axis=0), rtol=1e-12)
    assert found.encoding.matrix(rows).shape[0] == 800  # rows to be scored are all there
    taught = [batch.num_rows for batch in found.teaches(iter([rows]))]
    assert sum(taught) == 800 - far.sum()


def test_indicators_stand_for_columns_that_training_knew_to_be_missing():
    found = fit({"impute": {"default": "mean", "indicators": True}}, rows).encoding
    assert found.numeric == (*COLUMNS, *(f"{name}__missing" for name in COLUMNS[:4]))
    np.testing.assert_array_equal(found.preparation.apply(raw(NEW))[:, 5:], np.isnan(raw(NEW)[:, :4]))


@pytest.mark.parametrize("name", METHODS)
def test_neither_tasks_nor_order_change_a_bit(name):
    one = fit(METHODS[name], rows)
    order = np.random.default_rng(1).permutation(rows.num_rows)
    many = fit(METHODS[name], rows.take(pa.array(order)), tasks=5)
    assert many.encoding.preparation.to_files() == one.encoding.preparation.to_files()
    assert many.encoding == one.encoding
    assert many.facts == one.facts


@pytest.mark.parametrize("name", METHODS)
def test_stored_it_is_the_same_and_a_row_alone_gives_what_it_gives_among_others(name):
    found = fit(METHODS[name], rows).encoding.preparation
    tree, stored = found.to_files()
    again = Preparation.from_files(tree, stored)
    assert again.to_files() == (tree, stored)
    together = again.apply(raw(NEW))
    np.testing.assert_array_equal(together, found.apply(raw(NEW)))
    alone = np.vstack([found.apply(raw(NEW.slice(i, 1))) for i in range(0, 300, 10)])
    np.testing.assert_array_equal(alone, together[::10])


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_of_nothing_but_missing_values_and_one_without_rows(name):
    found = fit(METHODS[name], rows).encoding.preparation
    nothing = found.apply(np.full((3, 5), np.nan, dtype=np.float32))
    assert nothing.shape == (3, len(found.outputs))
    if found.fill is not None:
        assert np.isfinite(nothing).all()
    assert found.apply(np.empty((0, 5), dtype=np.float32)).shape == (0, len(found.outputs))


@pytest.mark.parametrize("name", METHODS)
def test_columns_without_a_value_or_without_spread_harm_nothing(name):
    empty, flat = pa.nulls(800, pa.float32()), pa.array(np.full(800, 3.3), pa.float32())
    dull = pa.record_batch({**{n: rows.column(n) for n in rows.schema.names}, "size": empty, "tax": flat})
    found = fit(METHODS[name], dull).encoding.preparation
    values = found.apply(raw(NEW))
    assert not np.isinf(values).any()
    if found.fill is not None:
        assert np.isfinite(values).all()


def test_fitted_again_on_both_periods_the_inputs_stay_and_the_numbers_move():
    later = invented(400, seed=9, start=5000)
    found = fit({**EVERYTHING, "selection": {"method": "correlation", "max_features": 6}}, rows, later, again=True)
    first, again = found.encoding, found.again
    assert again.numeric == first.numeric
    assert again.categories == first.categories
    assert len(again.preparation.components.axes) == len(first.preparation.components.axes)
    assert again != first
    assert fit({**EVERYTHING, "selection": {"method": "correlation", "max_features": 6}}, rows).encoding == first
    plain = fit({"impute": {"default": "mean"}}, rows, later, again=True)
    whole = np.vstack([raw(rows), raw(later)]).astype(np.float64)
    np.testing.assert_allclose(plain.again.preparation.fill, np.nanmean(whole, axis=0), rtol=1e-12)
    np.testing.assert_allclose(plain.encoding.preparation.fill, np.nanmean(whole[:800], axis=0), rtol=1e-12)


def test_off_it_is_the_encoding_itself():
    found = fit({}, rows)
    assert found.encoding is ENCODING
    assert (found.again, found.teaches, found.metrics, dict(found.facts)) == (None, None, {}, {})


values = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 60), st.just(3)),
    elements=st.one_of(st.floats(width=32, allow_infinity=False), st.floats(-1, 1, width=32), st.just(1e6)),
)


@given(values, st.integers(1, 7), st.booleans())
def test_moments_are_exact_and_the_same_however_rows_are_cut(found, cuts, products):
    found = np.nan_to_num(found, nan=0.5) if products else found
    wide = found.astype(np.float64)
    low, high = np.fmin.reduce(wide, axis=0, initial=np.inf), np.fmax.reduce(wide, axis=0, initial=-np.inf)
    known = (~np.isnan(wide)).sum(axis=0)
    near = np.nansum(wide, axis=0) / np.maximum(known, 1)
    grid = Grid.over(low, high, near=near)
    batch = pa.record_batch({name: pa.array(column, pa.float32()) for name, column in zip("abc", found.T, strict=True)})
    measure = Measure(Preparation(tuple("abc")), grid, products)
    (whole,) = measure(iter([batch]))
    edges = np.linspace(0, len(found), cuts + 1).astype(int)
    pieces = [next(iter(measure(iter([batch.slice(a, b - a)])))) for a, b in itertools.pairwise(edges)]
    one = moments([from_bytes(whole.column(0)[0].as_py())], grid)
    many = moments([from_bytes(piece.column(0)[0].as_py()) for piece in reversed(pieces)], grid)
    for field in ("mean", "variance", "low", "high", "known", "covariance"):
        np.testing.assert_array_equal(getattr(many, field), getattr(one, field))
    np.testing.assert_array_equal(one.known, known)
    reach = np.where(known > 0, high - low, 0.0)
    for position in np.flatnonzero(known):
        column = wide[~np.isnan(wide[:, position]), position]
        assert one.mean[position] == pytest.approx(column.mean(), rel=1e-9, abs=1e-12 * reach[position])
        assert one.variance[position] == pytest.approx(column.var(), rel=1e-8, abs=1e-12 * reach[position] ** 2)
    if products:
        expected = np.cov(wide.T, bias=True)
        np.testing.assert_allclose(one.covariance, expected, rtol=1e-8, atol=1e-11 * float(np.max(reach)) ** 2)


def test_heavy_tails_do_not_cost_the_variance_its_digits():
    random = np.random.default_rng(5)
    column = np.concatenate([random.normal(size=100_000), [1e8]]).astype(np.float32)
    grid = Grid.over(np.array([column.min()]), np.array([column.max()]), near=np.array([0.0]))
    batch = pa.record_batch({"a": pa.array(column)})
    (packed,) = Measure(Preparation(("a",)), grid, False)(iter([batch]))
    found = moments([from_bytes(packed.column(0)[0].as_py())], grid)
    assert found.variance[0] == pytest.approx(column.astype(np.float64).var(), rel=1e-8)
    assert found.mean[0] == pytest.approx(column.astype(np.float64).mean(), rel=1e-8)


def test_a_sample_has_its_size_is_spread_evenly_and_knows_no_other_rows():
    many = invented(20_000, seed=2)
    scale = TargetScale("price")
    sample = survey(training_rows(many, tasks=3), ENCODING, scale, cap=1000)
    assert len(sample.target) == len(sample.matrix) == 1000
    assert sample.rows == 20_000
    place = np.searchsorted(np.sort(many.column("price").to_numpy()), np.sort(sample.target))
    assert np.abs(place / 20_000 - np.linspace(0, 1, 1000)).max() < 0.06  # Kolmogorov's 99.9 % band
    np.testing.assert_allclose(sample.low, np.nanmin(raw(many), axis=0))
    np.testing.assert_array_equal(sample.known, (~np.isnan(raw(many))).sum(axis=0))
    assert len(np.unique(row_hash(np.arange(100_000)) >> np.uint64(44))) > 90_000


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"impute": {"columns": {"sise": {"method": "mean"}}}},
            r"impute.columns.sise: there is no such numeric input; did you mean size",
        ),
        ({"outliers": {"bounds": {"kind": [0, 1]}}}, r"outliers.bounds.kind: this input is a category"),
        (
            {"outliers": {"columns": ["xyz"], "winsorize": [0.1, 0.9]}},
            r"outliers.columns: 'xyz': there is no such numeric input",
        ),
    ],
)
def test_settings_of_columns_that_are_not_there_are_refused(tree, message):
    with pytest.raises(ConfigError, match=message):
        fit(tree, rows)


def test_a_rule_that_leaves_nothing_is_refused():
    with pytest.raises(DataError, match=r"leaves no training row.*preparation\.outliers\.columns"):
        fit({"outliers": {"remove": "zscore", "zscore": 0.01}}, invented(40))


def test_a_second_input_of_one_name_is_refused():
    twice = pa.record_batch({**{n: rows.column(n) for n in rows.schema.names}, "size__missing": rows.column("noise")})
    encoding = type(ENCODING)((*COLUMNS, "size__missing"), {})
    with pytest.raises(ConfigError, match="second input of the name 'size__missing'"):
        fit({"impute": {"default": "mean", "indicators": True}}, twice, encoding=encoding)
