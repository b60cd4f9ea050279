"""Consumes probabilities that are too sure, checks maps that make them keep their word."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.isotonic import IsotonicRegression

from assay.class_metrics import class_metrics
from assay.conformal.class_probabilities import FITS, Temperature, read_map

every_method = pytest.mark.parametrize("method", sorted(FITS))


def too_sure(classes, rows, seed, heat=2.5):
    """Outcomes, and probabilities whose logarithms are `heat` times what they should be."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(rows, classes)) * 1.2
    actual = np.array([random.choice(classes, p=p) for p in softmax(logits, axis=1)])
    return actual, softmax(heat * logits, axis=1)


@every_method
@pytest.mark.parametrize("classes", [2, 4])
def test_probabilities_that_were_too_sure_keep_their_word(method, classes):
    actual, said = too_sure(classes, 6_000, 1)
    found = FITS[method](actual[:3000], said[:3000])
    before, after = (class_metrics(actual[3000:], p) for p in (said[3000:], found(said[3000:])))
    assert before["calibration_error"] > 0.1
    assert after["calibration_error"] < 0.04
    assert after["log_loss"] < before["log_loss"] - 0.1
    assert after["brier"] < before["brier"]


@every_method
@given(classes=st.integers(2, 5), rows=st.integers(1, 30), seed=st.integers(0, 100))
def test_what_comes_out_are_probabilities_and_plain_data(method, classes, rows, seed):
    random = np.random.default_rng(seed)
    said = random.dirichlet(np.full(classes, 0.2), rows)  # some are 0 or 1
    found = FITS[method](random.integers(0, classes, rows), said)
    new = np.vstack([random.dirichlet(np.full(classes, 0.2), 40), np.eye(classes)])
    each = found(new)
    np.testing.assert_allclose(each.sum(axis=1), 1)
    assert (each >= 0).all()
    if method != "temperature":
        assert (each > 0).all()  # what never came may come yet
    again = read_map(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert again == found
    assert hash(again) == hash(found)
    np.testing.assert_array_equal(again(new), each)


@pytest.mark.parametrize(("classes", "heat"), [(2, 2.5), (5, 0.4)])
def test_the_temperature_is_what_probabilities_were_heated_by(classes, heat):
    found = FITS["temperature"](*too_sure(classes, 20_000, 2, heat))
    assert found.temperature == pytest.approx(heat, rel=0.06)


def test_the_temperature_has_the_least_log_loss_and_keeps_the_order():
    actual, said = too_sure(3, 800, 4)
    found = FITS["temperature"](actual, said)
    least = class_metrics(actual, found(said))["log_loss"]
    for near in (0.97, 1.03):
        assert class_metrics(actual, Temperature(found.temperature * near)(said))["log_loss"] > least
    np.testing.assert_array_equal(np.argsort(found(said), axis=1), np.argsort(said, axis=1))


def test_isotonic_regression_is_that_of_scikit_learn():
    actual, said = too_sure(2, 500, 5)
    least = 1 / 502
    theirs = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(said[:, 1], actual)
    new = np.linspace(0, 1, 201)
    found = FITS["isotonic"](actual, said)(np.column_stack([1 - new, new]))
    np.testing.assert_allclose(found[:, 1], theirs.predict(new), atol=1e-12)


@every_method
def test_of_two_classes_it_does_not_matter_which_one_is_the_second(method):
    actual, said = too_sure(2, 400, 6)
    there, back = FITS[method](actual, said)(said), FITS[method](1 - actual, said[:, ::-1])(said[:, ::-1])
    np.testing.assert_allclose(there, back[:, ::-1], atol=1e-6)


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        ({"method": "magic"}, "unknown method 'magic'; known: isotonic, temperature, venn_abers"),
        (None, "unknown method"),
        ({"method": "temperature"}, "no map of method temperature"),
        ({"method": "temperature", "temperature": 0.0}, "between 0.01 and 100"),
        ({"method": "temperature", "temperature": "hot"}, "expected a number"),
        ({"method": "isotonic", "curves": []}, "at least one"),
        ({"method": "isotonic", "curves": [[[0.5, 0.1], [0.1, 0.2]]]}, "do not fall"),
        ({"method": "isotonic", "curves": [[[0.1, 0.5], [0.1]]]}, "as many values"),
        ({"method": "venn_abers", "pairs": [{"low": [[0.5], [0.5]], "high": [[], [1.0]]}]}, "1 rises need 2 values"),
        ({"method": "venn_abers", "pairs": [{"low": [[], [1.5]], "high": [[], [1.0]]}]}, "from 0 to 1"),
    ],
)
def test_data_that_are_no_map_are_refused(tree, why):
    with pytest.raises(ValueError, match=why):
        read_map(tree)


@every_method
def test_another_number_of_classes_is_refused(method):
    actual, said = too_sure(3, 50, 0)
    found = FITS[method](actual, said)
    if method != "temperature":
        with pytest.raises(ValueError, match="do not fit"):
            found(np.full((2, 4), 0.25))
    with pytest.raises(ValueError, match="two classes or more"):
        found(np.ones((2, 1)))
