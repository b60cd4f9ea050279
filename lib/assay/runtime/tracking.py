"""Consumes what a job did, produces its MLflow record: resolved config, input versions, figures, files, models."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.config import RunConfig
from assay.errors import PreflightError
from assay.runtime.logs import redact, redact_tree
from assay.runtime.mlflow_client import client_of, experiment_of, is_databricks, registry_of
from assay.version import __version__

PARAM_CHARACTERS = 500
PARAMS_AT_ONCE = 100  # that an MLflow server takes
PROCESS = "assay.process"
MADE_MEANWHILE = "RESOURCE_ALREADY_EXISTS"  # what MLflow says to the second of two that make something at once
REMOVED = "removed"  # status of a finished run whose models are gone: it is not on record for one that asks for them


@dataclass(frozen=True)
class PastRun:
    """A finished run found again by its identity."""

    run_id: str
    status: str
    metrics: dict[str, float]
    tags: dict[str, str]


class Tracking:
    """One MLflow experiment. The URI is always explicit: a stray folder must not redirect it."""

    def __init__(self, config: RunConfig) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # jobs show their own progress
        import mlflow

        from assay.runtime.logs import set_up_logging

        self.config = config
        self.uri = tracking_uri(config)
        self.registry_uri = registry_of(config.profile.runtime, self.uri)
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.registry_uri)
        set_up_logging()  # MLflow's import brings handlers of its own
        make_store(self.uri)
        self.mlflow = mlflow
        self.client = client_of(self.uri, self.registry_uri)
        self.experiment_id = self._experiment(experiment_of(config))

    def _experiment(self, name: str) -> str:
        """Id of the experiment, made where there is none. Of jobs that do so at once all but the first find it made."""
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            location = (self.config.workspace / "mlartifacts").as_uri() if self.uri.startswith("sqlite") else None
            try:
                return _created(self.client, name, location, self.uri)
            except self.mlflow.MlflowException as error:
                if error.error_code != MADE_MEANWHILE:
                    raise
            experiment = self.client.get_experiment_by_name(name)
        return str(experiment.experiment_id)

    def finished(self, job: str, identity: str) -> PastRun | None:
        """The newest finished run of this job with this identity, unless what it left was removed."""
        found = self.client.search_runs(
            [self.experiment_id],
            filter_string=f"tags.`assay.job` = '{job}' and tags.`assay.identity` = '{identity}' "
            f"and tags.`assay.status` != 'running' and tags.`assay.status` != '{REMOVED}' "
            "and attributes.status = 'FINISHED'",
            max_results=1,
        )
        if not found:
            return None
        run = found[0]
        return PastRun(run.info.run_id, run.data.tags["assay.status"], dict(run.data.metrics), dict(run.data.tags))

    @contextlib.contextmanager
    def run(self, job: str, identity: str) -> Iterator[str]:
        """A run, nested below the one that is open. Runs whose process died are marked as killed."""
        for open_run in self.client.search_runs([self.experiment_id], "attributes.status = 'RUNNING'"):
            if _is_dead(open_run.data.tags, identity):
                self.client.set_terminated(open_run.info.run_id, "KILLED")
        tags = {
            PROCESS: this_process(),
            "assay.job": job,
            "assay.identity": identity,
            "assay.status": "running",
            "assay.version": __version__,
            "assay.config_hash": self.config.hash_of(),
            "assay.dataset": self.config.dataset.name,
            "assay.profile": self.config.profile_name,
            **git_tags(),
        }
        nested = self.mlflow.active_run() is not None
        with self.mlflow.start_run(
            experiment_id=self.experiment_id, run_name=job, nested=nested, tags=tags, log_system_metrics=False
        ) as run:
            self._log_config()
            yield run.info.run_id

    def finish(self, status: str) -> None:
        """Say how the open run ended: `done` or `refused`. Without it the run does not count as finished."""
        self.mlflow.set_tag("assay.status", status)

    def _log_config(self) -> None:
        resolved = redact_tree(self.config.resolved())
        flat = [(k, v) for k, v in _flatten(resolved) if len(v) <= PARAM_CHARACTERS]
        for start in range(0, len(flat), PARAMS_AT_ONCE):
            self.mlflow.log_params(dict(flat[start : start + PARAMS_AT_ONCE]))
        self.mlflow.log_dict(resolved, "config.json")

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log finite figures; MLflow's SQL stores know no infinity."""
        import math

        self.mlflow.log_metrics({_key(k): float(v) for k, v in values.items() if math.isfinite(v)}, step=step)

    def rounds(self, history: Mapping[str, list[float]]) -> None:
        """Log a training's figures per round, in few calls."""
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [
            Metric(name, float(v), now, step) for name, values in history.items() for step, v in enumerate(values)
        ]
        run = self.mlflow.active_run()
        for start in range(0, len(entries), 1000):
            self.client.log_batch(run.info.run_id, metrics=entries[start : start + 1000])

    def tags(self, values: Mapping[str, str]) -> None:
        """Tag the open run."""
        self.mlflow.set_tags(dict(values))

    def input_table(self, name: str, location: str, version: int) -> None:
        """Log a Delta table at a version as an input of the open run."""
        from mlflow.data.delta_dataset_source import DeltaDatasetSource
        from mlflow.data.meta_dataset import MetaDataset

        source = DeltaDatasetSource(path=location, delta_table_version=version)
        dataset = MetaDataset(source=source, name=f"{name}@v{version}")
        for again in (True, True, False):
            try:
                self.mlflow.log_input(dataset, context="input")
            except self.mlflow.MlflowException as error:
                # MLflow looks whether it knows the table, then adds it: another job may have done so in between.
                if not again or not re.search("unique|duplicate", str(error), re.IGNORECASE):
                    raise
            else:
                return

    def json(self, value: Any, path: str) -> None:
        """Log plain data as a JSON artifact."""
        self.mlflow.log_dict(redact_tree(value), path)

    def of_run(self, run_id: str, value: Any, path: str) -> None:
        """Log plain data as a JSON artifact of another run than the open one."""
        self.client.log_dict(run_id, redact_tree(value), path)

    def text(self, value: str, path: str) -> None:
        """Log a text artifact (HTML too)."""
        self.mlflow.log_text(value, path)

    def folder(self, source: Path, path: str) -> None:
        """Log a folder of files."""
        self.mlflow.log_artifacts(str(source), path)

    @contextlib.contextmanager
    def download(self, run_id: str, path: str) -> Iterator[Path]:
        """A local copy of a run's artifact folder, while the block lasts."""
        with tempfile.TemporaryDirectory(prefix="assay-artifacts-") as folder:
            local = self.mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=path, dst_path=folder, tracking_uri=self.uri
            )
            yield Path(local)

    def ui_command(self) -> str:
        """The command that opens MLflow on this store; on Databricks the path of the experiment in the workspace."""
        if is_databricks(self.uri):
            return f"experiment {experiment_of(self.config)}"
        program = Path(sys.executable).with_name("mlflow")
        command = os.path.relpath(program) if program.is_file() else shutil.which("mlflow") or "mlflow"
        return f"{shlex.quote(command)} ui --backend-store-uri {shlex.quote(redact(self.uri))}"


