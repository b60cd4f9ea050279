"""Consumes the record of an ensemble and evaluated rows, checks what the report says of members and disagreement."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
from report_pages import content_of, parse, text_of
from scipy.stats import spearmanr

from assay.evaluation.ensemble import disagreement, ensemble_result, errors
from assay.evaluation.report import render

RECORD = {
    "chosen": "weighted",
    "single": False,
    "as_of": "",
    "members": [
        {"name": "xgboost", "engine": "xgboost", "rounds": 9, "weight": 0.75},
        {"name": "forest", "engine": "random_forest", "rounds": 5, "weight": 0.25},
    ],
    "candidates": [
        {"name": "xgboost", "member": True, "fitted_rmse": 0.25, "chosen_rmse": 0.3},
        {"name": "forest", "member": True, "fitted_rmse": None, "chosen_rmse": 0.4},
        {"name": "weighted", "member": False, "fitted_rmse": 0.2, "chosen_rmse": 0.29},
    ],
    "fitted_on": {"rows": 1200, "first": None, "last": None},
    "chosen_on": {"rows": 800, "first": None, "last": None},
}


def rows(transform, seed=0, count=400):
    """Errors on the model's scale whose size goes with the disagreement."""
    random = np.random.default_rng(seed)
    spread = random.uniform(0.01, 0.2, count)
    error, base = spread * random.normal(size=count), random.uniform(5, 9, count)
    prediction, actual = (np.exp(base), np.exp(base + error)) if transform == "log" else (base, base + error)
    return pl.DataFrame({"actual": actual, "prediction": prediction, "disagreement": spread}), np.abs(error), spread


@pytest.mark.parametrize("transform", ["log", "none"])
def test_disagreement_is_compared_with_errors_on_the_models_scale(transform):
    frame, error, spread = rows(transform)
    found = disagreement(frame, errors(frame, transform))
    assert found.correlation == pytest.approx(spearmanr(error, spread).statistic)
    assert found.mean == pytest.approx(spread.mean())
    low, high = np.quantile(spread, [0.2, 0.8])
    assert found.ratio == pytest.approx(error[spread > high].mean() / error[spread < low].mean(), rel=0.05)


def test_nothing_is_said_of_a_single_model_few_rows_or_none():
    frame, error, _ = rows("none")
    assert disagreement(frame.drop("disagreement"), error) is None
    assert disagreement(frame.with_columns(disagreement=pl.lit(None, pl.Float64)), error) is None
    assert disagreement(frame.head(20), error[:20]) is None
    assert ensemble_result({}, frame, error) is None


def test_the_page_has_a_table_of_members_and_combinations(market):
    frame, error, _ = rows("none")
    content = content_of(market(), figures=False)
    page = render(dataclasses.replace(content, ensemble=ensemble_result({"ensemble": RECORD}, frame, error)))
    lines = [["".join(cell.itertext()) for cell in line] for line in parse(page).iter("tr")]
    assert ["xgboost", "0.750", "0.250", "0.300", ""] in lines
    assert ["forest", "0.250", "–", "0.400", ""] in lines
    assert ["weighted", "–", "0.200", "0.290", "chosen"] in lines
    words = text_of(page).replace("\u00a0", " ")
    assert "Who predicts?" in words
    assert "fitted on 1,200 earlier rows; 800 later rows decided" in words
    assert "rank correlation 0." in words
    assert "Who predicts?" not in text_of(render(content))
