"""Consumes a job's command line and configuration, produces the `spark-submit` command line that does the same.

Nothing runs. In client mode the line's driver is this Python, on this machine. In cluster mode, as the settings file's
`spark.submit.deployMode` says, Spark starts the driver elsewhere, in an empty folder: the files that the job reads at
its start travel with it, and its workspace and source are named by paths that must mean the same there.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.config import RunConfig, conf_root, profile_file
from assay.errors import PreflightError
from assay.runtime.logs import redact
from assay.runtime.session import (
    DELTA,
    PACKED_PYTHON,
    SparkSettings,
    driver_options,
    executors_python,
    is_local,
    options,
)

Told = Sequence[tuple[str, str | None]]  # options of a job and their values, None for a flag

KEPT = ("JAVA_HOME", "HADOOP_CONF_DIR", "YARN_CONF_DIR", "ASSAY_CONF", "ASSAY_DATA")  # variables that a driver goes by


@dataclass(frozen=True)
class Submission:
    """A command and the variables of its environment that matter, with secrets masked."""

    variables: Mapping[str, str]
    command: Sequence[str]

    def shell(self) -> str:
        """The line for a shell, an option to a row."""
        rows = [[f"{name}={shlex.quote(value)}"] for name, value in self.variables.items()]
        option = False  # whether the row so far is an option without a value
        for word in self.command:
            if option and not word.startswith("--"):
                rows[-1].append(shlex.quote(word))
                option = False
            else:
                rows.append([shlex.quote(word)])
                option = word.startswith("--")
        return " \\\n  ".join(" ".join(row) for row in rows)

    def as_dict(self) -> dict[str, Any]:
        """For JSON output."""
        return {"variables": dict(self.variables), "command": list(self.command)}


def submission_of(job: str, told: Told, config: RunConfig, settings: SparkSettings) -> Submission:
    """The submission that equals a job. told: the job's own options, without those that say how to reach Spark.

    Raises:
        PreflightError: a settings file or a packed environment that is named does not exist; there is no application
            file; a standalone cluster is asked to run the driver, which Spark does not do for Python.
    """
    settings = settings.for_run(config)
    master, packed = settings.chosen_master(), settings.archive()
    spark = _spark()
    command = [str(spark / "bin" / "spark-submit"), *options(settings), "--name", f"assay {config.dataset.name}"]
    for key, value in {**DELTA, "spark.sql.session.timeZone": "UTC"}.items():
        command += ["--conf", f"{key}={value}"]
    variables = {"SPARK_HOME": str(spark), **{name: os.environ[name] for name in KEPT if os.environ.get(name)}}
    if settings.deploy_mode() == "cluster":
        _check_driver_goes_there(settings, master)
        variables.pop("ASSAY_CONF", None)  # a path of this machine
        python = PACKED_PYTHON if packed else os.environ.get("PYSPARK_PYTHON", "python3")
        command += ["--conf", f"spark.pyspark.python={python}"]
        files = _travelling(told, config)
        if files:
            command += ["--files", ",".join(files)]
        told = _as_there(told, config)
    else:
        driver = os.environ.get("PYSPARK_DRIVER_PYTHON", sys.executable)
        variables |= {"PYSPARK_PYTHON": executors_python(settings), "PYSPARK_DRIVER_PYTHON": driver}
        command += driver_options(config.workspace / "logs" / "spark.log")
        code = os.environ.get("ASSAY_CODE", "")
        if code and not is_local(master):
            command += ["--py-files", code]
    command.append(str(_application(job)))
    command += [word for option, value in told for word in ((option,) if value is None else (option, value))]
    masked = {name: redact(value) for name, value in variables.items()}
    return Submission(masked, [redact(word) for word in command])


def _check_driver_goes_there(settings: SparkSettings, master: str) -> None:
    if is_local(master) or master.startswith("spark://"):
        raise PreflightError(
            f"{settings.properties_file()}: spark.submit.deployMode is cluster, but Spark runs no Python driver on "
            f"{master}: set it to client"
        )


def _travelling(told: Told, config: RunConfig) -> list[str]:
    """Files of this machine that the driver reads: the dataset and the profile."""
    named = [Path(value) for option, value in told if option == "--dataset" and value]
    return [str(path.absolute()) for path in [*named, profile_file(_profile(told, config))]]


def _as_there(told: Told, config: RunConfig) -> Told:
    """Options as they are right in the folder of a driver elsewhere: its files lie beside one another."""
    found: list[tuple[str, str | None]] = []
    for option, value in told:
        if option not in {"--profile", "--workspace"}:
            found.append((option, Path(value).name if option == "--dataset" and value else value))
    found += [("--profile", profile_file(_profile(told, config)).name), ("--workspace", str(config.workspace))]
    source = Path(config.dataset.source.path)
    here = [place / source for place in (config.dataset_folder, Path.cwd()) if (place / source).exists()]
    if config.dataset.source.path and not source.is_absolute() and here:
        found.append(("--set", f"dataset.source.path={here[0].absolute()}"))
    return found


def _profile(told: Told, config: RunConfig) -> str:
    return next((value for option, value in told if option == "--profile" and value), config.profile_name)


def _spark() -> Path:
    """Folder of the Spark that this Python brings."""
    found = importlib.util.find_spec("pyspark")
    if found is None or found.origin is None:
        raise PreflightError("pyspark is not installed in this Python: pip install assay")
    return Path(found.origin).parent


def _application(job: str) -> Path:
    """The job's file for spark-submit: beside the configuration, in a checkout as in an installed package."""
    file = conf_root().parent / "jobs" / f"{job}.py"
    if not file.is_file():
        raise PreflightError(f"{file}: there is no such file, which spark-submit would start")
    return file.resolve()
