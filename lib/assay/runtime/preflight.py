"""Consumes a configuration and a session, produces nothing or one plain message: what would hang or fail late."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from assay.config import RunConfig
from assay.errors import PreflightError
from assay.runtime import lake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MARK = lake.MARK


def check_workspace(config: RunConfig) -> None:
    """The workspace can be written and belongs to this dataset.

    Raises:
        PreflightError: it does not.
    """
    folder = config.workspace
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from None
    check_writable(folder)
    check_owner(folder, config.dataset.name)
    told = _told(folder)
    wanted = lake.to_record(config, told)
    if wanted != told:
        _write_once(folder / MARK, json.dumps(wanted))


def check_writable(folder: Path, *, asked: Path | None = None) -> None:
    """A file can be written into a folder, which is there, and removed again. asked: what to name in the error.

    Raises:
        PreflightError: it cannot.
    """
    try:
        probe = folder / f".write-{os.getpid()}"
        probe.write_text("", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        raise _not_writable(asked or folder, error) from None


def _not_writable(folder: Path, error: OSError) -> PreflightError:
    return PreflightError(
        f"--workspace {folder}: cannot write there ({error.strerror or error}); choose another folder"
    )


def check_owner(folder: Path, dataset: str) -> str | None:
    """The dataset whose workspace a folder is, which is this one; None where it is nobody's yet.

    Raises:
        PreflightError: it is that of another dataset, or nobody can say whose.
    """
    owner = owner_of(folder)
    if owner not in {None, dataset}:
        raise PreflightError(
            f"--workspace {folder} holds the dataset {owner!r}, not {dataset!r}: "
            "give each dataset a workspace of its own"
        )
    return owner


def owner_of(folder: Path) -> str | None:
    """The dataset whose workspace a folder is; None where it is nobody's yet.

    Raises:
        PreflightError: nobody can say whose.
    """
    return _told(folder).get("dataset")


def _told(folder: Path) -> dict[str, str]:
    """What the mark says: `dataset`, and `lake` and `tracking_uri` where tables and runs are not in the workspace."""
    mark = folder / MARK
    if not mark.is_file():
        return {}
    try:
        told = json.loads(mark.read_text(encoding="utf-8"))
        return {**told, "dataset": str(told["dataset"])}
    except (OSError, ValueError, KeyError, TypeError):
        raise PreflightError(
            f"{mark} cannot be read, so nobody knows whose workspace this is: delete that file if the workspace is "
            "this dataset's, or choose another --workspace"
        ) from None


def _write_once(path: Path, text: str) -> None:
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def check_session(session: SparkSession, config: RunConfig) -> None:
    """Versions fit, the tracking store can be reached from where jobs run, and tables where `runtime.lake` says.

    Raises:
        PreflightError: with what to change.
    """
    check_versions(session)
    check_delta_jar(session)
    master = session.conf.get("spark.master", "")
    check_tracking(config, str(master))
    lake.check_lake_owner(session, config)


def check_versions(session: SparkSession) -> None:
    """Spark is of the version that this Python's pyspark is of.

    Raises:
        PreflightError: with both versions.
    """
    import pyspark

    if session.version.split(".")[:2] != pyspark.__version__.split(".")[:2]:
        raise PreflightError(
            f"the cluster runs Spark {session.version}, this Python has pyspark {pyspark.__version__}: "
            "install the pyspark of the cluster's version"
        )


def check_delta_jar(session: SparkSession) -> None:
    """Delta's jar, where Spark has one, is of this Spark version and of the Python package's version.

    Raises:
        PreflightError: with the jar that would be.
    """
    named = (str(session.conf.get(name, "") or "") for name in ("spark.jars", "spark.jars.packages"))
    check_jar_names(",".join(named), session.version)


def check_jar_names(named: str, spark_version: str) -> None:
    """The same of jars' files or coordinates, several with commas between them.

    Raises:
        PreflightError: with the jar that would be.
    """
    from importlib.metadata import version

    spark_line = ".".join(spark_version.split(".")[:2])
    for item in named.replace(":", "-").split(","):
        name = item.strip().rsplit("/", 1)[-1].removesuffix(".jar")
        name = name.removeprefix("io.delta-").removeprefix("io.delta_")  # as coordinate, and as Ivy names the file
        if not name.startswith("delta-spark_"):
            continue
        built_for, _, delta = name.removeprefix("delta-spark_").rpartition("-")
        wanted = version("delta-spark")
        if delta != wanted or (built_for.count("_") and not built_for.startswith(f"{spark_line}_")):
            raise PreflightError(
                f"mismatched jar {item}: this session is Spark {spark_version} with delta-spark {wanted}; "
                f"use the jar delta-spark_{spark_line}_2.13-{wanted}"
            )


def check_tracking(config: RunConfig, master: str) -> None:
    """SQLite serves one host: refuse it where the master is another one."""
    from assay.runtime.tracking import tracking_uri

    if not tracking_uri(config).startswith("sqlite") or master.startswith("local") or not master:
        return
    host = urlparse(master.removeprefix("k8s://")).hostname or master
    if host in _own_names():
        return
    raise PreflightError(
        f"the MLflow store is SQLite, which serves one host only, but the master is {master}: "
        "set runtime.tracking_uri to an MLflow server, --set runtime.tracking_uri=http://HOST:PORT"
    )


def _own_names() -> set[str]:
    """Names and addresses of this machine."""
    import psutil

    addresses = {address.address for nic in psutil.net_if_addrs().values() for address in nic}
    return {"localhost", "127.0.0.1", "::1", socket.gethostname().lower(), socket.getfqdn().lower(), *addresses}


def check_ranks(session: SparkSession, ranks: int, slots: int, setting: str = "engine.ranks") -> None:
    """A barrier stage needs all its slots at once, from a fixed set of executors. setting: what asks for so many.

    Raises:
        PreflightError: it would wait for ever.
    """
    if ranks > slots:
        raise PreflightError(
            f"{setting}={ranks} needs {ranks} free task slots at once, the cluster has {slots}: "
            f"set {setting} to {slots} or less, or ask for more executors"
        )
    check_lasting_executors(session)


def check_lasting_executors(session: SparkSession) -> None:
    """Executors stay, as a barrier stage needs it.

    Raises:
        PreflightError: Spark may send them away.
    """
    if str(session.conf.get("spark.dynamicAllocation.enabled", "false")).lower() == "true":
        raise PreflightError(
            "training is a barrier stage, which Spark does not run with dynamic allocation: "
            "set spark.dynamicAllocation.enabled=false"
        )
