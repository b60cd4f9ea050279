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
from assay.serving.request import Asked

TOGETHER = 2_000  # rows that are worked out at once; a request with more is worked out alone


@dataclasses.dataclass(frozen=True)
class Order:
    """A request that waits for its answer."""

    pricer: Pricer
    asked: Asked
    answer: Future[Priced]


class Desk:
    """Where requests wait. `close` ends its thread when all that wait have their answers."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="assay-serving-desk", daemon=True)
        self._worker.start()

    def price(self, pricer: Pricer, asked: Asked) -> Priced:
        """The answer, as `Pricer.answers` gives it. Raises what that raises."""
        order = Order(pricer, asked, Future())
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
    """Orders that can be worked out together: of one pricer, without a history of their own, not too many rows."""
    found: list[list[Order]] = []
    open_to: dict[int, list[Order]] = {}
    for order in waiting:
        pricer = id(order.pricer)
        group = open_to.get(pricer)
        rows = sum(other.asked.rows.height for other in group) if group is not None else 0
        if order.asked.history.height:
            found.append([order])
        elif group is not None and rows + order.asked.rows.height <= TOGETHER:
            group.append(order)
        else:
            open_to[pricer] = [order]
            found.append(open_to[pricer])
    return found


def _answer(orders: Sequence[Order]) -> None:
    """Give each order its answer; where the work on several fails, each is tried alone, so that none fails others."""
    try:
        for order, priced in zip(orders, orders[0].pricer.answers([o.asked for o in orders]), strict=True):
            order.answer.set_result(priced)
    except BaseException as error:
        if len(orders) == 1:
            orders[0].answer.set_exception(error)
            return
        for order in orders:
            if not order.answer.done():
                _answer([order])
