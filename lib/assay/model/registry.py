"""Consumes trained and calibrated models, produces registered versions and the champion, verified at every load."""

from __future__ import annotations

import dataclasses
import itertools
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.errors import AssayError, DataError
from assay.model.bundle import MANIFEST, Model, digest_of
from assay.model.row_sample import ROW
from assay.runtime.tracking import Tracking
from assay.version import __version__

BUNDLE = "bundle"
TESTED = "tested"
BUNDLES = {"model": BUNDLE, "served": "bundle_served", "held_back": "bundle_held_back"}  # of a training run
BLOCK = "block"  # of a model's facts: which block of the calibration period it scores; and, with a number, its bundle
CALIBRATION = "calibration.json"
CHAMPION = "champion"
ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # MLflow's codes for no such model, no such alias
LIBRARIES = {"xgboost": ("xgboost",), "catboost": ("catboost",)}  # that an engine's models need


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A training run and its models.

    model: the one that was tested.  served: the same, fitted again on all rows with a known outcome; None where the
    tested one serves.  held_back: the same, as it was before it was fitted again on the calibration period too; None
    where the tested one never was.  blocks: the same, each fitted again on all rows known before its own block of the
    calibration period began, from the second block on; the first one's is `held_back`.
    """

    run_id: str
    target: str
    model: Model
    registered_name: str
    served: Model | None = None
    held_back: Model | None = None
    blocks: tuple[Model, ...] = ()

    @property
    def serves(self) -> Model:
        """The model that is registered."""
        return self.served if self.served is not None else self.model


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """A model with its calibration."""

    model: Model
    calibration: dict[str, Any]
    calibration_version: str

    @property
    def columns(self) -> list[str]:
        """Columns that scoring reads: the model's inputs and those of its segments."""
        return list(dict.fromkeys([*self.model.input_columns, *self.calibration["segment_columns"]]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Champion(Calibrated):
    """The model that scores. number: version in the registry.

    tested: the model behind the figures of its test, which scores the rows that the serving one has learned from; None
    where that is the same.
    """

    number: str
    run_id: str
    tested: Calibrated | None = None

    @property
    def judged(self) -> Model:
        """The model that was tested."""
        return self.tested.model if self.tested is not None else self.model


def registered_name(dataset: str, target: str) -> str:
    """Name in the registry. What MLflow's names, URIs and filters cannot hold becomes `_`; a hash keeps them apart."""
    safe = "".join(c if c.isalnum() or c in " -_." else "_" for c in target)
    return f"{dataset}.{target}" if safe == target else f"{dataset}.{safe}-{digest_of(target.encode())[:6]}"


def record_models(tracking: Tracking, models: Mapping[str, Model | None]) -> None:
    """Log the models of the open training run, named as `bundle_name` has them, with their hashes as its tags."""
    for which, model in models.items():
        if model is not None:
            with tempfile.TemporaryDirectory(prefix="assay-bundle-") as folder:
                model.save(Path(folder))
                tracking.folder(Path(folder), bundle_name(which))
            tracking.tags({model_tag(which): digest_of(model.files[MANIFEST])})


def load_trained(tracking: Tracking, run_id: str, *, blocks: bool = False) -> TrainedRun:
    """The models of a training run, each one's hash checked against the run's tag. blocks: those as well."""
    tags = tracking.client.get_run(run_id).data.tags

    def loaded(which: str) -> Model:
        with tracking.download(run_id, bundle_name(which)) as folder:
            return Model.load(folder, sha256=tags[model_tag(which)])

    found = {which: loaded(which) for which in BUNDLES if model_tag(which) in tags}
    numbers = itertools.takewhile(lambda n: model_tag(f"{BLOCK}_{n}") in tags, itertools.count(2))
    of_blocks = tuple(loaded(f"{BLOCK}_{number}") for number in numbers) if blocks else ()
    target = tags["assay.target"]
    name = registered_name(tracking.config.dataset.name, target)
    return TrainedRun(run_id, target, registered_name=name, blocks=of_blocks, **found)


def bundle_name(which: str) -> str:
    """Artifact of a training run with one of its models: a key of `BUNDLES`, or `block_2` and so on."""
    return BUNDLES.get(which, f"{BUNDLE}_{which}")


def model_tag(which: str) -> str:
    """Tag of a run with the hash of one of its models, as `bundle_name` has them."""
    return "assay.model_sha256" if which == "model" else f"assay.{which}_model_sha256"


def register(
    tracking: Tracking,
    trained: TrainedRun,
    calibration: dict[str, Any],
    calibration_version: str,
    code: Path,
    *,
    tested: Calibrated | None = None,
    row_ids: bool = False,
) -> str:
    """Log the calibrated model that serves as an MLflow pyfunc (its code is the file `code`), make it champion.

    calibration: of that model.  tested: the tested model with its own, where that is another.  row_ids: whether the
    model takes the column `row_id` as well, which it can do without.
    Returns:
        its number in the registry.

    A version of this very model and calibration that is registered already is made champion again.
    """
    mlflow, client, name, model = tracking.mlflow, tracking.client, trained.registered_name, trained.serves
    wanted = {
        "assay.model_version": model.version,
        "assay.calibration_version": calibration_version,
        "assay.tested_version": tested.model.version if tested is not None else "",
        "assay.tested_calibration_version": tested.calibration_version if tested is not None else "",
    }
    existing = client.search_model_versions(f"name = '{name}'") if _is_registered(tracking, name) else []
    for found in existing:
        if all(found.tags.get(k, "") == v for k, v in wanted.items()):
            client.set_registered_model_alias(name, CHAMPION, found.version)
            return str(found.version)
    libraries = [name for engine in model.engines for name in LIBRARIES.get(engine, ())]
    with tempfile.TemporaryDirectory(prefix="assay-register-") as folder:
        hashes = _saved(Path(folder) / BUNDLE, model, calibration)
        artifacts, recorded = {BUNDLE: str(Path(folder) / BUNDLE)}, hashes
        if tested is not None:
            artifacts[TESTED] = str(Path(folder) / TESTED)
            found = _saved(Path(folder) / TESTED, tested.model, tested.calibration)
            recorded = {**hashes, **{f"{TESTED}_{key}": digest for key, digest in found.items()}}
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(code),
            artifacts=artifacts,
            model_config=hashes,
            **_signature(model, calibration, row_ids=row_ids),
            pip_requirements=[f"assay=={__version__}", *libraries, "pyarrow", "pandas"],
        )
    tags = {**wanted, **{f"assay.{key}": digest for key, digest in recorded.items()}, "assay.run_id": trained.run_id}
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
    return _registered(tracking.uri, name, version)


def registered(tracking: Tracking, target: str, which: str) -> Champion:
    """A registered version of a target's model by its number or alias, checked like the champion.

    Raises:
        DataError: there is no such version; says which there are.
        AssayError: an artifact was changed.
    """
    return load_registered(f"models:/{registered_name(tracking.config.dataset.name, target)}@{which}", tracking.uri)


def load_registered(uri: str, tracking_uri: str) -> Champion:
    """The model of `models:/NAME@ALIAS` or `models:/NAME/NUMBER` of an MLflow store; after @ a number is as good.

    Raises:
        DataError: there is no such version; says which there are.
        AssayError: an artifact was changed.
    """
    import mlflow

    client = mlflow.MlflowClient(tracking_uri, registry_uri=tracking_uri)
    name, separator, which = uri.removeprefix("models:/").rpartition("@")
    if not separator:
        name, separator, which = uri.removeprefix("models:/").rpartition("/")
    if not separator or not uri.startswith("models:/"):
        raise DataError(f"{uri!r} is no registered model: expected models:/NAME@{CHAMPION} or models:/NAME/NUMBER")
    try:
        by_number = which.isdecimal()
        version = client.get_model_version(name, which) if by_number else client.get_model_version_by_alias(name, which)
    except mlflow.MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        raise DataError(f"model {name} has no version or alias {which!r}; {_versions(client, name)}") from None
    return _registered(tracking_uri, name, version)


def registered_models(tracking_uri: str) -> dict[str, str]:
    """Name of each registered model of an MLflow store that has a champion -> its target."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri, registry_uri=tracking_uri)
    found = {}
    for model in client.search_registered_models():
        if CHAMPION in model.aliases:
            version = client.get_model_version_by_alias(model.name, CHAMPION)
            found[model.name] = client.get_run(version.tags["assay.run_id"]).data.tags["assay.target"]
    return found


def champion_before(tracking: Tracking, target: str, run_id: str) -> Champion | None:
    """The version registered before that of a training run; None where there is none, or the run's is not registered.

    Raises:
        AssayError: an artifact was changed.
    """
    found = version_before(tracking, target, run_id)
    name = registered_name(tracking.config.dataset.name, target)
    return None if found is None else _registered(tracking.uri, name, found)


def version_before(tracking: Tracking, target: str, run_id: str) -> Any | None:
    """MLflow's record of that version."""
    name = registered_name(tracking.config.dataset.name, target)
    if not _is_registered(tracking, name):
        return None
    versions = sorted(tracking.client.search_model_versions(f"name = '{name}'"), key=lambda one: int(one.version))
    own = [place for place, one in enumerate(versions) if one.tags.get("assay.run_id") == run_id]
    return versions[own[0] - 1] if own and own[0] else None


def _versions(client: Any, name: str) -> str:
    """What there is of a model, for people."""
    numbers = sorted(int(found.version) for found in client.search_model_versions(f"name = '{name}'"))
    if not numbers:
        return "no version of it is registered"
    aliases = sorted(client.get_registered_model(name).aliases)
    return f"it has {', '.join(map(str, numbers))}" + (f" and {', '.join(aliases)}" if aliases else "")


def _registered(tracking_uri: str, name: str, version: Any) -> Champion:
    """A version of a registered model, as MLflow tells of it, with its files."""
    import mlflow

    tags, source = version.tags, f"models:/{name}/{version.version}"
    if not tracking_uri.startswith(
        "databricks"
    ):  # else MLflow looks for it in the store that this process happens to use
        source = mlflow.MlflowClient(tracking_uri, registry_uri=tracking_uri).get_model_version_download_uri(
            name, version.version
        )
    with tempfile.TemporaryDirectory(prefix="assay-champion-") as folder:
        local = mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=folder, tracking_uri=tracking_uri)
        root = Path(local) / "artifacts"
        served = _loaded(root / BUNDLE, tags, "assay.")
        tested = _loaded(root / TESTED, tags, f"assay.{TESTED}_") if tags.get("assay.tested_version") else None
    return Champion(
        served.model,
        served.calibration,
        served.calibration_version,
        number=str(version.version),
        run_id=tags["assay.run_id"],
        tested=tested,
    )


