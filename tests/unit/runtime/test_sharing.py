"""Consumes files of any sizes, checks that dealing them gives every row to exactly one task, evenly and in order."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.runtime.arrow_files import Share
from assay.runtime.sharing import Piece, deal

SCHEMA = pa.schema([("row", pa.int64())])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shares")


def pieces(folder, sizes, group_rows) -> list[Piece]:
    """Parquet files with rows numbered through all of them."""
    found, first = [], 0
    for rows in sizes:
        path = folder / f"{first}-{rows}-{group_rows}.parquet"
        if not path.exists():
            pq.write_table(pa.table({"row": range(first, first + rows)}, SCHEMA), path, row_group_size=group_rows)
        found.append(Piece(str(path), rows, {}))
        first += rows
    return found


def rows_of(hand) -> list[int]:
    return [row for batch in Share(tuple(hand), SCHEMA, SCHEMA).batches() for row in batch.column("row").to_pylist()]


@settings(deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 7, 50, 400]), max_size=6),
    group_rows=st.sampled_from([5, 64, 1000]),
    hands=st.integers(1, 7),
)
def test_every_row_goes_to_one_task_in_order(folder, sizes, group_rows, hands):
    dealt = deal(pieces(folder, sizes, group_rows), hands)
    assert len(dealt) == hands
    found = [rows_of(hand) for hand in dealt]
    assert sorted(itertools.chain.from_iterable(found)) == list(range(sum(sizes)))
    assert all(rows == sorted(rows) for rows in found)
    assert [sum(piece.rows for piece in hand) for hand in dealt] == [len(rows) for rows in found]


@settings(deadline=None)
@given(
    sizes=st.lists(st.sampled_from([1, 50, 400, 3_000]), min_size=1, max_size=5),
    group_rows=st.sampled_from([64, 1000, 10_000]),
    hands=st.integers(2, 5),
)
def test_tasks_are_even_even_if_all_rows_are_in_one_row_group(folder, sizes, group_rows, hands):
    loads = [sum(piece.rows for piece in hand) for hand in deal(pieces(folder, sizes, group_rows), hands)]
    fair = sum(sizes) / hands
    assert max(loads) <= 1.5 * fair + 1
    assert min(loads) > 0 or sum(sizes) < 2 * hands


def test_whole_files_stay_whole_while_that_is_fair(folder):
    months = pieces(folder, [50] * 12, 1000)
    dealt = deal(months, 3)
    assert [len(hand) for hand in dealt] == [4, 4, 4]
    assert all(piece in months for hand in dealt for piece in hand)
    assert deal(months, 1) == [months]
    assert deal([], 3) == [[], [], []]


def test_dealing_twice_gives_the_same_hands(folder):
    found = pieces(folder, [400, 7, 50, 50, 400], 64)
    assert deal(found, 3) == deal(list(found), 3)
