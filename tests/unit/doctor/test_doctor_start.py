"""Consumes masters that do not answer and a Java that is not there, checks what a doctor says of Spark's start."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from assay.doctor.spark import cause, silent_masters

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_master_that_does_not_answer(free_port):
    silent = f"127.0.0.1:{free_port}"
    assert silent_masters(f"spark://{silent}") == silent
    assert silent_masters("spark://no port") == "no port"
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert silent_masters(f"spark://{silent},127.0.0.1:{server.getsockname()[1]}") == ""
    assert silent_masters("local[2]") == silent_masters("yarn") == ""


def test_the_cause_in_a_log(tmp_path):
    log = tmp_path / "spark.log"
    assert cause(log) == ""
    log.write_text("Warning: something\nInvalid maximum heap size: -Xmx12bogus\nError: Could not create the JVM\n")
    assert cause(log) == "Invalid maximum heap size: -Xmx12bogus"


def test_spark_that_does_not_start_is_a_finding_and_the_rest_goes_on(tmp_path):
    code = "import sys; from assay.cli import main; main(sys.argv[1:])"
    environment = {k: v for k, v in os.environ.items() if k != "PYSPARK_GATEWAY_PORT"}
    environment |= {"PYTHONPATH": str(ROOT / "lib"), "JAVA_HOME": "/nowhere", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", code, "doctor", "--workspace", str(tmp_path / "mine"), "--json"]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2, done.stderr
    found = {one["check"]: one for one in json.loads(done.stdout.splitlines()[-1])["findings"]}
    assert found["Java"]["told"] == "JAVA_HOME=/nowhere has no bin/java"
    assert found["Spark"]["status"] == "fail"
    assert "/nowhere/bin/java: No such file or directory" in found["Spark"]["told"]
    (log,) = tmp_path.glob("assay-doctor-*/spark.log")
    assert str(log) in found["Spark"]["todo"]
    assert {"memory", "MLflow"} <= set(found)
    assert "Delta" not in found
