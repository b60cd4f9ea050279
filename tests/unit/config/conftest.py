"""A small valid dataset that tests of the configuration change, and the run that comes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.config import RunConfig, load_run


@pytest.fixture
def tree() -> dict[str, Any]:
    return {
        "name": "flats",
        "source": {"path": "flats.csv"},
        "time": {"column": "sold_on"},
        "entity": ["flat"],
        "targets": [{"name": "price", "transform": "log"}],
        "columns": {"numeric": ["rooms"], "categorical": ["district"], "outcomes": ["bids"]},
        "groups": [["district"]],
        "segments": ["district"],
        "bounds": {"price": [1, 1_000_000]},
        "availability_delay_days": {"bids": 30},
    }


Load = Callable[..., RunConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """load(tree, *overrides, **options) writes the dataset's YAML and resolves the run."""

    def run(tree: dict[str, Any], *overrides: str, **options: Any) -> RunConfig:
        path = tmp_path / "flats.yml"
        path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
        return load_run(dataset=path, overrides=overrides, **options)

    return run
