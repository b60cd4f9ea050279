"""Checks that rows priced one request at a time have, bit for bit, the features that a batch gives them."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest
from features.feature_harness import features_of, observations, plan_of, settings_of, widest_plan

from assay.features.catalog import numeric_features
from assay.features.kernel import observation_columns
from assay.serving import groups
from assay.serving.building import features_of_rows
from assay.serving.keyed import Keyed
from assay.serving.state import State

START = dt.datetime(2021, 1, 1, tzinfo=dt.timezone.utc)


def invented(plan, *, rows=160, seed=3):
    random = np.random.default_rng(seed)
    hours = np.sort(random.choice(24 * 120, rows, replace=False))
    found = []
    for hour in hours:
        thing = int(random.integers(0, 9))
        found.append(
            {
                "row_id": int(random.integers(1, 2**60)),
                "time": START + dt.timedelta(hours=int(hour)),
                "thing": f"thing {thing}" if thing else None,
                "place": f"place {thing % 3}",
                "size": float(random.normal(5, 1)) if random.random() > 0.3 else None,
                "price": float(np.exp(random.normal(3, 0.4))) if random.random() > 0.1 else None,
                "sales": float(random.integers(0, 50)),
            }
        )
    return observations(found, plan)


def state_of(frame, plan, *, shares=3):
    def read(columns):
        table = frame.sample(fraction=1.0, shuffle=True, seed=1).select(columns).to_arrow()
        return table.to_batches(max_chunksize=max(1, -(-frame.height // shares)))

    return State.of(plan, read)


def same(found, expected, plan):
    """Compare in every bit; row ids are those of the request."""
    assert found.height == expected.height
    names = [*plan.texts, "time", *numeric_features(plan)]
    return [name for name in names if not found[name].equals(expected[name], null_equal=True)]


PLANS = {
    "every family": widest_plan(),
    "no rows apart": plan_of(),
    "hours": plan_of(settings=settings_of(group_step="1h"), zone="Europe/Berlin"),
    "forgetting": widest_plan(widest={"max_history_days": 30}),
    "no market": plan_of(temporal=True, market=False, groups={}),
    "nothing but the row": plan_of(temporal=False, market=False, anchors=(), groups={}),
}


@pytest.mark.parametrize("which", PLANS)
def test_each_request_has_the_features_of_the_batch(which):
    plan = PLANS[which]
    frame = invented(plan)
    batch = features_of(frame, plan)
    state = state_of(frame, plan)
    asked = frame.sort("row_id")  # as batch has them
    nothing = frame.clear()
    together = pl.from_arrow(features_of_rows(asked, nothing, state))
    assert same(together, batch, plan) == []
    for place in range(0, asked.height, 17):
        alone = pl.from_arrow(features_of_rows(asked[place], nothing, state))
        assert same(alone, batch[place], plan) == []


def test_rows_have_what_their_time_knew_and_nothing_later():
    plan = PLANS["every family"]
    frame = invented(plan)
    now = frame["time"].sort()[100]
    early, later = frame.filter(pl.col("time") < now), frame.filter(pl.col("time") >= now)
    batch = features_of(frame, plan).filter(pl.col("time") == now)
    asked = later.filter(pl.col("time") == now)
    found = pl.from_arrow(features_of_rows(asked, frame.clear(), state_of(early, plan)))
    assert same(found, batch, plan) == []


def test_history_that_is_sent_along_is_as_good_as_history_that_is_stored():
    plan = plan_of(market=False, groups={})
    frame = invented(plan)
    batch = features_of(frame, plan)
    entity = frame.filter(pl.col("thing") == "thing 4")
    others = frame.filter(pl.col("thing").ne_missing("thing 4"))
    asked = entity.sort("time").tail(1)
    expected = batch.join(asked, on="row_id", how="semi")
    found = pl.from_arrow(features_of_rows(asked, entity, state_of(others, plan)))
    assert same(found, expected, plan) == []
    # A row that is stored already counts once, as it was sent.
    wrong = entity.with_columns(pl.col("price") * 7)
    found = pl.from_arrow(features_of_rows(asked, entity, state_of(pl.concat([others, wrong]), plan)))
    assert same(found, expected, plan) == []
    # Without any of it the row is one of which nothing is known.
    found = pl.from_arrow(features_of_rows(asked, frame.clear(), state_of(others, plan)))
    assert found["price__own__lag_1"].null_count() == 1


def test_rows_of_a_request_see_nothing_of_each_other_nor_of_their_own_target():
    plan = PLANS["every family"]
    frame = invented(plan)
    state = state_of(frame, plan)
    asked = frame.tail(5)
    loud = asked.with_columns(price=pl.lit(1e6), sales=pl.lit(-1e6))
    doubled = pl.concat([asked, asked.with_columns(size=pl.lit(99.0)), asked.with_columns(time=START)])
    alone = pl.from_arrow(features_of_rows(asked, frame.clear(), state))
    for others in (loud, doubled):
        found = pl.from_arrow(features_of_rows(others, frame.clear(), state)).head(5)
        assert same(found, alone, plan) == []


def test_an_empty_table_knows_nothing_but_prices():
    plan = PLANS["every family"]
    frame = invented(plan)
    found = pl.from_arrow(features_of_rows(frame.head(3), frame.clear(), state_of(frame.clear(), plan)))
    assert found.height == 3
    assert found["price__own__lag_1"].null_count() == 3
    assert found["time__month" if "time__month" in found.columns else "time"].null_count() == 0


def test_what_was_worked_out_for_one_request_serves_the_next_and_is_let_go_of_when_it_is_much(monkeypatch):
    plan = PLANS["every family"]
    frame = invented(plan)
    asked, nothing = frame.sort("row_id"), frame.clear()
    batch = features_of(frame, plan)
    worked_out = []
    made = groups.GroupSteps._made
    monkeypatch.setattr(groups.GroupSteps, "_made", lambda self, a: worked_out.append(a.height) or made(self, a))
    state = state_of(frame, plan)
    for _ in range(2):
        found = pl.from_arrow(features_of_rows(asked[:40], nothing, state))
        assert same(found, batch[:40], plan) == []
    assert len(worked_out) == len(plan.groups)
    monkeypatch.setattr(groups, "MOST", 30)
    for place in range(0, asked.height, 20):
        found = pl.from_arrow(features_of_rows(asked[place : place + 20], nothing, state))
        assert same(found, batch[place : place + 20], plan) == []
        assert all(len(group._places) == group._known.height for group in state._groups.values())


def test_a_state_is_the_same_after_a_journey_as_tables():
    plan = PLANS["every family"]
    frame = invented(plan)
    state = state_of(frame, plan)
    again = State.from_tables(plan, state.tables())
    nothing = frame.clear()
    one, two = (features_of_rows(frame, nothing, which) for which in (state, again))
    assert one.equals(two)
    assert set(observation_columns(plan)) <= set(frame.columns)


def test_keys_are_found_among_others_and_missing_ones_have_no_rows():
    rows = pl.DataFrame({"a": ["x", None, "y", "x"], "b": ["1", "1", "1", "1"], "n": [1, 2, 3, 4]})
    keyed = Keyed(rows, ["a", "b"])
    wanted = pl.DataFrame({"b": ["1", "1", "2"], "a": ["x", None, "x"]})
    assert sorted(keyed.of(wanted)["n"].to_list()) == [1, 2, 4]
    assert keyed.of(wanted.filter(pl.col("a") == "x"))["n"].to_list() == [1, 4]
    assert keyed.of(pl.DataFrame({"a": ["z"], "b": ["1"]})).height == 0
    assert Keyed(rows, []).of(wanted).height == 4
