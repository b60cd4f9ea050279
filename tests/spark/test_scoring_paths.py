"""Consumes a quick workspace, checks every way to a prediction: job, pandas UDF, SQL, stream, shadows, bad rows."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from assay.errors import AssayError, DataError
from assay.model.registry import registered
from assay.runtime.tracking import Tracking
from assay.scoring.udf import champion_of, model_columns, model_struct, predict_udf

pytestmark = pytest.mark.spark

SETTINGS = [
    "engine.rounds=15", "training.force_production_quality=false", "serving.learns_until=tune", "explain.rows=0",
    "gates.champion=false", "conformal.adaptive=false",
]  # fmt: skip
DAMAGED = b"\xff\xfe"  # no UTF-8


@dataclasses.dataclass(frozen=True)
class Lab:
    folder: object
    dataset: dict
    run_in: object

    def run(self, job, *settings):
        return self.run_in(self.folder, job, self.dataset, overrides=[*SETTINGS, *settings])

    def rows(self, name="predictions"):
        frame = pl.from_arrow(DeltaTable(self.folder / "lake" / name).to_pyarrow_table())
        return frame.select(sorted(frame.columns)).sort("row_id", *(["shadow"] if "shadow" in frame.columns else []))

    def tracking(self):
        from assay.config import load_run

        return Tracking(load_run(dataset=self.folder / "dataset.yml", workspace=self.folder, overrides=SETTINGS))


@pytest.fixture(scope="module")
def lab(run_in, towns, tmp_path_factory):
    """Two models of one target are registered; the second is the champion, and has scored."""
    root = tmp_path_factory.mktemp("paths")
    found = Lab(root / "ws", towns(root / "source", towns=3, months=72), run_in)
    for job in ("ingest", "build_features", "train"):
        found.run(job)
    found.run("train", "engine.rounds=8")
    found.run("score")
    return found


def scored_features(lab, spark):
    """Features of the rows that the job scored."""
    frame = spark.read.format("delta").load(str(lab.folder / "lake" / "features"))
    return frame.where(frame.row_id.isin(lab.rows()["row_id"].to_list()))


def compared(frame, expected):
    """Every field of the struct `p` is the column of the table."""
    found = pl.from_pandas(frame.select("row_id", "p.*").toPandas()).sort("row_id")
    table = expected.filter(pl.col("row_id").is_in(found["row_id"].to_list()))
    assert found.height == table.height > 0
    for name in found.columns:
        assert found[name].cast(table[name].dtype).to_list() == table[name].to_list(), name


def test_predictions_say_how_far_they_are_to_be_trusted(lab):
    rows = lab.rows()
    widths = {level: rows[f"upper_{level}"] - rows[f"lower_{level}"] for level in (80, 90)}
    for level, width in widths.items():
        assert rows[f"width_{level}"].to_list() == width.to_list()
    assert rows["confidence"].is_between(0, 1).all()
    np.testing.assert_allclose(rows["risk"], 1 - rows["lower_90"] / rows["prediction"])
    assert set(rows["quality"]) <= {"ok", "warn", "bad"}
    assert (rows["quality_reasons"].is_null() == (rows["quality"] == "ok")).all()


def test_reasons_are_those_of_ranges_and_of_what_the_model_uses(lab):
    lab.run("score", "scoring.important_share=0.01")
    model = champion_of(lab.folder).model
    rows = lab.rows()
    features = rows.select("row_id").join(lab.rows("features"), on="row_id", maintain_order="left")
    worth = model.importance()
    total = sum(worth.values())
    ranges = {c: model.encoding.seen[c] for c in model.encoding.numeric if worth.get(c, 0) >= 0.01 * total}
    assert 0 < len(ranges) < len(model.encoding.numeric)
    expected = [set() for _ in range(rows.height)]
    for column, seen in ranges.items():
        for position, value in enumerate(features[column]):
            if value is not None and not seen.low <= value <= seen.high:
                expected[position].add(f"{'below' if value < seen.low else 'above'}_range:{column}")
    found = [{r for r in reasons or () if "_range:" in r} for reasons in rows["quality_reasons"].to_list()]
    assert found == expected
    assert any(expected)
    lab.run("score")
    assert not all(expected)
    learned = lab.rows("features").filter(
        pl.col("time") <= pl.lit(model.learned_until).str.to_datetime(time_zone="UTC")
    )
    for column, seen in ranges.items():
        known = learned.filter(pl.col("price").is_not_null())[column].drop_nulls().drop_nans()
        assert (known.min(), known.max()) == (seen.low, seen.high)


def test_the_udf_says_in_a_frame_and_in_sql_what_the_job_wrote(lab, spark):
    model = champion_of(lab.folder, "price")
    udf, frame = predict_udf(model), scored_features(lab, spark)
    compared(frame.withColumn("p", udf(model_struct(model))), lab.rows())
    spark.udf.register("price_of", predict_udf("models:/towns.price@champion", tracking_uri=lab.tracking().uri))
    frame.createOrReplaceTempView("priced_features")
    compared(spark.sql("SELECT row_id, price_of(struct(*)) p FROM priced_features"), lab.rows())


def test_a_stream_of_files_gets_the_same_numbers(lab, spark, tmp_path):
    model = champion_of(lab.folder)
    udf, source = predict_udf(model), tmp_path / "arriving"
    wanted = scored_features(lab, spark).select("row_id", *(f"`{name}`" for name in model_columns(model)))
    wanted.repartition(3).write.parquet(str(source))
    stream = spark.readStream.schema(wanted.schema).option("maxFilesPerTrigger", 1).parquet(str(source))
    query = (
        stream.select("row_id", udf(model_struct(model)).alias("p"))
        .writeStream.format("delta")
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(availableNow=True)
        .start(str(tmp_path / "scored"))
    )
    query.awaitTermination(300)
    assert query.exception() is None
    found = spark.read.format("delta").load(str(tmp_path / "scored"))
    assert found.count() == lab.rows().height
    compared(found, lab.rows())


def test_text_among_the_numbers_of_a_frame_costs_that_row_alone(lab, spark):
    from pyspark.sql import functions as F

    model, frame = champion_of(lab.folder), scored_features(lab, spark)
    (one,) = frame.select("row_id").limit(1).collect()
    column = "price__own__lag_2"
    text = F.when(frame.row_id == one.row_id, "lots").otherwise(frame[column].cast("string"))
    found = frame.withColumn(column, text).withColumn("p", predict_udf(model)(model_struct(model)))
    (bad,) = found.where(found.row_id == one.row_id).select("p").collect()
    assert bad.p.quality_reasons == ["not_scored:ArrowInvalid"]
    assert bad.p.prediction is None
    compared(found.where(found.row_id != one.row_id), lab.rows())


def test_a_struct_that_lacks_a_column_is_refused_by_name(lab, spark):
    from pyspark.sql.functions import struct

    udf, frame = predict_udf(champion_of(lab.folder)), scored_features(lab, spark)
    with pytest.raises(Exception, match=r"the struct lacks \d+ of the model's \d+ columns"):
        frame.select(udf(struct("kind"))).collect()


def test_a_changed_model_is_not_made_a_udf(lab):
    version = lab.tracking().client.get_model_version_by_alias("towns.price", "champion")
    (path,) = [
        p
        for p in (lab.folder / "mlartifacts").rglob("models/*/artifacts/artifacts/bundle/booster.ubj")
        if version.source.rpartition("/")[2] in str(p)
    ]
    original = path.read_bytes()
    path.write_bytes(original.replace(b"1", b"2", 1))
    try:
        with pytest.raises(AssayError, match="refusing to load it"):
            champion_of(lab.folder)
    finally:
        path.write_bytes(original)


def test_what_is_not_there_is_said_with_what_is(lab, tmp_path):
    with pytest.raises(DataError, match=r"which target's model.*there are those of price"):
        champion_of(lab.folder, "rent")
    with pytest.raises(DataError, match=r"no version or alias 'rival'; it has 1 "):
        champion_of(lab.folder, which="rival")
    with pytest.raises(DataError, match="has no mlflow"):
        champion_of(tmp_path)


@pytest.fixture
def damaged(lab):
    """One row of the features has a segment that is no text; returns its row_id. Undone afterwards."""
    row = int(lab.rows()["row_id"][3])
    delta = DeltaTable(lab.folder / "lake" / "features")
    (path,) = [
        p
        for name in delta.file_uris()
        for p in [name.removeprefix("file://")]
        if row in pq.read_table(p, columns=["row_id"], partitioning=None)["row_id"].to_pylist()
    ]
    kept = shutil.copy(path, f"{path}.kept")
    table = pq.ParquetFile(path).read()
    index = table["row_id"].to_pylist().index(row)
    texts = [v.encode() if v is not None else None for v in table["kind"].to_pylist()]
    texts[index] = DAMAGED
    binary = pa.array(texts, pa.binary())
    kind = pa.Array.from_buffers(pa.string(), len(binary), binary.buffers())
    pq.write_table(table.set_column(table.schema.get_field_index("kind"), "kind", kind), path)
    yield row
    shutil.move(kept, path)


def test_a_damaged_row_is_set_apart_and_the_job_goes_on(lab, damaged):
    before = lab.rows()
    result = lab.run("score", "scoring.important_share=0.9")
    after = lab.rows()
    (row,) = after.filter(pl.col("row_id") == damaged).to_dicts()
    assert row["quality"] == "bad"
    assert row["quality_reasons"] == ["not_scored:UnicodeDecodeError"]
    assert {row[name] for name in ("prediction", "lower_80", "upper_90", "width_80", "risk", "segment")} == {None}
    numbers = [name for name in after.columns if name not in {"quality", "quality_reasons"}]
    others = pl.col("row_id") != damaged
    assert after.filter(others).select(numbers).equals(before.filter(others).select(numbers))
    assert result.metrics["not_scored"] == 1
    assert result.metrics["predictions"] == before.height
    total = sum(result.metrics[f"quality_{name}"] for name in ("ok", "warn", "bad"))
    assert total == before.height
    assert any("1 rows could not be scored (UnicodeDecodeError)" in line for line in result.summary)
    assert lab.run("evaluate", "scoring.important_share=0.9").status == "done"


def test_batches_of_any_size_and_both_roads_give_the_same_rows(lab):
    lab.run("score")
    before = lab.rows()
    lab.run("score", "scoring.bad_missing_share=0.51", "scoring.batch_rows=7")
    assert lab.rows().equals(before)
    result = lab.run("score", "scoring.bad_missing_share=0.52", "runtime.road=spark")
    assert result.status == "done"
    assert result.metrics["quality_ok"] == (before["quality"] == "ok").sum()
    assert lab.rows().equals(before)


def test_shadows_score_the_same_rows_apart_from_the_champion(lab):
    lab.run("score")
    before = lab.rows()
    assert not (lab.folder / "lake" / "shadow_predictions").exists()
    lab.tracking().client.set_registered_model_alias("towns.price", "rival", "1")
    result = lab.run("score", "scoring.shadows=[rival,champion]")
    assert lab.rows().equals(before)
    shadows = lab.rows("shadow_predictions")
    assert shadows["row_id"].to_list() == before["row_id"].to_list()
    assert set(shadows["shadow"]) == {"1"}
    rival = registered(lab.tracking(), "price", "1")
    assert set(shadows["model_version"]) == {rival.model.version} != set(before["model_version"])
    assert set(shadows.columns) == {*before.columns, "shadow"}
    lab.tracking().client.set_registered_model_alias("towns.price", "champion", "1")
    try:
        lab.run("score")  # as the champion it says the same
        champion = lab.rows()
    finally:
        lab.tracking().client.set_registered_model_alias("towns.price", "champion", "2")
    assert shadows.drop("shadow").equals(champion)
    assert lab.rows("shadow_predictions").height == 0
    again = lab.run("score", "scoring.shadows=[rival]")
    assert lab.rows("shadow_predictions").equals(shadows)
    assert lab.rows().equals(before)
    assert lab.run("score", "scoring.shadows=[price:1]").status == "unchanged"
    assert {"predictions", "shadow_predictions"} == set(again.tables)
    assert again.metrics["shadow_1.quality_ok"] == (shadows["quality"] == "ok").sum()
    assert any("by its shadow, version 1" in line for line in result.summary)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("stranger", "'stranger': model towns.price has no version or alias 'stranger'; it has 1 "),
        ("rent:1", "'rent:1' is of target 'rent'; the dataset has price"),
    ],
)
def test_a_shadow_that_is_not_there_is_refused(lab, told, message):
    with pytest.raises(DataError, match=message):
        lab.run("score", f"scoring.shadows=[{json.dumps(told)}]")


def test_a_shadow_of_another_feature_plan_is_refused(lab):
    other = "dataset.features.lags=[1,3]"
    lab.run("build_features", other)
    lab.run("train", other)
    with pytest.raises(DataError, match=r"'1', version 1 \(1\.0\.0\), of price learned from feature plan"):
        lab.run("score", other, "scoring.shadows=[1]")
