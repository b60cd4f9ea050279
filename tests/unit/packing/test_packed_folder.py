"""Consumes a few small libraries, checks the folder that `pack` makes of them: whole, relocatable, clear in failure."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from assay.errors import UserError
from assay.packing import __main__ as command
from assay.packing import archive, folder
from assay.runtime.session import SparkSettings, submit_arguments

BASE = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the launcher is for Linux")


@pytest.fixture
def bare(tmp_path):
    """A PATH with the commands that the scripts need and no Python, or Pythons of one's own: bare(python3=FILE)."""

    def make(**pythons):
        place = tmp_path / "path"
        place.mkdir()
        for name in (
            "sh",
            "bash",
            "dirname",
            "uname",
            "env",
            "tar",
            "gzip",
            "mkdir",
            "rm",
            "mv",
            "cp",
            "cmp",
            "readlink",
        ):
            (place / name).symlink_to(shutil.which(name))
        (place / "locale").symlink_to(shutil.which("locale") or shutil.which("true"))
        for name, file in pythons.items():
            (place / name).symlink_to(file)
        return {"PATH": str(place), "HOME": str(tmp_path)}

    return make


@pytest.fixture
def python(tmp_path):
    """python(base) -> the script that stands for Python in an environment with one module, `inside`."""

    def make(base):
        place = tmp_path / "environment"
        site = place / "lib" / f"python{archive.PYTHON}" / "site-packages"
        site.mkdir(parents=True)
        (site / "inside.py").write_text("", encoding="utf-8")
        (place / "bin").mkdir()
        script = place / "bin" / "python"
        script.write_text(archive.interpreter(base), encoding="utf-8")
        script.chmod(0o755)
        return script

    return make


def run(*command, env, cwd=None):
    return subprocess.run([*map(str, command)], env=env, cwd=cwd, capture_output=True, text=True, check=False)


def test_python_is_that_of_the_machine_with_the_libraries_of_the_archive(python, bare):
    script = python(BASE)
    done = run(script, "-c", "import inside, sys; print(inside.__file__, sys.argv)", "a b", env=bare())
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.strip() == f"{script.parents[1]}/lib/python{archive.PYTHON}/site-packages/inside.py ['-c', 'a b']"
    )


@pytest.mark.parametrize("way", ["variable", "path"])
def test_python_is_found_where_it_is_elsewhere(python, bare, way):
    script = python("/nowhere/bin/python")
    env = bare(python3=BASE) if way == "path" else {**bare(), "ASSAY_PYTHON": BASE}
    done = run("./environment/bin/python", "-c", "import inside", env=env, cwd=script.parents[2])
    assert done.returncode == 0, done.stderr


