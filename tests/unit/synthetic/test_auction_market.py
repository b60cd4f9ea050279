"""Consumes lots of machines at auctions, checks that they have the quirks of such data and that their truth is true."""

from __future__ import annotations

import itertools
import re

import numpy as np
import polars as pl
import pytest
from scipy import stats

from assay.config import load_dataset
from assay.config.loader import conf_root
from assay.errors import ConfigError
from assay.synthetic import files
from assay.synthetic.auction_columns import GROUPS, STATES, UNSAID
from assay.synthetic.auctions import GROUP_SHARES
from assay.synthetic.config import PRESETS, market_config
from assay.synthetic.dataset import dataset_tree, planted
from assay.synthetic.faults import NAMES, Faults
from assay.synthetic.presets import shown

ROWS = 20_000


def frames(config, start=0, stop=None):
    found = (pl.from_arrow(table) for table in files.chunk(config, start, stop or config.rows))
    return tuple(frame.with_columns(pl.col(pl.Categorical).cast(pl.String)) for frame in found)


def auctions(rows=ROWS, **settings):
    return market_config({"rows": rows, "preset": "auctions", **settings})


@pytest.fixture(scope="module")
def lots():
    """Source and truth side by side."""
    source, truth = frames(auctions())
    return source.with_columns(
        truth["price_without_noise"],
        truth["noise_sd"],
        year=pl.col("saledate").dt.year(),
        made=pl.col("YearMade").cast(int),
    )


@pytest.mark.parametrize("settings", [{}, {"bad_share": 0.05, "leaks": ["target", "future"], "attributes": 2}])
def test_lots_are_the_same_however_they_are_cut(settings):
    config = auctions(3_001, **settings)
    whole = frames(config)
    edges = [0, 1, 7, 10, 1_234, 1_235, 2_990, 3_001]
    parts = [frames(config, a, b) for a, b in itertools.pairwise(edges)]
    for found, table in zip(zip(*parts, strict=True), whole, strict=True):
        assert pl.concat(found).equals(table)
    assert not frames(auctions(3_001, seed=8))[0]["SalePrice"].equals(whole[0]["SalePrice"])


def test_a_machine_is_sold_up_to_three_times_and_stays_what_it_is(lots):
    sales = lots.group_by("MachineID").len()["len"]
    assert set(sales) == {1, 2, 3}
    assert lots["MachineID"].n_unique() == planted(auctions(), [])["entities"] == shown(auctions()).layout.entity_count
    own = ["ModelID", "state", "ProductGroup", "Drive_System", "Stick", "fiProductClassDesc"]
    assert lots.group_by("MachineID").agg(pl.col(own).n_unique()).select(pl.col(own).max()).row(0) == (1,) * len(own)
    known = lots.filter(pl.col("made") != 1000)
    assert known.group_by("MachineID").agg(pl.col("made").n_unique())["made"].max() == 1
    assert (known["year"] >= known["made"]).all()
    apart = lots.sort("MachineID", "saledate").select(pl.col("saledate").diff().over("MachineID")).to_series()
    assert apart.drop_nulls().min().days > 170
    assert lots.group_by("ModelID").len()["len"].min() > 20  # a model is a market


def test_days_are_those_of_auctions_and_lots_become_more(lots):
    assert set(lots["saledate"].dt.weekday()) == {2, 3, 4}
    years = lots.group_by("year").len().sort("year")
    assert years["year"].to_list() == list(range(2005, 2025))
    assert years["len"][-1] > 4 * years["len"][0]
    assert stats.spearmanr(years["year"], years["len"]).statistic > 0.95


def test_what_is_not_known_looks_as_it_does_in_such_data(lots):
    unknown = lots["made"] == 1000
    assert unknown.mean() == pytest.approx(0.06, abs=0.01)
    assert lots.filter(~unknown)["made"].min() > 1970
    meter = lots["MachineHoursCurrentMeter"]
    assert meter.null_count() / ROWS == pytest.approx(0.55, abs=0.02)
    assert (meter == 0).sum() / ROWS == pytest.approx(0.15, abs=0.02)
    assert lots.filter(pl.col("UsageBand").is_not_null())["MachineHoursCurrentMeter"].min() > 0
    assert set(lots["UsageBand"].drop_nulls()) == {"Low", "Medium", "High"}
    for column, having in {
        "Drive_System": {"MG", "BL"},
        "Tire_Size": {"WL", "MG"},
        "Stick": {"TEX", "BL"},
        "Hydraulics": {"TEX", "TTT", "WL", "SSL"},
    }.items():
        filled = lots.group_by("ProductGroup").agg(pl.col(column).is_not_null().mean())
        assert dict(filled.iter_rows()) == {group: float(group in having) for group in GROUPS}
    for column in ("Enclosure", "Hydraulics", "Tire_Size"):
        assert 0.05 < (lots[column] == UNSAID).mean() < 0.5
    assert 0.01 < lots["Enclosure"].null_count() / ROWS < 0.03
    texts = lots["fiProductClassDesc"].unique()
    pattern = re.compile(r"[A-Z][A-Za-z ,]+ - (\d+\.\d) (?:to (\d+\.\d)|\+) [A-Z][A-Za-z ]+")
    ranges = [pattern.fullmatch(text) for text in texts]
    assert len(texts) == 6 * len(GROUPS)
    assert all(found is not None and float(found[1]) < float(found[2] or "inf") for found in ranges)


