"""Consumes the tables and the champion of a target, produces what every step of monitoring starts from."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import pyarrow as pa

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.config.monitoring import MonitoringConfig
from assay.conformal.following import own_step_days
from assay.errors import ConfigError, DataError
from assay.model.registry import Champion, champion
from assay.monitoring.windows import LEAST_DAYS, Window, windows_of
from assay.runtime.conditions import Condition
from assay.runtime.job import Done, JobContext, Plan
from assay.runtime.newest import dates_of, newest_time
from assay.runtime.plane import Flow, Output, Plane, Written
from assay.runtime.tables import FEATURES, PREDICTIONS, Table

YEAR = 366  # days of rows that say how far dates are apart


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

    @cached_property
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
    def of_target(self) -> Condition:
        """That a row is the target's."""
        return Condition("target", "==", self.target.name)

    @property
    def of_date(self) -> Condition:
        """That a row is of the run's day."""
        return Condition("as_of", "==", self.as_of)

    @property
    def dated(self) -> dict[str, str]:
        """Partition of the tables that hold a target's findings of a day."""
        return {"target": self.target.name, "as_of": self.as_of}

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
        newest = newest_time(self._times())
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
        """The reference and the current window.

        Raises:
            ConfigError: rows have no time, and no versions are named; or what `windows_of` raises.
        """
        if not self.context.config.dataset.time.dated and self.config.reference_version < 0:
            raise ConfigError(
                f"rows of {self.context.config.dataset.name} have no time, so there is no window of the newest ones: "
                "set monitoring.reference_version and monitoring.current_version, two versions of the table features "
                "(`assay tables` has their numbers)"
            )
        test = self.champion.judged.facts["split"]["test"]
        return windows_of(self.config, test, version=self.features, newest=self.newest, step_days=self._step_days)

    @property
    def since(self) -> dt.datetime:
        """When the current window begins; of a version as a whole, as many days ago as a window has at least."""
        return self.windows[1].start or self.now - dt.timedelta(days=LEAST_DAYS)

    def _step_days(self) -> float:
        """Least time between two dates of rows of the last year."""
        return own_step_days(dates_of(self._times(Condition("time", ">=", self.newest - dt.timedelta(days=YEAR)))))

    def _times(self, *more: Condition) -> Flow:
        """Times of the rows that the run may know."""
        as_of = self.context.config.as_of
        where = [*self.where, *([Condition("time", "<", as_of)] if as_of is not None else []), *more]
        return self.context.plane.read(FEATURES.name, version=self.features, columns=["time"], where=where)

    def plan(
        self,
        job: str,
        inputs: Mapping[str, int | str],
        table: Table,
        execute: Callable[[str], Done],
        *,
        also: Sequence[str] = (),
    ) -> Plan:
        """What a step is about to do, which reads `inputs` and writes the target's rows of `table`.

        also: sections of the configuration that it goes by, besides `monitoring`.
        """
        return Plan(
            job=job,
            inputs=inputs,
            sections=("monitoring", *also, "where", "as_of"),
            slots=[(table.name, self.target.name)],
            extra=self.told,
            execute=execute,
        )

    def versions(self, *tables: Table) -> dict[str, int]:
        """Versions of tables that steps before made.

        Raises:
            DataError: one is missing.
        """
        return {table.name: self.context.version(table.name, made_by="monitor") for table in tables}

    def rows(self, table: Table, version: int, *where: Condition) -> pa.Table:
        """The target's rows of a table that meet all conditions."""
        return rows_of_target(self.context.plane, table, version, self.target.name, *where)

    def write(
        self, table: Table, rows: pa.Table, job: str, identity: str, *, owns: Mapping[str, str] | None = None
    ) -> list[Written]:
        """Replace rows of a table by `rows`, whose schema is the table's. owns: as of `Output`; else `dated`."""
        commit = self.context.commit(job, self.target.name, identity)
        output = Output(table, rows.schema, commit, owns=self.dated if owns is None else owns)
        return self.context.plane.rows_of(table, rows.schema, rows).write([output])


def rows_of_target(plane: Plane, table: Table, version: int, target: str, *where: Condition) -> pa.Table:
    """A target's rows of a table that meet all conditions, on the driver."""
    return plane.read(table.name, version=version, where=[Condition("target", "==", target), *where]).collect()
