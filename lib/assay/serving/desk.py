"""Consumes requests of many threads, produces their answers: those that wait at the same time are worked out together.

A row costs little, a call of the kernels much: a hundred rows take about twice the time of one. One thread does the
work of a process; more processes use more cores.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future

from assay.serving.pricer import Priced, Pricer
from assay.serving.request import BadRequest, Raw

TOGETHER = 2_000  # rows that are worked out at once; a request with more is worked out alone


@dataclasses.dataclass(frozen=True)
class Order:
    """A request that waits for its answer."""

    pricer: Pricer
    raw: Raw
    answer: Future[Priced]


class Desk:
    """Where requests wait. `close` ends its thread when all that wait have their answers."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="assay-serving-desk", daemon=True)
        self._worker.start()

    def price(self, pricer: Pricer, raw: Raw) -> Priced:
        """The answer, as `Pricer.price` gives it. Raises what that raises."""
        order = Order(pricer, raw, Future())
        self._orders.put(order)
        return order.answer.result()

    def close(self) -> None:
        """Answer what waits, then end."""
        self._orders.put(None)
        self._worker.join()

    def _work(self) -> None:
        while (first := self._orders.get()) is not None:
            waiting, ended = [first], False
            while not ended:
                try:
                    order = self._orders.get_nowait()
                except queue.Empty:
                    break
                if order is None:
                    ended = True
                else:
                    waiting.append(order)
            for orders in grouped(waiting):
                _answer(orders)
            if ended:
                return


def grouped(waiting: Sequence[Order]) -> list[list[Order]]:
    """Orders that can be worked out together: of one pricer, rows that go with each other, and not too many of them."""
    found: list[list[Order]] = []
    for order in waiting:
        for group in found:
            rows = sum(len(other.raw.rows) for other in group) + len(order.raw.rows)
            alike = all(other.pricer is order.pricer and other.raw.goes_with(order.raw) for other in group)
            if alike and rows <= TOGETHER:
                group.append(order)
                break
        else:
            found.append([order])
    return found


def _answer(orders: Sequence[Order]) -> None:
    """Give each order its answer; where the work on several fails, each is tried alone, so that none fails others."""
    try:
        found = orders[0].pricer.price_together([order.raw for order in orders])
    except BaseException as error:
        if len(orders) == 1:
            orders[0].answer.set_exception(error)
            return
        for order in orders:
            _answer([order])
        return
    for order, priced in zip(orders, found, strict=True):
        if isinstance(priced, BadRequest):
            order.answer.set_exception(priced)
        else:
            order.answer.set_result(priced)
