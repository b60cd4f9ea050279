"""Labels that cannot collide, fallback of small segments, and a calibration that survives JSON to the last bit."""

from __future__ import annotations

import dataclasses
import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.conformal import ALL_ROWS, Calibration, SegmentQuantiles, conformal_quantiles, fit, segment_labels
from assay.conformal.calibration import parent
from assay.errors import UserError

awkward = st.text(alphabet=st.sampled_from("ab=|\\∅ é\x00"), max_size=5)
values = st.one_of(st.none(), awkward, st.text(max_size=5))
LEVELS = (0.8, 0.9)


def objects(items) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


calibration_rows = st.lists(
    st.tuples(st.sampled_from(["", "a=1", "a=2", "a=∅", "b=x|c=y"]), st.floats(min_value=0, allow_nan=False)),
    max_size=60,
)


def fitted(rows, min_segment_rows=5, levels=LEVELS) -> Calibration:
    return fit([s for _, s in rows], objects([c for c, _ in rows]), levels, min_segment_rows=min_segment_rows)


# --- labels -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(values, values), min_size=1, max_size=20))
def test_rows_share_a_label_exactly_when_their_values_are_equal(rows):
    labels = segment_labels({"a=|": objects([a for a, _ in rows]), "b": objects([b for _, b in rows])})
    assert labels.shape == (len(rows),)
    assert len(set(labels)) == len(set(rows))
    assert len(set(zip(labels, rows, strict=True))) == len(set(rows))
    assert ALL_ROWS not in labels


@given(
    st.dictionaries(awkward, values, min_size=1, max_size=3), st.dictionaries(awkward, values, min_size=1, max_size=3)
)
def test_labels_of_different_columns_do_not_collide_either(one, other):
    label, second = (segment_labels({k: objects([v]) for k, v in row.items()})[0] for row in (one, other))
    assert (label == second) == (list(one.items()) == list(other.items()))


def test_labels_read_well():
    labels = segment_labels(
        {"zipcode": objects(["98001", "98002", None, "∅"]), "grade": objects(["7", "a=b|c", "1\\2", ""])}
    )
    assert labels.tolist() == [
        "zipcode=98001|grade=7",
        "zipcode=98002|grade=a\\=b\\|c",
        "zipcode=∅|grade=1\\\\2",
        "zipcode=\\∅|grade=",
    ]


def test_nan_is_missing_like_none_and_fixed_width_text_is_text():
    labels = segment_labels({"city": objects([None, float("nan"), np.float64("nan"), "nan"])})
    assert labels.tolist() == ["city=∅", "city=∅", "city=∅", "city=nan"]
    assert segment_labels({"city": np.array(["Ulm", "Åre"])}).tolist() == ["city=Ulm", "city=Åre"]


def test_without_segment_columns_every_row_is_of_all_rows():
    assert segment_labels({}, rows=3).tolist() == [ALL_ROWS] * 3
    assert segment_labels({}, rows=0).shape == (0,)
    assert segment_labels({"a": objects([])}).shape == (0,)


def test_labels_refuse_what_they_cannot_name():
    with pytest.raises(ValueError, match="the number of rows must be given"):
        segment_labels({})
    with pytest.raises(ValueError, match=r"need one length, found \{'a': 1, 'b': 2\}"):
        segment_labels({"a": objects(["x"]), "b": objects(["x", "y"])})
    with pytest.raises(ValueError, match=r"need one length, found \{'a': 1\} for 5 rows"):
        segment_labels({"a": objects(["x"])}, rows=5)
    with pytest.raises(ValueError, match="segment column 'a': expected str, found 7"):
        segment_labels({"a": objects(["x", 7])})
    with pytest.raises(ValueError, match="segment column 'a' must be one-dimensional"):
        segment_labels({"a": np.array([["x"]], dtype=object)})


def test_a_million_rows_are_labelled_and_looked_up_in_a_moment():
    rng = np.random.default_rng(5)
    pools = (objects([f"{98000 + i}" for i in range(80)]), objects([f"{i}" for i in range(12)]))
    columns = {name: pool[rng.integers(0, len(pool), 1_000_000)] for name, pool in zip("zg", pools, strict=True)}
    start = time.process_time()
    labels = segment_labels(columns)
    calibration = fit(rng.exponential(size=1_000_000), labels, LEVELS, min_segment_rows=100)
    quantiles, used = calibration.quantiles_for(labels)
    assert time.process_time() - start < 6.0, "about 0.5 s is usual; this allows for a busy machine"
    assert quantiles.shape == (1_000_000, 2)
    assert set(used) == set(labels)


