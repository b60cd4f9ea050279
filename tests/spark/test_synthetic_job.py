"""Consumes markets made by Spark tasks, checks that tasks change nothing and ingest finds what was planted."""

from __future__ import annotations

import hashlib
import json

import polars as pl
import pytest
from deltalake import DeltaTable

from assay.errors import UserError
from assay.runtime.progress import Reporter
from assay.synthetic import job as synthetic
from assay.synthetic.config import market_config

pytestmark = pytest.mark.spark

SETTINGS = {"rows": 12_000, "entities": 48, "frequency": "monthly", "regions": 3, "kinds": 2}
PLANTED = {**SETTINGS, "bad_share": 0.05, "skew": 0.1, "end": "2024-12-01"}


@pytest.fixture
def generate(spark, tmp_path):
    """generate("folder", settings) -> what was generated below the test's folder."""

    def call(name, settings, **options):
        config, reporter = market_config(settings), Reporter(quiet=True)
        context = lambda: spark.sparkContext  # noqa: E731
        return synthetic.generate(config, tmp_path / name, context=context, reporter=reporter, **options)

    return call


def digests(folder):
    found = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def test_a_second_time_nothing_is_written_and_nobody_elses_files_are_touched(generate, tmp_path):
    one = generate("one", PLANTED)
    written = digests(one.folder)
    assert one.status == "done"
    assert generate("one", PLANTED).status == "unchanged"
    assert digests(one.folder) == written
    # What a killed job leaves behind is written anew.
    (one.folder / "planted.json").write_text(json.dumps({"made_by": "assay generate"}))
    (one.folder / "market" / "part-00007.parquet").write_text("")
    assert generate("one", PLANTED).status == "done"
    assert digests(one.folder) == written
    with pytest.raises(UserError, match="another market is there"):
        generate("one", SETTINGS)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").write_text("")
    with pytest.raises(UserError, match="other things in this folder"):
        generate("mine", SETTINGS)


def test_as_many_tasks_as_one_likes_make_the_same_rows(generate):
    def rows(made, part):
        files = sorted((made.folder / part).iterdir())
        frames = [pl.read_parquet(file).with_columns(pl.col(pl.Categorical).cast(pl.String)) for file in files]
        return len(files), pl.concat(frames)

    one, many = generate("one", PLANTED), generate("many", PLANTED, block_rows=1_750)
    for part in ("market", "truth"):
        (files, expected), (more_files, found) = rows(one, part), rows(many, part)
        assert (files, more_files) == (1, 7)
        assert found.equals(expected, null_equal=True)
    assert {k: v for k, v in many.record.items() if k != "files"} == {
        k: v for k, v in one.record.items() if k != "files"
    }


def test_ingest_counts_bad_rows_exactly_as_planted(generate, run_job, tmp_path):
    made = generate("bad", {**PLANTED, "attributes": 2})
    result = run_job("ingest", made.folder / "dataset.yml")
    bad = made.record["bad_rows"]
    expected: dict[str, int] = {}
    for rule in bad.values():
        expected[rule["reason"]] = expected.get(rule["reason"], 0) + rule["rows"]
    quarantine = pl.from_arrow(DeltaTable(result.tables["observations_quarantine"].location).to_pyarrow_table())
    found = dict(quarantine.group_by("reasons").len().iter_rows())
    assert found == expected
    assert sum(expected.values()) == 11 * int(0.05 * 12_000 / 11)
    # The rows that break a rule are the very ones that the truth names; the others have the truth's key.
    truth = pl.read_parquet(made.folder / "truth")
    assert set(quarantine["source_row"]) == set(truth.filter(pl.col("fault").is_not_null())["row"] + 1)
    observed = pl.from_arrow(DeltaTable(result.tables["observations"].location).to_pyarrow_table())
    known = truth.with_columns(pl.col("entity").cast(pl.String)).filter(pl.col("fault").is_null())
    joined = observed.join(known, left_on=["entity", "time"], right_on=["entity", "observed_at"], how="inner")
    assert joined.height == observed.height == known.height
    assert observed.select(*made.record["attributes"]).std().row(0) == pytest.approx((1, 1), abs=0.05)
    z = (joined["price"] / joined["price_without_noise"]).log() / joined["noise_sd"]
    assert z.std() == pytest.approx(1, abs=0.03)


def test_the_pipeline_runs_on_it_as_it_is_and_comes_close_to_what_can_be_known(generate, run_job):
    made = generate("good", {**SETTINGS, "rows": 4_000, "entities": 32})
    result = run_job("pipeline", made.folder / "dataset.yml", overrides=["engine.rounds=60", "dataset.segments=[kind]"])
    assert result.status == "done"
    assert result.metrics["test_r2"] > 0.9
    assert result.metrics["test_rmse"] < result.metrics["best_baseline_rmse"]
    # No forecast can be better than the noise allows: its median error is that of 0.674 noise_sd.
    truth = pl.read_parquet(made.folder / "truth")
    least = truth.filter(pl.col("observed_at") >= pl.col("observed_at").quantile(0.8))["noise_sd"].median() * 0.674
    assert 0.8 * least < result.metrics["test_median_ape"] < 3 * least
