"""Consumes scores of many groups and how much mass is needed, produces the scores at which each group has it.

The mass of a row is 1, or a weight in fixed point. Few rows are sorted as they are. Of many, a sample tells between
which two scores each wanted one nearly surely lies; one pass adds up the masses below, between and above, and only the
rows in between are sorted (Floyd and Rivest 1975, for all groups at once). What is not found there is sorted whole, so
the result is exact whatever the sample was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

RADIX_GROUPS = 2**16  # NumPy sorts 16-bit codes by radix: one linear pass instead of a comparison sort
UNIT = 2**32  # weight 1 in fixed point

_CHUNK = 2**16  # rows of one pass: they stay in cache, and sums of as many weights are exact in 53 bits
_SAMPLED = 16  # one row of so many is in the sample
_SAMPLE_ROWS = 64  # per group on average: with fewer, the brackets are too wide to be worth it
_DEVIATIONS = 3.5  # half the width of a bracket, in standard deviations of the sample's share below it


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
    found, totals, done = np.empty(shares.shape), np.zeros(groups, dtype=np.int64), np.zeros(shares.shape, dtype=bool)
    if len(values) >= _SAMPLED * _SAMPLE_ROWS * max(groups, _CHUNK // (_SAMPLED * _SAMPLE_ROWS)):
        totals, needed, done = _bracketed(group, values, weights, groups, needed_of, shares, found)
    else:
        for rows in _chunks(len(values)):
            totals += _masses(group[rows], None if weights is None else np.rint(weights[rows] * UNIT), groups)
        needed = needed_of(totals)
    finite = (needed > 0) & (needed <= totals[:, None])
    found[~finite] = np.where(needed > 0, np.inf, -np.inf)[~finite]
    owner, level = np.nonzero(finite & ~done)
    if len(owner):
        rest = np.flatnonzero(np.isin(group, owner)) if done.any() else slice(None)
        some = None if weights is None else weights[rest]
        found[owner, level] = _at_masses(group[rest], values[rest], some, groups, owner, needed[owner, level])
    return found + 0.0, totals  # ties of signed zeros have one bit pattern


def _masses(codes: Integers, masses: Floats | None, size: int) -> Integers:
    return np.bincount(codes, weights=masses, minlength=size).astype(np.int64)


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


def _bracketed(
    group: Integers,
    values: Floats,
    weights: Floats | None,
    groups: int,
    needed_of: Callable[[Integers], Integers],
    shares: Floats,
    found: Floats,
) -> tuple[Integers, Integers, npt.NDArray[np.bool_]]:
    """Write into `found` what lies in its bracket; return masses, what is needed of them, and where that is so."""
    levels = shares.shape[1]
    cuts = _cuts(group, values, weights, shares)
    parts = 2 * levels + 1  # below the first bracket, in it, between it and the next, ...
    masses, kept = np.zeros(groups * parts, dtype=np.int64), []
    for rows in _chunks(len(values)):
        of, one = group[rows], values[rows]
        above = np.zeros(len(of), dtype=np.uint8)
        for cut in cuts:
            above += (one > cut[of]).view(np.uint8)
        inside = np.flatnonzero((above & 1).view(np.bool_))
        part = of * parts
        part += above
        weight = None if weights is None else weights[rows]
        masses += _masses(part, None if weight is None else np.rint(weight * UNIT), len(masses))
        kept.append((part[inside], one[inside], None if weight is None else weight[inside]))
    parts_inside, values, weights = _joined(kept)
    upto = np.cumsum(masses.reshape(groups, parts), axis=1)
    needed = needed_of(upto[:, -1])
    place = (upto[:, None, :] < needed[:, :, None]).sum(axis=2)
    hit: npt.NDArray[np.bool_] = (place % 2 == 1) & (needed > 0) & (place < parts)
    owner, level = np.nonzero(hit)
    place = place[owner, level]
    within = needed[owner, level] - upto[owner, place - 1]
    code = parts_inside // parts * levels + parts_inside % parts // 2
    found[owner, level] = _at_masses(code, values, weights, groups * levels, owner * levels + place // 2, within)
    return upto[:, -1], needed, hit


def _cuts(group: Integers, values: Floats, weights: Floats | None, shares: Floats) -> list[Floats]:
    """Lower and upper end of each bracket by a sample, rising: 2 L arrays of (G,); a bracket is lower < score <= upper.

    shares: (G, L) of each group's mass that lie about up to the wanted scores.
    """
    groups = len(shares)
    rows = np.random.default_rng(0).integers(0, len(values), len(values) // _SAMPLED)
    group, values = group[rows], values[rows]
    weight = np.ones(len(rows)) if weights is None else weights[rows]
    order, starts, ends = _together(group, groups)
    sample, weight = values[order], weight[order]
    _sort_blocks(sample, weight, starts, ends)
    running = np.concatenate([[0.0], np.cumsum(weight)])
    before, total = running[starts], running[ends] - running[starts]
    squares = np.concatenate([[0.0], np.cumsum(weight**2)])
    effective = total**2 / np.maximum(squares[ends] - squares[starts], 1e-300)
    shares = np.sort(np.clip(shares, 0.0, 1.0), axis=1)
    rows_behind = np.maximum(effective, 1.0)[:, None]
    margin = _DEVIATIONS * np.sqrt(shares * (1 - shares) / rows_behind) + _DEVIATIONS / rows_behind
    sample = np.append(sample, np.inf)
    cuts: list[Floats] = []
    floor = np.full(groups, -np.inf)
    for share, wide in zip(shares.T, margin.T, strict=True):
        low = np.searchsorted(running[1:], before + (share - wide) * total) - 1
        high = np.searchsorted(running[1:], before + (share + wide) * total)
        lower = np.where((low >= starts) & (low < ends), sample[np.clip(low, 0, len(sample) - 1)], -np.inf)
        upper = np.where(high < ends, sample[np.minimum(high, len(sample) - 1)], np.inf)
        cuts.append(np.maximum(lower, floor))
        floor = np.maximum(upper, cuts[-1])
        cuts.append(floor)
    return cuts


def _chunks(rows: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, rows, _CHUNK))


def _joined(kept: list[tuple[Integers, Floats, Floats | None]]) -> tuple[Integers, Floats, Floats | None]:
    codes, values, weights = zip(*kept, strict=True)
    return np.concatenate(codes), np.concatenate(values), None if weights[0] is None else np.concatenate(weights)
