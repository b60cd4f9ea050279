"""Consumes a finished workspace, checks that rows priced as requests have the numbers of the table `predictions`."""

from __future__ import annotations

import datetime as dt
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from assay.config import load_run
from assay.errors import AssayError, DataError, PreflightError, UserError
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings
from assay.runtime.spark_plane import SparkPlane
from assay.serving import packed
from assay.serving.job import ServeOptions, ServingContext, save
from assay.serving.pricer import load_pricer, versions
from assay.serving.request import BadRequest, Limits
from assay.serving.served import Loader, Served

pytestmark = pytest.mark.spark

INPUTS = ("day", "city", "kind")
TRAINED = ("ingest", "build_features", "train")  # what serving needs of a pipeline


def context_of(folder, overrides=(), **options):
    config = load_run(dataset=folder / "dataset.yml", workspace=folder, overrides=overrides, **options)
    return ServingContext(config, SparkSettings(), Reporter(quiet=True))


@pytest.fixture(scope="module")
def pricer(finished):
    return load_pricer(context_of(finished.folder, finished.settings), Limits())


@pytest.fixture(scope="module")
def scored(finished):
    """Predictions beside the raw rows of the source."""
    raw = pl.read_csv(finished.dataset["source"]["path"]).with_row_index("source_row", offset=1)
    observations = finished.table("observations").select("row_id", pl.col("source_row").cast(pl.UInt32))
    predictions = finished.table("predictions").drop("time", "month", "city").join(observations, on="row_id")
    found = predictions.join(raw, on="source_row").sort("row_id")
    assert found.height > 100
    return found


def rows_of(frame, *columns):
    return frame.select(columns or INPUTS).to_dicts()


def check_answers(answers, expected, *, places=None):
    names = ["prediction", "lower_80", "upper_80", "lower_90", "upper_90", "width_80", "segment", "confidence", "risk"]
    names += ["quality", "quality_reasons", "model_version", "calibration_version"]
    assert [answer["row"] for answer in answers] == (places or [*range(expected.height)])
    for answer, row in zip(answers, expected.iter_rows(named=True), strict=True):
        wanted = {name: row[name] for name in names}
        wanted = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in wanted.items()}
        assert {name: answer[name] for name in names} == wanted  # in every bit
        assert answer["target"] == "price"


def test_requests_have_the_very_numbers_of_batch(pricer, scored):
    check_answers(pricer.price(rows_of(scored), []).answers, scored)
    check_answers(pricer.price(rows_of(scored, *INPUTS, "price", "stock"), []).answers, scored)
    model = pricer.scores["price"].model
    assert set(scored["model_version"]) == {one.scorer.model.version for one in (model, model.tested)}
    for place in range(0, scored.height, 29):
        check_answers(pricer.price(rows_of(scored[place]), []).answers, scored[place])


def test_a_lake_that_spark_alone_reads_has_the_same_numbers(spark, finished, scored):
    told = [*finished.settings, "runtime.lake=s3a://nowhere/towns"]
    elsewhere = context_of(finished.folder, told)
    with pytest.raises(PreflightError, match=r"its tables lie in file:///.*, not in s3a://nowhere/towns"):
        _ = elsewhere.plane
    elsewhere.__dict__["plane"] = SparkPlane(lambda: spark, (finished.folder / "lake").as_uri())
    by_spark = load_pricer(elsewhere, Limits())
    check_answers(by_spark.price(rows_of(scored), []).answers, scored)
    assert by_spark.versions == versions(elsewhere) == versions(context_of(finished.folder, finished.settings))


def test_a_bad_row_is_flagged_among_good_ones(pricer, scored):
    good = rows_of(scored[:3])
    priced = pricer.price([good[0], {**good[1], "day": "someday"}, good[2]], [])
    assert (priced.rows, priced.wrong) == (3, 1)
    assert priced.answers[1] == {"row": 1, "error": "column 'day': no readable time (dataset.time.format)"}
    check_answers([priced.answers[0], priced.answers[2]], scored[[0, 2]], places=[0, 2])