# --- fit and look-up --------------------------------------------------------------------------------------------------


@given(calibration_rows)
def test_every_segment_has_the_quantiles_of_its_own_rows(rows):
    calibration = fitted(rows)
    labels = {label for label, _ in rows}
    assert set(calibration.quantiles) == labels | {parent(label) for label in labels} | {ALL_ROWS}
    for label, (count, quantiles) in calibration.quantiles.items():
        own = [score for name, score in rows if label in (name, parent(name), ALL_ROWS)]
        assert count == len(own)
        assert list(quantiles) == conformal_quantiles(own, LEVELS).tolist()


@given(calibration_rows, st.integers(1, 20), st.lists(st.sampled_from(["", "a=1", "a=2", "new=1"]), max_size=10))
def test_lookup_is_the_rule_row_by_row(rows, least, asked):
    calibration = fitted(rows, least)
    quantiles, used = calibration.quantiles_for(objects(asked))
    assert quantiles.shape == (len(asked), 2)
    whole = calibration.quantiles[ALL_ROWS]
    for label, values_, source in zip(asked, quantiles.tolist(), used, strict=True):
        own = calibration.quantiles.get(label, SegmentQuantiles(0, (np.inf, np.inf)))
        emptier = any(np.isinf(q) and np.isfinite(w) for q, w in zip(own.quantiles, whole.quantiles, strict=True))
        assert source == (label if own.rows >= least and not emptier else ALL_ROWS)
        assert tuple(values_) == calibration.quantiles[source].quantiles


