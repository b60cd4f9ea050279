"""Consumes worlds that differ in their future alone, checks that no feature of any family can tell them apart."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from feature_harness import features_of, observations, plan_of, settings_of, utc, widest_plan
from feature_oracle import delay
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from assay.features import catalog
from assay.features.plan import FeaturePlan, HistoryOf

# The first nights end where New York changes its clocks: 8 March and 1 November, at 7 and 6 o'clock UTC.
STARTS = (utc("2020-01-20"), utc("2020-03-07T18:00:00"), utc("2020-10-31T18:00:00"))
PAST = ("history", "smoothing", "expanding", "trend", "seasonality", "technical")
ROWS = ("raw", "category", "calendar", "business", "trading", "relative", "interactions", "transforms")
FAMILIES = {*ROWS, *PAST, *(f"group_{name}" for name in PAST), "market", "own_scale", "target_encoding"}
FAMILIES |= {"standing", "beta", "rank"}
Row = dict[str, Any]
Compute = Callable[[pl.DataFrame, FeaturePlan], pl.DataFrame]

moments = st.builds(
    lambda start, hours, off: start + dt.timedelta(hours=hours, microseconds=off),
    st.shared(st.sampled_from(STARTS), key="start"),
    st.integers(0, 12) | st.integers(0, 40) | st.integers(0, 400).map(lambda quarters: 6 * quarters),
    st.sampled_from([0, 0, -1, 1]),
)
numbers = st.one_of(st.none(), st.sampled_from([0.1, 3.0, 1e12]), st.floats(0.01, 1e6))
DELAYS = st.sampled_from([0.0, 1 / 24, 0.25, 1 / 3, 5.0, 40.0])
PLANS = {
    (zone, step, oldest, fill): widest_plan(
        zone=zone, widest={"group_step": step, "max_history_days": oldest, "forward_fill": fill}
    )
    for zone in ("UTC", "America/New_York", "Asia/Tokyo")
    for step in ("1d", "1h")
    for oldest in (None, 9)
    for fill in ((), ("size",))
}


@st.composite
def rows(draw) -> Row:
    row = {"thing": draw(st.sampled_from(["x", "y"])), "place": draw(st.sampled_from(["p", "q", None]))}
    return row | {"time": draw(moments), "price": draw(numbers), "sales": draw(numbers), "size": draw(numbers)}


@st.composite
def worlds(draw, *, lean: bool = False) -> tuple[FeaturePlan, list[Row], list[Row], dt.datetime]:
    """A plan, a world, the same world with another future after a time, and that time. Rows keep their row_id.

    lean: without the costlier families.
    Attributes are known to their own row, and after its time to others: they are filled forward in half of the plans.
    """
    history = (HistoryOf("price", draw(DELAYS)), HistoryOf("sales", draw(DELAYS)))
    ratios = draw(st.sampled_from([(), ("price",)]))
    key = draw(st.sampled_from(list(PLANS)))
    zone, step, oldest, fill = key
    lighter = settings_of(group_step=step, max_history_days=oldest, forward_fill=fill, group_families=())
    plan = plan_of(zone=zone, settings=lighter) if lean else PLANS[key]
    plan = dataclasses.replace(plan, history=history, ratios=ratios)
    late = {item.column: delay(item.delay_days) for item in plan.history}
    world = [row | {"row_id": i} for i, row in enumerate(draw(st.lists(rows(), min_size=2, max_size=12)))]
    now = draw(st.sampled_from([row["time"] for row in world]))

    def hidden(row: Row, column: str) -> bool:
        return row["time"] + late.get(column, dt.timedelta()) >= now

    def tells(row: Row, column: str) -> bool:
        return row[column] is not None and not hidden(row, column)

    telling = [*late, *(["size"] if plan.settings.forward_fill else [])]

    def touched(row: Row) -> Row | None:
        """Another value wherever none is known yet. A row of which nothing is known may go; one after `now` may turn
        into another."""
        other = draw(rows())
        if not any(tells(row, column) for column in telling) and draw(st.booleans()):
            return None
        changed = row | {column: other[column] for column in late if hidden(row, column) and draw(st.booleans())}
        if row["time"] <= now:
            return changed
        return changed | {"thing": other["thing"], "place": other["place"], "size": other["size"]}

    def unknown(row: Row) -> Row:
        return row | {column: None for column in telling if not hidden(row, column)}

    added = [unknown(row) | {"row_id": 100 + i} for i, row in enumerate(draw(st.lists(rows(), max_size=5)))]
    other = [row for row in [*map(touched, world), *added] if row is not None]
    return plan, world, other or world, now


def check(compute: Compute, plan: FeaturePlan, world: list[Row], other: list[Row], now: dt.datetime) -> None:
    """Every row up to `now` that is in both worlds has the same features in both, bit for bit."""
    names = [feature.name for feature in catalog.features_of(plan)]
    shared = {row["row_id"] for row in world} & {row["row_id"] for row in other}
    found = []
    for rows_of_world in (world, other):
        features = compute(observations(rows_of_world, plan), plan)
        kept = features.filter((pl.col("time") <= now) & pl.col("row_id").is_in(list(shared)))
        found.append(kept.select("row_id", *names, *[c for c in features.columns if c.startswith("leak")]))
    one, two = found
    different = [name for name in one.columns if not one[name].equals(two[name], null_equal=True)]
    family = {feature.name: feature.family for feature in catalog.features_of(plan)}
    assert not different, {name: family.get(name) for name in different}


def test_the_plan_has_every_family():
    assert {feature.family for feature in catalog.features_of(widest_plan())} == FAMILIES


@settings(deadline=None, max_examples=100)
@given(worlds=worlds())
def test_no_feature_of_any_family_knows_what_comes_at_its_time_or_after_it(worlds):
    check(features_of, *worlds)


HALF_HOURS = [start + dt.timedelta(minutes=30 * step) for start in STARTS for step in range(-12, 72)]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize("step", ["1d", "1h"])
@pytest.mark.parametrize("delay_days", [0.0, 1 / 24, 1 / 3, 2.0])
def test_groups_do_not_know_a_value_until_it_is_known(zone, step, delay_days):
    """Each half hour around the change of clocks has a group with a value, and rows up to when that is known."""
    plan = plan_of(
        zone=zone,
        settings=settings_of(group_step=step),
        history=(HistoryOf("price", delay_days),),
        groups={"place": ("place",)},
    )
    early = [dt.timedelta(0), dt.timedelta(minutes=1), dt.timedelta(minutes=30), dt.timedelta(hours=2)]
    late = delay(delay_days)
    pairs = [(time, time + late - before) for time in HALF_HOURS for before in early]
    pairs += [(time, time + late + dt.timedelta(days=2)) for time in HALF_HOURS]
    rows = [{"row_id": 2 * i, "thing": "x", "place": f"{i}", "time": time} for i, (time, _) in enumerate(pairs)]
    rows += [{"row_id": 2 * i + 1, "thing": "y", "place": f"{i}", "time": time} for i, (_, time) in enumerate(pairs)]
    built = []
    for price in (1.0, 5.0):
        world = [row | {"price": price if row["thing"] == "x" else None} for row in rows]
        built.append(features_of(observations(world, plan), plan).filter(thing="y").drop("price"))
    unknown = len(pairs) - len(HALF_HOURS)
    assert_frame_equal(built[0][:unknown], built[1][:unknown], check_exact=True)
    mean = "price__place__mean_3d"
    assert (built[0][unknown:][mean] != built[1][unknown:][mean]).all()


def forgets_delays(frame: pl.DataFrame, plan: FeaturePlan) -> pl.DataFrame:
    prompt = tuple(HistoryOf(item.column, 0.0) for item in plan.history)
    return features_of(frame, dataclasses.replace(plan, history=prompt))


def counts_its_own_time(frame: pl.DataFrame, plan: FeaturePlan) -> pl.DataFrame:
    """Every value is thought to be known a microsecond before its row."""
    early = tuple(HistoryOf(item.column, item.delay_days - 1 / 86_400_000_000) for item in plan.history)
    return features_of(frame, dataclasses.replace(plan, history=early))


def means_over_all_time(frame: pl.DataFrame, plan: FeaturePlan) -> pl.DataFrame:
    mean = frame.group_by("place").agg(leak=pl.col("price").mean())
    return features_of(frame, plan).join(mean, on="place", how="left", nulls_equal=True).sort("row_id")


def ranks_among_all(frame: pl.DataFrame, plan: FeaturePlan) -> pl.DataFrame:
    return features_of(frame, plan).with_columns(leak=pl.col("size").rank())


def fills_backward(frame: pl.DataFrame, plan: FeaturePlan) -> pl.DataFrame:
    filled = frame.sort("thing", "time").with_columns(pl.col("sales").backward_fill().over("thing"))
    return features_of(filled, plan)


def fills_attributes_backward(frame: pl.DataFrame, plan: FeaturePlan) -> pl.DataFrame:
    filled = frame.sort("thing", "time").with_columns(pl.col("size").backward_fill().over("thing"))
    return features_of(filled, plan)


@pytest.mark.parametrize(
    "leak",
    [
        fills_attributes_backward,
        forgets_delays,
        counts_its_own_time,
        means_over_all_time,
        ranks_among_all,
        fills_backward,
    ],
)
def test_the_check_finds_leaks(leak):
    """The negative control: features that do know their future fail the very same check."""

    @settings(
        deadline=None,
        max_examples=500,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    @given(worlds=worlds(lean=True))
    def search(worlds) -> None:
        check(leak, *worlds)

    with pytest.raises(AssertionError):
        search()
