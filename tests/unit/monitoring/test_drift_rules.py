"""Consumes compared columns, checks which of them are called drifted, and why."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from assay.config.monitoring import MonitoringConfig
from assay.monitoring.columns import CompareColumns, InWindow
from assay.monitoring.drift import figures, judged, told

DRAW = np.random.default_rng(4)
ROWS = 2000


def compared(reference, current, by=()):
    """Columns of two windows as a task tells of them."""
    names = [name for name, values in reference.items() if values.dtype != object]
    texts = [name for name in reference if name not in [*names, *by]]
    batches = []
    for window, columns in enumerate((reference, current)):
        batch = pa.RecordBatch.from_pydict(
            {name: pa.array(values, from_pandas=True) for name, values in columns.items()}
        )
        batches += InWindow(window)(iter([batch]))
    found = CompareColumns(tuple(names), tuple(texts), by, least=50)(iter(batches))
    return pa.Table.from_batches(list(found)).to_pylist()


def normal(shift=0.0, rows=ROWS):
    return DRAW.normal(shift, 1, rows).astype(np.float32)


def verdicts(reference, current, **settings):
    return {row["column"]: row["reasons"] for row in judged(compared(reference, current), MonitoringConfig(**settings))}


def test_a_feature_that_is_silently_zero_has_drifted():
    same = {"size": normal(), "age": normal()}
    found = verdicts(same, {"size": np.zeros(ROWS, dtype=np.float32), "age": normal()})
    assert found == {"size": ["distribution"], "age": []}


def test_a_significant_but_small_change_is_no_drift():
    reference, current = {"size": normal(rows=200_000)}, {"size": normal(0.05, 200_000)}
    (row,) = judged(compared(reference, current), MonitoringConfig())
    assert row["p_adjusted"] < 1e-6
    assert row["psi"] < 0.1
    assert not row["drifted"]
    assert verdicts(reference, current, psi=0.001) == {"size": ["distribution"]}


def test_a_large_change_of_few_rows_is_no_drift():
    """Of 30 rows PSI is above 0.1 by chance alone."""
    alarms = 0
    for _ in range(40):
        (row,) = judged(compared({"size": normal(rows=30)}, {"size": normal(rows=30)}), MonitoringConfig(alpha=0.9))
        assert row["psi"] > 0.05
        alarms += row["drifted"]
    assert alarms <= 8  # 1 in 20 is to be expected, were it for psi_by_chance alone


def test_missing_values_and_new_categories_are_reasons_of_their_own():
    gone = normal()
    gone[: ROWS // 5] = np.nan
    kinds = DRAW.choice(["a", "b"], ROWS).astype(object)
    later = kinds.copy()
    later[:30] = "c"
    found = verdicts({"size": normal(), "kind": kinds}, {"size": gone, "kind": later})
    assert found == {"size": ["missing"], "kind": ["new_categories"]}
    assert verdicts({"size": normal()}, {"size": gone}, missing=0.3) == {"size": []}


def test_a_column_that_is_missing_as_a_whole_has_drifted():
    assert verdicts({"size": normal()}, {"size": np.full(ROWS, np.nan, np.float32)}) == {"size": ["missing"]}


def test_two_hundred_columns_without_drift_raise_no_alarm():
    columns = {f"c{number}": normal(rows=300) for number in range(200)}
    again = {name: normal(rows=300) for name in columns}
    rows = judged(compared(columns, again), MonitoringConfig(psi=0.0001))
    assert sum(row["ks_p"] < 0.05 for row in rows) >= 3
    assert figures(rows) == {
        "columns": 200.0,
        "drifted_columns": 0.0,
        **dict.fromkeys(("drifted_distribution", "drifted_missing", "drifted_new_categories"), 0.0),
    }


def test_the_segment_that_drifted_is_found():
    shops = DRAW.choice(["North", "South"], ROWS).astype(object)
    later = normal()
    later[shops == "South"] += 2
    rows = judged(
        compared({"size": normal(), "shop": shops}, {"size": later, "shop": shops}, by=("shop",)), MonitoringConfig()
    )
    found = {row["segment"]: row["drifted"] for row in rows if row["column"] == "size"}
    assert found == {"": True, "shop=North": False, "shop=South": True}
    assert figures(rows)["drifted_segment_columns"] == 1.0


def test_people_are_told_what_moved_and_the_worst_first():
    kinds = np.array(["a"] * ROWS, dtype=object)
    reference = {"size": normal(), "age": normal(), "kind": kinds}
    gone = normal(5)
    gone[:500] = np.nan
    lines = told(judged(compared(reference, {"size": gone, "age": normal(1), "kind": kinds + "b"}), MonitoringConfig()))
    assert lines[0] == "3 of 3 columns drifted"
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["kind", "size", "age"]
    assert "100.0% in new categories (ab)" in lines[1]
    assert "25.0% missing (0.0% before)" in lines[2]
    assert "median" in lines[3]


@pytest.mark.parametrize("rows", [0, 1])
def test_hardly_any_row_says_nothing(rows):
    (row,) = judged(compared({"size": normal()}, {"size": normal(rows=rows)}), MonitoringConfig())
    assert not row["drifted"]
    assert row["p"] > 0.05
