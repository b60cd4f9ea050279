"""Consumes a new model and its test period, produces its figures beside those of every baseline and of the champion."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from assay.class_metrics import brier_scores, class_metrics, log_losses
from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.conformal.class_calibration import tested_map
from assay.conformal.class_probabilities import ProbabilityMap
from assay.metrics import pinball_losses, point_metrics
from assay.model.baselines import Baselines
from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.model.outcome import Outcome
from assay.model.rates import RateBaselines
from assay.model.registry import Champion, find_champion
from assay.model.scale import Floats, as_floats
from assay.model.verdict import Verdict
from assay.runtime.conditions import Condition
from assay.runtime.job import JobContext
from assay.runtime.tables import FEATURES
from assay.training.champion import compare_losses, incomparable, verdict
from assay.training.judging import loss_of
from assay.training.rows import LabelledRows
from assay.training.split import Period

UNCALIBRATED = "uncalibrated"


@dataclasses.dataclass(frozen=True)
class Holdout:
    """The rows that no model of this run has seen. version: of `features`.  where: the period's rows."""

    context: JobContext
    target: TargetConfig
    version: int
    where: Sequence[Condition]
    period: Period

    def figures(
        self,
        model: Model,
        baselines: Rules,
        held_back: Model | None = None,
        probabilities: ProbabilityMap | None = None,
    ) -> tuple[dict[str, float], list[Verdict]]:
        """Figures of the model and of every baseline, and the verdict on it and the champion, where there is one.

        held_back: the model as it was before it was fitted again, whose loss is told beside.  probabilities: what both
        are served with; the champion has its own.  A dozen doubles a row come to the driver.
        """
        champion, target = self._champion(model), stored_name(self.target.name)
        models = {"model": model}
        if champion is not None:
            models["champion"] = champion.judged
        if held_back is not None:
            models["held_back"] = held_back
        columns = [*(name for one in models.values() for name in one.input_columns), *baselines.columns, "time", target]
        maps: dict[str, ProbabilityMap | None] = dict.fromkeys(["model", "held_back"], probabilities)
        maps["champion"] = tested_map(champion) if champion is not None else None
        carried = {name: Carried.of(one) for name, one in models.items()}
        kernel = kernel_of(carried, baselines, target, model.outcome, maps)
        schema = pa.schema([pa.field(name, pa.float64()) for name in kernel.names])
        flow = self.context.plane.read(
            FEATURES.name, version=self.version, columns=list(dict.fromkeys(columns)), where=self.where
        )
        rows = flow.map(kernel, schema).collect()
        found = {name: as_floats(rows.column(name)) for name in kernel.names}
        loss, root = loss_of(model.outcome), not model.outcome.decides
        metrics = kernel.figures(found)
        best = min(metrics[f"baseline_{name}_{loss}"] for name in baselines.names)
        metrics[f"best_baseline_{loss}"] = best
        metrics["skill_over_best_baseline"] = 1 - metrics[f"test_{loss}"] / best if best else math.nan
        if held_back is not None:
            mean = float(kernel.losses(found, "held_back").mean())
            metrics[f"test_{loss}_without_refit"] = math.sqrt(mean) if root else mean
        if champion is None:
            return metrics, []
        gates, seed = self.context.config.profile.gates, self.context.config.profile.engine.seed
        ours, theirs = (kernel.losses(found, name) for name in ("model", "champion"))
        compared = compare_losses(ours, theirs, found["day"], gates, seed=seed, root=root)
        metrics |= {f"champion_{loss}": compared.champion_rmse}
        metrics |= {f"{loss}_over_champion_low": compared.low, f"{loss}_over_champion_high": compared.high}
        return metrics, [verdict(compared, champion, gates, "RMSE" if root else "log loss")]

    def _champion(self, model: Model) -> Champion | None:
        """The champion, if there is one that the new model can be compared with."""
        context = self.context
        found = find_champion(context.tracking, self.target.name) if context.config.profile.gates.champion else None
        if found is None:
            return None
        why = incomparable(found, model, self.period, set(context.plane.schema(FEATURES.name).names))
        if why is not None:
            context.reporter.note(f"not compared with the champion, version {found.label}: {why}")
            return None
        return found


