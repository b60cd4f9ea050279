"""Consumes invented rows of classes, checks their segment table, plots and page."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math

import numpy as np
import polars as pl
import pytest
from report_pages import parse, text_of
from sklearn.metrics import log_loss, roc_auc_score

from assay.class_metrics import class_metrics, log_losses
from assay.evaluation import class_plots
from assay.evaluation.class_content import ClassContent, class_figures, class_summary
from assay.evaluation.class_coverage import set_results
from assay.evaluation.class_report import CAPTIONS, render_classes
from assay.evaluation.class_segments import class_segment_table, confusion_of, reliability_of
from assay.evaluation.class_tally import ClassSpec, ClassTally, probabilities_of, sets_of
from assay.evaluation.content import Gate
from assay.evaluation.data_facts import data_facts
from assay.evaluation.ensemble import ensemble_result
from assay.evaluation.rivals import RivalResult

THREE, TWO = ("bad", "fine", "good & <new>"), ("no", "yes")
LEVELS = [0.8, 0.9]


def rows_of(classes, count=600, seed=0):
    """Rows whose probabilities are the truth, and sets of what they are surest of."""
    random = np.random.default_rng(seed)
    each = random.dirichlet(np.ones(len(classes)), count)
    actual = np.array([random.choice(len(classes), p=p) for p in each])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    return pl.DataFrame(
        {
            "time": [start + dt.timedelta(days=day) for day in range(count)],
            "actual": actual.astype(float),
            "probabilities": each.tolist(),
            **{
                f"set_{label}": [[c for c, q in zip(classes, p, strict=True) if q >= least] for p in each]
                for label, least in (("80", 0.25), ("90", 0.1))
            },
            "town": [None if n % 10 == 0 else f"t{n % 3}" for n in range(count)],
            "baseline_global_rate": np.full(count, np.log(len(classes))),
        }
    )


def tallied(rows, classes, **changes):
    """What is summed of rows, and how."""
    rivals = tuple(name for name in rows.columns if name.startswith("baseline_"))
    kept = ("time", "actual", "probabilities", "town", *rivals)
    spec = ClassSpec(
        **{"levels": tuple(LEVELS), "segment_columns": ("town",), "rivals": rivals, "kept": kept} | changes,
        classes=classes,
    )
    return ClassTally.merge([ClassTally.measure(rows, spec)], spec), spec


def content_of(classes):
    rows = rows_of(classes)
    tally, spec = tallied(rows, classes)
    table = class_segment_table(tally, spec)
    return ClassContent(
        title="shop: mood",
        target="mood",
        created=dt.datetime(2021, 1, 1, tzinfo=dt.timezone.utc),
        classes=classes,
        rows=rows.height,
        start=rows["time"].min(),
        end=rows["time"].max(),
        metrics=class_metrics(rows["actual"].to_numpy(), probabilities_of(rows, len(classes))),
        baselines={"global_rate": float(rows["baseline_global_rate"].mean())},
        coverage=set_results(tally, spec, 500),
        segments=table,
        figures={
            "reliability": class_plots.reliability_plot(reliability_of(tally), classes),
            "confusion": class_plots.confusion_plot(confusion_of(tally, spec), classes),
            "loss": class_plots.loss_over_time(rows, classes, "mood"),
        },
        data=data_facts([]),
        splits=[],
        run={"Engine": "xgboost, 3 rounds"},
        tables={"predictions": 1},
        gates=[Gate("beats best baseline", 0.5, 0.6, True, "", False)],
    )


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
