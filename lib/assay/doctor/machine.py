"""Consumes this machine, produces findings about its Python, Java, memory, cores, disks and GPU."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from assay.doctor.findings import Finding, fail, gigabytes, ok, refused, warn
from assay.errors import PreflightError
from assay.runtime import preflight
from assay.runtime.java import NEWEST, OLDEST, Java
from assay.runtime.memory import MachineMemory, needed_here
from assay.runtime.session import is_local

FULL_BYTES = 1 << 30  # below it a job may fail at any moment
SCARCE_BYTES = 5 << 30  # below it one over many rows may: tables keep versions, and exchanges lie beside them
JAVA_TODO = f"install Java 17 or 21 (Debian: `sudo apt-get install -y openjdk-{OLDEST}-jre-headless`), or set JAVA_HOME"


def java(found: Java | None, home: str | None) -> Finding:
    """Whether Spark takes the Java that it will find. home: JAVA_HOME, which goes before the path."""
    if found is None:
        return fail(
            "Java", f"JAVA_HOME={home} has no bin/java" if home else "there is no `java` on the path", JAVA_TODO
        )
    unfit = found.unfit()
    if unfit is not None:
        return fail("Java", unfit, JAVA_TODO)
    return ok("Java", f"{found.version} in {found.home}; Spark takes {OLDEST} to {NEWEST}")


def task_slots(master: str, cores: int, task_cpus: int = 1) -> int:
    """Tasks that a local master runs at once; 0 of one that runs them elsewhere."""
    if not is_local(master):
        return 0
    told = re.match(r"local\[\s*([0-9]+|\*)", master)
    threads = 1 if told is None else cores if told[1] == "*" else int(told[1])
    return max(1, threads // max(1, task_cpus))


def cores_here() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores(master: str, here: int, slots: int) -> Finding:
    """Cores of this machine, and how many tasks run on them at once."""
    if not is_local(master):
        return ok("cores", f"{here} here, for the driver; tasks run where {master} puts them")
    if slots > here:
        return warn(
            "cores",
            f"{here} cores for {slots} tasks at once ({master}): they only get into each other's way",
            f"--master 'local[{here}]', or local[*]",
        )
    return ok("cores", f"{here} cores, {slots} tasks at once ({master})")


def memory(found: MachineMemory, settings: Mapping[str, str], slots: int) -> Finding:
    """What the machine, or the container, has against what Java and Python need."""
    needed = needed_here(settings, slots)
    heap = settings.get("spark.driver.memory", "1g")
    has = gigabytes(found.total) + (" for this container" if found.limited else "")
    needs = f"spark.driver.memory={heap} and Python for {slots} task(s) need some {gigabytes(needed)}"
    if found.total < needed:
        todo = "run where there is more memory, or with fewer tasks (--master 'local[1]') and less for Java"
        todo += " (spark.driver.memory in a copy of conf/spark/local.conf, named by --conf-file)"
        short = fail if found.total < needed_here(settings, min(slots, 1)) else warn
        return short("memory", f"{has}; {needs}", todo)
    if found.available < needed:
        free = f"{gigabytes(found.available)} of {has} are free"
        return warn("memory", f"{free}; {needs}", "end other programs, or take fewer tasks: --master 'local[1]'")
    return ok("memory", f"{has}, {gigabytes(found.available)} of it free; {needs}")


def standing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def disks(places: Mapping[str, Path]) -> list[Finding]:
    """Room where tables and scratch files go. places: name -> folder, which need not be there yet."""
    free = {name: shutil.disk_usage(standing(folder)).free for name, folder in places.items()}
    return [room(name, places[name], size) for name, size in free.items()]


def room(name: str, folder: Path, free: int) -> Finding:
    """Whether so many bytes will do."""
    check, told = f"disk: {name}", f"{gigabytes(free)} free at {folder}"
    if free < FULL_BYTES:
        return fail(check, told, f"free some space there, or {MOVED.get(name, 'choose another folder')}")
    if free < SCARCE_BYTES:
        return warn(check, told, f"free some space before jobs over many rows, or {MOVED.get(name, 'choose another')}")
    return ok(check, told)


MOVED = {
    "workspace": "choose another folder with --workspace",
    "temporary files": "name another folder in TMPDIR and spark.local.dir",
}


def scratch_place(settings: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> Path:
    """Where Spark puts what does not fit into memory."""
    told = environment.get("SPARK_LOCAL_DIRS") or settings.get("spark.local.dir")
    return Path(told.split(",")[0]) if told else Path(tempfile.gettempdir())


def workspace(folder: Path, dataset: str | None) -> Finding:
    """Whether jobs can write there, and whose workspace it is. Leaves nothing behind."""
    place = standing(folder)
    try:
        preflight.check_writable(place, asked=folder)
        owner = preflight.owner_of(folder) if dataset is None else preflight.check_owner(folder, dataset)
    except PreflightError as error:
        return refused("workspace", error, "choose another folder with --workspace")
    if owner is None:
        return ok("workspace", f"{folder} can be written; the first job makes it")
    return ok("workspace", f"{folder} can be written, and holds the dataset {owner}")


def gpus_here(program: str | None = None) -> list[str]:
    """Names and memory of this machine's NVIDIA GPUs, by nvidia-smi; empty where it is absent or fails."""
    found = shutil.which(program or "nvidia-smi")
    if found is None:
        return []
    command = [found, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def gpu(found: Iterable[str], settings: Mapping[str, str], master: str, cuda: bool) -> Finding:
    """GPUs, whether Spark gives them to tasks, and whether XGBoost was built for them (cuda)."""
    names = list(found)
    here = f"{len(names)} here ({names[0]})" if names else "none here"
    built = f"XGBoost was built {'with' if cuda else 'without'} CUDA"
    asked = settings.get("spark.task.resource.gpu.amount") or settings.get("spark.executor.resource.gpu.amount")
    if asked and not cuda:
        return fail(
            "GPU", f"Spark's settings ask for {asked} per task, but {built}", "install xgboost from its lock file"
        )
    if asked and is_local(master):
        return warn(
            "GPU",
            f"{here}; Spark's settings ask for {asked} per task, which {master} does not give",
            "name a cluster with --master, such as a standalone master on this machine (conf/spark/gpu.conf)",
        )
    if asked:
        return ok("GPU", f"{asked} per task, by Spark's settings; {built}")
    if names:
        return ok("GPU", f"{here}, which no task uses: that needs conf/spark/gpu.conf and a cluster; {built}")
    return ok("GPU", f"{here}; models learn on CPUs")
