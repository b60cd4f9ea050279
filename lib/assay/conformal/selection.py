"""Consumes scores of many groups and how much mass is needed, produces the scores at which each group has it.

The mass of a row is 1, or a weight in fixed point. Few rows are sorted as they are. Of many, a sample tells between
which two scores each group's wanted ones nearly surely lie. That stretch is cut into cells of one width, what lies
outside is a cell on either side, and one pass adds up the masses of cells. Only the rows of those cells are sorted in
which a wanted score lies, some hundredths of all: distributive partitioning (Dobosiewicz 1978) for a few ranks alone.
Rows fall into cells in the order of their scores whatever the sample was, so the result is always exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

RADIX_GROUPS = 2**16  # NumPy sorts 16-bit codes by radix: one linear pass instead of a comparison sort
UNIT = 2**32  # weight 1 in fixed point

_CHUNK = 2**16  # rows of one pass: they stay in cache
_COUNTED = 2**20  # rows that are added up at once: sums of as many weights are exact in 53 bits
_CELLS = 128  # of each group, between the two outer ones
_SAMPLED = 32  # one row of so many is in the sample
_SAMPLE_ROWS = 32  # per group on average: with fewer, sorting everything is as quick
_DEVIATIONS = 5.0  # how far cells reach beyond the wanted shares, in standard deviations of the sample's share below


def scores_at(
    group: Integers,
    values: Floats,
    weights: Floats | None,
    groups: int,
    needed_of: Callable[[Integers], Integers],
    shares: Floats,
) -> tuple[Floats, Integers]:
    """Return the smallest score of each group up to which its rows have the needed mass, (G, L), and their mass (G,).

    group: (n,) 0 to G - 1. values: (n,) without NaN. weights: (n,) in [0, 1], None for 1 each; masses are then rows,
    else multiples of 2^-32. needed_of: masses of the groups (G,) -> those that are needed (G, L); 0 gives -inf, more
    than there is gives +inf. shares: (G, L) about what part of a group's mass is needed, to know where to look.
    """
    many = len(values) >= _SAMPLED * _SAMPLE_ROWS * max(groups, _CHUNK // (_SAMPLED * _SAMPLE_ROWS))
    width = _CELLS + 2 if many else 1  # cells of a group
    cell = _cells(group, values, weights, shares) if many else group
    upto = np.cumsum(_masses(cell, weights, groups * width).reshape(groups, width), axis=1)
    totals = upto[:, -1]
    needed = needed_of(totals)
    place = (upto[:, None, :] < needed[:, :, None]).sum(axis=2)  # cell in which the needed mass is reached
    found = np.where(needed > 0, np.inf, -np.inf)
    owner, level = np.nonzero((needed > 0) & (place < width))
    if len(owner):
        place, needed = place[owner, level], needed[owner, level]
        within = needed - np.where(place > 0, upto[owner, place - 1], 0)
        wanted, slot = np.unique(owner * width + place, return_inverse=True)
        slots = np.full(groups * width, -1, dtype=np.int64)
        slots[wanted] = np.arange(len(wanted))
        rows = _rows_where(slots >= 0, cell)
        some = None if weights is None else weights[rows]
        found[owner, level] = _at_masses(slots[cell[rows]], values[rows], some, len(wanted), slot, within)
    return found + 0.0, totals  # ties of signed zeros have one bit pattern


def _cells(group: Integers, values: Floats, weights: Floats | None, shares: Floats) -> npt.NDArray[np.int32]:
    """Cell of each row, (n,): its group's first one, and how many cells of that group lie below. Rises with the score.

    shares: (G, L) of each group's mass that lie about up to the wanted scores.
    """
    lower, slope = _stretches(group, values, weights, shares)
    cell, width = np.empty(len(values), dtype=np.int32), _CELLS + 2
    place, slopes = np.empty(_CHUNK), np.empty(_CHUNK)
    for rows in _chunks(len(values), _CHUNK):
        of = group[rows]
        at, by = place[: len(of)], slopes[: len(of)]
        np.take(lower, of, out=at, mode="clip")  # of the modes of `take`, the one without a copy
        np.subtract(values[rows], at, out=at)
        np.take(slope, of, out=by, mode="clip")
        at *= by
        at += 1.0
        np.clip(at, 0.0, width - 1, out=at)
        np.multiply(of, width, out=cell[rows], casting="unsafe")
        cell[rows] += at.astype(np.int32)
    return cell


def _stretches(group: Integers, values: Floats, weights: Floats | None, shares: Floats) -> tuple[Floats, Floats]:
    """Where each group's cells begin, finite, and how many there are per unit, finite and above 0: (G,) each."""
    rows = np.random.default_rng(0).integers(0, len(values), len(values) // _SAMPLED)
    order, starts, ends = _together(group[rows], len(shares))
    rows = rows[order]
    sample, weighing = values[rows], np.ones(len(rows)) if weights is None else weights[rows]
    _sort_blocks(sample, weighing, starts, ends)
    running = np.concatenate([[0.0], np.cumsum(weighing)])
    squares = np.concatenate([[0.0], np.cumsum(weighing**2)])
    before, total = running[starts], running[ends] - running[starts]
    effective = np.maximum(total**2 / np.maximum(squares[ends] - squares[starts], 1e-300), 1.0)[:, None]
    shares = np.clip(shares, 0.0, 1.0)
    margin = _DEVIATIONS * (np.sqrt(shares * (1 - shares) / effective) + 1 / effective)
    least, most = (shares - margin).min(axis=1), (shares + margin).max(axis=1)
    sample, last = np.append(sample, 0.0), np.maximum(ends - 1, starts)
    lower, upper = (
        sample[np.clip(np.searchsorted(running[1:], before + share * total), starts, last)] for share in (least, most)
    )
    lower = np.where(np.isfinite(lower), lower, 0.0)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        slope = _CELLS / (upper - lower)
    return lower, np.where(np.isfinite(slope) & (slope > 0), slope, 1.0)


def _masses(cell: npt.NDArray[np.integer], weights: Floats | None, cells: int) -> Integers:
    """Mass of the rows of each cell, (cells,)."""
    masses = np.zeros(cells, dtype=np.int64)
    for rows in _chunks(len(cell), _COUNTED):
        each = None if weights is None else np.rint(weights[rows] * UNIT)
        masses += np.bincount(cell[rows], weights=each, minlength=cells).astype(np.int64, copy=False)
    return masses


def _rows_where(chosen: npt.NDArray[np.bool_], cell: npt.NDArray[np.integer]) -> Integers:
    """Positions of the rows whose cell is chosen. chosen: (cells,)."""
    parts = [np.flatnonzero(chosen[cell[rows]]) + rows.start for rows in _chunks(len(cell), _CHUNK)]
    return np.concatenate(parts)


def _at_masses(
    group: Integers, values: Floats, weights: Floats | None, groups: int, owner: Integers, needed: Integers
) -> Floats:
    """Score of group `owner` (m,) at which its rows come to the mass `needed` (m,), by a sort of all rows."""
    order, starts, ends = _together(group, groups)
    gathered = values[order]
    if weights is None:
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            gathered[start:end].sort()
        return np.asarray(gathered[starts[owner] + needed - 1])
    weighing = weights[order]
    _sort_blocks(gathered, weighing, starts, ends)
    running = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.rint(weighing * UNIT).astype(np.int64))])
    return np.asarray(gathered[np.searchsorted(running[1:], running[starts[owner]] + needed)])


def _together(group: Integers, groups: int) -> tuple[Integers, Integers, Integers]:
    """Positions of rows by group, (n,), and where each group starts and ends among them, (G,)."""
    rows = np.bincount(group, minlength=groups).astype(np.int64)
    ends = np.cumsum(rows)
    order = np.argsort(group.astype(np.uint16) if groups <= RADIX_GROUPS else group, kind="stable")
    return order, ends - rows, ends


def _sort_blocks(values: Floats, weights: Floats, starts: Integers, ends: Integers) -> None:
    """Sort the values of each group where they lie, and their weights with them."""
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if end - start > 1:
            block = slice(start, end)
            order = values[block].argsort()
            values[block], weights[block] = values[block][order], weights[block][order]


def _chunks(rows: int, most: int) -> Iterator[slice]:
    return (slice(start, min(start + most, rows)) for start in range(0, rows, most))
