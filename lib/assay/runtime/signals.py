"""Consumes what executors send while a stage runs, produces calls on the driver and the newest thing left with it.

Lines of JSON over TCP from rank 0: live figures, and from time to time a checkpoint, which the driver keeps for a stage
that Spark tries again. Best effort: where a cluster's network does not let executors reach the driver, training goes
on without live figures, and a stage that is tried again starts anew. Questions (`Sender.ask`) are no such extra: who
asks must know that there is no answer.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from assay.errors import AssayError

LONGEST_LINE = 65_536
LONGEST_KEPT = 4 << 30  # bytes
CONNECT_SECONDS = 3.0
TRANSFER_SECONDS = 60.0
READER = "assay-signals-reader"  # name of the driver's threads, one per executor that talks


@dataclass(frozen=True)
class Address:
    """Where the driver listens; token: keeps strangers' lines out."""

    host: str
    port: int
    token: str


class Shelf:
    """The newest bytes that executors left with the driver; newest is what has the highest order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._order: tuple[int, ...] = ()
        self._stored = b""

    def put(self, order: Sequence[int], stored: bytes) -> None:
        """Keep these, unless something newer is here: a stage that was given up may still be talking."""
        with self._lock:
            if tuple(order) > self._order:
                self._order, self._stored = tuple(order), stored

    def newest(self) -> bytes:
        """What is kept; empty where nothing is."""
        with self._lock:
            return self._stored


@contextlib.contextmanager
def listen(
    host: str,
    on_message: Callable[[dict[str, Any]], None],
    shelf: Shelf | None = None,
    answer: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Iterator[Address | None]:
    """Listen on a free port until the block ends. None where the driver cannot listen at the address it is known by.

    answer: what a question is answered with. Each executor's questions come in its own thread.
    """
    import secrets

    token = secrets.token_hex(8)
    try:
        server = socket.create_server((host, 0))
    except OSError:
        yield None
        return
    stop = threading.Event()
    shelf = shelf or Shelf()
    readers: list[tuple[threading.Thread, socket.socket]] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except ConnectionError:
                continue
            except OSError:
                if stop.is_set():  # nobody waits any more
                    return
                continue
            given = (connection, token, on_message, shelf, answer)
            reader = threading.Thread(target=_read, args=given, daemon=True, name=READER)
            readers.append((reader, connection))
            reader.start()
            if stop.is_set():  # who came before the end is still heard
                server.setblocking(False)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Address(host, int(server.getsockname()[1]), token)
    finally:
        stop.set()
        with contextlib.suppress(OSError):
            socket.create_connection(server.getsockname(), timeout=CONNECT_SECONDS).close()  # wakes `accept`
        thread.join(timeout=2)
        server.close()
        for reader, connection in readers:
            reader.join(timeout=1)  # what was sent is read to its end
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # the other end is still open: nobody waits for it


def _read(
    connection: socket.socket,
    token: str,
    on_message: Callable[[dict[str, Any]], None],
    shelf: Shelf,
    answer: Callable[[dict[str, Any]], dict[str, Any]] | None,
) -> None:
    with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
        while line := lines.readline(LONGEST_LINE):
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                message = json.loads(line)
                if not isinstance(message, dict) or message.pop("token", None) != token:
                    continue
                if "keep" in message:
                    stored = _exactly(lines, int(message["bytes"]))
                    if stored is None:
                        return
                    shelf.put([int(part) for part in message["keep"]], stored)
                elif "newest" in message:
                    _send(connection, {}, shelf.newest())
                elif "ask" in message and answer is not None:
                    connection.sendall((json.dumps(answer(message)) + "\n").encode())
                else:
                    with contextlib.suppress(Exception):  # a figure that cannot be shown is no reason to fail
                        on_message(message)


def _send(connection: socket.socket, message: dict[str, Any], stored: bytes) -> None:
    connection.sendall((json.dumps({**message, "bytes": len(stored)}) + "\n").encode())
    connection.sendall(stored)


def _exactly(lines: IO[bytes], count: int) -> bytes | None:
    """So many bytes, or None where the other end left before."""
    found = lines.read(count) if 0 <= count <= LONGEST_KEPT else b""
    return found if len(found) == count else None


class Sender:
    """The executor's end. Every failure is swallowed."""

    def __init__(self, address: Address) -> None:
        self.token = address.token
        self.socket: socket.socket | None = None
        with contextlib.suppress(OSError):
            self.socket = socket.create_connection((address.host, address.port), timeout=CONNECT_SECONDS)

    def send(self, **message: Any) -> None:
        """Send one message."""
        if self.socket is None:
            return
        try:
            self.socket.sendall((json.dumps({"token": self.token, **message}) + "\n").encode())
        except OSError:
            self.socket = None

    def ask(self, what: str, **message: Any) -> dict[str, Any]:
        """Ask the driver, and wait for its answer.

        Raises:
            AssayError: there is none.
        """
        with self._patiently() as connection:
            if connection is not None:
                connection.sendall((json.dumps({"token": self.token, "ask": what, **message}) + "\n").encode())
                with connection.makefile("rb") as lines:
                    answer: dict[str, Any] = json.loads(lines.readline(LONGEST_LINE))
                    return answer
        raise AssayError(
            "an executor cannot reach the driver, which deals its work: spark.driver.host must be an address that "
            "executors can connect to"
        )

    def close(self) -> None:
        """Say no more."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def keep(self, order: Sequence[int], stored: bytes) -> None:
        """Leave bytes with the driver, for whoever asks for the newest."""
        with self._patiently() as connection:
            if connection is not None:
                _send(connection, {"token": self.token, "keep": list(order)}, stored)

    def newest(self) -> bytes:
        """What was last left with the driver; empty where that is nothing, or the driver cannot be reached."""
        with self._patiently() as connection:
            if connection is not None:
                connection.sendall((json.dumps({"token": self.token, "newest": True}) + "\n").encode())
                with connection.makefile("rb") as answer:
                    return _exactly(answer, int(json.loads(answer.readline(LONGEST_LINE))["bytes"])) or b""
        return b""

    @contextlib.contextmanager
    def _patiently(self) -> Iterator[socket.socket | None]:
        """The connection, with time for a large transfer; gone where that fails."""
        if self.socket is not None:
            self.socket.settimeout(TRANSFER_SECONDS)
        try:
            yield self.socket
        except (OSError, ValueError, KeyError):
            self.socket = None
        if self.socket is not None:
            self.socket.settimeout(CONNECT_SECONDS)
