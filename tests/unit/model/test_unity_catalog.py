"""Consumes a registry that refuses what Unity Catalog refuses, checks that models are registered and found there.

No workspace is at hand: MLflow's own store of SQL stands in for it, with the rules that MLflow's client of Unity
Catalog and its documentation state: three-part names in lower case, keys of tags without punctuation, searches by name
alone, in pages, whose versions have neither tags nor aliases, files that are asked of the registry, and no stages.
"""

from __future__ import annotations

import re
import shutil

import mlflow
import pytest
from mlflow.entities.model_registry.model_version_search import ModelVersionSearch
from mlflow.exceptions import MlflowException
from mlflow.store.artifact import models_artifact_repo
from mlflow.store.entities import PagedList
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking._model_registry import utils as registries

from assay.config import load_run
from assay.deployment.registry_verify import version_problems
from assay.errors import ConfigError, PreflightError, UserError
from assay.model import registry as models
from assay.model.stored import remove_version
from assay.model.versions import PREVIOUS, make_champion, versions_of
from assay.runtime import mlflow_client, tracking
from assay.runtime.tracking import Tracking
from small_models import SmallRegistry

SETTINGS = ("runtime.registry_uri=databricks-uc", "runtime.catalog=Main.assay")
NAME = "main.assay.towns__price"
LIMITS = {"tags": 50, "key": 255, "value": 1_000}


def _refuse(what):
    raise MlflowException(f"{what} is unsupported for models in the Unity Catalog")


class UnityStore(SqlAlchemyStore):
    """MLflow's store, as narrow as Unity Catalog's."""

    folder = None

    def _check(self, tags):
        keys = [tag.key for tag in tags or ()]
        if any(re.search(r"[.,\-=/:]", key) or len(key) > LIMITS["key"] for key in keys) or len(keys) > LIMITS["tags"]:
            _refuse(f"tag {keys}")
        if any(not 0 < len(tag.value) <= LIMITS["value"] for tag in tags or ()):
            _refuse("the value of a tag")

    def create_registered_model(self, name, tags=None, description=None, deployment_job_id=None):
        if not re.fullmatch(r"[^./\s:A-Z]+(\.[^./\s:A-Z]+){2}", name):
            _refuse(f"name {name}")
        return super().create_registered_model(name, tags, description)

    def create_model_version(self, name, source, run_id=None, tags=None, run_link=None, description=None, **told):
        self._check(tags)
        made = super().create_model_version(name, source, run_id, tags, run_link, description, **told)
        copy = self.folder / name / str(made.version)  # a version has files of its own
        shutil.copytree(mlflow.artifacts.download_artifacts(artifact_uri=source), copy)
        return made

    def set_model_version_tag(self, name, version, tag):
        self._check([tag])
        super().set_model_version_tag(name, version, tag)

    def set_registered_model_tag(self, name, tag):
        self._check([tag])
        super().set_registered_model_tag(name, tag)

    def search_model_versions(self, filter_string=None, max_results=None, order_by=None, page_token=None):
        if order_by or not re.fullmatch(r"name = '[^']+'", filter_string or ""):
            _refuse(f"filter {filter_string}")
        page = super().search_model_versions(filter_string, 1, None, page_token)
        told = ("name", "version", "creation_timestamp", "source", "run_id", "status")
        return PagedList([ModelVersionSearch(**{key: getattr(v, key) for key in told}) for v in page], page.token)

    def get_model_version_download_uri(self, name, version):
        _refuse("a place of files without credentials")

    def transition_model_version_stage(self, *_, **__):
        _refuse("transition_model_version_stage")


class UnityFiles:
    """Files of a version, as MLflow asks the registry for them."""

    def __init__(self, artifact_uri, registry_uri, tracking_uri):
        assert registry_uri == "databricks-uc"
        _, self.model_name, self.model_version = artifact_uri.split("/")

    def download_artifacts(self, artifact_path, dst_path=None, **_):
        assert not artifact_path
        return shutil.copytree(UnityStore.folder / self.model_name / self.model_version, dst_path, dirs_exist_ok=True)


@pytest.fixture
def unity(workspace, empty_store, model, monkeypatch):
    """A workspace of its own, whose models go to Unity Catalog."""
    shutil.copy(empty_store, workspace / "unity.db")
    monkeypatch.setattr(UnityStore, "folder", workspace / "unity")
    store = UnityStore(f"sqlite:///{workspace / 'unity.db'}")
    monkeypatch.setitem(registries._get_store_registry()._registry, "databricks-uc", lambda *_, **__: store)
    monkeypatch.setattr(models_artifact_repo, "UnityCatalogModelsArtifactRepository", UnityFiles)
    made = SmallRegistry(workspace, model, overrides=SETTINGS)
    made.name = NAME
    return made


def _train(unity):
    trained = unity.train()
    return models.load_trained(unity.tracking, trained.run_id)


def test_models_are_registered_and_served_as_anywhere(unity):
    first = unity.register(_train(unity), coverage={0.8: 0.79})
    second = unity.register(_train(unity))
    assert (first, second) == ("1", "2")
    assert [model.name for model in unity.client.search_registered_models()] == [NAME]
    versions = versions_of(unity.client, NAME)  # two pages
    assert [(one.number, str(one.semantic), one.state) for one in versions] == [
        (1, "1.0.0", "previous"),
        (2, "1.0.1", "serving"),
    ]
    assert versions[1].tag("parent") == "1"
    stored = unity.client._client.get_model_version(NAME, "1")
    assert {key.partition("_")[0] for key in stored.tags} == {"assay"}
    assert len(stored.tags) + 10 < LIMITS["tags"]
    champion = models.champion(unity.tracking, "price")
    assert (champion.number, champion.semantic) == ("2", "1.0.1")
    assert models.registered(unity.tracking, "price", "1.0.0").number == "1"
    assert models.load_registered(f"models:/{NAME}@{PREVIOUS}", unity.tracking.uri, "databricks-uc").number == "1"
    assert models.version_label(unity.tracking, "price", "2") == "2 (1.0.1)"
    assert [version_problems(unity.tracking, one) for one in versions] == [[], []]


