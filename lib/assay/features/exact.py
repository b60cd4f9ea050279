"""Consumes doubles, produces their sums exactly: neither the order of adding nor cutting into parts changes a bit.

A double is cut into digits of 32 bits on a fixed grid. Digits are whole numbers, so that running sums of them are
exact and the sum of any stretch of rows is the difference of two running sums, whatever was summed before it.
(The idea is Kulisch's accumulator; Demmel and Nguyen, 2015, call such sums reproducible.)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np

BITS = 32
HALF, MASK = 1 << (BITS - 1), (1 << BITS) - 1
LOWEST_PLACE = -30
BLOCK = 32_768


@dataclasses.dataclass(frozen=True)
class ExactSums:
    """Numbers as digits: number i is the sum over p of ``digits[p, i] * 2 ** (32 * (low + p))``.

    digits: int64 of shape (places, n). Digits may have any sign and size; sums of up to 2**30 numbers stay exact.
    """

    low: int
    digits: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> ExactSums:
        """Cut doubles of shape (n,), all finite and below 1e250 in size. Bits below 2**-960 are dropped."""
        found = list(_digits(values))
        return cls(found[-1][0], np.stack([digits.astype(np.int64) for _, digits in found[::-1]]))

    def grouped(self, starts: np.ndarray) -> ExactSums:
        """Sums of the stretches that begin at `starts`; the last one goes to the end."""
        return ExactSums(self.low, np.add.reduceat(self.digits, starts, axis=1))

    def rounded(self) -> np.ndarray:
        """The numbers as doubles, shape (n,), within 1 unit in the last place; equal numbers give equal doubles."""
        total = np.zeros(self.digits.shape[1])
        for place, digit in enumerate(self._balanced()):
            total += digit * _unit(self.low + place)
        return total

    def parts(self) -> list[np.ndarray]:
        """Doubles that add up to each number exactly, the greatest first; as many as the longest number needs."""
        found, rest = [], self
        while rest.digits.any():
            head = rest.rounded()
            found.append(head)
            rest = rest._minus(ExactSums.of(head))
        return found or [np.zeros(self.digits.shape[1])]

    def _minus(self, other: ExactSums) -> ExactSums:
        low = min(self.low, other.low)
        high = max(s.low + len(s.digits) for s in (self, other))
        difference = np.zeros((high - low, self.digits.shape[1]), dtype=np.int64)
        difference[self.low - low : self.low - low + len(self.digits)] += self.digits
        difference[other.low - low : other.low - low + len(other.digits)] -= other.digits
        return ExactSums(low, np.stack(ExactSums(low, difference)._balanced()))

    def _balanced(self) -> list[np.ndarray]:
        """The one way of writing the numbers with digits from -2**31 to 2**31 - 1, lowest first, one place more."""
        written, carry = [], np.zeros(self.digits.shape[1], dtype=np.int64)
        for digit in self.digits:
            whole = digit + carry
            kept = ((whole + HALF) & MASK) - HALF
            carry = (whole - kept) >> BITS
            written.append(kept)
        return [*written, carry]


class RunningSums:
    """Sums of any stretch of rows, each for the price of two look-ups."""

    def __init__(self, values: np.ndarray | Callable[[slice], np.ndarray], rows: int | None = None) -> None:
        """Add up doubles of shape (rows,), or what a function gives for stretches of rows, block by block."""
        rows = len(values) if isinstance(values, np.ndarray) else rows or 0
        sums: dict[int, np.ndarray] = {}
        for first in range(0, rows, BLOCK):
            block = slice(first, min(first + BLOCK, rows))
            for place, digits in _digits(values[block] if isinstance(values, np.ndarray) else values(block)):
                if place not in sums:
                    sums[place] = np.zeros(rows + 1, dtype=np.int64)
                sums[place][first + 1 : first + 1 + len(digits)] = digits
        self._low = min(sums, default=0)
        # Running sums may pass 2**63 and wrap; differences are right all the same. Of each place, the lowest first.
        self._sums = [
            np.cumsum(sums[place], out=sums[place]) if place in sums else None
            for place in range(self._low, max(sums, default=-1) + 1)
        ]

    def between(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Sum of rows start <= row < stop, shape (n,); the same double for the same rows, whatever lies around them."""

        def fill(digits: np.ndarray, block: slice) -> None:
            for place, running in enumerate(self._sums):
                if running is not None:
                    np.subtract(running[stop[block]], running[start[block]], out=digits[place])

        return _rounded(len(start), self._low, len(self._sums), fill)


class PassingSums:
    """The same sums for many rows and few stretches: nothing is kept of the rows, which are added up at each asking."""

    def __init__(self, values: Callable[[slice], np.ndarray], rows: int) -> None:
        """values: gives doubles of shape (n,) for stretches of the `rows`."""
        self._values, self._rows = values, rows

    def between(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Sum of rows start <= row < stop, shape (n,), as `RunningSums` gives it."""
        edges = [(-1, *_ascending(start)), (1, *_ascending(stop))]
        sums: dict[int, np.ndarray] = {}  # of each place, per stretch
        before: dict[int, np.ndarray] = {}  # of each place, all rows before the block, of shape (1,); may wrap
        for first in range(0, max((int(ordered[-1]) for _, ordered, _ in edges if len(ordered)), default=0), BLOCK):
            block = slice(first, min(first + BLOCK, self._rows))
            running = {place: np.cumsum(d.astype(np.int64)) for place, d in _digits(self._values(block))}
            for place in running.keys() - sums.keys():
                sums[place], before[place] = np.zeros(len(start), dtype=np.int64), np.zeros(1, dtype=np.int64)
            for sign, ordered, order in edges:
                begin, end = np.searchsorted(ordered, (first, block.stop), side="right")
                mine = slice(begin, end) if order is None else order[begin:end]
                at = ordered[begin:end] - first - 1
                for place, total in before.items():
                    sums[place][mine] += sign * (total + running[place][at] if place in running else total)
            for place, inside in running.items():
                before[place] += inside[-1:]
        low, high = min(sums, default=0), max(sums, default=-1)

        def fill(digits: np.ndarray, block: slice) -> None:
            for place, total in sums.items():
                digits[place - low] = total[block]

        return _rounded(len(start), low, high - low + 1, fill)


def _rounded(numbers: int, low: int, places: int, fill: Callable[[np.ndarray, slice], None]) -> np.ndarray:
    """Doubles of so many numbers, block by block. fill: writes a block's digits over zeros of (places, block)."""
    result = np.empty(numbers)
    for first in range(0, numbers, BLOCK):
        block = slice(first, min(first + BLOCK, numbers))
        digits = np.zeros((places, block.stop - first), dtype=np.int64)
        fill(digits, block)
        result[block] = ExactSums(low, digits).rounded()
    return result


def _ascending(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The numbers in ascending order, and where each of them was; None if they were in order before."""
    if (numbers[1:] >= numbers[:-1]).all():
        return numbers, None
    order = np.argsort(numbers, kind="stable")
    return numbers[order], order


def _digits(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Places, the highest first, and the digits there as whole doubles."""
    rest = np.array(values, dtype=np.float64)
    peak = max(float(rest.max(initial=0.0)), -float(rest.min(initial=0.0)))
    place = max((math.frexp(peak)[1] - 1) // BITS, LOWEST_PLACE) if peak else 0
    while True:
        part = np.trunc(rest * _unit(-place))
        rest -= part * _unit(place)
        yield place, part
        if place == LOWEST_PLACE or not rest.any():
            return
        place -= 1


def _unit(place: int) -> float:
    return math.ldexp(1.0, BITS * place)
