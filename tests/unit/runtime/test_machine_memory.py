"""Consumes control groups of both generations, checks what memory a process may use, and what a driver needs."""

import pytest

from assay.runtime.memory import MachineMemory, machine_memory, needed_here

GIB = 1 << 30


def world(tmp_path, groups, **limits):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("\n".join(groups) + "\n")
    for place, limit in limits.items():
        file = tmp_path / "sys/fs/cgroup" / place.replace("__", "/").replace("_DOT_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{limit}\n")
    return machine_memory(tmp_path, total=16 * GIB, available=12 * GIB)


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        (["0::/"], {}, (16, 12, False)),
        (["0::/"], {"memory_DOT_max": "max"}, (16, 12, False)),
        (["0::/"], {"memory_DOT_max": 4 * GIB}, (4, 4, True)),
        (["0::/pod/box"], {"pod__memory_DOT_max": 8 * GIB, "pod__box__memory_DOT_max": 14 * GIB}, (8, 8, True)),
        (["3:cpu:/", "4:memory:/box"], {"memory__box__memory.limit_in_bytes": 2 * GIB}, (2, 2, True)),
        (["4:cpu,memory:/gone"], {"memory__memory.limit_in_bytes": 3 * GIB}, (3, 3, True)),
        (["4:memory:/"], {"memory__memory.limit_in_bytes": 9223372036854771712}, (16, 12, False)),
        (["0::/"], {"memory_DOT_max": 64 * GIB}, (16, 12, False)),
        (["nonsense", "0::/"], {"memory_DOT_max": "?"}, (16, 12, False)),
    ],
)
def test_the_least_limit_holds(tmp_path, groups, limits, expected):
    total, available, limited = expected
    assert world(tmp_path, groups, **limits) == MachineMemory(total * GIB, available * GIB, limited)


def test_where_there_are_no_control_groups(tmp_path):
    assert machine_memory(tmp_path, total=5, available=3) == MachineMemory(5, 3, False)


def test_of_this_machine():
    found = machine_memory()
    assert 0 < found.available <= found.total


def test_a_driver_needs_its_heap_and_its_processes():
    alone = needed_here({"spark.driver.memory": "2g"}, 0)
    assert 2 * GIB < alone < 3 * GIB
    assert needed_here({"spark.driver.memory": "2g"}, 4) - alone == 2 * GIB
    assert needed_here({}, 0) < alone
