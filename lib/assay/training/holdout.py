"""Consumes a new model and its test period, produces its figures beside those of every baseline and of the champion."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.metrics import point_metrics
from assay.model.baselines import Baselines
from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.model.registry import Champion, find_champion
from assay.model.scale import as_floats
from assay.model.verdict import Verdict
from assay.runtime.conditions import Condition
from assay.runtime.job import JobContext
from assay.runtime.tables import FEATURES
from assay.training.champion import compare, incomparable, verdict
from assay.training.rows import LabelledRows
from assay.training.split import Period


@dataclasses.dataclass(frozen=True)
class Holdout:
    """The rows that no model of this run has seen. version: of `features`.  where: the period's rows."""

    context: JobContext
    target: TargetConfig
    version: int
    where: Sequence[Condition]
    period: Period

    def figures(
        self, model: Model, baselines: Baselines, held_back: Model | None = None
    ) -> tuple[dict[str, float], list[Verdict]]:
        """Figures of the model and of every baseline, and the verdict on it and the champion, where there is one.

        held_back: the model as it was before it was fitted again, whose error is told beside.  A dozen doubles a row
        come to the driver.
        """
        champion, target = self._champion(model), stored_name(self.target.name)
        models = {"model": model}
        if champion is not None:
            models["champion"] = champion.judged
        if held_back is not None:
            models["held_back"] = held_back
        columns = [*(name for one in models.values() for name in one.input_columns), *baselines.columns, "time", target]
        names = ["actual", "day", *models, *baselines.names]
        schema = pa.schema([pa.field(name, pa.float64()) for name in names])
        flow = self.context.plane.read(
            FEATURES.name, version=self.version, columns=list(dict.fromkeys(columns)), where=self.where
        )
        carried = {name: Carried.of(one) for name, one in models.items()}
        rows = flow.map(PredictAll(carried, baselines, target), schema).collect()
        found = {name: as_floats(rows.column(name)) for name in names}
        actual = found["actual"]
        results = {name: point_metrics(actual, found[name]) for name in ("model", *baselines.names)}
        metrics = {f"test_{k}": v for k, v in results.pop("model").items()}
        metrics |= {f"baseline_{name}_{k}": r[k] for name, r in results.items() for k in ("rmse", "mae", "median_ape")}
        best = min(r["rmse"] for r in results.values())
        metrics["best_baseline_rmse"] = best
        metrics["skill_over_best_baseline"] = 1 - metrics["test_rmse"] / best if best else math.nan
        if held_back is not None:
            metrics["test_rmse_without_refit"] = point_metrics(actual, found["held_back"])["rmse"]
        if champion is None:
            return metrics, []
        gates, seed = self.context.config.profile.gates, self.context.config.profile.engine.seed
        compared = compare(actual, found["model"], found["champion"], found["day"], gates, seed=seed)
        metrics |= {"champion_rmse": compared.champion_rmse}
        metrics |= {"rmse_over_champion_low": compared.low, "rmse_over_champion_high": compared.high}
        return metrics, [verdict(compared, champion, gates)]

    def _champion(self, model: Model) -> Champion | None:
        """The champion, if there is one that the new model can be compared with."""
        context = self.context
        found = find_champion(context.tracking, self.target.name) if context.config.profile.gates.champion else None
        if found is None:
            return None
        why = incomparable(found, model, self.period, set(context.plane.schema(FEATURES.name).names))
        if why is not None:
            context.reporter.note(f"not compared with the champion (version {found.number}): {why}")
            return None
        return found


def figures_on(rows: LabelledRows, model: Model, period: Period) -> dict[str, float]:
    """Figures of a model on the labelled rows of a period. Two doubles a row come to the driver."""
    names = ("actual", "model")
    schema = pa.schema([pa.field(name, pa.float64()) for name in names])
    flow = rows.read(list(dict.fromkeys([*model.input_columns, rows.column])), period)
    found = flow.map(PredictOne(Carried.of(model), rows.column), schema).collect()
    actual, predicted = (as_floats(found.column(name)) for name in names)
    return point_metrics(actual, predicted)


@dataclasses.dataclass(frozen=True)
class PredictOne:
    """Kernel: outcome and prediction per labelled row."""

    carried: Carried
    target: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Columns of doubles, in the target's unit."""
        model = self.carried.model()
        for batch in batches:
            columns = {"actual": as_floats(batch.column(self.target)), "model": np.asarray(model.predict(batch))}
            yield pa.record_batch({name: pa.array(values, pa.float64()) for name, values in columns.items()})


@dataclasses.dataclass(frozen=True)
class PredictAll:
    """Kernel: outcome, day, and the predictions of some models and of every baseline, per labelled row."""

    models: Mapping[str, Carried]
    baselines: Baselines
    target: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Columns of doubles, in the target's unit; days since 1970 (UTC)."""
        models = {name: carried.model() for name, carried in self.models.items()}
        for batch in batches:
            microseconds = batch.column("time").cast(pa.int64()).to_numpy()
            columns = {
                "actual": as_floats(batch.column(self.target)),
                "day": np.floor(microseconds / 86_400e6),
                **{name: np.asarray(model.predict(batch)) for name, model in models.items()},
                **self.baselines.predict(batch),
            }
            yield pa.record_batch({name: pa.array(values, pa.float64()) for name, values in columns.items()})
