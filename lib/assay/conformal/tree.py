"""Consumes the groups of rows at each level of a hierarchy of segments, produces one tree of groups."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from assay.conformal.selection import Integers


def nested_groups(codes: npt.ArrayLike) -> tuple[Integers, Integers]:
    """Return each row's own group (n,) and the group above each group (G,), -1 for those on top.

    codes: (n, H) integers from 0 on, from the row's own segment to all rows together; the numbers of each level are its
    own. Groups of the first level keep their numbers, those of the next come after them, and so on.

    Raises ValueError for another shape, negative codes, and a segment that lies in more than one above it.
    """
    levels = np.asarray(codes)
    if levels.ndim != 2 or not levels.shape[1] or (len(levels) and not np.issubdtype(levels.dtype, np.integer)):
        raise ValueError(f"codes must be integers of shape (rows, levels), found {levels.dtype} of {levels.shape}")
    if len(levels) and levels.min() < 0:
        raise ValueError(f"codes must not be negative, found {levels.min()}")
    sizes = [int(column.max()) + 1 if len(column) else 0 for column in levels.T]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    groups = levels.astype(np.int64) + starts[:-1]
    parents = np.full(starts[-1], -1, dtype=np.int64)
    for lower, upper in zip(groups.T[:-1], groups.T[1:], strict=True):
        parents[lower] = upper
        torn = int(np.count_nonzero(parents[lower] != upper))
        if torn:
            raise ValueError(f"{torn} rows are of a segment that lies in more than one segment above it")
    return groups[:, 0], parents


def checked_parents(parents: npt.ArrayLike) -> Integers:
    """Return the group above each group, (G,). Raises ValueError where they are no tree."""
    above = np.asarray(parents)
    if above.ndim != 1 or not len(above) or not np.issubdtype(above.dtype, np.integer):
        raise ValueError(f"parents must be at least one integer, found {above.dtype} of shape {above.shape}")
    if above.min() < -1 or above.max() >= len(above):
        raise ValueError(f"parents run from {above.min()} to {above.max()}, but there are {len(above)} groups")
    above = above.astype(np.int64)
    level, height = above, 0
    while (level >= 0).any():
        level, height = _above(above, level), height + 1
        if height > len(above):
            raise ValueError("parents go round in a circle")
    return above


def ancestors_of(parents: Integers) -> Integers:
    """Return each group, the one above it, and so on, (G, H), -1 where there are no more."""
    levels = [np.arange(len(parents), dtype=np.int64)]
    while (above := _above(parents, levels[-1])).max() >= 0:
        levels.append(above)
    return np.stack(levels, axis=1)


def by_depth(parents: Integers) -> list[Integers]:
    """Return the groups on top, those right below them, and so on."""
    depth = (ancestors_of(parents) >= 0).sum(axis=1)
    return [np.flatnonzero(depth == level) for level in range(1, int(depth.max()) + 1)]


def _above(parents: Integers, groups: Integers) -> Integers:
    return np.where(groups >= 0, parents[groups], -1)
