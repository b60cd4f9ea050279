"""Consumes the tables and the champion of a target, produces what every step of monitoring starts from."""

from __future__ import annotations

import dataclasses
import datetime as dt
from functools import cached_property

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.config.monitoring import MonitoringConfig
from assay.errors import DataError
from assay.model.registry import Champion, champion
from assay.monitoring.windows import Window, windows_of
from assay.runtime.conditions import Condition
from assay.runtime.job import JobContext
from assay.runtime.newest import newest_time
from assay.runtime.tables import FEATURES, PREDICTIONS


@dataclasses.dataclass(frozen=True)
class Watching:
    """One target, its champion, and versions of the tables `features` and `predictions`."""

    context: JobContext
    target: TargetConfig
    champion: Champion
    features: int
    predictions: int

    @classmethod
    def of(cls, context: JobContext, target: TargetConfig) -> Watching:
        """As things are now.

        Raises:
            DataError: there is no champion, or a table is missing.
        """
        features = context.version(FEATURES.name, made_by="build_features")
        predictions = context.version(PREDICTIONS.name, made_by="score")
        return cls(context, target, champion(context.tracking, target.name), features, predictions)

    @property
    def config(self) -> MonitoringConfig:
        """The section `monitoring`."""
        return self.context.config.profile.monitoring

    @property
    def inputs(self) -> dict[str, int | str]:
        """Versions of the tables."""
        return {FEATURES.name: self.features, PREDICTIONS.name: self.predictions}

    @property
    def told(self) -> dict[str, str]:
        """What else can change an outcome: target, model, and the run that scored."""
        scored = self.context.plane.last_commit(PREDICTIONS.name, self.target.name)
        return {
            "target": self.target.name,
            "model": self.champion.model.version,
            "calibration": self.champion.calibration_version,
            "predictions": scored.identity if scored is not None else "",
        }

    @property
    def where(self) -> list[Condition]:
        """The run's slice."""
        return [Condition(stored_name(name), "==", value) for name, value in self.context.config.where]

    @cached_property
    def newest(self) -> dt.datetime:
        """Time of the newest row that the run may know.

        Raises:
            DataError: there is none.
        """
        as_of = self.context.config.as_of
        where = [*self.where, *([Condition("time", "<", as_of)] if as_of is not None else [])]
        read = self.context.plane.read(FEATURES.name, version=self.features, columns=["time"], where=where)
        newest = newest_time(read)
        if newest is None:
            raise DataError("the features have no row to watch: run the job build_features first, or set --date later")
        return newest

    @property
    def now(self) -> dt.datetime:
        """The moment that the run is about: `--date`, else that of the newest row."""
        return self.context.config.as_of or self.newest

    @property
    def as_of(self) -> str:
        """Its day."""
        return f"{self.now:%Y-%m-%d}"

    @cached_property
    def windows(self) -> tuple[Window, Window]:
        """The reference and the current window."""
        test = self.champion.judged.facts["split"]["test"]
        return windows_of(self.config, test, version=self.features, newest=self.newest)
