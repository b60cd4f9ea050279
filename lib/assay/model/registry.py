"""Consumes trained and calibrated models, produces registered versions and the champion, verified at every load."""

from __future__ import annotations

import dataclasses
import itertools
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.config import RunConfig
from assay.errors import AssayError, DataError
from assay.model.bundle import MANIFEST, Model, digest_of
from assay.model.files import check
from assay.model.lineage import lineage
from assay.model.logged import BUNDLE, CALIBRATION, LISTED, TESTED, log_pyfunc
from assay.model.stored import version_files
from assay.model.versions import (
    ABSENT,
    CHAMPION,
    RETIRED,
    SEMANTIC,
    Version,
    aliases_of,
    described,
    label_of,
    make_champion,
    pick,
    settle,
    versions_of,
)
from assay.runtime.mlflow_client import client_of, unity_name, unity_schema
from assay.runtime.tracking import MADE_MEANWHILE, Tracking

BUNDLES = {"model": BUNDLE, "served": "bundle_served", "held_back": "bundle_held_back"}  # of a training run
BLOCK = "block"  # of a model's facts: which block of the calibration period it scores; and, with a number, its bundle
REMOVED = "assay.models_removed_at"  # of a training run whose models clean-up has removed


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
    """The model that scores. number: version in the registry.  semantic: its semantic version, where it has one.

    tested: the model behind the figures of its test, which scores the rows that the serving one has learned from; None
    where that is the same.
    """

    number: str
    run_id: str
    tested: Calibrated | None = None
    semantic: str = ""

    @property
    def label(self) -> str:
        """What people call the version: `3 (1.0.2)`."""
        return label_of(self.number, {SEMANTIC: self.semantic} if self.semantic else {})

    @property
    def judged(self) -> Model:
        """The model that was tested."""
        return self.tested.model if self.tested is not None else self.model


def model_name(config: RunConfig, target: str) -> str:
    """Name of a run's model of a target, in the registry that the run uses."""
    schema = unity_schema(config)
    return unity_name(schema, config.dataset.name, target) if schema else registered_name(config.dataset.name, target)


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
    """The models of a training run, each one's hash checked against the run's tag. blocks: those as well.

    Raises:
        DataError: clean-up has removed them.
        AssayError: a file is missing or was changed.
    """
    tags = tracking.client.get_run(run_id).data.tags
    if REMOVED in tags:
        raise DataError(f"the models of training run {run_id} were removed by `registry cleanup`; train again")

    def loaded(which: str) -> Model:
        with tracking.download(run_id, bundle_name(which)) as folder:
            return Model.load(
                folder, sha256=tags[model_tag(which)], name=f"{bundle_name(which)} of training run {run_id}"
            )

    there = models_of(tags)
    found = {which: loaded(which) for which in BUNDLES if which in there}
    of_blocks = tuple(loaded(which) for which in there if which not in BUNDLES) if blocks else ()
    target = tags["assay.target"]
    name = model_name(tracking.config, target)
    return TrainedRun(run_id, target, registered_name=name, blocks=of_blocks, **found)


def bundle_name(which: str) -> str:
    """Artifact of a training run with one of its models: a key of `BUNDLES`, or `block_2` and so on."""
    return BUNDLES.get(which, f"{BUNDLE}_{which}")


