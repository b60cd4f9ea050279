"""Consumes workspaces, masters, jars and slots, checks that what would hang or fail late is refused in plain words."""

import json
import os
import socket
from importlib.metadata import version
from pathlib import Path

import pyspark
import pytest

from assay.config import DatasetConfig, ProfileConfig, RunConfig
from assay.config.profile import RuntimeConfig
from assay.config.strict import check
from assay.errors import EXIT_USER_ERROR, PreflightError
from assay.runtime import preflight
from assay.runtime.preflight import (
    check_delta_jar,
    check_ranks,
    check_session,
    check_tracking,
    check_workspace,
)

DELTA = version("delta-spark")
SPARK_LINE = ".".join(pyspark.__version__.split(".")[:2])
OTHER_LINE = "4.1" if SPARK_LINE == "4.0" else "4.0"


def run_of(folder, *, name="flats", tracking_uri=""):
    tree = {
        "name": name,
        "source": {"path": "x.csv"},
        "time": {"column": "t"},
        "entity": ["e"],
        "targets": [{"name": "y"}],
    }
    dataset = check(DatasetConfig, tree, origin="test")
    profile = ProfileConfig(runtime=RuntimeConfig(tracking_uri=tracking_uri))
    return RunConfig(dataset, profile, "production", folder, folder)


class Session:
    """A Spark session as preflight sees it, with settings that this machine's Spark cannot have."""

    def __init__(self, version=pyspark.__version__, **conf):
        self.version = version
        self.values = {name.replace("_", "."): value for name, value in conf.items()}
        self.conf = self

    def get(self, name, default=None):
        return self.values.get(name, default)


def test_a_workspace_is_made_and_marked_once(tmp_path):
    folder = tmp_path / "new" / "wörk späce"
    check_workspace(run_of(folder))
    mark = folder / "assay.json"
    assert json.loads(mark.read_text()) == {"dataset": "flats"}
    assert list(folder.iterdir()) == [mark]
    before = mark.stat().st_mtime_ns
    check_workspace(run_of(folder))
    assert mark.stat().st_mtime_ns == before


def test_a_workspace_belongs_to_one_dataset(tmp_path):
    check_workspace(run_of(tmp_path))
    with pytest.raises(PreflightError) as caught:
        check_workspace(run_of(tmp_path, name="cars"))
    assert "holds the dataset 'flats', not 'cars': give each dataset a workspace of its own" in str(caught.value)
    assert caught.value.exit_code == EXIT_USER_ERROR


@pytest.mark.parametrize("content", ["", "{", "[]", '{"data": 1}'])
def test_a_mark_that_cannot_be_read_says_what_to_do(tmp_path, content):
    (tmp_path / "assay.json").write_text(content)
    with pytest.raises(PreflightError, match="delete that file if the workspace is this dataset's"):
        check_workspace(run_of(tmp_path))


def test_a_workspace_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(PreflightError, match=r"cannot write there .* choose another folder"):
            check_workspace(run_of(folder))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_workspace_without_write_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PreflightError, match="cannot write there"):
        check_workspace(run_of(tmp_path))


def test_a_read_only_file_system():
    with pytest.raises(PreflightError, match="cannot write there"):
        check_workspace(run_of(Path("/proc/assay")))


@pytest.mark.parametrize(
    "master",
    ["local", "local[2]", "local[*]", "", "spark://localhost:7077", "spark://127.0.0.1:7077", "spark://[::1]:1"],
)
def test_sqlite_serves_this_machine(tmp_path, master):
    check_tracking(run_of(tmp_path), master)


def test_this_machine_is_known_by_its_name_and_addresses(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "Workstation")
    monkeypatch.setattr(socket, "getfqdn", lambda: "workstation.example.com")
    for host in ("workstation", "WORKSTATION.example.com"):
        check_tracking(run_of(tmp_path), f"spark://{host}:7077")
    for address in preflight._own_names() - {"localhost"}:
        if "." in address and address.replace(".", "").isdigit():
            check_tracking(run_of(tmp_path), f"spark://{address}:7077")


