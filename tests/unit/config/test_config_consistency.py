"""Consumes datasets whose keys contradict one another, checks that each contradiction is named."""

import pytest

from assay.config import load_dataset
from assay.config.dataset import RESERVED, stored_name
from assay.errors import ConfigError


def refused(tree, load):
    with pytest.raises(ConfigError) as caught:
        load(tree)
    return str(caught.value)


def jdbc(**changes):
    found = {"url": "jdbc:postgresql://host:5432/db?ssl=true", "table": "flats", **changes}
    return {"source": {"format": "jdbc", "jdbc": found}}


@pytest.mark.parametrize("kind", ["numeric", "categorical", "outcomes"])
def test_a_target_that_is_also_a_feature(tree, load, kind):
    tree["columns"][kind] = [*tree["columns"][kind], "price"]
    told = refused(tree, load)
    assert f"column 'price' is both a target and in columns.{kind}: a model would see the answer" in told
    assert "its past values become features by themselves" in told


def test_what_load_run_refuses_load_dataset_refuses_too(tree, load, tmp_path):
    tree["entity"] = ["price"]
    assert "target 'price' cannot be part of entity" in refused(tree, load)
    with pytest.raises(ConfigError, match="cannot be part of entity"):
        load_dataset(tmp_path / "flats.yml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segments": ["price"]}, "target 'price' cannot be part of entity, groups or segments"),
        ({"groups": [["district", "price"]]}, "target 'price' cannot be part of entity, groups or segments"),
        ({"targets": [{"name": "price"}, {"name": "price"}]}, "targets names a column twice"),
        ({"columns": {"numeric": ["rooms"], "outcomes": ["rooms"]}}, "columns.rooms is listed under two kinds"),
        ({"columns": {"numeric": ["sold_on"], "outcomes": ["bids"]}}, "time.column 'sold_on' is also listed as a data"),
        ({"entity": ["sold_on"]}, "time.column 'sold_on' is also listed as a data column"),
        ({"targets": [{"name": "sold_on"}], "bounds": {}}, "time.column 'sold_on' is also listed as a data column"),
        ({"entity": ["rooms"]}, "'rooms' is numeric and also a key, group, segment or categorical"),
        ({"entity": ["flat", "flat"]}, "entity lists 'flat' twice; keep one"),
        ({"groups": [["district"], ["district"]]}, "groups lists ['district'] twice"),
        ({"groups": [["district", "district"]]}, "groups[0] lists 'district' twice"),
        ({"features": {"lags": [1, 2, 1]}}, "features.lags lists 1 twice"),
        ({"bounds": {"prise": [1, 2]}}, "bounds.prise names no numeric column of the dataset; did you mean price?"),
        ({"bounds": {"district": [1, 2]}}, "bounds.district names no numeric column"),
        (
            {"unknown_values": {"distrct": ["?"]}},
            "unknown_values.distrct names no numeric or text column of the dataset; did you mean district?",
        ),
        ({"unknown_values": {"rooms": [0, "?"]}}, "unknown_values.rooms: '?' is no number, as the column's values are"),
        ({"bounds": {"price": [2, 1]}}, "bounds.price: the lowest value 2.0 is above the highest 1.0"),
        (
            {"availability_delay_days": {"bid": 1}},
            "availability_delay_days.bid names no numeric column of the dataset;",
        ),
        ({"time": {"column": "t", "zone": "America/Chicgo"}}, "time.zone 'America/Chicgo': no such time zone"),
        ({"time": {"column": "t", "zone": "America/Chicgo"}}, "did you mean America/Chicago?"),
        ({"time": {"column": "t", "format": "%d.%m."}}, "time.format '%d.%m.' names no year"),
        ({"time": {"column": "t", "format": "dd/mm/yyyy"}}, "time.format 'dd/mm/yyyy' names no year"),
        ({"time": {"column": "t", "format": "%Y-%m-%d %H"}}, "has an hour but no minute (%M)"),
        ({"source": {}}, "source.path: this key is required"),
        ({"source": {"path": "x", "version": 3}}, "source.version 3: only the formats delta and table have versions"),
        ({"source": {"path": "a..b", "format": "table"}}, "source.path 'a..b': expected the name of a table, catalog."),
        ({"source": {"path": "x", "jdbc": {"url": "jdbc:x:y"}}}, "source.jdbc is set, but source.format is auto"),
        ({"source": {"path": "x", "format": "jdbc"}}, "source.path 'x': the format jdbc has none; set source.jdbc.url"),
        (jdbc(url="postgresql://h/db"), "source.jdbc.url: expected such as jdbc:postgresql://host/database"),
        (jdbc(table=""), "source.jdbc needs a table or a query, one of the two"),
        (jdbc(query="SELECT 1"), "source.jdbc needs a table or a query, one of the two"),
        (jdbc(url="jdbc:postgresql://h/db?user=me&password=x"), "source.jdbc has a user or password in its url"),
        (jdbc(url="jdbc:mysql://me:x@h/db"), "put them into environment variables"),
        (
            jdbc(url="jdbc:sqlserver://h;databaseName=db;Password=x"),
            "name those in source.jdbc.user_env and source.jdbc",
        ),
        (jdbc(url="jdbc:oracle:thin:me/x@//h:1521/db"), "put them into environment variables"),
        (jdbc(options={"PASSWORD": "x"}), "put them into environment variables"),
        (jdbc(password_env="my secret!"), "source.jdbc.password_env: expected the name of an environment variable"),
        (
            {"source": {"path": "x", "removed_files": "keep"}, "time": {"column": "t", "align": {"frequency": "1d"}}},
            "source.removed_files=keep and time.align: merged rows cannot be told apart again",
        ),
        ({"source": {"path": "x", "delimiter": "¦"}}, "source.delimiter '¦': expected one ASCII character"),
        ({"source": {"path": "x", "delimiter": '"'}}, "source.delimiter '\"': expected one ASCII character"),
        ({"source": {"path": "x", "encoding": "utf-9"}}, "source.encoding 'utf-9': no such encoding"),
    ],
)
def test_contradictions(tree, load, change, message):
    assert message in refused({**tree, **change}, load)