def _created(client: Any, name: str, location: str | None, uri: str) -> str:
    """A new experiment.

    Raises:
        PreflightError: on Databricks, where its folder is not there or nobody may write to it.
    """
    from mlflow import MlflowException

    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException as error:
        if not is_databricks(uri) or error.error_code == MADE_MEANWHILE:
            raise
        raise PreflightError(
            f"experiment {name} cannot be made: {str(error).splitlines()[0]}; `databricks workspace mkdirs "
            f"{name.rpartition('/')[0]}` makes its folder, and runtime.experiment_folder names another one"
        ) from None


def tracking_uri(config: RunConfig) -> str:
    """The configured MLflow store, or SQLite in the workspace."""
    configured = config.profile.runtime.tracking_uri
    return configured or f"sqlite:///{config.workspace / 'mlflow.db'}"


def make_store(uri: str) -> None:
    """Make a SQLite store that is not there yet, all at once: one that was killed half way through could not be opened.

    Two processes may do so at the same time; the first one's store stays.
    """
    import psutil

    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or path.exists():
        return
    for old in path.parent.glob(f"{path.name}.*.part*"):
        pid = old.name.removeprefix(f"{path.name}.").partition(".")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            old.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    client_of(f"sqlite:///{part}").search_experiments(max_results=1)
    try:
        os.link(part, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        part.replace(path)
    part.unlink(missing_ok=True)


def this_process() -> str:
    """Host, number and start of this process: a number alone is used again."""
    import psutil

    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def _is_dead(tags: Mapping[str, str], identity: str) -> bool:
    """Whether the process of an open run is gone. On other hosts nobody can see: one that is repeated here is."""
    import psutil

    host, _, rest = tags.get(PROCESS, "").partition(":")
    pid, _, started = rest.partition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return tags.get("assay.identity") == identity
    try:
        return f"{psutil.Process(int(pid)).create_time():.0f}" != started
    except psutil.Error:
        return True


@functools.cache
def git_tags() -> dict[str, str]:
    """The code's git revision, where it runs from a checkout; a `.venv` inside somebody's own checkout is none."""
    file = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=file.parent, capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        revision, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"mlflow.source.git.commit": revision, "assay.git_dirty": "true" if changed else "false"}


def _key(name: str) -> str:
    """A name as MLflow takes it for parameters and metrics."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        name = _key(f"{prefix}{key}")
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{name}.")
        else:
            yield name, value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
