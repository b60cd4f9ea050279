"""Consumes trained and calibrated models, produces registered versions and the champion, verified at every load."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

from assay.errors import AssayError, DataError
from assay.model.bundle import MANIFEST, Model, digest_of
from assay.runtime.tracking import Tracking
from assay.version import __version__

BUNDLE = "bundle"
CALIBRATION = "calibration.json"
CHAMPION = "champion"
ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # MLflow's codes for no such model, no such alias
LIBRARIES = {"xgboost": ("xgboost",), "catboost": ("catboost",)}  # that an engine's models need


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A training run and its model."""

    run_id: str
    target: str
    model: Model
    registered_name: str


@dataclasses.dataclass(frozen=True)
class Champion:
    """The model that scores, with its calibration. number: version in the registry."""

    number: str
    run_id: str
    model: Model
    calibration: dict[str, Any]
    calibration_version: str


def registered_name(dataset: str, target: str) -> str:
    """Name in the registry. What MLflow's names, URIs and filters cannot hold becomes `_`; a hash keeps them apart."""
    safe = "".join(c if c.isalnum() or c in " -_." else "_" for c in target)
    return f"{dataset}.{target}" if safe == target else f"{dataset}.{safe}-{digest_of(target.encode())[:6]}"


def load_trained(tracking: Tracking, run_id: str) -> TrainedRun:
    """The model of a training run, its hash checked against the run's tag."""
    tags = tracking.client.get_run(run_id).data.tags
    with tracking.download(run_id, BUNDLE) as folder:
        model = Model.load(folder, sha256=tags["assay.model_sha256"])
    target = tags["assay.target"]
    return TrainedRun(run_id, target, model, registered_name(tracking.config.dataset.name, target))


def register(
    tracking: Tracking, trained: TrainedRun, calibration: dict[str, Any], calibration_version: str, code: Path
) -> str:
    """Log the calibrated model as an MLflow pyfunc (its code is the file `code`), register it, make it champion.

    Returns:
        its number in the registry.

    A version of this very model and calibration that is registered already is made champion again.
    """
    mlflow, client, name = tracking.mlflow, tracking.client, trained.registered_name
    wanted = {"assay.model_version": trained.model.version, "assay.calibration_version": calibration_version}
    existing = client.search_model_versions(f"name = '{name}'") if _is_registered(tracking, name) else []
    for found in existing:
        if all(found.tags.get(k) == v for k, v in wanted.items()):
            client.set_registered_model_alias(name, CHAMPION, found.version)
            return str(found.version)
    text = json.dumps(calibration, sort_keys=True)
    hashes = {
        "model_sha256": digest_of(trained.model.files[MANIFEST]),
        "calibration_sha256": digest_of(text.encode()),
    }
    with tempfile.TemporaryDirectory(prefix="assay-register-") as folder:
        root = Path(folder) / BUNDLE
        trained.model.save(root)
        (root / CALIBRATION).write_text(text, encoding="utf-8")
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(code),
            artifacts={BUNDLE: str(root)},
            model_config=hashes,
            **_signature(trained.model, calibration),
            pip_requirements=[f"assay=={__version__}", *LIBRARIES.get(trained.model.engine, ()), "pyarrow", "pandas"],
        )
    tags = {**wanted, **{f"assay.{name}": digest for name, digest in hashes.items()}, "assay.run_id": trained.run_id}
    if not _is_registered(tracking, name):
        client.create_registered_model(name)
    version = client.create_model_version(name, source=info.model_uri, run_id=None, tags=tags)
    client.set_registered_model_alias(name, CHAMPION, version.version)
    return str(version.version)


def champion(tracking: Tracking, target: str) -> Champion:
    """The champion of a target, every file checked against the hashes on record.

    Raises:
        DataError: there is none yet.
        AssayError: an artifact was changed.
    """
    found = find_champion(tracking, target)
    if found is None:
        name = registered_name(tracking.config.dataset.name, target)
        raise DataError(
            f"no model of {name} is registered: run the job train first (a refused model is not registered)"
        )
    return found


def find_champion(tracking: Tracking, target: str) -> Champion | None:
    """The same, or None.

    Raises:
        AssayError: an artifact was changed.
    """
    name = registered_name(tracking.config.dataset.name, target)
    try:
        version = tracking.client.get_model_version_by_alias(name, CHAMPION)
    except tracking.mlflow.MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        return None
    tags = version.tags
    with tempfile.TemporaryDirectory(prefix="assay-champion-") as folder:
        local = tracking.mlflow.artifacts.download_artifacts(
            artifact_uri=f"models:/{name}/{version.version}", dst_path=folder, tracking_uri=tracking.uri
        )
        root = Path(local) / "artifacts" / BUNDLE
        model = Model.load(root, sha256=tags["assay.model_sha256"])
        calibration = load_calibration(root, sha256=tags["assay.calibration_sha256"])
    return Champion(str(version.version), tags["assay.run_id"], model, calibration, tags["assay.calibration_version"])


def load_calibration(folder: Path, *, sha256: str) -> dict[str, Any]:
    """The calibration beside a model.

    Raises:
        AssayError: it is missing or was changed.
    """
    path = folder / CALIBRATION
    content = path.read_bytes() if path.is_file() else b""
    if digest_of(content) != sha256:
        raise AssayError(f"model in {folder.name}: {CALIBRATION} is not the one on record; refusing to load it")
    found: dict[str, Any] = json.loads(content)
    return found


def _is_registered(tracking: Tracking, name: str) -> bool:
    try:
        tracking.client.get_registered_model(name)
    except tracking.mlflow.MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        return False
    return True


def _signature(model: Model, calibration: dict[str, Any]) -> dict[str, Any]:
    """Signature and input example: one row of everything missing, which the model takes too."""
    import pandas as pd
    from mlflow.models import infer_signature

    from assay.runtime.tables import level_label

    texts = list(dict.fromkeys([*model.encoding.categories, *calibration["segment_columns"]]))
    numbers = [c for c in model.input_columns if c not in texts]
    example = pd.DataFrame({**{c: pd.Series([1.0]) for c in numbers}, **{c: pd.Series(["a"]) for c in texts}})
    ends = [f"{end}_{level_label(level)}" for level in calibration["levels"] for end in ("lower", "upper")]
    outcome = pd.DataFrame({name: [1.0] for name in ["prediction", *ends]})
    return {"signature": infer_signature(example, outcome), "input_example": example}