@pytest.mark.parametrize(
    "master", ["spark://head:7077", "spark://head1:7077,head2:7077", "yarn", "k8s://https://10.99.0.1:443"]
)
def test_sqlite_does_not_serve_a_cluster(tmp_path, master):
    with pytest.raises(PreflightError, match=r"SQLite.*--set runtime\.tracking_uri=http://HOST:PORT"):
        check_tracking(run_of(tmp_path), master)
    with pytest.raises(PreflightError, match="SQLite"):
        check_tracking(run_of(tmp_path, tracking_uri="sqlite:////shared/mlflow.db"), master)
    check_tracking(run_of(tmp_path, tracking_uri="http://mlflow:5000"), master)


def jars(**conf):
    return Session(**conf, spark_master="local[2]")


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"spark_jars": f"file:///x/delta-spark_{SPARK_LINE}_2.13-{DELTA}.jar,file:///x/delta-storage-{DELTA}.jar"},
        {"spark_jars_packages": f"io.delta:delta-spark_{SPARK_LINE}_2.13:{DELTA}"},
        {"spark_jars_packages": f"org.x:y:1, io.delta:delta-spark_2.13:{DELTA}"},
        {"spark_jars": f"file:///x/.ivy2/jars/io.delta_delta-spark_{SPARK_LINE}_2.13-{DELTA}.jar"},
        {"spark_jars": "file:///x/other-1.0.jar"},
    ],
)
def test_jars_that_fit(conf):
    check_delta_jar(jars(**conf))


@pytest.mark.parametrize(
    "conf",
    [
        {"spark_jars": f"file:///x/delta-spark_{SPARK_LINE}_2.13-3.2.0.jar"},
        {"spark_jars": f"file:///x/delta-spark_3.5_2.13-{DELTA}.jar"},
        {"spark_jars": "file:///x/.ivy2/jars/io.delta_delta-spark_2.12-3.2.0.jar"},
        {"spark_jars_packages": "io.delta:delta-spark_2.13:4.0.0"},
        {"spark_jars_packages": f"org.x:y:1,io.delta:delta-spark_{OTHER_LINE}_2.13:{DELTA}"},
    ],
)
def test_jars_of_another_version(conf):
    with pytest.raises(PreflightError, match=rf"mismatched jar .* use the jar delta-spark_{SPARK_LINE}_2.13-{DELTA}"):
        check_delta_jar(jars(**conf))


@pytest.mark.parametrize("other", ["3.5.1", "4.10.0", "5.0.0"])
def test_a_cluster_of_another_spark(tmp_path, other):
    with pytest.raises(PreflightError, match=f"the cluster runs Spark {other}, this Python has pyspark"):
        check_session(Session(version=other), run_of(tmp_path))


def test_a_session_that_fits(tmp_path):
    check_session(jars(), run_of(tmp_path))
    check_session(Session(version=f"{SPARK_LINE}.99", spark_master="local[2]"), run_of(tmp_path))


def test_more_workers_than_slots_would_wait_for_ever():
    check_ranks(jars(), ranks=4, slots=4)
    with pytest.raises(PreflightError) as caught:
        check_ranks(jars(), ranks=5, slots=4)
    assert "engine.ranks=5 needs 5 free task slots at once, the cluster has 4" in str(caught.value)
    assert "set engine.ranks to 4 or less" in str(caught.value)


@pytest.mark.parametrize("value", ["true", "True", True])
def test_a_barrier_and_dynamic_allocation_do_not_go_together(value):
    with pytest.raises(PreflightError, match=r"set spark\.dynamicAllocation\.enabled=false"):
        check_ranks(Session(spark_dynamicAllocation_enabled=value), ranks=1, slots=4)
