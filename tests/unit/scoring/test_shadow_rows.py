"""A champion and a shadow in one pass over a table on disk, its tasks run one after the other in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import types

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from assay.config.profile import ProfileConfig, ScoringConfig
from assay.model.registry import Calibrated, Champion
from assay.runtime.arrow_plane import ArrowPlane
from assay.runtime.plane import Commit
from assay.scoring.job import Scoring

ROWS = 300
FACTS = {
    "split": {"test": {"start": "1970-02-01T00:00:00+00:00", "end": None}},
    "learned_until": "1970-03-01T00:00:00+00:00",
}


class Here(ArrowPlane):
    slots = 2

    def run_tasks(self, work, function):
        return [function(index, item) for index, item in enumerate(work)]


@pytest.fixture
def champions(price_model):
    """Two versions, whose calibrations have other levels; what they have learned from is scored by others."""

    def version(found, number):
        served, tested = (dataclasses.replace(found.model, facts={**FACTS, "which": which}) for which in "st")
        told = found.calibration, found.calibration_version
        return Champion(served, *told, number=number, run_id="", tested=Calibrated(tested, *told))

    return version(price_model(), "2"), version(price_model(levels=(0.5, 0.8)), "1")


@pytest.fixture
def score(market, tmp_path):
    """score(champion, shadows) -> rows of both tables, and what the job says."""
    batch, days = market(ROWS, seed=5), np.datetime64("1970-01-01") + np.arange(ROWS)
    keys = {"row_id": np.arange(ROWS), "time": pa.array(days.astype("datetime64[us]"), pa.timestamp("us", "UTC"))}
    columns = {name: batch.column(name) for name in batch.schema.names}
    months = [str(month) for month in days.astype("datetime64[M]")]
    write_deltalake(tmp_path / "features", pa.table({**keys, **columns, "month": months}), partition_by=["month"])
    dataset = types.SimpleNamespace(entity=("city",), targets=(types.SimpleNamespace(name="price", decides=False),))
    context = types.SimpleNamespace(
        config=types.SimpleNamespace(profile=ProfileConfig(scoring=ScoringConfig(64)), where=(), dataset=dataset),
        plane=Here(lambda: None, tmp_path),
        tracking=types.SimpleNamespace(json=lambda *_: None),
        reporter=types.SimpleNamespace(step=lambda _: contextlib.nullcontext()),
        commit=lambda job, slot, identity, **details: Commit(-1, job, slot, identity, details),
    )

    def table(name):
        frame = pl.from_arrow(DeltaTable(tmp_path / name).to_pyarrow_table())
        return frame.select(sorted(frame.columns)).sort("row_id")

    def run(champion, shadows=()):
        done = Scoring(context, dataset.targets[0], 0, champion, list(shadows)).run("one")
        return table("predictions"), table("shadow_predictions") if len(done.written) > 1 else None, done

    return run


def test_a_shadow_says_apart_what_it_would_say_as_the_champion(score, champions):
    champion, rival = champions
    alone, none, _ = score(champion)
    assert none is None
    assert alone["row_id"].to_list() == list(range(31, ROWS))
    predictions, shadows, done = score(champion, [rival])
    assert predictions.equals(alone)
    assert set(shadows["shadow"]) == {"1"}
    assert {"lower_50", "lower_80"} <= set(shadows.columns)
    assert "lower_50" not in predictions.columns
    assert done.metrics["shadow_1.quality_ok"] == (shadows["quality"] == "ok").sum()
    instead, gone, _ = score(rival)
    assert shadows.drop("shadow").equals(instead)
    assert gone.height == 0
    again = score(champion, [rival])
    assert again[0].equals(alone)
    assert again[1].equals(shadows)


def test_rows_that_a_shadow_learned_from_are_those_of_its_tested_model(score, champions):
    champion, rival = champions
    _, shadows, _ = score(champion, [rival])
    by = dict(shadows.group_by("model_version").agg(pl.col("time").min()).iter_rows())
    assert rival.tested is not None
    assert str(by[rival.tested.model.version])[:10] == "1970-02-01"
    assert str(by[rival.model.version])[:10] == "1970-03-02"
