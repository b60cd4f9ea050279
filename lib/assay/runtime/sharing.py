"""Consumes a table's snapshot, produces the pieces of its files, dealt evenly to tasks.

Nothing is read but the Delta log and, where a file must be cut, the footer of the file.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from deltalake import DeltaTable


@dataclasses.dataclass(frozen=True)
class Piece:
    """Part of one Parquet file, and partition values, which are not in the file.

    rows: how many. row_groups: those to read, None for all. span: first and last + 1 row of them, None for all.
    """

    path: str
    rows: int
    partition: Mapping[str, str | None]
    row_groups: tuple[int, ...] | None = None
    span: tuple[int, int] | None = None


def pieces_of(delta: DeltaTable, root: Path) -> list[Piece]:
    """One piece per file of a table whose folder is `root`, in an order that a rewrite of the same rows keeps."""
    found: list[tuple[tuple[str, ...], Piece]] = []
    for action in pa.table(delta.get_add_actions(flatten=True)).to_pylist():
        partition = {n.removeprefix("partition."): v for n, v in action.items() if n.startswith("partition.")}
        path = root / unquote(action["path"])
        if not path.is_file() and (root / action["path"]).is_file():
            path = root / action["path"]
        rows = action["num_records"]
        if rows is None:
            rows = pq.read_metadata(path).num_rows
        least = sorted(f"{name}={value}" for name, value in action.items() if name.startswith("min."))
        order = (str(sorted(partition.items())), f"{rows:020d}", *least)
        found.append((order, Piece(str(path), int(rows), partition)))
    # File names are random; what is in the files is not.
    return [piece for _, piece in sorted(found, key=lambda item: (item[0], item[1].path))]


def deal(pieces: Sequence[Piece], hands: int) -> list[list[Piece]]:
    """Deal pieces to tasks so that rows are even: whole files while that is fair, else row groups, else parts of them.

    The order within a hand is the order of `pieces`, so that a table's time order is kept.
    """
    if hands <= 1:
        return [list(pieces)]
    fair = math.ceil(sum(piece.rows for piece in pieces) / hands)
    fine = [part for piece in pieces for part in _cut(piece, fair)]
    loads = [0] * hands
    hands_of: list[list[tuple[int, Piece]]] = [[] for _ in range(hands)]
    for order, piece in sorted(enumerate(fine), key=lambda item: (-item[1].rows, item[0])):
        lightest = min(range(hands), key=lambda h: (loads[h], h))
        loads[lightest] += piece.rows
        hands_of[lightest].append((order, piece))
    return [[piece for _, piece in sorted(hand, key=lambda item: item[0])] for hand in hands_of]


def _cut(piece: Piece, fair: int) -> Iterator[Piece]:
    """The piece in parts, a few of which make a fair share. A task that has part of a row group decodes all of it."""
    if piece.rows <= max(fair // 4, 1):
        yield piece
        return
    meta = pq.read_metadata(piece.path)
    for group in piece.row_groups if piece.row_groups is not None else range(meta.num_row_groups):
        rows = meta.row_group(group).num_rows
        parts = math.ceil(rows / max(fair // 2, 1)) if rows > fair // 2 else 1
        bounds = [rows * i // parts for i in range(parts + 1)]
        for start, stop in itertools.pairwise(bounds):
            span = None if parts == 1 else (start, stop)
            yield dataclasses.replace(piece, rows=stop - start, row_groups=(group,), span=span)
