"""Consumes a workspace that processes made, checks a server as users run it: its numbers, its signals, its refusals."""

from __future__ import annotations

import contextlib
import csv
import http.client
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from deltalake import DeltaTable

from benchmarks import serve as benchmark
from job_process import CODE, environment, finished

pytestmark = pytest.mark.e2e

SECONDS = 120.0


@pytest.fixture(scope="module")
def workspace(towns, tmp_path_factory):
    """A workspace in which the pipeline ran, and its dataset."""
    folder = tmp_path_factory.mktemp("serve")
    dataset = folder / "towns.yml"
    dataset.write_text(yaml.safe_dump(towns(folder / "source", towns=4, months=72)), encoding="utf-8")
    settings = ["--set", "engine.rounds=20", "--set", "training.force_production_quality=false"]
    done = finished("pipeline", "--dataset", str(dataset), "--workspace", str(folder / "ws"), *settings)
    assert done.returncode == 0, done.stderr
    return dataset, folder / "ws"


class Server:
    """A server process."""

    def __init__(self, dataset: Path, folder: Path, *options: str) -> None:
        arguments = ["serve", "--dataset", str(dataset), "--workspace", str(folder), "--port", "0", *options]
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE, *arguments], env=environment(), stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"serving \w+ at http://127\.0\.0\.1:(\d+) ", line)
        assert found is not None, line
        self.port = int(found[1])

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def wait_until_ready(self) -> None:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            assert self.process.poll() is None, "the server ended"
            with contextlib.suppress(OSError):
                if self.ask("GET", "/ready")[0] == 200:
                    return
            time.sleep(0.2)
        raise AssertionError("the server never became ready")


@contextlib.contextmanager
def serving(dataset: Path, folder: Path, *options: str) -> Iterator[Server]:
    server = Server(dataset, folder, *options)
    try:
        server.wait_until_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()


def check_numbers(server: Server, dataset: Path, folder: Path) -> None:
    """Rows of the source, as they stand there, have the numbers of the table `predictions`."""
    source = yaml.safe_load(dataset.read_text(encoding="utf-8"))["source"]["path"]
    with open(source, encoding="utf-8", newline="") as file:
        raw = list(csv.DictReader(file))
    tables = {
        name: pl.from_arrow(DeltaTable(folder / "lake" / name).to_pyarrow_table())
        for name in ("observations", "predictions")
    }
    wanted = tables["predictions"].join(tables["observations"].select("row_id", "source_row"), on="row_id").to_dicts()
    rows = [{k: v for k, v in raw[row["source_row"] - 1].items() if k != "price"} for row in wanted]
    code, answer = server.ask("POST", "/predict", {"rows": rows})
    assert code == 200
    for found, expected in zip(answer["predictions"], wanted, strict=True):
        for name in ("prediction", "lower_80", "upper_90", "segment", "model_version", "calibration_version"):
            assert found[name] == expected[name]


def test_a_server_gives_the_numbers_of_batch_and_ends_when_it_is_told(workspace):
    dataset, folder = workspace
    with serving(dataset, folder) as server:
        check_numbers(server, dataset, folder)
        assert server.ask("GET", "/health") == (200, {"status": "ok"})
        code, about = server.ask("GET", "/version")
        assert (code, about["targets"]["price"]["registry_version"]) == (200, "1")
        row = {"day": "2011-01-01", "city": "town 1", "kind": "big"}
        code, answer = server.ask("POST", "/predict", {"rows": [{**row, "citty": 3}]})
        assert (code, answer["error"]) == (422, "rows[0]: unknown column 'citty'; did you mean city?")
        code, answer = server.ask("POST", "/invocations", {"dataframe_records": [row, {**row, "day": "soon"}]})
        assert (code, answer["wrong"]) == (200, 1)
        assert answer["predictions"][1]["error"] == "column 'day': no readable time (dataset.time.format)"
        server.process.send_signal(signal.SIGHUP)
        assert server.ask("POST", "/predict", {"rows": [row]})[0] == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(40) == 0
        with pytest.raises(OSError):
            server.ask("GET", "/health")


@pytest.mark.realdata
def test_a_thousand_real_rows_have_the_numbers_of_batch(real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("ASSAY_DATA", str(real_data))
    dataset, folder = benchmark.dataset_file("kc_house"), tmp_path / "ws"
    settings = ["--set", "engine.rounds=60", "--set", "training.force_production_quality=false"]
    done = finished("pipeline", "--dataset", str(dataset), "--workspace", str(folder), *settings)
    assert done.returncode == 0, done.stderr
    rows, wanted = benchmark.asked("kc_house", folder)
    with serving(dataset, folder) as server:
        code, answer = server.ask("POST", "/predict", {"rows": rows[:1_000]})
        assert (code, answer["wrong"], len(answer["predictions"])) == (200, 0, 1_000)
        pairs = zip(answer["predictions"], wanted[:1_000], strict=True)
        assert not [found["row"] for found, expected in pairs if benchmark.differs(found, expected)]
        for place in range(0, 1_000, 50):
            code, answer = server.ask("POST", "/predict", {"rows": [rows[place]]})
            assert not benchmark.differs(answer["predictions"][0], wanted[place])


def test_several_processes_serve_one_port(workspace):
    dataset, folder = workspace
    with serving(dataset, folder, "--workers", "2") as server:
        time.sleep(1)
        check_numbers(server, dataset, folder)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0


def test_a_server_without_a_champion_ends_with_one_line(towns, tmp_path):
    dataset = tmp_path / "towns.yml"
    dataset.write_text(yaml.safe_dump(towns(tmp_path / "source", towns=2, months=30)), encoding="utf-8")
    options = ["--dataset", str(dataset), "--workspace", str(tmp_path / "ws"), "--port", "0"]
    done = finished("serve", *options)
    assert done.returncode == 2
    assert "no job has run there: run `assay pipeline` first" in done.stderr
    (tmp_path / "ws").mkdir(exist_ok=True)
    (tmp_path / "ws" / "assay.json").write_text(json.dumps({"dataset": "towns"}), encoding="utf-8")
    done = finished("serve", *options)
    assert done.returncode == 2
    assert "no model of towns.price is registered: run the job train first" in done.stderr
    assert "Traceback" not in done.stderr
