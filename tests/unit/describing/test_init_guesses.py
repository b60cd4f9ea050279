"""Consumes invented files, checks what `assay init` takes each column for, and that names count little."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from assay.describing.columns import columns_of
from assay.describing.sampling import SLICE, sample_of
from assay.describing.times import times_in

RENAMED = {
    name: f"c{place}"
    for place, name in enumerate(
        [
            "region",
            "sales",
            "running",
            "day",
            "log_sales",
            "currency",
            "floor_area",
            "shop",
            "market_index",
            "sales_per_visitor",
            "visitors",
        ]
    )
}


@pytest.mark.parametrize("renamed", [False, True])
def test_a_panel_is_known_by_what_its_columns_hold(init, shops, tmp_path, renamed):
    names = RENAMED if renamed else {name: name for name in shops.columns}
    shops.select(list(names)).rename(names).write_csv(tmp_path / "shops.csv")
    code, found, dataset, _ = init(tmp_path / "shops.csv", "--target", names["sales"])
    assert code == 0
    assert dataset.time.column == names["day"]
    assert dataset.entity == (names["shop"],)
    (target,) = dataset.targets
    assert (target.name, target.transform, target.relative_to) == (names["sales"], "log", "last_value")
    assert set(dataset.columns.numeric) == {names["floor_area"], names["market_index"]}
    assert set(dataset.columns.categorical) == {names["shop"], names["region"]}
    assert dataset.columns.outcomes == (names["visitors"],)
    assert dataset.segments == (names["region"],)
    assert dataset.groups == ((names["region"],), ())
    assert dataset.quality.frequency == "1d"
    assert set(found["leaks"]) == {names["log_sales"], names["sales_per_visitor"]}
    assert "rank correlation 1.0000" in found["leaks"][names["log_sales"]]
    assert set(found["left_out"]) == {names["currency"], names["running"]}
    assert found["rows_looked_at"] == found["rows"] == 6000


def test_the_target_is_found_without_being_named(init, shops, tmp_path):
    shops.drop("log_sales", "sales_per_visitor").write_parquet(tmp_path / "shops.parquet")
    _, found, dataset, _ = init(tmp_path / "shops.parquet")
    assert dataset.targets[0].name == "sales"
    assert found["target_candidates"] == ["sales", "visitors"]  # what a shop or a day has in common is none


def test_customers_without_dates_have_classes_and_an_answer_that_came_too_late(init, tmp_path):
    random = np.random.default_rng(2)
    rows = 2_000
    months = random.integers(1, 70, rows)
    left = random.random(rows) < 1 / (1 + months / 10)
    pl.DataFrame(
        {
            "number": [f"K{n:05d}" for n in range(rows)],
            "months": months,
            "plan": random.choice(["basic", "plus", "all"], rows),
            "reason": [str(random.choice(["price", "service"])) if gone else None for gone in left],
            "remark": [f"called {n} times about {n * 7}" for n in range(rows)],
            "left": np.where(left, "yes", "no"),
        }
    ).write_ndjson(tmp_path / "customers.jsonl")
    code, found, dataset, _ = init(tmp_path / "customers.jsonl", "--target", "left")
    assert code == 0
    assert (dataset.time.dated, dataset.entity, dataset.groups) == (False, ("number",), ())
    (target,) = dataset.targets
    assert (target.task, target.positive, target.negative) == ("binary", "yes", "no")
    assert (dataset.columns.numeric, dataset.columns.categorical) == (("months",), ("plan",))
    assert list(found["leaks"]) == ["reason"]
    assert "too many for categories" in found["left_out"]["remark"]


def test_a_name_that_speaks_of_afterwards_counts_where_the_numbers_agree(init, shops, tmp_path):
    random = np.random.default_rng(1)
    frame = shops.with_columns(
        final_count=pl.col("sales") * np.exp(random.normal(0, 0.5, shops.height)),
        closed=pl.Series(random.random(shops.height)),
    )
    frame.write_csv(tmp_path / "shops.csv")
    _, found, dataset, _ = init(tmp_path / "shops.csv", "--target", "sales")
    assert "known only after" in found["leaks"]["final_count"]
    assert "final_count" in dataset.columns.outcomes
    assert "closed" not in found["leaks"]


@pytest.mark.parametrize(
    ("texts", "pattern"),
    [
        (["2021-03-01", "2021-03-02"], None),
        (["2021-03-01T10:00:00Z", "2021-03-02 11:30"], None),
        (["20210301", "20210302"], "%Y%m%d"),
        (["20210301T000000", "20210302T000000"], "%Y%m%dT%H%M%S"),
        (["13/02/2021", "01/03/2021"], "%d/%m/%Y"),
        (["02/13/2021 14:00", "03/01/2021 15:00"], "%m/%d/%Y %H:%M"),
        (["01.02.2021", "28.02.2021"], "%d.%m.%Y"),
        (["Feb 13, 2021", "Mar 1, 2021"], "%b %d, %Y"),
        (["abc 1", "def 2"], "none"),
        (["12345", "99999"], "none"),
    ],
)
def test_times_are_read_in_the_format_that_fits(texts, pattern):
    found = times_in(pl.Series("x", texts * 20))
    assert (found.format if found else "none") == pattern


def test_of_two_ways_to_read_a_date_the_one_with_even_steps_is_right():
    days = [f"{day.day:02d}/{day.month:02d}/{day.year}" for day in _months(24)]
    found = times_in(pl.Series("x", days))
    assert (found.format, found.doubtful) == ("%d/%m/%Y", "%m/%d/%Y")
    assert found.values[1] == dt.datetime(2020, 2, 5, tzinfo=dt.timezone.utc)


def _months(count):
    return [dt.date(2020 + n // 12, n % 12 + 1, 5) for n in range(count)]


@pytest.mark.parametrize("kind", ["csv", "csv in places", "parquet", "delta"])
def test_a_large_source_is_looked_at_in_slices_spread_over_it(tmp_path, monkeypatch, kind):
    rows = 50_000
    frame = pl.DataFrame({"n": range(rows), "text": [f"é {n}" for n in range(rows)]})
    place = tmp_path / ("data" if kind == "delta" else f"data.{kind.split()[0]}")
    monkeypatch.setattr("assay.describing.sampling.LOOKED_AT", 5_000)
    if kind == "parquet":
        frame.write_parquet(place)
    elif kind == "delta":
        frame.write_delta(place)
    else:
        frame.write_csv(place)
    if kind == "csv in places":
        monkeypatch.setattr("assay.describing.sampling.STREAMED_BYTES", 1_000)
    sample = sample_of(str(place))
    assert not sample.whole
    assert sample.rows == (None if kind == "csv in places" else rows)
    assert 3_000 < sample.frame.height <= 5_000
    numbers = sample.frame["n"].cast(pl.Int64)
    assert numbers.is_unique().all()
    assert numbers.min() < 0.1 * rows
    assert numbers.max() > 0.9 * rows
    steps = sample.frame.select(SLICE, n=numbers).group_by(SLICE).agg(pl.col("n").diff().drop_nulls().unique())
    assert steps["n"].explode().unique().to_list() == [1]


def test_marks_for_missing_numbers_are_found_and_written(init, shops, tmp_path):
    marked = shops.with_columns(
        visitors=pl.when(pl.col("visitors") < 30).then(pl.lit("?")).otherwise(pl.col("visitors").cast(pl.String))
    )
    marked.write_csv(tmp_path / "shops.csv")
    assert columns_of(sample_of(str(tmp_path / "shops.csv")))["visitors"].markers == ("?",)
    _, _, dataset, _ = init(tmp_path / "shops.csv", "--target", "sales")
    assert "?" in dataset.source.null_values
    assert "visitors" in dataset.columns.outcomes


def test_a_column_of_years_is_a_time_where_it_makes_a_panel(init, tmp_path):
    random = np.random.default_rng(3)
    land = [f"land {n:02d}" for n in range(30) for _ in range(40)]
    frame = pl.DataFrame({"land": land, "when": [1980 + n for _ in range(30) for n in range(40)]})
    frame.with_columns(yield_=pl.Series(random.lognormal(3, 1, len(land)))).write_csv(tmp_path / "lands.csv")
    code, _, dataset, _ = init(tmp_path / "lands.csv")
    assert code == 0
    assert (dataset.time.column, dataset.time.format, dataset.entity) == ("when", "%Y", ("land",))


def test_doubles_hide_no_entity_and_are_said(init, shops, tmp_path):
    frame = shops.drop("log_sales", "sales_per_visitor")
    frame.write_delta(tmp_path / "shops")
    frame.head(1_500).write_delta(tmp_path / "shops", mode="append")
    _, found, dataset, _ = init(tmp_path / "shops")
    assert (dataset.source.format, dataset.entity, dataset.duplicates) == ("delta", ("shop",), "keep_last")
    assert "doubles: 1,500 of 7,500 rows repeat another one in every column" in found["look_at"]
    assert dataset.ingest["max_quarantine_share"] == pytest.approx(0.25)


def test_a_running_number_is_neither_target_nor_input(init, shops, tmp_path):
    shops.drop("log_sales", "sales_per_visitor").with_row_index("row").write_csv(tmp_path / "shops.csv")
    _, found, dataset, _ = init(tmp_path / "shops.csv")
    assert found["left_out"]["row"] == "a running number"
    assert "row" not in found["target_candidates"]
    assert dataset.entity == ("shop",)


def test_sales_each_at_its_own_moment_are_no_series(init, tmp_path):
    random = np.random.default_rng(4)
    rows = 900
    start = dt.datetime(2024, 1, 1)
    seconds = np.cumsum(random.integers(60, 90_000, rows))
    frame = pl.DataFrame(
        {
            "ticket": [f"T{n}" for n in random.permutation(rows)],
            "at": [start + dt.timedelta(seconds=int(s)) for s in seconds],
            "size": random.integers(20, 200, rows),
            "price": random.lognormal(12, 1, rows).round(-3),
        }
    )
    frame.write_csv(tmp_path / "sales.csv")
    _, found, dataset, _ = init(tmp_path / "sales.csv")
    assert (dataset.time.column, dataset.entity, dataset.targets[0].name) == ("at", ("ticket",), "price")
    assert dataset.columns.numeric == ("size",)
    later = frame.with_columns(at=pl.col("at").dt.offset_by("80y"))
    later.write_csv(tmp_path / "later.csv")
    _, found, _, _ = init(tmp_path / "later.csv", "--force")
    assert "time: 100.0% of rows are later than now, and not used until then" in found["look_at"]


def test_rows_without_dates_or_names_get_a_stand_in_that_stays_an_input(init, tmp_path):
    random = np.random.default_rng(6)
    frame = pl.DataFrame(
        {
            "age": random.integers(18, 65, 600),
            "smoker": random.choice(["yes", "no"], 600).tolist(),
            "region": random.choice(["north", "east", "south"], 600).tolist(),
            "charges": random.lognormal(9, 1, 600).round(2),
        }
    )
    frame.write_csv(tmp_path / "insured.csv")
    code, found, dataset, _ = init(tmp_path / "insured.csv")
    assert (code, dataset.time.dated, dataset.entity, dataset.duplicates) == (0, False, ("region",), "allow")
    assert (dataset.targets[0].name, dataset.columns.numeric) == ("charges", ("age",))
    assert set(dataset.columns.categorical) == {"smoker", "region"}
    assert any("a stand-in" in line for line in found["look_at"])


def test_infinite_numbers_and_lists_are_said(init, shops, tmp_path):
    odd = shops.with_columns(
        visitors=pl.when(pl.int_range(pl.len()) == 7).then(float("inf")).otherwise("visitors"),
        tags=pl.lit([1, 2]),
    )
    odd.write_parquet(tmp_path / "odd.parquet")
    _, found, dataset, _ = init(tmp_path / "odd.parquet", "--target", "sales")
    assert "1 of 6,000 values are no finite numbers" in " ".join(found["look_at"])
    assert "visitors" in dataset.columns.outcomes
    assert "and columns are texts" in found["left_out"]["tags"]
