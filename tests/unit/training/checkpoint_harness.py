"""Consumes a rank's task, produces what it returns and the checkpoints that it leaves: for tests without Spark."""

from __future__ import annotations

import threading
import time

from assay.runtime.signals import READER, Shelf, listen

HOST = "127.0.0.1"


class Shelves(Shelf):
    """Keeps all that was ever left, and hands out one of them."""

    def __init__(self, given=b""):
        super().__init__()
        self.given, self.left = given, []

    def put(self, order, stored):
        self.left.append((tuple(order), stored))

    def newest(self):
        return self.given


def with_checkpoints(train, given=b""):
    """train(address) over a real connection, from a checkpoint: (what it returns, checkpoints left, rounds heard)."""
    heard, shelf, others = [], Shelves(given), set(threading.enumerate())
    with listen(HOST, lambda message: heard.append(message["round"]), shelf) as address:
        found = train(address)
        while any(thread.name == READER for thread in set(threading.enumerate()) - others):  # is still reading
            time.sleep(0.01)
    return found, shelf.left, heard
