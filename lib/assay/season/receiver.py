"""Consumes posts of alerts at a port of this machine, produces the ids that were taken; it can die and come back."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

Mode = Literal["up", "hanging", "refusing"]
PATH = "/alerts"


class Receiver:
    """A real HTTP receiver. taken: file that gets the ids of the alerts of each post that was taken, one a line."""

    def __init__(self, taken: Path) -> None:
        """Opens it at a free port."""
        self.taken = taken
        self._mode: Mode = "refusing"
        self._released = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.set("up")

    @property
    def address(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self._port}{PATH}"

    def set(self, mode: Mode) -> None:
        """Take posts, let them wait without an answer, or have nobody listen at the port."""
        if mode == self._mode:
            return
        self._released.set()
        if mode == "refusing":
            self._close()
        elif self._server is None:
            self._open()
        self._released = threading.Event()
        self._mode = mode

    def close(self) -> None:
        """End it."""
        self.set("refusing")

    def _open(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._answer(self)

            def log_message(self, *_: Any) -> None:
                """Nothing: alerts are on record elsewhere."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def _close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        content = handler.rfile.read(int(handler.headers["Content-Length"]))
        if self._mode != "up":
            self._released.wait(60)
            handler.close_connection = True
            return
        ids = [alert["id"] for alert in json.loads(content)["alerts"]]
        with self.taken.open("a", encoding="utf-8") as file:
            file.writelines(f"{one}\n" for one in ids)
        handler.send_response(200)
        handler.send_header("Content-Length", "0")
        handler.end_headers()


@contextlib.contextmanager
def listening(taken: Path) -> Iterator[Receiver]:
    """A receiver that is closed at the end."""
    receiver = Receiver(taken)
    try:
        yield receiver
    finally:
        receiver.close()
