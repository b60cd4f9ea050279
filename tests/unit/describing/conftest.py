"""What tests of `assay init` share: the command, and an invented market to look at."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from assay import cli
from assay.config import load_dataset


@pytest.fixture
def init(capsys, tmp_path):
    """init(file, "--target", "price") -> exit code, the JSON object, the dataset it wrote, lines on standard error."""

    def call(file, *arguments, out=None):
        out = out or tmp_path / "found.yml"
        with pytest.raises(SystemExit) as ended:
            cli.main(["init", str(file), "--out", str(out), "--json", *map(str, arguments)])
        printed, err = (text.splitlines() for text in capsys.readouterr())
        code = ended.value.code
        return code, json.loads(printed[-1]), load_dataset(out) if code == 0 else None, err

    return call


@pytest.fixture(scope="session")
def shops():
    """40 shops in 4 regions, 150 days each: sales walk at random. Attributes, a global index, and columns that leak."""
    random = np.random.default_rng(5)
    parts = []
    day = pl.date_range(pl.date(2023, 1, 1), pl.date(2023, 5, 30), eager=True)
    index = random.normal(100, 5, len(day)).round(1)
    for shop in range(40):
        level = np.exp(4 + 2 * (shop % 4) + 0.3 * random.normal() + np.cumsum(random.normal(0, 0.02, len(day))))
        visitors = random.integers(20, 400, len(day))
        parts.append(
            pl.DataFrame(
                {
                    "shop": [f"shop {shop:02d}"] * len(day),
                    "day": day,
                    "region": ["north", "east", "south", "west"][shop % 4],
                    "floor_area": 50 + 7 * shop,
                    "market_index": index,
                    "sales": level.round(2),
                    "visitors": visitors,
                    "log_sales": np.log(level.round(2)),
                    "sales_per_visitor": level.round(2) / visitors,
                    "currency": "EUR",
                    "running": np.arange(len(day)),
                }
            )
        )
    return pl.concat(parts)
