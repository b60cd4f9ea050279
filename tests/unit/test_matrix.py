"""Consumes the cells of the matrix, checks that pyproject.toml allows them, and how a run's last line is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import matrix

TEXT = (Path(matrix.__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
DECLARED = {
    one.name: one.specifier
    for one in map(Requirement, re.findall(r'^  "([a-z-]+[<>=!].*)",$', TEXT, re.MULTILINE))
    if one.name in {"pyspark", "mlflow"}
}


@pytest.mark.parametrize("name", matrix.CELLS)
def test_each_cell_is_allowed(name: str) -> None:
    cell = matrix.CELLS[name]
    (pythons,) = re.findall(r'requires-python = "(.+)"', TEXT)
    assert f"{cell.python}.1" in SpecifierSet(pythons)
    assert all(version in DECLARED[library] for library, version in cell.over.items())


def test_each_python_and_each_end_of_what_is_allowed_has_a_cell() -> None:
    assert {cell.python for cell in matrix.CELLS.values()} == {"3.10", "3.11", "3.12"}
    assert "4.0.1" in {cell.over.get("pyspark") for cell in matrix.CELLS.values()}
    assert "4.0.0" not in DECLARED["pyspark"]
    assert all((matrix.ROOT / one).exists() for one in matrix.TESTS)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("12 passed, 3 skipped in 4.2s", {"passed": 12, "failed": 0, "skipped": 3, "error": 0}),
        ("1 failed, 2 passed, 2 errors in 4.2s", {"passed": 2, "failed": 1, "skipped": 0, "error": 2}),
        (
            "1 passed in 1s\n= 4 failed, 1 passed, 1 warning in 9s (0:00:09) =",
            {"passed": 1, "failed": 4, "skipped": 0, "error": 0},
        ),
        ("nothing ran", {"passed": 0, "failed": 0, "skipped": 0, "error": 0}),
    ],
)
def test_counts_are_those_of_the_last_line(text: str, found: dict[str, int]) -> None:
    counts = matrix.counted(text)
    assert {kind: counts[kind] for kind in found} == found
