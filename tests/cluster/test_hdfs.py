"""Consumes a real HDFS on this machine, checks that a pipeline whose tables are there ends as any other, killed or not.

Started from Hadoop's minicluster: a name node and a data node in one Java, reached by RPC as any HDFS is.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pyspark
import pytest
import requests
from lake_story import KILLED, fetched, free_port, running, story_of
from polars.testing import assert_frame_equal

from assay import open_workspace
from assay.config import conf_root
from assay.runtime.java import java_program

pytestmark = [pytest.mark.heavy, pytest.mark.cluster]

JARS = Path(pyspark.__file__).parent / "jars"
FETCHED = Path(sys.prefix) / "jars-of-tests"


@pytest.fixture(scope="module")
def hdfs(tmp_path_factory):
    """URI of its name node, and a function that counts the files below one of its folders."""
    hadoop = next(JARS.glob("hadoop-client-api-*.jar")).stem.removeprefix("hadoop-client-api-")
    wanted = [f"org.apache.hadoop:hadoop-client-minicluster:{hadoop}", "javax.xml.bind:jaxb-api:2.3.1"]
    wanted += ["junit:junit:4.13.2", "org.mockito:mockito-core:2.28.2"]
    classes = [*fetched(FETCHED, *wanted), JARS / "*"]
    folder, rpc, http = tmp_path_factory.mktemp("hdfs"), free_port(), free_port()
    started = folder / "started.json"
    command = [java_program(), "-Xmx512m", "-XX:TieredStopAtLevel=1", f"-Dtest.build.data={folder / 'data'}"]
    command += ["-cp", ":".join(map(str, classes)), "org.apache.hadoop.test.MiniDFSClusterManager", "-format"]
    command += ["-datanodes", "1", "-nnport", str(rpc), "-httpport", str(http), "-writeDetails", str(started)]

    def count(path: str) -> int:
        answer = requests.get(f"http://127.0.0.1:{http}/webhdfs/v1/{path}?op=GETCONTENTSUMMARY", timeout=10)
        if answer.status_code == requests.codes.not_found:
            return 0
        answer.raise_for_status()
        return answer.json()["ContentSummary"]["fileCount"]

    with running(command, folder / "hdfs.log", lambda: started.is_file() and started.stat().st_size > 0, cwd=folder):
        yield f"hdfs://127.0.0.1:{rpc}", count


@pytest.fixture(scope="module")
def story(hdfs, towns, tmp_path_factory):
    """The pipeline killed in the middle of two tables, then run to its end; what is then in HDFS; the quiet one."""
    uri, count = hdfs
    folder = tmp_path_factory.mktemp("story")
    tree = towns(folder, towns=6, months=60)
    told = story_of(
        folder, tree, f"{uri}/assay/towns", conf_root() / "spark" / "local.conf", lambda p: count(f"assay/towns/{p}")
    )
    killed = {job: told.kill_while_writing(table) for job, table in KILLED.items()}
    result = told.run("hdfs, after the kills", told.in_lake())
    told.run("quiet", told.arguments("--workspace", str(folder / "quiet")))
    rows, tables = told.read()
    print("SECONDS", told.seconds)
    return told, killed, result, rows, tables


def test_it_was_killed_while_files_were_in_hdfs_and_no_commit(story):
    assert story[1] == dict.fromkeys(KILLED, True)


def test_tables_are_in_hdfs_alone(story):
    told, _, result, _, tables = story
    assert result["status"] == "done"
    assert {table["location"] for table in result["tables"].values()} == {f"{told.lake}/{n}" for n in result["tables"]}
    assert {row["table"] for row in tables} >= {*result["tables"]} - {"conformity_scores", "certificates"}
    assert not (told.workspace / "lake").exists()
    assert told.committed("features")


@pytest.mark.parametrize("name", ["observations", "features"])
def test_rows_are_those_of_a_run_here_that_never_died(story, name):
    told, _, _, rows, tables = story
    quiet = open_workspace(told.folder / "quiet").table(name)
    assert quiet.height == 360
    assert_frame_equal(rows[name], quiet, check_row_order=False, check_column_order=False, check_exact=True)
    (listed,) = [row for row in tables if row["table"] == name]
    assert listed["rows"] == 360


def test_predictions_are_those_of_a_run_here(story):
    told, _, _, rows, _ = story
    found, quiet = (
        frame.sort("row_id")
        for frame in (rows["predictions"], open_workspace(told.folder / "quiet").table("predictions"))
    )
    assert found["row_id"].to_list() == quiet["row_id"].to_list()
    error = (found["prediction"] / quiet["prediction"] - 1).abs().max()
    print("PREDICTIONS differ by", error)
    assert error < 1e-9
    assert found.select((pl.col("lower_90") <= pl.col("upper_90")).all()).item()
