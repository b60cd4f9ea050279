"""Rows that CatBoost learns from: the same however they are cut, whether they wait in memory or on disk."""

import numpy as np
import pyarrow as pa
import pytest

from assay.model.encoding import Encoding
from assay.model.scale import TargetScale
from assay.training import catboost_rows
from assay.training.catboost_rows import Columns, read_rows

ENCODING = Encoding(("a", "b"), {"city": ("Reno", "Waco")})


def table(rows):
    rng = np.random.default_rng(7)
    cities = np.array(["Reno", "Waco", "Ely"])[rng.integers(0, 3, rows)]
    return pa.table(
        {"a": rng.normal(size=rows), "b": rng.normal(size=rows), "city": cities, "y": np.arange(rows) * 1.0}
    )


def read(rows, cut, monkeypatch):
    monkeypatch.setattr(catboost_rows, "CHUNK_ROWS", cut)
    return read_rows([lambda: iter(table(rows).to_batches(max_chunksize=cut))], ENCODING, TargetScale("y"), None)


def test_each_row_keeps_its_own_cells_and_target(monkeypatch):
    found, source = read(5000, 700, monkeypatch), table(5000)
    ours = found.label.astype(int)
    assert sorted(ours) == list(range(5000))
    assert list(ours) != list(range(5000))
    for position, name in enumerate(("a", "b")):
        np.testing.assert_array_equal(found.matrix[:, position], source[name].to_numpy().astype(np.float32)[ours])
    codes = np.array([{"Reno": 0.0, "Waco": 1.0, "Ely": np.nan}[city] for city in source["city"].to_pylist()])
    np.testing.assert_array_equal(found.matrix[:, 2], codes[ours])


@pytest.mark.parametrize("kept", [1, 40_000, 1 << 30], ids=["on disk", "first in memory", "in memory"])
def test_neither_cuts_nor_where_columns_wait_show(kept, monkeypatch):
    usual = read(5000, 10_000, monkeypatch)
    monkeypatch.setattr(catboost_rows, "MEMORY_BYTES", kept)
    found = read(5000, 700, monkeypatch)
    np.testing.assert_array_equal(found.matrix, usual.matrix)
    np.testing.assert_array_equal(found.label, usual.label)
    assert found.matrix.flags.f_contiguous  # CatBoost reads it where it is


def test_a_share_without_rows_has_none():
    found = read_rows([lambda: iter([])], ENCODING, TargetScale("y"), None)
    assert found.matrix.shape == (0, 3)


def test_columns_come_back_in_the_order_that_is_asked():
    columns = Columns(2)
    for start in (0, 3):
        columns.add(np.asfortranarray(np.arange(start * 2, start * 2 + 6, dtype=np.float32).reshape(3, 2)))
    order = np.array([5, 0, 3, 1, 4, 2])
    np.testing.assert_array_equal(columns.ordered(order), np.arange(12, dtype=np.float32).reshape(6, 2)[order])
    columns.close()
