"""Consumes irregular rows in zones with and without summer time, checks groups' features against loops over all rows.

A row sees its group as of the start of the day or hour in which it falls on the dataset's own clock.
"""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from feature_harness import features_of, observations, plan_of, settings_of, utc
from feature_oracle import (
    DAY,
    STATISTICS,
    delay,
    differs,
    expanding_of,
    history_of,
    line_of,
    market_of,
    remembered,
    seen,
    shift_of,
    smoothed,
    wave_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.features import catalog
from assay.features.plan import HistoryOf

STEPS = {"1d": DAY, "1h": dt.timedelta(hours=1)}
ZONES = {"UTC": False, "Asia/Tokyo": False, "America/New_York": True}
# Around the nights of 2020 in which New York changes its clocks (8 March, 1 November), and months around them.
moments = st.builds(
    lambda start, hours, off: start + dt.timedelta(minutes=30 * hours, microseconds=off),
    st.sampled_from([utc("2020-03-07T22:00:00"), utc("2020-10-31T22:00:00")]),
    st.integers(0, 60) | st.integers(-2_000, 3_000),
    st.sampled_from([0, 0, -1, 1]),
)
# Amounts of one size: what rounding may do is tested elsewhere.
amounts = st.none() | st.integers(100, 1_000).map(lambda v: v / 8)
worlds = st.lists(
    st.fixed_dictionaries(
        {"thing": st.just("x"), "place": st.sampled_from(["p", None]), "time": moments, "price": amounts}
    ),
    min_size=2,
    max_size=25,
)


def on_the_clock(time: dt.datetime, zone: str) -> dt.datetime:
    """What the clock shows, written as if it were UTC."""
    return time.astimezone(ZoneInfo(zone)).replace(tzinfo=dt.timezone.utc)


def step_start(time: dt.datetime, zone: str, step: str) -> dt.datetime:
    local = on_the_clock(time, zone).replace(minute=0, second=0, microsecond=0)
    return local if step == "1h" else local.replace(hour=0)


def expected_of(rows, plan, *, by, at) -> dict[str, float | None]:
    """All figures of a group at the start of a step; rows: with `time` the start of their own step."""
    asked, oldest = plan.settings, plan.settings.max_history_days
    late = plan.history[0].delay_days
    changed = 1 / 24 if ZONES[plan.zone] and late else 0.0  # by summer time a value may come an hour later on the clock
    step_days = STEPS[asked.group_step] / DAY
    # A step's values are known when its last one is.
    wait = late + changed + step_days - 1 / 86_400_000_000 if late else 0.0
    key = tuple(at[c] for c in by)
    common = {"by": by, "value": "price", "key": key, "at": at["time"]}
    past = seen(rows, delay_days=wait, **common)
    past = remembered(past, at=at["time"], delay_days=wait, max_history_days=oldest)
    spans = {"lags": asked.lags[:1], "windows_days": asked.windows_days, "windows_rows": asked.windows_rows}
    found = history_of(rows, delay_days=wait, max_history_days=oldest, **spans, **common)
    found |= expanding_of(past, at["time"])
    found |= {f"ewm_{h:g}d": smoothed(past, h) for h in asked.halflives_days}
    found |= {f"season_{p:g}d": wave_of(past, p) for p in asked.seasonality_days}
    until = at["time"] - delay(wait)
    for days in asked.trend_days:
        inside = [(time, v) for time, v in past if time >= until - days * DAY]
        found[f"slope_{days}d"], found[f"trend_strength_{days}d"] = line_of(inside)
        found[f"shift_{days}d"] = shift_of(inside, middle=until - delay(days / 2))
    found["slope_ever"], found["trend_strength_ever"] = line_of(past)
    months = {"momentum_months": asked.market_momentum_months, "trend_months": asked.market_trend_months}
    figures = market_of(rows, delay_days=late + changed, max_history_days=oldest, **months, **common)
    return found | {f"market_{name}": number for name, number in figures.items()}


@settings(deadline=None, max_examples=60)
@given(
    world=worlds,
    zone=st.sampled_from([*ZONES, "America/New_York"]),
    step=st.sampled_from(list(STEPS)),
    late=st.sampled_from([0.0, 0.0, 1 / 24, 1 / 3, 5.0]),
    oldest=st.sampled_from([None, 30, 60]),
)
def test_groups_are_what_loops_over_the_steps_before_find(world, zone, step, late, oldest):
    asked = settings_of(group_step=step, max_history_days=oldest, statistics=tuple(STATISTICS))
    plan = plan_of(
        settings=asked, zone=zone, history=(HistoryOf("price", late),), groups={"place": ("place",), "all": ()}
    )
    built = features_of(observations([row | {"row_id": i} for i, row in enumerate(world)], plan), plan)
    stepped = [row | {"time": step_start(row["time"], zone, step)} for row in world]
    named = {f.name for f in catalog.features_of(plan) if f.family.startswith("group_")}
    checked = set()
    for found, at in zip(built.iter_rows(named=True), stepped, strict=True):
        for label, by in plan.groups.items():
            for name, number in expected_of(stepped, plan, by=by, at=at).items():
                full = f"price__{label}__{name}"
                checked.add(full)
                # Slopes of values an hour apart, in days since 1970, keep 4 digits.
                loose = 1e4 if name.startswith(("slope", "trend_strength", "shift")) else 10.0
                assert not differs(found[full], number, scale=loose * max(1.0, abs(number or 0))), (full, found, number)
    assert checked >= named
