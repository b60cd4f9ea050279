"""Consumes addresses of lakes, checks which are taken, and that no secret in one is ever told."""

import json

import pytest

from assay.config.lake import folder_of
from assay.errors import ConfigError


@pytest.mark.parametrize(
    "uri",
    [
        *("hdfs://nn:8020/assay/mine", "hdfs:///assay/mine", "s3a://bucket/mine", "s3a://bucket", "gs://bucket/mine/"),
        *("abfss://container@account.dfs.core.windows.net/mine", "file:///srv/lake", "file:///srv/a%20lake"),
    ],
)
def test_what_names_a_place_is_taken_and_is_no_part_of_a_result(tree, load, uri):
    config = load(tree, f"runtime.lake={uri}")
    assert config.profile.runtime.lake == uri
    assert config.hash_of() == load(tree).hash_of()
    assert uri not in json.dumps(config.resolved())


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("/srv/lake", "runtime.lake /srv/lake: expected a URI: hdfs://"),
        ("lake", "runtime.lake lake: expected a URI"),
        ("hdfs:/assay", "runtime.lake hdfs:/assay: expected a URI"),
        ("C:/lake", "runtime.lake C:/lake: expected a URI"),
        ("file://srv/lake", "expected file:///FOLDER, with three slashes"),
        ("file:///", "expected file:///FOLDER"),
        ("hdfs://", "names no place"),
        ("s3a://bucket/mine?versionId=3", "has no ? and no #"),
        ("s3a://[bucket/mine", "cannot be read"),
        ("s3a://KEYID:hunter2@bucket/mine", "s3a://***@... has a password in it: take it out; credentials belong to"),
        ("//u:hunter2@nn/mine", "has a password in it"),
        ("wasbs://c@a.net/mine?sig=hunter2", "runtime.lake wasbs://...: a URI of tables has no ?"),
    ],
)
def test_what_does_not_is_refused(tree, load, uri, message):
    with pytest.raises(ConfigError) as caught:
        load(tree, f"runtime.lake={uri}")
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_other_settings_may_contradict_it(tree, load):
    with pytest.raises(ConfigError, match=r"runtime\.road=arrow .* cannot at runtime\.lake=hdfs://nn/mine: leave"):
        load(tree, "runtime.lake=hdfs://nn/mine", "runtime.road=arrow")
    with pytest.raises(ConfigError, match=r"runtime\.lake and runtime\.catalog=main\.assay both say where tables lie"):
        load(tree, "runtime.lake=hdfs://nn/mine", "runtime.catalog=main.assay")
    assert load(tree, "runtime.lake=file:///srv/lake", "runtime.road=arrow").profile.runtime.road == "arrow"


def test_a_folder_is_one_of_this_machine_alone(tmp_path):
    folder = tmp_path / "a 100% läke"
    assert folder_of(folder.as_uri()) == folder
    assert folder_of("hdfs://nn/mine") is None
