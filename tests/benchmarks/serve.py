"""Consumes two real data sets, measures a server process: latency and rows per second by clients and rows per request.

Each contender starts `assay serve` on a workspace in which the pipeline ran once, waits until it is ready, and lets
clients ask for `SECONDS`, each on a connection of its own, the next request as soon as the answer is there. Clients are
threads of another process on the same machine, so that they take time from the server. Before, 1,000 rows of the
source are compared with `predictions`, bit by bit. The data are looked for where their YAML says, in the current folder
and in `$ASSAY_DATA`; `--only 'kc_house:*'` runs one data set.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._real import ROOT
from benchmarks.harness import Benchmark, Contender, Outcome

DATASETS = ("kc_house", "walmart_weekly")
LOADS = tuple((clients, rows) for rows in (1, 100) for clients in (1, 8, 32))
SECONDS = 10.0
COMPARED = 1_000
CODE = "import sys; from assay.cli import main; main(sys.argv[1:])"
SETTINGS = ("--set", "training.force_production_quality=false")


@dataclasses.dataclass(frozen=True)
class Running:
    """A server that is ready, rows to ask for, and the load."""

    process: subprocess.Popen[str]
    port: int
    rows: Sequence[Mapping[str, Any]]
    clients: int
    rows_each: int
    ready_seconds: float
    differences: int


def dataset_file(name: str) -> Path:
    """Its YAML."""
    return ROOT / "conf" / "datasets" / f"{name}.yml"


def job(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """A job in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "lib")}
    return subprocess.Popen([sys.executable, "-c", CODE, *arguments], env=environment, text=True, **options)


def generate(data: Path, _: int) -> None:
    """A workspace of each data set, in which the pipeline ran."""
    for name in DATASETS:
        workspace = data / name
        process = job("pipeline", "--dataset", str(dataset_file(name)), "--workspace", str(workspace), *SETTINGS)
        if process.wait():
            raise RuntimeError(f"the pipeline of {name} failed")


def asked(name: str, workspace: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Raw rows of the source that have predictions, as JSON has them, and these predictions."""
    import polars as pl
    from deltalake import DeltaTable

    from assay.config import load_run
    from assay.ingest.files import find_source

    config = load_run(dataset=dataset_file(name), workspace=workspace)
    (source,) = find_source(config)
    tables = [
        pl.from_arrow(DeltaTable(workspace / "lake" / table).to_pyarrow_table(columns=columns))
        for table, columns in (("predictions", None), ("observations", ["row_id", "source_row"]))
    ]
    predictions = tables[0].join(tables[1], on="row_id").sort("row_id")
    raw = pl.read_parquet(source.path).select(config.dataset.source_columns)
    own = {target.source_column for target in config.dataset.targets}
    rows = raw[predictions["source_row"].to_numpy() - 1].drop(own).to_dicts()
    return rows, predictions.to_dicts()


def prepare(data: Path, name: str, clients: int, rows_each: int) -> Running:
    """A server that is ready and gives the numbers of batch."""
    workspace = data / name
    rows, wanted = asked(name, workspace)
    started = time.perf_counter()
    options = ["--dataset", str(dataset_file(name)), "--workspace", str(workspace), "--port", "0"]
    process = job("serve", *options, "--refresh-minutes", "0", stdout=subprocess.PIPE)
    assert process.stdout is not None
    found = re.search(r":(\d+) ", process.stdout.readline())
    assert found is not None
    port = int(found[1])
    while ask(port, "GET", "/ready")[0] != 200:
        time.sleep(0.05)
    ready = time.perf_counter() - started
    _, answer = ask(port, "POST", "/predict", json.dumps({"rows": rows[:COMPARED]}))
    pairs = zip(answer["predictions"], wanted[:COMPARED], strict=True)
    return Running(process, port, rows, clients, rows_each, ready, sum(differs(*pair) for pair in pairs))


def differs(found: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Whether a number of the answer is another than that of the table, in any bit."""
    names = [name for name in expected if name == "prediction" or name.startswith(("lower_", "upper_"))]
    wanted = [expected[name] if math.isfinite(expected[name]) else None for name in names]
    return [found[name] for name in names] != wanted


def ask(port: int, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
    """One request; 0 where nobody listens yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    with contextlib.closing(connection):
        try:
            connection.request(method, path, body)
        except ConnectionError:
            return 0, None
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def run(state: Running) -> Mapping[str, float]:
    """Let all clients ask; seconds of each request, its rows, and how long all took."""
    latencies: list[float] = []
    failures: list[int] = []
    start = time.perf_counter()

    def client(number: int) -> None:
        random = np.random.default_rng(number)
        connection = http.client.HTTPConnection("127.0.0.1", state.port)
        while (begun := time.perf_counter()) < start + SECONDS:
            chosen = random.integers(0, len(state.rows), state.rows_each)
            body = json.dumps({"rows": [state.rows[i] for i in chosen]})
            begun = time.perf_counter()
            connection.request("POST", "/predict", body)
            answer = connection.getresponse()
            answer.read()
            latencies.append(time.perf_counter() - begun)
            if answer.status != 200:
                failures.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(state.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    state.process.terminate()
    code = state.process.wait(60)
    assert not failures, f"{len(failures)} requests failed, the first with {failures[0]}"
    assert code == 0, f"the server ended with {code}"
    p50, p99 = np.percentile(latencies, [50, 99]) * 1e3
    return {
        "p50_ms": p50,
        "p99_ms": p99,
        "rows_per_second": len(latencies) * state.rows_each / took,
        "requests": len(latencies),
        "ready_seconds": state.ready_seconds,
        "differences": state.differences,
    }


def outputs(figures: Mapping[str, float]) -> Mapping[str, float]:
    """All of them."""
    return figures


def report(outcome: Outcome) -> tuple[str, Mapping[str, Any]]:
    """A line per data set and load."""
    columns = ("p50 ms", "p99 ms", "rows/s", "requests", "differ", "MB")
    lines = [f"{'data set: clients x rows of a request':40s}" + "".join(f"{name:>10s}" for name in columns)]
    for name, found in outcome.outputs.items():
        lines.append(
            f"{name:40s}{found['p50_ms']:10.1f}{found['p99_ms']:10.1f}{found['rows_per_second']:10,.0f}"
            f"{found['requests']:10,.0f}{found['differences']:10.0f}{outcome.peak_mb[name]:10,.0f}"
        )
    return "\n".join(lines), {"serve": outcome.outputs}


BENCHMARK = Benchmark(
    name="serve",
    rows=1,
    generate=generate,
    contenders={
        f"{name}: {clients} x {rows}": Contender(
            partial(prepare, name=name, clients=clients, rows_each=rows), run, outputs, against=f"{name}: 1 x 1"
        )
        for name in DATASETS
        for clients, rows in LOADS
    },
    report=report,
    repeats=1,
)