def test_prices_are_called_in_whole_hundreds_and_often_in_rounder_ones(lots):
    price = lots["SalePrice"]
    assert (price % 100 == 0).all()
    assert 0.5 < (price % 500 == 0).mean() < 0.8  # a fifth, were it chance
    assert 0.3 < (price % 1000 == 0).mean() < 0.6


def test_age_group_house_and_downturn_move_prices(lots):
    rows = lots.filter(pl.col("made") != 1000).with_columns(
        age=pl.col("year") - pl.col("made"), log=pl.col("price_without_noise").log()
    )
    ages = rows.with_columns(within=pl.col("log") - pl.col("log").mean().over("ModelID"))
    by_age = ages.group_by(pl.col("age") // 4).agg(pl.col("within").mean(), pl.len()).filter(pl.col("len") > 200)
    steps = -by_age.sort("age")["within"].diff().drop_nulls()
    assert steps[0] > 0.3  # of four years
    assert steps[0] > 2 * steps[-1] > 0
    houses = ages.group_by("auctioneerID").agg(pl.col("within").mean()).drop_nulls().sort("within", descending=True)
    assert {"1", "2"} <= set(houses["auctioneerID"][:4])
    downturn = planted(auctions(), [])["downturn"]
    assert downturn == {"from": "2016-01-01", "until": "2017-01-01", "log_price": -0.3}
    years = dict(ages.group_by("year").agg(pl.col("within").mean()).iter_rows())
    assert years[2016] < years[2015] - 0.1
    assert years[2017] < years[2015] - 0.1
    assert years[2020] > years[2017] + 0.1


def test_prices_deviate_from_the_truth_by_the_stated_noise_and_by_rounding():
    made = shown(auctions())
    rows = made.market.rows(0, ROWS)
    z = (rows.log_price - rows.expected) / rows.noise_sd
    assert stats.kstest(z, "norm").pvalue > 0.01
    source, truth = frames(auctions())
    assert truth["price_without_noise"].to_numpy() == pytest.approx(np.exp(rows.expected))
    rounding = np.abs(source["SalePrice"].to_numpy() / np.exp(rows.log_price) - 1)
    assert rounding.max() < 0.03
    assert np.median(rows.noise_sd) == pytest.approx(0.06, rel=0.3)


@pytest.mark.parametrize("share", [0.01, 0.2])
def test_each_rule_is_broken_equally_often_and_a_duplicate_has_its_twin(share):
    config = auctions(10_007, bad_share=share)
    fault = Faults(config).of(0, config.rows)
    counts = np.bincount(fault[fault >= 0], minlength=len(NAMES))
    assert set(counts) == {int(share * 10_007) // len(NAMES)}
    assert (np.diff(np.flatnonzero(fault >= 0)) > 1).all()
    source, truth = frames(config)
    good = source.filter(truth["fault"].fill_null("duplicate") == "duplicate")
    doubles = good.select(pl.struct("MachineID", "saledate").is_duplicated().sum()).item()
    assert doubles == 2 * counts[NAMES.index("duplicate")]
    for rule in planted(config, [])["bad_rows"].values():
        assert not set(re.findall(r"'(\w+)'", rule["reason"])) - set(source.columns)


def test_the_dataset_is_the_one_that_ships_on_files_of_its_own():
    config = auctions(attributes=1, leaks=["target"])
    shipped = load_dataset(conf_root() / "datasets" / "auctions.yml")
    tree = dataset_tree(config)
    assert tree["source"]["path"] == "market"
    assert tree["columns"]["numeric"] == [*shipped.columns.numeric, "assessed_value", "attribute_000"]
    assert set(shipped.source_columns) <= set(files.schemas(config)[0].names)
    assert tree["unknown_values"] == {"YearMade": [1000], "MachineHoursCurrentMeter": [0]}
    preset = PRESETS["auctions"]
    assert (preset["regions"], preset["kinds"]) == (len(STATES), len(GROUPS)) == (24, len(GROUP_SHARES))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"entities": 5}, "--entities 5: the preset auctions has its own; leave --entities out"),
        ({"frequency": "daily"}, "--frequency daily: the preset auctions has its own"),
        ({"skew": 0.1}, "--skew 0.1: the preset auctions has its own"),
        ({"end": "1910-01-01"}, "--end 1910-01-01: auctions last 20 years; choose one from 1921 on"),
        ({"preset": "auction"}, "preset: input should be 'auctions'"),
    ],
)
def test_what_auctions_cannot_be_is_refused_in_one_line(settings, message):
    with pytest.raises(ConfigError) as refused:
        shown(auctions(**settings)).layout.bounds_us  # noqa: B018
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
