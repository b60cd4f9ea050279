"""Consumes marked batches in several tasks, checks what is told of them together against what one task would tell."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from assay.monitoring.columns import CompareColumns, CompareSegments, CountRows, InWindow
from assay.monitoring.compared import COMPARED
from assay.monitoring.sketches import SKETCHED, MergeSketches, SketchColumns

SIZE = 32
DRAW = np.random.default_rng(8)
EXACT = ("rows_reference", "rows_current", "known_reference", "known_current", "new", "new_categories")


def window(mark, rows, shift=0.0, kinds="abc"):
    """Sizes with missing and infinite ones, whole numbers, kinds with missing ones, in shops of many rows and few."""
    size = DRAW.normal(shift, 1, rows).astype(np.float32)
    size[DRAW.random(rows) < 0.1] = np.nan
    size[::50] = np.inf
    columns = {
        "size": pa.array(size),
        "count": pa.array(DRAW.integers(0, 5, rows).astype(float), mask=DRAW.random(rows) < 0.2),
        "kind": pa.array(DRAW.choice([*kinds, None], rows), pa.string()),
        "shop": pa.array(DRAW.choice(["North", "South", None], rows, p=[0.97, 0.02, 0.01]), pa.string()),
    }
    return next(InWindow(mark)(iter([pa.record_batch(columns)])))


BEFORE, AFTER = window(0, 6000), window(1, 4000, 0.3, "bcd")
NUMBERS, TEXTS = ("size", "count"), ("kind",)


def told(batches):
    table = pa.Table.from_batches(list(batches), COMPARED)
    return {(row["column"], row["segment"]): row for row in table.to_pylist()}


def in_parts(batch, length):
    return [batch.slice(start, length) for start in range(0, batch.num_rows, length)]


def sketched(*tasks):
    kernel = SketchColumns(NUMBERS, TEXTS, SIZE)
    left = [batch for task in tasks for batch in kernel(iter(task))]
    assert all(batch.schema.equals(SKETCHED) for batch in left)
    return told(MergeSketches(NUMBERS, SIZE)(iter(left)))


def close(row, exact):
    """Counts as they are, distances within what the row states."""
    assert {name: row[name] for name in EXACT} == {name: exact[name] for name in EXACT}
    if row["numeric"]:
        assert abs(row["ks"] - exact["ks"]) <= row["error"] + 1e-12
        assert np.sum(row["bins"], axis=1).tolist() == [row["known_reference"], row["known_current"]]
    else:
        assert row["bins"] == exact["bins"]
        assert row["error"] == 0


@pytest.mark.parametrize("length", [100, 997, 6000])
def test_tasks_together_tell_what_one_would_within_the_stated_error(length):
    exact = told(CompareColumns(NUMBERS, TEXTS)(iter([BEFORE, AFTER])))
    parts = [*in_parts(BEFORE, length), *in_parts(AFTER, length)]
    found = sketched(parts[0::3], parts[1::3], parts[2::3])
    assert set(found) == set(exact)
    for key, row in found.items():
        close(row, exact[key])
    assert 0 < found["size", ""]["error"] < 0.3


def test_few_rows_are_told_exactly():
    few = [BEFORE.slice(0, 25), AFTER.slice(0, 30)]
    exact = told(CompareColumns(NUMBERS, TEXTS)(iter(few)))
    for key, row in sketched(few).items():
        close(row, exact[key])
        assert row["error"] == 0
        for name in ("wasserstein", "spread", "median_reference", "median_current"):
            assert row[name] == pytest.approx(exact[key][name], nan_ok=True)


def test_a_task_without_rows_and_an_empty_window_are_told():
    found = sketched([BEFORE], [])
    assert found["size", ""]["rows_current"] == 0
    assert np.isnan(found["size", ""]["ks"])
    assert sketched([])["kind", ""]["rows_reference"] == 0


def test_what_sketches_lost_is_less_the_more_points_they_have():
    errors = []
    for size in (32, 128, 512):
        left = SketchColumns(NUMBERS, TEXTS, size)(iter([BEFORE, AFTER]))
        errors.append(told(MergeSketches(NUMBERS, size)(left))["size", ""]["error"])
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0


def segments(batches, most, least=1):
    exactly = CompareColumns(NUMBERS, TEXTS, ("shop",), least, whole=False)
    return told(CompareSegments(exactly, most, SIZE)(iter(batches)))


ALL = told(CompareColumns(NUMBERS, TEXTS, ("shop",))(iter([BEFORE, AFTER])))


def test_segments_are_exact_while_a_task_can_hold_its_rows():
    parts = [*in_parts(AFTER, 700), *in_parts(BEFORE, 700)]
    found = segments(parts, most=10_000)
    assert repr(found) == repr({key: row for key, row in ALL.items() if key[1]})
    assert {segment for _, segment in segments(parts, 10_000, least=60)} == {"shop=North", "shop=South"}


def test_segments_that_no_task_can_hold_are_told_within_a_stated_error_and_small_ones_exactly():
    parts = [*in_parts(BEFORE, 700), *in_parts(AFTER, 700)]
    found = segments(parts, most=1000)
    assert set(found) == {key for key in ALL if key[1]}
    for key, row in found.items():
        close(row, ALL[key])
    assert found["size", "shop=North"]["error"] > 0
    assert found["size", "shop=South"]["error"] == 0
    assert {segment for _, segment in segments(parts, 1000, least=60)} == {"shop=North", "shop=South"}


def test_a_task_without_segments_tells_nothing():
    assert segments([], 1000) == {}


def test_rows_of_each_window_are_counted():
    mixed = pa.Table.from_batches([BEFORE, AFTER]).take(DRAW.permutation(10_000)).combine_chunks().to_batches()
    counted = pa.Table.from_batches(list(CountRows()(iter(mixed)))).to_pandas()
    assert counted.groupby("__window")["rows"].sum().to_dict() == {0: 6000, 1: 4000}
