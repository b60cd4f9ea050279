"""Consumes entities of recent rows, checks that a share of them is the challenger's: so many, and no more."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from assay.deployment.cut import BINS, Bins, Cut, cut, cut_of
from assay.model.arms import place, places
from assay.model.deployments import read_deployments
from assay.model.versions import CHALLENGER
from assay.runtime.tables import FEATURES


def bins(count, deployment="d"):
    names = [f"shop=s{number}" for number in range(count)]
    return (places(names, deployment) * BINS).astype(np.int32), places(names, deployment)


@pytest.mark.parametrize(
    ("count", "share", "its"),
    [(20, 0.05, 1), (100, 0.25, 25), (100, 0.29, 29), (12, 0.05, 0), (7, 0.5, 3), (9, 1.0, 9)],
)
@pytest.mark.parametrize("deployment", ["d", "price-1-to-2", "x"])
def test_of_few_entities_the_share_is_exact(count, share, its, deployment):
    where, found = bins(count, deployment)
    told = cut(where, share)
    assert (told.its, told.entities) == (its, count)
    assert int((found < told.below).sum()) == its


def test_of_very_many_entities_the_share_is_that_of_places():
    where, found = bins(300_000)
    for share in (0.05, 0.25, 0.5):
        told = cut(where, share)
        assert told.below == pytest.approx(share, abs=2 / BINS + 0.02 * share)
        assert (found < told.below).mean() == pytest.approx(share, abs=0.003)


def test_a_larger_share_has_all_that_a_smaller_one_has():
    where, _ = bins(40)
    cuts = [cut(where, share).below for share in (0.05, 0.1, 0.3, 0.9, 1.0)]
    assert cuts == sorted(cuts)
    assert cuts[-1] == 1.0


def test_without_entities_the_place_is_the_share():
    assert cut(np.array([], np.int32), 0.3) == Cut(0.3, 0, 0)


def test_each_entity_counts_once_however_rows_are_cut():
    shops = [f"s{number}" for number in range(50)] * 4
    whole = pa.record_batch({"shop": pa.array(shops)})
    kernel = Bins(("shop",), "d")
    (found,) = kernel(iter([whole]))
    (parts,) = kernel(whole.slice(start, 7) for start in range(0, whole.num_rows, 7))
    assert found.column("bin").to_pylist() == sorted({int(place(f"shop={s}", "d") * BINS) for s in shops})
    assert parts.equals(found)


def test_rows_of_late_and_no_others_say_who_is_there(lab):
    now = dt.datetime(2024, 3, 1, tzinfo=dt.timezone.utc)
    city = lab.context().config.dataset.entity[0]
    ages = {0: now, 1: now - dt.timedelta(days=1), 27: now - dt.timedelta(days=27), 29: now - dt.timedelta(days=29)}
    rows = [
        {"row_id": number, "time": time, "month": f"{time:%Y-%m}", city: f"c{age}-{number}"}
        for age, time in ages.items()
        for number in range(10)
    ]
    schema = FEATURES.schema([pa.field(city, pa.string())])
    lab.write(FEATURES, rows, schema, plan_hash="abc123")
    lab.add()
    lab.add(alias=CHALLENGER)
    lab.deploy(("d", ["split"], "1", "2"))
    (deployment,) = read_deployments(lab.plane, "price")
    found = cut_of(lab.context(), deployment, 0.25, now)
    assert (found.its, found.entities) == (5, 20)
    told = places([f"{city}=c{age}-{number}" for age in (1, 27) for number in range(10)], "d")
    assert int((told < found.below).sum()) == 5
