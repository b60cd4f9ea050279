"""Consumes an invented panel with targets of three tasks, checks that all go through the jobs in one run."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from assay.class_metrics import class_metrics
from assay.config import load_run
from assay.model.registry import champion
from assay.runtime.tracking import Tracking

pytestmark = pytest.mark.spark

SETTINGS = [
    *("training.force_production_quality=false", "engine.rounds=40", "engine.params.max_depth=3"),
    "training.enable_advanced_features=true",
]
TARGETS = ["price", "sold", "mood", "rose"]


def panel(folder):
    """Prices of twelve towns, whether anything was sold (text), a mood of three, and two rows of no known class."""
    random = np.random.default_rng(5)
    parts = []
    for number in range(12):
        months = pd.date_range("2008-01-01", periods=72, freq="MS")
        price = 100 * (1 + number) + np.cumsum(random.normal(0, 4, 72)) + 20 * np.sin(np.arange(72) / 2)
        heat = random.normal(size=72)
        sold = np.where(heat + random.logistic(size=72) / 2 > 0, "Yes", "No")
        mood = np.array(["bad", "fine", "good"])[np.searchsorted([-0.7, 0.7], heat + 0.4 * random.normal(size=72))]
        part = {"town": f"t{number}", "half": "north" if number % 2 else "south", "day": months.strftime("%F")}
        parts.append(pd.DataFrame({**part, "price": price, "heat": heat, "sold": sold, "feeling": mood}))
    rows = pd.concat(parts, ignore_index=True)
    rows.loc[3, "sold"], rows.loc[5, "feeling"] = "Perhaps", "odd"
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_csv(folder / "panel.csv", index=False)
    return {
        "name": "panel",
        "source": {"path": str(folder / "panel.csv")},
        "time": {"column": "day"},
        "entity": ["town"],
        "targets": [
            {"name": "price", "relative_to": "last_value"},
            {"name": "sold", "task": "binary", "positive": "Yes", "negative": "No"},
            {"name": "mood", "column": "feeling", "task": "multiclass", "classes": ["bad", "fine", "good"]},
            {"name": "rose", "column": "price", "task": "binary", "above": "last_value"},
        ],
        "columns": {"numeric": ["heat"], "categorical": ["half"]},
        "groups": [["half"]],
        "segments": ["half"],
        "decision": {"price": 1.0, "sold": 2.0, "rose": -1.0},
        "features": {"lags": [1, 2, 12], "windows_days": [95]},
    }


@pytest.fixture(scope="module")
def done(run_in, tmp_path_factory):
    """The workspace after a pipeline of all targets, the dataset and the result."""
    folder = tmp_path_factory.mktemp("classes")
    dataset = panel(folder)
    return folder / "ws", dataset, run_in(folder / "ws", "pipeline", dataset, overrides=SETTINGS)


def table(folder, name):
    return pl.from_arrow(DeltaTable(folder / "lake" / name).to_pyarrow_table())


def test_classes_are_kept_as_codes_and_others_set_aside(done):
    rows = table(done[0], "observations")
    assert set(rows["sold"].unique()) == {0.0, 1.0}
    assert set(rows["mood"].unique()) == {0.0, 1.0, 2.0}
    assert "rose" not in rows.columns
    reasons = table(done[0], "observations_quarantine")["reasons"].to_list()
    assert sorted("dataset.targets." in reason for reason in reasons) == [True, True]


def test_a_rise_is_over_the_last_known_value_and_unknown_without_one(done):
    rows = table(done[0], "features").sort("town", "time")
    expected = (pl.col("price") > pl.col("price").shift().over("town")).cast(pl.Float64)
    assert rows["rose"].to_list() == rows.select(expected).to_series().to_list()
    assert rows["rose"].null_count() == 12
    assert "sold__own__lag_1" in rows.columns  # a rate has a history
    assert not any(name.startswith(("mood__", "rose__")) for name in rows.columns)


def test_every_target_is_scored_in_one_table(done):
    rows = table(done[0], "predictions")
    assert set(rows["target"].unique()) == set(TARGETS)
    price = rows.filter(pl.col("target") == "price")
    assert price["predicted_class"].null_count() == price["probabilities"].null_count() == price.height
    for name, classes in (("sold", ["No", "Yes"]), ("mood", ["bad", "fine", "good"]), ("rose", ["not above", "above"])):
        own = rows.filter(pl.col("target") == name)
        each = np.array(own["probabilities"].to_list())
        np.testing.assert_allclose(each.sum(axis=1), 1)
        assert own["predicted_class"].to_list() == [classes[code] for code in each.argmax(axis=1)]
        expected = each.max(axis=1) if name == "mood" else each[:, 1]
        np.testing.assert_array_equal(own["prediction"], expected)
        assert own["lower_80"].null_count() == own.height
        assert all(set(narrow) <= set(wide) <= set(classes) for narrow, wide in own.select("set_80", "set_90").rows())


def test_targets_are_combined_into_one_score_that_orders_what_came(done):
    folder, _, result = done
    rows, scored = table(folder, "decisions"), table(folder, "predictions")
    assert set(rows["row_id"]) == set(scored["row_id"])
    assert rows["row_id"].is_unique().all()
    assert rows["score"].is_between(0, 1).all()
    parts = {name: scored.filter(pl.col("target") == name).select("row_id", name="prediction") for name in TARGETS}
    both = rows
    for name in ("sold", "rose"):
        both = both.join(parts[name].rename({"name": name}), on="row_id")
    # what is left of the score is the price's percentile
    share = both["score"] * 4 - 2 * both["sold"] - (1 - both["rose"])
    price = both.select("row_id").join(parts["price"], on="row_id", maintain_order="left")["name"]
    assert share.is_between(-1e-9, 1 + 1e-9).all()
    assert np.all(np.diff(share.to_numpy()[np.argsort(price.to_numpy())]) >= -1e-9)
    assert result.metrics["decision_rank_correlation"] > 0.3
    assert result.metrics["decision_top_realised"] > result.metrics["decision_realised"]


def test_the_sets_hold_about_what_they_promise(done):
    joined = table(done[0], "predictions").filter(pl.col("target") == "mood")
    joined = joined.join(table(done[0], "features").select("row_id", "mood"), on="row_id").drop_nulls("mood")
    names = ["bad", "fine", "good"]
    held = [names[int(code)] in chosen for code, chosen in joined.select("mood", "set_80").rows()]
    assert np.mean(held) == pytest.approx(0.8, abs=0.12)


def test_the_figures_on_record_are_those_of_the_predictions(done):
    folder, _, result = done
    tracking = Tracking(load_run(dataset=folder / "dataset.yml", workspace=folder))
    for name in ("sold", "mood"):
        found = champion(tracking, name)
        run = tracking.client.get_run(found.run_id)
        joined = table(folder, "predictions").filter(pl.col("target") == name)
        joined = joined.join(table(folder, "features").select("row_id", name), on="row_id").drop_nulls(name)
        expected = class_metrics(joined[name].to_numpy(), np.array(joined["probabilities"].to_list()))
        for figure in ("log_loss", "accuracy", "calibration_error"):
            assert run.data.metrics[f"test_{figure}"] == pytest.approx(expected[figure])
        best = run.data.metrics["best_baseline_log_loss"]
        assert run.data.metrics["skill_over_best_baseline"] == pytest.approx(1 - expected["log_loss"] / best)
        assert expected["log_loss"] < best
        assert "test_r2" not in run.data.metrics
        with tracking.download(found.run_id, "gates.json") as path:
            assert "beats_best_baseline" in {gate["gate"] for gate in json.loads(path.read_text(encoding="utf-8"))}
    assert result is not None


def test_the_report_and_the_segment_metrics_tell_of_classes(done):
    folder, _, result = done
    page = (folder / "reports" / "evaluation-mood.html").read_text(encoding="utf-8")
    assert "log loss" in page
    assert "R²" not in page
    metrics = table(folder, "segment_metrics").filter(
        (pl.col("target") == "sold") & (pl.col("segment_column") == "half")
    )
    assert set(metrics["segment"].unique()) == {"north", "south"}
    assert {"log_loss", "auc", "coverage_80", "set_size_90"} <= set(metrics["metric"].unique())
    explained = table(folder, "explanations")
    assert set(explained["target"].unique()) == {"price", "sold", "rose"}  # of several classes there is no one number
    assert result is not None


def test_a_served_model_gives_its_probabilities_and_sets(done):
    folder = done[0]
    tracking = Tracking(load_run(dataset=folder / "dataset.yml", workspace=folder))
    served = tracking.mlflow.pyfunc.load_model("models:/panel.sold@champion")
    found = table(folder, "features").head(20).to_arrow()
    (batch,) = pa.Table.from_batches(found.to_batches()).combine_chunks().to_batches()
    found = served.predict(batch.to_pandas())
    each = champion(tracking, "sold").model.probabilities(batch)
    np.testing.assert_array_equal(np.array(found["probabilities"].tolist()), each)
    np.testing.assert_array_equal(found["prediction"], each[:, 1])
    assert found["predicted_class"].tolist() == ["Yes" if p > 0.5 else "No" for p in each[:, 1]]
    assert all(set(narrow) <= set(wide) for narrow, wide in zip(found["set_80"], found["set_90"], strict=True))