def models_of(tags: Mapping[str, str]) -> dict[str, str]:
    """Models of a training run with these tags, named as `bundle_name` has them -> the hash of each."""
    numbers = itertools.takewhile(lambda n: model_tag(f"{BLOCK}_{n}") in tags, itertools.count(2))
    names = [*BUNDLES, *(f"{BLOCK}_{number}" for number in numbers)]
    return {which: tags[model_tag(which)] for which in names if model_tag(which) in tags}


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
    alias: str = CHAMPION,
    coverage: Mapping[float, float] | None = None,
) -> str:
    """Log the calibrated model that serves as an MLflow pyfunc (its code is the file `code`), give it an alias.

    calibration: of that model.  tested: the tested model with its own, where that is another.  row_ids: whether the
    model takes the column `row_id` as well, which it can do without.  alias: `champion`, or `challenger` for one that
    serves nobody yet.  coverage: per level the share of the test's outcomes that is covered, for the record.
    Returns:
        its number in the registry.

    A version of this very model and calibration that is registered already gets the alias, and is retired no more. The
    champion before becomes `previous`.
    """
    client, name, model = tracking.client, trained.registered_name, trained.serves
    wanted = {
        "assay.model_version": model.version,
        "assay.calibration_version": calibration_version,
        "assay.tested_version": tested.model.version if tested is not None else "",
        "assay.tested_calibration_version": tested.calibration_version if tested is not None else "",
    }
    versions = versions_of(client, name)
    for found in versions:
        if all(found.tags.get(k, "") == v for k, v in wanted.items()):
            if found.retired:
                client.delete_model_version_tag(name, str(found.number), RETIRED)
            return _named(client, name, found.number, alias)
    parts = {BUNDLE: (model, calibration)}
    if tested is not None:
        parts[TESTED] = (tested.model, dict(tested.calibration))
    source, hashes = log_pyfunc(tracking, parts, code, row_ids=row_ids)
    told = lineage(
        tracking, name, trained.run_id, model, calibration, versions, target=trained.target, coverage=coverage
    )
    if not versions and aliases_of(client, name) is None:
        try:
            client.create_registered_model(name)
        except tracking.mlflow.MlflowException as error:
            if error.error_code != MADE_MEANWHILE:  # by a job of another workspace
                raise
    logged = source.removeprefix("models:/") if source.startswith("models:/") else None  # a server wants it named twice
    tags = {**wanted, **hashes, **told}
    version = client.create_model_version(name, source=source, run_id=None, tags=tags, model_id=logged)
    settle(client, name, int(version.version))
    return _named(client, name, int(version.version), alias)


def _named(client: Any, name: str, number: int, alias: str) -> str:
    """Give a version an alias; returns its number."""
    if alias == CHAMPION:
        make_champion(client, name, str(number))
    else:
        client.set_registered_model_alias(name, alias, str(number))
    return str(number)


def champion(tracking: Tracking, target: str) -> Champion:
    """The champion of a target, every file checked against the hashes on record.

    Raises:
        DataError: there is none yet.
        AssayError: an artifact was changed.
    """
    found = find_champion(tracking, target)
    if found is None:
        name = model_name(tracking.config, target)
        raise DataError(
            f"no model of {name} is registered: run the job train first (a refused model is not registered)"
        )
    return found


def find_champion(tracking: Tracking, target: str) -> Champion | None:
    """The same, or None.

    Raises:
        AssayError: an artifact was changed.
    """
    name = model_name(tracking.config, target)
    try:
        version = tracking.client.get_model_version_by_alias(name, CHAMPION)
    except tracking.mlflow.MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        return None
    return _registered(name, str(version.version), version.tags, tracking.uri, tracking.registry_uri)


def registered(tracking: Tracking, target: str, which: str) -> Champion:
    """A registered version of a target's model by its number, semantic version or alias, checked like the champion.

    Raises:
        DataError: there is no such version; says which there are.
        AssayError: an artifact was changed.
    """
    uri = f"models:/{model_name(tracking.config, target)}@{which}"
    return load_registered(uri, tracking.uri, tracking.registry_uri)


def load_registered(uri: str, tracking_uri: str, registry_uri: str = "") -> Champion:
    """The model of `models:/NAME@ALIAS` or `models:/NAME/NUMBER` of an MLflow store; after @ a number is as good.

    registry_uri: where it is registered, by default in the store itself.

    Raises:
        DataError: there is no such version; says which there are.
        AssayError: an artifact was changed.
    """
    client = client_of(tracking_uri, registry_uri)
    name, separator, which = uri.removeprefix("models:/").rpartition("@")
    if not separator:
        name, separator, which = uri.removeprefix("models:/").rpartition("/")
    if not separator or not uri.startswith("models:/"):
        raise DataError(f"{uri!r} is no registered model: expected models:/NAME@{CHAMPION} or models:/NAME/NUMBER")
    versions = versions_of(client, name)
    version = pick(versions, which)
    if version is None:
        raise DataError(f"model {name} has no version or alias {which!r}; {described(versions)}")
    return _registered(name, str(version.number), version.tags, tracking_uri, registry_uri)


