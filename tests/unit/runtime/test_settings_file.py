"""Consumes Spark settings files, checks what of them counts for the session that Python starts."""

import shlex

import pytest

from assay.runtime import jars
from assay.runtime.session import SparkSettings, submit_arguments


@pytest.fixture
def settings(tmp_path):
    file = tmp_path / "my.conf"
    lines = ["# spark.jars.packages none", "spark.master   spark://nn:7077", "spark.jars.packages\torg.x:y:1,org.x:z:2"]
    file.write_text("\n".join(lines), encoding="utf-8")
    return SparkSettings(conf_file=file)


def test_a_setting_is_found_by_its_whole_name(settings):
    assert settings.named("spark.jars.packages") == "org.x:y:1,org.x:z:2"
    assert settings.named("spark.jars") == ""
    assert settings.chosen_master() == "spark://nn:7077"
    assert SparkSettings("local[3]", settings.conf_file).chosen_master() == "local[3]"


def test_packages_of_the_file_come_beside_deltas_where_that_has_to_be_fetched(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(jars, "jar_paths", list)
    words = shlex.split(submit_arguments(settings, tmp_path / "spark.log"))
    assert words[words.index("--packages") + 1] == f"{jars.COORDINATE},org.x:y:1,org.x:z:2"
    monkeypatch.setattr(jars, "jar_paths", lambda: ["/jars/delta.jar"])
    assert "--packages" not in submit_arguments(settings, tmp_path / "spark.log")  # the file speaks for itself
