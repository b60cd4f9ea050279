"""Consumes a trained model, checks that its files give the same model anywhere, and that a changed file is refused."""

from __future__ import annotations

import dataclasses
import json
import pickle
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, UserError
from assay.model.bundle import DESCRIPTION, MANIFEST, Model, digest_of, manifest_of, verified_files
from assay.model.carried import Carried

FILES = ["booster.ubj", DESCRIPTION, MANIFEST]


@pytest.fixture
def saved(model, tmp_path):
    folder = tmp_path / "bundle"
    model.save(folder)
    return folder


def test_a_saved_model_predicts_the_same_numbers_and_has_the_same_version(model, rows, saved):
    batch = rows(200, seed=5)
    again = Model.load(saved, sha256=digest_of(model.files[MANIFEST]))
    np.testing.assert_array_equal(again.predict(batch), model.predict(batch))
    assert again.version == model.version
    assert again.files == model.files
    assert again == model
    assert again.importance() == model.importance()


def test_it_is_data_alone(saved):
    assert sorted(path.name for path in saved.iterdir()) == sorted(FILES)
    for name in (DESCRIPTION, MANIFEST):
        json.loads((saved / name).read_text(encoding="utf-8"))
    assert (saved / "booster.ubj").read_bytes().startswith(b"{")  # UBJSON, no pickle


def test_equal_models_have_equal_versions_and_any_difference_shows(model, retrained):
    assert retrained().version == model.version
    assert retrained(rounds=13).version != model.version
    assert len(model.version) == 12


@pytest.mark.parametrize("recorded", [True, False], ids=["hash on record", "manifest alone"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.sampled_from(FILES), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_one_changed_byte_in_any_file_is_refused(model, saved, recorded, name, place, flip):
    content = bytearray((saved / name).read_bytes())
    original = bytes(content)
    content[int(place * len(content))] ^= flip
    (saved / name).write_bytes(bytes(content))
    try:
        with pytest.raises(AssayError, match=r"^model in bundle: .*; refusing to load it$") as caught:
            Model.load(saved, sha256=digest_of(model.files[MANIFEST]) if recorded else None)
        assert recorded or name == MANIFEST or name in str(caught.value)
    finally:
        (saved / name).write_bytes(original)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_name(saved, name):
    (saved / name).unlink()
    with pytest.raises(AssayError, match=f"{name} is missing; refusing to load it"):
        Model.load(saved)


@pytest.mark.parametrize("name", ["../secret.txt", "sub/secret.txt", "/etc/hostname", "..", ".", ""])
def test_a_manifest_that_leads_out_of_the_folder_is_refused(model, saved, name):
    for place in (saved.parent / "secret.txt", saved / "sub" / "secret.txt"):
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"secret")
    listed = {**json.loads(model.files[MANIFEST]), name: digest_of(b"secret")}
    (saved / MANIFEST).write_text(json.dumps(listed), encoding="utf-8")
    with pytest.raises(AssayError, match="no file of the model's own folder; refusing"):
        verified_files(saved)


@pytest.mark.parametrize("manifest", ["[]", "null", '"x"', "{}", "not json", ""])
def test_a_manifest_that_lists_no_model_is_refused(saved, manifest):
    (saved / MANIFEST).write_text(manifest, encoding="utf-8")
    with pytest.raises(AssayError, match=r"manifest\.json was changed after it was saved; refusing"):
        Model.load(saved)


def test_another_models_files_are_refused_by_the_hash_on_record(model, retrained, saved):
    retrained(rounds=13).save(saved)
    Model.load(saved)
    with pytest.raises(AssayError, match="not the one on record"):
        Model.load(saved, sha256=digest_of(model.files[MANIFEST]))


def test_a_learner_that_nothing_here_knows_is_refused_and_its_module_is_not_imported(model, saved):
    description = json.loads(model.files[DESCRIPTION]) | {"engine": "oracle", "extension": "antigravity"}
    files = {"booster.ubj": model.stored, DESCRIPTION: json.dumps(description).encode()}
    for name, content in {**files, MANIFEST: manifest_of(files)}.items():
        (saved / name).write_bytes(content)
    with pytest.raises(UserError, match=r"engine 'oracle', of module antigravity, is none of assay's own .*extensions"):
        Model.load(saved)
    assert "antigravity" not in sys.modules


def test_a_model_without_its_learner_is_refused(model, saved):
    files = {DESCRIPTION: model.files[DESCRIPTION]}
    (saved / MANIFEST).write_bytes(manifest_of(files))
    with pytest.raises(AssayError, match=r"booster\.ubj is named by no manifest"):
        Model.load(saved)
    (saved / "booster.ubj").unlink()
    with pytest.raises(AssayError, match=r"booster\.ubj is missing"):
        Model.load(saved)


def test_predictions_are_in_the_targets_unit_and_finite_for_missing_and_unseen_values(model, rows):
    batch = rows(300, seed=6)
    np.testing.assert_allclose(model.predict(batch), model.scale.inverse(model.predict_scaled(batch), batch))
    assert np.isfinite(model.predict(batch)).all()
    assert model.predict(batch.slice(0, 0)).shape == (0,)
    assert model.input_columns == ["size", "price__own__lag_1", "city"]


def test_importance_names_columns_greatest_first(model):
    found = model.importance()
    assert set(found) <= set(model.encoding.columns)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_shares_of_importance_sum_to_one_and_there_are_none_where_a_learner_cannot_say(model):
    worth, shares = model.importance(), model.importance_shares()
    assert len(shares) > 1
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares) == list(worth)
    assert [shares[name] * worth["city"] for name in worth] == pytest.approx(
        [worth[name] * shares["city"] for name in worth]
    )
    for told in ({}, {0: 0.0}):
        silent = dataclasses.replace(model)
        silent.__dict__["predictor"] = type("Silent", (), {"importance": lambda _, told=told: told})()
        assert silent.importance_shares() == {}


def test_a_carried_model_drags_no_booster_along_and_is_loaded_once_per_process(model, rows):
    batch = rows(50, seed=7)
    expected = model.predict(batch)  # the booster is loaded now
    packed = pickle.dumps(Carried.of(model))
    assert b"xgboost.core" not in packed
    first, second = (pickle.loads(packed).model() for _ in range(2))
    assert first is second
    np.testing.assert_array_equal(first.predict(batch), expected)


def test_a_carried_model_is_verified_too(model):
    changed = {**model.files, "booster.ubj": model.stored[:-1] + b"!"}
    assert changed["booster.ubj"] != model.stored
    with pytest.raises(AssayError, match=r"booster\.ubj was changed"):
        Carried(changed, threads=2).model()


def test_a_slope_takes_predictions_so_far_from_the_last_known_value(model, rows, tmp_path):
    """Rows without one are predicted as they were learned."""
    batch = rows(300, seed=8)
    last = batch.column("price__own__lag_1").to_numpy(zero_copy_only=False).astype(float)
    known = np.isfinite(last)
    assert known.sum() > 200
    assert (~known).sum() > 10
    half, none = (dataclasses.replace(model, slope=slope) for slope in (0.5, 0.0))
    np.testing.assert_allclose(half.predict(batch)[known], np.sqrt(last * model.predict(batch))[known])
    np.testing.assert_allclose(none.predict(batch)[known], last[known])
    np.testing.assert_array_equal(none.predict(batch)[~known], model.predict(batch)[~known])
    half.save(tmp_path)
    again = Model.load(tmp_path)
    assert again == half
    np.testing.assert_array_equal(again.predict(batch), half.predict(batch))
    assert half.version != model.version
    assert b"slope" not in model.files[DESCRIPTION]