def test_moves_and_removals(unity):
    unity.register(_train(unity))
    unity.register(_train(unity))
    make_champion(unity.client, NAME, "1")
    assert models.champion(unity.tracking, "price").number == "1"
    versions = versions_of(unity.client, NAME)
    unity.client.set_model_version_tag(NAME, "2", "assay.retired_at", "2026-01-01")
    assert versions_of(unity.client, NAME)[1].retired
    unity.client.delete_model_version_tag(NAME, "2", "assay.retired_at")
    assert not versions_of(unity.client, NAME)[1].retired
    number, source = str(versions[1].number), versions[1].source
    remove_version(unity.client, unity.tracking.uri, NAME, number, source, registry_uri="databricks-uc")
    assert [one.number for one in versions_of(unity.client, NAME)] == [1]


def test_a_changed_file_is_refused(unity):
    unity.register(_train(unity))
    path = next((UnityStore.folder / NAME / "1").rglob("booster.ubj"))
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(models.AssayError, match=rf"model {NAME} version 1 .* was changed after it was saved"):
        models.champion(unity.tracking, "price")


@pytest.mark.parametrize(
    ("dataset", "target", "name"),
    [
        ("towns", "price", "towns__price"),
        ("kc_house", "price_2", "kc_house__price_2"),
        ("Towns", "price", r"towns_price_[0-9a-f]{6}"),
        ("a_", "b", r"a_b_[0-9a-f]{6}"),
        ("a", "_b", r"a_b_[0-9a-f]{6}"),
        ("shops", "Umsatz in €/Tag", r"shops_umsatz_in_tag_[0-9a-f]{6}"),
        ("shops", "a.b", r"shops_a_b_[0-9a-f]{6}"),
        ("shops", "x" * 400, r"shops_x+_[0-9a-f]{6}"),
    ],
)
def test_any_dataset_and_target_have_a_name_that_the_catalog_takes(dataset, target, name):
    found = mlflow_client.unity_name("main.assay", dataset, target)
    assert re.fullmatch(rf"main\.assay\.{name}", found)
    assert len(found) < 255


def test_names_are_apart():
    pairs = [("a_", "b"), ("a", "_b"), ("a", "b"), ("A", "b"), ("a__b", "c"), ("a", "b__c"), ("a_b", "c"), ("a", "b_c")]
    assert len({mlflow_client.unity_name("m.s", *pair) for pair in pairs}) == len(pairs)


def _config(flats, *overrides):
    return load_run(dataset=flats, overrides=overrides)


def test_where_models_and_experiments_go_by_default(flats):
    def told(*overrides):
        config = _config(flats, *overrides)
        runtime = config.profile.runtime
        return (
            mlflow_client.registry_of(runtime, runtime.tracking_uri),
            mlflow_client.experiment_of(config),
            models.model_name(config, "price"),
        )

    assert told("runtime.catalog=main.assay") == ("", "assay/flats", "flats.price")
    databricks = "runtime.tracking_uri=databricks"
    assert told(databricks) == ("databricks", "/Shared/assay/flats", "flats.price")
    unity = ("databricks-uc", "/Shared/assay/flats", "main.assay.flats__price")
    assert told(databricks, "runtime.catalog=main.assay") == unity
    assert told("runtime.tracking_uri=databricks://me", "runtime.catalog=main.assay")[0] == "databricks-uc://me"
    assert told(databricks, "runtime.catalog=main.assay", "runtime.registry_uri=databricks")[2] == "flats.price"
    assert told(databricks, "runtime.experiment_folder=/Users/me/")[1] == "/Users/me/flats"


def test_what_does_not_fit_databricks_is_refused(flats):
    with pytest.raises(ConfigError, match=r"registry_uri=databricks-uc needs runtime\.catalog as catalog\.schema"):
        _config(flats, "runtime.registry_uri=databricks-uc")
    with pytest.raises(ConfigError, match=r"runtime\.experiment_folder=assay: on Databricks .* /Shared/assay"):
        _config(flats, "runtime.tracking_uri=databricks", "runtime.experiment_folder=assay")
    with pytest.raises(UserError, match=r"runtime\.catalog 'main': .*--set runtime\.catalog=main\.assay"):
        models.model_name(_config(flats, "runtime.tracking_uri=databricks", "runtime.catalog=main"), "price")


def test_where_things_are_kept_changes_no_identity(flats):
    places = ("runtime.registry_uri=databricks", "runtime.experiment_folder=/Users/me")
    assert _config(flats).hash_of() == _config(flats, *places).hash_of()


def test_the_experiment_has_the_name_that_was_asked_for(flats, workspace):
    config = load_run(dataset=flats, workspace=workspace, overrides=["runtime.experiment_folder=/Users/me"])
    made = Tracking(config)
    assert made.client.get_experiment(made.experiment_id).name == "/Users/me/flats"


def test_a_folder_of_experiments_that_is_not_there_is_named():
    class Client:
        def create_experiment(self, name, artifact_location):
            raise MlflowException(f"Parent directory of {name} does not exist.\nmore")

    with pytest.raises(
        PreflightError, match=r"experiment /Shared/assay/flats cannot be made: Parent .* exist\.; .* mkdirs"
    ):
        tracking._created(Client(), "/Shared/assay/flats", None, "databricks")
    with pytest.raises(MlflowException):
        tracking._created(Client(), "assay/flats", None, "http://mlflow:5000")
