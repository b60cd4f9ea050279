"""Consumes figures that executors send while a stage runs, produces calls on the driver: live training rounds.

A best-effort line of JSON over TCP from rank 0. Nothing depends on it: where a cluster's network does not let
executors reach the driver, training goes on without live figures.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

LONGEST_LINE = 65_536


@dataclass(frozen=True)
class Address:
    """Where the driver listens; token: keeps strangers' lines out."""

    host: str
    port: int
    token: str


@contextlib.contextmanager
def listen(host: str, on_message: Callable[[dict[str, Any]], None]) -> Iterator[Address | None]:
    """Listen on a free port until the block ends. None where the driver cannot listen at the address it is known by."""
    import secrets

    token = secrets.token_hex(8)
    try:
        server = socket.create_server((host, 0))
    except OSError:
        yield None
        return
    server.settimeout(0.5)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                threading.Thread(target=_read, args=(connection, token, on_message), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Address(host, int(server.getsockname()[1]), token)
    finally:
        stop.set()
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        thread.join(timeout=2)
        server.close()


def _read(connection: socket.socket, token: str, on_message: Callable[[dict[str, Any]], None]) -> None:
    with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
        while line := lines.readline(LONGEST_LINE):
            with contextlib.suppress(Exception):  # a figure that cannot be shown is no reason to fail
                message = json.loads(line)
                if isinstance(message, dict) and message.pop("token", None) == token:
                    on_message(message)


class Sender:
    """The executor's end. Every failure is swallowed."""

    def __init__(self, address: Address) -> None:
        self.token = address.token
        self.socket: socket.socket | None = None
        with contextlib.suppress(OSError):
            self.socket = socket.create_connection((address.host, address.port), timeout=3)

    def send(self, **message: Any) -> None:
        """Send one message."""
        if self.socket is None:
            return
        try:
            self.socket.sendall((json.dumps({"token": self.token, **message}) + "\n").encode())
        except OSError:
            self.socket = None
