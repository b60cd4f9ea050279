"""Consumes a calibrated model and a real MLflow store, checks what is registered, championed, verified and served."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from assay.config import load_run
from assay.conformal.intervals import score_batch
from assay.conformal.job import PYFUNC
from assay.errors import AssayError, DataError
from assay.model.bundle import MANIFEST, digest_of
from assay.model.registry import (
    TrainedRun,
    champion,
    champion_before,
    load_trained,
    register,
    registered_name,
)
from assay.model.versions import CHAMPION
from assay.runtime.tracking import Tracking

DATASET = {
    "name": "towns",
    "source": {"path": "towns.csv"},
    "time": {"column": "day"},
    "entity": ["city"],
    "targets": [{"name": "price"}],
}


@pytest.fixture
def tracking(workspace):
    path = workspace / "towns.yml"
    path.write_text(yaml.safe_dump(DATASET), encoding="utf-8")
    return Tracking(load_run(dataset=path, workspace=workspace))


@pytest.fixture
def trained(tracking, model):
    with tracking.run("train", "t1") as run_id:
        tracking.finish("done")
    return TrainedRun(run_id, "price", model, registered_name("towns", "price"))


@pytest.fixture
def registered(tracking, trained, calibration):
    with tracking.run("calibrate", "c1"):
        return register(tracking, trained, calibration.to_dict(), calibration.version, PYFUNC)


def artifacts(tracking):
    return Path(tracking.config.workspace) / "mlartifacts"


def test_the_champion_is_the_registered_model_with_its_calibration(tracking, trained, registered, calibration, rows):
    found = champion(tracking, "price")
    assert (found.number, found.run_id) == (registered, trained.run_id) == ("1", trained.run_id)
    assert found.model.version == trained.model.version
    assert found.calibration == calibration.to_dict()
    assert found.calibration_version == calibration.version
    batch = rows(50, seed=8)
    np.testing.assert_array_equal(found.model.predict(batch), trained.model.predict(batch))


def test_an_equal_model_is_not_registered_twice_but_made_champion_again(
    tracking, trained, registered, calibration, retrained
):
    other = TrainedRun(trained.run_id, "price", retrained(rounds=13), trained.registered_name)
    with tracking.run("calibrate", "c2"):
        assert register(tracking, other, calibration.to_dict(), calibration.version, PYFUNC) == "2"
    assert champion(tracking, "price").number == "2"
    with tracking.run("calibrate", "c3"):
        assert register(tracking, trained, calibration.to_dict(), calibration.version, PYFUNC) == registered
    assert champion(tracking, "price").number == registered
    assert len(tracking.client.search_model_versions("name = 'towns.price'")) == 2


def test_the_champion_before_is_the_version_registered_before_a_run(
    tracking, trained, registered, calibration, retrained, rows
):
    assert champion_before(tracking, "price", trained.run_id) is None
    with tracking.run("train", "t2") as run_id:
        tracking.finish("done")
    other = TrainedRun(run_id, "price", retrained(rounds=13), trained.registered_name)
    with tracking.run("calibrate", "c2"):
        register(tracking, other, calibration.to_dict(), calibration.version, PYFUNC)
    found = champion_before(tracking, "price", run_id)
    assert (found.number, found.run_id) == (registered, trained.run_id)
    batch = rows(50, seed=8)
    np.testing.assert_array_equal(found.judged.predict(batch), trained.model.predict(batch))
    assert champion_before(tracking, "price", "no such run") is None
    assert champion_before(tracking, "weight", run_id) is None


def test_mlflow_serves_the_same_numbers_as_the_scoring_kernel(tracking, registered, model, calibration, rows):
    batch = rows(300, seed=9)
    served = tracking.mlflow.pyfunc.load_model(f"models:/towns.price@{CHAMPION}")
    found = served.predict(batch.to_pandas())
    expected = score_batch(model, calibration, batch)
    assert list(found.columns) == ["prediction", "lower_80", "upper_80", "lower_90", "upper_90"]
    for name in found.columns:
        np.testing.assert_array_equal(found[name].to_numpy(), expected[name])


def test_signature_and_example_say_what_goes_in_and_what_comes_out(tracking, registered):
    info = tracking.mlflow.models.get_model_info(f"models:/towns.price/{registered}")
    assert info.signature.inputs.input_names() == ["size", "price__own__lag_1", "city"]
    assert info.signature.outputs.input_names() == ["prediction", "lower_80", "upper_80", "lower_90", "upper_90"]
    example = tracking.mlflow.pyfunc.load_model(f"models:/towns.price/{registered}").input_example
    assert list(example.columns) == ["size", "price__own__lag_1", "city"]


def test_nothing_among_the_artifacts_is_a_pickle(tracking, registered):
    files = [path for path in artifacts(tracking).rglob("*") if path.is_file()]
    assert {"booster.ubj", "model.json", "manifest.json", "calibration.json", "MLmodel"} <= {p.name for p in files}
    assert not [p for p in files if p.suffix in {".pkl", ".pickle", ".joblib", ".cloudpickle"}]
    assert not [p for p in files if p.read_bytes()[:2] in {b"\x80\x03", b"\x80\x04", b"\x80\x05"}]


def test_without_a_champion_the_error_says_what_to_run(tracking):
    with pytest.raises(DataError, match=r"no model of towns\.price is registered: run the job train first"):
        champion(tracking, "price")
    tracking.client.create_registered_model("towns.price")  # a run that died before it set the alias
    with pytest.raises(DataError, match=r"no model of towns\.price is registered"):
        champion(tracking, "price")


def test_a_registry_that_fails_is_not_mistaken_for_an_empty_one(tracking):
    class Broken:
        def get_model_version_by_alias(self, *_):
            raise tracking.mlflow.MlflowException("the server is away")

    tracking.client = Broken()
    with pytest.raises(tracking.mlflow.MlflowException, match="the server is away"):
        champion(tracking, "price")


def test_a_training_runs_model_is_checked_against_the_runs_own_tag(tracking, model, tmp_path):
    model.save(tmp_path / "files")
    with tracking.run("train", "t2") as run_id:
        tracking.folder(tmp_path / "files", "bundle")
        tracking.tags({"assay.target": "price", "assay.model_sha256": digest_of(model.files[MANIFEST])})
    assert load_trained(tracking, run_id).model == model
    tracking.client.set_tag(run_id, "assay.model_sha256", "0" * 64)
    with pytest.raises(AssayError, match="not the one on record"):
        load_trained(tracking, run_id)


def test_names_that_mlflow_cannot_hold_are_changed_and_kept_apart():
    assert registered_name("towns", "price") == "towns.price"
    assert registered_name("towns", "Prix médian") == "towns.Prix médian"
    odd = [registered_name("towns", f"a{mark}b") for mark in "/:'\"?#%@"]
    assert len(set(odd)) == len(odd)
    assert all(name.startswith("towns.a_b-") for name in odd)


def test_the_calibration_on_disk_is_plain_json(tracking, registered, calibration):
    (path,) = artifacts(tracking).rglob("artifacts/bundle/calibration.json")
    assert json.loads(path.read_text(encoding="utf-8")) == calibration.to_dict()
