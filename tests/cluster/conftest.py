"""What cluster tests share: a standalone master and two workers of the installed pyspark, with pretended GPUs."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyspark
import pytest

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60


@dataclass(frozen=True)
class Cluster:
    """A running cluster and how to use it."""

    master: str
    conf_file: Path
    folder: Path

    def driver(
        self, *arguments: str, settings: dict[str, str] | None = None, program: Sequence[str] = (sys.executable,)
    ) -> subprocess.CompletedProcess[str]:
        """Run a Python program as the driver, from a folder without a checkout and with no Python path of its own."""
        environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYSPARK_SUBMIT_ARGS"}}
        return subprocess.run(
            [*program, *arguments],
            cwd=self.folder,
            env={**environment, "PYTHONPATH": str(ROOT / "lib"), **(settings or {})},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def job(self, *arguments: str, conf: str = "") -> subprocess.CompletedProcess[str]:
        """Run one assay job on the cluster; `conf` adds lines to the Spark settings file."""
        file = self.conf_file
        if conf:
            file = self.folder / f"extra-{abs(hash(conf))}.conf"
            file.write_text(self.conf_file.read_text() + conf + "\n", encoding="utf-8")
        code = "import sys; from assay.cli import main; main(sys.argv[1:])"
        return self.driver("-c", code, *arguments, "--master", self.master, "--conf-file", str(file))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers of one core; their Python finds `assay` only in what Spark ships."""
    folder = tmp_path_factory.mktemp("cluster")
    script = folder / "gpus.sh"
    script.write_text('#!/bin/sh\necho \'{"name": "gpu", "addresses": ["0"]}\'\n', encoding="utf-8")
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    port = _free_port()
    master = f"spark://127.0.0.1:{port}"
    gpus = f"-Dspark.worker.resource.gpu.amount=1 -Dspark.worker.resource.gpu.discoveryScript={script}"
    logs = folder / "cluster.log"
    processes: list[subprocess.Popen[bytes]] = []
    with logs.open("wb") as sink:
        try:
            processes.append(
                _start(
                    folder, sink, {}, "master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0"
                )
            )
            _wait_for(logs, r"Started daemon|Starting Spark master", 1)
            for number in (1, 2):
                arguments = ["--host", "127.0.0.1", "--cores", "1", "--memory", "1500m", "--webui-port", "0"]
                work = ["--work-dir", str(folder / f"work-{number}"), master]
                processes.append(_start(folder, sink, {"SPARK_WORKER_OPTS": gpus}, "worker.Worker", *arguments, *work))
            _wait_for(logs, r"Successfully registered with master", 2)
            conf = folder / "cluster.conf"
            conf.write_text(
                "spark.driver.host 127.0.0.1\nspark.driver.bindAddress 127.0.0.1\nspark.ui.enabled false\n"
                "spark.driver.memory 1g\nspark.executor.memory 1g\nspark.executor.cores 1\nspark.task.cpus 1\n"
                "spark.sql.shuffle.partitions 2\nspark.executorEnv.POLARS_MAX_THREADS 1\n"
                "spark.executor.defaultJavaOptions -XX:TieredStopAtLevel=1\n"  # as other Java of tests
                "spark.scheduler.barrier.maxConcurrentTasksCheck.interval 2s\n",
                encoding="utf-8",
            )
            yield Cluster(master, conf, folder)
        finally:
            for process in reversed(processes):
                process.kill()
                process.wait()


def _start(folder: Path, sink: object, extra: dict[str, str], kind: str, *arguments: str) -> subprocess.Popen[bytes]:
    home = Path(pyspark.__file__).parent
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.Popen(
        [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{kind}", *arguments],
        env={**environment, "SPARK_NO_DAEMONIZE": "1", "SPARK_HOME": str(home), **extra},
        cwd=folder,
        stdout=sink,  # type: ignore[arg-type]
        stderr=subprocess.STDOUT,
    )


def _wait_for(log: Path, pattern: str, times: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while len(re.findall(pattern, log.read_text(errors="replace"))) < times:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the cluster did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
