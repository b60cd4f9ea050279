"""Consumes a finished run's workspace, produces its tables, figures and report for notebooks. Reads only."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import DataError
from assay.runtime.deployment_tables import DEPLOYMENT_TABLES
from assay.runtime.monitoring_tables import MONITORING_TABLES
from assay.runtime.plane import Commit
from assay.runtime.tables import SEGMENT_METRICS, TABLES
from assay.runtime.training_tables import TRAINING_TABLES

if TYPE_CHECKING:
    import mlflow
    import pandas as pd
    import polars as pl
    from mlflow.entities import Run
    from pyspark.sql import SparkSession

RUNS_AT_ONCE = 1_000
DECLARED = TABLES | TRAINING_TABLES | MONITORING_TABLES | DEPLOYMENT_TABLES


class Workspace:
    """A workspace folder: `lake/<table>`, `mlflow.db`, `reports/`."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()
        if not (self.folder / "assay.json").is_file():
            raise DataError(f"{self.folder} is no workspace of assay: run a job with --workspace {self.folder} first")

    def tables(self) -> pl.DataFrame:
        """One row per table that exists.

        table; version; rows; files; bytes (of this version's files); written_by (the job) and written_at (by the clock,
        UTC) of the newest write; identity (hash of what that was made of); grain (what one row is); stage.
        """
        import polars as pl
        import pyarrow as pa
        from deltalake import DeltaTable

        found = []
        for table in DECLARED.values():
            if not (self.folder / "lake" / table.name / "_delta_log").is_dir():
                continue
            delta = DeltaTable(self.folder / "lake" / table.name)
            files = pa.table(delta.get_add_actions(flatten=True))
            rows, size = (sum(n or 0 for n in files.column(c).to_pylist()) for c in ("num_records", "size_bytes"))
            newest = delta.history(1)[0]
            commit = Commit.parse(newest.get("userMetadata"), delta.version())
            job, identity = (commit.job, commit.identity) if commit is not None else (None, None)
            at = dt.datetime.fromtimestamp(newest["timestamp"] / 1000, dt.timezone.utc)
            facts = (table.name, delta.version(), rows, files.num_rows, size, job, at, identity)
            found.append((*facts, table.grain, table.stage))
        names = ("table", "version", "rows", "files", "bytes", "written_by", "written_at", "identity", "grain", "stage")
        return pl.DataFrame(found, schema=names, orient="row")

    def made_from(self, identities: Sequence[str]) -> dict[str, list[str]]:
        """Identity -> tables at their versions, such as ``features@v3``, that its run in MLflow has read."""
        client = self._client()
        experiments = [e.experiment_id for e in client.search_experiments()]
        found = {}
        for identity in identities:
            runs = client.search_runs(experiments, f"tags.`assay.identity` = '{identity}'", max_results=1)
            found[identity] = sorted({i.dataset.name for run in runs for i in run.inputs.dataset_inputs})
        return found

    def columns(self, name: str) -> pl.DataFrame:
        """Columns of a table as it is: column, type, meaning (null of the data's own columns).

        Raises:
            DataError: there is no such table here.
        """
        import polars as pl
        from deltalake import DeltaTable

        fields = DeltaTable(self.folder_of(name)).schema().fields
        told = DECLARED[name].columns if name in DECLARED else {}
        rows = [(f.name, _type_of(f.type), told[f.name][1] if f.name in told else None) for f in fields]
        return pl.DataFrame(rows, schema={"column": pl.String, "type": pl.String, "meaning": pl.String}, orient="row")

    def folder_of(self, name: str) -> Path:
        """Folder of a table.

        Raises:
            DataError: there is no such table here.
        """
        folder = self.folder / "lake" / name
        if not (folder / "_delta_log").is_dir():
            known = ", ".join(self.tables()["table"].to_list())
            raise DataError(f"there is no table {name!r} in {self.folder}; it has {known}")
        return folder

    def table(self, name: str, *, version: int | None = None) -> pl.DataFrame:
        """A table, at its newest version or a named one.

        Raises:
            DataError: there is no such table here.
        """
        import polars as pl
        from deltalake import DeltaTable

        # Polars' own reader does not find folders with blanks in their names.
        frame = pl.from_arrow(DeltaTable(self.folder_of(name), version=version).to_pyarrow_table())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def segments(self, column: str, *, target: str | None = None) -> pl.DataFrame:
        """Figures of each segment of a column of `segment_metrics`, in the table's order.

        segment; rows; a column per metric (rmse, coverage_90, ...); where a metric has a band, its ends in metric_low
        and metric_high: of coverage_90 what chance allows, of coverage_90_confidence what the true one may be.
        column: of the data, or one such as `price band`, `month`, `compared with`; empty for all rows together.
        target: needed where several were evaluated.

        Raises:
            DataError: nothing was evaluated by that column, or for which target is not said.
        """
        import polars as pl

        table = self.table(SEGMENT_METRICS.name)
        targets = sorted(table["target"].unique())
        if (target is None and len(targets) > 1) or (target is not None and target not in targets):
            raise DataError(f"{self.folder}: segments of which target? target={target!r}; it has {', '.join(targets)}")
        own = table.filter(pl.col("segment_column") == column, pl.col("target") == (target or targets[0]))
        if own.is_empty():
            known = ", ".join(sorted(name for name in table["segment_column"].unique() if name))
            raise DataError(f"{self.folder}: nothing was evaluated by {column!r}, but by {known} (evaluation.segments)")
        ends = [own.select("segment", "metric", value="value")]
        for end in ("low", "high"):
            named = own.filter(pl.col(end).is_not_null()).with_columns(pl.col("metric") + f"_{end}")
            ends.append(named.select("segment", "metric", value=end))
        wide = pl.concat(ends).pivot(on="metric", index="segment", values="value")
        rows = own.group_by("segment", maintain_order=True).agg(pl.col("rows").max())
        return rows.join(wide, on="segment", maintain_order="left")

    def spark(self) -> SparkSession:
        """A Spark session like that of the jobs, or theirs where one runs: it reads `lake/<table>` as Delta."""
        from assay.runtime.session import SparkSettings, open_session

        return open_session(SparkSettings(), app="assay workspace", log_file=self.folder / "logs" / "spark.log")

    def runs(self, *, job: str | None = None) -> pd.DataFrame:
        """MLflow runs, newest first: run_id, job, status, started (UTC) and one column per figure.

        job: of this one alone, which is quicker where there are many.
        """
        import pandas as pd

        rows: list[dict[str, Any]] = [
            {
                "run_id": run.info.run_id,
                "job": run.data.tags.get("assay.job"),
                "status": run.data.tags.get("assay.status"),
                "started": pd.Timestamp(run.info.start_time, unit="ms"),
                **run.data.metrics,
            }
            for run in self._runs(f"tags.`assay.job` = '{job}'" if job is not None else "")
        ]
        columns = None if rows else ["run_id", "job", "status", "started"]
        return pd.DataFrame(rows, columns=columns).sort_values("started", ascending=False, ignore_index=True)

    def _runs(self, which: str) -> Iterator[Run]:
        """All runs that a filter of MLflow's lets through, page by page."""
        client, token = self._client(), None
        experiments = [e.experiment_id for e in client.search_experiments()]
        while True:
            page = client.search_runs(experiments, which, max_results=RUNS_AT_ONCE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _client(self) -> mlflow.MlflowClient:
        import mlflow

        return mlflow.MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")

    def reports(self) -> list[Path]:
        """HTML reports."""
        return sorted((self.folder / "reports").glob("*.html"))


def _type_of(kind: Any) -> str:
    """A type of Delta in a word: ``double``, ``array<string>``."""
    if kind.type == "array":
        return f"array<{_type_of(kind.element_type)}>"
    return str(kind.type)
