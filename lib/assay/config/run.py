"""Consumes dataset, profile and command line, produces one `RunConfig`: all that a run was told, with its hash."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
from pathlib import Path
from typing import Any

from assay.config.conformal import SCORES
from assay.config.dataset import DatasetConfig
from assay.config.profile import ENGINES, AdvancedTrainingConfig, ProfileConfig
from assay.extensions import Kind, digests, module_of


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The resolved configuration of one run.

    as_of: the moment the run pretends to be at, UTC; None means now. Rows after it do not exist for the run.
    where: slice of the data, as (column, value) pairs that must all hold.
    """

    dataset: DatasetConfig
    profile: ProfileConfig
    profile_name: str
    dataset_folder: Path
    workspace: Path
    as_of: dt.datetime | None = None
    where: tuple[tuple[str, str], ...] = ()

    @property
    def training(self) -> AdvancedTrainingConfig:
        """The feature flags and thresholds."""
        return self.profile.training

    def resolved(self) -> dict[str, Any]:
        """Everything that can change a result, as plain data; no folder of this machine is in it.

        Of the source's path or URL only the name stays (its content has a version of its own), of the MLflow store,
        its registry, the folder of its experiments, the place of tables and the packed environment nothing.
        """
        dataset, profile = dataclasses.asdict(self.dataset), dataclasses.asdict(self.profile)
        source, jdbc = dataset["source"], dataset["source"]["jdbc"]
        source["path"] = Path(source["path"]).name
        if jdbc["url"]:
            jdbc["url"] = f"{':'.join(jdbc['url'].split(':')[:2])}:{Path(jdbc['url']).name.rpartition(':')[2]}"
        jdbc["jars"] = [Path(jar).name for jar in jdbc["jars"]]
        for place in ("tracking_uri", "registry_uri", "experiment_folder", "lake", "environment"):
            del profile["runtime"][place]
        profile["runtime"]["extensions"] = [module_of(name) for name in profile["runtime"]["extensions"]]
        for section in ("preparation", "evaluation", "ingest", "segmentation"):  # went into the sections of these names
            del dataset[section]
        return {
            "dataset": dataset,
            **profile,
            "profile": self.profile_name,
            "as_of": self.as_of.isoformat() if self.as_of else None,
            "where": [list(pair) for pair in self.where],
        }

    @property
    def extended(self) -> dict[str, str]:
        """Engines, families and scores of extensions that the run names -> hash of each one's module."""
        engines = [self.profile.engine.name, *self.profile.ensemble.members]
        engines += [str(member["name"]) for member in self.profile.ensemble.members.values() if "name" in member]
        wanted: list[tuple[Kind, str]] = [("engine", name) for name in engines if name not in ENGINES]
        wanted += [("features", name) for name in self.dataset.features.families]
        wanted += [("score", score) for score in (self.profile.conformal.score,) if score not in SCORES]
        return digests(wanted)

    def hash_of(self, *sections: str) -> str:
        """SHA-256 over the named top-level sections of `resolved()` (all of them when none is named)."""
        resolved = self.resolved()
        chosen = {name: resolved[name] for name in sections} if sections else resolved
        return hashlib.sha256(canonical_json(chosen).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces, so that equal values have equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str, ensure_ascii=False)
