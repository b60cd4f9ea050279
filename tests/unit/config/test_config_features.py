"""Consumes dataset files, checks the settings of feature families, and what a dataset wants under one profile alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from assay.config import conf_root, load_dataset, load_run
from assay.errors import ConfigError
from assay.features.catalog import features_of
from assay.features.plan import FeaturePlan

DATASET = {
    "name": "flats",
    "source": {"path": "flats.csv"},
    "time": {"column": "sold_on"},
    "entity": ["flat"],
    "targets": [{"name": "price"}],
    "columns": {"numeric": ["size"], "outcomes": ["visits"], "categorical": ["kind"]},
    "calendar": {"country": "US"},
    "features": {"lags": [1, 2], "fourier": {"year": 2}},
}


@pytest.fixture
def write(tmp_path):
    def to(**changes) -> Path:
        path = tmp_path / "flats.yml"
        path.write_text(yaml.safe_dump({**DATASET, **changes}), encoding="utf-8")
        return path

    return to


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"technical": ["size"]}, "features.technical: 'size' is no target or outcome"),
        ({"technical": ["prise"]}, "features.technical: 'prise' is no target or outcome; did you mean price?"),
        ({"forward_fill": ["visits"]}, "features.forward_fill: 'visits' is no column of columns.numeric"),
        ({"target_encoding": {"columns": ["size"]}}, "features.target_encoding.columns: 'size' is no entity, group"),
        (
            {"target_encoding": {"column": ["kind"]}},
            "unknown key features.target_encoding.column; did you mean columns",
        ),
        ({"macd": [26, 12, 9]}, r"features.macd: the fast period 26 is not below the slow one 12"),
        ({"macd": [12, 26]}, "features.macd"),
        ({"interactions": {"pairs": [["size", "size"]]}}, "features.interactions.pairs has 'size' with itself"),
        ({"interactions": {"columns": ["size", "size"]}}, "features.interactions.columns lists 'size' twice; keep one"),
        ({"interactions": {"kinds": ["sum"]}}, r"features.interactions.kinds\[0\]"),
        ({"fourier": {"week": 4}}, "features.fourier.week"),
        ({"technical_periods": [14, 14]}, "features.technical_periods lists 14 twice; keep one"),
    ],
)
def test_contradictions_name_the_key(write, features, message):
    with pytest.raises(ConfigError, match=message):
        load_dataset(write(features=features))


def test_settings_that_only_look_like_repeats_are_fine(write):
    found = load_dataset(write(features={"macd": [3, 9, 9], "bollinger": [2, 2.0]})).features
    assert (found.macd, found.bollinger) == ((3, 9, 9), (2, 2.0))


def test_a_profile_refines_the_dataset_key_by_key_and_set_has_the_last_word(write):
    refined = {"research": {"features": {"lags": [7], "fourier": {"week": 2}}, "calendar": {"business": True}}}
    path = write(profiles=refined)
    plain, rich = (load_run(dataset=path, profile=name).dataset for name in ("production", "research"))
    assert plain == load_run(dataset=write()).dataset  # another profile's wishes are no part of a run's identity
    path = write(profiles=refined)
    assert (plain.features.lags, plain.calendar.business) == ((1, 2), False)
    assert (rich.features.lags, rich.calendar.business, rich.calendar.country) == ((7,), True, "US")
    assert (rich.features.fourier.year, rich.features.fourier.week) == (2, 2)
    assert rich.features.statistics == plain.features.statistics
    told = load_run(dataset=path, profile="research", overrides=["dataset.features.lags=[3]"]).dataset
    assert (told.features.lags, told.features.fourier.week) == ((3,), 2)


@pytest.mark.parametrize(
    ("refined", "message"),
    [
        ({"reserch": {}}, "profiles.reserch: there is no such profile; did you mean research?"),
        ({"research": {"features": {"lag": [1]}}}, "unknown key profiles.research.features.lag; did you mean lags?"),
        ({"research": {"features": {"lags": [0]}}}, r"profiles.research.features.lags\[0\]"),
        ({"research": {"segments": ["kind"]}}, "profiles.research"),
        ({"research": {"features": {"technical": ["size"]}}}, "features.technical: 'size' is no target or outcome"),
    ],
)
def test_mistakes_in_a_refinement_name_the_key(write, refined, message):
    with pytest.raises(ConfigError, match=message):
        load_run(dataset=write(profiles=refined), profile="research")


@pytest.mark.parametrize("name", ["walmart_weekly", "sp500_daily"])
def test_the_research_profile_builds_100_features_and_more_than_production(name):
    path = conf_root() / "datasets" / f"{name}.yml"
    counts = {
        profile: len(features_of(FeaturePlan.of(load_run(dataset=path, profile=profile))))
        for profile in ("production", "research")
    }
    assert counts["research"] >= max(100, counts["production"] + 50)
    families = {f.family for f in features_of(FeaturePlan.of(load_run(dataset=path, profile="research")))}
    assert {"interactions", "transforms", "own_scale", "business", "target_encoding", "smoothing"} < families
