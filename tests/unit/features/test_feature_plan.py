"""Consumes configurations, checks that a plan says exactly which columns are built, and survives being written down."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import pytest
import yaml
from feature_harness import features_of, observations, plan_of, settings_of, utc

from assay.config import load_run
from assay.config.dataset import CalendarConfig
from assay.config.features import FeaturesConfig, FourierConfig, InteractionsConfig, TargetEncodingConfig
from assay.errors import ConfigError
from assay.features import catalog
from assay.features.catalog import check_names, numeric_features
from assay.features.kernel import condensed_schema, feature_schema, group_schema, observation_columns
from assay.features.plan import FeaturePlan, HistoryOf
from assay.features.standing import now_column

DATASET: dict[str, Any] = {
    "name": "shops",
    "source": {"path": "shops.csv"},
    "time": {"column": "day", "zone": "Europe/Berlin"},
    "entity": ["shop"],
    "targets": [{"name": "price", "relative_to": "last_value"}, {"name": "rent"}],
    "columns": {"numeric": ["floor size"], "categorical": ["kind"], "outcomes": ["sales"]},
    "groups": [["kind"], [], ["kind", "town"]],
    "availability_delay_days": {"sales": 30},
    "features": {"lags": [3, 1], "windows_days": [90, 30], "statistics": ["mean"], "market_momentum_months": [12, 1]},
    "calendar": {"country": "DE"},
}
SWITCHES = ("enable_advanced_features", "enable_temporal_features", "enable_market_features")


SETTINGS: list[dict[str, Any]] = [
    {"lags": (1,)},
    {"lookback": 4},
    {"windows_days": (3,)},
    {"windows_rows": (4,)},
    {"statistics": ("mean",)},
    {"halflives_days": (1.0,)},
    {"expanding": ("max",)},
    {"trend_days": (30,)},
    {"seasonality_days": (30.0,)},
    {"group_families": ()},
    {"group_step": "1h"},
    {"max_history_days": 30},
    {"horizon_days": 1.0},
    {"market_momentum_months": ()},
    {"market_trend_months": ()},
    {"market_standing": ("price",)},
    {"beta_days": ()},
    {"technical": ("price",)},
    {"technical_periods": (9,)},
    {"macd": (3, 5, 2)},
    {"bollinger": (9, 2.0)},
    {"fourier": FourierConfig(year=5)},
    {"interactions": InteractionsConfig(columns=("size",))},
    {"target_encoding": TargetEncodingConfig(columns=("place",))},
    {"forward_fill": ("size",)},
    {"families": ("since_record",)},
]


@pytest.fixture
def plan_from(tmp_path):
    def build(*overrides: str, **changes: Any) -> FeaturePlan:
        path = tmp_path / "dataset.yml"
        path.write_text(yaml.safe_dump({**DATASET, **changes}), encoding="utf-8")
        return FeaturePlan.of(load_run(dataset=path, overrides=overrides))

    return build


def test_a_plan_is_what_the_dataset_and_the_profile_ask_for(plan_from):
    plan = plan_from()
    assert plan.history == (HistoryOf("price", 0.0), HistoryOf("rent", 0.0), HistoryOf("sales", 30.0))
    assert plan.groups == {"kind": ("kind",), "all": (), "kind+town": ("kind", "town")}
    assert (plan.settings.lags, plan.settings.windows_days) == ((3, 1), (90, 30))
    assert plan.calendar == CalendarConfig(country="DE")
    assert plan.anchors == ("price",)
    assert plan.numeric == ("floor_size",)
    assert plan.zone == "Europe/Berlin"
    assert plan.texts == ("shop", "kind", "town")


def test_a_horizon_makes_every_value_known_that_much_later(plan_from):
    plan = plan_from("dataset.features.horizon_days=7")
    assert plan.history == (HistoryOf("price", 7.0), HistoryOf("rent", 7.0), HistoryOf("sales", 37.0))


@pytest.mark.parametrize("values", itertools.product([True, False], repeat=3))
def test_every_feature_of_the_plan_is_built_and_no_other(plan_from, values):
    flags = [f"training.{switch}={str(value).lower()}" for switch, value in zip(SWITCHES, values, strict=True)]
    plan = plan_from(*flags)
    rows = [
        {"row_id": i, "time": utc(f"2020-0{i + 1}-01"), "shop": "s", "kind": "k", "price": 2.0, "rent": 1.0}
        for i in range(3)
    ]
    built = features_of(observations(rows, plan), plan)
    names = [feature.name for feature in catalog.features_of(plan)]
    assert len(set(names)) == len(names)
    assert built.columns == feature_schema(plan).names
    kept = {"row_id", "time", "month", *plan.texts, *plan.targets}
    assert set(built.columns) - kept == set(names) - kept
    assert [c for c in built.columns if c not in kept] == numeric_features(plan)
    # An anchored target has its last known value, whatever is switched off.
    assert built["price__own__lag_1"].to_list() == [None, 2.0, 2.0]
    for label in plan.groups:
        of_rows = ("relative", "standing", "beta", "rank")
        described = [f.name for f in catalog.features_of(plan) if f.group == label and f.family not in of_rows]
        now = [now_column(target) for target in plan.targets] if plan.market and plan.temporal else []
        assert group_schema(plan, label).names[len(plan.groups[label]) + 1 :] == [*described, *now]
        assert condensed_schema(plan, label).names[: len(plan.groups[label])] == list(plan.groups[label])


def test_features_switched_off_leave_only_what_rows_say_of_themselves(plan_from):
    plan = plan_from("training.enable_advanced_features=false", targets=[{"name": "price"}])
    assert [f.name for f in catalog.features_of(plan)] == ["floor_size", "kind"]


def test_observations_are_read_once_each_and_completely(plan_from):
    names = observation_columns(plan_from())
    assert names == ["row_id", "time", "shop", "kind", "town", "floor_size", "price", "rent", "sales", "month"]


def test_a_plan_written_as_json_comes_back_equal(plan_from):
    for plan in (plan_from(), plan_of(), plan_of(groups={}, calendar=CalendarConfig(), anchors=())):
        again = FeaturePlan.from_dict(json.loads(json.dumps(plan.to_dict())))
        assert again == plan
        assert again.hash == plan.hash
        assert catalog.features_of(again) == catalog.features_of(plan)


def test_the_hash_is_the_same_in_every_process_and_differs_with_any_setting():
    """Scoring compares the hash with that of a model made long ago: a new one here means a new `PLAN_VERSION`."""
    assert plan_of().hash == "026183714149b4d5"
    changes: list[dict[str, Any]] = [
        *({"settings": settings_of(**change)} for change in SETTINGS),
        {"zone": "Asia/Tokyo"},
        {"history": (HistoryOf("price", 0.5), HistoryOf("sales", 2.5))},
        {"groups": {"all": ()}},
        {"calendar": CalendarConfig()},
        {"calendar": CalendarConfig("US", "TX")},
        {"version": 0},
    ]
    assert {name for change in SETTINGS for name in change} == {f.name for f in dataclasses.fields(FeaturesConfig)}
    assert len({plan_of().hash, *(plan_of(**change).hash for change in changes)}) == len(changes) + 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": [["kind", "town"], ["Kind+town"]]}, r"dataset.groups: the features of \['Kind\+town'\]"),
        (
            {"columns": {"numeric": ["calendar__year"], "outcomes": ["sales"]}},
            "the calendar feature 'calendar__year' would have the name of the raw feature 'calendar__year'",
        ),
        (
            {"columns": {"numeric": ["Price__own__lag_1"], "outcomes": ["sales"]}},
            "dataset.columns: the history feature 'price__own__lag_1'",
        ),
        ({"segments": ["price__kind__market_level"]}, "the market feature.*would have the name of a column"),
    ],
)
def test_two_features_of_one_name_are_refused(plan_from, changes, message):
    def check() -> None:
        plan = plan_from(**changes)
        check_names(plan, catalog.features_of(plan))

    with pytest.raises(ConfigError, match=message):
        check()


def test_columns_called_like_the_words_of_feature_names_are_no_trouble(plan_from):
    plan = plan_from(groups=[["own"], ["all"], []])
    assert plan.groups == {"own_": ("own_",), "all_": ("all_",), "all": ()}
