"""Produces the panel of `benchmark features`, ingested, and names the columns that every contender makes of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

LAGS = (2, 3, 4, 5, 6, 7, 8, 14, 21, 28, 30, 56, 60, 90)
WINDOWS = (3, 7, 14, 30, 90)
STATISTICS = ("mean", "std", "min", "max", "count")
MARKET = ("region", "kind")
ENTITY = "entity"
OWN, GROUP, CALENDAR = "price__own__", "price__region+kind__", "calendar__"
ENTITY_COLUMNS = [
    *(f"{OWN}lag_{k}" for k in LAGS),
    f"{OWN}age_days",
    *(f"{OWN}{s}_{d}d" for d in WINDOWS for s in STATISTICS),
]
GROUP_COLUMNS = [
    f"{GROUP}lag_{LAGS[0]}",
    f"{GROUP}age_days",
    *(f"{GROUP}{s}_{d}d" for d in WINDOWS for s in STATISTICS),
]
MARKET_COLUMNS = [f"{GROUP}market_{name}" for name in ("level", "volume", "dispersion")]
CALENDAR_COLUMNS = [
    CALENDAR + name
    for name in (
        *("year", "quarter", "month_of_year", "week_of_year", "day_of_year", "day_of_month", "day_of_week"),
        *("is_weekend", "is_month_start", "is_month_end", "days_in_month", "epoch_days"),
        *("year_sin", "year_cos", "week_sin", "week_cos"),
    )
]
SHARE = f"{GROUP}share_{max(WINDOWS)}d"
SHARE_PARTS = [f"{whose}{s}_{max(WINDOWS)}d" for whose in (OWN, GROUP) for s in ("mean", "count")]
COLUMNS = [*ENTITY_COLUMNS, *GROUP_COLUMNS, *MARKET_COLUMNS, SHARE, *CALENDAR_COLUMNS]
OFF = ("halflives_days", "expanding", "trend_days", "seasonality_days", "beta_days")
DATASET: dict[str, Any] = {
    "name": "benchmark_features",
    "source": {"path": "market"},
    "time": {"column": "observed_at"},
    "entity": [ENTITY],
    "targets": [{"name": "price"}],
    "groups": [list(MARKET)],
    "features": {
        "lags": list(LAGS),
        "windows_days": list(WINDOWS),
        "statistics": list(STATISTICS),
        "market_standing": ["share"],
        "market_momentum_months": [],
        "market_trend_months": [],
        **{name: [] for name in OFF},
    },
}


def generate(folder: Path, rows: int) -> None:
    """A synthetic market of 500 daily prices per entity, as ingest leaves it; seed 7."""
    import yaml

    from assay.synthetic.config import market_config
    from assay.synthetic.files import SOURCE, TRUTH, blocks_of, write_block

    config = market_config({"rows": rows, "missing": 0.0, "seed": 7})
    for name in (SOURCE, TRUTH):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for block in blocks_of(config):
        write_block(config, folder, *block)
    (folder / "dataset.yml").write_text(yaml.safe_dump(DATASET), encoding="utf-8")
    told = ["ingest", "--dataset", str(folder / "dataset.yml"), "--workspace", str(folder / "prepared")]
    code = "import sys; from assay.cli import main; main(sys.argv[1:])"
    subprocess.run([sys.executable, "-c", code, *told], check=True, stdout=subprocess.DEVNULL)


def observations_table(data: Path) -> Path:
    """The Delta table that contenders start from."""
    return data / "prepared" / "lake" / "observations"


def observations(data: Path) -> list[str]:
    """The Parquet files of the table."""
    return sorted(str(p) for p in observations_table(data).rglob("*.parquet"))


def output_folder(data: Path, contender: str) -> Path:
    """An empty folder for what a contender writes."""
    folder = data / "runs" / contender
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def import_ours(_: int) -> str:
    """What our kernels import."""
    import deltalake  # noqa: F401
    import polars

    from assay.features import kernel
    from assay.runtime import arrow_plane

    return f"{polars.__version__} {kernel.__name__} {arrow_plane.__name__}"
