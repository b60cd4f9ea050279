"""Consumes names of what MLflow stores of models, produces its files here, or takes them away for good."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay.errors import AssayError
from assay.model.versions import ABSENT
from assay.runtime.mlflow_client import client_of, is_databricks, is_unity


@contextlib.contextmanager
def version_files(tracking_uri: str, name: str, number: str, told: str, *, registry_uri: str = "") -> Iterator[Path]:
    """A local copy of the files of a version of a registered model, while the block lasts. told: its name for people.

    registry_uri: where it is registered, by default in the store itself.

    Raises:
        AssayError: there are none.
    """
    import mlflow

    source, registry = f"models:/{name}/{number}", registry_uri or tracking_uri
    if not is_databricks(registry):  # else MLflow looks for it in the store that this process happens to use
        source = client_of(tracking_uri, registry).get_model_version_download_uri(name, number)
    with tempfile.TemporaryDirectory(prefix="assay-version-") as folder:
        try:
            local = mlflow.artifacts.download_artifacts(
                artifact_uri=source, dst_path=folder, tracking_uri=tracking_uri, registry_uri=registry
            )
        except (OSError, mlflow.MlflowException) as error:
            # MLflow 3.8 has no code of its own for files that are not there.
            gone = os.strerror(errno.ENOENT) in str(error)
            if not gone and getattr(error, "error_code", "") not in {"", *ABSENT}:
                raise
            why = str(error).strip().splitlines()[-1]
            raise AssayError(f"{told}: its files cannot be read ({why}); refusing to load it") from None
        yield Path(local)


def remove_version(
    client: Any, tracking_uri: str, name: str, number: str, source: str, *, registry_uri: str = ""
) -> None:
    """Remove a version of a registered model with the files that are its own. What is gone already is no error.

    source: where MLflow has its files; they stay where they are another version's, too.
    """
    import mlflow

    model_id = source.removeprefix("models:/")
    asked = f"name = '{name}'" if is_unity(registry_uri) else f"source_path = '{source}'"
    same = [one for one in client.search_model_versions(asked) if one.source == source]
    shared = any((one.name, str(one.version)) != (name, number) for one in same)
    try:
        if model_id != source and not shared:
            location = client.get_logged_model(model_id).artifact_location
            remove_artifacts(location, tracking_uri)
            client.delete_logged_model(model_id)
    except mlflow.MlflowException as error:
        if error.error_code not in ABSENT:
            raise
    client.delete_model_version(name, number)


def remove_artifacts(location: str, tracking_uri: str, path: str | None = None) -> None:
    """Remove files of an artifact folder for good: all of them, or those below a path. None there is no error.

    Raises:
        AssayError: the store cannot do that.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        get_artifact_repository(location, tracking_uri=tracking_uri).delete_artifacts(path)
    except NotImplementedError:
        raise AssayError(f"{location}: this store of artifacts removes nothing for MLflow; remove it there") from None
