"""Consumes joined rows of numbers and of classes, checks what evaluation keeps of them and what baselines add."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from assay.class_metrics import log_losses
from assay.evaluation.target_job import AddBaselines
from assay.model.baselines import Baselines
from assay.model.rates import RateBaselines

COMMON = {"group_columns": ("town",), "end_days": 18_000.0, "span_days": 300.0, "last_value": "last"}
KEEP = ("row_id", "outcome", "town")


def numbers():
    line = {"days": [17_900.0], "level": [5.0], "slope": [None]}
    groups = ({"median": [150.0], **line}, {"town": ["a"], "median": [90.0], **line})
    seasons = ({"season": [], "median": []}, {"town": [], "season": [], "median": []})
    return Baselines(transform="log", groups=groups, seasons=seasons, **COMMON)


def classes():
    line = {"days": [None], "slope_0": [None], "slope_1": [None]}
    groups = (
        {"rate_0": [0.75], "rate_1": [0.25], **line},
        {"town": ["a"], "rate_0": [0.5], "rate_1": [0.5], **line},
    )
    seasons = ({"season": [], "rate_0": [], "rate_1": []}, {"town": [], "season": [], "rate_0": [], "rate_1": []})
    return RateBaselines(classes=2, groups=groups, seasons=seasons, after=((0.9, 0.1), (0.2, 0.8)), **COMMON)


@pytest.mark.parametrize("rules", [numbers(), classes()], ids=["numbers", "classes"])
def test_baselines_take_the_place_of_the_columns_they_are_made_from(rules):
    batch = pa.record_batch(
        {
            "row_id": [4, 5, 6],
            "town": ["a", "b", None],
            "outcome": [1.0, 0.0, 1.0],
            "last": pa.array([1.0, 0.0, None], pa.float32()),
            "time": pa.array([dt.datetime(2019, 5, 1, tzinfo=dt.UTC)] * 3, pa.timestamp("us", "UTC")),
        }
    )
    (one, rest) = AddBaselines(rules, "outcome", KEEP)(iter([batch.slice(0, 1), batch.slice(1)]))
    table = pa.Table.from_batches([one, rest])
    assert table.column_names == [*KEEP, *(f"baseline_{name}" for name in rules.names)]
    assert table.select(KEEP).equals(pa.Table.from_batches([batch.select(KEEP)]))
    for name, predicted in rules.predict(batch).items():
        said = predicted if predicted.ndim == 1 else log_losses(np.array([1.0, 0.0, 1.0]), predicted)
        np.testing.assert_array_equal(table.column(f"baseline_{name}").to_numpy(), said)
    told = table.column(f"baseline_{rules.names[0]}").to_pylist()
    assert told == pytest.approx([150.0] * 3 if isinstance(rules, Baselines) else -np.log([0.25, 0.75, 0.25]))