@given(calibration_rows, st.randoms(use_true_random=False))
def test_order_of_calibration_rows_does_not_matter(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert fitted(rows) == fitted(shuffled)
    assert fitted(rows).version == fitted(shuffled).version
    assert json.dumps(fitted(rows).to_dict()) == json.dumps(fitted(shuffled).to_dict())


@given(calibration_rows, st.permutations([0.5, 0.8, 0.9, 0.95]), st.integers(1, 12))
def test_a_higher_level_never_gets_a_narrower_interval(rows, levels, least):
    quantiles, _ = fitted(rows, least, levels).quantiles_for(objects(["", "a=1", "a=2", "a=∅", "new"]))
    rising = quantiles[:, np.argsort(levels)]
    assert (rising[:, :-1] <= rising[:, 1:]).all()


def test_a_segment_below_the_minimum_uses_all_rows():
    scores = [*np.arange(1.0, 20.0), *np.arange(101.0, 121.0)]
    calibration = fit(scores, ["small"] * 19 + ["large"] * 20, LEVELS, min_segment_rows=20)
    quantiles, used = calibration.quantiles_for(["small", "large", "unseen", ALL_ROWS])
    assert used.tolist() == [ALL_ROWS, "large", ALL_ROWS, ALL_ROWS]
    assert quantiles[0].tolist() == quantiles[2].tolist() == conformal_quantiles(scores, LEVELS).tolist()
    assert quantiles[1].tolist() == [117.0, 119.0]
    assert calibration.quantiles["small"] == (19, (16.0, 18.0)), "what the segment would have used stays visible"


def test_a_segment_too_small_for_one_level_uses_all_rows_at_every_level():
    scores = [*np.arange(1.0, 9.0), *np.arange(101.0, 121.0)]
    calibration = fit(scores, ["eight"] * 8 + ["twenty"] * 20, LEVELS, min_segment_rows=1)
    assert calibration.quantiles["eight"] == (8, (8.0, np.inf))
    assert calibration.label_used("eight") == ALL_ROWS


def test_a_segment_stays_itself_where_all_rows_together_are_no_better():
    calibration = fit([1.0, 2.0, 3.0, 4.0, 5.0], ["a"] * 4 + ["b"], LEVELS, min_segment_rows=1)
    assert calibration.label_used("a") == "a"
    assert calibration.quantiles["a"].quantiles == (4.0, np.inf)
    assert calibration.label_used("b") == ALL_ROWS


def test_an_empty_calibration_set_is_all_infinite():
    calibration = fit([], [], LEVELS, min_segment_rows=100)
    assert calibration.quantiles == {ALL_ROWS: (0, (np.inf, np.inf))}
    quantiles, used = calibration.quantiles_for(["any", ALL_ROWS])
    assert np.isposinf(quantiles).all()
    assert used.tolist() == [ALL_ROWS, ALL_ROWS]
    assert calibration.quantiles_for([])[0].shape == (0, 2)


def test_fit_refuses_bad_rows():
    with pytest.raises(ValueError, match="1 of 2 conformity scores are NaN"):
        fit([1.0, np.nan], ["a", "a"], LEVELS, min_segment_rows=1)
    with pytest.raises(ValueError, match="scores have shape"):
        fit([1.0], ["a", "a"], LEVELS, min_segment_rows=1)
    with pytest.raises(ValueError, match="labels: expected str, found None"):
        fit([1.0], objects([None]), LEVELS, min_segment_rows=1)
    with pytest.raises(ValueError, match=r"level 1\.0"):
        fit([1.0], ["a"], (0.8, 1.0), min_segment_rows=1)


# --- the record -------------------------------------------------------------------------------------------------------


@given(calibration_rows, st.lists(awkward, max_size=2))
def test_json_round_trip_is_exact(rows, columns):
    scores, labels = [s for _, s in rows], objects([c for c, _ in rows])
    calibration = fit(scores, labels, (0.9, 0.5), min_segment_rows=7, segment_columns=columns)
    text = json.dumps(calibration.to_dict(), allow_nan=False)
    again = Calibration.from_dict(json.loads(text))
    assert again == calibration
    assert again.version == calibration.version
    assert json.dumps(again.to_dict(), allow_nan=False) == text


def test_infinite_quantiles_are_the_text_inf():
    data = fit([], [], (0.9,), min_segment_rows=1).to_dict()
    assert data["quantiles"] == {"": {"rows": 0, "quantiles": ["inf"]}}


def test_version_follows_the_content():
    base = fit([1.0, 2.0, 3.0, 4.0], ["a"] * 4, (0.5,), min_segment_rows=1)
    assert len(base.version) == 12
    assert set(base.version) <= set("0123456789abcdef")
    others = [
        fit([1.0, 2.0, 3.0000000000000004, 4.0], ["a"] * 4, (0.5,), min_segment_rows=1),
        fit([1.0, 2.0, 3.0, 4.0], ["b"] * 4, (0.5,), min_segment_rows=1),
        fit([1.0, 2.0, 3.0, 4.0], ["a"] * 4, (0.5,), min_segment_rows=2),
        fit([1.0, 2.0, 3.0, 4.0], ["a"] * 4, (0.6,), min_segment_rows=1),
        fit([1.0, 2.0, 3.0, 4.0], ["a"] * 4, (0.5,), min_segment_rows=1, segment_columns=("a",)),
    ]
    assert len({base.version, *(other.version for other in others)}) == 6


GOOD = {
    "levels": [0.8, 0.9],
    "segment_columns": ["city"],
    "score": "absolute",
    "min_segment_rows": 5,
    "quantiles": {"": {"rows": 9, "quantiles": [1.0, "inf"]}},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "calibration: expected the fields"),
        ({"levels": [0.8, "0.9"]}, "levels: expected float, found '0.9'"),
        ({"levels": [0.8, 0.8]}, "all different"),
        ({"levels": []}, "at least one"),
        ({"levels": [0.8, 1.5]}, "level 1.5"),
        ({"segment_columns": "city"}, "segment_columns: expected list"),
        ({"min_segment_rows": True}, "min_segment_rows: expected int, found True"),
        ({"min_segment_rows": 0}, "min_segment_rows must be at least 1"),
        ({"quantiles": {}}, "all rows together"),
        ({"quantiles": {"": {"rows": 9}}}, r"quantiles\[''\]: expected the fields"),
        ({"quantiles": {"": {"rows": 9.0, "quantiles": [1.0, 2.0]}}}, "rows: expected int"),
        ({"quantiles": {"": {"rows": -1, "quantiles": [1.0, 2.0]}}}, "segment '': -1 rows"),
        ({"quantiles": {"": {"rows": 9, "quantiles": [1.0]}}}, "segment ''"),
        ({"quantiles": {"": {"rows": 9, "quantiles": [1.0, "infinite"]}}}, "expected float, found 'infinite'"),
        ({"quantiles": {"": {"rows": 9, "quantiles": [1.0, float("nan")]}}}, "segment ''"),
        ({"quantiles": {"": {"rows": 9, "quantiles": [2.0, 1.0]}}}, "segment ''"),
    ],
)
def test_a_broken_record_is_refused_by_name(change, message):
    assert Calibration.from_dict(GOOD).label_used("x") == ALL_ROWS
    with pytest.raises(ValueError, match=message):
        Calibration.from_dict({**GOOD, **change})


