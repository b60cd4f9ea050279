"""Consumes configurations, checks what `build_features --explain` says of every feature, without Spark and data."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from feature_harness import widest_plan

from assay import cli
from assay.features import catalog
from assay.features.explain import Explained, explained, summary
from assay.features.plan import HistoryOf

DATASET = {
    "name": "flats",
    "source": {"path": "there_is_no_such_file.csv"},
    "time": {"column": "sold_on"},
    "entity": ["flat"],
    "targets": [{"name": "price", "relative_to": "last_value"}],
    "columns": {"numeric": ["size"], "outcomes": ["visits"], "categorical": ["kind"]},
    "groups": [["kind"]],
    "availability_delay_days": {"visits": 20},
    "features": {"horizon_days": 7},
}


@pytest.fixture
def explain(tmp_path, capsys, monkeypatch):
    """explain("--json") -> exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flats.yml").write_text(yaml.safe_dump(DATASET), encoding="utf-8")

    def call(*arguments: str):
        with pytest.raises(SystemExit) as ended:
            cli.main(["build_features", "--explain", "--dataset", "flats.yml", *arguments])
        return ended.value.code, *capsys.readouterr()

    yield call
    assert [path.name for path in tmp_path.iterdir()] == ["flats.yml"]  # no workspace, no database


def test_every_feature_is_listed_once_with_all_that_is_asked_of_it():
    plan = widest_plan()
    found = explained(plan)
    assert [f.name for f in found] == [f.name for f in catalog.features_of(plan)]
    for f in found:
        assert "" not in (f.family, f.availability), f
        assert f.cost in {"cheap", "sums", "scan"}, f
        assert f.inputs, f
        assert f.window or f.family in {"raw", "category", "interactions", "transforms"}, f


def test_availability_is_the_delay_with_the_horizon_in_words_and_days():
    plan = widest_plan(history=(HistoryOf("price", 7.0), HistoryOf("sales", 27.0)), widest={"horizon_days": 7.0})
    found = {f.name: (f.availability, f.delay_days) for f in explained(plan)}
    assert found["size"] == ("known at the row's own time", 0.0)
    assert found["size__squared"] == ("known at the row's own time", 0.0)
    assert found["calendar__is_session"] == ("known in advance", None)
    assert found["price__own__lag_1"] == ("values more than 7 days old (horizon 7)", 7.0)
    assert found["sales__own__lag_1"] == ("values more than 27 days old (delay 20, horizon 7)", 27.0)
    assert found["price__place__lag_1"][0].endswith("(horizon 7), as of the start of the day")
    assert found["price__place__market_level"][0].endswith("(horizon 7), of months that are over")
    assert found["price__thing__encoding"][0].endswith(", as of the start of the day")
    assert found["price__own__lag_1__over__sales__own__lag_1"][1] == 27.0
    prompt = {f.name: (f.availability, f.delay_days) for f in explained(widest_plan())}
    assert prompt["price__own__rsi_2"] == ("values before the row's time", 0.0)
    assert prompt["sales__own__rsi_2"] == ("values more than 2.5 days old (delay 2.5)", 2.5)


def test_it_prints_a_table_without_spark_and_without_data(explain):
    code, out, err = explain()
    assert (code, err) == (0, "")
    lines = out.splitlines()
    (row,) = [line for line in lines if re.match(r"\s*visits__own__lag_1 ", line)]
    assert re.split(r"\s{2,}", row.strip()) == [
        "visits__own__lag_1",
        "history",
        "visits",
        "1 observations",
        "values more than 27 days old (delay 20, horizon 7)",
        "cheap",
    ]
    count = int(re.match(r"(\d+) features: 1 raw, 1 category, ", lines[-1])[1])
    assert sum(" 27 days old" in line or "known" in line or " 7 days old" in line for line in lines[:-1]) == count


def test_json_is_one_object_with_every_feature(explain):
    code, out, _ = explain("--json", "--profile", "research", "--set", "dataset.features.lags=[1,5]")
    told = json.loads(out.splitlines()[-1])
    assert (code, told["job"], told["status"]) == (0, "build_features", "explained")
    names = {feature["name"] for feature in told["features"]}
    assert {"price__own__lag_5", "size__squared", "kind"} < names
    assert all(set(feature) == set(Explained.__dataclass_fields__) for feature in told["features"])
    assert len(told["plan"]) == 16


def test_mistakes_are_told_as_ever(explain):
    assert explain("--set", "dataset.features.technical=[pric]")[0] == 2
    code, _, err = explain("--set", "dataset.calendar.market=NYSEE")
    assert (code, "did you mean NYSE?" in err) == (2, True)
    code, _, err = explain("--plan", "champion")
    assert (code, "--explain lists what the configuration asks for" in err) == (2, True)


def test_the_summary_counts_families():
    assert summary(explained(widest_plan())).startswith(f"{len(catalog.features_of(widest_plan()))} features: 1 raw, ")
