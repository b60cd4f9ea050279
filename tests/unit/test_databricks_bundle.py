"""Consumes the bundle of conf/databricks, checks that what it asks for exists: commands, settings, files, variables."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from assay import cli
from assay.config import load_run
from assay.runtime.mlflow_client import experiment_of, registry_of, unity_schema

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "conf" / "databricks"
REFERENCE = re.compile(r"\$\{([^}]+)\}")
KNOWN = {  # what the platform knows by itself
    "workspace.file_path": str(ROOT / "conf"),
    "workspace.current_user.userName": "me@example.com",
    "bundle.name": "assay",
    "bundle.target": "dev",
}
TARGETS = ("dev", "staging", "prod")
JOBS = {
    "daily": ["ingest", "build_features", "score"],
    "weekly": ["monitor"],
    "monthly": ["ingest", "build_features", "tune", "train", "deploy"],
}


def _read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


BUNDLE = _read(FOLDER / "databricks.yml")
FILES = [FOLDER / "databricks.yml", *sorted((FOLDER / "resources").glob("*.yml"))]
RESOURCES = {}
for _path in FILES[1:]:
    for _kind, _named in _read(_path)["resources"].items():
        RESOURCES.setdefault(_kind, {}).update(_named)


class Resolved:
    """The bundle as the CLI would put its references in, for one target."""

    def __init__(self, target):
        self.target = BUNDLE["targets"][target]
        told = {name: one.get("default") for name, one in BUNDLE["variables"].items()}
        self.variables = {**told, **self.target.get("variables", {})}

    def __call__(self, value):
        if isinstance(value, dict):
            return {key: self(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self(one) for one in value]
        while isinstance(value, str) and (found := REFERENCE.search(value)):
            put = self.of(found[1])
            value = put if value == found[0] else value.replace(found[0], str(put))
        return value

    def of(self, reference):
        """What a reference stands for; none that is not declared."""
        kind, *path = reference.split(".")
        if kind == "var":
            (name,) = path
            value = self.variables[name]
            assert value is not None, f"variable {name} has no value"
            return value
        if kind == "resources":
            found = RESOURCES
            for part in path:
                found = found[part]
            return found
        return KNOWN[reference]


@pytest.fixture(params=TARGETS)
def resolved(request):
    """The bundle of each target."""
    return Resolved(request.param)


def _tasks(job):
    return RESOURCES["jobs"][job]["tasks"]


def _arguments(task, resolved, job):
    """What the entry point gets, job parameters put in as the scheduler does."""
    told = {one["name"]: str(resolved(one["default"])) for one in RESOURCES["jobs"][job]["parameters"]}
    given = resolved(task["python_wheel_task"]["parameters"])
    return [re.sub(r"\{\{job\.parameters\.(\w+)\}\}", lambda found: told[found[1]], one) for one in given]


def test_every_reference_leads_somewhere_in_every_target(resolved):
    assert resolved(RESOURCES)
    assert resolved({key: BUNDLE[key] for key in ("artifacts", "sync", "variables")})
    assert resolved(resolved.target)
    used = set(itertools.chain.from_iterable(REFERENCE.findall(path.read_text(encoding="utf-8")) for path in FILES))
    assert {name.removeprefix("var.") for name in used if name.startswith("var.")} == set(BUNDLE["variables"])


def test_targets_are_told_apart():
    assert list(BUNDLE["targets"]) == list(TARGETS)
    targets = BUNDLE["targets"]
    assert [name for name in TARGETS if targets[name].get("default")] == ["dev"]
    assert [targets[name]["mode"] for name in TARGETS] == ["development", "production", "production"]
    assert len({Resolved(name)("${var.lake}") for name in TARGETS}) == 3
    for name in ("staging", "prod"):
        assert targets[name]["run_as"] == {"service_principal_name": "${var.service_principal}"}
        levels = {one["group_name"]: one["level"] for one in targets[name]["permissions"]}
        assert levels == {"${var.owners}": "CAN_MANAGE", "${var.readers}": "CAN_VIEW"}
        assert targets[name]["workspace"]["root_path"].startswith("/Workspace/assay/")  # not where everybody writes
        for kind, one in (("schemas", "lake"), ("volumes", "files")):  # the same place, with more grants
            again = targets[name]["resources"][kind][one]
            assert {key: RESOURCES[kind][one][key] for key in again if key != "grants"} == {
                key: value for key, value in again.items() if key != "grants"
            }
            assert [grant["principal"] for grant in again["grants"]] == ["${var.service_principal}"]


@pytest.mark.parametrize(("target", "status"), [("dev", "PAUSED"), ("staging", "UNPAUSED"), ("prod", "UNPAUSED")])
def test_schedules_are_paused_in_dev(target, status):
    assert {Resolved(target)(job["schedule"]["pause_status"]) for job in RESOURCES["jobs"].values()} == {status}
    crons = {name: job["schedule"]["quartz_cron_expression"].split() for name, job in RESOURCES["jobs"].items()}
    assert crons["daily"][3:] == ["*", "*", "?"]
    assert crons["weekly"][3:] == ["?", "*", "MON"]
    assert crons["monthly"][3:] == ["1", "*", "?"]
    assert all(len(one) == 6 for one in crons.values())


def test_jobs_are_chains_of_tasks_on_clusters_that_exist():
    assert {name: [task["task_key"] for task in _tasks(name)] for name in RESOURCES["jobs"]} == JOBS
    for name, job in RESOURCES["jobs"].items():
        clusters = [one["job_cluster_key"] for one in job["job_clusters"]]
        assert {task["job_cluster_key"] for task in job["tasks"]} == set(clusters)
        assert job["max_concurrent_runs"] == 1  # two runs would write the same tables
        before = [None, *JOBS[name]]
        for task, earlier in zip(job["tasks"], before, strict=False):
            assert task.get("depends_on", []) == ([{"task_key": earlier}] if earlier else [])
    on = {task["task_key"]: task["job_cluster_key"] for task in _tasks("monthly")}
    assert on == {"ingest": "cpu", "build_features": "cpu", "tune": "gpu", "train": "gpu", "deploy": "cpu"}
    gpu = RESOURCES["jobs"]["monthly"]["job_clusters"][1]["new_cluster"]
    assert gpu["spark_conf"]["spark.task.resource.gpu.amount"] == "1"
    assert "autoscale" not in gpu  # a barrier stage wants all its executors at once


def test_clusters_are_set_up_alike():
    for job in RESOURCES["jobs"].values():
        for cluster in (one["new_cluster"] for one in job["job_clusters"]):
            assert cluster["data_security_mode"] == "SINGLE_USER"
            assert cluster["spark_conf"]["spark.sql.session.timeZone"] == "UTC"
            assert cluster["spark_conf"]["spark.databricks.delta.skipRecordingEmptyCommits"] == "false"


@pytest.mark.parametrize(("job", "number"), [(job, n) for job, tasks in JOBS.items() for n in range(len(tasks))])
def test_tasks_are_command_lines_that_assay_takes(resolved, job, number):
    task = _tasks(job)[number]
    name, *given = _arguments(task, resolved, job)
    assert name == JOBS[job][number]
    assert not [one for one in given if "{{" in one or "${" in one]
    command = get_command(cli.app).commands[name]
    told = command.make_context(name, list(given)).params
    config = load_run(
        dataset=told["dataset"],
        profile=told["profile"],
        workspace=told["workspace"],
        overrides=told["set_"],
    )
    runtime = config.profile.runtime
    assert config.dataset.name == "txhousing"
    assert runtime.catalog == resolved("${var.lake}")
    assert registry_of(runtime, runtime.tracking_uri) == "databricks-uc"
    assert unity_schema(config) == runtime.catalog
    assert experiment_of(config) == "/Shared/assay/txhousing"
    assert str(config.workspace).startswith(f"/Volumes/{runtime.catalog.replace('.', '/')}/files/")
    assert config.dataset.source.path == resolved("${var.source}")
    if name in {"tune", "train"}:  # equal settings: train finds what tune has trained
        assert config.training.enable_hyperparameter_tuning


def test_tasks_call_the_wheels_own_entry_point():
    scripts = {name: f"assay.cli:{'task' if name == 'assay-task' else 'main'}" for name in ("assay", "assay-task")}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f'{name} = "{place}"' in project for name, place in scripts.items())
    for job in JOBS:
        for task in _tasks(job):
            wheel = task["python_wheel_task"]
            assert (wheel["package_name"], wheel["entry_point"]) == ("assay", "assay-task")
            ((library,),) = [one.values() for one in task["libraries"]]
            built = (FOLDER / "resources" / library).resolve()
            assert built == (FOLDER / BUNDLE["artifacts"]["assay"]["files"][0]["source"]).resolve()


def test_the_wheel_brings_no_spark_of_its_own(tmp_path):
    """Built as the bundle builds it, from a copy: the real one's folder may be in use."""
    artifact = BUNDLE["artifacts"]["assay"]
    for name in ("lib", "jobs", "README.md", "LICENSE", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    environment = {**os.environ, "PYTHON": sys.executable, "PIP_NO_BUILD_ISOLATION": "0"}
    built = tmp_path / "conf" / "databricks" / artifact["path"]
    subprocess.run(artifact["build"].split(), cwd=built, env=environment, check=True)
    (wheel,) = (tmp_path / "conf" / "databricks").glob(artifact["files"][0]["source"])
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (about,) = [archive.read(name).decode() for name in names if name.endswith("METADATA")]
        (points,) = [archive.read(name).decode() for name in names if name.endswith("entry_points.txt")]
    needed = {found[1] for found in re.finditer(r"^Requires-Dist: ([\w.-]+)(?!.*extra ==)", about, re.MULTILINE)}
    assert {"polars", "xgboost", "mlflow", "deltalake"} <= needed
    assert not needed & {"pyspark", "delta-spark"}
    assert "assay-task = assay.cli:task" in points
    conf = {name.split("/")[2] for name in names if name.startswith("assay/conf/")}
    assert conf == {"datasets", "profiles", "spark"}  # not what the bundle's tool leaves in its folder


def test_the_bundle_keeps_to_the_clis_own_schema():
    path = os.environ.get("ASSAY_DATABRICKS_SCHEMA")
    if path is None:
        pytest.skip("ASSAY_DATABRICKS_SCHEMA names no file; `databricks bundle schema` prints it")
    from jsonschema.validators import validator_for

    # Python's expressions have no classes of letters and digits by their Unicode names.
    text = Path(path).read_text(encoding="utf-8").replace(r"[\\p{L}\\p{N}]", "[a-zA-Z0-9]")
    schema = json.loads(text.replace(r"\\p{L}", "[a-zA-Z]"))
    validator = validator_for(schema)(schema)
    for path in FILES:
        problems = [f"{list(e.absolute_path)}: {e.message}" for e in validator.iter_errors(_read(path))]
        assert problems == [], path
    wrong = _read(FOLDER / "resources" / "daily.yml")
    wrong["resources"]["jobs"]["daily"]["tasks"][0]["python_wheel_task"]["entrypoint"] = "main"
    assert not validator.is_valid(wrong)


def test_the_guide_names_what_there_is():
    guide = (FOLDER / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"--var(?:=| )\"?(\w+)=", guide)) | set(re.findall(r"BUNDLE_VAR_(\w+)", guide))
    assert named <= set(BUNDLE["variables"])
    assert {f"`{name}`" for name in BUNDLE["variables"]} <= set(re.findall(r"`[\w-]+`", guide))
    assert all(f"bundle run {name}" in guide for name in RESOURCES["jobs"])