def test_next_months_price_rests_on_the_newest_history(pricer, scored):
    row = {"day": "2013-01-01", "city": "town 1", "kind": "big"}
    (plain,) = pricer.price([row], []).answers
    sent = [{"day": "2012-12-01", "city": "town 1", "kind": "big", "price": 100 * plain["prediction"], "stock": 3}]
    (told,) = pricer.price([row], sent).answers
    assert 50 < told["prediction"] / plain["prediction"] < 150  # the last known value is what a change is added to
    (stranger,) = pricer.price([{**row, "city": "nowhere"}], []).answers
    assert stranger["prediction"] > 0
    with pytest.raises(BadRequest, match="history must be earlier"):
        pricer.price([row], [{**sent[0], "day": "2013-01-01"}])


def test_a_saved_pricer_has_the_same_numbers_under_mlflow_and_takes_history(finished, scored, pricer, tmp_path, capsys):
    import mlflow

    options = ServeOptions(
        dataset=str(finished.folder / "dataset.yml"), workspace=str(finished.folder), overrides=finished.settings
    )
    folder = tmp_path / "a model"
    save(options, folder)
    assert f"mlflow models serve -m '{folder}'" in capsys.readouterr().out
    with pytest.raises(UserError, match="it is there already"):
        save(options, folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in {".pkl", ".pickle"} or path.read_bytes()[:1] == b"\x80"]
    source = str(Path(finished.dataset["source"]["path"]).parent)
    assert not [path for path in files if source.encode() in path.read_bytes()]
    model = mlflow.pyfunc.load_model(str(folder))
    frame = scored.select(INPUTS).to_pandas()
    found = model.predict(frame)
    assert found["prediction"].to_list() == scored["prediction"].to_list()
    assert found["upper_90"].to_list() == scored["upper_90"].to_list()
    row = {"day": "2013-01-01", "city": "town 1", "kind": "big"}
    sent = [{"day": "2012-12-01", "city": "town 1", "kind": "big", "price": 5e4, "stock": 3}]
    (expected,) = pricer.price([row], sent).answers
    (told,) = model.predict(pd.DataFrame([row]), params={"history": json.dumps(sent)}).to_dict("records")
    assert told == expected
    with pytest.raises(mlflow.MlflowException, match="unknown column 'citty'; did you mean city"):
        model.predict(pd.DataFrame([{**row, "citty": None}]))
    with pytest.raises(mlflow.MlflowException, match=r"params\.history is no JSON"):
        model.predict(pd.DataFrame([row]), params={"history": "["})


@pytest.mark.parametrize("name", ["files.json", "pricer.json", "table-1.parquet", "targets/0/tested/booster.ubj"])
def test_a_saved_pricer_that_was_changed_is_refused(pricer, tmp_path, name):
    digest = packed.save(pricer, tmp_path / "saved")
    assert packed.load(tmp_path / "saved", sha256=digest).about == pricer.about
    path = tmp_path / "saved" / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(AssayError, match=rf"{name}.* refusing to load it"):
        packed.load(tmp_path / "saved", sha256=digest)
    path.unlink()
    with pytest.raises(AssayError, match=rf"{name}.* refusing to load it"):
        packed.load(tmp_path / "saved", sha256=digest)


def test_what_came_after_a_date_is_not_known(finished, scored):
    early = load_pricer(context_of(finished.folder, finished.settings, date="2011-06-15"), Limits())
    assert early.state.past.rows["time"].max() == dt.datetime(2011, 6, 1, tzinfo=dt.timezone.utc)
    known = scored.filter(pl.col("day") < "2011-07-01")
    check_answers(early.price(rows_of(known), []).answers, known)
    later = scored.filter(pl.col("day") == "2012-06-01")
    found = [answer["prediction"] for answer in early.price(rows_of(later), []).answers]
    assert not np.isclose(found, later["prediction"].to_numpy(), rtol=1e-9).any()


def test_the_newest_row_is_priced_before_a_server_is_ready(pricer):
    assert set(pricer.example) >= {"day", "city", "kind"}
    pricer.check()