def load_version(tracking: Tracking, version: Version) -> Champion:
    """A registered version, checked like the champion.

    Raises:
        AssayError: an artifact was changed.
    """
    return _registered(version.name, str(version.number), version.tags, tracking.uri, tracking.registry_uri)


def version_label(tracking: Tracking, target: str, number: str) -> str:
    """What people call a version of a target's model: `3 (1.0.2)`."""
    name = model_name(tracking.config, target)
    return label_of(number, tracking.client.get_model_version(name, number).tags)


def registered_models(tracking_uri: str, dataset: str = "") -> dict[str, str]:
    """Name of each registered model of an MLflow store that has a champion -> its target. dataset: only those of it."""
    client = client_of(tracking_uri)
    found = {}
    for model in client.search_registered_models():
        if CHAMPION in model.aliases:
            version = client.get_model_version_by_alias(model.name, CHAMPION)
            tags = client.get_run(version.tags["assay.run_id"]).data.tags
            if dataset in {"", tags["assay.dataset"]}:
                found[model.name] = tags["assay.target"]
    return found


def champion_before(tracking: Tracking, target: str, run_id: str) -> Champion | None:
    """The champion before a training run's own version; None where there is none, or the run's is not registered.

    Raises:
        AssayError: an artifact was changed.
    """
    found = version_before(tracking, target, run_id)
    return None if found is None else load_version(tracking, found)


def version_before(tracking: Tracking, target: str, run_id: str) -> Version | None:
    """That version: the champion when the run's model was registered, or where that is not on record the one before."""
    versions = versions_of(tracking.client, model_name(tracking.config, target))
    own = [place for place, one in enumerate(versions) if one.trained_run_id == run_id]
    if not own:
        return None
    first = versions[own[0]]
    if first.semantic is None:
        return versions[own[0] - 1] if own[0] else None
    return next((one for one in versions if str(one.number) == first.tag("parent")), None)


def _registered(name: str, number: str, tags: Mapping[str, str], tracking_uri: str, registry_uri: str) -> Champion:
    """A version with its models. One that was registered before there were lists of files is checked by those alone."""
    told = f"model {name} version {label_of(number, tags)}"
    with version_files(tracking_uri, name, number, told, registry_uri=registry_uri) as folder:
        if LISTED in tags:
            check(folder, told, sha256=tags[LISTED])
        root = folder / "artifacts"
        served = _loaded(root / BUNDLE, tags, "assay.", told)
        tested = _loaded(root / TESTED, tags, f"assay.{TESTED}_", told) if tags.get("assay.tested_version") else None
    return Champion(
        served.model,
        served.calibration,
        served.calibration_version,
        number=number,
        run_id=tags["assay.run_id"],
        tested=tested,
        semantic=tags.get(SEMANTIC, ""),
    )


def _loaded(root: Path, tags: Mapping[str, str], prefix: str, name: str) -> Calibrated:
    """What `_saved` wrote, checked against the tags that begin so. name: of the version, for people."""
    model = Model.load(root, sha256=tags[f"{prefix}model_sha256"], name=name, beside=(CALIBRATION,))
    calibration = load_calibration(root, sha256=tags[f"{prefix}calibration_sha256"], name=name)
    return Calibrated(model, calibration, tags[f"{prefix}calibration_version"])


def load_calibration(folder: Path, *, sha256: str, name: str | None = None) -> dict[str, Any]:
    """The calibration beside a model. name: of the model, for people.

    Raises:
        AssayError: it is missing or was changed.
    """
    path = folder / CALIBRATION
    content = path.read_bytes() if path.is_file() else b""
    if digest_of(content) != sha256:
        name = name or f"model in {folder.name}"
        raise AssayError(f"{name}: file {CALIBRATION} is not the one on record; refusing to load it")
    found: dict[str, Any] = json.loads(content)
    return found
