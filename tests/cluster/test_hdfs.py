"""Consumes a real HDFS on this machine, checks that a pipeline whose tables are there ends as any other, killed or not.

Started from Hadoop's minicluster: a name node and a data node in one Java, reached by RPC as any HDFS is.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyspark
import pytest
import requests
from lake_story import fetched, free_port, running, story_of

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
    conf = conf_root() / "spark" / "local.conf"
    return story_of(folder, tree, f"{uri}/assay/towns", conf, lambda path: count(f"assay/towns/{path}")).told()


def test_it_was_killed_while_files_were_there_and_no_commit_and_tables_are_there_alone(story):
    story.check_tables_are_there_alone()


@pytest.mark.parametrize("name", ["observations", "features"])
def test_rows_are_those_of_a_run_here_that_never_died(story, name):
    story.check_rows(name)


def test_predictions_are_those_of_a_run_here_and_of_the_udf(story):
    story.check_predictions()


def test_a_server_says_what_batch_has_said(story):
    story.check_server()
