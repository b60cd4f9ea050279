"""What all tests share: a Spark session per process, ready MLflow stores, real data, and jobs run in this process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import settings

from assay import pipeline
from assay.runtime.job import Result
from assay.runtime.mlflow_client import client_of
from assay.runtime.session import SparkSettings, open_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# The same examples in every run: a test that fails does so for everybody, and not because the machine was busy.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

# No Java lives for long here: of a driver's first 28 s of CPU, its second compiler took 12. Spark's launcher, drivers,
# and masters and workers of clusters read these; processes that tests start inherit them.
for _name in ("SPARK_LAUNCHER_OPTS", "SPARK_SUBMIT_OPTS", "SPARK_DAEMON_JAVA_OPTS"):
    os.environ.setdefault(_name, "-XX:TieredStopAtLevel=1")

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = Path(os.environ.get("ASSAY_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deal tests to processes (`-n 2`): one starts jobs, clusters and a season, the other has the Spark session.

    Both begin at once, in order of folders, file by file. Whichever has nothing left takes the next file; so both end
    with a session of their own, which costs seconds, where all files in one kept the other waiting for minutes.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            folder = Path(file).parts[1]
            return "processes" if folder in {"cluster", "e2e"} else file

    return ByFolder(config, log)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the public data sets; tests that need it skip where it is absent."""
    if not (REAL_DATA / "kc_house.parquet").is_file():
        pytest.skip(f"the public data sets are not in {REAL_DATA}; set ASSAY_TEST_DATA")
    return REAL_DATA


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one local session of this process."""
    log = tmp_path_factory.mktemp("spark") / "spark.log"
    session = open_session(SparkSettings(master="local[2]"), app="assay tests", log_file=log)
    yield session
    session.stop()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated MLflow database without runs: copying it takes milliseconds, making it takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client_of(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workspace(tmp_path: Path, empty_store: Path) -> Path:
    """An empty workspace with a ready MLflow store."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


RunJob = Callable[..., Result]


@pytest.fixture(scope="session")
def run_in(spark: SparkSession, empty_store: Path) -> RunJob:
    """Run a job in this process, on the shared session: run_in(folder, "ingest", dataset_tree_or_path, date=...)."""

    def run(folder: Path, name: str, dataset: dict[str, Any] | Path, **options: Any) -> Result:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "mlflow.db").exists():
            shutil.copy(empty_store, folder / "mlflow.db")
        if isinstance(dataset, dict):
            path = folder / "dataset.yml"
            path.write_text(yaml.safe_dump(dataset, allow_unicode=True), encoding="utf-8")
            dataset = path
        return pipeline.run_job(name, dataset=dataset, workspace=folder, **options)

    return run


@pytest.fixture
def run_job(run_in: RunJob, workspace: Path) -> RunJob:
    """The same, in the test's own workspace unless `folder` says otherwise: run_job("ingest", dataset_tree_or_path)."""

    def run(name: str, dataset: dict[str, Any] | Path, *, folder: Path | None = None, **options: Any) -> Result:
        return run_in(folder or workspace, name, dataset, **options)

    return run


@pytest.fixture(scope="session")
def towns() -> Callable[..., dict[str, Any]]:
    """Write an invented panel of monthly prices as CSV and return its dataset tree: towns(folder, towns=6, months=96).

    Prices follow a random walk per town, with seasons; the last month's prices are not known yet.
    """
    import numpy as np
    import pandas as pd

    def write(folder: Path, *, towns: int = 6, months: int = 96, seed: int = 11) -> dict[str, Any]:
        random = np.random.default_rng(seed)
        dates = pd.date_range("2005-01-01", periods=months, freq="MS")
        parts = []
        for number in range(towns):
            walk = np.cumsum(random.normal(0.002, 0.01, months)) + 0.2 * np.sin(2 * np.pi * np.arange(months) / 12)
            prices = 1000 * (1 + number) * np.exp(walk)
            prices[-1] = np.nan
            part = {"city": f"town {number}", "kind": "big" if number % 2 else "small", "day": dates.strftime("%F")}
            parts.append(pd.DataFrame({**part, "price": prices.round(2), "stock": random.integers(0, 90, months)}))
        folder.mkdir(parents=True, exist_ok=True)
        pd.concat(parts).to_csv(folder / "towns.csv", index=False)
        return {
            "name": "towns",
            "source": {"path": str(folder / "towns.csv")},
            "time": {"column": "day"},
            "entity": ["city"],
            "targets": [{"name": "price", "transform": "log", "relative_to": "last_value"}],
            "columns": {"categorical": ["city", "kind"], "outcomes": ["stock"]},
            "groups": [[], ["kind"]],
            "segments": ["kind"],
            "features": {"lags": [1, 2, 12], "windows_days": [95, 370]},
        }

    return write
