"""Consumes fabricated machines, checks what a doctor says of them and what to do."""

import os
from pathlib import Path

import pytest

from assay.doctor import machine
from assay.doctor.findings import Finding, fail, refused
from assay.errors import PreflightError
from assay.runtime.java import Java
from assay.runtime.memory import MachineMemory

GIB = 1 << 30
SECRET = "hunter2-Tr0ub4dor"


def test_findings_have_no_secrets_and_no_line_ends():
    found = fail("MLflow", f"postgresql://me:{SECRET}@host/db\n cannot be read", f"set password={SECRET}")
    assert found == Finding("MLflow", "fail", "postgresql://me:***@host/db cannot be read", "set password=***")
    assert found.as_dict()["told"] == found.told


def test_the_advice_of_an_error_is_what_comes_last():
    found = refused("workspace", PreflightError("x: cannot write there (why; and how); choose another folder"), "else")
    assert (found.told, found.todo) == ("x: cannot write there (why; and how)", "choose another folder")
    found = refused("workspace", PreflightError("x holds y: give each a workspace"), "else")
    assert (found.told, found.todo) == ("x holds y: give each a workspace", "else")


def test_java():
    good = Java(Path("/jdk"), "17.0.15", frozenset({"jdk.incubator.vector"}))
    assert machine.java(good, None).status == "ok"
    old = machine.java(Java(Path("/jdk"), "11.0.2"), None)
    assert (old.status, "install Java 17 or 21" in old.todo) == ("fail", True)
    assert machine.java(None, home=None).told == "there is no `java` on the path"
    assert machine.java(None, home="/x").told == "JAVA_HOME=/x has no bin/java"


@pytest.mark.parametrize(
    ("master", "slots"),
    [("local", 1), ("local[3]", 3), ("local[*]", 8), ("local[*, 4]", 8), ("local[2,3]", 2), ("spark://x:7077", 0)],
)
def test_slots_of_a_master(master, slots):
    assert machine.task_slots(master, cores=8) == slots
    assert machine.task_slots(master, cores=8, task_cpus=2) == (max(1, slots // 2) if slots else 0)


def test_cores():
    assert machine.cores("local[*]", 8, 8).status == "ok"
    many = machine.cores("local[16]", 4, 16)
    assert (many.status, many.todo) == ("warn", "--master 'local[4]', or local[*]")
    assert "for the driver" in machine.cores("yarn", 4, 0).told


@pytest.mark.parametrize(
    ("total", "available", "slots", "status"),
    [(24, 18, 2, "ok"), (24, 2, 2, "warn"), (6, 6, 16, "warn"), (2, 2, 2, "fail"), (2.8, 2.8, 0, "ok")],
)
def test_memory(total, available, slots, status):
    has = MachineMemory(int(total * GIB), int(available * GIB), limited=True)
    found = machine.memory(has, {"spark.driver.memory": "2g"}, slots)
    assert found.status == status
    assert "GiB" in found.told
    assert "spark.driver.memory=2g" in found.told
    assert bool(found.todo) == (status != "ok")


@pytest.mark.parametrize(("gib", "status"), [(0.5, "fail"), (3, "warn"), (50, "ok")])
def test_room(tmp_path, gib, status):
    found = machine.room("workspace", tmp_path, int(gib * GIB))
    assert (found.check, found.status) == ("disk: workspace", status)
    assert ("--workspace" in found.todo) == (status != "ok")


def test_a_disk_is_that_of_the_nearest_folder(tmp_path):
    (found,) = machine.disks({"temporary files": tmp_path / "not" / "there"})
    assert found.check == "disk: temporary files"
    assert machine.standing(tmp_path / "not" / "there") == tmp_path
    assert machine.scratch_place({"spark.local.dir": "/big,/other"}, {}) == Path("/big")
    assert machine.scratch_place({"spark.local.dir": "/big"}, {"SPARK_LOCAL_DIRS": "/bigger"}) == Path("/bigger")


def test_a_workspace_that_is_not_there_stays_so(tmp_path):
    found = machine.workspace(tmp_path / "new" / "mine", "flats")
    assert found.status == "ok"
    assert list(tmp_path.iterdir()) == []


def test_whose_workspace_it_is(tmp_path):
    (tmp_path / "assay.json").write_text('{"dataset": "flats"}')
    assert machine.workspace(tmp_path, "flats").told.endswith("holds the dataset flats")
    assert machine.workspace(tmp_path, None).status == "ok"
    other = machine.workspace(tmp_path, "cars")
    assert (other.status, "holds the dataset 'flats', not 'cars'" in other.told) == ("fail", True)
    (tmp_path / "assay.json").write_text("{")
    broken = machine.workspace(tmp_path, None)
    assert (broken.status, "cannot be read" in broken.told) == ("fail", True)


def test_a_workspace_that_cannot_be_written():
    found = machine.workspace(Path("/proc/assay/mine"), "flats")
    assert found.status == "fail"
    assert found.told.startswith("--workspace /proc/assay/mine: cannot write there")
    assert found.todo == "choose another folder"


ASKED = {"spark.task.resource.gpu.amount": "1"}


@pytest.mark.parametrize(
    ("names", "settings", "master", "cuda", "status", "told"),
    [
        ([], {}, "local[*]", True, "ok", "none here; models learn on CPUs"),
        (["H100, 81559 MiB"], {}, "local[*]", True, "ok", "1 here (H100, 81559 MiB), which no task uses"),
        ([], ASKED, "spark://x:1", True, "ok", "1 per task"),
        ([], ASKED, "spark://x:1", False, "fail", "XGBoost was built without CUDA"),
        (["H100"], ASKED, "local[*]", True, "warn", "which local[*] does not give"),
    ],
)
def test_gpu(names, settings, master, cuda, status, told):
    found = machine.gpu(names, settings, master, cuda)
    assert found.status == status
    assert told in found.told


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("echo 'NVIDIA H100 80GB HBM3, 81559 MiB'; echo 'NVIDIA H100 80GB HBM3, 81559 MiB'", 2),
        ("echo 'NVIDIA-SMI has failed because it could not communicate with the driver'; exit 9", 0),
    ],
)
def test_gpus_are_those_that_nvidia_smi_lists(tmp_path, script, names):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    assert len(machine.gpus_here(str(program))) == names
    assert machine.gpus_here(str(tmp_path / "gone")) == []


def test_cores_of_this_machine():
    assert 1 <= machine.cores_here() <= (os.cpu_count() or 1)
