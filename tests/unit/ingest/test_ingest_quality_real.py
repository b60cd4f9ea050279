"""Consumes the public data sets, checks that default limits let them pass and that what is wrong in them is found."""

from __future__ import annotations

import polars as pl
import pytest
import yaml
from quality_harness import report

from assay.config import load_run
from assay.ingest.files import find_source
from assay.ingest.source import parts_of

pytestmark = pytest.mark.realdata

HOUSES = ["bedrooms", "bathrooms", "sqft_living", "lat"]
DATASETS = {
    "kc_house": {
        "time": {"column": "date", "format": "%Y%m%dT%H%M%S"},
        "entity": ["id"],
        "targets": [{"name": "price", "transform": "log"}],
        "columns": {"numeric": HOUSES, "categorical": ["zipcode", "grade"]},
        "bounds": {"bedrooms": [0, 20]},
    },
    "walmart_weekly": {
        "time": {"column": "Date"},
        "entity": ["Store", "Dept"],
        "targets": [{"name": "Weekly_Sales"}],
        "columns": {"numeric": ["MarkDown1", "MarkDown2", "CPI"], "categorical": ["Type"]},
    },
    "sp500_daily": {
        "time": {"column": "Date"},
        "entity": ["Name"],
        "targets": [{"name": "Adj Close", "transform": "log"}],
        "columns": {"outcomes": ["High", "Low", "Open", "Close"], "categorical": ["Sector"]},
        "quality": {"checks": ["Low <= High", "Open <= High"]},
    },
    "orange_juice_profit": {
        "time": {"column": "week_start"},
        "entity": ["store", "brand"],
        "targets": [{"name": "profit"}, {"name": "logmove"}],
    },
    "online_retail": {
        "time": {"column": "InvoiceDate"},
        "entity": ["StockCode"],
        "duplicates": "allow",
        "targets": [{"name": "UnitPrice"}],
        "columns": {"outcomes": ["Quantity"], "categorical": ["CustomerID"]},
    },
    "epex_fr_spot": {
        "time": {"column": "Date"},
        "entity": ["market"],
        "targets": [{"name": "Spot"}],
        "columns": {"numeric": ["conso"]},
    },
    "telco_churn": {
        "time": {"column": "day"},
        "entity": ["customerID"],
        "targets": [{"name": "MonthlyCharges"}],
        "columns": {"numeric": ["tenure", "TotalCharges"], "categorical": ["gender"]},
        "quality": {"categories": {"gender": ["Male", "Female"]}, "checks": ["MonthlyCharges <= TotalCharges"]},
    },
}
ADDED = {"epex_fr_spot": {"market": "FR"}, "telco_churn": {"day": "2019-01-01"}}


@pytest.fixture(scope="module")
def found(real_data, tmp_path_factory):
    """found(name) is the report of a data set under default limits."""

    def make(name):
        folder = tmp_path_factory.mktemp(name)
        path = real_data / f"{name}.parquet"
        if name in ADDED:
            frame = pl.read_parquet(path).with_columns(pl.lit(value).alias(key) for key, value in ADDED[name].items())
            path = folder / path.name
            frame.write_parquet(path)
        (folder / "d.yml").write_text(yaml.safe_dump({"name": name, "source": {"path": str(path)}, **DATASETS[name]}))
        config = load_run(dataset=folder / "d.yml", workspace=folder)
        return report(config, *parts_of(find_source(config), config)[0])

    return make


def values(report):
    return {v.measure.metric: (v.measure.value, v.measure.bad) for v in report.assessment.verdicts}


@pytest.mark.parametrize("name", ["kc_house", "orange_juice_profit", "epex_fr_spot", "telco_churn"])
def test_real_data_pass(found, name):
    report = found(name)
    assert report.refusals == []
    assert report.assessment.scores["overall"] > 95


def test_known_quirks_are_found(found):
    stocks = found("sp500_daily")
    assert values(stocks)["duplicate_keys"][1] == 3
    assert values(stocks)["cross_column"][1] == 2
    assert values(stocks)["time_gaps"][0] < 0.05  # exchange holidays; weekends are none
    assert stocks.measured.columns("completeness")[0].column == "Sector"
    shops = found("walmart_weekly")
    assert shops.measured.series.step_days == 7
    assert "'MarkDown2' (73.6 %, dataset.columns.numeric)" in shops.advice["completeness"]
    assert {p.words for p in shops.patterns()[:1]} == {"a strong season of a year"}
    retail = found("online_retail")
    assert values(retail)["time_gaps"][0] is None
    assert 0.2 < 1 - retail.measured.columns("completeness")[0].value < 0.3
    assert [r.refusals for r in (stocks, shops, retail)] == [[], [], []]
