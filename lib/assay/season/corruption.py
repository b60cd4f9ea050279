"""Consumes the champion's place in MLflow's store, produces one of its files with a changed byte, and as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from assay.model.registry import registered_name
from assay.model.versions import CHAMPION

LEARNER = "artifacts/bundle/booster.ubj"  # of an XGBoost model


def champion_file(client: Any, dataset: str, target: str) -> Path:
    """The file of what the champion has learned, in a store of local files."""
    version = client.get_model_version_by_alias(registered_name(dataset, target), CHAMPION)
    location = client.get_logged_model(version.source.removeprefix("models:/")).artifact_location
    return Path(url2pathname(urlsplit(location).path)) / LEARNER


def put(path: Path, at: int, byte: int) -> None:
    """Set one byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] = byte
    path.write_bytes(bytes(content))