def test_a_machine_without_that_python_is_told_so(python, bare, tmp_path):
    script = python("/nowhere/bin/python")
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho 3.6\n", encoding="utf-8")
    other.chmod(0o755)
    env = {**bare(python3=other), "ASSAY_PYTHON": "/nowhere/either"}
    env["PATH"] = f"{script.parent}:{env['PATH']}"  # itself, as in an environment that is activated
    done = run("python", "-c", "import inside", env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(rf"packed for Python {archive.PYTHON} on [\w-]+, and \S+ has none: install it there", done.stderr)
    assert "ASSAY_PYTHON" in done.stderr


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """What `pack` makes of assay and two libraries, moved after it was written: the folder, the function's result."""
    pytest.importorskip("venv_pack", reason="venv-pack is not installed: pip install 'assay[pack]'")
    place = tmp_path_factory.mktemp("packed")
    libraries = [importlib.metadata.distribution(name) for name in ("pyyaml", "pyspark", "delta-spark", "idna")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "needed", lambda *_: libraries)
        patch.setattr("assay.runtime.jars.jar_paths", lambda: ["a.jar"])
        patch.setattr("assay.runtime.jars.environment_jars", lambda: _jars(place))
        first = folder.pack(place / "here", level=1)
        result = folder.pack(place / "here", level=1)  # anew, over the first
    assert first.libraries == result.libraries
    (place / "here").rename(place / "else where")
    return place / "else where", result


def _jars(place):
    jars = place / "jars"
    jars.mkdir(exist_ok=True)
    (jars / "delta.jar").write_bytes(b"jar")
    (jars / ".stamp").write_text("of the checkout's script", encoding="utf-8")
    return jars


def test_the_folder_is_whole(packed):
    place, result = packed
    (wheel,), (code,) = place.glob("*.whl"), place.glob("assay-*.zip")
    parts = {"conf", "environment.tar.gz", "jars", "jobs", "packed.json", "run.sh", "spark"}
    assert {path.name for path in place.iterdir()} == {*parts, wheel.name, code.name} == set(result.sizes)
    assert [path.name for path in (place / "jars").iterdir()] == ["delta.jar"]
    assert (place / "spark" / "pyspark" / "bin" / "spark-submit").stat().st_mode & 0o111
    assert (place / "conf" / "spark" / "yarn.conf").is_file()
    assert (place / "jobs" / "pipeline.py").is_file()
    record = json.loads((place / "packed.json").read_text())
    assert record["python"] == archive.PYTHON
    assert set(record["libraries"]) == {"assay", "pyyaml", "pyspark", "delta-spark", "idna"} == set(result.libraries)
    assert list(place.parent.glob(".*.part")) == []


def test_the_archive_holds_libraries_and_no_path_of_this_machine(packed):
    with tarfile.open(packed[0] / "environment.tar.gz") as found:
        names = found.getnames()
        site = f"lib/python{archive.PYTHON}/site-packages"
        scripts = {
            n: found.extractfile(n).read().decode() for n in names if n in {"bin/assay", "bin/idna", "bin/python"}
        }
    assert f"{site}/assay/conf/profiles/production.yml" in names
    assert f"{site}/assay/jobs/train.py" in names
    assert f"{site}/yaml/__init__.py" in names
    assert any(re.fullmatch(rf"{site}/pyspark-[\d.]+\.dist-info/METADATA", name) for name in names)
    assert not any(name.startswith(f"{site}/pyspark/") for name in names)  # executors have Spark
    assert all(script.startswith("#!/bin/sh\n") for script in scripts.values())
    assert not any(str(packed[0].parent) in script for script in scripts.values())


@LINUX
def test_the_launcher_runs_the_packed_assay_and_nothing_else(packed, bare, tmp_path):
    place, bare_environment = packed[0], bare()
    environment = {**bare_environment, "PYTHONPATH": "/nowhere", "SPARK_HOME": "/nowhere"}
    code = (
        "import assay, importlib.util, json, os, yaml; from assay.runtime import jars;"
        "print(json.dumps([assay.__file__, yaml.__file__, importlib.util.find_spec('pyspark').origin,"
        " str(jars.environment_jars()), *map(os.environ.get, ('ASSAY_CONF', 'ASSAY_ENVIRONMENT', 'ASSAY_CODE'))]))"
    )
    probe, command = place / "probe.sh", '"$environment/bin/assay"'
    assert command in (place / "run.sh").read_text()
    probe.write_text((place / "run.sh").read_text().replace(command, f'-c "{code}"'), encoding="utf-8")
    probe.chmod(0o755)
    for number in (1, 2):
        done = run(probe, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert ("unpacking" in done.stderr) == (number == 1)
    found = json.loads(done.stdout)
    assert all(path.startswith(f"{place}/") for path in found), found
    assert found[2] == f"{place}/spark/pyspark/__init__.py"
    assert Path(found[-1]).is_file()
    found = run(place / "environment" / "bin" / "idna", "--version", env=bare_environment, cwd=tmp_path)
    assert (found.returncode, found.stderr) == (0, "")  # a command of a library, from anywhere
    (place / "packed.json").write_text((place / "packed.json").read_text() + " ")  # as of another version
    assert "unpacking" in run(probe, env=environment, cwd=tmp_path).stderr
    assert sorted(path.name for path in place.glob("environment*")) == ["environment", "environment.tar.gz"]


@LINUX
def test_the_launcher_says_where_it_cannot_write(packed, bare):
    done = run(packed[0] / "run.sh", "demo", env={**bare(), "ASSAY_UNPACKED": "/proc/nowhere/environment"})
    assert (done.returncode, done.stderr) == (
        2,
        "assay: cannot write to /proc/nowhere: name a folder of your own in ASSAY_UNPACKED\n",
    )


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"--out .*: holds something else"):
        folder.pack(tmp_path)
    assert (tmp_path / "thesis.txt").is_file()


def test_a_session_on_a_cluster_gets_the_archive_that_the_variable_names(tmp_path, monkeypatch):
    file = tmp_path / "environment.tar.gz"
    file.write_bytes(b"")
    monkeypatch.setenv("ASSAY_ENVIRONMENT", str(file))
    assert f"--archives '{file}#environment'" in submit_arguments(SparkSettings("spark://host:7077"), tmp_path / "log")
    assert "--archives" not in submit_arguments(SparkSettings("local[2]"), tmp_path / "log")


def test_the_command_says_what_it_wrote(tmp_path, monkeypatch, capsys):
    asked = {}
    made = folder.Packed(tmp_path, {"assay": "1"}, {"run.sh": 2_000_000})
    monkeypatch.setattr(folder, "pack", lambda out, **more: asked.update(more, out=out) or made)
    command.pack(tmp_path, extra=["demo"], without=["catboost"], compression=0, as_json=True)
    lines = capsys.readouterr().out.splitlines()
    assert (asked["out"], asked["extras"], asked["without"], asked["level"]) == (tmp_path, ["demo"], ["catboost"], 0)
    assert lines[:2] == [f"      2.0 MB  {tmp_path}/run.sh", f"run it: {tmp_path}/run.sh JOB ..."]
    assert json.loads(lines[2])["libraries"] == {"assay": "1"}


def test_the_command_ends_with_one_line_where_it_fails(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        command.pack(tmp_path)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"assay pack: --out {tmp_path}: holds something else")
