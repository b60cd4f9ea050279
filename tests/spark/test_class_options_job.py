"""Consumes an invented panel with two targets of classes, checks that each way to calibrate goes through the jobs."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from test_classes_job import SETTINGS, panel, table

from assay.class_metrics import class_metrics
from assay.config import load_run
from assay.conformal.intervals import score_batch
from assay.metrics import binomial_band
from assay.model.registry import champion
from assay.runtime.tracking import Tracking

pytestmark = pytest.mark.spark

CLASSES = {"sold": ["No", "Yes"], "mood": ["bad", "fine", "good"]}
WAYS = [("aps", "venn_abers", True), ("lac", "temperature", False)]
SETS = ("set_80", "set_90")
FOLLOW = ("conformal.adaptive=true", "conformal.step_days=31", "conformal.by_class=true")


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """What the tables and the registry had after one way of calibrating."""

    way: tuple[str, str, bool]
    result: object
    predictions: pl.DataFrame
    calibrations: pl.DataFrame
    segment_metrics: pl.DataFrame
    champions: dict
    served: dict
    pages: dict
    trained: dict


@pytest.fixture(scope="module")
def workspace_of_ways(run_in, tmp_path_factory):
    """One training, calibrated, scored and evaluated in each way."""
    folder = tmp_path_factory.mktemp("ways")
    dataset = panel(folder)
    dataset["targets"] = [target for target in dataset["targets"] if target["name"] in CLASSES]
    del dataset["decision"]
    workspace, found = folder / "ws", []
    for score, probabilities, by_class in WAYS:
        overrides = [
            *SETTINGS,
            "explain.rows=0",
            "conformal.adaptive=false",
            f"conformal.set_score={score}",
            f"conformal.probabilities={probabilities}",
            f"conformal.by_class={str(by_class).lower()}",
        ]
        jobs = ["calibrate", "score", "evaluate"] if found else ["pipeline"]
        results = [run_in(workspace, job, dataset, overrides=overrides) for job in jobs]
        tracking = Tracking(load_run(dataset=workspace / "dataset.yml", workspace=workspace))
        champions = {name: champion(tracking, name) for name in CLASSES}
        found.append(
            Calibrated(
                way=(score, probabilities, by_class),
                result=results[-1],
                predictions=table(workspace, "predictions"),
                calibrations=table(workspace, "calibrations"),
                segment_metrics=table(workspace, "segment_metrics"),
                champions=champions,
                served={name: tracking.mlflow.pyfunc.load_model(f"models:/panel.{name}@champion") for name in CLASSES},
                pages={n: (workspace / "reports" / f"evaluation-{n}.html").read_text("utf-8") for n in CLASSES},
                trained={n: tracking.client.get_run(c.run_id).data.metrics for n, c in champions.items()},
            )
        )
    features = table(workspace, "features")
    run_in(workspace, "calibrate", dataset, overrides=[*overrides, *FOLLOW])
    result = run_in(workspace, "score", dataset, overrides=[*overrides, *FOLLOW])
    follows = {
        "metrics": result.metrics,
        "predictions": table(workspace, "predictions"),
        "calibrations": table(workspace, "calibrations"),
        "scores": table(workspace, "conformity_scores"),
        "champions": {name: champion(tracking, name) for name in CLASSES},
    }
    return features, found, follows


@pytest.fixture(params=range(len(WAYS)), ids=["-".join(map(str, way)) for way in WAYS])
def way(request, workspace_of_ways):
    features, found, _ = workspace_of_ways
    return features, found[request.param]


def batch_of(features, ids):
    rows = features.filter(pl.col("row_id").is_in(ids)).sort("row_id").to_arrow()
    (batch,) = pa.Table.from_batches(rows.to_batches()).combine_chunks().to_batches()
    return batch


def lists(column):
    return [list(value) for value in (column.to_pylist() if isinstance(column, pa.Array) else column)]


@pytest.mark.parametrize("name", CLASSES)
def test_predictions_are_what_model_map_and_draws_say(way, name):
    features, done = way
    rows = done.predictions.filter(pl.col("target") == name).sort("row_id")
    tested = done.champions[name].tested
    assert set(rows["model_version"]) == {tested.model.version}
    batch = batch_of(features, rows["row_id"].implode())
    found = score_batch(tested.model, tested.calibration, batch)
    np.testing.assert_allclose(np.array(rows["probabilities"].to_list()), np.array(lists(found["probabilities"])))
    for level in SETS:
        assert rows[level].to_list() == lists(found[level])
    assert rows["predicted_class"].to_list() == found["predicted_class"].to_pylist()
    raw = tested.model.probabilities(batch)
    assert np.abs(np.array(rows["probabilities"].to_list()) - raw).max() > 0.01
    assert tested.calibration["classes"]["probabilities"]["method"] == done.way[1]


@pytest.mark.parametrize("name", CLASSES)
def test_a_served_model_makes_the_sets_of_the_batch_where_it_knows_the_row(way, name):
    features, done = way
    champ, served = done.champions[name], done.served[name]
    batch = batch_of(features, features.sort("time")["row_id"].tail(200).implode())
    expected = score_batch(champ.model, champ.calibration, batch)
    frame = batch.to_pandas()
    mixed = np.random.default_rng(1).permutation(len(frame))
    for found in (served.predict(frame), served.predict(frame.iloc[mixed]).iloc[np.argsort(mixed)]):
        assert np.array_equal(np.array(found["probabilities"].tolist()), np.array(lists(expected["probabilities"])))
        for level in SETS:
            assert lists(found[level]) == lists(expected[level])
    unknown = served.predict(frame.drop(columns="row_id"))
    larger = 0
    for level in SETS:
        for blind, own in zip(lists(unknown[level]), lists(expected[level]), strict=True):
            assert set(own) <= set(blind)
            larger += len(blind) > len(own)
    assert (larger > 0) == (done.way[0] == "aps")


@pytest.mark.parametrize("name", CLASSES)
def test_the_calibrations_on_record_are_those_of_the_champion(way, name):
    _, done = way
    champ, by_class = done.champions[name], done.way[2]
    rows = done.calibrations.filter(
        (pl.col("target") == name) & (pl.col("calibration_version") == champ.calibration_version)
    )
    labels = {f"{name}={each}" for each in CLASSES[name]}
    assert (labels <= set(rows["segment"])) == by_class
    whole = rows.filter(pl.col("segment") == "")["rows"].max()
    if by_class:
        assert rows.filter(pl.col("segment").is_in(labels) & (pl.col("level") == 0.8))["rows"].sum() == whole
    labelled = sum(champ.judged.facts["split"][period]["rows"] for period in ("calibrate", "test"))
    assert whole == pytest.approx(labelled / 2, rel=0.1)  # the other half taught the map


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_is_measured_on_record_and_in_the_report(way, name):
    features, done = way
    rows = done.predictions.filter(pl.col("target") == name)
    rows = rows.join(features.select("row_id", actual=name), on="row_id").drop_nulls("actual")
    metrics = done.segment_metrics.filter((pl.col("target") == name) & (pl.col("segment_column") == name))
    assert set(metrics["segment"]) == set(CLASSES[name])
    for code, each in enumerate(CLASSES[name]):
        own = rows.filter(pl.col("actual") == code)
        for label, level in (("80", 0.8), ("90", 0.9)):
            (line,) = metrics.filter((pl.col("segment") == each) & (pl.col("metric") == f"coverage_{label}")).rows(
                named=True
            )
            held = [each in chosen for chosen in own[f"set_{label}"].to_list()]
            assert line["value"] == pytest.approx(np.mean(held))
            assert (line["low"], line["high"]) == pytest.approx(binomial_band(level, own.height))
            assert line["rows"] == own.height
    assert "Is every class covered?" in done.pages[name]
    assert ("Sets were calibrated by class" in done.pages[name]) == done.way[2]
    assert "Before and after calibration" in done.pages[name]


def test_figures_before_and_after_are_those_of_the_rows(way):
    features, done = way
    metrics, name = done.result.metrics, "sold"  # the first target's figures have no prefix
    tested = done.champions[name].tested
    rows = done.predictions.filter(pl.col("target") == name).sort("row_id")
    rows = rows.join(features.select("row_id", actual=name), on="row_id", maintain_order="left").drop_nulls("actual")
    raw = tested.model.probabilities(batch_of(features, rows["row_id"].implode()))
    before = class_metrics(rows["actual"].to_numpy(), raw)
    after = class_metrics(rows["actual"].to_numpy(), np.array(rows["probabilities"].to_list()))
    for figure in ("log_loss", "brier", "calibration_error"):
        assert metrics[f"test_{figure}_uncalibrated"] == pytest.approx(before[figure])
        assert metrics[f"test_{figure}"] == pytest.approx(after[figure])
    of_training = done.trained[name]  # the gates of the first way judged what was served
    assert of_training["test_log_loss_uncalibrated"] == pytest.approx(before["log_loss"])
    if done.way == WAYS[0]:
        assert of_training["test_log_loss"] == pytest.approx(after["log_loss"])
    least = min(metrics[f"coverage_80_of_{each}"] for each in CLASSES[name])
    assert metrics["coverage_80_least_class"] == least


@pytest.mark.parametrize("name", CLASSES)
def test_sets_that_follow_are_those_of_their_steps_and_classes(workspace_of_ways, name):
    features, _, done = workspace_of_ways
    champ = done["champions"][name]
    rows = done["predictions"].filter(pl.col("target") == name).join(features.select("row_id", "half"), on="row_id")
    states = done["calibrations"].filter((pl.col("target") == name) & (pl.col("kind") == "adaptive"))
    assert set(states["calibration_version"]) == {champ.calibration_version}
    assert champ.calibration["pace"]["step_days"] == 31
    wide = states.filter(pl.col("level") == 0.8).sort("valid_from")
    for row in rows.sort("row_id").to_dicts()[::23]:
        held = []
        for code, each in enumerate(CLASSES[name]):
            label = pl.col("segment") == f"{name}={each}|half={row['half']}"
            now = wide.filter(label & (pl.col("valid_from") <= row["time"]))["quantile"][-1]
            held += [each] if 1 - row["probabilities"][code] <= now else []
        assert row["set_80"] == held
    scores = done["scores"].filter(pl.col("target") == name)
    assert set(scores["calibration_version"]) == {champ.calibration_version}
    assert {each.split("|")[0] for each in scores["segment"]} == {f"{name}={each}" for each in CLASSES[name]}
    split = champ.judged.facts["split"]
    assert scores.filter(pl.col("period") == "test").height == split["test"]["rows"]
    taught = split["calibrate"]["rows"] - scores.filter(pl.col("period") == "calibrate").height
    assert taught == pytest.approx(split["calibrate"]["rows"] / 2, rel=0.2)  # rows behind the map are none of them
