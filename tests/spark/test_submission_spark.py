"""Consumes lines that `--dry-run` prints, checks that spark-submit's own parser reads them as they are meant."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import yaml
from py4j.protocol import Py4JJavaError

from assay.config import load_run
from assay.runtime.session import DELTA, SparkSettings
from assay.runtime.submission import submission_of

pytestmark = pytest.mark.spark

ROOT = Path(__file__).resolve().parents[2]
MASTERS = {"standalone": "spark://host:7077", "yarn": "yarn", "kubernetes": "k8s://https://host:6443"}
IMAGE = "spark.kubernetes.container.image registry/assay:1\nspark.kubernetes.file.upload.path file:///tmp\n"


@pytest.fixture
def submission(towns, tmp_path):
    """submission(master, conf="") -> that of `train` with a packed environment; conf: lines of a settings file."""
    dataset, archive = tmp_path / "dataset.yml", tmp_path / "environment.tar.gz"
    dataset.write_text(yaml.safe_dump(towns(tmp_path, towns=2, months=24)), encoding="utf-8")
    archive.write_bytes(b"")

    def make(master, conf=""):
        file = None
        if conf:
            file = tmp_path / "own.conf"
            file.write_text(conf, encoding="utf-8")
        config = load_run(dataset=dataset, workspace=tmp_path / "w", overrides=[f"runtime.environment={archive}"])
        settings = SparkSettings(master, file)
        return submission_of("train", [("--dataset", str(dataset)), ("--json", None)], config, settings)

    return make


@pytest.fixture
def prepared(spark):
    """prepared(submission) -> Spark's own reading of its words, and what it would start: master, main class, settings.

    It is what spark-submit itself does up to the point where it would reach for a cluster.
    """
    java = spark._jvm
    scala = java.scala.jdk.javaapi.CollectionConverters

    def read(submission):
        words = scala.asScala(java.java.util.ArrayList(list(submission.command[1:]))).toSeq()
        variables = java.java.util.HashMap({"HADOOP_CONF_DIR": "/etc/hadoop", **submission.variables})
        told = java.org.apache.spark.deploy.SparkSubmitArguments(words, scala.asScala(variables).toMap(None))
        made = java.org.apache.spark.deploy.SparkSubmit().prepareSubmitEnvironment(told, java.scala.Option.empty())
        settings = {pair._1(): pair._2() for pair in made._3().getAll()}
        return told, list(scala.asJava(made._1())), settings, made._4()

    return read


def archives_of(told, settings, kind):
    """What Spark would unpack on executors. YARN has a setting of its own for it."""
    assert told.archives() == settings["spark.yarn.dist.archives" if kind == "yarn" else "spark.archives"]
    return told.archives()


@pytest.mark.parametrize("kind", MASTERS)
def test_spark_reads_a_line_as_it_is_meant(submission, prepared, kind, tmp_path):
    asked = submission(MASTERS[kind])
    told, arguments, settings, main = prepared(asked)
    script = f"file:{ROOT / 'jobs' / 'train.py'}"
    assert (told.master(), told.deployMode(), told.name()) == (MASTERS[kind], "client", "assay towns")
    assert told.propertiesFile() == str(ROOT / "conf" / "spark" / f"{kind}.conf")
    assert main == "org.apache.spark.deploy.PythonRunner"
    assert arguments == [script, None, "--dataset", str(tmp_path / "dataset.yml"), "--json"]
    assert archives_of(told, settings, kind) == f"{(tmp_path / 'environment.tar.gz').as_uri()}#environment"
    assert asked.variables["PYSPARK_PYTHON"] == "./environment/bin/python"
    assert settings.items() >= {**DELTA, "spark.sql.session.timeZone": "UTC", "spark.master": MASTERS[kind]}.items()
    assert settings["spark.dynamicAllocation.enabled"] == "false"  # the settings file has been read
    assert f"-Dassay.log={tmp_path / 'w' / 'logs' / 'spark.log'}" in settings["spark.driver.extraJavaOptions"]
    jars = [Path(jar).name for jar in settings["spark.jars"].split(",")]
    assert any(jar.startswith("delta-spark_") for jar in jars)


@pytest.mark.parametrize("kind", ["yarn", "kubernetes"])
def test_spark_would_start_the_driver_on_the_cluster_with_the_files_that_it_reads(submission, prepared, kind, tmp_path):
    conf = f"spark.master {MASTERS[kind]}\nspark.submit.deployMode cluster\n{IMAGE}"
    told, arguments, settings, main = prepared(submission(None, conf))
    assert (told.master(), told.deployMode()) == (MASTERS[kind], "cluster")
    assert (
        main.rpartition(".")[2] == {"yarn": "YarnClusterApplication", "kubernetes": "KubernetesClientApplication"}[kind]
    )
    passed = [after for before, after in itertools.pairwise(arguments) if before == "--arg"]
    expected = ["--dataset", "dataset.yml", "--json", "--profile", "production.yml"]
    assert passed == [*expected, "--workspace", str(tmp_path / "w")]
    files = settings["spark.yarn.dist.files" if kind == "yarn" else "spark.files"].split(",")
    profile = ROOT / "conf" / "profiles" / "production.yml"
    assert files == [(tmp_path / "dataset.yml").as_uri(), profile.as_uri()]
    assert archives_of(told, settings, kind).endswith("/environment.tar.gz#environment")
    assert settings["spark.pyspark.python"] == "./environment/bin/python"


def test_spark_refuses_what_it_does_not_know(submission, prepared):
    asked = submission(MASTERS["yarn"])
    words = ["--archive" if word == "--archives" else word for word in asked.command]
    with pytest.raises(Py4JJavaError, match="Unrecognized option '--archive'"):
        prepared(dataclasses.replace(asked, command=words))
