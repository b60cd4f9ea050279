"""Consumes a workspace that processes made, checks a server as users run it: its numbers, its signals, its refusals."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import polars as pl
import pytest
import yaml
from deltalake import DeltaTable

from benchmarks import serve as benchmark
from job_process import finished
from server_process import Server, check_numbers, serving

pytestmark = pytest.mark.e2e


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


def check(server: Server, dataset: Path, folder: Path) -> None:
    """The server's numbers are those of the table `predictions`."""
    source = yaml.safe_load(dataset.read_text(encoding="utf-8"))["source"]["path"]
    tables = [
        pl.from_arrow(DeltaTable(folder / "lake" / name).to_pyarrow_table()) for name in ("observations", "predictions")
    ]
    assert check_numbers(server, Path(source), *tables)


def test_a_server_gives_the_numbers_of_batch_and_ends_when_it_is_told(workspace):
    dataset, folder = workspace
    with serving(dataset, folder) as server:
        check(server, dataset, folder)
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
        check(server, dataset, folder)
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
