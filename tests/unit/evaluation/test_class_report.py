"""Consumes invented rows of classes, checks their segment table, plots and page."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import polars as pl
import pytest
from class_pages import THREE, TWO, content_of, rows_of, tallied
from report_pages import parse, text_of
from sklearn.metrics import log_loss, roc_auc_score

from assay.class_metrics import log_losses
from assay.evaluation import class_plots
from assay.evaluation.class_content import class_figures, class_summary
from assay.evaluation.class_report import CAPTIONS, render_classes
from assay.evaluation.class_segments import class_segment_table, confusion_of
from assay.evaluation.class_tally import probabilities_of, sets_of
from assay.evaluation.ensemble import ensemble_result
from assay.evaluation.rivals import RivalResult


def test_the_page_says_what_is_drawn_again_where_rows_have_no_days():
    rival = RivalResult("global_rate", 1_409, 200, 0.5, 0.65, -0.2, -0.1, dated=False)
    words = text_of(render_classes(dataclasses.replace(content_of(TWO), rivals=[rival])))
    assert "Rows have no days: 200 random groups of them are drawn again 2,000 times." in words
    assert "Whole days" not in words
    assert "beyond chance" in words


@pytest.mark.parametrize("classes", [TWO, THREE])
def test_the_page_is_well_formed_and_speaks_of_classes(classes):
    content = content_of(classes)
    page = render_classes(content)
    assert parse(page) is not None
    words = text_of(page)
    for expected in ("log loss", "Can the sets be trusted?", "global rate", "(missing)", "Passed its quality gate"):
        assert expected in words
    assert ("AUC" in words.split("Terms")[0]) == (classes is TWO)
    assert set(content.figures) <= set(CAPTIONS)


@pytest.mark.parametrize("days", [1, 40])
def test_the_page_compares_rules_also_where_rows_have_no_days(days):
    band = (math.nan, math.nan) if days == 1 else (-0.2, -0.1)
    rival = RivalResult("global_rate", 300, days, 0.5, 0.65, *band)
    bands = {} if days == 1 else {"log_loss": (0.4, 0.6), "accuracy": (0.7, 0.8)}
    words = text_of(render_classes(dataclasses.replace(content_of(TWO), rivals=[rival], bands=bands)))
    assert ("Whole days are drawn again" in words) == ("its accuracy 70" in words) == (days > 1)
    assert ("There is no band" in words) == (days == 1)
    assert ("errs less than 1 of 1 simple rule" in words) == (days == 1 or rival.verdict == "better")
    assert ("beyond chance" in words) == (days > 1)


@pytest.mark.parametrize("classes", [TWO, THREE])
def test_segments_are_measured_as_scikit_learn_measures_them(classes):
    rows = rows_of(classes)
    table = class_segment_table(*tallied(rows, classes))
    part = rows.filter(pl.col("town") == "t1")
    each, found = (
        probabilities_of(part, len(classes)),
        dict(table.filter(pl.col("segment") == "t1").select("metric", "value").iter_rows()),
    )
    actual = part["actual"].to_numpy()
    assert found["log_loss"] == pytest.approx(log_loss(actual, each, labels=range(len(classes))))
    assert found["accuracy"] == pytest.approx(np.mean(each.argmax(axis=1) == actual))
    if classes is TWO:
        assert found["auc"] == pytest.approx(roc_auc_score(actual, each[:, 1]))
    held = sets_of(part, 0.8, classes)
    assert found["coverage_80"] == pytest.approx(held[np.arange(len(actual)), actual.astype(int)].mean())
    assert found["set_size_80"] == pytest.approx(np.mean([len(s) for s in part["set_80"]]))
    sizes = table.filter(pl.col("metric") == "log_loss").select("segment", "rows")
    assert dict(sizes.iter_rows())["(missing)"] == 60
    assert table["metric"].n_unique() * 5 == table.height  # all rows, three towns, and those of none


def test_the_summary_and_figures_are_those_of_the_rows():
    content = content_of(TWO)
    figures, rows = class_figures(content), rows_of(TWO)
    losses = log_losses(rows["actual"].to_numpy(), probabilities_of(rows, 2))
    assert figures["test_log_loss"] == pytest.approx(losses.mean())
    assert figures["skill_over_best_baseline"] == pytest.approx(1 - losses.mean() / np.log(2))
    assert {"coverage_80", "set_size_90", "best_baseline_log_loss"} <= set(figures)
    assert any("global rate" in line for line in class_summary(content))


def test_many_classes_have_no_picture_of_mistakes():
    classes = tuple("abcdefghijklmno")
    assert class_plots.confusion_plot(confusion_of(*tallied(rows_of(classes, 50), classes)), classes) is None


def test_the_page_says_who_predicts_and_how_disagreement_goes_with_the_loss():
    frame = rows_of(THREE)
    loss = log_losses(frame["actual"].to_numpy(), probabilities_of(frame, 3))
    frame = frame.with_columns(disagreement=pl.Series(loss / 10))
    record = {
        "chosen": "stacking",
        "loss": "log_loss",
        "as_of": "",
        "members": [{"name": "xgboost", "weight": 0.75}, {"name": "linear", "weight": 0.25}],
        "candidates": [
            {"name": "xgboost", "member": True, "fitted_log_loss": 0.625, "chosen_log_loss": 0.75},
            {"name": "linear", "member": True, "fitted_log_loss": None, "chosen_log_loss": 0.8},
            {"name": "stacking", "member": False, "fitted_log_loss": 0.6, "chosen_log_loss": 0.7},
        ],
        "fitted_on": {"rows": 1200},
        "chosen_on": {"rows": 800},
    }
    content = content_of(THREE)
    with_members = dataclasses.replace(content, ensemble=ensemble_result({"ensemble": record}, frame, loss))
    assert class_figures(with_members)["disagreement_error_correlation"] == pytest.approx(1)
    page = render_classes(with_members)
    lines = [["".join(cell.itertext()) for cell in line] for line in parse(page).iter("tr")]
    assert ["xgboost", "0.750", "0.625", "0.750", ""] in lines
    assert ["stacking", "–", "0.600", "0.700", "chosen"] in lines
    words = text_of(page).replace("\u00a0", " ")
    assert "Later log loss" in words
    assert "Log loss, of rows that came after" in words
    assert "the log loss: rank correlation 1.00" in words
    assert "Who predicts?" not in text_of(render_classes(content))
