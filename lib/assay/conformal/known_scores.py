"""Consumes scored rows and when each is known, produces every group's conformal quantiles at one step after another.

All rows are sorted once, by group and score; a step only marks which of them are known and recent enough. A quantile is
then a count along that order: over blocks of 64 rows first, then within one block. Rows that weigh less as they age are
summed up anew at each step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from assay.conformal.selection import RADIX_GROUPS, UNIT, Floats, Integers
from assay.conformal.weighted import BILLION, exponential_weights, needed_billionths

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.signedinteger[Any]]

_BLOCK = 64  # rows counted together
_FORGOTTEN_HALFLIVES = 33  # from here on a weight is 0 in fixed point


class KnownScores:
    """The scores that each group may use, moved forward step by step. A row counts for its group and all above it.

    ancestors: (n, H) groups of each row, -1 where there are fewer. scores: (n, S). at: step of prediction (n,).
    enter, leave: (n,) first step at which a row counts, and first at which it no longer does.
    halflife: steps after which a row counts half, None where all count the same.
    """

    def __init__(
        self,
        ancestors: Places,
        scores: Floats,
        *,
        at: Integers,
        enter: Integers,
        leave: Integers,
        groups: int,
        halflife: float | None,
    ) -> None:
        self.groups = groups
        come = stable_order(enter)  # the rows of a step lie together in memory
        self._groups = ancestors[come]
        self._comings, self._goings = _Calendar(enter[come]), _Calendar(leave[come])
        per_group = np.bincount(self._groups[self._groups >= 0], minlength=groups).astype(np.int64)
        ages = None if halflife is None else _Ages(at[come], halflife, np.cumsum(per_group) - per_group)
        self._orders = [_Order(column, self._groups, int(per_group.sum()), ages) for column in scores[come].T]
        self.rows: Integers = np.zeros(groups, dtype=np.int64)

    def move_to(self, step: int) -> None:
        """Let rows in that are known at `step`, and those out that are too old. Steps only go forward."""
        for rows, change in ((self._comings.until(step), 1), (self._goings.until(step), -1)):
            groups = self._groups[rows]
            owned = groups >= 0
            self.rows += change * np.bincount(groups[owned], minlength=self.groups)
            for order in self._orders:
                order.mark(order.places[rows][owned], known=change > 0)
        for order in self._orders:
            order.weigh(step)

    def quantiles(self, billionths: Integers, columns: tuple[int, ...]) -> tuple[Floats, Floats]:
        """Return the quantiles of every group at its own levels, and the largest known scores, both (G, L).

        billionths: (G, L) levels; 10^9 or more gives +inf, 0 or less gives -inf. columns: (L,) score column of each.
        A group without rows has +inf and a largest score of -inf.
        """
        found, largest = np.full(billionths.shape, np.inf), np.full(billionths.shape, -np.inf)
        for column in sorted(set(columns)):
            levels = [place for place, of in enumerate(columns) if of == column]
            found[:, levels], largest[:, levels] = self._orders[column].quantiles(self.rows, billionths[:, levels])
        return found, largest

    def places_of(self, groups: Places, scores: Floats) -> list[Places]:
        """Where rows (n, H) lie among all scores of their groups, for `below`; one per column of scores (n, S)."""
        return [order.find(groups, column) for order, column in zip(self._orders, scores.T, strict=True)]

    def below(self, column: int, groups: Places, places: Places) -> tuple[Integers, Integers, int]:
        """Return the masses of known scores below rows (n, H), those of all known of their groups, and a row's own.

        places: of `places_of`. Masses are rows, or multiples of 2^-32 where rows weigh less as they age.
        """
        return self._orders[column].below(self.rows, groups, places)

    def masses(self) -> Integers:
        """Return the sum of weights of each group's known rows in multiples of 2^-32, (G,)."""
        return self._orders[0].masses(self.rows)


class _Calendar:
    """Rows by the step at which something happens to them, each told once."""

    def __init__(self, steps: Integers) -> None:
        self._rows: Places = stable_order(steps).astype(np.int32 if len(steps) < 2**31 else np.int64)
        self._steps, self._told = steps[self._rows], 0

    def until(self, step: int) -> Places:
        end = int(np.searchsorted(self._steps, step, side="right"))
        rows, self._told = self._rows[self._told : end], end
        return rows


class _Ages:
    """What rows weigh by their age. starts: (G,) first place of each group in an order."""

    def __init__(self, at: Integers, halflife: float, starts: Integers) -> None:
        oldest = int(np.ceil(_FORGOTTEN_HALFLIVES * halflife))
        self.at, self.starts = at, starts
        self.table = np.rint(exponential_weights(np.arange(oldest + 1), halflife) * UNIT).astype(np.int64)

    def weights(self, at: Integers, step: int) -> Integers:
        return self.table[np.minimum(step - at, len(self.table) - 1)]


