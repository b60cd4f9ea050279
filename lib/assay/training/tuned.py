"""Consumes what a study found, produces what a training run takes from it and tells of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from assay.config.profile import EngineConfig
from assay.training import catboost_params, xgboost_params

OTHER_NAMES: dict[str, Mapping[str, str]] = {
    "xgboost": xgboost_params.OTHER_NAMES,
    "catboost": catboost_params.OTHER_NAMES,
}


def own_names(engine: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters under the engine's first name of each."""
    return {OTHER_NAMES.get(engine, {}).get(name, name): value for name, value in params.items()}


@dataclasses.dataclass(frozen=True)
class Tuned:
    """The best parameters that a study found.

    study: its identity.  run_id: MLflow's, of the stage that made it.  params: over `engine.params`.  loss: of the
    study's best trial, on the model's scale.
    """

    study: str
    run_id: str
    params: Mapping[str, Any]
    loss: float
    trials: int

    @property
    def identity(self) -> dict[str, Any]:
        """What of it can change a training."""
        return {"study": self.study, "params": dict(self.params)}

    def engine(self, given: EngineConfig) -> EngineConfig:
        """The engine's settings with the best parameters."""
        return dataclasses.replace(given, params={**own_names(given.name, given.params), **self.params})

    @property
    def tags(self) -> dict[str, str]:
        """For the training's record."""
        return {"assay.study": self.study, "assay.study_run": self.run_id}
