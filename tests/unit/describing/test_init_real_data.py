"""Consumes public data sets, checks what `assay init` takes their columns for; of renamed columns, too."""

import polars as pl
import pytest

from assay.config import conf_root, load_dataset, load_run
from assay.features.job import checked
from assay.features.plan import FeaturePlan

pytestmark = pytest.mark.realdata

PRICES = {"High", "Low", "Open", "Close", "Adj Close"}
EXPECTED = {  # time, entity, targets that are among the first two, segments
    "kc_house": ("date", [("id",)], {"price"}, [("zipcode",)]),
    "walmart_weekly": ("Date", [("Store", "Dept")], {"Weekly_Sales"}, [("Type", "Dept")]),
    "sp500_daily": ("Date", [("Name",)], {"Adj Close", "Close"}, [("Sector",)]),
    "orange_juice_profit": ("week_start", [("store", "brand")], {"profit"}, [("brand",), ("store",)]),
    "epex_fr_spot": ("Date", [("hour",)], {"Spot"}, [("hour",)]),
    "telco_churn": ("", [("customerID",)], {"Churn"}, [("Contract",), ("Contract", "InternetService")]),
    "online_retail": ("InvoiceDate", [("StockCode",), ("CustomerID",)], {"UnitPrice", "Quantity"}, [(), ("Country",)]),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("assay.describing.sampling.LOOKED_AT", 40_000)


@pytest.mark.parametrize("name", EXPECTED)
def test_guesses_are_sensible(init, real_data, tmp_path, name):
    time, entities, targets, segments = EXPECTED[name]
    code, found, dataset, _ = init(real_data / f"{name}.parquet")
    assert code == 0
    assert dataset.time.column == time
    assert dataset.entity in entities
    assert targets & set(found["target_candidates"][:2])
    assert dataset.segments in segments
    assert checked(FeaturePlan.of(load_run(dataset=tmp_path / "found.yml"))).targets
    own = load_dataset(conf_root() / "datasets" / f"{name}.yml")
    assert dataset.time.format == own.time.format
    if own.events is None:
        assert set(own.source_columns) - set(dataset.source_columns) <= {"Adj Close", "Close"}
        assert (dataset.targets[0].transform, dataset.targets[0].task) == (
            own.targets[0].transform,
            own.targets[0].task,
        )


def test_prices_of_the_same_day_leak(init, real_data):
    _, found, dataset, _ = init(real_data / "sp500_daily.parquet", "--target", "Adj Close")
    assert set(found["leaks"]) >= PRICES - {"Adj Close"}
    assert dataset.columns.outcomes == ("Volume",)
    assert (dataset.targets[0].transform, dataset.targets[0].relative_to) == ("log", "last_value")


@pytest.mark.parametrize(
    ("name", "time", "entity", "targets"),
    [
        ("sp500_daily", {"Date"}, {"Name"}, PRICES | {"Volume"}),
        ("walmart_weekly", {"Date"}, {"Store", "Dept"}, {"Weekly_Sales"}),
        ("kc_house", {"date", "date_parsed"}, {"id"}, {"price"}),
        ("orange_juice_profit", {"week_start"}, {"store", "brand"}, {"profit"}),
    ],
)
def test_renamed_and_shuffled_columns_are_known_by_what_they_hold(
    init, real_data, tmp_path, name, time, entity, targets
):
    frame = pl.read_parquet(real_data / f"{name}.parquet")
    columns = sorted(frame.columns, key=lambda column: column[::-1])
    old = {f"c{place}": column for place, column in enumerate(columns, start=1)}
    frame.select(columns).rename({column: new for new, column in old.items()}).write_parquet(tmp_path / "x.parquet")
    code, found, dataset, _ = init(tmp_path / "x.parquet")
    assert code == 0
    assert old[dataset.time.column] in time
    assert {old[column] for column in dataset.entity} == entity
    assert {old[column] for column in found["target_candidates"][: len(targets)]} <= targets | {"Volume"}
    assert old[dataset.targets[0].name] in targets