def figures_on(rows: LabelledRows, model: Model, period: Period) -> dict[str, float]:
    """Figures of a model on the labelled rows of a period. A few doubles a row come to the driver."""
    kernel = PredictOne(Carried.of(model), rows.column, model.outcome)
    schema = pa.schema([pa.field(name, pa.float64()) for name in kernel.names])
    flow = rows.read(list(dict.fromkeys([*model.input_columns, rows.column])), period)
    found = flow.map(kernel, schema).collect()
    actual, *predicted = (as_floats(found.column(name)) for name in kernel.names)
    if model.outcome.decides:
        return class_metrics(actual, np.column_stack(predicted))
    return point_metrics(actual, predicted[0])


@dataclasses.dataclass(frozen=True)
class PredictOne:
    """Kernel: outcome and prediction, of classes their probabilities, per labelled row."""

    carried: Carried
    target: str
    outcome: Outcome

    @property
    def names(self) -> list[str]:
        """Columns that it gives."""
        told = [f"class {k}" for k in range(len(self.outcome.classes))] if self.outcome.decides else ["model"]
        return ["actual", *told]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Columns of doubles, in the target's unit."""
        model = self.carried.model()
        for batch in batches:
            told = model.probabilities(batch).T if self.outcome.decides else [model.predict(batch)]
            columns = dict(zip(self.names, [as_floats(batch.column(self.target)), *told], strict=True))
            yield pa.record_batch({name: pa.array(values, pa.float64()) for name, values in columns.items()})


Rules = Baselines | RateBaselines


def kernel_of(
    models: Mapping[str, Carried],
    baselines: Rules,
    target: str,
    outcome: Outcome,
    maps: Mapping[str, ProbabilityMap | None] = MappingProxyType({}),
) -> PredictAll | PredictClasses:
    """What predicts the rows and measures the predictions, by the kind of outcome.

    models: `model`, and others.  maps: of their probabilities, where they have classes and are served with one.
    """
    if isinstance(baselines, RateBaselines):
        return PredictClasses(models, baselines, target, {name: one for name, one in maps.items() if one is not None})
    return PredictAll(models, baselines, target, outcome.levels)


def days_of(batch: pa.RecordBatch) -> Floats:
    """Days since 1970 (UTC) of rows, (n,)."""
    found: Floats = np.floor(batch.column("time").cast(pa.int64()).to_numpy() / 86_400e6)
    return found


@dataclasses.dataclass(frozen=True)
class PredictAll:
    """Kernel: outcome, day, and the predictions of some models and of every baseline, per labelled row.

    levels: of the model's quantiles, where it has some.
    """

    models: Mapping[str, Carried]
    baselines: Baselines
    target: str
    levels: tuple[float, ...] = ()

    @property
    def names(self) -> list[str]:
        """Columns that it gives."""
        return ["actual", "day", *self.models, *self.baselines.names, *self._quantiles]

    @property
    def _quantiles(self) -> list[str]:
        return [f"quantile {level:g}" for level in self.levels]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Columns of doubles, in the target's unit; days since 1970 (UTC)."""
        models = {name: carried.model() for name, carried in self.models.items()}
        for batch in batches:
            columns = {
                "actual": as_floats(batch.column(self.target)),
                "day": days_of(batch),
                **{name: np.asarray(model.predict(batch)) for name, model in models.items()},
                **self.baselines.predict(batch),
            }
            if self.levels:
                columns |= dict(zip(self._quantiles, models["model"].predict_quantiles(batch).T, strict=True))
            yield pa.record_batch({name: pa.array(columns[name], pa.float64()) for name in self.names})

    def figures(self, found: Mapping[str, Floats]) -> dict[str, float]:
        """`test_*` of the model and `baseline_*`, of the columns for all rows."""
        results = {name: point_metrics(found["actual"], found[name]) for name in ("model", *self.baselines.names)}
        metrics = {f"test_{k}": v for k, v in results.pop("model").items()}
        metrics |= {f"baseline_{name}_{k}": r[k] for name, r in results.items() for k in ("rmse", "mae", "median_ape")}
        if self.levels:
            told = np.column_stack([found[name] for name in self._quantiles])
            metrics["test_pinball"] = float(pinball_losses(found["actual"], told, self.levels).mean())
            below = {f"test_below_{level * 100:g}".replace(".", "_"): level for level in self.levels}
            shares = (found["actual"][:, None] <= told).mean(axis=0)
            metrics |= dict(zip(below, shares.tolist(), strict=True))
        return metrics

    def losses(self, found: Mapping[str, Floats], name: str) -> Floats:
        """Squared errors of one of the models, (n,)."""
        return np.asarray((found[name] - found["actual"]) ** 2)


