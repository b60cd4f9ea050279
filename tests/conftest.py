"""What all tests share: one Spark session, ready MLflow stores, real data, and jobs run in this process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from assay.config import RunConfig, load_run
from assay.pipeline import JOBS
from assay.runtime.job import JobContext, Result
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings, open_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = Path(os.environ.get("ASSAY_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the public data sets; tests that need it skip where it is absent."""
    if not (REAL_DATA / "kc_house.parquet").is_file():
        pytest.skip(f"the public data sets are not in {REAL_DATA}; set ASSAY_TEST_DATA")
    return REAL_DATA


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one local session of the whole test run."""
    log = tmp_path_factory.mktemp("spark") / "spark.log"
    session = open_session(SparkSettings(master="local[2]"), app="assay tests", log_file=log)
    yield session
    session.stop()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated MLflow database without runs: copying it takes milliseconds, making it takes seconds."""
    import mlflow

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workspace(tmp_path: Path, empty_store: Path) -> Path:
    """An empty workspace with a ready MLflow store."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


RunJob = Callable[..., Result]


@pytest.fixture
def run_job(spark: SparkSession, workspace: Path) -> RunJob:
    """Run a job in this process, on the shared session: run_job("ingest", dataset_tree_or_path, overrides=[...])."""

    def run(name: str, dataset: dict[str, Any] | Path, *, folder: Path | None = None, **options: Any) -> Result:
        target = folder or workspace
        target.mkdir(parents=True, exist_ok=True)
        if isinstance(dataset, dict):
            path = target / "dataset.yml"
            path.write_text(yaml.safe_dump(dataset, allow_unicode=True), encoding="utf-8")
            dataset = path
        config: RunConfig = load_run(dataset=dataset, workspace=target, **options)
        context = JobContext(config, SparkSettings(), Reporter(quiet=True))
        try:
            return JOBS[name].run(context)
        finally:
            context.close()

    return run
