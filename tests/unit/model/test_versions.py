"""Consumes kinds of changes and versions that there are, checks the semantic version that the next one gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.model.versions import INPUT, OUTPUT, Semantic, change_between, next_semantic

SEMANTIC = st.builds(Semantic, *[st.integers(0, 4)] * 3)


@pytest.mark.parametrize(
    ("parent", "tags", "change"),
    [
        ({OUTPUT: "a", INPUT: "b"}, {OUTPUT: "a", INPUT: "b"}, "patch"),
        ({OUTPUT: "a", INPUT: "b"}, {OUTPUT: "a", INPUT: "c"}, "minor"),
        ({OUTPUT: "a", INPUT: "b"}, {OUTPUT: "x", INPUT: "b"}, "major"),
        ({OUTPUT: "a", INPUT: "b"}, {OUTPUT: "x", INPUT: "c"}, "major"),
    ],
)
def test_what_changed_is_judged_by_what_a_version_promises_then_by_what_it_reads(parent, tags, change):
    assert change_between(parent, tags) == change


@pytest.mark.parametrize(
    ("parent", "change", "taken", "expected"),
    [
        (None, "first", [], "1.0.0"),
        ("1.0.0", "patch", [], "1.0.1"),
        ("1.0.0", "minor", [], "1.1.0"),
        ("1.4.7", "major", [], "2.0.0"),
        ("1.0.0", "patch", ["1.0.1", "1.0.2"], "1.0.3"),
        ("1.0.0", "patch", ["1.1.0", "2.0.0"], "1.0.1"),
        ("1.0.3", "minor", ["1.1.0", "1.1.4"], "1.2.0"),
        ("1.0.3", "minor", ["2.5.0"], "1.1.0"),
        ("1.0.3", "major", ["2.0.0", "2.1.9"], "3.0.0"),
        (None, "first", ["1.0.0"], "2.0.0"),
    ],
)
def test_the_next_version_is_the_next_free_one_of_its_kind(parent, change, taken, expected):
    given_ = Semantic.parse(parent) if parent else None
    assert str(next_semantic(given_, change, map(Semantic.parse, taken))) == expected


@given(SEMANTIC, st.sampled_from(["patch", "minor", "major"]), st.lists(SEMANTIC))
def test_no_version_is_given_twice_and_each_is_above_its_parent_by_its_kind(parent, change, taken):
    found = next_semantic(parent, change, taken)
    assert found not in {*taken, parent}
    assert found > parent
    kept = {"patch": 2, "minor": 1, "major": 0}[change]
    assert str(found).split(".")[:kept] == str(parent).split(".")[:kept]
    assert all(part == "0" for part in str(found).split(".")[kept + 1 :])


@given(SEMANTIC)
def test_a_version_reads_back_from_its_text_and_nothing_else_does(one):
    assert Semantic.parse(str(one)) == one
    for text in ("", "1", "1.0", f"v{one}", f"{one}.0", f"{one} ", "1.0.x"):
        assert Semantic.parse(text) is None


def test_versions_are_ordered_by_their_numbers_not_their_texts():
    assert Semantic(1, 0, 10) > Semantic(1, 0, 9)
    assert Semantic(10, 0, 0) > Semantic(9, 9, 9)
