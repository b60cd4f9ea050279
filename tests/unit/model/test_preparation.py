"""Consumes a model with prepared inputs, checks that its files carry the preparation and guard it."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pyarrow as pa
import pytest

from assay.errors import AssayError
from assay.model.bundle import MANIFEST, PREPARATION, Model, digest_of, manifest_of
from assay.model.carried import Carried
from assay.model.encoding import Encoding
from assay.model.preparation import Components, Preparation

READY = Preparation(
    columns=("size", "price__own__lag_1"),
    missing=("size",),
    low=np.array([-2.0, -np.inf]),
    high=np.array([2.0, 1e4]),
    fill=np.array([0.25, 150.0]),
    centre=np.array([0.5, 100.0]),
    spread=np.array([2.0, 50.0]),
    components=Components(np.array([0.0, 0.1]), np.array([[0.6, 0.8]]), np.array([1.5])),
    keeps_columns=True,
)


@pytest.fixture
def prepared(model, rows):
    import xgboost as xgb

    encoding = dataclasses.replace(model.encoding, numeric=("pca__1", "size__missing", "size"), preparation=READY)
    batch = rows(400)
    target = model.scale.forward(batch.column("price").to_numpy(), batch)
    matrix = xgb.QuantileDMatrix(
        encoding.matrix(batch), target, feature_types=encoding.feature_types, enable_categorical=True
    )
    booster = xgb.train({"max_depth": 3, "nthread": 1, "seed": 7}, matrix, 12)
    return dataclasses.replace(model, stored=bytes(booster.save_raw("ubj")), encoding=encoding)


def test_values_are_clipped_filled_scaled_and_turned_in_that_order():
    found = READY.apply(np.array([[np.nan, 1e6], [-5.0, np.nan], [1.0, 120.0]], dtype=np.float32))
    size = (np.array([0.25, -2.0, 1.0]) - 0.5) / 2
    last = (np.array([1e4, 150.0, 120.0]) - 100) / 50
    expected = np.column_stack([size, last, 0.6 * size + 0.8 * (last - 0.1), [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert READY.outputs == ("size", "price__own__lag_1", "pca__1", "size__missing")


def test_the_model_predicts_the_same_numbers_from_its_files(prepared, rows, tmp_path):
    batch = rows(200, seed=5)
    prepared.save(tmp_path)
    assert sorted(json.loads((tmp_path / MANIFEST).read_text())) == ["booster.ubj", "model.json", PREPARATION]
    again = Model.load(tmp_path, sha256=digest_of(prepared.files[MANIFEST]))
    assert again == prepared
    assert again.files == prepared.files
    np.testing.assert_array_equal(again.predict(batch), prepared.predict(batch))
    np.testing.assert_array_equal(Carried.of(prepared).model().predict(batch), prepared.predict(batch))
    single = np.concatenate([prepared.predict(batch.slice(i, 1)) for i in range(200)])
    np.testing.assert_array_equal(single, prepared.predict(batch))
    assert again.input_columns == ["size", "price__own__lag_1", "city"]
    assert set(again.importance()) <= {"pca__1", "size__missing", "size", "city"}


def test_another_preparation_is_another_model(prepared):
    moved = dataclasses.replace(READY, fill=np.array([0.25, 151.0]))
    other = dataclasses.replace(prepared, encoding=dataclasses.replace(prepared.encoding, preparation=moved))
    assert other.version != prepared.version
    assert other != prepared


def test_a_preparation_that_is_missing_changed_or_a_pickle_is_refused(prepared, tmp_path):
    prepared.save(tmp_path)
    content = prepared.files[PREPARATION]
    (tmp_path / PREPARATION).write_bytes(content[:-9] + b"!" + content[-8:])
    with pytest.raises(AssayError, match=r"preparation\.npz was changed"):
        Model.load(tmp_path)
    files = {name: held for name, held in prepared.files.items() if name not in (PREPARATION, MANIFEST)}
    (tmp_path / MANIFEST).write_bytes(manifest_of(files))
    with pytest.raises(AssayError, match=r"preparation\.npz is named by no manifest"):
        Model.load(tmp_path)
    (tmp_path / PREPARATION).unlink()
    with pytest.raises(AssayError, match=r"preparation\.npz is missing"):
        Model.load(tmp_path)
    pickled = io.BytesIO()
    np.savez(pickled, fill=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / PREPARATION).write_bytes(pickled.getvalue())
    files[PREPARATION] = pickled.getvalue()
    (tmp_path / MANIFEST).write_bytes(manifest_of(files))
    with pytest.raises(AssayError, match=r"preparation\.npz cannot be read; refusing"):
        Model.load(tmp_path)


def test_nothing_but_missing_values_and_infinite_ones_give_finite_predictions(prepared):
    bad = pa.record_batch(
        {
            "size": pa.array([None, np.inf, -np.inf, 3e38], pa.float32()),
            "price__own__lag_1": pa.array([None, None, np.inf, -3e38], pa.float32()),
            "city": pa.array([None, "Nowhere", "Austin", None], pa.string()),
        }
    )
    assert np.isfinite(prepared.encoding.matrix(bad)[:, :3]).all()
    assert np.isfinite(prepared.predict(bad)).all()


def test_a_model_without_a_preparation_has_no_trace_of_one(model):
    assert PREPARATION not in model.files
    assert "preparation" not in json.loads(model.files["model.json"])
    assert Encoding(("a", "b"), {}).columns == Encoding(("a", "b"), {}).features
