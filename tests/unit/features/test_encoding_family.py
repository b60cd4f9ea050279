"""Consumes rows, checks target encoding against loops over all earlier rows, and attributes filled forward."""

from __future__ import annotations

import datetime as dt
import json
import math
import statistics

import polars as pl
import pytest
import yaml
from feature_harness import features_of, observations, utc, widest_plan
from feature_oracle import differs, seen
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.config import load_run
from assay.config.features import TargetEncodingConfig
from assay.features import catalog
from assay.features.fill import filled_forward
from assay.features.kernel import feature_schema, group_schema
from assay.features.plan import FeaturePlan, HistoryOf

START = utc("2020-01-20")
moments = st.integers(0, 60).map(lambda quarters: START + dt.timedelta(hours=6 * quarters))
numbers = st.one_of(st.none(), st.floats(-1e4, 1e4))


@settings(deadline=None, max_examples=50)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "thing": st.sampled_from("xyz"),
                "place": st.sampled_from(["p", "q", None]),
                "time": moments,
                "price": numbers,
            }
        ),
        min_size=1,
        max_size=15,
    ),
    delay_days=st.sampled_from([0.0, 2.0]),
    smoothing=st.sampled_from([0.0, 2.5, 1e6]),
)
def test_it_is_the_mean_of_earlier_days_shrunk_to_that_of_all_rows(rows, delay_days, smoothing):
    encoding = TargetEncodingConfig(columns=("place", "thing"), smoothing=smoothing)
    quiet = dict.fromkeys(("windows_days", "windows_rows", "halflives_days", "trend_days", "seasonality_days"), ())
    plan = widest_plan(
        widest={"target_encoding": encoding, "technical": (), "expanding": (), **quiet},
        history=(HistoryOf("price", delay_days),),
        interactions=False,
        market=False,
    )
    rows = [row | {"row_id": i} for i, row in enumerate(rows)]
    found = features_of(observations(rows, plan), plan)
    for row, built in zip(rows, found.to_dicts(), strict=True):
        day = row["time"].replace(hour=0)
        past = {"delay_days": delay_days, "value": "price", "at": day}
        overall = [value for _, value in seen(rows, by=[], key=(), **past)]
        for column in ("place", "thing"):
            mine = [value for _, value in seen(rows, by=[column], key=(row[column],), **past)]
            expected = None
            if overall and len(mine) + smoothing:
                shrunk = sum(mine) + smoothing * statistics.fmean(overall)
                expected = shrunk / (len(mine) + smoothing)
            scale = max((abs(value) for value in overall), default=1.0) * 10
            assert not differs(built[f"price__{column}__encoding"], expected, scale=scale)


def test_the_features_table_has_the_encodings_and_not_what_they_are_made_of():
    plan = widest_plan()
    assert plan.markets == ("place", "all")
    names = feature_schema(plan).names
    assert {"price__place__encoding", "price__thing__encoding"} < set(names)
    assert not any(name.endswith(("encoding_mean", "encoding_count")) for name in names)
    assert not any("__thing__" in name and not name.endswith("__encoding") for name in names)
    assert group_schema(plan, "thing").names[2:] == ["price__thing__encoding_count", "price__thing__encoding_mean"]
    assert "price__place__encoding_mean" in group_schema(plan, "place").names
    assert not any("sales" in name for name in group_schema(plan, "thing").names)


@pytest.fixture
def plan_from(tmp_path):
    def build(*overrides: str, **features) -> FeaturePlan:
        tree = {
            "name": "flats",
            "source": {"path": "flats.csv"},
            "time": {"column": "day"},
            "entity": ["flat no"],
            "targets": [{"name": "price"}],
            "columns": {"categorical": ["kind"], "numeric": ["floor size"]},
            "groups": [["kind"]],
            "features": features,
        }
        path = tmp_path / "flats.yml"
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
        return FeaturePlan.of(load_run(dataset=path, overrides=overrides))

    return build


def test_a_dataset_asks_for_it_by_the_names_of_its_columns(plan_from):
    plan = plan_from(target_encoding={"columns": ["kind", "flat no"]}, forward_fill=["floor size"], technical=["price"])
    assert plan.groups == {"kind": ("kind",), "flat_no": ("flat_no",), "all": ()}
    assert (plan.markets, plan.encoding_groups) == (("kind",), ("flat_no", "all"))
    assert plan.settings.forward_fill == ("floor_size",)
    encoded = [f.name for f in catalog.features_of(plan) if f.family == "target_encoding"]
    assert encoded == ["price__kind__encoding", "price__flat_no__encoding"]
    again = FeaturePlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert (again, again.hash) == (plan, plan.hash)
    off = plan_from("training.enable_temporal_features=false", target_encoding={"columns": ["flat no"]})
    assert off.encoding_groups == ()
    assert not [f for f in catalog.features_of(off) if f.family == "target_encoding"]
    assert plan_from().encoding_groups == ()


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "thing": st.sampled_from(["x", "y", None]),
                "time": moments,
                "size": st.one_of(st.none(), st.just(math.nan), st.floats(0, 9)),
            }
        ),
        min_size=1,
        max_size=15,
    ),
    oldest=st.sampled_from([None, 2]),
)
def test_a_missing_attribute_takes_the_entitys_last_one(rows, oldest):
    plan = widest_plan(widest={"max_history_days": oldest})
    rows = [row | {"row_id": i} for i, row in enumerate(rows)]
    frame = observations(rows, plan).sort("thing", "time", "row_id")
    found = filled_forward(frame, plan, by=plan.entity).sort("row_id")["size"].to_list()
    order = sorted(rows, key=lambda row: (row["time"], row["row_id"]))
    for row in rows:
        mine = [r for r in order if r["thing"] == row["thing"] and (r["time"] < row["time"] or r is row)]
        known = [r for r in mine if r["size"] is not None and r["size"] == r["size"]]
        expected = row["size"]
        if known and (oldest is None or row["time"] - known[-1]["time"] <= dt.timedelta(days=oldest)):
            expected = known[-1]["size"]
        one = found[row["row_id"]]
        if expected is not None and expected != expected:
            assert one is None or one != one
        else:
            assert one == expected


def test_only_chosen_attributes_are_filled_and_never_from_another_entity():
    plan = widest_plan(numeric=("size", "rooms"))
    frame = pl.DataFrame(
        {
            "thing": ["x", "x", "y"],
            "time": pl.Series([START, START + dt.timedelta(days=400), START], dtype=pl.Datetime("us", "UTC")),
            "size": [1.0, None, None],
            "rooms": [2.0, None, None],
        }
    )
    filled = filled_forward(frame, plan, by=plan.entity)
    assert filled["size"].to_list() == [1.0, 1.0, None]
    assert filled["rooms"].to_list() == [2.0, None, None]
    assert filled_forward(frame, widest_plan(temporal=False), by=plan.entity).equals(frame)
    assert [f.window for f in catalog.features_of(plan) if f.family == "raw"] == ["last known value", ""]
