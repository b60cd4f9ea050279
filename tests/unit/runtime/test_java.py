"""Consumes folders that look like Java's, checks which one Spark will take, and why it takes it or not."""

import re
from pathlib import Path

import pytest

from assay.runtime import java
from assay.runtime.java import find_java, java_program

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def installed(tmp_path):
    """installed("jdk", "17.0.15", "java.base jdk.incubator.vector") -> its folder; without version no release file."""

    def make(name, version=None, modules=None, script="exit 1"):
        home = tmp_path / name
        (home / "bin").mkdir(parents=True)
        program = home / "bin" / "java"
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(0o755)
        if version is not None:
            lines = ['IMPLEMENTOR="Somebody"', f'JAVA_VERSION="{version}"']
            lines += [f'MODULES="{modules}"'] if modules is not None else []
            (home / "release").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return home

    return make


def test_java_home_goes_before_the_path(installed):
    one, other = installed("one", "17.0.15"), installed("other", "21.0.2")
    path = {"PATH": str(one / "bin")}
    assert find_java(path).home == one
    assert find_java({**path, "JAVA_HOME": str(other)}).home == other
    assert find_java({**path, "JAVA_HOME": "/nowhere"}) is None
    assert find_java({"PATH": "/nowhere"}) is None
    assert java_program({"JAVA_HOME": "/x"}) == "/x/bin/java"
    assert java_program({}) == "java"


@pytest.mark.parametrize(
    ("version", "modules", "why"),
    [
        ("17.0.15", "java.base jdk.incubator.vector", None),
        ("22", None, None),
        ("11.0.20", None, r"is Java 11\.0\.20, and Spark takes 17 to 22"),
        ("23.0.1", "jdk.incubator.vector", "is Java 23.0.1"),
        ("1.8.0_392", None, "is Java 1.8.0_392"),
        ("21.0.2", "java.base java.sql", r"\(Java 21\.0\.2\) lacks the module jdk\.incubator\.vector"),
        ("", None, "does not say its version"),
    ],
)
def test_what_spark_takes(installed, version, modules, why):
    found = find_java({"JAVA_HOME": str(installed("jdk", version, modules))})
    assert (found.unfit() is None) == (why is None)
    assert why is None or re.search(why, found.unfit())


def test_without_a_release_file_java_itself_is_asked(installed):
    real = installed("real", "21.0.2", "jdk.incubator.vector")
    said = f"printf '    java.home = {real}\\n    java.version = 21.0.2\\n' >&2"
    assert find_java({"JAVA_HOME": str(installed("shim", script=said))}).home == real
    said = "printf '    java.home = /gone\\n    java.version = 11.0.1\\n' >&2"
    assert find_java({"JAVA_HOME": str(installed("other", script=said))}).major == 11
    assert find_java({"JAVA_HOME": str(installed("mute"))}).unfit().endswith("does not say its version")


def test_the_shell_script_has_the_same_rule():
    text = (ROOT / "spark-submit.sh").read_text()
    (rule,) = re.findall(r"\$version -ge (\d+) && \$version -le (\d+) && \$modules == \*([\w.]+)\*", text)
    assert rule == (str(java.OLDEST), str(java.NEWEST), java.MODULE)


def test_the_java_of_this_machine_is_one_that_spark_takes():
    assert find_java().unfit() is None
