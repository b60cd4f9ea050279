"""Consumes the command line's date, slice and paths, checks the run that comes of them and its identity."""

import datetime as dt
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from assay.config import canonical_json, conf_root, load_run
from assay.errors import ConfigError

DATASETS = conf_root() / "datasets"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2015-06-30", dt.datetime(2015, 6, 30, tzinfo=dt.timezone.utc)),
        ("2015-06-30T12:30", dt.datetime(2015, 6, 30, 12, 30, tzinfo=dt.timezone.utc)),
        ("2015-06-30T12:00:00Z", dt.datetime(2015, 6, 30, 12, tzinfo=dt.timezone.utc)),
        ("2015-06-30T02:00:00+05:00", dt.datetime(2015, 6, 29, 21, tzinfo=dt.timezone.utc)),
    ],
)
def test_dates_are_moments_in_utc(tree, load, text, moment):
    found = load(tree, date=text).as_of
    assert found == moment
    assert found.utcoffset() == dt.timedelta(0)


@pytest.mark.parametrize("text", ["", "30.6.2015", "2015-02-30", "tomorrow", "2015", "0001-01-01", "9999-12-31"])
def test_what_is_no_date_is_refused(tree, load, text):
    with pytest.raises(ConfigError, match=f"--date {re.escape(text)}: "):
        load(tree, date=text)


def test_where_splits_on_the_first_equals_sign(tree, load):
    assert load(tree, where=["district=a=b", "flat="]).where == (("district", "a=b"), ("flat", ""))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("district", "--where district: expected COLUMN=VALUE, for example --where city=Austin"),
        ("=x", "--where =x: expected COLUMN=VALUE"),
        ("distrct=x", "'distrct' is no entity, categorical, group or segment column of flats; did you mean district?"),
        ("zzz=x", "column of flats; choose one of district, flat"),
        ("price=5", "'price' is no entity, categorical, group or segment column"),
    ],
)
def test_where_errors(tree, load, text, message):
    with pytest.raises(ConfigError) as caught:
        load(tree, where=[text])
    assert message in str(caught.value)


def test_profiles_are_known_by_name_alone(tree, load):
    with pytest.raises(ConfigError, match=r"--profile prod: there is no such profile; did you mean production\?"):
        load(tree, profile="prod")
    with pytest.raises(ConfigError, match="choose one of development, production, research"):
        load(tree, profile="../datasets/txhousing")


def test_a_missing_dataset_names_the_nearest_file(tree, load, tmp_path):
    load(tree)
    with pytest.raises(ConfigError, match=r"--dataset .*/flat\.yml: there is no such file; did you mean .*flats\.yml"):
        load_run(dataset=tmp_path / "flat.yml")
    with pytest.raises(ConfigError, match=r"did you mean .*datasets/txhousing\.yml"):
        load_run(dataset=Path("conf/txhousng.yml"))
    with pytest.raises(ConfigError, match=r"there is no such file$"):
        load_run(dataset=tmp_path / "entirely-else.yml")


def test_the_workspace_is_named_after_the_dataset(tree, load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(tree).workspace == tmp_path / "workspace" / "flats"
    assert load(tree, workspace=Path("elsewhere")).workspace == tmp_path / "elsewhere"


def test_resolved_is_plain_data_without_folders_of_this_machine(tree, load, tmp_path):
    tree["source"]["path"] = str(tmp_path / "raw" / "flats.csv")
    config = load(tree, f"runtime.tracking_uri=sqlite:///{tmp_path}/other.db", workspace=tmp_path / "ws")
    text = json.dumps(config.resolved())
    assert str(tmp_path) not in text
    assert config.resolved()["dataset"]["source"]["path"] == "flats.csv"
    assert json.loads(text)["conformal"]["levels"] == [0.8, 0.9]


def test_the_hash_tells_settings_apart_and_nothing_else(tree, load, tmp_path):
    plain = load(tree).hash_of()
    moved = {**tree, "source": {"path": str(tmp_path / "elsewhere" / "flats.csv")}}
    shuffled = dict(reversed(list(tree.items())))
    same = [load(tree), load(moved), load(shuffled), load(tree, workspace=tmp_path / "other")]
    assert {config.hash_of() for config in same} == {plain}
    others = [
        load(tree, "engine.rounds=599"),
        load(tree, "dataset.duplicates=allow"),
        load(tree, "engine.params.max_depth=3"),
        load(tree, profile="development"),
        load(tree, date="2015-01-01"),
        load(tree, where=["district=a"]),
    ]
    hashes = {config.hash_of() for config in others}
    assert len(hashes | {plain}) == len(others) + 1
    assert load(tree, date="2015-01-01").hash_of() == load(tree, date="2015-01-01T02:00:00+02:00").hash_of()


def test_a_section_has_a_hash_of_its_own(tree, load):
    plain, changed = load(tree), load(tree, "engine.rounds=599")
    assert plain.hash_of("dataset", "split") == changed.hash_of("dataset", "split")
    assert plain.hash_of("engine") != changed.hash_of("engine")


def test_the_hash_is_the_same_in_another_process():
    code = (
        "from pathlib import Path; from assay.config import load_run; "
        f"print(load_run(dataset=Path({str(DATASETS / 'kc_house.yml')!r})).hash_of())"
    )
    environment = {"PYTHONHASHSEED": "5", "PYTHONPATH": ":".join(sys.path)}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == load_run(dataset=DATASETS / "kc_house.yml").hash_of()


def test_canonical_json_knows_no_order_of_keys():
    assert canonical_json({"b": (1, 2), "a": "é"}) == '{"a":"é","b":[1,2]}' == canonical_json({"a": "é", "b": [1, 2]})