def test_a_new_champion_is_noticed_and_a_tampered_one_leaves_the_old_one(run_in, towns, tmp_path):
    folder, dataset = tmp_path / "ws", towns(tmp_path / "source", towns=3, months=72)
    settings = ["engine.rounds=10", "training.force_production_quality=false", "gates.champion=false"]
    for job in TRAINED:
        run_in(folder, job, dataset, overrides=settings)
    context = context_of(folder, settings)
    served = Served(Loader(lambda: load_pricer(context, Limits()), lambda: versions(context)))
    served.load()
    first = served.pricer
    served.load()
    assert served.pricer is first
    run_in(folder, "train", dataset, overrides=[*settings, "engine.seed=8"])
    served.load()
    assert served.pricer is not first
    assert served.about()["targets"]["price"]["registry_version"] == "2"
    second = served.pricer
    run_in(folder, "train", dataset, overrides=[*settings, "engine.seed=9"])
    for booster in (folder / "mlartifacts").rglob("models/*/artifacts/artifacts/bundle/booster.ubj"):
        booster.write_bytes(booster.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(AssayError, match="refusing to load it"):
        served.load()
    assert served.pricer is second
    served.stop()


def test_without_a_workspace_or_a_champion_the_message_says_what_to_run(run_in, towns, tmp_path):
    dataset = towns(tmp_path / "source", towns=3, months=40)
    folder = tmp_path / "ws"
    folder.mkdir()
    import yaml

    path = folder / "dataset.yml"
    path.write_text(yaml.safe_dump(dataset), encoding="utf-8")
    with pytest.raises(DataError, match="no job has run there: run `assay pipeline` first"):
        ServeOptions(dataset=str(path), workspace=str(folder)).context()
    run_in(folder, "ingest", dataset)
    with pytest.raises(DataError, match=r"no model of towns\.price is registered: run the job train first"):
        load_pricer(ServeOptions(dataset=str(path), workspace=str(folder)).context(), Limits())
    shutil.rmtree(folder)


def test_classes_are_served_like_numbers(run_in, towns, tmp_path):
    """Two targets of one dataset, one of them whether the price rises."""
    folder, dataset = tmp_path / "ws", towns(tmp_path / "source", towns=4, months=72)
    dataset["targets"].append({"name": "up", "column": "price", "task": "binary", "above": "last_value"})
    for job in (*TRAINED, "score"):
        run_in(folder, job, dataset, overrides=["engine.rounds=10", "training.force_production_quality=false"])
    pricer = load_pricer(context_of(folder), Limits())
    raw = pl.read_csv(dataset["source"]["path"]).with_row_index("source_row", offset=1)
    rows = (
        table_of(folder, "observations")
        .select("row_id", pl.col("source_row").cast(pl.UInt32))
        .join(raw, on="source_row")
    )
    predictions = table_of(folder, "predictions")
    asked = rows.join(predictions, on="row_id", how="semi").sort("row_id")
    priced = pricer.price(rows_of(asked), [])
    assert len(priced.answers) == predictions.height
    wanted = {(r["row_id"], r["target"]): r for r in predictions.iter_rows(named=True)}
    for answer in priced.answers:
        row = wanted[asked["row_id"][answer["row"]], answer["target"]]
        assert answer["prediction"] == row["prediction"]
        if answer["target"] == "up":
            assert answer["set_80"] == row["set_80"]
            assert answer["probabilities"] == row["probabilities"]
            assert "lower_80" not in answer


def test_intervals_that_follow_their_misses_have_the_very_numbers_of_batch_also_when_saved(run_in, towns, tmp_path):
    folder, dataset = tmp_path / "ws", towns(tmp_path / "source", towns=8, months=120)
    settings = ["engine.rounds=10", "training.force_production_quality=false", "split.calibrate=0.4"]
    settings += ["conformal.min_segment_rows=60", "conformal.adaptive=true", "conformal.step_days=31"]
    for job in (*TRAINED, "score"):
        run_in(folder, job, dataset, overrides=settings)
    context = context_of(folder, settings)
    found = load_pricer(context, Limits())
    raw = pl.read_csv(dataset["source"]["path"]).with_row_index("source_row", offset=1)
    ids = table_of(folder, "observations").select("row_id", pl.col("source_row").cast(pl.UInt32))
    rows = table_of(folder, "predictions").drop("time", "month", "city").join(ids, on="row_id")
    rows = rows.join(raw, on="source_row").sort("row_id")
    check_answers(found.price(rows_of(rows), []).answers, rows)
    digest = packed.save(found, tmp_path / "saved")
    again = packed.load(tmp_path / "saved", sha256=digest)
    check_answers(again.price(rows_of(rows), []).answers, rows)
    later = [{"day": f"{year}-06-01", "city": "town 1", "kind": "big"} for year in (2015, 2016, 2060)]
    for answer in found.price(later, []).answers:
        assert answer["lower_90"] < answer["prediction"] < answer["upper_90"]
        assert answer["quality"] != "bad"


def table_of(folder, name):
    from deltalake import DeltaTable

    return pl.from_arrow(DeltaTable(folder / "lake" / name).to_pyarrow_table())
