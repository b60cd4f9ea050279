"""Consumes a market, produces its dataset YAML and the record of what was planted in it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

from assay.config import conf_root
from assay.config.yaml_text import read_yaml
from assay.synthetic.auctions import DEPTH, Auctions
from assay.synthetic.config import MarketConfig
from assay.synthetic.faults import Faults
from assay.synthetic.files import LEAKS, NUMERIC, SOURCE, TRUTH, Block, attribute_names, missing_of
from assay.synthetic.presets import TIME, shown
from assay.synthetic.process import PHI

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
    further = [*(LEAKS[leak] for leak in config.leaks), *attribute_names(config.attributes)]
    if config.preset is not None:
        return _preset_tree(config, further)
    return {
        "name": f"synthetic_{config.frequency}",
        "description": f"{config.rows} rows of {config.entity_count} invented entities; seed {config.seed}",
        "source": {"path": SOURCE, "format": "parquet"},
        "time": {"column": TIME},
        "entity": ["entity"],
        "targets": [{"name": "price", "transform": "log", "relative_to": "last_value"}],
        "columns": {
            "numeric": [*NUMERIC, *further],
            "categorical": ["region", "kind", "grade", "promotion"],
            "outcomes": ["sales"],
        },
        "groups": [["region"], ["kind"]],
        "segments": ["region", "kind"],
        "duplicates": "keep_first",
        "bounds": {"age_years": [0, 500]},
        "features": {**HISTORY[config.frequency], "statistics": ["mean", "std", "count"]},
    }


def _preset_tree(config: MarketConfig, further: Sequence[str]) -> dict[str, Any]:
    """What ships as `conf/datasets/PRESET.yml`, of this market's files."""
    tree = read_yaml(conf_root() / "datasets" / f"{config.preset}.yml")
    columns = {**tree["columns"], "numeric": [*tree["columns"]["numeric"], *further]}
    return {**tree, "source": {"path": SOURCE, "format": "parquet"}, "columns": columns}


def planted(config: MarketConfig, blocks: Sequence[Block]) -> dict[str, Any]:
    """What a test may ask about a market.

    bad_rows: per rule, its reason in ingest's words and the rows that break it. missing: column -> cells (bad rows
    among them). drift: date from which, and sizes. autoregression: phi of the process. attributes: what a standard
    deviation of each further one adds to the logarithm of the price. downturn: of auctions, the year in which prices
    fall, and by how much of their logarithm at most, of machines ten years old.
    """
    made, faults = shown(config), Faults(config)
    layout, names, each = made.layout, made.names, faults.each
    start, end = (_date(us) for us in layout.bounds_us)
    sizes = {k: v for k, v in dataclasses.asdict(config.drift).items() if k != "start" and v is not None}
    return {
        "config": settings(config),
        "rows": config.rows,
        "entities": layout.entity_count,
        "files": len(blocks),
        "time": {"start": start, "end": end},
        "autoregression": PHI,
        "truth": {"folder": TRUTH, "key": [names.entity, names.time]},
        "bad_rows": {name: {"reason": reason, "rows": each} for name, reason in faults.reasons.items()} if each else {},
        "missing": {name: sum(block.missing[name] for block in blocks) for name in missing_of(config)},
        "drift": {"from": _date(layout.drift_us), **sizes} if sizes else {},
        "leaks": {LEAKS[leak]: leak for leak in config.leaks},
        "attributes": dict(
            zip(attribute_names(config.attributes), made.market.attribute_effects().tolist(), strict=True)
        ),
        "skew": {"entity": "e00000000", "rows": layout.heavy_rows} if layout.heavy_rows else {},
        "downturn": _downturn(made.market) if isinstance(made.market, Auctions) else {},
    }


def _downturn(market: Auctions) -> dict[str, Any]:
    first, end = market.downturn
    return {"from": first, "until": end, "log_price": -DEPTH}


def settings(config: MarketConfig) -> dict[str, Any]:
    """A market's configuration as plain data for JSON."""
    return {**dataclasses.asdict(config), "leaks": list(config.leaks)}


def _date(us: int) -> str:
    return (dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(microseconds=us)).isoformat()
