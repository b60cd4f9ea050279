"""Consumes a CSV, checks that what `assay init` writes for it runs through the whole pipeline as it is."""

import json

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
