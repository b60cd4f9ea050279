"""Consumes lines sent over real sockets, checks that the driver hears its own executors and nothing can hurt it."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

from assay.runtime.signals import Address, Sender, Shelf, listen

HOST = "127.0.0.1"


class Heard:
    """Messages, and a way to wait for a number of them."""

    def __init__(self):
        self.messages = []
        self.changed = threading.Condition()

    def __call__(self, message):
        with self.changed:
            self.messages.append(message)
            self.changed.notify_all()

    def wait_for(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.messages) >= count, timeout=10), self.messages
        return self.messages


@pytest.fixture
def heard():
    return Heard()


def test_messages_arrive_in_order_without_the_token(heard):
    with listen(HOST, heard) as address:
        sender = Sender(address)
        for number in range(3):
            sender.send(round=number, metrics={"tune_rmse": 1.5 - number})
        assert heard.wait_for(3) == [{"round": n, "metrics": {"tune_rmse": 1.5 - n}} for n in range(3)]


def test_several_ranks_may_send(heard):
    with listen(HOST, heard) as address:
        for rank in range(4):
            Sender(address).send(rank=rank)
        assert sorted(m["rank"] for m in heard.wait_for(4)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "line",
    [
        b"hello\n",
        b"[1, 2]\n",
        b'"text"\n',
        b"null\n",
        b"{}\n",
        b'{"token": "wrong", "round": 7}\n',
        b"\xff\xfe\x00\n",
        b"x" * 200_000 + b"\n",
    ],
    ids=["no json", "list", "text", "null", "no token", "wrong token", "no text", "very long"],
)
def test_a_strangers_line_is_ignored_and_later_lines_are_heard(heard, line):
    with listen(HOST, heard) as address, socket.create_connection((HOST, address.port)) as stranger:
        stranger.sendall(line + json.dumps({"token": address.token, "round": 1}).encode() + b"\n")
        assert heard.wait_for(1) == [{"round": 1}]


def test_a_figure_that_cannot_be_shown_does_not_end_the_conversation(heard):
    def picky(message):
        heard(message)
        raise KeyError("round")

    with listen(HOST, picky) as address:
        sender = Sender(address)
        sender.send(a=1)
        sender.send(a=2)
        assert len(heard.wait_for(2)) == 2


def test_a_driver_that_cannot_be_reached_does_not_stop_an_executor():
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
    sender = Sender(Address(HOST, port, "token"))
    sender.send(round=1)
    assert sender.socket is None


def test_a_driver_that_has_left_does_not_stop_an_executor(heard):
    with listen(HOST, heard) as address:
        sender = Sender(address)
        sender.send(round=0)
        heard.wait_for(1)
        reader = sender.socket
        reader.shutdown(socket.SHUT_RDWR)
    for number in range(50):
        sender.send(round=number)
    assert sender.socket is None


def test_where_the_driver_cannot_listen_nothing_is_heard_and_nothing_fails(heard):
    with listen("203.0.113.7", heard) as address:  # a documentation address, none of this machine
        assert address is None


def test_the_end_is_quick(heard):
    started = time.monotonic()
    with listen(HOST, heard):
        pass
    assert time.monotonic() - started < 0.4


def test_who_comes_just_before_the_end_is_heard(heard):
    for count in range(1, 101):
        with listen(HOST, heard) as address:
            senders = [Sender(address) for _ in range(3)]
            for sender in senders:
                sender.send(count=count)
                sender.close()
        assert len(heard.messages) == 3 * count


def test_the_newest_thing_that_was_left_comes_back_whole(heard):
    shelf, large = Shelf(), bytes(range(256)) * 8192
    with listen(HOST, heard, shelf) as address:
        sender = Sender(address)
        assert sender.newest() == b""
        sender.keep((0, 10), large)
        sender.send(round=11)
        assert sender.newest() == large
        assert Sender(address).newest() == large
        Sender(address).keep((0, 9), b"of a stage that was given up")
        sender.keep((1, 0), b"a later phase\n")
        assert sender.newest() == b"a later phase\n"
        assert heard.wait_for(1) == [{"round": 11}]


def test_nothing_is_kept_of_strangers_and_of_those_who_leave_half_way(heard):
    shelf = Shelf()
    with listen(HOST, heard, shelf) as address:
        for token, told in (("wrong", 3), (address.token, 4), (address.token, -1), (address.token, "many")):
            with socket.create_connection((HOST, address.port)) as stranger:
                line = {"token": token, "keep": [0, 1], "bytes": told}
                stranger.sendall(json.dumps(line).encode() + b"\nabc")
        sender = Sender(address)
        sender.send(round=1)
        heard.wait_for(1)
        assert sender.newest() == b""


def test_a_driver_that_cannot_be_reached_has_nothing_and_keeps_nothing():
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
    sender = Sender(Address(HOST, port, "token"))
    sender.keep((0, 1), b"x")
    assert sender.newest() == b""
