"""Produces a server of raw rows as users run it: a process of its own, from when it is ready until a block ends."""

from __future__ import annotations

import contextlib
import csv
import http.client
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from job_process import CODE, environment

SECONDS = 120.0
ANSWERED = ("prediction", "lower_80", "upper_90", "segment", "model_version", "calibration_version")


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


def check_numbers(server: Server, source: Path, observations: pl.DataFrame, predictions: pl.DataFrame) -> int:
    """Rows of a CSV, as they stand there, have the numbers of the table `predictions`; returns how many there are."""
    with source.open(encoding="utf-8", newline="") as file:
        raw = list(csv.DictReader(file))
    wanted = predictions.join(observations.select("row_id", "source_row"), on="row_id").to_dicts()
    rows = [{k: v for k, v in raw[row["source_row"] - 1].items() if k != "price"} for row in wanted]
    code, answer = server.ask("POST", "/predict", {"rows": rows})
    assert code == 200, answer
    for found, expected in zip(answer["predictions"], wanted, strict=True):
        assert {name: found[name] for name in ANSWERED} == {name: expected[name] for name in ANSWERED}
    return len(wanted)
