"""Consumes events, checks the observations made of them: by hand, and that no row knows what comes later."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.config import DatasetConfig
from assay.config.events_consistency import check_events
from assay.config.strict import check
from assay.errors import DataError
from assay.ingest.panel import panel

TREE: dict[str, Any] = {
    "name": "shop",
    "source": {"path": "shop.csv"},
    "time": {"column": "at", "zone": "Europe/London"},
    "entity": ["who"],
    "duplicates": "allow",
    "events": {
        "period": "1w",
        "numeric": ["pieces", "unit price"],
        "categorical": ["bill", "land"],
        "values": {
            "spend": {"sum": 'pieces * "unit price"', "where": "pieces > 0"},
            "bills": {"distinct": "bill", "where": "pieces > 0"},
            "lines": {"count": "bill"},
            "dearest": {"max": '"unit price"'},
            "buys": {"any": "pieces > 0", "periods": 2},
            "spend_2w": {"sum": 'pieces * "unit price"', "where": "pieces > 0", "periods": 2},
            "bills_2w": {"distinct": "bill", "where": "pieces > 0", "periods": 2},
        },
        "known": {
            "recency": {"days_since_last": "pieces > 0"},
            "tenure": {"days_since_first": "pieces > 0"},
            "home": {"last": "land"},
        },
        "rules": {
            "step": "CASE WHEN bills_2w = 0 THEN 'none' WHEN spend_2w > spend_before THEN 'more' ELSE 'less' END"
        },
    },
    "targets": [
        {"name": "buys", "task": "binary"},
        {"name": "next", "column": "step", "task": "multiclass", "classes": ["none", "less", "more"]},
    ],
    "columns": {
        "outcomes": ["spend", "bills", "lines", "dearest"],
        "numeric": ["recency", "tenure"],
        "categorical": ["home"],
    },
}
NONE, LESS, MORE = 0.0, 1.0, 2.0


def dataset(**changes: Any) -> DatasetConfig:
    found: DatasetConfig = check(DatasetConfig, {**TREE, **changes}, origin="test")
    check_events(found, "test")
    return found


SHOP = dataset()


def events(*rows) -> pl.DataFrame:
    """(moment, who, bill, pieces, price, land) as the table of events has them."""
    names = ("time", "who", "bill", "pieces", "unit_price", "land")
    frame = pl.DataFrame(rows, schema=list(names), orient="row").with_columns(
        pl.col("time").str.to_datetime(time_zone="UTC", time_unit="us"), pl.col("pieces", "unit_price").cast(pl.Float64)
    )
    return frame.with_columns(source_file=pl.lit("shop.csv"), source_row=pl.int_range(1, pl.len() + 1, dtype=pl.Int64))


ROWS = (
    ("2011-01-04 10:00", "ann", "1", 2, 5, "UK"),  # weeks start on 3, 10, 17, 24 and 31 January
    ("2011-01-04 10:00", "ann", "1", 1, 3, "UK"),
    ("2011-01-19 09:00", "ann", "2", 4, 5, "FR"),
    ("2011-01-20 09:00", "ann", "C3", -1, 5, "FR"),
    ("2011-01-12 12:00", "bob", "4", 1, 7, None),
    ("2011-01-31 00:00", "bob", "5", 1, 1, "UK"),
)


def made(rows=ROWS, found: DatasetConfig = SHOP) -> pl.DataFrame:
    frame = events(*rows)
    return panel(frame, found, frame["time"].max())


def test_a_row_per_period_from_the_first_event_to_the_newest_of_all():
    rows = made()
    january = [dt.datetime(2011, 1, day, tzinfo=dt.timezone.utc) for day in (3, 10, 17, 24, 31)]
    assert rows["who"].to_list() == ["ann"] * 5 + ["bob"] * 4
    assert rows["time"].to_list() == january + january[1:]
    assert rows["source_rows"].to_list() == [2, 0, 2, 0, 0, 1, 0, 0, 1]
    assert rows["source_row"].to_list() == [2, None, 4, None, None, 5, None, None, 6]
    assert rows["row_id"].n_unique() == 9
    assert rows["month"].unique().to_list() == ["2011-01"]


def test_values_are_of_the_period_and_unknown_while_it_may_go_on():
    ann = made().filter(pl.col("who") == "ann")
    assert ann["spend"].to_list() == [13, 0, 20, 0, None]  # the last period holds the newest event of all
    assert ann["bills"].to_list() == [1, 0, 1, 0, None]
    assert ann["lines"].to_list() == [2, 0, 2, 0, None]
    assert ann["dearest"].to_list() == [5, None, 5, None, None]


def test_targets_look_ahead_over_their_periods_and_are_asked_of_known_entities_alone():
    rows = made().select("who", "buys", "next").partition_by("who", include_key=False)
    ann, bob = (part.rows() for part in rows)
    assert ann == [(None, None), (1, MORE), (1, MORE), (None, None), (None, None)]
    assert bob == [(None, None), (0, NONE), (None, None), (None, None)]


def test_facts_are_of_what_was_before_the_period():
    ann = made().filter(pl.col("who") == "ann")
    assert ann["home"].to_list() == [None, "UK", "UK", "FR", "FR"]
    assert ann["recency"].to_list() == pytest.approx([None, 5 + 14 / 24, 12 + 14 / 24, 4 + 15 / 24, 11 + 15 / 24])
    assert ann["tenure"].to_list() == pytest.approx([None, 5 + 14 / 24, 12 + 14 / 24, 19 + 14 / 24, 26 + 14 / 24])
    late = made().filter(pl.col("who") == "bob")["recency"].to_list()[-1]
    assert late == pytest.approx(18.5)  # the purchase at the very start of the period is part of it


MOMENTS = st.integers(0, 24 * 7 * 9).map(
    lambda hours: f"{dt.datetime(2011, 3, 1) + dt.timedelta(hours=hours):%Y-%m-%d %H:%M}"
)
EVENTS = st.lists(
    st.tuples(
        MOMENTS,
        st.sampled_from(["ann", "bob", "eve"]),
        st.sampled_from(["1", "2", "3"]),
        st.sampled_from([-2, 1, 5]),
        st.sampled_from([0, 1, 9]),
        st.sampled_from(["UK", "FR", None]),
    ),
    min_size=2,
    max_size=25,
)


@settings(max_examples=40)
@given(EVENTS, st.integers(1, 24))
def test_later_events_change_nothing_that_was_known(rows, cut):
    """The panel of the first events agrees with the whole one: facts everywhere, values and targets where known."""
    rows = sorted(rows)
    then = made(rows[: min(cut, len(rows) - 1)])
    whole = made(rows).select(then.columns)
    both = then.join(whole, on=["who", "time"], how="left", suffix=" whole", maintain_order="left")
    same = [pl.col(name).eq_missing(pl.col(f"{name} whole")).all() for name in ("home", "recency", "tenure", "row_id")]
    known = [
        (pl.col(name).is_null() | pl.col(name).eq_missing(pl.col(f"{name} whole"))).all()
        for name in ("spend", "bills", "lines", "dearest", "buys", "next")
    ]
    # The newest period may go on, so no fact of it can have come from a later event of that period either.
    assert all(both.select(*same, *known).row(0))


@pytest.mark.parametrize(("period", "days"), [("1d", 9), ("1w", 60), ("2w", 120), ("1mo", 250), ("1q", 700)])
@pytest.mark.parametrize(
    "first", ["2011-03-20", "2011-10-24", "2012-02-28"]
)  # clocks are put forward, or back; a leap day
def test_no_later_row_knows_a_value_before_its_last_period_is_over(period, days, first):
    """By the delay that features and splits go by."""
    last = dt.datetime.fromisoformat(first) + dt.timedelta(days=days)
    rows = [(f"{first} 12:00", "ann", "1", 1, 1, "UK"), (f"{last:%Y-%m-%d} 12:00", "ann", "2", 1, 1, "UK")]
    for periods in (1, 2, 4):
        values = {**TREE["events"]["values"], "buys": {"any": "pieces > 0", "periods": periods}}
        found = dataset(events={**TREE["events"], "period": period, "values": values})
        times = made(rows, found)["time"].to_list()
        delay = dt.timedelta(days=found.delay_days("buys"))
        assert len(times) >= 7
        for place, time in enumerate(times):
            assert [later for later in times[place + 1 :] if time + delay < later] == times[place + periods :]


def test_a_rule_that_gives_no_class_is_told():
    rules = {"step": "CASE WHEN bills_2w = 0 THEN 'nothing' ELSE 'less' END"}
    with pytest.raises(DataError, match=r"make 'nothing' of 'step' in 1 row\(s\).*dataset.targets.classes of 'next'"):
        made(found=dataset(events={**TREE["events"], "rules": rules}))
