"""Consumes invented inputs, checks which ones selection keeps, and its scores against SciPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from preparation_harness import ENCODING, fit, invented, raw
from scipy.stats import pearsonr, spearmanr
from sklearn.feature_selection import mutual_info_regression

from assay.config.preparation import SelectionConfig
from assay.training.selection import score, select

NAMES = ("signal", "curve", "twin", "flat", "noise", "kind")
METHODS = ["importance", "correlation", "spearman", "mutual_information"]


def inputs(rows=1500, *, missing=0.0):
    """A signal, its parabola, its near-duplicate, a constant, noise and a category; the outcome follows three."""
    random = np.random.default_rng(4)
    signal, curve = random.normal(size=(2, rows))
    kind = random.integers(0, 3, rows)
    target = 2 * signal + curve**2 + 3 * (kind == 1) + 0.1 * random.normal(size=rows)
    twin = signal + 1e-3 * random.normal(size=rows)
    matrix = np.column_stack([signal, curve, twin, np.full(rows, 4.0), random.normal(size=rows), kind])
    matrix[:, :5][random.random((rows, 5)) < missing] = np.nan
    return matrix.astype(np.float32), target


def chosen(matrix, target, **settings):
    found = select(SelectionConfig(**settings), NAMES, 1, matrix, target, seed=7)
    return [one.name for one in found if one.kept], {one.name: one for one in found}


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("method", METHODS)
def test_what_the_outcome_follows_comes_first_and_what_says_nothing_last(method, missing):
    kept, found = chosen(*inputs(missing=missing), method=method, max_features=2)
    assert len(kept) == (3 if method in ("correlation", "spearman") else 2)
    assert {"signal", "twin"} & set(kept)
    assert "flat" not in kept
    assert found["flat"].score == 0.0 or method == "mutual_information" or missing  # what is missing may tell a tree
    ranks = {name: one.rank for name, one in found.items() if one.rank is not None}
    assert sorted(ranks.values()) == list(range(1, len(ranks) + 1))
    assert ranks["noise"] > min(ranks["signal"], ranks["twin"])
    if method in ("importance", "mutual_information"):
        assert ranks["curve"] < ranks["noise"]
        assert ranks["kind"] < ranks["noise"]
    else:
        assert "kind" in kept  # no number says how much a category goes along
        assert found["kind"].score is None


def test_scores_are_those_of_scipy_and_scikit_learn():
    matrix, target = inputs(600)
    wide = matrix.astype(np.float64)
    for method, reference in (("correlation", pearsonr), ("spearman", spearmanr)):
        found = score(method, matrix, target, 1, seed=7)
        expected = [abs(reference(wide[:, i], target).statistic) for i in (0, 1, 2, 4)]
        np.testing.assert_allclose([found[i] for i in (0, 1, 2, 4)], expected, rtol=1e-9)
        assert found[3] == 0.0
    expected = mutual_info_regression(wide, target, discrete_features=[False] * 5 + [True], random_state=7)
    np.testing.assert_allclose(score("mutual_information", matrix, target, 1, seed=7), expected, rtol=1e-12)


@pytest.mark.parametrize("missing", [0.0, 0.03])
def test_of_near_duplicates_the_better_one_stays(missing):
    kept, found = chosen(*inputs(missing=missing), method="correlation", max_correlation=0.999)
    assert len({"signal", "twin"} & set(kept)) == 1
    gone = found["twin" if "signal" in kept else "signal"]
    stays = found["signal" if "signal" in kept else "twin"]
    assert gone.score <= stays.score
    assert gone.why.endswith(f"with {stays.name}")
    alone, _ = chosen(*inputs(), max_correlation=0.999)
    assert alone == ["signal", "curve", "flat", "noise", "kind"]  # without scores the first one stays


def test_a_near_duplicate_that_knows_more_rows_stays_beside_it():
    matrix, target = inputs()
    matrix[: len(matrix) // 3, 0] = np.nan
    kept, _ = chosen(matrix, target, max_correlation=0.999)
    assert {"signal", "twin"} <= set(kept)


def test_constants_go_where_variance_is_asked_for_and_something_stays_in_any_case():
    kept, found = chosen(*inputs(), min_variance=0.0)
    assert kept == ["signal", "curve", "twin", "noise", "kind"]
    assert "variance 0" in found["flat"].why
    matrix, target = inputs()
    kept, _ = chosen(matrix, np.full_like(target, 2.0), method="importance")
    assert len(kept) == 1
    matrix[:, :5] = np.nan
    assert chosen(matrix, target, method="correlation", max_correlation=0.9, min_variance=1.0)[0] == ["kind"]


@pytest.mark.parametrize("method", METHODS)
def test_the_model_gets_the_selected_inputs_alone(method):
    rows, new = invented(700, seed=1), invented(90, seed=2)
    found = fit({"selection": {"method": method, "max_features": 3}}, rows)
    assert found.metrics["features_selected"] == len(found.encoding.features)
    assert found.encoding.features == [n for n in ENCODING.features if n in {s.name for s in found.selection if s.kept}]
    assert found.encoding.preparation is None
    positions = [ENCODING.features.index(name) for name in found.encoding.features]
    np.testing.assert_array_equal(found.encoding.matrix(new), ENCODING.matrix(new)[:, positions])
    assert fit({"selection": {"method": method, "max_features": 3}}, rows, tasks=4).selection == found.selection


def test_of_single_columns_only_the_selected_ones_are_read_and_prepared():
    rows, new = invented(700, seed=1), invented(90, seed=2)
    tree = {"impute": {"default": "median", "indicators": True}, "scaling": "standard"}
    whole = fit(tree, rows).encoding
    found = fit({**tree, "selection": {"method": "correlation", "max_features": 2}}, rows).encoding
    assert len(found.numeric) == 2
    assert len(found.preparation.columns) == 2
    assert found.columns == [*found.preparation.columns, "kind"]
    positions = [whole.features.index(name) for name in found.features]
    np.testing.assert_array_equal(found.matrix(new), whole.matrix(new)[:, positions])
    components = fit(
        {**tree, "pca": {"enabled": True}, "selection": {"method": "correlation", "max_features": 1}}, rows
    ).encoding
    assert components.columns == ENCODING.columns  # a component is made of all of them
    assert components.preparation.apply(raw(new)).shape[1] >= 1
