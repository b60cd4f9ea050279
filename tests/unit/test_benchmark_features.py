"""Consumes a small panel, checks that contenders of `benchmark features` make our columns and errors show."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from deltalake import write_deltalake

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "unit" / "features")]

from feature_harness import features_of as built_by_kernels  # noqa: E402

from assay.config import load_run  # noqa: E402
from assay.features.catalog import features_of  # noqa: E402
from assay.features.plan import FeaturePlan  # noqa: E402
from assay.synthetic import files  # noqa: E402
from assay.synthetic.config import market_config  # noqa: E402
from benchmarks import _panel, features  # noqa: E402


def write_panel(folder):
    """A benchmark's data of 6,400 rows, with the observations that ingest would leave, and what our kernels make."""
    config = market_config({"rows": 6_400, "entities": 64, "missing": 0.0})
    source = pl.from_arrow(files.chunk(config, 0, config.rows)[0])
    frame = source.select(
        pl.int_range(pl.len()).alias("row_id"),
        pl.col("observed_at").alias("time"),
        pl.col("entity", "region", "kind").cast(pl.String),
        pl.col("price"),
        pl.col("observed_at").dt.strftime("%Y-%m").alias("month"),
    )
    table = folder / "prepared" / "lake" / "observations"
    write_deltalake(table, frame.sample(fraction=1.0, shuffle=True, seed=1).to_arrow())
    (folder / "dataset.yml").write_text(yaml.safe_dump(_panel.DATASET))
    plan = FeaturePlan.of(load_run(dataset=folder / "dataset.yml", workspace=folder / "none"))
    # What the job writes is what contenders are asked for, all of it: a new family has to be switched off there.
    assert sorted(f.name for f in features_of(plan)) == sorted(_panel.COLUMNS)
    out = _panel.output_folder(folder, "assay") / "features.parquet"
    built_by_kernels(frame, plan).write_parquet(out)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The folder of a benchmark."""
    return write_panel(tmp_path_factory.mktemp("build") / "features-6400")


@pytest.mark.parametrize(
    ("name", "columns"), [("polars", 87), ("mlforecast", 34), ("polars_market", 3), ("duckdb_market", 3)]
)
def test_a_contender_makes_the_figures_that_we_make(data, name, columns):
    needs = features.BENCHMARK.contenders[name].needs
    if needs is not None:
        pytest.importorskip(needs)
    contender = features.BENCHMARK.contenders[name]
    written = contender.run(contender.prepare(data))
    assert contender.outputs(written) == {"rows": 6_400}
    found = features.differences(data, ["assay", name])
    assert found == {name: pytest.approx(0, abs=1e-5)}
    made = set(pl.read_parquet_schema(written)) & set(_panel.COLUMNS)
    assert len(made) == columns


def test_a_wrong_figure_a_missing_one_and_a_missing_row_show(data):
    ours = pl.read_parquet(data / "runs" / "assay" / "features.parquet")
    column, path = "price__own__mean_7d", _panel.output_folder(data, "polars") / "features.parquet"
    wrong = pl.when(pl.col("row_id") == 777)
    for change, difference in ((1.01 * pl.col(column), 0.01), (pl.lit(None, pl.Float32), np.inf)):
        ours.with_columns(wrong.then(change).otherwise(pl.col(column)).alias(column)).write_parquet(path)
        assert features.differences(data, ["assay", "polars"]) == {"polars": pytest.approx(difference, rel=0.02)}
    ours[:-1].write_parquet(path)
    assert features.differences(data, ["assay", "polars"]) == {"polars": np.inf}
    ours.sample(fraction=1.0, shuffle=True, seed=2).write_parquet(path)
    assert features.differences(data, ["assay", "polars"]) == {"polars": 0}


def test_variants_of_accuracy_switch_the_families_that_they_name():
    accuracy = importlib.import_module("benchmarks.accuracy")
    kinds = {}
    for variant in accuracy.FLAGS:
        told = accuracy.overrides("walmart_weekly", variant)
        path = accuracy.ROOT / "conf" / "datasets" / "walmart_weekly.yml"
        plan = FeaturePlan.of(load_run(dataset=path, overrides=told))
        kinds[variant] = {f.family for f in features_of(plan)}
        assert plan.interactions == (variant in {"interactions", "all"})
    assert kinds["raw"] == {"raw", "category"}
    assert kinds["market"] - kinds["raw"] >= {"market"}
    assert "history" in kinds["temporal"]
    assert "calendar" not in kinds["market"] | kinds["raw"]
    assert kinds["all"] >= kinds["temporal"] | kinds["market"]
    assert set(accuracy.BENCHMARK.contenders) == {f"{d}:{v}" for d in accuracy.DATASETS for v in accuracy.FLAGS}


def test_the_table_of_accuracy_tells_what_families_earn_over_raw_columns_and_the_best_baseline():
    harness, accuracy = (importlib.import_module(f"benchmarks.{name}") for name in ("harness", "accuracy"))
    figures = {"test_median_ape": 0.1, "features": 5.0, "baseline_global_median_rmse": 3.0}
    figures |= {"baseline_global_median_median_ape": 0.5}
    outputs = {
        "kc_house:raw": {**figures, "test_r2": 0.75, "test_rmse": 1.0},
        "kc_house:all": {
            **figures,
            "test_r2": 0.84,
            "test_rmse": 0.8,
            "baseline_last_value_rmse": 1.5,
            "baseline_last_value_median_ape": 0.2,
        },
    }
    outcome = harness.Outcome(
        benchmark="accuracy",
        rows=1,
        seconds=dict.fromkeys(outputs, 2.0),
        ratios={},
        spread=dict.fromkeys(outputs, 0.0),
        max_difference=0.0,
        peak_mb=dict.fromkeys(outputs, 10.0),
        peak_python_mb=dict.fromkeys(outputs, 10.0),
        outputs=outputs,
    )
    text, summary = accuracy.report(outcome)
    told = summary["accuracy"]["kc_house"]
    assert told["raw"]["r2_gain"] == 0
    assert told["all"]["r2_gain"] == pytest.approx(0.12)
    assert told["best_baseline"]["name"] == "last_value"
    assert told["best_baseline"]["r2"] == pytest.approx(1 - 1.5**2 * (1 - 0.75) / 1.0**2)
    for words in ("kc_house: all", "+12.0%", "kc_house: best baseline", "0.840"):
        assert words in text
