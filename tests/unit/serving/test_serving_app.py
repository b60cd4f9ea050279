"""Checks the web application over real HTTP, around a pricer that answers at once: codes, limits, failures, refresh."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvicorn

from assay.errors import DataError
from assay.serving.app import app_of
from assay.serving.desk import TOGETHER, Desk, Order, grouped
from assay.serving.job import ServeOptions, listening_socket
from assay.serving.pricer import Priced
from assay.serving.request import BadRequest, Limits, Raw
from assay.serving.served import Loader, Served

LIMITS = Limits(rows=100, body_mb=0.01)


class Doubling:
    """A pricer whose price of a row is twice its size; it remembers how many requests it had at once."""

    def __init__(self, name="first", versions=1):
        self.about, self.versions = {"name": name}, versions
        self.reader = self
        self.companies = []
        self.slow = 0.0

    def raw(self, rows, history):
        if len(rows) > LIMITS.rows:
            raise BadRequest("rows: too many", 413)
        return Raw(rows, history, {"size": int})

    def check(self):
        pass

    def price_together(self, requests):
        self.companies.append(len(requests))
        time.sleep(self.slow)
        if any(row["size"] == 13 for raw in requests for row in raw.rows):
            raise RuntimeError("a secret of ours, password=hunter2")
        return [Priced([{"row": i, "prediction": 2 * r["size"]} for i, r in enumerate(q.rows)], 1, 0) for q in requests]


class Server:
    """A server in a thread."""

    def __init__(self, served):
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        self.server = uvicorn.Server(uvicorn.Config(app_of(served, LIMITS), log_level="critical", lifespan="on"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listening]}, daemon=True)
        self.thread.start()
        until(lambda: self.server.started)

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, content, headers or {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def stop(self):
        self.server.should_exit = True
        self.thread.join(20)


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


@contextlib.contextmanager
def serving(loader, **options):
    served = Served(loader, **options)
    server = Server(served)
    try:
        yield server, served
    finally:
        server.stop()


@pytest.fixture
def pricer():
    return Doubling()


@pytest.fixture
def server(pricer):
    with serving(Loader(lambda: pricer, lambda: 1)) as (found, served):
        until(lambda: served.pricer is not None)
        yield found


def test_rows_come_back_priced_under_both_addresses(server):
    for path in ("/predict", "/invocations"):
        code, answer = server.ask("POST", path, {"rows": [{"size": 4}, {"size": 5}]})
        assert code == 200
        assert [row["prediction"] for row in answer["predictions"]] == [8, 10]
    assert server.ask("GET", "/health") == (200, {"status": "ok"})
    assert server.ask("GET", "/ready") == (200, {"status": "ready"})
    code, about = server.ask("GET", "/version")
    assert (code, about["name"], about["ready"]) == (200, "first", True)


def test_mistakes_are_the_clients_and_failures_are_ours(server, caplog):
    code, answer = server.ask("POST", "/predict", b"{")
    assert (code, answer["error"].split(":")[0]) == (400, "the body is no JSON")
    assert server.ask("POST", "/predict", {"rows": [{"size": 1}] * 101})[0] == 413
    assert server.ask("GET", "/predict")[0] == 405
    assert server.ask("GET", "/nowhere")[0] == 404
    with caplog.at_level(logging.ERROR, "assay.serving"):
        code, answer = server.ask("POST", "/predict", {"rows": [{"size": 13}]})
    assert code == 500
    assert set(answer) == {"error"}
    assert "secret" not in answer["error"]
    assert "Traceback" not in answer["error"]
    (record,) = caplog.records
    assert record.args[0] in answer["error"]  # the number under which the log has it
    assert server.ask("POST", "/predict", {"rows": [{"size": 1}]})[0] == 200


@pytest.mark.parametrize("told", [True, False])
def test_a_body_that_is_too_large_is_refused_before_it_is_read(server, told):
    body = json.dumps({"rows": [{"size": 1, "text": "x" * 20_000}]}).encode()
    if told:
        code, answer = server.ask("POST", "/predict", body)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("POST", "/predict", iter([body[:9_000], body[9_000:]]), encode_chunked=True)
        response = connection.getresponse()
        code, answer = response.status, json.loads(response.read())
    assert code == 413
    assert "(--max-body-mb)" in answer["error"]


def test_many_clients_get_their_own_answers_and_are_served_together(server, pricer):
    pricer.slow = 0.05
    with ThreadPoolExecutor(16) as clients:
        found = list(clients.map(lambda n: server.ask("POST", "/predict", {"rows": [{"size": n}]}), range(20, 84)))
    assert [answer["predictions"][0]["prediction"] for _, answer in found] == [2 * n for n in range(20, 84)]
    assert sum(pricer.companies) == 64
    assert max(pricer.companies) > 1


def test_one_that_fails_does_not_fail_its_company(server, pricer):
    pricer.slow = 0.05
    sizes = [12, 13, 14, 15, 16, 17, 18, 19]
    with ThreadPoolExecutor(8) as clients:
        found = list(clients.map(lambda n: server.ask("POST", "/predict", {"rows": [{"size": n}]}), sizes))
    assert [code for code, _ in found] == [500 if size == 13 else 200 for size in sizes]


def test_until_a_model_is_loaded_the_server_lives_and_is_not_ready(pricer):
    go = threading.Event()

    def load():
        go.wait(10)
        return pricer

    with serving(Loader(load, lambda: 1)) as (server, served):
        assert server.ask("GET", "/health")[0] == 200
        assert server.ask("GET", "/ready") == (503, {"status": "loading"})
        assert server.ask("POST", "/predict", {"rows": [{"size": 1}]})[0] == 503
        go.set()
        until(lambda: served.pricer is not None)
        assert server.ask("GET", "/ready")[0] == 200


def test_a_server_that_can_load_nothing_gives_up():
    given_up = threading.Event()

    def load():
        raise DataError("no model is registered")

    with serving(Loader(load, lambda: 1), on_failure=given_up.set) as (server, served):
        assert given_up.wait(10)
        assert isinstance(served.error, DataError)
        assert server.ask("GET", "/ready")[0] == 503


def test_something_new_takes_the_place_of_the_old_and_a_failure_leaves_it():
    state = {"version": 1, "fails": False, "loads": 0}

    def load():
        state["loads"] += 1
        if state["fails"]:
            raise RuntimeError("the lake is out of reach")
        return Doubling(f"version {state['version']}", state["version"])

    with serving(Loader(load, lambda: state["version"]), refresh_minutes=0.02 / 60) as (server, served):
        until(lambda: served.pricer is not None)
        time.sleep(0.2)
        assert state["loads"] == 1  # nothing new
        state["version"] = 2
        until(lambda: server.ask("GET", "/version")[1]["name"] == "version 2")
        state.update(version=3, fails=True)
        until(lambda: "refresh_failed" in server.ask("GET", "/version")[1])
        assert server.ask("GET", "/version")[1]["name"] == "version 2"
        assert server.ask("POST", "/predict", {"rows": [{"size": 1}]})[0] == 200
        state["fails"] = False
        until(lambda: server.ask("GET", "/version")[1]["name"] == "version 3")
        assert "refresh_failed" not in server.ask("GET", "/version")[1]


def test_without_a_period_only_a_signal_looks_for_something_new():
    state = {"version": 1}
    with serving(Loader(lambda: Doubling(str(state["version"]), state["version"]), lambda: state["version"])) as (
        server,
        served,
    ):
        until(lambda: served.pricer is not None)
        state["version"] = 2
        time.sleep(0.2)
        assert server.ask("GET", "/version")[1]["name"] == "1"
        served.refresh()
        until(lambda: server.ask("GET", "/version")[1]["name"] == "2")


def test_orders_are_grouped_by_what_goes_together():
    one, other = Doubling(), Doubling()
    plain, wide = Raw([{"size": 1}], [], {"size": int}), Raw([{"size": 1}] * TOGETHER, [], {"size": int})
    text, past = Raw([{"size": "1"}], [], {"size": str}), Raw([{"size": 1}], [{}], {"size": int})
    wanted = [(one, plain), (other, plain), (one, text), (one, past), (one, plain), (one, wide), (other, plain)]
    groups = grouped([Order(pricer, raw, None) for pricer, raw in wanted])
    assert [len(group) for group in groups] == [2, 2, 1, 1, 1]


def test_a_desk_that_closes_answers_who_waits():
    pricer, desk = Doubling(), Desk()
    pricer.slow = 0.1
    with ThreadPoolExecutor(4) as clients:
        waiting = [clients.submit(desk.price, pricer, Raw([{"size": n}], [], {"size": int})) for n in range(4)]
        time.sleep(0.05)
        desk.close()
        assert [w.result(5).answers[0]["prediction"] for w in waiting] == [0, 2, 4, 6]


def test_answers_leave_at_once():
    """A head and a body are two writes, of which the second would wait for the first to be acknowledged: 40 ms."""
    at_once = []

    class Seen(asyncio.Protocol):
        def connection_made(self, transport):
            own = transport.get_extra_info("socket")
            at_once.append(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()

    async def one_client(listening):
        server = await asyncio.get_running_loop().create_server(Seen, sock=listening)
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        await reader.read()
        writer.close()
        server.close()

    with contextlib.closing(listening_socket(ServeOptions(dataset="", port=0))) as listening:
        asyncio.run(one_client(listening))
    assert at_once == [1]
