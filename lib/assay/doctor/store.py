"""Consumes the address of an MLflow store, produces findings: can it be reached, is it current, can runs be listed."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from assay.config import RunConfig
from assay.doctor.findings import Finding, fail, ok, refused, warn
from assay.errors import PreflightError
from assay.runtime import preflight
from assay.runtime.environment import variable
from assay.runtime.mlflow_client import client_of
from assay.runtime.tracking import tracking_uri

CHECK = "MLflow"
REACH_SECONDS = 5
OF_ANOTHER = ("out-of-date database schema", "Can't locate revision")  # the second of MLflow 3.8, whose store is newer
ANOTHER = "name another store with --set runtime.tracking_uri=..."


def store(config: RunConfig, master: str) -> list[Finding]:
    """The store of a configuration, for a driver of this master. A SQLite store that is not there yet is not made."""
    try:
        preflight.check_tracking(config, master)
    except PreflightError as error:
        return [refused(CHECK, error, "--set runtime.tracking_uri=http://HOST:PORT")]
    return [of_uri(tracking_uri(config))]


def of_uri(uri: str) -> Finding:
    """A store by its address."""
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        if not path.exists():
            return ok(CHECK, f"{path} is not there yet; the first job makes it")
        trouble = locked_or_broken(path)
        if trouble is not None:
            return trouble
    elif uri.startswith(("http://", "https://")):
        trouble = unreachable(uri)
        if trouble is not None:
            return trouble
    return listed(uri)


def locked_or_broken(path: Path) -> Finding | None:
    """Whether a SQLite store can be written, now; None where it can."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=2)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.rollback()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return warn(CHECK, f"{path}: another process is writing to it ({error})", "wait for the other job to end")
        return fail(CHECK, f"{path}: cannot be written ({error})", "give yourself the right to write there")
    except sqlite3.DatabaseError as error:
        return fail(CHECK, f"{path}: is no SQLite database ({error})", f"put a backup in its place, or {ANOTHER}")
    return None


def unreachable(uri: str) -> Finding | None:
    """Whether a server answers at all, asked once; None where it does. MLflow itself would try for minutes."""
    import requests

    try:
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=REACH_SECONDS)
    except requests.RequestException as error:
        return fail(CHECK, f"{uri}: cannot be reached ({_reason(error)})", f"start the server there, or {ANOTHER}")
    if answer.status_code >= 500:
        return fail(CHECK, f"{uri}: answers with status {answer.status_code}", "look at the server's log")
    return None


def listed(uri: str) -> Finding:
    """Whether MLflow opens the store, which it does only with its own schema, and lists a run of it."""
    from assay.runtime.logs import set_up_logging
    from assay.runtime.session import import_spark

    with _briefly():
        import_spark()
        import mlflow

        set_up_logging()  # MLflow's import brings handlers of its own
        try:
            client = client_of(uri)
            experiments = [one.experiment_id for one in client.search_experiments()]
            runs = client.search_runs(experiments, max_results=1) if experiments else []
        except Exception as error:
            return refusal(uri, error)
    newest = f"the newest run is {runs[0].info.run_id[:8]}" if runs else "no runs yet"
    return ok(CHECK, f"{uri}: {len(experiments)} experiment(s), {newest}; MLflow {mlflow.__version__}")


def refusal(uri: str, error: Exception) -> Finding:
    """What MLflow says of a store that it does not open."""
    if any(words in str(error) for words in OF_ANOTHER):
        return fail(
            CHECK,
            f"{uri}: was made by another version of MLflow ({_reason(error)})",
            "make a backup, then `mlflow db upgrade` with its address; or, if the store is newer, install its MLflow",
        )
    return fail(CHECK, f"{uri}: cannot be used ({_reason(error)})", f"look at the server's log, or {ANOTHER}")


@contextlib.contextmanager
def _briefly() -> Iterator[None]:
    """MLflow asks a server that fails seven times, for up to two minutes each."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with variable("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"), variable("MLFLOW_HTTP_REQUEST_TIMEOUT", "20"):
        yield


def _reason(error: Exception) -> str:
    """The part of an error's first line that says why."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return first.rpartition("Caused by ")[2][:200]
