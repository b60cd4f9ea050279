"""Consumes small files whose time is written oddly, checks that `assay init` reads it or says what to do."""

import numpy as np
import polars as pl
import pytest

MONTHS = 36


@pytest.fixture(scope="module")
def market():
    """Six shops, three years of months: year, month, and the first moment of the month."""
    random = np.random.default_rng(1)
    shops = []
    for shop in range(6):
        months = np.arange(MONTHS)
        sales = np.exp(4 + 0.3 * shop + np.cumsum(random.normal(0, 0.03, MONTHS)))
        columns = {"year": 2015 + months // 12, "month": months % 12 + 1, "sales": sales.round(2)}
        shops.append(pl.DataFrame({"shop": [f"s{shop}"] * MONTHS, **columns, "staff": random.integers(1, 9, MONTHS)}))
    return pl.concat(shops).with_columns(start=pl.datetime("year", "month", 1, time_zone="UTC"))


@pytest.fixture
def told(init, tmp_path):
    """told(frame, arguments...) -> exit code, the JSON object, the dataset, the line on standard error."""

    def call(frame, *arguments):
        frame.write_csv(tmp_path / "found.csv")
        code, found, dataset, err = init(tmp_path / "found.csv", *arguments)
        return code, found, dataset, err[0] if err else ""

    return call


@pytest.mark.parametrize(("unit", "format_"), [("s", "%s"), ("ms", "epoch_ms"), ("us", "epoch_us"), ("ns", "epoch_ns")])
@pytest.mark.parametrize(("name", "odd"), [("ts", 1_234), ("observed", 0)])
def test_numbers_since_1970_are_times_by_their_name_or_as_they_are_round(told, market, unit, format_, name, odd):
    since = (pl.col("start").dt.epoch(unit) + odd).alias(name)
    code, found, dataset, _ = told(market.select("shop", since, "sales", "staff"))
    assert (code, dataset.time.column, dataset.time.format) == (0, name, format_)
    assert (dataset.entity, found["frequency"], found["target"]) == (("shop",), "1mo", "sales")


def test_numbers_that_may_be_since_1970_are_named_and_taken_when_a_person_says_so(told, market):
    since = (pl.col("start").dt.epoch("ms") + 7 * pl.col("month") + 1).alias("created")
    frame = market.select("shop", since, "sales", "staff")
    code, found, _, _ = told(frame)
    assert (code, found["time"]) == (0, None)
    assert "'created': its numbers may be 1 / 1,000 seconds since 1970; --time makes it the time" in found["look_at"]
    code, _, dataset, _ = told(frame, "--time", "created", "--force")
    assert (code, dataset.time.format, dataset.entity) == (0, "epoch_ms", ("shop",))


def test_numbers_of_months_are_times(told, market):
    period = (pl.col("year") * 100 + pl.col("month")).alias("p")
    code, found, dataset, _ = told(market.select("shop", period, "sales", "staff"))
    assert (code, dataset.time.column, dataset.time.format) == (0, "p", "%Y%m")
    assert (dataset.entity, found["frequency"]) == (("shop",), "1mo")


def day_of(frame):
    return frame.with_columns(day=2 * pl.col("month") - 1)


NAMES = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


@pytest.mark.parametrize(
    ("changed", "parts", "example"),
    [
        (lambda rows: rows, "'year' and 'month'", "2015-01"),
        (lambda rows: rows.rename({"year": "Yr", "month": "Mo"}), "'Yr' and 'Mo'", "2015-01"),
        (
            lambda rows: rows.with_columns(month=pl.col("month").replace_strict(range(1, 13), NAMES)),
            "'year' and 'month'",
            "2015-01",
        ),
        (day_of, "'year', 'month' and 'day'", "2015-01-01"),
        (lambda rows: rows.rename({"month": "week"}), "'year' and 'week'", "2015-01-01"),
        (
            lambda rows: rows.filter(pl.col("month") < 5).rename({"month": "quarter"}),
            "'year' and 'quarter'",
            "2015-01",
        ),
    ],
)
def test_a_time_in_several_columns_is_said_and_what_to_do(told, market, changed, parts, example):
    code, _, _, err = told(changed(market.drop("start")))
    assert code == 2
    assert f"{parts} are the time of the rows together, and time.column is one column: add a column with" in err
    assert err.endswith(f"the date of each row to the source, such as {example}")


def test_one_series_in_several_columns_is_told_both_things_to_add(told, market):
    code, _, _, err = told(market.filter(pl.col("shop") == "s0").drop("shop", "start"))
    assert code == 2
    assert err.endswith("such as 2015-01; the rows are one series, so add one with the same value in all rows, too")


def test_with_the_column_that_was_asked_for_it_runs(told, market):
    whole = market.drop("start").with_columns(date=pl.format("{}-{}", "year", pl.col("month").cast(str).str.zfill(2)))
    code, found, dataset, _ = told(whole)
    assert (code, dataset.time.column, dataset.entity, found["frequency"]) == (0, "date", ("shop",), "1mo")
    one = whole.filter(pl.col("shop") == "s0").drop("shop")
    assert "add a column with one value to the source" in told(one, "--force")[3]
    code, _, dataset, _ = told(one.with_columns(series=pl.lit("all")), "--force")
    assert (code, dataset.entity) == (0, ("series",))


def test_years_stay_times_beside_a_month_that_is_none(told):
    random = np.random.default_rng(3)
    years = pl.DataFrame(
        [
            {
                "country": country,
                "year": year,
                "month_of_budget": place + 1,
                "gdp": round(100 * (place + 1) * 1.02 ** (year - 1990) + random.normal(), 3),
            }
            for place, country in enumerate("abcdefghijkl")
            for year in range(1990, 2020)
        ]
    )
    code, found, dataset, _ = told(years)
    assert (code, dataset.time.column, dataset.time.format, dataset.entity) == (0, "year", "%Y", ("country",))
    assert any(line.startswith("'year' and 'month_of_budget': are they the rows' time") for line in found["look_at"])


def test_rows_that_are_named_and_have_a_year_and_a_month_run_and_say_what_they_lack(told):
    random, rows = np.random.default_rng(4), 400
    sold = pl.DataFrame(
        {
            "order": [f"P{n}" for n in range(rows)],
            "yr_built": random.integers(1900, 2000, rows),
            "yr_sold": random.integers(2006, 2011, rows),
            "mo_sold": random.integers(1, 13, rows),
            "price": random.normal(2e5, 3e4, rows).round(),
        }
    )
    code, found, dataset, _ = told(sold, "--target", "price")
    assert (code, dataset.time.dated, dataset.entity) == (0, False, ("order",))
    assert any(
        line.startswith("'yr_sold' and 'mo_sold': are they the rows' time together?") for line in found["look_at"]
    )


def test_an_entity_of_two_columns_is_found(told, market):
    brands = [
        market.with_columns(brand=pl.lit(brand), sales=pl.col("sales") * (place + 1))
        for place, brand in enumerate("abc")
    ]
    code, found, dataset, _ = told(
        pl.concat(brands).select("shop", "brand", pl.col("start").dt.date(), "sales", "staff")
    )
    assert (code, dataset.entity, dataset.time.column) == (0, ("shop", "brand"), "start")
    assert found["frequency"] == "1mo"
