"""Consumes a finished run's workspace, produces its tables, figures and report for notebooks. Reads only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import DataError
from assay.runtime.tables import TABLES

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class Workspace:
    """A workspace folder: `lake/<table>`, `mlflow.db`, `reports/`."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()
        if not (self.folder / "assay.json").is_file():
            raise DataError(f"{self.folder} is no workspace of assay: run a job with --workspace {self.folder} first")

    def tables(self) -> pl.DataFrame:
        """One row per table that exists: name, version, rows, what one row is, and the stage that writes it."""
        import polars as pl
        import pyarrow as pa
        from deltalake import DeltaTable

        found = []
        for table in TABLES.values():
            if not (self.folder / "lake" / table.name / "_delta_log").is_dir():
                continue
            delta = DeltaTable(self.folder / "lake" / table.name)
            rows = sum(n or 0 for n in pa.table(delta.get_add_actions(flatten=True)).column("num_records").to_pylist())
            found.append((table.name, delta.version(), rows, table.grain, table.stage))
        return pl.DataFrame(found, schema=["table", "version", "rows", "grain", "stage"], orient="row")

    def table(self, name: str, *, version: int | None = None) -> pl.DataFrame:
        """A table, at its newest version or a named one.

        Raises:
            DataError: there is no such table here.
        """
        import polars as pl
        from deltalake import DeltaTable

        folder = self.folder / "lake" / name
        if not (folder / "_delta_log").is_dir():
            known = ", ".join(self.tables()["table"].to_list())
            raise DataError(f"there is no table {name!r} in {self.folder}; it has {known}")
        # Polars' own reader does not find folders with blanks in their names.
        frame = pl.from_arrow(DeltaTable(folder, version=version).to_pyarrow_table())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def runs(self) -> pd.DataFrame:
        """MLflow runs, newest first: run_id, job, status and one column per figure."""
        import mlflow
        import pandas as pd

        client = mlflow.MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        experiments = [e.experiment_id for e in client.search_experiments()]
        rows: list[dict[str, Any]] = [
            {
                "run_id": run.info.run_id,
                "job": run.data.tags.get("assay.job"),
                "status": run.data.tags.get("assay.status"),
                "started": pd.Timestamp(run.info.start_time, unit="ms"),
                **run.data.metrics,
            }
            for run in client.search_runs(experiments)
        ]
        return pd.DataFrame(rows).sort_values("started", ascending=False, ignore_index=True)

    def reports(self) -> list[Path]:
        """HTML reports."""
        return sorted((self.folder / "reports").glob("*.html"))
