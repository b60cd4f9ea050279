"""Consumes where MLflow's store and registry are, produces a client for both, and the names that the registry takes.

Unity Catalog registers models as catalog.schema.model, in lower case. Keys of its tags have no dot, its searches ask
for nothing but a name, give pages, and tell neither tags nor aliases. `UnityClient` shows none of that.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from assay.config import RunConfig
from assay.config.profile import RuntimeConfig
from assay.errors import PreflightError, UserError

UNITY = "databricks-uc"
FOLDER, DATABRICKS_FOLDER = "assay", "/Shared/assay"  # of experiments, where `runtime.experiment_folder` names none
LONGEST = 200  # characters of a model's own name; the catalog takes 255
PLAIN = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
STRAY = "mlruns"  # the folder that MLflow takes where nobody names one
OURS, THEIRS = "assay.", "assay_"  # how keys of our tags begin, and how they do in Unity Catalog


def is_unity(registry_uri: str) -> bool:
    """Whether a registry is that of Unity Catalog."""
    return registry_uri.startswith(UNITY)


def is_databricks(tracking_uri: str) -> bool:
    """Whether a store is that of a Databricks workspace."""
    return tracking_uri.startswith("databricks")


def registry_of(runtime: RuntimeConfig, tracking_uri: str) -> str:
    """The registry's URI: the configured one; Unity Catalog's beside Databricks and a catalog; else the store's own."""
    if runtime.registry_uri:
        return runtime.registry_uri
    if is_databricks(tracking_uri) and runtime.catalog:
        return tracking_uri.replace("databricks", UNITY, 1)
    return tracking_uri


def experiment_of(config: RunConfig) -> str:
    """Name of a dataset's experiment; on Databricks the path of a workspace object."""
    runtime = config.profile.runtime
    default = DATABRICKS_FOLDER if is_databricks(runtime.tracking_uri) else FOLDER
    return f"{(runtime.experiment_folder or default).rstrip('/')}/{config.dataset.name}"


def unity_schema(config: RunConfig) -> str:
    """`catalog.schema` of registered models; empty where the registry is not Unity Catalog's.

    Raises:
        UserError: it is, but `runtime.catalog` does not say which schema of which catalog.
    """
    runtime = config.profile.runtime
    if not is_unity(registry_of(runtime, runtime.tracking_uri)):
        return ""
    if len([part for part in runtime.catalog.split(".") if part]) != 2:
        raise UserError(
            f"runtime.catalog {runtime.catalog!r}: models of Unity Catalog are catalog.schema.model; set both, "
            "--set runtime.catalog=main.assay"
        )
    return runtime.catalog.lower()


def unity_name(schema: str, dataset: str, target: str) -> str:
    """`catalog.schema.DATASET__TARGET`. What Unity Catalog's names cannot hold becomes `_`; a hash keeps them apart."""
    plain = f"{dataset}__{target}"
    if PLAIN.fullmatch(dataset) and PLAIN.fullmatch(target) and len(plain) <= LONGEST:
        return f"{schema}.{plain}"
    safe = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")[:LONGEST]
    return f"{schema}.{safe}_{hashlib.sha256(f'{dataset}.{target}'.encode()).hexdigest()[:6]}"


def client_of(tracking_uri: str, registry_uri: str = "") -> Any:
    """The client of an MLflow store and of its registry, by default its own.

    Raises:
        PreflightError: MLflow 3.8, in a folder that nobody may write to.
    """
    import mlflow

    with _nothing_left_here():
        client = mlflow.MlflowClient(tracking_uri, registry_uri=registry_uri or tracking_uri)
    return UnityClient(client) if is_unity(registry_uri or tracking_uri) else client


@contextlib.contextmanager
def _nothing_left_here() -> Iterator[None]:
    """MLflow 3.8 makes a folder in the current one when it opens a SQL store: for files, and ours lie elsewhere.

    One that was there before, or holds anything, is somebody's and stays.

    Raises:
        PreflightError: nobody may make a folder here.
    """
    theirs = Path(STRAY).exists()
    try:
        yield
    except OSError as error:
        if Path(str(error.filename)).name != STRAY:
            raise
        raise PreflightError(
            f"{Path.cwd()}: this version of MLflow makes a folder {STRAY!r} in the current one, for a moment, and "
            f"may not ({error.strerror}): start in a folder that you may write to, or install a later MLflow"
        ) from None
    finally:
        if not theirs:
            with contextlib.suppress(OSError):
                Path(STRAY).rmdir()


class UnityClient:
    """MLflow's client, whose registry is Unity Catalog's; what is not of models goes straight to the store."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def create_model_version(self, name: str, source: str, *, tags: Mapping[str, str], **options: Any) -> Any:
        """Register a version with tags."""
        told = {_theirs(key): value for key, value in tags.items() if value}
        return self._client.create_model_version(name, source=source, tags=told, **options)

    def get_model_version(self, name: str, version: str) -> Any:
        """One version, its tags with our keys."""
        return _Tagged(self._client.get_model_version(name, str(version)))

    def get_model_version_by_alias(self, name: str, alias: str) -> Any:
        """The version that an alias names, its tags with our keys."""
        return _Tagged(self._client.get_model_version_by_alias(name, alias))

    def search_model_versions(self, filter_string: str) -> list[Any]:
        """Versions of one model, `name = 'catalog.schema.model'`, each asked for its tags."""
        found, token = [], None
        while token != "":
            page = self._client.search_model_versions(filter_string, page_token=token)
            found += [self.get_model_version(one.name, str(one.version)) for one in page]
            token = page.token or ""
        return found

    def get_registered_model(self, name: str) -> Any:
        """A model, its tags with our keys."""
        return _Tagged(self._client.get_registered_model(name))

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        """Tag a model."""
        self._client.set_registered_model_tag(name, _theirs(key), value)

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        """Tag a version."""
        self._client.set_model_version_tag(name, version, _theirs(key), value)

    def delete_model_version_tag(self, name: str, version: str, key: str) -> None:
        """Take a tag from a version."""
        self._client.delete_model_version_tag(name, version, _theirs(key))


def _theirs(key: str) -> str:
    return THEIRS + key.removeprefix(OURS) if key.startswith(OURS) else key


def _ours(key: str) -> str:
    return OURS + key.removeprefix(THEIRS) if key.startswith(THEIRS) else key


class _Tagged:
    """What MLflow told of a model or a version, with our keys."""

    def __init__(self, found: Any) -> None:
        self._found = found
        self.tags = {_ours(key): value for key, value in found.tags.items()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found, name)
