"""Consumes an invented server, checks what `benchmark serve` counts: differences, latencies, and failures."""

from __future__ import annotations

import http.server
import json
import math
import subprocess
import sys
import threading
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from benchmarks import serve  # noqa: E402
from benchmarks.harness import Outcome  # noqa: E402


@pytest.fixture
def server():
    """Answers every request; what is asked lies in `asked`, the code to answer with in `code`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            found.asked.append(body["rows"])
            content = b'{"predictions": []}'
            self.send_response(found.code)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.asked, found.code, found.daemon_threads = [], 200, True
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()


def running(server, clients, rows_each):
    code = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print(flush=True)"
    code += "; time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], text=True, stdout=subprocess.PIPE)
    process.stdout.readline()
    rows = [{"size": n} for n in range(50)]
    return serve.Running(process, server.server_address[1], rows, clients, rows_each, 1.0, 0)


def test_clients_ask_side_by_side_and_all_is_counted(server, monkeypatch):
    monkeypatch.setattr(serve, "SECONDS", 0.4)
    figures = serve.run(running(server, clients=3, rows_each=4))
    assert figures["requests"] == len(server.asked) > 3
    assert {len(rows) for rows in server.asked} == {4}
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert figures["rows_per_second"] == pytest.approx(4 * figures["requests"] / 0.4, rel=0.5)


def test_a_request_that_fails_fails_the_benchmark(server, monkeypatch):
    monkeypatch.setattr(serve, "SECONDS", 0.1)
    server.code = 500
    with pytest.raises(AssertionError, match="requests failed, the first with 500"):
        serve.run(running(server, clients=1, rows_each=1))


def test_a_number_that_differs_in_one_bit_is_another():
    stored = {"prediction": 1.0, "lower_80": -math.inf, "upper_80": 2.0, "time": 3}
    answer = {"prediction": 1.0, "lower_80": None, "upper_80": 2.0}
    assert not serve.differs(answer, stored)
    assert serve.differs({**answer, "prediction": math.nextafter(1.0, 2.0)}, stored)
    assert serve.differs({**answer, "lower_80": -1e300}, stored)


def test_the_report_has_a_line_per_load():
    names = [name for name in serve.BENCHMARK.contenders if name.startswith("kc_house")]
    assert names == [f"kc_house: {clients} x {rows}" for rows in (1, 100) for clients in (1, 8, 32)]
    figures = {"p50_ms": 12.34, "p99_ms": 50.0, "rows_per_second": 8_000.0, "requests": 80.0, "differences": 0.0}
    of_each = dict.fromkeys(names, 1.0)
    outcome = Outcome("serve", 1, of_each, {}, {}, 0.0, of_each, of_each, dict.fromkeys(names, figures))
    text, summary = serve.report(outcome)
    assert len(text.splitlines()) == 7
    assert "12.3      50.0     8,000        80         0" in text
    assert set(summary["serve"]) == set(names)
