"""Consumes `predictions` and `features`, produces what is summed of their joined rows, of numbers or of classes.

Rows are summed on executors; the driver gets sums, and a sample of rows for what needs single ones.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

import polars as pl
import pyarrow as pa

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.conformal.class_calibration import tested_map
from assay.errors import DataError
from assay.evaluation.content import BASELINE_PREFIX
from assay.evaluation.evaluated import CLUSTER, FACTOR, MONTH, KnownRows
from assay.evaluation.parts import PARTS, Sums, TallySpec
from assay.evaluation.past import Columns, Past, looked_back, past_rows
from assay.evaluation.target_job import C, Evaluation
from assay.model.baselines import Baselines
from assay.model.carried import Carried
from assay.model.comparison import why_incomparable
from assay.model.rates import RateBaselines
from assay.model.registry import champion_before
from assay.model.row_sample import ROW, sample_threshold
from assay.runtime.conditions import Condition
from assay.runtime.job import JobContext
from assay.runtime.plane import Kernel
from assay.runtime.tables import FEATURES, PREDICTIONS

T = TypeVar("T", bound=Sums[Any])
S = TypeVar("S", bound=TallySpec)


class TalliedEvaluation(Evaluation[C], Generic[C, T, S]):
    """One target's evaluation. T: what is summed, as S says.  band: segment column of bands of the prediction."""

    band: ClassVar[str]
    past: Past
    spec: S
    tally: T
    before_why: str

    def __init__(self, context: JobContext, target: TargetConfig, trained_run_id: str) -> None:
        super().__init__(context, target, trained_run_id)
        self.settings = context.config.profile.evaluation
        rules = RateBaselines if target.decides else Baselines
        self.baselines: Baselines | RateBaselines = rules.from_dict(self.model.facts["baselines"])

    @abstractmethod
    def spec_of(self, given: TallySpec, levels: Sequence[float]) -> S:
        """What is summed. given: what targets of all kinds have."""

    @abstractmethod
    def kernel(self, levels: Sequence[float]) -> Kernel:
        """Joined rows -> rows of `PARTS`."""

    @abstractmethod
    def merged(self, parts: pa.Table) -> T | None:
        """Rows of `PARTS` of all tasks as one; None without rows."""

    def rows(self, predictions: int, features: int) -> tuple[pl.DataFrame, list[float]]:
        """Look back, then sum the evaluated rows where they are; the sample of them, and the levels promised.

        Cost: one pass over a sample before the test period, one join of predictions with features.
        """
        plane = self.context.plane
        names = self.told(plane.schema(PREDICTIONS.name).names)
        labels = [name.removeprefix(self.promise) for name in names if name.startswith(self.promise)]
        levels = [float(label.replace("_", ".")) / 100 for label in labels]
        columns = Columns.of(self.config.dataset, self.settings, self.model, plane.schema(FEATURES.name))
        self.past = self._looked_back(columns, features)
        known = self._known(columns)
        rows = plane.rows(PREDICTIONS.name, predictions)
        self.spec = self.spec_of(self._spec(columns, known, names, levels, rows), levels)
        scored = plane.read(
            PREDICTIONS.name,
            version=predictions,
            columns=[ROW, *names],
            where=[Condition("target", "==", self.target.name), Condition("prediction", "not_null")],
        )
        outcomes = plane.read(FEATURES.name, version=features, columns=known.columns, where=self._evaluated())
        joined = scored.join(outcomes.map(known, known.schema), [ROW], rows_hint=rows)
        found = self.merged(joined.map(self.kernel(levels), PARTS).collect())
        if found is None or not found.rows:
            raise DataError(
                f"none of the predictions of {self.target.name!r} has a known outcome yet: ingest outcomes, then run "
                "build_features, score and evaluate again"
            )
        self.tally = found
        return found.sample.sort("time", ROW), levels

    @property
    def dated(self) -> bool:
        """Whether rows have a time of their own."""
        return self.config.dataset.time.dated

    def extent(self, rows: pl.DataFrame) -> tuple[int, dt.datetime, dt.datetime]:
        """Of all evaluated rows, not of the sample."""
        whole = self.tally.of("").row(0, named=True)
        return self.tally.rows, whole["first"], whole["last"]

    @property
    def shown_segment(self) -> str | None:
        """The first segment column, else bands of the prediction."""
        return self.segments[0] if self.segments else self.band

    @property
    def named(self) -> list[str]:
        """Segment columns that the dataset or the configuration names."""
        more = [c for c in map(stored_name, self.settings.segments) if c not in self.segments]
        return [*self.segments, *more]

    def _looked_back(self, columns: Columns, features: int) -> Past:
        config, column = self.config, stored_name(self.target.name)
        where = [Condition(stored_name(c), "==", v) for c, v in config.where]
        most = self.settings.clusters.sample_rows
        found = past_rows(self.context.plane, features, self.model, column, columns, where, most)
        seed = config.profile.engine.seed
        return looked_back(found, columns, self.settings, self.target, self._last, seed=seed)

    @property
    def _last(self) -> str | None:
        return self.baselines.last_value if isinstance(self.baselines, Baselines) else None

    def _known(self, columns: Columns) -> KnownRows:
        entity = [stored_name(name) for name in self.config.dataset.entity]
        known = KnownRows(
            target=stored_name(self.target.name),
            texts=tuple(dict.fromkeys([*entity, *columns.texts])),
            cuts=self.past.cuts,
            clusters=self.past.clusters,
            factors=columns.factors,
            baselines=self.baselines,
            last=self._last if self.past.direction == "last_value" else None,
            zero=self.past.direction == "zero",
        )
        return self._with_before(known)

    def _with_before(self, known: KnownRows) -> KnownRows:
        """With the champion before this one, where it can be asked about the same rows."""
        found = champion_before(self.context.tracking, self.target.name, self.records.trained.run_id)
        if found is None:
            self.before_why = "there is no champion before this one"
            return known
        there = set(self.context.plane.schema(FEATURES.name).names)
        first = dt.datetime.fromisoformat(self.model.facts["split"]["test"]["first"])
        why = why_incomparable(found, self.model, first, there)
        self.before_why = "" if why is None else f"not compared with the champion before, version {found.label}: {why}"
        if why is not None:
            return known
        return dataclasses.replace(known, before=Carried.of(found.judged), before_map=tested_map(found))

    def _spec(
        self, columns: Columns, known: KnownRows, names: Sequence[str], levels: Sequence[float], rows: int
    ) -> TallySpec:
        rivals = tuple(name for name in known.schema.names if name.startswith(BASELINE_PREFIX))
        cut = [self.band, *([CLUSTER] if known.clusters is not None else []), *([MONTH] if self.dated else [])]
        segments = tuple(dict.fromkeys([*columns.texts, *columns.numbers, *cut]))
        factors = [f"{FACTOR}{name}" for name in known.factors]
        most = self.settings.sample_rows
        return TallySpec(
            levels=tuple(levels),
            segment_columns=segments,
            rivals=rivals,
            kept=("time", "actual", *names, *known.texts, *segments, *factors, *rivals),
            threshold=sample_threshold(rows, most),
            most=most,
            relative=self.past.direction != "zero",
            dated=self.dated,
        )
