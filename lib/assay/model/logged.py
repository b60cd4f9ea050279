"""Consumes a calibrated model, produces an MLflow pyfunc with the list of its files, and the hashes to ask for."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.model.bundle import MANIFEST, Model, digest_of
from assay.model.files import FILES, listing
from assay.model.signature import signature_of
from assay.runtime.tracking import Tracking
from assay.version import __version__

BUNDLE, TESTED = "bundle", "tested"  # folders of the model that serves and of the one that was tested
CALIBRATION = "calibration.json"
LISTED = "assay.files_sha256"  # tag of a version: hash of the list of its files
LIBRARIES = {"xgboost": ("xgboost",), "catboost": ("catboost",)}  # that an engine's models need


def log_pyfunc(
    tracking: Tracking, parts: Mapping[str, tuple[Model, dict[str, Any]]], code: Path, *, row_ids: bool
) -> tuple[str, dict[str, str]]:
    """Log models with their calibrations as one MLflow model, whose code is the file `code`.

    parts: `BUNDLE` serves, and `TESTED` lies beside it.  row_ids: as in `signature_of`.
    Returns:
        its URI, and the hashes that a load asks for, as tags of its version.
    """
    mlflow, (model, calibration) = tracking.mlflow, parts[BUNDLE]
    libraries = [name for engine in model.engines for name in LIBRARIES.get(engine, ())]
    with tempfile.TemporaryDirectory(prefix="assay-register-") as folder:
        hashes = {part: _saved(Path(folder) / part, *told) for part, told in parts.items()}
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(code),
            artifacts={part: str(Path(folder) / part) for part in parts},
            model_config=hashes[BUNDLE],
            **signature_of(model, calibration, row_ids=row_ids),
            pip_requirements=[f"assay=={__version__}", *libraries, "pyarrow", "pandas"],
        )
    with tempfile.TemporaryDirectory(prefix="assay-register-") as folder:
        stored = mlflow.artifacts.download_artifacts(
            artifact_uri=info.model_uri, dst_path=folder, tracking_uri=tracking.uri
        )
        content = listing(Path(stored))
        (Path(folder) / FILES).write_bytes(content)
        tracking.client.log_model_artifact(info.model_id, str(Path(folder) / FILES))
    prefixes = {BUNDLE: "assay.", TESTED: f"assay.{TESTED}_"}
    tags = {f"{prefixes[part]}{key}": digest for part, told in hashes.items() for key, digest in told.items()}
    return info.model_uri, {**tags, LISTED: digest_of(content)}


def _saved(root: Path, model: Model, calibration: dict[str, Any]) -> dict[str, str]:
    """Write a model and its calibration; returns their hashes."""
    model.save(root)
    text = json.dumps(calibration, sort_keys=True)
    (root / CALIBRATION).write_text(text, encoding="utf-8")
    return {"model_sha256": digest_of(model.files[MANIFEST]), "calibration_sha256": digest_of(text.encode())}
