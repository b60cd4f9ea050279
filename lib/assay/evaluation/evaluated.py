"""Consumes features and predictions, produces evaluated rows on executors, and what is summed of them on the driver."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from assay.class_metrics import log_losses
from assay.conformal.class_probabilities import ProbabilityMap
from assay.evaluation.class_tally import TallyClasses
from assay.evaluation.content import BASELINE_PREFIX
from assay.evaluation.cuts import Cuts
from assay.evaluation.decisions import Rule
from assay.evaluation.row_figures import REFERENCE
from assay.evaluation.segments import check_rows
from assay.evaluation.tally import TallyRows
from assay.model.baselines import Baselines
from assay.model.carried import Carried
from assay.model.clusters import Clusters
from assay.model.rates import RateBaselines
from assay.model.row_sample import ROW
from assay.model.scale import Floats, as_floats
from assay.runtime.arrow_files import conform
from assay.runtime.tables import TIME

# Segment columns; stored names have no blanks.
PRICE_BAND, PROBABILITY_BAND, CLUSTER, MONTH = "price band", "probability band", "similar rows", "month"
BEFORE = f"{BASELINE_PREFIX}champion before"
FACTOR = "factor "


@dataclasses.dataclass(frozen=True)
class KnownRows:
    """Kernel: of rows of `features`, what evaluation wants, before they meet their predictions.

    target: column of the outcome.  texts: columns kept as they are.  cuts: numeric columns told as bands.
    factors: numeric columns kept for the worst slab.  last: column of the entity's last known value, where a direction
    is counted from it; zero: it is counted from 0.  before: the champion before this one, which predicts again.
    before_map: what its probabilities were served with.

    Of classes the columns of baselines and of the champion before are log losses.
    """

    target: str
    texts: tuple[str, ...]
    cuts: Mapping[str, Cuts]
    clusters: Clusters | None
    factors: tuple[str, ...]
    baselines: Baselines | RateBaselines
    last: str | None = None
    zero: bool = False
    before: Carried | None = None
    before_map: ProbabilityMap | None = None

    @property
    def columns(self) -> list[str]:
        """Columns of `features` that it needs."""
        clustered = self.clusters.columns if self.clusters is not None else ()
        names = [ROW, "time", self.target, *self.texts, *self.cuts, *clustered, *self.factors, *self.baselines.columns]
        inputs = self.before.model().input_columns if self.before is not None else []
        return list(dict.fromkeys([*names, *([self.last] if self.last else []), *inputs]))

    @property
    def schema(self) -> pa.Schema:
        """Columns that it gives."""
        found = {ROW: pa.int64(), "time": TIME, "actual": pa.float64()}
        found |= dict.fromkeys(dict.fromkeys((*self.texts, *self.cuts)), pa.string())
        found |= {CLUSTER: pa.string()} if self.clusters is not None else {}
        found |= {REFERENCE: pa.float64()} if self.last or self.zero else {}
        numbers = [f"{FACTOR}{name}" for name in self.factors]
        numbers += [f"{BASELINE_PREFIX}{name}" for name in self.baselines.names]
        found |= dict.fromkeys([*numbers, *([BEFORE] if self.before is not None else [])], pa.float64())
        return pa.schema([pa.field(name, kind) for name, kind in found.items()])

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `schema`."""
        schema = self.schema
        for batch in batches:
            columns: dict[str, Any] = {name: batch.column(name) for name in (ROW, "time", *self.texts)}
            columns["actual"] = as_floats(batch.column(self.target))
            columns |= {name: cut.assign(as_floats(batch.column(name))) for name, cut in self.cuts.items()}
            if self.clusters is not None:
                seen = np.column_stack([as_floats(batch.column(name)) for name in self.clusters.columns])
                columns[CLUSTER] = self.clusters.assign(seen)
            if self.last is not None:
                columns[REFERENCE] = as_floats(batch.column(self.last))
            elif self.zero:
                columns[REFERENCE] = np.zeros(batch.num_rows)
            columns |= {f"{FACTOR}{name}": as_floats(batch.column(name)) for name in self.factors}
            columns |= {f"{BASELINE_PREFIX}{n}": v for n, v in self._baselines(batch, columns["actual"]).items()}
            if self.before is not None:
                columns[BEFORE] = self._before(self.before, batch, columns["actual"])
            made = {f.name: c if isinstance(c := columns[f.name], pa.Array) else pa.array(c, f.type) for f in schema}
            yield conform(pa.RecordBatch.from_pydict(made), schema)

    def _baselines(self, batch: pa.RecordBatch, actual: Floats) -> dict[str, Floats]:
        found = self.baselines.predict(batch)
        if isinstance(self.baselines, RateBaselines):
            return {name: log_losses(actual, each) for name, each in found.items()}
        return found

    def _before(self, before: Carried, batch: pa.RecordBatch, actual: Floats) -> Floats:
        if not isinstance(self.baselines, RateBaselines):
            return before.model().predict(batch)
        each = before.model().probabilities(batch)
        return log_losses(actual, self.before_map(each) if self.before_map is not None else each)


@dataclasses.dataclass(frozen=True)
class JudgeRows(TallyRows):
    """Kernel over joined rows: bands of the prediction, months and decisions added, then summed (rows of `PARTS`)."""

    bands: Cuts = dataclasses.field(default_factory=Cuts)
    rules: tuple[Rule, ...] = ()
    dated: bool = True

    def prepared(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows with columns for their bands, months and decisions.

        Raises ValueError for outcomes and predictions that mean nothing, and crossed bounds.
        """
        check_rows(rows, (), self.spec.levels)
        band = pl.Series(PRICE_BAND, self.bands.assign(rows["prediction"].to_numpy()), pl.String)
        month = [pl.col("time").dt.strftime("%Y-%m").alias(MONTH)] if self.dated else []
        return rows.with_columns(band, *month, *(rule.expression().alias(rule.name) for rule in self.rules))


@dataclasses.dataclass(frozen=True)
class JudgeClasses(TallyClasses):
    """Kernel over joined rows of classes: bands of the prediction and months added, then summed (rows of `PARTS`)."""

    bands: Cuts = dataclasses.field(default_factory=Cuts)
    dated: bool = True

    def prepared(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows with columns for their bands and months."""
        band = pl.Series(PROBABILITY_BAND, self.bands.assign(rows["prediction"].to_numpy()), pl.String)
        month = [pl.col("time").dt.strftime("%Y-%m").alias(MONTH)] if self.dated else []
        return rows.with_columns(band, *month)
