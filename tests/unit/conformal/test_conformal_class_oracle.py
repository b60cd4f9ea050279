"""MAPIE as an oracle: the same scores, quantiles and sets of classes from the same probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from assay.conformal.class_sets import SET_SCORES
from assay.conformal.quantiles import conformal_quantiles

mapie = pytest.importorskip("mapie.classification")
LEVELS = (0.8, 0.9)
SEED = 11


class Said(ClassifierMixin, BaseEstimator):
    """A classifier whose inputs are its probabilities."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.is_fitted_ = True
        return self

    def predict_proba(self, X):
        return X

    def predict(self, X):
        return self.classes_[X.argmax(axis=1)]


def drawn(classes, rows, seed):
    random = np.random.default_rng(seed)
    each = random.dirichlet(np.ones(classes), rows)
    return np.array([random.choice(classes, p=p) for p in each**1.5 / (each**1.5).sum(axis=1, keepdims=True)]), each


def theirs(score, actual, each, new, how):
    model = mapie.SplitConformalClassifier(
        Said().fit(each, actual), confidence_level=list(LEVELS), conformity_score=score, prefit=True, random_state=SEED
    ).conformalize(each, actual)
    _, sets = model.predict_set(new, conformity_score_params={"include_last_label": how})
    return model.conformity_scores.ravel(), sets


def mapies_draws(rows):
    """MAPIE takes u times the probability off, where this takes the draw's share of it: u is 1 - draw."""
    return 1 - np.random.RandomState(SEED).uniform(size=rows)


@pytest.mark.parametrize(("score", "classes"), [("lac", 2), ("lac", 3), ("lac", 8), ("aps", 3), ("aps", 8)])
def test_scores_and_sets_are_those_of_mapie(score, classes):
    (actual, each), (_, new) = drawn(classes, 700, classes), drawn(classes, 400, 100 + classes)
    scores, sets = theirs(score, actual, each, new, "randomized")
    own = SET_SCORES[score]
    found = own.score(actual, each, mapies_draws(700))
    np.testing.assert_allclose(found, scores, atol=1e-12)
    for position, quantile in enumerate(conformal_quantiles(found, LEVELS)):
        np.testing.assert_array_equal(own.sets(new, np.full(400, quantile), mapies_draws(400)), sets[:, :, position])


@pytest.mark.parametrize("classes", [3, 8])  # of two classes MAPIE makes no adaptive sets
def test_sets_of_rows_without_a_draw_are_mapie_s_with_the_last_class(classes):
    (actual, each), (_, new) = drawn(classes, 700, classes), drawn(classes, 400, 100 + classes)
    _, sets = theirs("aps", actual, each, new, True)
    quantiles = conformal_quantiles(SET_SCORES["aps"].score(actual, each, mapies_draws(700)), LEVELS)
    for position, quantile in enumerate(quantiles):
        np.testing.assert_array_equal(SET_SCORES["aps"].sets(new, np.full(400, quantile)), sets[:, :, position])