class _Order:
    """All rows of all groups in the order of one score column: by group, then by score.

    places: (n, H) where each row lies in the order, once for each of its groups.
    """

    def __init__(self, scores: Floats, groups: Places, length: int, ages: _Ages | None) -> None:
        n, depth = groups.shape
        kind = np.int32 if length < 2**31 else np.int64
        rising = np.argsort(scores).astype(kind)  # which of equal scores comes first does not show
        owner = groups[rising].ravel()
        kept = np.flatnonzero(owner >= 0).astype(kind)
        kept = kept[stable_order(owner[kept])]
        rows = rising[kept // depth]
        padded = -(-max(length, 1) // _BLOCK) * _BLOCK
        self._values = np.zeros(padded)
        self._values[:length] = scores[rows]
        self.places = np.full((n, depth), -1, dtype=kind)
        self.places[rows, kept % depth] = np.arange(length, dtype=kind)
        self._starts = np.searchsorted(owner[kept], np.arange(self._size(groups) + 1))
        self._known = np.zeros(padded, dtype=bool)
        self._blocks = np.zeros(padded // _BLOCK, dtype=np.int64)
        self._ages, self._at = ages, rows[:0] if ages is None else ages.at[rows]
        self._listed = self._new = self.places[:0, 0]  # where known rows lie, rising, and those that came since

    @staticmethod
    def _size(groups: Places) -> int:
        return int(groups.max()) + 1 if groups.size else 0

    def find(self, groups: Places, scores: Floats) -> Places:
        """Place of the first score that is not below each row's, in each of its groups (n, H); -1 without a group."""
        found = np.full(groups.shape, -1, dtype=np.int64)
        row, depth = np.nonzero((groups >= 0) & (groups < len(self._starts) - 1))
        group = groups[row, depth]
        order = stable_order(group)
        ends = np.searchsorted(group[order], np.arange(len(self._starts)))
        for owner in np.unique(group).tolist():
            of = order[ends[owner] : ends[owner + 1]]
            first, last = self._starts[owner], self._starts[owner + 1]
            found[row[of], depth[of]] = first + np.searchsorted(self._values[first:last], scores[row[of]])
        return found

    def below(self, rows: Integers, groups: Places, places: Places) -> tuple[Integers, Integers, int]:
        """See `KnownScores.below`."""
        group, at = np.maximum(groups, 0), np.maximum(places, 0)
        if self._ages is not None:
            upto, totals = self._running[np.searchsorted(self._listed, at)], self.masses(rows)[group]
            return np.clip(upto - self._edges[group], 0, totals), totals, UNIT
        block = np.minimum(at // _BLOCK, len(self._blocks) - 1)
        inside = self._known.reshape(-1, _BLOCK)[block] & (np.arange(_BLOCK) < (at - block * _BLOCK)[..., None])
        whole = np.cumsum(self._blocks) - self._blocks
        before = (np.cumsum(rows) - rows)[group]
        return np.clip(whole[block] + inside.sum(axis=-1) - before, 0, rows[group]), rows[group], 1

    def mark(self, places: Places, *, known: bool) -> None:
        """Let rows in, or out."""
        self._known[places] = known
        self._new = places if known else self._new
        change = np.bincount(places // _BLOCK, minlength=len(self._blocks))
        self._blocks += change if known else -change

    def weigh(self, step: int) -> None:
        """Sum up what known rows weigh at `step`."""
        if self._ages is None:
            return
        held, new = self._listed[self._known[self._listed]], np.sort(self._new)
        self._listed = np.insert(held, np.searchsorted(held, new), new)
        self._running = np.concatenate([[0], np.cumsum(self._ages.weights(self._at[self._listed], step))])
        edges = np.append(np.searchsorted(self._listed, self._ages.starts), len(self._listed))
        self._edges = self._running[edges]

    def masses(self, rows: Integers) -> Integers:
        """Sums of weights, (G,), in multiples of 2^-32."""
        return rows * UNIT if self._ages is None else np.diff(self._edges)

    def quantiles(self, rows: Integers, billionths: Integers) -> tuple[Floats, Floats]:
        """Quantiles (G, L) and the largest scores (G, 1)."""
        counted = self._ages is None
        totals, one = (rows, 1) if counted else (self.masses(rows), UNIT)
        needed = needed_billionths(totals + one, np.clip(billionths, 0, BILLION))
        needed = np.concatenate([needed, totals[:, None]], axis=1)
        before = (np.cumsum(rows) - rows) if counted else self._edges[:-1]
        finite = (needed > 0) & (needed <= totals[:, None])
        found = np.where(needed > 0, np.inf, -np.inf)
        wanted = (before[:, None] + needed)[finite]
        found[finite] = self._values[self._nth(wanted) if counted else self._weighed(wanted)]
        return found[:, :-1], found[:, -1:]

    def _nth(self, ranks: Integers) -> Integers:
        """Where the known row with each rank among all known ones lies."""
        ends = np.cumsum(self._blocks)
        block = np.searchsorted(ends, ranks)
        within = ranks - (ends[block] - self._blocks[block])
        counts = np.cumsum(self._known.reshape(-1, _BLOCK)[block], axis=1, dtype=np.uint8)
        return np.asarray(block * _BLOCK + np.argmax(counts >= within[:, None], axis=1))

    def _weighed(self, masses: Integers) -> Integers:
        """Where the known row lies with which the weights of all known ones come up to each mass."""
        return np.asarray(self._listed[np.searchsorted(self._running[1:], masses)])


def stable_order(values: Places) -> Integers:
    """Return the order that sorts `values` (n,), equal ones as they come: by radix where they span 16 bits."""
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    least = values.min()
    narrow = int(values.max()) - int(least) < RADIX_GROUPS
    return np.argsort((values - least).astype(np.uint16) if narrow else values, kind="stable")
