"""Consumes YAML files and the command line, produces a frozen `RunConfig`; an unknown key is an error."""

from __future__ import annotations

import copy
import datetime as dt
import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay import extensions
from assay.config.conformal import SCORES, SET_SCORES
from assay.config.consistency import check_dataset
from assay.config.dataset import FIRST_YEAR, LAST_YEAR, CalendarConfig, DatasetConfig
from assay.config.ensemble import EnsembleConfig
from assay.config.evaluation import EvaluationConfig
from assay.config.features import FeaturesConfig
from assay.config.members import unknown
from assay.config.overrides import DATASET, parse_override
from assay.config.preparation import PreparationConfig
from assay.config.profile import ENGINES, AdvancedTrainingConfig, EngineConfig, IngestConfig, ProfileConfig
from assay.config.profile_consistency import check_profile
from assay.config.retraining import RetrainingConfig
from assay.config.run import RunConfig
from assay.config.segmentation import SegmentationConfig
from assay.config.strict import check, nearest
from assay.config.yaml_text import Tree, read_yaml
from assay.errors import ConfigError

REFINED = {"features": FeaturesConfig, "calendar": CalendarConfig}
OVERRIDDEN = {  # by the dataset
    "training": AdvancedTrainingConfig,
    "preparation": PreparationConfig,
    "evaluation": EvaluationConfig,
    "ingest": IngestConfig,
    "segmentation": SegmentationConfig,
    "engine": EngineConfig,
    "ensemble": EnsembleConfig,
    "retraining": RetrainingConfig,
}


def conf_root() -> Path:
    """Folder of the configuration that ships with assay: beside the source tree, or inside the installed package.

    ASSAY_CONF names another one, as that of a packed assay.
    """
    if told := os.environ.get("ASSAY_CONF"):
        return Path(told)
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def load_dataset(path: Path, *, profile: str | None = None) -> DatasetConfig:
    """Load and check one dataset YAML, as it is under a profile.

    Raises:
        ConfigError: with the dotted path of the key and the nearest valid one.
    """
    tree = _read_dataset(path)
    _dataset(tree, origin=str(path))
    _refine(tree, profile)
    config = _dataset(tree, origin=str(path))
    check_dataset(config, str(path))
    return config


def load_run(
    *,
    dataset: Path,
    profile: str = "production",
    workspace: Path | None = None,
    overrides: Sequence[str] = (),
    date: str | None = None,
    where: Sequence[str] = (),
) -> RunConfig:
    """Resolve everything a run is told: profile < dataset's sections of `OVERRIDDEN` < `--set`.

    profile: the name of one that ships with assay, or a YAML file, whose name it then has.

    Within the dataset: `features` and `calendar` < what `profiles` says of them under this profile < `--set`.

    Raises:
        ConfigError: with the dotted path of the key and the nearest valid one.
    """
    profile_path = profile_file(profile)
    profile = profile_path.stem
    tree: Tree = read_yaml(profile_path)
    check(ProfileConfig, tree, origin=str(profile_path))
    tree[DATASET] = _read_dataset(dataset)
    _dataset(tree[DATASET], origin=str(dataset))
    _refine(tree[DATASET], profile)
    changes = [parse_override(text) for text in overrides]
    for change in changes:
        if change.for_dataset:
            change.apply(tree)
    dataset_config = _dataset(tree.pop(DATASET), origin="--set", prefix=DATASET)
    for section in OVERRIDDEN:
        tree[section] = {**tree.get(section, {}), **copy.deepcopy(getattr(dataset_config, section))}
    for change in changes:
        if not change.for_dataset:
            change.apply(tree)
    profile_config: ProfileConfig = check(ProfileConfig, tree, origin="--set")
    extensions.load(profile_config.runtime.extensions)
    extensions.check_own("engine", (*ENGINES, "ensemble"))
    extensions.check_own("score", (*SCORES, *SET_SCORES))
    for name in dataset_config.features.families:
        if not extensions.is_here("features", name):
            raise unknown("features.families", name, "features", (), str(dataset))
    check_dataset(dataset_config, f"{dataset} with --set" if overrides else str(dataset))
    check_profile(profile_config, f"{profile_path} with --set" if overrides else str(profile_path))
    return RunConfig(
        dataset=dataset_config,
        profile=profile_config,
        profile_name=profile,
        dataset_folder=dataset.resolve().parent,
        workspace=(workspace or Path("workspace") / dataset_config.name).absolute(),
        as_of=_parse_date(date),
        where=tuple(_parse_where(dataset_config, text) for text in where),
    )


