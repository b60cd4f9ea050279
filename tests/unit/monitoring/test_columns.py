"""Consumes marked batches of two windows, checks what a task says of its columns, for all rows and by segment."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from assay.monitoring.columns import CompareColumns, InWindow, marked
from assay.monitoring.compared import COMPARED, apart_of
from assay.monitoring.held import WINDOW

SCHEMA = pa.schema([("size", pa.float32()), ("kind", pa.string()), ("shop", pa.string()), ("floor", pa.string())])


def rows(count, seed, shift=0.0, kinds="abc"):
    """Sizes with missing and infinite ones, kinds with missing ones, in shops with floors."""
    draw = np.random.default_rng(seed)
    size = (draw.normal(shift, 1, count) + draw.integers(0, 3, count)).round(1).astype(np.float32)
    size[draw.random(count) < 0.1] = np.nan
    size[::50] = [np.inf, -np.inf] * (len(size[::50]) // 2) + [np.inf] * (len(size[::50]) % 2)
    kind = draw.choice([*kinds, None], count)
    shop = draw.choice(["North|1", "South", None], count, p=[0.6, 0.3, 0.1])
    return pd.DataFrame({"size": size, "kind": kind, "shop": shop, "floor": draw.choice(["1", "2"], count)})


def batches(reference, current, length=97):
    for window, frame in enumerate((reference, current)):
        table = pa.Table.from_pandas(frame, SCHEMA, preserve_index=False)
        yield from InWindow(window)(iter(table.to_batches(length)))


def told(kernel, reference, current, **options):
    table = pa.Table.from_batches(list(kernel(batches(reference, current, **options))), COMPARED)
    return {(row["column"], row["segment"]): row for row in table.to_pylist()}


BEFORE, AFTER = rows(1500, 1), rows(1100, 2, shift=0.2, kinds="bcd")


def finite(column):
    return column[np.isfinite(column)].to_numpy(dtype=float)


def test_all_rows_are_compared_exactly():
    row = told(CompareColumns(("size",), ("kind",)), BEFORE, AFTER)[("size", "")]
    one, other = finite(BEFORE["size"]), finite(AFTER["size"])
    assert (row["rows_reference"], row["rows_current"]) == (1500, 1100)
    assert (row["known_reference"], row["known_current"]) == (len(one), len(other))
    assert row["ks"] == pytest.approx(stats.ks_2samp(one, other, method="asymp").statistic)
    assert row["wasserstein"] == pytest.approx(stats.wasserstein_distance(one, other))
    assert (row["median_reference"], row["median_current"]) == pytest.approx((np.median(one), np.median(other)))
    assert np.sum(row["bins"], axis=1).tolist() == [len(one), len(other)]


def test_categories_are_counted_and_new_ones_named():
    row = told(CompareColumns(("size",), ("kind",)), BEFORE, AFTER)[("kind", "")]
    counts = [frame["kind"].value_counts() for frame in (BEFORE, AFTER)]
    order = sorted("abc", key=lambda kind: -counts[0][kind])
    assert row["bins"] == [[int(found.get(kind, 0)) for kind in [*order, "d"]] for found in counts]
    assert (row["new"], row["new_categories"]) == (counts[1]["d"], ["d"])
    assert np.isnan([row["ks"], row["wasserstein"]]).all()
    assert not row["numeric"]


def test_each_segment_is_compared_as_if_it_were_alone():
    found = told(CompareColumns(("size",), ("kind",), by=("shop", "floor"), least=20), BEFORE, AFTER)
    names = {"North|1": r"North\|1", "South": "South", None: "∅"}
    for shop, name in names.items():
        for floor in "12":
            parts = [
                frame[(frame["shop"].isna() if shop is None else frame["shop"] == shop) & (frame["floor"] == floor)]
                for frame in (BEFORE, AFTER)
            ]
            alone = told(CompareColumns(("size",), ("kind",)), *parts)
            for column in ("size", "kind"):
                row = found[(column, f"shop={name}|floor={floor}")]
                assert repr({**row, "segment": ""}) == repr(alone[(column, "")])
    assert len(found) == 2 * (1 + 6)


def test_segments_of_few_rows_are_left_out():
    few = AFTER[AFTER["shop"] != "South"].head(900)
    found = told(CompareColumns(("size",), by=("shop",), least=1), BEFORE, few)
    assert {segment for _, segment in found} == {"", r"shop=North\|1", "shop=∅"}
    found = told(CompareColumns(("size",), by=("shop",), least=200), BEFORE, few)
    assert {segment for _, segment in found} == {"", r"shop=North\|1"}


@pytest.mark.parametrize("length", [1, 10_000])
def test_how_rows_are_cut_into_batches_changes_nothing(length):
    kernel = CompareColumns(("size",), ("kind",), by=("shop",))
    one, other = (told(kernel, BEFORE.head(300), AFTER.head(200), length=n) for n in (53, length))
    assert repr(one) == repr(other)


def test_a_batch_may_have_rows_of_both_windows():
    apart = list(batches(BEFORE, AFTER))
    mixed = pa.Table.from_batches(apart).take(np.random.default_rng(0).permutation(2600)).combine_chunks().to_batches()
    kernel = CompareColumns(("size",), ("kind",))
    one, other = (pa.Table.from_batches(list(kernel(iter(given))), COMPARED).to_pylist() for given in (apart, mixed))
    assert repr(one) == repr(other)


def test_an_empty_window_is_told():
    row = told(CompareColumns(("size",), ("kind",)), BEFORE, AFTER.head(0))
    assert row[("size", "")]["rows_current"] == 0
    assert np.isnan(row[("size", "")]["ks"])
    nothing = list(CompareColumns(("size",))(iter(())))
    assert nothing[0].to_pylist()[0]["rows_reference"] == 0


def test_rows_are_read_back_as_they_were_compared():
    row = told(CompareColumns(("size",)), BEFORE, AFTER)[("size", "")]
    apart = apart_of(row)
    assert (apart.ks, apart.reference) == (row["ks"], row["known_reference"])
    assert apart.bins.tolist() == row["bins"]


def test_windows_are_marked_in_the_schema():
    assert marked(SCHEMA).names == [*SCHEMA.names, WINDOW]
    assert next(batches(BEFORE, AFTER)).schema.equals(marked(SCHEMA))