@pytest.mark.parametrize(
    "pattern", ["%Y-%m-%d", "%d/%m/%y", "%Y%m%dT%H%M%S", "%Y-%m", "%d %B %Y %I:%M %p", "%s", "%G-W%V-%u", "%F %T%.f"]
)
def test_formats_that_give_a_date(tree, load, pattern):
    tree["time"]["format"] = pattern
    assert load(tree).dataset.time.format == pattern


@pytest.mark.parametrize(
    ("one", "other", "stored"),
    [
        ("Rooms", "rooms", "rooms"),
        ("floor area", "floor_area", "floor_area"),
        ("area(m2)", "area_m2_", "area_m2_"),
        ("row id", "row_id_", "row_id_"),
        ("Month", "month_", "month_"),
    ],
)
def test_columns_that_would_be_stored_under_one_name(tree, load, one, other, stored):
    tree["columns"]["numeric"] = [one, other]
    told = refused({**tree, "bounds": {}}, load)
    assert f"columns {one!r} and {other!r} would be stored under one name ({stored})" in told


def test_the_time_takes_no_name_from_other_columns(tree, load):
    tree["time"]["column"] = "Rooms"  # stored as `time`, so `rooms` is free
    tree["columns"]["numeric"] = ["rooms", "time", "time__"]
    assert load(tree).dataset.columns.numeric == ("rooms", "time", "time__")


@pytest.mark.parametrize("name", [*RESERVED, *(name.upper() for name in RESERVED)])
def test_reserved_names_are_stored_with_a_mark(name):
    assert stored_name(name) == f"{name}_"


@pytest.mark.parametrize(
    ("name", "stored"),
    [("Straße", "Straße"), ("price (US$)", "price__US$_"), ("a.b", "a_b"), ("a\tb", "a_b"), ("index", "index")],
)
def test_stored_names(name, stored):
    assert stored_name(name) == stored
    assert stored_name(stored) == stored


def test_databases_are_known_by_name_alone_and_their_settings_can_be_set(tree, load):
    tree |= jdbc(jars=["/opt/jars/driver.jar"], password_env="FLATS_PASSWORD")
    run = load(tree, "dataset.source.jdbc.fetch_size=500", "dataset.time.align.frequency=1d")
    assert run.dataset.source.jdbc.fetch_size == 500
    assert run.dataset.time.align.aggregate == "last"
    source = run.resolved()["dataset"]["source"]
    assert source["jdbc"]["url"] == "jdbc:postgresql:db?ssl=true"
    assert source["jdbc"]["jars"] == ["driver.jar"]


@pytest.mark.parametrize("frequency", ["day", "1 d", "0d", "-1d", "1s", "1d12h"])
def test_frequencies_that_are_none(tree, load, frequency):
    tree["time"]["align"] = {"frequency": frequency}
    assert "time.align.frequency: string should match pattern" in refused(tree, load)