def _read_dataset(path: Path) -> Tree:
    if not path.exists():
        raise ConfigError(f"--dataset {path}: there is no such file{_nearby_file(path)}")
    return read_yaml(path)


def _nearby_file(path: Path) -> str:
    """The file with the likest name, of those beside `path` and those that ship with assay."""
    folders = (path.parent, conf_root() / "datasets")
    names = {p.stem: p for folder in folders if folder.is_dir() for p in sorted(folder.glob("*.y*ml"))}
    close = difflib.get_close_matches(path.stem, list(names), n=1, cutoff=0.6)
    return f"; did you mean {os.path.relpath(names[close[0]])}?" if close else ""


def profile_names() -> list[str]:
    """Names of the profiles that ship with assay."""
    return list(_profiles())


def _profiles() -> dict[str, Path]:
    return {path.stem: path for path in sorted((conf_root() / "profiles").glob("*.yml"))}


def profile_file(name: str) -> Path:
    """The YAML file of a profile, which is named by its name or its path.

    Raises:
        ConfigError: there is no such profile.
    """
    if name.endswith((".yml", ".yaml")):
        if not Path(name).is_file():
            raise ConfigError(f"--profile {name}: there is no such file")
        return Path(name)
    known = _profiles()
    if name not in known:
        hint = nearest(name, set(known)) or f"; choose one of {', '.join(known)}"
        raise ConfigError(f"--profile {name}: there is no such profile{hint}")
    return known[name]


def _dataset(tree: Tree, *, origin: str, prefix: str = "") -> DatasetConfig:
    for section, kind in OVERRIDDEN.items():
        told = tree.get(section)
        if isinstance(told, dict):
            check(kind, told, origin=origin, prefix=f"{prefix}.{section}" if prefix else section)
    refined = tree.get("profiles")
    if isinstance(refined, dict):
        _check_refinements(refined, origin=origin, prefix=f"{prefix}.profiles" if prefix else "profiles")
    config: DatasetConfig = check(DatasetConfig, tree, origin=origin, prefix=prefix)
    return config


def _check_refinements(refined: dict[str, Any], *, origin: str, prefix: str) -> None:
    known = _profiles()
    for profile, sections in refined.items():
        if profile not in known:
            raise ConfigError(f"{origin}: {prefix}.{profile}: there is no such profile{nearest(profile, set(known))}")
        for section, kind in REFINED.items():
            if isinstance(sections, dict) and isinstance(sections.get(section), dict):
                check(kind, sections[section], origin=origin, prefix=f"{prefix}.{profile}.{section}")


def _refine(dataset: Tree, profile: str | None) -> None:
    """Lay over a dataset's sections what it wants of them under a profile; mappings are merged key by key."""
    for section, changes in dataset.pop("profiles", {}).get(profile, {}).items():
        dataset[section] = _merged(dataset.get(section, {}), changes)


def _merged(tree: Tree, changes: Tree) -> Tree:
    return {
        **tree,
        **{k: _merged(tree.get(k) or {}, v) if isinstance(v, dict) else v for k, v in changes.items()},
    }


def _parse_date(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))  # which Python 3.10 does not read
    except ValueError:
        raise ConfigError(f"--date {text}: not a date; write it as 2015-06-30 or 2015-06-30T12:00:00+00:00") from None
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ConfigError(f"--date {text}: expected a year from {FIRST_YEAR} to {LAST_YEAR}")
    return moment.astimezone(dt.timezone.utc) if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)


def _parse_where(dataset: DatasetConfig, text: str) -> tuple[str, str]:
    column, separator, value = text.partition("=")
    if not separator or not column:
        raise ConfigError(f"--where {text}: expected COLUMN=VALUE, for example --where city=Austin")
    if column not in dataset.text_columns:
        known = set(dataset.text_columns)
        raise ConfigError(
            f"--where {text}: {column!r} is no entity, categorical, group or segment column of {dataset.name}"
            f"{nearest(column, known) or '; choose one of ' + ', '.join(sorted(known))}"
        )
    return column, value
