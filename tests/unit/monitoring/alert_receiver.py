"""Produces real HTTP receivers of alerts on this machine: they work, fail, hang, drop, drip, close and come back."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATH = "/services/T00/hushhush0123456789"  # a secret, as addresses of chats have it
HANG, DROP, DRIP = "hang", "drop", "drip"
Answer = int | str | tuple[int, dict[str, str]]


class Post:
    """One request as it came."""

    def __init__(self, path: str, headers: dict[str, str], content: bytes) -> None:
        self.path, self.headers, self.content = path, headers, content
        self.tree: dict[str, Any] = json.loads(content)

    @property
    def ids(self) -> list[str]:
        """Alerts' ids, in order."""
        return [one["id"] for one in self.tree["alerts"]]


class Receiver:
    """A receiver at one port. answer: what to say to a post, given it and how many there were before."""

    def __init__(self) -> None:
        self.answer: Callable[[Post, int], Answer] = lambda post, number: 200
        self.posts: list[Post] = []
        self.taken: list[Post] = []
        self.port = 0
        self._server: ThreadingHTTPServer | None = None
        self._released = threading.Event()

    def open(self) -> Receiver:
        """Listen: at a free port the first time, at the same one later."""
        receiver = self
        self._released.clear()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                receiver._reply(self, Post(self.path, dict(self.headers), content))

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True).start()
        return self

    def close(self) -> None:
        """Nobody listens at the port any more."""
        self._released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    @property
    def ids(self) -> list[str]:
        """Alerts that were taken, each once, in the order in which they came first."""
        return list(dict.fromkeys(one for post in self.taken for one in post.ids))

    def says(self, *answers: Answer) -> None:
        """Give these answers one after the other, the last one for ever."""
        start = len(self.posts)
        self.answer = lambda post, number: answers[min(number - start, len(answers) - 1)]

    def _reply(self, handler: BaseHTTPRequestHandler, post: Post) -> None:
        answer = self.answer(post, len(self.posts))
        self.posts.append(post)
        status, headers = answer if isinstance(answer, tuple) else (answer, {})
        if status == DROP:
            handler.close_connection = True
        elif status == HANG:
            self._released.wait(20)
            handler.close_connection = True
        elif status == DRIP:
            with contextlib.suppress(OSError):
                handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not self._released.is_set():
                    handler.wfile.write(b".")
                    handler.wfile.flush()
                    time.sleep(0.02)
        else:
            if 200 <= int(status) < 300:
                self.taken.append(post)
            handler.send_response(int(status))
            for name, value in {"Content-Length": "0", **headers}.items():
                handler.send_header(name, value)
            handler.end_headers()


@contextlib.contextmanager
def listening() -> Iterator[Receiver]:
    """A receiver that listens, and is closed at the end."""
    receiver = Receiver().open()
    try:
        yield receiver
    finally:
        receiver.close()