def _saved(root: Path, model: Model, calibration: dict[str, Any]) -> dict[str, str]:
    """Write a model and its calibration; returns their hashes."""
    model.save(root)
    text = json.dumps(calibration, sort_keys=True)
    (root / CALIBRATION).write_text(text, encoding="utf-8")
    return {"model_sha256": digest_of(model.files[MANIFEST]), "calibration_sha256": digest_of(text.encode())}


def _loaded(root: Path, tags: Mapping[str, str], prefix: str) -> Calibrated:
    """What `_saved` wrote, checked against the tags that begin so."""
    model = Model.load(root, sha256=tags[f"{prefix}model_sha256"])
    calibration = load_calibration(root, sha256=tags[f"{prefix}calibration_sha256"])
    return Calibrated(model, calibration, tags[f"{prefix}calibration_version"])


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


def _signature(model: Model, calibration: dict[str, Any], *, row_ids: bool) -> dict[str, Any]:
    """Signature and input example: one row of everything missing, which the model takes too."""
    import pandas as pd
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types import ColSpec, Schema

    from assay.runtime.tables import level_label

    texts = list(dict.fromkeys([*model.encoding.categories, *calibration["segment_columns"]]))
    numbers = [c for c in model.input_columns if c not in texts]
    example = pd.DataFrame({**{c: pd.Series([1.0]) for c in numbers}, **{c: pd.Series(["a"]) for c in texts}})
    spread = {"disagreement": [1.0]} if model.engine == "ensemble" else {}
    if model.outcome.decides:
        outcome = pd.DataFrame(
            {
                "prediction": [1.0],
                "predicted_class": ["a"],
                "probabilities": [[1.0, 0.0]],
                **{f"set_{level_label(level)}": [["a"]] for level in calibration["levels"]},
                **spread,
            }
        )
        signature = infer_signature(example, outcome)
        if row_ids:
            optional = ColSpec("long", ROW, required=False)
            signature = ModelSignature(Schema([*signature.inputs.inputs, optional]), signature.outputs)
        return {"signature": signature, "input_example": example}
    ends = [f"{end}_{level_label(level)}" for level in calibration["levels"] for end in ("lower", "upper")]
    outcome = pd.DataFrame({**{name: [1.0] for name in ["prediction", *ends]}, **spread})
    return {"signature": infer_signature(example, outcome), "input_example": example}
