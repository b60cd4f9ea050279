"""Consumes jobs' command lines, checks the spark-submit line that `--dry-run` prints, word by word."""

import json
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest

from assay import cli
from assay.pipeline import JOBS

ROOT = Path(__file__).resolve().parents[3]
MLFLOW = "runtime.tracking_uri=http://me:hunter2-Tr0ub4dor@mlflow:5000"


@pytest.fixture
def ask(capsys, monkeypatch, tmp_path):
    """ask("train", "--dataset", FILE, ...) -> exit code, the printed line, standard error; of a folder of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("ASSAY_ENVIRONMENT", "ASSAY_CONF", "ASSAY_CODE", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
        monkeypatch.delenv(name, raising=False)

    def call(job, *arguments):
        option = "--print-command" if job == "deploy" else "--dry-run"
        with pytest.raises(SystemExit) as ended:
            cli.main([job, *map(str, arguments), option])
        return ended.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "environment.tar.gz"
    path.write_bytes(b"")
    return path


def words_of(line):
    """The words that a shell makes of a line."""
    script = f'set -- {line}\nprintf "%s\\0" "$@"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def parsed(line):
    """variables, options of spark-submit (each a list of values), application, its arguments."""
    words = words_of(line)
    variables = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    assert words.pop(0).endswith("/bin/spark-submit")
    options = {}
    while words[0].startswith("--"):
        options.setdefault(words.pop(0), []).append(words.pop(0))
    return variables, options, Path(words[0]), words[1:]


def cluster_conf(folder, master):
    path = folder / "cluster.conf"
    path.write_text(f"spark.master {master}\nspark.submit.deployMode cluster\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("job", [*JOBS, "demo"])
def test_every_job_prints_the_line_that_equals_it_and_does_nothing(ask, flats, job, tmp_path):
    dataset = [] if job == "demo" else ["--dataset", flats]
    before = sorted(tmp_path.rglob("*"))
    code, out, err = ask(job, *dataset, "--set", "engine.rounds=20", "--json")
    assert (code, err) == (0, "")
    *line, told = out.splitlines()
    variables, options, application, arguments = parsed("\n".join(line))
    assert variables["PYSPARK_PYTHON"] == variables["PYSPARK_DRIVER_PYTHON"] == sys.executable
    assert variables["SPARK_HOME"] == pyspark.__path__[0]  # whatever the shell has
    assert options["--properties-file"] == [str(ROOT / "conf" / "spark" / "local.conf")]
    assert "spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension" in options["--conf"]
    assert "--jars" in options or "--packages" in options
    assert "--archives" not in options
    assert application == ROOT / "jobs" / f"{job}.py"
    assert arguments == [*map(str, dataset), "--set", "engine.rounds=20", "--json"]
    assert json.loads(told)["command"] == words_of("\n".join(line))[len(variables) :]
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_job_is_told_is_repeated_as_it_was_told(ask, flats):
    told = ["--dataset", flats, "--profile", "development", "--workspace", "my wörk", "--date", "2015-06-30"]
    told += ["--challenger", "3", "--why", "it's $time", "--dry-run"]
    code, out, _ = ask("deploy", *told, "--master", "local[2]")
    _, options, _, arguments = parsed(out)
    assert code == 0
    assert options["--master"] == ["local[2]"]
    order = sorted(arguments)
    assert order == sorted(str(word) for word in told)


def test_secrets_are_masked(ask, flats):
    code, out, err = ask("train", "--dataset", flats, "--set", MLFLOW)
    assert code == 0
    assert "hunter2" not in out + err
    assert "http://me:***@mlflow:5000" in out
    assert "secrets are masked" in err


def test_a_mistake_is_found_as_by_the_job(ask, flats):
    code, out, err = ask("train", "--dataset", flats, "--set", "engine.round=20")
    assert (code, out) == (2, "")
    assert "did you mean engine.rounds?" in err


@pytest.mark.parametrize(
    ("master", "conf"),
    [("spark://host:7077", "standalone"), ("yarn", "yarn"), ("k8s://https://host:6443", "kubernetes")],
)
@pytest.mark.parametrize("way", ["setting", "variable"])
def test_executors_of_a_cluster_unpack_and_run_the_environment(ask, flats, archive, master, conf, way, monkeypatch):
    more = ["--set", f"runtime.environment={archive}"]
    if way == "variable":
        more = monkeypatch.setenv("ASSAY_ENVIRONMENT", str(archive)) or []
        monkeypatch.setenv("ASSAY_CODE", "/packed/assay-1.zip")
    code, out, _ = ask("pipeline", "--dataset", flats, "--master", master, *more)
    variables, options, _, arguments = parsed(out)
    assert code == 0
    assert options["--master"] == [master]
    assert options["--properties-file"] == [str(ROOT / "conf" / "spark" / f"{conf}.conf")]
    assert options["--archives"] == [f"{archive}#environment"]
    assert options.get("--py-files") == (["/packed/assay-1.zip"] if way == "variable" else None)
    assert variables["PYSPARK_PYTHON"] == "./environment/bin/python"
    assert Path(variables["PYSPARK_DRIVER_PYTHON"]).is_absolute()
    assert arguments == ["--dataset", str(flats), *more]


def test_archives_of_the_settings_file_stay(ask, flats, archive, tmp_path):
    conf = tmp_path / "own.conf"
    conf.write_text("spark.archives = hdfs:///models.tgz#models\n", encoding="utf-8")
    more = ["--set", f"runtime.environment={archive}", "--master", "yarn", "--conf-file", conf]
    _, options, _, _ = parsed(ask("train", "--dataset", flats, *more)[1])
    assert options["--archives"] == [f"hdfs:///models.tgz#models,{archive}#environment"]


@pytest.mark.parametrize("master", ["yarn", "k8s://https://host:6443"])
def test_a_driver_elsewhere_gets_the_files_that_it_reads(ask, flats, archive, tmp_path, master):
    conf, source = cluster_conf(tmp_path, master), flats.parent / "flats.csv"
    source.write_text("", encoding="utf-8")
    told = ["--dataset", flats, "--profile", "development", "--set", f"runtime.environment={archive}"]
    code, out, _ = ask("train", *told, "--workspace", "lake", "--conf-file", conf)
    variables, options, _, arguments = parsed(out)
    assert code == 0
    profile = ROOT / "conf" / "profiles" / "development.yml"
    assert options["--files"] == [f"{flats},{profile}"]
    assert "spark.pyspark.python=./environment/bin/python" in options["--conf"]
    assert "--driver-java-options" not in options
    assert not {"PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"} & set(variables)
    assert arguments[:2] == ["--dataset", flats.name]
    assert arguments[-6:-2] == ["--profile", "development.yml", "--workspace", str(tmp_path / "lake")]
    assert arguments[-2:] == ["--set", f"dataset.source.path={source}"]


def test_a_profile_may_be_a_file_and_has_its_name(ask, flats, tmp_path):
    from assay.config import load_run

    own = tmp_path / "development.yml"
    own.write_text((ROOT / "conf" / "profiles" / "development.yml").read_text(), encoding="utf-8")
    by_file, by_name = (load_run(dataset=flats, profile=profile) for profile in (str(own), "development"))
    assert by_file.hash_of() == by_name.hash_of()
    code, _, err = ask("train", "--dataset", flats, "--profile", "nowhere.yml")
    assert (code, err) == (2, "assay train: --profile nowhere.yml: there is no such file\n")


def test_what_cannot_work_is_refused(ask, flats, tmp_path):
    code, _, err = ask("train", "--dataset", flats, "--master", "yarn", "--set", "runtime.environment=gone.tar.gz")
    assert code == 2
    assert "runtime.environment gone.tar.gz: there is no such file; make it with `./spark-submit.sh pack`" in err
    conf = cluster_conf(tmp_path, "spark://host:7077")
    code, _, err = ask("train", "--dataset", flats, "--conf-file", conf)
    assert code == 2
    assert "Spark runs no Python driver on spark://host:7077" in err


def test_a_job_is_not_started_where_spark_starts_the_driver(monkeypatch, tmp_path):
    from assay.errors import PreflightError
    from assay.runtime import session
    from assay.runtime.session import SparkSettings, open_session

    monkeypatch.setattr(session, "session_is_given", lambda: False)  # whatever session other tests have left
    settings = SparkSettings(conf_file=cluster_conf(tmp_path, "yarn"))
    with pytest.raises(PreflightError, match=r"deployMode is cluster.*--dry-run.*run the line that it prints"):
        open_session(settings, app="test", log_file=tmp_path / "spark.log")
