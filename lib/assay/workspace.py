"""Consumes a finished run's workspace, produces its tables, figures and report for notebooks. Reads only."""

from __future__ import annotations

import datetime as dt
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay import shown
from assay.errors import DataError
from assay.model.registry import load_registered, registered_models
from assay.model.versions import CHAMPION, pick, versions_of
from assay.pages.cards import Card
from assay.runtime.deployment_tables import DEPLOYMENT_TABLES
from assay.runtime.lake import dataset_on_record, lake_on_record, store_on_record
from assay.runtime.mlflow_client import client_of
from assay.runtime.monitoring_tables import MONITORING_TABLES
from assay.runtime.session import SparkSettings, open_session
from assay.runtime.snapshots import Snapshots, snapshots_at
from assay.runtime.tables import SEGMENT_METRICS, TABLES
from assay.runtime.training_tables import TRAINING_TABLES

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from mlflow.entities import Run as MlflowRun
    from pyspark.sql import DataFrame, SparkSession

    from assay.shown import Model, Report, Run

RUNS_AT_ONCE = 1_000
DECLARED = TABLES | TRAINING_TABLES | MONITORING_TABLES | DEPLOYMENT_TABLES


class Workspace:
    """A workspace folder: `mlflow.db`, `reports/`, and `lake/<table>` unless `runtime.lake` was another place."""

    def __init__(self, folder: str | Path, settings: SparkSettings | None = None) -> None:
        """settings: of the Spark that reads tables which are no files of this machine."""
        self.folder = Path(folder).absolute()
        self.settings = settings or SparkSettings()
        if not (self.folder / "assay.json").is_file():
            raise DataError(f"{self.folder} is no workspace of assay: run a job with --workspace {self.folder} first")

    def tables(self) -> pl.DataFrame:
        """One row per table that exists.

        table; version; rows; files; bytes (of this version's files); written_by (the job) and written_at (by the clock,
        UTC) of the newest write; identity (hash of what that was made of); grain (what one row is); stage.
        """
        import polars as pl

        found = []
        for table in DECLARED.values():
            if not self._stored.there(table.name):
                continue
            now = self._stored.facts(table.name)
            job, identity = (now.commit.job, now.commit.identity) if now.commit is not None else (None, None)
            facts = (table.name, now.version, now.rows, now.files, now.size, job, now.at, identity)
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

        fields = self._found(name).columns(name)
        told = DECLARED[name].columns if name in DECLARED else {}
        rows = [(column, kind, told[column][1] if column in told else None) for column, kind in fields]
        return pl.DataFrame(rows, schema={"column": pl.String, "type": pl.String, "meaning": pl.String}, orient="row")

    @cached_property
    def lake(self) -> str:
        """URI of the folder of tables."""
        return lake_on_record(self.folder)

    @cached_property
    def _stored(self) -> Snapshots:
        return snapshots_at(self.lake, self.spark)

    def _found(self, name: str) -> Snapshots:
        if not self._stored.there(name):
            known = ", ".join(self.tables()["table"].to_list())
            raise DataError(f"there is no table {name!r} in {self.folder}; it has {known}")
        return self._stored

    def table(self, name: str, *, version: int | None = None) -> pl.DataFrame:
        """A table, at its newest version or a named one, as a frame of Polars.

        Raises:
            DataError: there is no such table here.
        """
        import polars as pl

        frame = pl.from_arrow(self.arrow(name, version=version))
        assert isinstance(frame, pl.DataFrame)
        return frame

    def pandas(self, name: str, *, version: int | None = None) -> pd.DataFrame:
        """The same as a frame of pandas, and the same error."""
        frame: pd.DataFrame = self.arrow(name, version=version).to_pandas()
        return frame

    def arrow(self, name: str, *, version: int | None = None) -> pa.Table:
        """The same as a table of Arrow, and the same error."""
        return self._found(name).rows(name, version)

    def spark_table(self, name: str, *, version: int | None = None) -> DataFrame:
        """The same as a frame of Spark, which reads it when it is used; the session is that of `spark`."""
        self._found(name)
        reader = self.spark().read.format("delta")
        found = reader if version is None else reader.option("versionAsOf", version)
        return found.load(f"{self.lake.rstrip('/')}/{name}")

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
        return open_session(self.settings, app="assay workspace", log_file=self.folder / "logs" / "spark.log")

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

    def run(self, which: str) -> Run:
        """The newest run of a job, or the run with an id or the beginning of one.

        Raises:
            DataError: there is none.
        """
        of_job = next(self._runs(f"tags.`assay.job` = '{which}'"), None) if which.isidentifier() else None
        found = of_job or next((run for run in self._runs("") if run.info.run_id.startswith(which)), None)
        if found is None or not which:
            raise DataError(f"{self.folder} has no run of a job {which!r}, and none with that id; see .runs()")
        tags, info = found.data.tags, found.info
        ended = None if info.end_time is None else (info.end_time - info.start_time) / 1000
        status = tags.get("assay.status", "")
        return shown.Run(
            run_id=info.run_id,
            job=tags.get("assay.job", "?"),
            status="failed" if info.status in {"FAILED", "KILLED"} else status,
            started=dt.datetime.fromtimestamp(info.start_time / 1000, dt.timezone.utc),
            seconds=ended,
            metrics=found.data.metrics,
            summary=json.loads(tags.get("assay.summary", "[]")),
            target=tags.get("assay.target", ""),
            report=self._own(tags.get("assay.report")),
        )

    def _own(self, report: str | None) -> str | None:
        """Where a report is now, should the workspace have been moved since it was written."""
        here = self.folder / "reports" / Path(report).name if report else None
        return str(here) if here is not None and here.is_file() else report

    def model(self, target: str | None = None, *, which: str = CHAMPION) -> Model:
        """The champion of a target, or another version by its number or alias; every file of it is checked.

        target: needed where there are models of several.

        Raises:
            DataError: there is no such model, or more than one and `target` does not say which.
            AssayError: a file of it was changed.
        """
        client, uri = self._client(), store_on_record(self.folder)
        names = {of: name for name, of in registered_models(uri, dataset_on_record(self.folder)).items()}
        of = next(iter(names)) if target is None and len(names) == 1 else target
        if of not in names:
            known = ", ".join(sorted(names)) or "none"
            raise DataError(f"{self.folder}: which target's model? target={target!r}; there are those of {known}")
        found = load_registered(f"models:/{names[of]}@{which}", uri)
        version = pick(versions_of(client, names[of]), found.number)
        assert version is not None
        return shown.Model(of, version, found)

    def report(self, name: str = "") -> Report:
        """A report by its name or a part of that, or the newest one.

        Raises:
            DataError: there is none; says which there are.
        """
        known = sorted(self.reports(), key=lambda path: path.stat().st_mtime)
        fits = [path for path in known if name in path.stem]
        if not fits:
            listed = ", ".join(path.stem for path in known) or "none yet: run the job evaluate"
            raise DataError(f"{self.folder} has no report {name!r}; it has {listed}")
        return shown.Report(fits[-1])

    def card(self) -> Card:
        """What is in here."""
        found = self.tables()
        facts = [(row["table"], f"{row['rows']:,} rows, version {row['version']}") for row in found.to_dicts()]
        reports = ", ".join(path.stem for path in self.reports())
        return Card("workspace", self.folder.name, facts=[*facts, *([("reports", reports)] if reports else [])])

    def __repr__(self) -> str:
        return f"Workspace({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        return self.card().html()

    def _runs(self, which: str) -> Iterator[MlflowRun]:
        """All runs that a filter of MLflow's lets through, page by page."""
        client, token = self._client(), None
        experiments = [e.experiment_id for e in client.search_experiments()]
        while True:
            page = client.search_runs(experiments, which, max_results=RUNS_AT_ONCE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _client(self) -> Any:
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        return client_of(store_on_record(self.folder))

    def artifact(self, run_id: str, path: str) -> Any:
        """A file that a run left in MLflow: JSON as plain data, anything else as text. run_id: of `runs`.

        Raises:
            DataError: the run has no such file.
        """
        import mlflow

        client = self._client()
        with tempfile.TemporaryDirectory(prefix="assay-artifact-") as scratch:
            try:
                found = mlflow.artifacts.download_artifacts(
                    run_id=run_id, artifact_path=path, dst_path=scratch, tracking_uri=store_on_record(self.folder)
                )
            except mlflow.MlflowException as error:
                known = ", ".join(one.path for one in client.list_artifacts(run_id))
                raise DataError(f"run {run_id} has no file {path!r}; it has {known or 'none'}") from error
            text = Path(found).read_text(encoding="utf-8")
        return json.loads(text) if path.endswith(".json") else text

    def reports(self) -> list[Path]:
        """HTML reports."""
        return sorted((self.folder / "reports").glob("*.html"))
