"""Consumes tables that others write meanwhile, checks that the newest version is found, and each one opened once."""

from __future__ import annotations

import shutil

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from assay.errors import DataError
from assay.runtime import delta_log
from assay.runtime.delta_log import DeltaLogs
from assay.runtime.local_plane import LocalPlane


@pytest.fixture
def opened(monkeypatch):
    """Versions that were opened, None where the newest was asked for."""
    found = []

    class Counted(DeltaTable):
        def __init__(self, *args, version=None, **told):
            found.append(version)
            super().__init__(*args, version=version, **told)

    monkeypatch.setattr("deltalake.DeltaTable", Counted)
    return found


def add(root, *values, mode="append"):
    write_deltalake(str(root / "t"), pa.table({"x": list(values)}), mode=mode)


def test_each_version_is_opened_once(tmp_path, opened):
    add(tmp_path, 1)
    add(tmp_path, 2)
    opened.clear()
    logs = DeltaLogs(tmp_path)
    assert [logs.newest("t").version() for _ in range(3)] == [1, 1, 1]
    assert [logs.at("t", version).version() for version in (1, 0, 0, 1)] == [1, 0, 0, 1]
    assert opened == [None, 0]


def test_a_commit_of_somebody_else_is_seen_at_once(tmp_path):
    logs = DeltaLogs(tmp_path)
    assert logs.newest("t") is None
    for number in range(4):
        add(tmp_path, number)
        assert logs.newest("t").version() == number
        assert logs.at("t", number).to_pyarrow_table().num_rows == number + 1
    assert logs.at("t", 1).to_pyarrow_table().num_rows == 2


def test_a_table_that_was_made_anew_is_opened_anew(tmp_path):
    logs = DeltaLogs(tmp_path)
    add(tmp_path, 1)
    add(tmp_path, 2)
    assert logs.newest("t").to_pyarrow_table()["x"].to_pylist() == [2, 1]
    shutil.rmtree(tmp_path / "t")
    assert logs.newest("t") is None
    add(tmp_path, 7)
    assert logs.newest("t").to_pyarrow_table()["x"].to_pylist() == [7]
    add(tmp_path, 8)
    assert sorted(logs.at("t", 1).to_pyarrow_table()["x"].to_pylist()) == [7, 8]


def test_few_are_kept(tmp_path, monkeypatch, opened):
    monkeypatch.setattr(delta_log, "KEPT", 2)
    for number in range(4):
        add(tmp_path, number)
    logs = DeltaLogs(tmp_path)
    opened.clear()
    for version in (0, 1, 2, 2, 1, 0):
        assert logs.at("t", version).version() == version
    assert opened == [0, 1, 2, 0]


def test_a_table_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(DataError, match="table t does not exist in"):
        LocalPlane(tmp_path).schema("t")
