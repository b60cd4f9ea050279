"""Consumes the URI of a lake on a server, produces a pipeline that was killed twice there, and a quiet one here."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from assay import open_workspace
from assay.errors import AssayError
from assay.runtime import jars
from job_process import environment, finished, started
from server_process import check_numbers, serving

COMMIT = f"_delta_log/{0:020d}.json"
SETTINGS = (  # without draws, so that the order in which a road brings rows is no matter
    *("engine.rounds=40", "engine.ranks=1", "engine.params.subsample=1.0", "engine.params.colsample_bytree=1.0"),
    *("conformal.adaptive=false", "conformal.min_segment_rows=20"),
)
KILLED = {"build_features": "features", "score": "predictions"}  # job -> the table that it is writing
TABLES = ("observations", "features", "predictions", "segment_metrics")
ROWS = 360  # of six towns and 60 months
READ = """
import sys
from assay import open_workspace
from assay.cli import main
from assay.scoring.udf import champion_of, model_struct, predict_udf
workspace, folder, conf, *names = sys.argv[1:]
opened = open_workspace(workspace, conf_file=conf)
for name in names:
    opened.table(name).write_parquet(f"{folder}/{name}.parquet")
champion, features = champion_of(workspace), opened.spark_table("features")
said = features.select("row_id", predict_udf(champion)(model_struct(champion, row_ids=True)).alias("said"))
said = said.select("row_id", "said.prediction", "said.lower_80", "said.upper_90").toPandas()
said.assign(model_version=champion.model.version).to_parquet(f"{folder}/udf.parquet")
main(["tables", "--workspace", workspace, "--conf-file", conf, "--json"])
"""
SECONDS = 400


@dataclass
class Story:
    """A dataset, its workspace whose tables are in `lake`, and a workspace with tables of its own.

    count: how many files there are below a folder of the lake, 1 of a file.  seconds: what took how long.
    """

    folder: Path
    dataset: Path
    lake: str
    conf: Path
    count: Callable[[str], int]
    seconds: dict[str, float] = field(default_factory=dict)
    killed: dict[str, bool] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, pl.DataFrame] = field(default_factory=dict)
    tables: list[dict[str, Any]] = field(default_factory=list)

    def told(self) -> Story:
        """The pipeline killed in the middle of two tables, then run to its end; what is then there; the quiet one."""
        self.killed = {job: self.kill_while_writing(table) for job, table in KILLED.items()}
        self.result = self.run("after the kills", self.in_lake())
        self.run("quiet", self.arguments("--workspace", str(self.folder / "quiet")))
        self.rows, self.tables = self.read()
        print("SECONDS", self.lake, self.seconds)
        return self

    def quiet(self, table: str) -> pl.DataFrame:
        """A table of the run here that never died."""
        return open_workspace(self.folder / "quiet").table(table)

    def check_tables_are_there_alone(self) -> None:
        """In the lake are all that the pipeline wrote, and nothing is in the workspace."""
        assert self.killed == dict.fromkeys(KILLED, True)
        assert self.result["status"] == "done"
        places = {table["location"] for table in self.result["tables"].values()}
        assert places == {f"{self.lake}/{name}" for name in self.result["tables"]}
        listed = {row["table"]: row["rows"] for row in self.tables}
        assert listed.keys() >= {*self.result["tables"]} - {"conformity_scores", "certificates"}
        assert listed["observations"] == listed["features"] == ROWS
        assert not (self.workspace / "lake").exists()
        assert self.committed("features")

    def check_rows(self, name: str) -> None:
        """A table has, bit for bit, the rows of the quiet run."""
        quiet = self.quiet(name)
        assert quiet.height == ROWS
        assert_frame_equal(self.rows[name], quiet, check_row_order=False, check_column_order=False, check_exact=True)

    def check_predictions(self) -> None:
        """Predictions are those of the quiet run, and of the UDF where the same model says them."""
        found, quiet = (frame.sort("row_id") for frame in (self.rows["predictions"], self.quiet("predictions")))
        assert found["row_id"].to_list() == quiet["row_id"].to_list()
        assert (found["prediction"] / quiet["prediction"] - 1).abs().max() < 1e-9
        assert found.select((pl.col("lower_90") <= pl.col("upper_90")).all()).item()
        said = pl.read_parquet(self.folder / "udf.parquet")
        both = found.join(said, on=["row_id", "model_version"], suffix="_of_udf")
        assert both.height >= 6  # the towns' last month at least, which no model has learned from
        for name in ("prediction", "lower_80", "upper_90"):
            assert both[name].to_list() == both[f"{name}_of_udf"].to_list()

    def check_server(self) -> None:
        """A server that reads the lake says the numbers that are in `predictions`."""
        begun = time.monotonic()
        options = [*self.settings(), "--profile", "development", "--conf-file", str(self.conf)]
        options += ["--set", f"runtime.lake={self.lake}"]
        with serving(self.dataset, self.workspace, *options) as server:
            self.seconds["server ready"] = round(time.monotonic() - begun, 1)
            assert check_numbers(server, self.folder / "towns.csv", self.rows["observations"], self.rows["predictions"])
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(60) == 0
        print("SECONDS", self.lake, self.seconds)

    @property
    def workspace(self) -> Path:
        """That with tables in the lake."""
        return self.folder / "workspace"

    def arguments(self, *more: str) -> list[str]:
        """Of the pipeline."""
        told = ["pipeline", "--dataset", str(self.dataset), "--profile", "development", "--master", "local[2]"]
        return [*told, *self.settings(), "--json", *more]

    @staticmethod
    def settings() -> list[str]:
        """Of every command."""
        return [word for setting in SETTINGS for word in ("--set", setting)]

    def in_lake(self) -> list[str]:
        """Of the pipeline with tables in the lake."""
        where = ["--workspace", str(self.workspace), "--conf-file", str(self.conf)]
        return self.arguments(*where, "--set", f"runtime.lake={self.lake}")

    def committed(self, table: str) -> bool:
        """Whether a table has its first version."""
        return self.count(f"{table}/{COMMIT}") == 1

    def kill_while_writing(self, table: str) -> bool:
        """Run the pipeline until a table has files and no commit; whether it was killed then."""
        stderr = self.folder / f"{table}.txt"
        process = started(self.in_lake(), stderr)
        deadline = time.monotonic() + SECONDS
        while process.poll() is None:
            if not self.committed(table) and self.count(table) > self.count(f"{table}/_delta_log"):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return not self.committed(table)
            assert time.monotonic() < deadline, stderr.read_text()
            time.sleep(0.02)
        raise AssertionError(f"it ended before it could be killed: {stderr.read_text()[-3000:]}")

    def run(self, name: str, arguments: Sequence[str]) -> dict:
        """Run to the end; the object that it prints last."""
        begun = time.monotonic()
        done = finished(*arguments)
        self.seconds[name] = round(time.monotonic() - begun, 1)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def read(self) -> tuple[dict[str, pl.DataFrame], list[dict]]:
        """Rows of the lake's tables, and what `assay tables` says, of a process that has nothing but the workspace."""
        begun = time.monotonic()
        command = [sys.executable, "-c", READ, str(self.workspace), str(self.folder), str(self.conf), *TABLES]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=SECONDS, check=False)
        self.seconds["tables"] = round(time.monotonic() - begun, 1)
        assert done.returncode == 0, done.stderr
        rows = {name: pl.read_parquet(self.folder / f"{name}.parquet") for name in TABLES}
        return rows, json.loads(done.stdout.splitlines()[-1])["tables"]