@dataclasses.dataclass(frozen=True)
class PredictClasses:
    """Kernel: class, day, the model's probabilities, and losses of other models and of baselines.

    maps: by model, of those whose probabilities are calibrated. Where those of `model` are, `uncalibrated` is another.
    """

    models: Mapping[str, Carried]
    baselines: RateBaselines
    target: str
    maps: Mapping[str, ProbabilityMap] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Columns that it gives."""
        losses = [f"{name} {loss}" for name in self._others for loss in ("log_loss", "brier")]
        return ["actual", "day", *self._probabilities, *losses]

    @property
    def _others(self) -> list[str]:
        raw = [UNCALIBRATED] if "model" in self.maps else []
        return [*(name for name in self.models if name != "model"), *raw, *self.baselines.names]

    @property
    def _probabilities(self) -> list[str]:
        return [f"class {k}" for k in range(self.baselines.classes)]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Columns of doubles; days since 1970 (UTC)."""
        models = {name: carried.model() for name, carried in self.models.items()}
        model = models.pop("model")
        for batch in batches:
            actual = as_floats(batch.column(self.target))
            columns = {"actual": actual, "day": days_of(batch)}
            raw = model.probabilities(batch)
            columns |= dict(zip(self._probabilities, self._served("model", raw).T, strict=True))
            others = {name: self._served(name, one.probabilities(batch)) for name, one in models.items()}
            others |= {UNCALIBRATED: raw, **self.baselines.predict(batch)}
            for name, found in others.items():
                columns |= {f"{name} log_loss": log_losses(actual, found), f"{name} brier": brier_scores(actual, found)}
            yield pa.record_batch({name: pa.array(columns[name], pa.float64()) for name in self.names})

    def _served(self, name: str, probabilities: Floats) -> Floats:
        return self.maps[name](probabilities) if name in self.maps else probabilities

    def figures(self, found: Mapping[str, Floats]) -> dict[str, float]:
        """`test_*` of the model, as it is served and `_uncalibrated`, and `baseline_*`, of the columns for all rows."""
        each = np.column_stack([found[name] for name in self._probabilities])
        metrics = {f"test_{name}": value for name, value in class_metrics(found["actual"], each).items()}
        if "model" in self.maps:
            metrics |= {
                f"test_{loss}_{UNCALIBRATED}": float(found[f"{UNCALIBRATED} {loss}"].mean())
                for loss in ("log_loss", "brier")
            }
        return metrics | {
            f"baseline_{name}_{loss}": float(found[f"{name} {loss}"].mean())
            for name in self.baselines.names
            for loss in ("log_loss", "brier")
        }

    def losses(self, found: Mapping[str, Floats], name: str) -> Floats:
        """Log losses of one of the models, (n,)."""
        if name != "model":
            return found[f"{name} log_loss"]
        return log_losses(found["actual"], np.column_stack([found[column] for column in self._probabilities]))
