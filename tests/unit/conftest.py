"""What unit tests share: ranks that run as threads of this process, in place of a barrier stage."""

from __future__ import annotations

import pytest
import yaml

from thread_ranks import Ranks


@pytest.fixture(name="ranks", scope="session")
def ranks_factory():
    return Ranks


@pytest.fixture
def flats(tmp_path):
    """The YAML of a dataset whose source is not there."""
    path = tmp_path / "flats.yml"
    tree = {
        "name": "flats",
        "source": {"path": "flats.csv"},
        "time": {"column": "sold_on"},
        "entity": ["flat"],
        "targets": [{"name": "price"}],
    }
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path