def story_of(folder: Path, tree: dict, lake: str, conf: Path, count: Callable[[str], int]) -> Story:
    """A story that is not told yet."""
    dataset = folder / "dataset.yml"
    dataset.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return Story(folder, dataset, lake, conf, count)


def fetched(folder: Path, *coordinates: str) -> list[Path]:
    """Jars of Maven's central repository, without what they depend on; kept for the next time.

    Skips where they cannot be had.
    """
    found = []
    for coordinate in coordinates:
        org, name, version = coordinate.split(":")
        jar = folder / f"{name}-{version}.jar"
        found.append(jar)
        if jar.is_file():
            continue
        try:
            command = jars.ivy_command(folder / "cache")
        except AssayError as error:
            pytest.skip(str(error))
        command += ["-dependency", org, name, version, "-notransitive", "-confs", "default"]
        command += ["-retrieve", f"{folder}/[artifact]-[revision].[ext]"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if not jar.is_file():
            pytest.skip(f"{coordinate} cannot be had: {(done.stdout + done.stderr)[-300:]}")
    return found


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, ready: Callable[[], bool], **options) -> Iterator[None]:
    """A server, from when it is ready until the block ends."""
    with log.open("wb") as sink:
        server = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True, **options)
        try:
            deadline = time.monotonic() + SECONDS
            while not ready():
                told = log.read_text(errors="replace")[-2000:]
                assert server.poll() is None, f"{command[0]} ended: {told}"
                assert time.monotonic() < deadline, f"{command[0]} is not ready: {told}"
                time.sleep(0.2)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
