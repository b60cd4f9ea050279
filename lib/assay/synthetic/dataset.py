"""Consumes a market, produces its dataset YAML and the record of what was planted in it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

from assay.synthetic.config import MarketConfig
from assay.synthetic.faults import RULES, TIME, Faults
from assay.synthetic.files import LEAKS, MISSING, NUMERIC, SOURCE, TRUTH, Block, attribute_names
from assay.synthetic.layout import Layout
from assay.synthetic.process import PHI, Market

# Windows hold several times, and the last one a year where that is not too many for a test.
HISTORY: dict[str, dict[str, list[int]]] = {
    "hourly": {"lags": [1, 24, 168], "windows_days": [1, 7, 30]},
    "daily": {"lags": [1, 7, 30], "windows_days": [7, 30, 90]},
    "weekly": {"lags": [1, 4, 52], "windows_days": [29, 92, 365]},
    "monthly": {"lags": [1, 3, 12], "windows_days": [95, 190, 370]},
    "irregular": {"lags": [1, 2, 3], "windows_days": [90, 180, 365]},
}


def dataset_tree(config: MarketConfig) -> dict[str, Any]:
    """The dataset YAML as plain data, for a file beside the folder `market`."""
    return {
        "name": f"synthetic_{config.frequency}",
        "description": f"{config.rows} rows of {config.entity_count} invented entities; seed {config.seed}",
        "source": {"path": SOURCE, "format": "parquet"},
        "time": {"column": TIME},
        "entity": ["entity"],
        "targets": [{"name": "price", "transform": "log", "relative_to": "last_value"}],
        "columns": {
            "numeric": [*NUMERIC, *(LEAKS[leak] for leak in config.leaks), *attribute_names(config.attributes)],
            "categorical": ["region", "kind", "grade", "promotion"],
            "outcomes": ["sales"],
        },
        "groups": [["region"], ["kind"]],
        "segments": ["region", "kind"],
        "duplicates": "keep_first",
        "bounds": {"age_years": [0, 500]},
        "features": {**HISTORY[config.frequency], "statistics": ["mean", "std", "count"]},
    }


def planted(config: MarketConfig, blocks: Sequence[Block]) -> dict[str, Any]:
    """What a test may ask about a market.

    bad_rows: per rule, its reason in ingest's words and the rows that break it. missing: column -> cells (bad rows
    among them). drift: date from which, and sizes. autoregression: phi of the process. attributes: what a standard
    deviation of each further one adds to the logarithm of the price.
    """
    layout, each = Layout(config), Faults(config).each
    start, end = (_date(us) for us in layout.bounds_us)
    sizes = {k: v for k, v in dataclasses.asdict(config.drift).items() if k != "start" and v is not None}
    return {
        "config": settings(config),
        "rows": config.rows,
        "entities": config.entity_count,
        "files": len(blocks),
        "time": {"start": start, "end": end},
        "autoregression": PHI,
        "truth": {"folder": TRUTH, "key": ["entity", TIME]},
        "bad_rows": {name: {"reason": reason, "rows": each} for name, reason in RULES.items()} if each else {},
        "missing": {name: sum(block.missing[name] for block in blocks) for name in MISSING},
        "drift": {"from": _date(layout.drift_us), **sizes} if sizes else {},
        "leaks": {LEAKS[leak]: leak for leak in config.leaks},
        "attributes": dict(
            zip(attribute_names(config.attributes), Market(config).attribute_effects().tolist(), strict=True)
        ),
        "skew": {"entity": "e00000000", "rows": layout.heavy_rows} if layout.heavy_rows else {},
    }


def settings(config: MarketConfig) -> dict[str, Any]:
    """A market's configuration as plain data for JSON."""
    return {**dataclasses.asdict(config), "leaks": list(config.leaks)}


def _date(us: int) -> str:
    return (dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(microseconds=us)).isoformat()