def test_a_record_with_a_score_that_nobody_has_is_refused():
    with pytest.raises(UserError, match="conformity score 'squared'"):
        Calibration.from_dict({**GOOD, "score": "squared"})


def test_a_record_that_is_no_object_is_refused():
    with pytest.raises(ValueError, match="calibration: expected dict"):
        Calibration.from_dict([1])


def test_a_calibration_is_frozen_and_travels():
    import pickle

    calibration = Calibration.from_dict(GOOD)
    with pytest.raises(dataclasses.FrozenInstanceError):
        calibration.score = "other"
    assert pickle.loads(pickle.dumps(calibration)) == calibration


# --- parents ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(values, values), min_size=1, max_size=5))
def test_the_parent_of_a_label_is_the_label_without_its_last_column(rows):
    columns = {"a=|": objects([a for a, _ in rows]), "b\\": objects([b for _, b in rows])}
    both, first = segment_labels(columns), segment_labels({"a=|": columns["a=|"]})
    assert [parent(label) for label in both] == first.tolist()
    assert {parent(label) for label in first} == {ALL_ROWS}


def family(least: int, shrinkage_rows: float = 0.0) -> Calibration:
    """State a has towns with 30 and 3 rows, state b one with 4."""
    labels = ["state=a|town=x"] * 30 + ["state=a|town=y"] * 3 + ["state=b|town=z"] * 4
    return fit(np.arange(1.0, 38.0), objects(labels), (0.5,), min_segment_rows=least, shrinkage_rows=shrinkage_rows)


def test_a_small_segment_uses_the_nearest_parent_with_enough_rows():
    calibration = family(least=10)
    assert [calibration.label_used(f"state={state}|town={town}") for state, town in ("ax", "ay", "an", "bz", "cq")] == [
        "state=a|town=x",
        "state=a",
        "state=a",
        ALL_ROWS,
        ALL_ROWS,
    ]
    assert calibration.quantiles["state=a"] == SegmentQuantiles(33, (17.0,))
    assert calibration.quantiles[ALL_ROWS] == SegmentQuantiles(37, (19.0,))
    quantiles, used = calibration.quantiles_for(["state=a|town=y", "state=b|town=z"])
    assert (quantiles.tolist(), used.tolist()) == ([[17.0], [19.0]], ["state=a", ALL_ROWS])


def test_shrinkage_moves_quantiles_towards_the_parents_as_rows_would():
    plain, moved = family(least=1), family(least=1, shrinkage_rows=10)
    assert moved.quantiles[ALL_ROWS] == plain.quantiles[ALL_ROWS]
    state = (33 * 17.0 + 10 * 19.0) / 43
    assert moved.quantiles["state=a"].quantiles[0] == pytest.approx(state)
    own = plain.quantiles["state=a|town=y"].quantiles[0]
    assert moved.quantiles["state=a|town=y"].quantiles[0] == pytest.approx((3 * own + 10 * state) / 13)


def test_infinite_quantiles_do_not_shrink():
    labels = objects(["state=a"] * 2 + ["state=b"] * 30)
    moved = fit(np.arange(32.0), labels, (0.9,), min_segment_rows=1, shrinkage_rows=5)
    assert moved.quantiles["state=a"].quantiles == (np.inf,)
    assert np.isfinite(moved.quantiles["state=b"].quantiles[0])


# --- scores of several columns ----------------------------------------------------------------------------------------


def test_each_part_has_the_quantile_of_its_own_column_and_promise():
    scores = np.column_stack([np.arange(1.0, 101.0), -np.arange(1.0, 101.0)])
    calibration = fit(scores, objects(["a=1"] * 100), (0.8,), min_segment_rows=1, score="signed")
    assert calibration.quantiles["a=1"].quantiles == (91.0, -10.0)
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration
    with pytest.raises(ValueError, match="score signed has 2 column"):
        fit(np.ones(5), objects(["a=1"] * 5), (0.8,), min_segment_rows=1, score="signed")
