"""Consumes a registered version with every kind of file, checks that a changed bit of any is refused by every load."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest

from assay.errors import AssayError
from assay.model.bundle import MANIFEST, verified_files
from assay.model.encoding import Encoding
from assay.model.files import FILES, listing, problems
from assay.model.preparation import Preparation
from assay.model.registry import champion, load_registered, load_trained
from small_models import SmallRegistry, feature_rows

PREPARATION = Preparation(columns=("size", "price__own__lag_1"), fill=np.array([0.25, 150.0]))
PARTS = ["booster.ubj", "calibration.json", "manifest.json", "model.json", "preparation.npz"]
OWN = ["MLmodel", "conda.yaml", "input_example.json", "pyfunc.py", "python_env.yaml", "requirements.txt"]
OWN += ["serving_input_example.json"]
EVERY = [*OWN, *(f"artifacts/{part}/{name}" for part in ("bundle", "tested") for name in PARTS)]
NAME = r"model towns\.price version 1 \(1\.0\.0\)"


@pytest.fixture(scope="module")
def registered(tmp_path_factory, empty_store, model):
    """A registry with one version: its model is prepared, and another one was tested. (registry, folder, trained)."""
    workspace = tmp_path_factory.mktemp("registered")
    shutil.copy(empty_store, workspace / "mlflow.db")
    encoding = Encoding(model.encoding.numeric, model.encoding.categories, PREPARATION)
    registry = SmallRegistry(workspace, model)
    trained = registry.train(registry.changed(encoding=encoding), served=registry.changed(encoding=encoding))
    registry.register(trained)
    ((folder,),) = [list((workspace / "mlartifacts" / "models").glob("*/artifacts"))]
    return registry, folder, trained


@contextlib.contextmanager
def flipped(path, place=0.5):
    """One bit of a file is another one while the block lasts."""
    content = path.read_bytes()
    at = int(place * len(content))
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    try:
        yield
    finally:
        path.write_bytes(content)


def everything(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}


def test_the_list_names_every_file_that_was_registered(registered):
    assert everything(registered[1]) - {"registered_model_meta"} == {*EVERY, FILES}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("place", [0.0, 0.5, 0.999])
def test_one_flipped_bit_is_refused_with_model_version_and_file(registered, name, place):
    registry, folder, _ = registered
    with flipped(folder / name, place):
        with pytest.raises(AssayError, match=rf"^{NAME}: file {name} was changed after it was saved; refusing"):
            champion(registry.tracking, "price")
        with pytest.raises(AssayError, match=f"file {name} was changed"):
            load_registered("models:/towns.price@1.0.0", registry.tracking.uri)
    assert champion(registry.tracking, "price").number == "1"


def test_a_changed_list_and_a_missing_one_are_refused(registered):
    registry, folder, _ = registered
    with (
        flipped(folder / FILES),
        pytest.raises(AssayError, match=rf"^{NAME}: file files\.json is not the one on record"),
    ):
        champion(registry.tracking, "price")
    (folder / FILES).rename(folder.parent / "away")
    try:
        with pytest.raises(AssayError, match=rf"^{NAME}: file files\.json is missing"):
            champion(registry.tracking, "price")
    finally:
        (folder.parent / "away").rename(folder / FILES)


def test_a_list_that_was_made_to_fit_changed_files_is_refused_by_the_hash_on_record(registered):
    registry, folder, _ = registered
    kept = (folder / FILES).read_bytes()
    with flipped(folder / "artifacts/bundle/booster.ubj"):
        (folder / FILES).write_bytes(listing(folder))
        try:
            assert problems(folder) == []
            with pytest.raises(AssayError, match="is not the one on record"):
                champion(registry.tracking, "price")
        finally:
            (folder / FILES).write_bytes(kept)


@pytest.mark.parametrize("name", ["more.py", "artifacts/bundle/more.npz", "artifacts/tested/booster.ubj.bak", "x/y"])
def test_a_file_that_no_list_names_is_refused(registered, name):
    registry, folder, _ = registered
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("import os", encoding="utf-8")
    try:
        with pytest.raises(AssayError, match=rf"^{NAME}: file {name} is in no list of the model's files; refusing"):
            champion(registry.tracking, "price")
    finally:
        (folder / name).unlink()


@pytest.mark.parametrize("name", ["pyfunc.py", "artifacts/bundle/booster.ubj", "artifacts/tested/calibration.json"])
def test_a_missing_file_is_refused_by_name(registered, name):
    registry, folder, _ = registered
    (folder / name).rename(folder.parent / "away")
    try:
        with pytest.raises(AssayError, match=rf"^{NAME}: file {name} is missing; refusing to load it"):
            champion(registry.tracking, "price")
    finally:
        (folder.parent / "away").rename(folder / name)


def test_a_version_whose_files_are_all_gone_says_so(registered):
    registry, folder, _ = registered
    folder.rename(folder.parent / "away")
    try:
        with pytest.raises(AssayError, match=rf"^{NAME}: its files cannot be read"):
            champion(registry.tracking, "price")
    finally:
        (folder.parent / "away").rename(folder)


@pytest.mark.parametrize("name", [*EVERY, FILES])
def test_mlflows_own_load_refuses_a_flipped_bit_too(registered, name):
    path = registered[1] / name
    # Elsewhere in these two MLflow or Python themselves stumble, before anybody can ask for hashes.
    harmless = {"MLmodel": b"utc_time_created: '20", "pyfunc.py": b"nothing of the model"}.get(name, b"")
    place = (path.read_bytes().index(harmless) + len(harmless)) / path.stat().st_size if harmless else 0.5
    with flipped(path, place), pytest.raises(AssayError) as caught:
        mlflow.pyfunc.load_model("models:/towns.price/1")
    assert str(caught.value).startswith("model towns.price version 1: file ")
    assert (name in str(caught.value)) or name == FILES
    assert "refusing to load it" in str(caught.value)


def test_what_mlflow_and_python_leave_beside_a_model_does_not_stop_its_next_load(registered):
    registry, folder, _ = registered
    served = mlflow.pyfunc.load_model("models:/towns.price/1")
    assert (folder / "registered_model_meta").is_file()
    (folder / "__pycache__").mkdir(exist_ok=True)
    (folder / "__pycache__" / "pyfunc.cpython-311.pyc").write_bytes(b"compiled")
    found = champion(registry.tracking, "price")
    batch = feature_rows(20, seed=3)
    np.testing.assert_array_equal(served.predict(batch.to_pandas())["prediction"], found.model.predict(batch))
    shutil.rmtree(folder / "__pycache__")


@pytest.mark.parametrize("name", [name for name in PARTS if name != "calibration.json"])
@pytest.mark.parametrize("which", ["bundle", "bundle_served"])
def test_a_flipped_bit_of_a_training_runs_models_is_refused_with_run_and_file(registered, which, name):
    registry, _, trained = registered
    path = registry.workspace / "mlartifacts" / trained.run_id / "artifacts" / which / name
    said = "manifest.json is not the one on record" if name == MANIFEST else f"file {name} was changed"
    with flipped(path), pytest.raises(AssayError, match=f"^{which} of training run {trained.run_id}: {said}"):
        load_trained(registry.tracking, trained.run_id)
    assert load_trained(registry.tracking, trained.run_id).serves == trained.serves


def test_a_file_beside_a_training_runs_model_is_refused(registered):
    registry, _, trained = registered
    path = registry.workspace / "mlartifacts" / trained.run_id / "artifacts" / "bundle" / "more.npz"
    path.write_bytes(b"more")
    try:
        with pytest.raises(AssayError, match=r"file more\.npz is named by no manifest; refusing to load it"):
            load_trained(registry.tracking, trained.run_id)
    finally:
        path.unlink()


def test_every_problem_of_a_folder_is_told(tmp_path):
    for name in ("a", "b", "sub/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    (tmp_path / FILES).write_bytes(listing(tmp_path))
    assert problems(tmp_path) == []
    (tmp_path / "a").unlink()
    (tmp_path / "sub/c").write_text("other", encoding="utf-8")
    (tmp_path / "d").symlink_to(Path("/etc/hostname"))
    assert problems(tmp_path) == [
        "file a is missing",
        "file sub/c was changed after it was saved",
        "file d is in no list of the model's files",
    ]


@pytest.mark.parametrize("content", ["[]", "null", "not json", ""])
def test_a_list_that_lists_nothing_is_refused(tmp_path, content):
    (tmp_path / FILES).write_text(content, encoding="utf-8")
    assert problems(tmp_path) == ["file files.json was changed after it was saved"]


def test_files_beside_a_model_are_refused_unless_they_are_expected(model, tmp_path):
    model.save(tmp_path)
    (tmp_path / "calibration.json").write_text("{}", encoding="utf-8")
    assert set(verified_files(tmp_path, beside=("calibration.json",))) == set(model.files)
    with pytest.raises(AssayError, match=r"file calibration\.json is named by no manifest"):
        verified_files(tmp_path)
