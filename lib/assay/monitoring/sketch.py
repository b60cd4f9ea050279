"""Consumes values in any order and any number of parts, produces few points that stand for all of them, and an error.

Full buffers are sorted, every second point stays and counts for two (Munro and Paterson, 1980; Manku, Rajagopalan and
Lindsay, 1998). Which of a pair stays is no matter of chance but of what the error needs, so that equal values in equal
parts make equal sketches, and the error is a bound, not an estimate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from assay.monitoring.samples import known

Floats = npt.NDArray[np.floating]
Counts = npt.NDArray[np.int64]
FIRST = 16  # values that the first points stand for
BLOCK = 8  # times the size of a sketch: values that are sorted at once


@dataclasses.dataclass(frozen=True)
class Points:
    """Sorted values, and how many values each stands for together with all before it, (n,) and (n,).

    error: by how much the distribution function may be wrong anywhere, 0 to 1.
    """

    values: Floats
    until: Counts
    error: float

    @property
    def rows(self) -> int:
        """Values that they stand for."""
        return int(self.until[-1]) if len(self.until) else 0

    def up_to(self, values: Floats) -> Counts:
        """How many of the values that they stand for are at most as large as each of these, (n,)."""
        return np.concatenate([[0], self.until])[np.searchsorted(self.values, values, "right")]

    def at_rank(self, ranks: npt.ArrayLike) -> Floats:
        """Values at these places, from 0 on, of all values in order."""
        found: Floats = self.values[np.searchsorted(self.until, ranks, "right")]
        return found


class Sketch:
    """Few points of many values. size: most points of one weight.

    Where points stand for `rows` values in place of the values themselves, the number of values up to any x is told
    with an error between -low and high. A point that stands for t sorted points of weight w adds to the one or the
    other, together (t - 1) w, however many points are made at once.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.low, self.high = 0, 0
        self._loose: list[Floats] = []  # values that stand for themselves, missing ones among them
        self._held = 0
        self._levels: dict[int, list[Floats]] = {}  # weight -> sorted parts

    def add(self, values: Floats) -> None:
        """Take values, (n,); those that are missing or infinite count for nothing."""
        self._loose.append(values)
        self._held += len(values)
        if self._held >= BLOCK * self.size:
            self._raise_loose(FIRST)

    def merge(self, other: Sketch) -> None:
        """Take what another sketch of the same size stands for."""
        self.low += other.low
        self.high += other.high
        for weight, parts in other._levels.items():
            self._raise(weight, parts)
        for part in other._loose:
            self.add(part)

    def shrink(self) -> None:
        """Keep at most about as many points as one weight may have: what a task hands on."""
        loose = self._sorted_loose()
        if len(loose) > self.size:
            self._raise_loose(1 << (len(loose) // self.size).bit_length())
        while sum((sizes := self._sizes()).values()) > self.size and max(sizes.values()) > 1:
            self._halve(min(weight for weight, points in sizes.items() if points > 1))

    def points(self) -> Points:
        """What it has come to."""
        weighted = [(self._sorted_loose(), 1)]
        weighted += [(part, weight) for weight, parts in self._levels.items() for part in parts]
        values = np.concatenate([part for part, _ in weighted])
        weights = np.repeat([weight for _, weight in weighted], [len(part) for part, _ in weighted])
        order = np.argsort(values)
        until = np.cumsum(weights[order], dtype=np.int64)
        return Points(values[order], until, max(self.low, self.high) / int(until[-1]) if len(until) else 0.0)

    def as_row(self) -> dict[str, object]:
        """What `of_row` reads: points of each weight, one after the other."""
        parts = {1: self._sorted_loose()} | {w: np.concatenate(parts) for w, parts in sorted(self._levels.items())}
        points = np.concatenate(list(parts.values())).astype(np.float64)
        sizes = [len(part) for part in parts.values()]
        return {"low": self.low, "high": self.high, "weights": list(parts), "sizes": sizes, "points": points}

    @classmethod
    def of_row(cls, row: Mapping[str, object], size: int) -> Sketch:
        """Read back what `as_row` made."""
        found = cls(size)
        found.low, found.high = int(row["low"]), int(row["high"])  # type: ignore[call-overload]
        points, sizes, weights = (np.asarray(row[name]) for name in ("points", "sizes", "weights"))
        for weight, part in zip(weights.tolist(), np.split(points, np.cumsum(sizes)[:-1]), strict=True):
            if weight == 1:
                found._loose, found._held = [part], len(part)
            elif len(part):
                found._levels[weight] = [np.sort(part)]
        return found

    def _sizes(self) -> dict[int, int]:
        return {weight: sum(map(len, parts)) for weight, parts in self._levels.items()}

    def _sorted_loose(self) -> Floats:
        values = known(np.concatenate(self._loose)) if self._loose else np.empty(0, np.float32)
        self._loose, self._held = [values], len(values)
        return values

    def _raise_loose(self, stride: int) -> None:
        """Let every so many values become one point; few of the largest stay as they are."""
        values = self._sorted_loose()
        end = len(values) // stride * stride
        self._loose, self._held = [values[end:].copy()], len(values) - end
        if end:
            self._count(stride // 2, stride - 1 - stride // 2)
            self._raise(stride, [values[stride // 2 : end : stride].copy()])

    def _raise(self, weight: int, parts: Sequence[Floats]) -> None:
        held = self._levels.setdefault(weight, [])
        held += parts
        if sum(map(len, held)) >= self.size:
            self._halve(weight)

    def _halve(self, weight: int) -> None:
        """Let every second point of a weight go, and the others count for two."""
        values = np.sort(np.concatenate(self._levels.pop(weight)))
        end = len(values) // 2 * 2
        if end < len(values):
            self._levels[weight] = [values[end:]]
        if end:
            first = int(self.low <= self.high)
            self._count(first * weight, (1 - first) * weight)
            self._raise(2 * weight, [values[first:end:2].copy()])

    def _count(self, low: int, high: int) -> None:
        self.low += low
        self.high += high
