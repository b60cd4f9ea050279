"""Consumes a workspace whose tables lie at a URI, checks that they are those of any other, and who may write there."""

import dataclasses

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assay import open_workspace
from assay.errors import PreflightError
from assay.runtime.lake import folder_of
from assay.runtime.snapshots import FileSnapshots, SparkSnapshots

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def elsewhere(run_in, finished, tmp_path_factory):
    """`ingest` and `build_features` of the finished pipeline's source, into a lake with a blank in its name."""
    folder = tmp_path_factory.mktemp("elsewhere")
    lake = (folder / "a lake").as_uri()
    assert "%20" in lake
    told = [*finished.settings, f"runtime.lake={lake}"]
    results = [run_in(folder / "ws", job, finished.dataset, overrides=told) for job in ("ingest", "build_features")]
    return folder / "ws", lake, results


def test_rows_are_those_of_a_lake_in_the_workspace(elsewhere, finished):
    workspace, lake, results = elsewhere
    assert [result.status for result in results] == ["done", "done"]
    assert not (workspace / "lake").exists()
    assert results[1].tables["features"].location == f"file://{folder_of(lake)}/features"
    for name in ("observations", "features"):
        found = open_workspace(workspace).table(name)
        assert found.height > 500
        assert_frame_equal(found, finished.table(name), check_row_order=False, check_exact=True)


def test_an_equal_run_is_on_record_and_another_place_is_refused(elsewhere, finished, run_in):
    workspace, lake, results = elsewhere
    again = run_in(workspace, "ingest", finished.dataset, overrides=[*finished.settings, f"runtime.lake={lake}"])
    assert (again.status, again.run_id) == ("unchanged", results[0].run_id)
    with pytest.raises(PreflightError, match=r"its tables lie in file:///.*a%20lake, not in .*/ws/lake: set runtime"):
        run_in(workspace, "ingest", finished.dataset, overrides=finished.settings)


def test_spark_says_of_tables_what_their_files_say(elsewhere, spark):
    _, lake, _ = elsewhere
    files, by_spark = FileSnapshots(folder_of(lake)), SparkSnapshots(lambda: spark, lake)
    for name in ("observations", "quality_reports"):
        assert by_spark.there(name)
        told, expected = by_spark.facts(name), files.facts(name)
        assert abs((told.at - expected.at).total_seconds()) < 5  # the file's time, and the one that is written in it
        assert dataclasses.replace(told, at=expected.at) == expected
        assert by_spark.columns(name) == files.columns(name)
        found, expected = (pl.from_arrow(one.rows(name, 0)) for one in (by_spark, files))
        assert_frame_equal(found, expected, check_row_order=False)
    assert (by_spark.there("featuers"), files.there("featuers")) == (False, False)


def test_a_lake_belongs_to_one_dataset(elsewhere, finished, run_in, tmp_path):
    _, lake, _ = elsewhere
    villages = {**finished.dataset, "name": "villages"}
    with pytest.raises(PreflightError, match="holds the dataset 'towns', not 'villages': give each dataset a place"):
        run_in(tmp_path, "ingest", villages, overrides=[f"runtime.lake={lake}"])


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("nosuch://bucket/mine", ['No FileSystem for scheme "nosuch"', "--conf-file", "s3a"]),
        ("file:///proc/nothing/mine", ["Spark cannot write there", "--conf-file"]),
    ],
)
def test_a_place_that_spark_cannot_write_is_refused_at_the_start(finished, run_in, tmp_path, place, words):
    with pytest.raises(PreflightError) as caught:
        run_in(tmp_path, "ingest", finished.dataset, overrides=[f"runtime.lake={place}"])
    assert all(word in str(caught.value) for word in [f"runtime.lake {place}", *words]), caught.value
