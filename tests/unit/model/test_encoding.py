"""Consumes batches in any make-up, checks that one vocabulary gives every value one code, after any journey."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.config import canonical_json
from assay.model.encoding import Encoding

names = st.text(min_size=1, max_size=8)
vocabularies = st.dictionaries(names, st.sets(names, max_size=6), min_size=1, max_size=5)
CITY = Encoding(("size",), {"city": ("Austin", "Dallas", "Waco")})


def batch(cities, sizes=None):
    sizes = sizes if sizes is not None else [1.0] * len(cities)
    column = cities if isinstance(cities, pa.Array) else pa.array(cities, pa.string())
    return pa.record_batch({"city": column, "size": pa.array(sizes, pa.float32())})


@given(vocabularies, st.lists(names, unique=True, max_size=5))
def test_order_survives_json_that_sorts_its_keys(vocabulary, numeric):
    encoding = Encoding(tuple(numeric), {name: tuple(sorted(values)) for name, values in vocabulary.items()})
    again = Encoding.from_dict(json.loads(canonical_json(encoding.to_dict())))
    assert again == encoding
    assert again.columns == encoding.columns
    assert list(again.categories) == list(encoding.categories)


def test_columns_that_json_would_sort_keep_their_place_in_the_matrix():
    encoding = Encoding((), {"zone": ("a", "b"), "area": ("x", "y")})
    again = Encoding.from_dict(json.loads(canonical_json(encoding.to_dict())))
    rows = pa.record_batch({"area": pa.array(["y", "x"]), "zone": pa.array(["a", "b"])})
    assert again.matrix(rows).tolist() == encoding.matrix(rows).tolist() == [[0, 1], [1, 0]]


def test_codes_are_positions_and_unseen_and_missing_values_are_nan():
    found = CITY.matrix(batch(["Waco", "Austin", None, "Lufkin", ""]))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, 1], [2, 0, np.nan, np.nan, np.nan])


def test_a_matrix_by_columns_is_the_one_by_rows_and_so_is_one_of_many_rows():
    price = np.random.default_rng(7).normal(size=5000)
    price[[3, 4000]] = np.inf, np.nan
    told = batch(["Waco", "Reno"] * 2500, price)
    rows, columns = CITY.matrix(told), CITY.matrix(told, order="F")
    assert rows.flags.c_contiguous
    assert columns.flags.f_contiguous
    np.testing.assert_array_equal(rows, columns)
    np.testing.assert_array_equal(rows[:, 0], np.where(np.isinf(price), np.nan, price).astype(np.float32))


def test_missing_and_infinite_numbers_are_nan():
    found = CITY.matrix(batch(["Waco"] * 5, [1.5, None, np.nan, np.inf, -np.inf]))
    np.testing.assert_array_equal(found[:, 0], [1.5, np.nan, np.nan, np.nan, np.nan])


@given(st.permutations(["Austin", "Dallas", "Waco", "Lufkin"]), st.lists(st.integers(0, 3), max_size=20))
def test_batches_with_any_dictionary_order_give_equal_codes(dictionary, indices):
    plain = pa.array([dictionary[i] for i in indices], pa.string())
    packed = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(dictionary, pa.string()))
    np.testing.assert_array_equal(CITY.matrix(batch(packed)), CITY.matrix(batch(plain)))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_every_text_type_of_arrow_is_understood(kind):
    cities = pa.array(["Dallas", None, "Waco"], pa.string()).cast(kind)
    np.testing.assert_array_equal(CITY.matrix(batch(cities))[:, 1], [1, np.nan, 2])


def test_doubles_are_rounded_to_the_floats_that_training_saw():
    double = pa.record_batch({"size": pa.array([0.1], pa.float64()), "city": pa.array(["Waco"])})
    np.testing.assert_array_equal(CITY.matrix(double), CITY.matrix(batch(["Waco"], [0.1])))


def test_a_batch_without_rows_and_an_encoding_without_categories():
    assert CITY.matrix(batch([])).shape == (0, 2)
    assert Encoding(("size",), {}).matrix(batch(["Waco"])).shape == (1, 1)
    assert CITY.feature_types == ["q", "c"]
