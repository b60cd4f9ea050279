"""Consumes a CSV, checks that what `assay init` writes for it runs through the whole pipeline as it is."""

import json

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable

from assay import cli

pytestmark = pytest.mark.spark


def test_a_file_becomes_predictions_with_nothing_typed_in_between(run_job, towns, workspace, tmp_path, capsys):
    towns(tmp_path / "raw", towns=4, months=72)
    source, out = tmp_path / "raw" / "towns.csv", tmp_path / "found.yml"
    with pytest.raises(SystemExit) as ended:
        cli.main(["init", str(source), "--out", str(out), "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert ended.value.code == 0
    assert (found["time"], found["entity"], found["target"]) == ("day", ["city"], "price")
    assert (found["frequency"], found["columns"]["outcomes"]) == ("1mo", ["stock"])
    result = run_job("pipeline", out, profile="development", overrides=["engine.rounds=20"])
    assert result.status == "done"
    predictions = pl.from_arrow(DeltaTable(workspace / "lake" / "predictions").to_pyarrow_table())
    assert predictions["city"].n_unique() == 4
    assert predictions["prediction"].is_finite().all()
    observations = DeltaTable(workspace / "lake" / "observations").to_pyarrow_table()
    assert observations.num_rows == pl.read_csv(source).height


def test_thousandths_of_seconds_and_an_entity_of_two_columns_become_features(run_job, workspace, tmp_path, capsys):
    random, months = np.random.default_rng(2), 30
    start = pl.datetime_range(pl.datetime(2015, 1, 1), pl.datetime(2017, 6, 1), "1mo", eager=True).dt.epoch("ms")
    rows = [
        pl.DataFrame(
            {"shop": [shop] * months, "brand": brand, "at": start, "sales": random.gamma(9, 9, months).round(2)}
        )
        for shop in ("s", "t", "u", "v")
        for brand in ("a", "b", "c")
    ]
    source, out = tmp_path / "sales.csv", tmp_path / "found.yml"
    pl.concat(rows).write_csv(source)
    with pytest.raises(SystemExit) as ended:
        cli.main(["init", str(source), "--out", str(out), "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert ended.value.code == 0
    assert (found["time"], found["time_format"], found["entity"]) == ("at", "epoch_ms", ["shop", "brand"])
    for job in ("ingest", "build_features"):
        assert run_job(job, out).status == "done"
    features = pl.from_arrow(DeltaTable(workspace / "lake" / "features").to_pyarrow_table())
    assert features.height == 12 * months
    assert features["time"].dt.epoch("ms").unique().sort().to_list() == start.to_list()
    second = (
        features.sort("time").group_by("shop", "brand", maintain_order=True).agg(pl.col("sales__own__lag_1").get(1))
    )
    first = features.sort("time").group_by("shop", "brand", maintain_order=True).agg(pl.col("sales").first())
    assert second["sales__own__lag_1"].cast(pl.Float64).round(2).to_list() == pytest.approx(first["sales"].to_list())
