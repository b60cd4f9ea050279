"""Consumes writers of one table at the same time, checks that of those that read the same version only one writes."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from assay.errors import AssayError, DataError, Overtaken
from assay.runtime import arrow_commit
from assay.runtime.local_plane import LocalPlane
from assay.runtime.plane import NEVER, Commit, Output
from assay.runtime.tables import Table

COUNTS = Table(
    name="counts",
    stage="tests",
    grain="a slot's number",
    key=("slot",),
    partition_by=("slot",),
    columns={"number": (pa.int64(), "a count"), "slot": (pa.string(), "whose")},
)


def put(root: Path, slot: str, number: int | None, expects: int | None, job: str = "count") -> int:
    """Let the slot's only row be this number (None: let it have none); the new version."""
    plane, schema = LocalPlane(root), COUNTS.schema()
    rows = pa.Table.from_pylist([] if number is None else [{"number": number, "slot": slot}], schema)
    output = Output(COUNTS, schema, Commit(-1, job, slot, "same"), owns={"slot": slot}, expects=expects)
    return plane.rows_of(COUNTS, schema, rows).write([output])[0].version


def numbers(root: Path) -> dict[str, list[int]]:
    """Numbers of each slot, as the table has them."""
    plane = LocalPlane(root)
    rows = plane.read("counts", version=plane.version("counts")).collect().to_pylist()
    return {slot: [row["number"] for row in rows if row["slot"] == slot] for slot in {row["slot"] for row in rows}}


def count_up(root: Path, slot: str, times: int) -> int:
    """Add 1 to the slot's number so many times, each time reading it first; how often others were faster."""
    plane, overtaken, done = LocalPlane(root), 0, 0
    while done < times:
        version = plane.version("counts")
        before = numbers(root).get(slot, [0]) if version is not None else [0]
        try:
            # Rows are read after the version, so they may be newer; then the write is refused.
            put(root, slot, before[0] + 1, NEVER if version is None else version)
            done += 1
        except Overtaken:
            overtaken += 1
    return overtaken


def test_a_write_passes_once_and_is_overtaken_when_its_slot_was_written(tmp_path):
    first = put(tmp_path, "a", 1, NEVER)
    with pytest.raises(
        Overtaken, match=f"table counts: count wrote a in version {first}, after it was read at version -1"
    ):
        put(tmp_path, "a", 2, NEVER)
    second = put(tmp_path, "a", 2, first)
    with pytest.raises(Overtaken):
        put(tmp_path, "a", 3, first)
    assert numbers(tmp_path) == {"a": [2]}
    assert DeltaTable(tmp_path / "counts").version() == second == first + 1


def test_other_slots_and_others_commits_are_in_nobodys_way(tmp_path):
    first = put(tmp_path, "a", 1, NEVER)
    put(tmp_path, "b", 1, NEVER)
    put(tmp_path, "b", 2, None)
    DeltaTable(tmp_path / "counts").alter.set_table_properties({"delta.logRetentionDuration": "interval 9 days"})
    put(tmp_path, "a", 2, first)
    assert numbers(tmp_path) == {"a": [2], "b": [2]}


def test_a_write_without_rows_counts_too(tmp_path):
    """deltalake alone would let both pass: neither removes a file."""
    first = put(tmp_path, "a", None, NEVER)
    second = put(tmp_path, "a", None, first)
    with pytest.raises(Overtaken):
        put(tmp_path, "a", 7, first)
    put(tmp_path, "a", 8, second)
    assert numbers(tmp_path) == {"a": [8]}


def test_a_write_that_expects_nothing_replaces_what_is_there(tmp_path):
    first = put(tmp_path, "a", 1, NEVER)
    put(tmp_path, "a", 2, None)
    with pytest.raises(Overtaken):
        put(tmp_path, "a", 3, first)
    assert numbers(tmp_path) == {"a": [2]}


@pytest.mark.parametrize("there", [True, False])
def test_of_threads_that_read_the_same_version_exactly_one_writes(tmp_path, there):
    for turn in range(5):
        root = tmp_path / str(turn)
        version = put(root, "a", 0, NEVER) if there else NEVER
        barrier = threading.Barrier(6)

        def write(number, root=root, version=version, barrier=barrier):
            barrier.wait()
            try:
                put(root, "a", number, version)
            except Overtaken:
                return None
            return number

        with ThreadPoolExecutor(6) as pool:
            done = [number for number in pool.map(write, range(1, 7)) if number is not None]
        assert len(done) == 1
        assert numbers(root) == {"a": done}


def test_processes_that_count_lose_no_step(tmp_path):
    """Two count the same slot, one its own; every step of every one is there at the end."""
    slots = ["a", "a", "b"]
    with ProcessPoolExecutor(len(slots), mp_context=multiprocessing.get_context("spawn")) as pool:
        overtaken = list(pool.map(count_up, [tmp_path] * 3, slots, [8] * 3))
    assert numbers(tmp_path) == {"a": [16], "b": [8]}
    assert overtaken[2] == 0


def test_a_table_that_others_write_all_the_time_ends_with_a_word(tmp_path, monkeypatch):
    first, commit, turns = put(tmp_path, "a", 1, NEVER), arrow_commit._commit, []

    def meanwhile(delta, output, actions, properties):
        if output.expects is not None:
            turns.append(put(tmp_path, "b", len(turns), None))
        commit(delta, output, actions, properties)

    monkeypatch.setattr(arrow_commit, "_commit", meanwhile)
    with pytest.raises(AssayError, match="table counts: others wrote it 50 times while count did"):
        put(tmp_path, "a", 2, first)
    assert len(turns) == 50
    assert numbers(tmp_path)["a"] == [1]


def test_a_failure_that_nobody_else_is_the_reason_of_is_told_at_once(tmp_path):
    first = put(tmp_path, "a", 1, NEVER)
    other = Output(
        COUNTS, COUNTS.schema([pa.field("x", pa.int8())]), Commit(-1, "j", "a", "i"), owns={"slot": "a"}, expects=first
    )
    plane = LocalPlane(tmp_path)
    with pytest.raises(DataError, match="table counts has other columns"):
        plane.rows_of(COUNTS, other.schema, other.schema.empty_table()).write([other])
