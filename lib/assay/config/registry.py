"""Consumes the section `registry` of a profile, produces how long registered models are kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.strict import STRICT


@dataclass(frozen=True, config=STRICT)
class RegistryConfig:
    """What `registry cleanup` keeps of each target, besides all that something still needs.

    keep_versions: so many of the newest versions.  keep_days: versions registered within so many days.
    keep_predictions_days: how long a prediction counts: rows of `predictions` and `shadow_predictions` whose time is
        not older keep the version that made them.
    A retired version is kept by neither of the first two.
    """

    keep_versions: Annotated[int, Field(ge=0)] = 5
    keep_days: Annotated[float, Field(ge=0)] = 90.0
    keep_predictions_days: Annotated[float, Field(ge=0)] = 365.0
