"""Consumes a daily panel of prices, compares ways from its table on disk to a table of what was known of each row.

Everybody makes the same 87 columns, float32, of each row of `observations` (row_id, entity, region, kind, time, price),
as the job build_features does with the data set below (whose lags begin with 2, because with the last value come
figures, such as its rank in the market, that only we have):

* the entity's history (40): ``lag_{k}``, its k-th last price strictly before the row's time, for 14 lags; ``age_days``
  since the last one; mean, std (n - 1), min, max and count of its prices in [time - d days, time) for 5 windows d;
* its market's history (27), the market being region and kind: ``lag_2`` (the mean of its last day but one),
  ``age_days``, and the same windows over all its prices;
* the entity's share in its market's prices over the longest window (1);
* ``level``, ``volume``, ``dispersion``: mean, number, and std over mean of the market's prices in the last month that
  was over at the row's time, as of that time (3);
* the calendar (16).

`assay`: the job, Delta to Delta. `assay_spark_road`: the same through Spark's reader and writer. `spark_windows`:
Spark's range windows, Delta to Delta, with the same partitions and file statistics. `spark_copy`: Spark reads the table
that `assay` wrote and writes it again, computing nothing. `polars`: Polars alone, Parquet to Parquet. `mlforecast`: the
entity's lags, means, stds, minima and maxima alone (34), on windows of rows, which are those of days because the panel
has no gaps. `assay_market`, `polars_market`, `duckdb_market`: the last month's figures alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._panel import COLUMNS, generate, import_ours, observations_table, output_folder
from benchmarks._panel_files import prepare_files, run_duckdb_market, run_mlforecast, run_polars, run_polars_market
from benchmarks._panel_spark import prepare_copy, prepare_spark, run_spark_copy, run_spark_windows
from benchmarks._session import open_warm, settings
from benchmarks.harness import Benchmark, Contender

if TYPE_CHECKING:
    import polars as pl

COMPARED_ROWS = 1_000_000


def prepare_ours(data: Path, contender: str, road: str, *flags: str) -> Any:
    """A workspace of its own with the observations in it, Spark started, the MLflow store open."""
    from assay.config import load_run
    from assay.runtime.job import JobContext
    from assay.runtime.progress import Reporter

    session = open_warm(import_ours)
    workspace = output_folder(data, contender)
    shutil.copytree(observations_table(data), workspace / "lake" / "observations", copy_function=os.link)
    config = load_run(dataset=data / "dataset.yml", workspace=workspace, overrides=[f"runtime.road={road}", *flags])
    context = JobContext(config, settings(), Reporter(quiet=True))
    assert context.spark() is session
    _ = context.tracking
    return context


def run_ours(context: Any) -> str:
    """The job, MLflow's record of it among what it does."""
    from assay.pipeline import JOBS

    result = JOBS["build_features"].run(context)
    context.close()
    return str(result.tables["features"].location)


def outputs(location: str) -> Mapping[str, float]:
    """Rows written."""
    import polars as pl

    return {"rows": float(pl.scan_parquet(_files(location), hive_partitioning=False).select(pl.len()).collect().item())}


def _files(location: str) -> list[str]:
    from deltalake import DeltaTable

    path = location.removeprefix("file://")
    return DeltaTable(path).file_uris() if Path(path).is_dir() else [path]


def differences(data: Path, names: Sequence[str]) -> dict[str, float]:
    """Per contender: the largest difference of any figure from ours on the same row id, relative to the larger one.

    A figure that one has and the other lacks is an infinite difference. Figures near 0 are compared with a thousandth
    of their column's usual size. All rows up to a million, of more a fixed sample of a million or less.
    """
    reference = next((n for n in ("assay", "polars", *names) if n in names), None)
    if reference is None:
        return {}
    ours = _sample(data, reference)
    found = {}
    for name in names:
        if name == reference or (name.endswith("_market") and reference not in {"assay", "polars", "spark_windows"}):
            continue
        theirs = _sample(data, name)
        shared = [c for c in COLUMNS if c in theirs.columns and c in ours.columns]
        if not shared or not ours["row_id"].equals(theirs["row_id"]):
            found[name] = float("inf")
            continue
        found[name] = max(_difference(ours[c].to_numpy(), theirs[c].to_numpy()) for c in shared)
    return found


def _sample(data: Path, contender: str) -> pl.DataFrame:
    import polars as pl

    folder = data / "runs" / contender
    table = next((p for p in (folder / "lake" / "features", folder / "features") if p.exists()), None)
    location = str(table or folder / "features.parquet")
    frame = pl.scan_parquet(_files(location), hive_partitioning=False)
    names = [c for c in COLUMNS if c in frame.collect_schema().names()]
    every = -(-int(data.name.rsplit("-", 1)[1]) // COMPARED_ROWS)
    chosen = frame.filter(pl.col("row_id") % every == 0) if every > 1 else frame
    return chosen.select("row_id", pl.col(names).cast(pl.Float32).fill_nan(None)).sort("row_id").collect()


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest relative difference of two columns, NaN being no figure."""
    if (np.isnan(ours) != np.isnan(theirs)).any():
        return float("inf")
    there = ~np.isnan(ours)
    one, other = ours[there].astype(np.float64), theirs[there].astype(np.float64)
    size = np.maximum(np.maximum(np.abs(one), np.abs(other)), 1e-3 * np.median(np.abs(one))) if len(one) else one
    return float(np.max(np.divide(np.abs(one - other), size, out=np.zeros_like(one), where=size > 0), initial=0.0))


NO_HISTORY = "training.enable_temporal_features=false"


def _files_contender(name: str, run: Any, *, against: str = "assay", needs: str | None = None) -> Contender:
    return Contender(lambda data: prepare_files(data, name), run, outputs, against=against, needs=needs)


BENCHMARK = Benchmark(
    name="features",
    rows=1_000_000,
    generate=generate,
    contenders={
        "assay": Contender(lambda d: prepare_ours(d, "assay", "arrow"), run_ours, outputs),
        "assay_spark_road": Contender(lambda d: prepare_ours(d, "assay_spark_road", "spark"), run_ours, outputs),
        "spark_windows": Contender(lambda d: prepare_spark(d, "spark_windows"), run_spark_windows, outputs),
        "spark_copy": Contender(lambda d: prepare_copy(d, "spark_copy"), run_spark_copy, outputs),
        "polars": _files_contender("polars", run_polars),
        "mlforecast": _files_contender("mlforecast", run_mlforecast, needs="mlforecast"),
        "assay_market": Contender(
            lambda d: prepare_ours(d, "assay_market", "arrow", NO_HISTORY), run_ours, outputs, against="assay_market"
        ),
        "polars_market": _files_contender("polars_market", run_polars_market, against="assay_market"),
        "duckdb_market": _files_contender("duckdb_market", run_duckdb_market, against="assay_market", needs="duckdb"),
    },
    differences=differences,
    tolerance=1e-4,
)
