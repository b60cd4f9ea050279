"""Consumes a real Delta table, checks that columns are compared alike however tasks share the work."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from assay.config.monitoring import MonitoringConfig
from assay.monitoring.comparison import Comparison, Side, Watched
from assay.runtime.conditions import Condition
from assay.runtime.local_plane import LocalPlane
from assay.runtime.plane import Commit, Output
from assay.runtime.tables import FEATURES

NUMBERS, TEXTS = ("size", "age", "rooms"), ("kind", "shop")
ROWS = (4000, 3000)
SPLIT = dt.datetime(2024, 3, 1, tzinfo=dt.timezone.utc)


def write(plane, months, seed):
    """So many rows in each month."""
    draw, fields = np.random.default_rng(seed), [pa.field(name, pa.float32()) for name in NUMBERS]
    schema = FEATURES.schema([*fields, *(pa.field(name, pa.string()) for name in TEXTS)])
    parts = []
    for number, (month, rows) in enumerate(months.items()):
        start = np.datetime64(f"{month}-01", "us")
        columns = {
            "row_id": np.arange(rows) + 10_000 * number,
            "time": pa.array(start + draw.integers(0, 28 * 86_400_000_000, rows), pa.timestamp("us", "UTC")),
            "size": draw.normal(number, 1, rows).astype(np.float32),
            "age": pa.array(draw.normal(0, 1, rows).astype(np.float32), mask=draw.random(rows) < 0.2),
            "rooms": draw.integers(0, 6, rows).astype(np.float32),
            "kind": draw.choice(["a", "b"], rows),
            "shop": draw.choice(["North", "South"], rows, p=[0.9, 0.1]),
            "month": [month] * rows,
        }
        parts.append(pa.table(columns).cast(schema))
    commit = Commit(-1, "build_features", "all", str(seed))
    (written,) = plane.rows_of(FEATURES, schema, pa.concat_tables(parts)).write([Output(FEATURES, schema, commit)])
    return written.version


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    plane = LocalPlane(tmp_path_factory.mktemp("lake"))
    version = write(plane, {"2024-01": 2500, "2024-02": 1500, "2024-03": 3000}, 1)
    return plane, version


def told(lake, by=(), **settings):
    plane, version = lake
    sides = (Side(version, (Condition("time", "<", SPLIT),)), Side(version, (Condition("time", ">=", SPLIT),)))
    watched = Watched("features", NUMBERS, TEXTS, sides)
    table = Comparison(plane, MonitoringConfig(**settings), by).of([watched])
    found = {(row["column"], row["segment"]): row for row in table.to_pylist()}
    assert len(found) == table.num_rows
    return found


def test_columns_have_the_rows_of_their_windows(lake):
    found = told(lake)
    assert [column for column, _ in sorted(found)] == sorted([*NUMBERS, *TEXTS])
    for row in found.values():
        assert (row["rows_reference"], row["rows_current"]) == ROWS
        assert row["kind"] == ("category" if row["column"] in TEXTS else "number")


class Wide(LocalPlane):
    """Three slots, and how many sources there were to run."""

    slots = 3
    ran: int = 0

    def run_tasks(self, work, function):
        self.ran += len(work)
        return super().run_tasks(work, function)


@pytest.mark.parametrize("sketch", ["never", "always"])
def test_how_many_tasks_share_the_work_changes_nothing(lake, sketch):
    plane, version = lake
    wide = Wide(plane.root)
    found = told((wide, version), sketch=sketch, sketch_points=4096)
    assert wide.ran == (3 if sketch == "never" else 2 + 1)
    assert repr(sorted(found.items())) == repr(sorted(told(lake, sketch=sketch, sketch_points=4096).items()))


@pytest.mark.parametrize("by", [(), ("shop",), ("shop", "kind")])
def test_sketches_tell_the_same_within_their_error_and_segments_exactly(lake, by):
    exact, found = told(lake, by), told(lake, by, sketch="always", sketch_points=64)
    assert set(found) == set(exact)
    assert len(found) == 5 * (1 + 2 ** len(by) * bool(by))
    for key, row in found.items():
        if key[1] or not row["numeric"]:
            assert repr(row) == repr(exact[key])
        else:
            assert 0 < row["error"] < 0.2
            assert abs(row["ks"] - exact[key]["ks"]) <= row["error"]
            assert row["known_current"] == exact[key]["known_current"]


def test_windows_are_sketched_when_one_has_too_many_rows(lake):
    for most, sketched in ((4000, False), (3999, True)):
        row = told(lake, exact_rows=most, sketch_points=64)["size", ""]
        assert (row["error"] > 0) == sketched
    assert told(lake, exact_rows=10, sketch_points=64, sketch="never")["size", ""]["error"] == 0


def test_versions_are_compared_as_a_whole(tmp_path):
    plane = LocalPlane(tmp_path)
    versions = [write(plane, {"2024-01": rows}, rows) for rows in ROWS]
    watched = Watched("features", NUMBERS, TEXTS, (Side(versions[0]), Side(versions[1])))
    for sketch in ("never", "always"):
        rows = Comparison(plane, MonitoringConfig(sketch=sketch)).of([watched]).to_pylist()
        assert {(row["rows_reference"], row["rows_current"]) for row in rows} == {ROWS}


def test_a_table_without_the_segments_column_has_none(lake):
    assert {segment for _, segment in told(lake, ("nowhere",))} == {""}
