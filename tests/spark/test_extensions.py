"""Consumes README's examples of extensions as they stand there, checks that jobs run with them and refuse without."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable

import assay
from assay import extensions
from assay.config import load_run
from assay.errors import ConfigError, UserError
from assay.model.bundle import DESCRIPTION
from assay.model.registry import champion
from assay.runtime.tracking import Tracking

pytestmark = pytest.mark.spark

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"```python\n# (\w+\.py): .*\n(?s:(.*?))```", README))
PLAIN = ["training.force_production_quality=false", "training.enable_market_features=false", "conformal.adaptive=false"]
FEATURE = "price__own__days_since_record"
SEES_TOO_MUCH = {
    "timeline.first_since(delay_us)": "timeline.first_since(delay_us) + 1",
    "since_record": "sees_too_much",
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with README's files and one that looks ahead."""
    folder = tmp_path_factory.mktemp("extensions")
    leaky = EXAMPLES["since_record.py"]
    for right, wrong in SEES_TOO_MUCH.items():
        assert right in leaky
        leaky = leaky.replace(right, wrong)
    for name, text in {**EXAMPLES, "sees_too_much.py": leaky}.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def learned(run_in, towns, written, tmp_path_factory):
    """A workspace in which a model was trained, calibrated and scored with all three examples; what train said."""
    folder = tmp_path_factory.mktemp("extended")
    dataset = towns(folder, towns=4, months=48)
    dataset["targets"] = [{"name": "price"}]
    dataset["features"]["families"] = ["since_record"]
    files = ", ".join(str(written / name) for name in EXAMPLES)
    settings = [*PLAIN, f"runtime.extensions=[{files}]", "engine.name=extra_trees", "engine.params.n_estimators=30"]
    settings += ["conformal.score=relative", "conformal.min_segment_rows=10"]
    said = {
        job: run_in(folder / "ws", job, dataset, overrides=settings)
        for job in ("ingest", "build_features", "train", "calibrate", "score")
    }
    return folder / "ws", dataset, settings, said


def table(folder, name):
    return pl.from_arrow(DeltaTable(folder / "lake" / name).to_pyarrow_table())


def tracking_of(folder):
    return Tracking(load_run(dataset=folder / "dataset.yml", workspace=folder))


def test_there_are_three_examples():
    assert set(EXAMPLES) == {"extra_trees.py", "since_record.py", "relative.py"}


def test_features_are_what_the_past_says_and_are_certified(learned):
    folder, _, _, said = learned
    for rows in table(folder, "features").sort("time").partition_by("city"):
        price, time = rows["price"].to_numpy(), rows["time"].to_numpy()
        for at in range(rows.height):
            expected = None if not at else (time[at] - time[np.argmax(price[:at])]) / np.timedelta64(1, "D")
            assert rows[FEATURE][at] == expected
    assert said["train"].metrics["leaking_features"] == 0
    assert said["train"].metrics["certified_rows"] > 20


def test_the_engine_learns_as_well_as_others_do_and_says_where_it_is_from(learned):
    folder, _, _, said = learned
    model = champion(tracking_of(folder), "price").model
    assert model.engine == "extra_trees"
    assert FEATURE in model.encoding.features
    assert json.loads(model.files[DESCRIPTION])["extension"] == "extra_trees"
    assert said["train"].metrics["test_rmse"] < said["train"].metrics["baseline_global_median_rmse"]


def test_the_score_makes_intervals_that_are_a_share_of_the_prediction(learned):
    folder, _, _, said = learned
    assert said["calibrate"].status == "unchanged"  # as train has calibrated
    assert set(table(folder, "calibrations")["score"]) == {"relative"}
    scored = table(folder, "predictions")
    assert scored.height
    share = (pl.col("upper_80") - pl.col("prediction")) / pl.col("prediction")
    by_segment = scored.group_by("segment", "model_version").agg(least=share.min(), greatest=share.max())
    assert (by_segment["least"] > 0).all()
    np.testing.assert_allclose(by_segment["least"], by_segment["greatest"], rtol=1e-9)
    assert scored["confidence"].is_null().all()


def test_the_same_from_python(learned):
    folder, _, settings, _ = learned
    config = assay.configuration(folder / "dataset.yml", folder, overrides=settings)
    result = assay.score(config)
    assert repr(result).startswith("job score: unchanged: an equal run is on record\n  predictions: ")
    opened = assay.open(folder)
    assert "\n  engine: extra_trees (module extra_trees)\n" in repr(opened.model())
    assert opened.spark_table("predictions").count() == table(folder, "predictions").height > 0
    assert opened.spark_table("features", version=0).count() == 0


def test_intervals_of_another_version_of_a_score_are_refused(learned, run_in, written):
    folder, dataset, settings, _ = learned
    before = written / "relative.py"
    text = before.read_text(encoding="utf-8")
    before.write_text(text + "\n", encoding="utf-8")
    try:
        with pytest.raises(UserError, match=r"'relative': module relative is not what the intervals were calibrated"):
            run_in(folder, "score", dataset, overrides=[*settings, "scoring.batch_rows=1000"])
    finally:
        before.write_text(text, encoding="utf-8")
        extensions.load([str(before)])


def test_without_the_module_each_job_says_what_is_missing(learned, run_in, monkeypatch):
    folder, dataset, _, _ = learned
    tracking = tracking_of(folder)
    for name in ("_found", "_references"):
        monkeypatch.setattr(extensions, name, {})
    with pytest.raises(
        UserError, match=r"engine 'extra_trees', of module extra_trees, is none of assay's own .*runtime"
    ):
        champion(tracking, "price")
    with pytest.raises(ConfigError, match=r"features\.families=since_record: there is no such feature family"):
        run_in(folder, "score", dataset, overrides=PLAIN)
    with pytest.raises(ConfigError, match=r"engine\.name=extra_trees: there is no such engine"):
        run_in(folder, "train", {**dataset, "features": {}}, overrides=[*PLAIN, "engine.name=extra_trees"])


def test_a_family_that_sees_too_much_is_found_by_the_certificate(learned, run_job, workspace, written):
    folder, dataset, _, _ = learned
    shutil.copytree(folder / "lake" / "observations", workspace / "lake" / "observations")
    ahead = {**dataset, "features": {**dataset["features"], "families": ["sees_too_much"]}}
    settings = [*PLAIN, f"runtime.extensions=[{written / 'sees_too_much.py'}]", "engine.name=linear"]
    run_job("build_features", ahead, overrides=settings)
    result = run_job("train", ahead, overrides=settings)
    assert result.status == "refused"
    assert any(
        re.search(r"price__own__days_sees_too_much \(sees_too_much, \d+ rows\)", line) for line in result.summary
    )
