"""Consumes a configuration or a workspace's mark, produces where its tables lie, and its runs; refuses to mix lakes.

The mark, `assay.json`, is in the workspace, and again in a lake that `runtime.lake` names: workspaces of several
machines may share a lake, datasets may not.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from assay.config import RunConfig
from assay.config.lake import SETTING, folder_of
from assay.errors import PreflightError
from assay.runtime.logs import redact

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LOGGER = logging.getLogger(__name__)
MARK = "assay.json"
FOLDER = "lake"  # of tables, below a workspace
JARS = "name the jars of that file system in the Spark settings (--conf-file FILE; conf/spark/s3.conf is one)"


def lake_of(config: RunConfig) -> str:
    """URI below which tables lie."""
    return config.profile.runtime.lake.rstrip("/") or (config.workspace / FOLDER).as_uri()


def lake_folder(config: RunConfig) -> Path | None:
    """Folder below which tables lie; None where they lie in another file system."""
    return folder_of(lake_of(config))


def lake_on_record(workspace: Path) -> str:
    """URI below which the tables of a workspace lie, by its mark."""
    return _on_record(workspace, "lake") or (workspace / FOLDER).as_uri()


def store_on_record(workspace: Path) -> str:
    """URI of the MLflow store that jobs of a workspace have used last, by its mark; else its own."""
    return _on_record(workspace, "tracking_uri") or f"sqlite:///{workspace / 'mlflow.db'}"


def dataset_on_record(workspace: Path) -> str:
    """The dataset that a workspace holds, by its mark; empty where it says none."""
    return _on_record(workspace, "dataset")


def _on_record(workspace: Path, name: str) -> str:
    try:
        return str(json.loads((workspace / MARK).read_text(encoding="utf-8")).get(name) or "")
    except (OSError, ValueError, AttributeError):
        return ""


def check_on_record(config: RunConfig) -> None:
    """Refuse to go on with tables elsewhere: half of them would be missing there.

    Raises:
        PreflightError: the workspace's tables do not lie where they shall.
    """
    wanted, found = lake_of(config), lake_on_record(config.workspace)
    if wanted != found:
        raise PreflightError(
            f"--workspace {config.workspace}: its tables lie in {found}, not in {wanted}: set {SETTING} to that, "
            'choose another --workspace, or, once you moved them, write the new place as "lake" into '
            f"{config.workspace / MARK}"
        )


def to_record(config: RunConfig, told: Mapping[str, str]) -> dict[str, str]:
    """What a mark shall say that said `told`: nothing of the workspace's own places, which move with it.

    Tables stay where they are once they are somewhere. An MLflow store is put down without a secret, or not at all.
    """
    runtime = config.profile.runtime
    wanted = {**told, "dataset": config.dataset.name}
    if runtime.lake and "lake" not in told and not (config.workspace / FOLDER).is_dir():
        wanted["lake"] = lake_of(config)
    wanted.pop("tracking_uri", None)
    if runtime.tracking_uri and redact(runtime.tracking_uri) == runtime.tracking_uri:
        wanted["tracking_uri"] = runtime.tracking_uri
    return wanted


def check_lake_owner(session: SparkSession, config: RunConfig) -> None:
    """The lake that `runtime.lake` names can be written and belongs to this dataset.

    Raises:
        PreflightError: it does not, or Spark has no way to it.
    """
    lake, name = config.profile.runtime.lake.rstrip("/"), config.dataset.name
    java = getattr(session, "_jvm", None)
    if not lake or java is None:
        return
    from py4j.protocol import Py4JError

    try:
        path = java.org.apache.hadoop.fs.Path(f"{_unescaped(lake)}/{MARK}")
        files = path.getFileSystem(session._jsparkSession.sessionState().newHadoopConf())
        if not files.exists(path):
            stream = files.create(path, True)
            try:
                stream.write(bytearray(json.dumps({"dataset": name}).encode()))
            finally:
                stream.close()
        stream = files.open(path)
        try:
            owner = json.loads(bytes(stream.readAllBytes()))["dataset"]
        finally:
            stream.close()
    except Py4JError as error:
        raise PreflightError(f"{SETTING} {lake}: {_why(error)}") from None
    except (ValueError, KeyError, TypeError):
        raise PreflightError(
            f"{lake}/{MARK} cannot be read, so nobody knows whose tables these are: delete that file if they are this "
            f"dataset's, or choose another {SETTING}"
        ) from None
    _warn_of_other_drivers(session, lake)
    if owner != name:
        raise PreflightError(
            f"{SETTING} {lake} holds the dataset {owner!r}, not {name!r}: give each dataset a place of its own"
        )


def _warn_of_other_drivers(session: SparkSession, lake: str) -> None:
    """Delta's log store for S3 asks whether a version is there, then writes it: that keeps no two processes apart."""
    scheme = lake.partition(":")[0].lower()
    if scheme in {"s3", "s3a", "s3n"} and not session.conf.get(f"spark.delta.logStore.{scheme}.impl", ""):
        LOGGER.warning(
            "%s %s: of two jobs that write there at once one may lose a commit: run one at a time, or name a log store "
            "that keeps them apart in spark.delta.logStore.%s.impl (--conf-file)",
            *(SETTING, lake, scheme),
        )


def _unescaped(uri: str) -> str:
    """As Java's Hadoop takes it."""
    folder = folder_of(uri)
    return f"file:{folder}" if folder is not None else uri


def _why(error: Exception) -> str:
    """What Java said, in a line, and what to change."""
    java = getattr(error, "java_exception", None)
    told = redact(" ".join(str(java.toString() if java is not None else error).split()))[:300]
    if "No FileSystem for scheme" in told or "ClassNotFoundException" in told:
        return f"Spark knows no such file system ({told}): {JARS}; of Amazon's S3 the scheme is s3a"
    return f"Spark cannot write there ({told}); change it, or the Spark settings that lead there (--conf-file)"
