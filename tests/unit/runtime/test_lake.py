"""Consumes workspaces whose tables lie here or elsewhere, checks that nobody's are mixed, and who may read them how."""

import json

import pytest

from assay.config import load_run
from assay.errors import PreflightError, UserError
from assay.runtime.arrow_plane import ArrowPlane
from assay.runtime.job import JobContext, choose_plane
from assay.runtime.lake import check_on_record, lake_folder, lake_of, lake_on_record, store_on_record
from assay.runtime.local_plane import LocalPlane
from assay.runtime.preflight import check_workspace
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings
from assay.runtime.spark_plane import SparkPlane
from assay.season.play import play
from assay.serving.job import ServingContext
from assay.workspace import Workspace

HDFS = "hdfs://nn:8020/assay/mine"


@pytest.fixture
def run_of(flats, workspace):
    """run_of("runtime.lake=..."): a run in the test's workspace."""

    def make(*overrides, folder=workspace):
        return load_run(dataset=flats, workspace=folder, overrides=overrides)

    return make


def test_tables_lie_in_the_workspace_unless_told_otherwise(run_of, workspace):
    assert lake_of(run_of()) == (workspace / "lake").as_uri()
    assert lake_folder(run_of()) == workspace / "lake"
    assert lake_of(run_of(f"runtime.lake={HDFS}/")) == HDFS
    assert lake_folder(run_of(f"runtime.lake={HDFS}")) is None
    assert lake_folder(run_of("runtime.lake=file:///srv/a%20lake")).name == "a lake"


def test_the_mark_keeps_the_place_and_another_one_is_refused(run_of, workspace):
    check_workspace(run_of(f"runtime.lake={HDFS}/"))
    assert json.loads((workspace / "assay.json").read_text()) == {"dataset": "flats", "lake": HDFS}
    check_on_record(run_of(f"runtime.lake={HDFS}"))
    for other in ([], ["runtime.lake=s3a://bucket/mine"]):
        check_workspace(run_of(*other))
        with pytest.raises(PreflightError) as caught:
            check_on_record(run_of(*other))
        assert f"its tables lie in {HDFS}, not in {lake_of(run_of(*other))}: set runtime.lake to that" in str(
            caught.value
        )
    assert lake_on_record(workspace) == HDFS


def test_the_mark_keeps_where_runs_are_but_no_secret(run_of, workspace):
    own = f"sqlite:///{workspace / 'mlflow.db'}"
    told = [("runtime.tracking_uri=http://mlflow:5000", "http://mlflow:5000")]
    told += [("runtime.tracking_uri=http://me:hunter2@mlflow:5000", own), ("runtime.tracking_uri=", own)]
    for setting, expected in told:
        check_workspace(run_of(setting))
        assert store_on_record(workspace) == expected
        assert "hunter2" not in (workspace / "assay.json").read_text()
    assert json.loads((workspace / "assay.json").read_text()) == {"dataset": "flats"}


def test_a_workspace_with_tables_of_its_own_keeps_them(run_of, workspace):
    check_workspace(run_of())
    (workspace / "lake").mkdir()
    check_workspace(run_of(f"runtime.lake={HDFS}"))
    with pytest.raises(PreflightError, match=r"its tables lie in file:///.*/lake, not in hdfs://"):
        check_on_record(run_of(f"runtime.lake={HDFS}"))


def test_a_workspace_without_tables_yet_takes_the_place(run_of, workspace):
    check_workspace(run_of())
    check_workspace(run_of(f"runtime.lake={HDFS}"))
    check_on_record(run_of(f"runtime.lake={HDFS}"))


@pytest.mark.parametrize(
    ("overrides", "kinds"),
    [
        ([], (ArrowPlane, LocalPlane)),
        ([f"runtime.lake={HDFS}"], (SparkPlane, SparkPlane)),
        (["runtime.lake=file:///srv/lake"], (SparkPlane, SparkPlane)),
        (["runtime.lake=file:///srv/lake", "runtime.road=arrow"], (ArrowPlane, LocalPlane)),
    ],
    ids=["workspace", "hdfs", "file", "file by arrow"],
)
def test_the_road_follows_the_place(run_of, overrides, kinds):
    context = JobContext(run_of(*overrides), SparkSettings(), Reporter(quiet=True))
    assert tuple(type(choose_plane(context, here=here)) for here in (False, True)) == kinds
    expected = HDFS if HDFS in str(overrides) else str(lake_folder(context.config))
    assert choose_plane(context).location("features").removeprefix("file://") == f"{expected}/features"


def test_serve_reads_files_itself_and_other_file_systems_by_spark(run_of, workspace):
    def plane(*told):
        return ServingContext(run_of(*told), SparkSettings(), Reporter(quiet=True)).plane

    check_workspace(run_of(f"runtime.lake={HDFS}"))
    remote = plane(f"runtime.lake={HDFS}")
    assert (type(remote), remote.location("observations")) == (SparkPlane, f"{HDFS}/observations")
    copied = plane("runtime.lake=file:///srv/copy")
    assert (type(copied), copied.location("observations")) == (LocalPlane, "/srv/copy/observations")
    for told, message in (
        (["runtime.catalog=main.assay"], r"leave runtime\.catalog empty"),
        (["runtime.road=spark"], r"leave runtime\.road as it is"),
    ):
        with pytest.raises(UserError, match=message):
            plane(*told)


def test_a_season_looks_at_files(tmp_path):
    with pytest.raises(UserError, match=r"leave runtime\.lake and runtime\.catalog out"):
        play(tmp_path, days=30, seed=7, more=[f"runtime.lake={HDFS}"])
    assert not list(tmp_path.iterdir())


def test_a_workspace_says_where_its_tables_lie(run_of, workspace):
    check_workspace(run_of(f"runtime.lake={HDFS}"))
    assert Workspace(workspace).lake == HDFS
