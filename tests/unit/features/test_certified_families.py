"""Consumes worlds, checks that every feature of every row is, bit for bit, that of a world which ends at its time."""

from __future__ import annotations

import datetime as dt
from collections import Counter

import polars as pl
import pyarrow as pa
from feature_harness import features_of, observations, ranks_of, utc, widest_plan
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.features import catalog, certificate
from assay.features.certificate import Recompute, as_known, compare, months_over
from assay.features.kernel import Condense, packed, step_of, unpacked
from assay.features.plan import HistoryOf

START = utc("2020-01-20")
numbers = st.one_of(st.none(), st.sampled_from([0.1, 1e12]), st.floats(0.01, 1e6))
rows = st.fixed_dictionaries(
    {
        "thing": st.sampled_from("xy"),
        "place": st.sampled_from(["p", "q", None]),
        "time": st.integers(0, 200).map(lambda n: START + dt.timedelta(hours=6 * n)),
        "price": numbers,
        "sales": numbers,
        "size": numbers,
    }
)


@settings(deadline=None, max_examples=12)
@given(
    world=st.lists(rows, min_size=2, max_size=10),
    delay_days=st.sampled_from([0.0, 0.25, 5.0]),
    oldest=st.sampled_from([None, 9]),
)
def test_no_family_needs_more_than_what_the_certificate_leaves_of_the_world(world, delay_days, oldest):
    history = (HistoryOf("price", delay_days), HistoryOf("sales", 2.5))
    plan = widest_plan(history=history, widest={"max_history_days": oldest})
    frame = observations([row | {"row_id": i} for i, row in enumerate(world)], plan)
    sample = frame.with_columns(step=step_of(plan))
    groups: dict[int, dict[str, bytes]] = {int(step.timestamp()): {} for step in sample["step"].unique()}
    for label, columns in plan.groups.items():
        batches = frame.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches()
        cells = pl.from_arrow(pa.Table.from_batches(list(Condense(plan, label)(iter(batches)))))
        for step, table in as_known(plan, label, cells, sample.select(*columns, "step").unique()).items():
            groups[step][label] = table
    counted = {label: unpacked(table) for label, table in ranks_of([frame], plan).items()}
    ranks = {
        step: {label: packed(months_over(plan, table, step).to_arrow()) for label, table in counted.items()}
        for step in groups
    }
    asked = tuple((r["row_id"], r["time"], int(r["step"].timestamp()), (r["thing"],)) for r in sample.to_dicts())
    again = Recompute(plan, asked, groups, ranks)(
        iter(frame.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches())
    )
    found = pl.from_arrow(pa.Table.from_batches(list(again)))
    names = catalog.numeric_features(plan)
    differences = compare(features_of(frame, plan), found, names)
    assert {name: n for name, n in differences.items() if n} == {}
    assert found.height == len(world)


def test_rows_of_one_time_are_computed_together_and_those_of_one_entity_apart(monkeypatch):
    """What a call of the kernel costs is paid for each time, not for each row; no world holds an entity twice."""
    plan, worlds = widest_plan(), []
    times = {1: START, 2: START, 3: START, 4: START + dt.timedelta(days=3)}
    rows = {1: "x", 2: "y", 3: "x", 4: "y"}
    asked = tuple((row_id, time, int(START.timestamp()), (rows[row_id],)) for row_id, time in times.items())
    world = [{"thing": rows[i], "place": "p", "time": times[i], "price": 5.0, "row_id": i} for i in rows]
    batches = observations(world, plan).to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches()

    def kernel(*_):
        def see(batches):
            worlds.append(pl.from_arrow(pa.Table.from_batches(list(batches))))
            return iter(())

        return see

    monkeypatch.setattr(certificate, "BuildFeatures", kernel)
    assert list(Recompute(plan, asked, {}, {})(iter(batches))) == []
    assert Counter(tuple(sorted(one["row_id"])) for one in worlds) == Counter([(1, 2), (3,), (2, 4)])
