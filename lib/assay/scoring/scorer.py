"""Consumes batches of a model's inputs, produces all that is said of each row: for jobs, UDFs and streams alike."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.config.profile import ScoringConfig
from assay.conformal.calibration import Calibration
from assay.conformal.class_calibration import read_calibration
from assay.conformal.following import Following
from assay.conformal.intervals import score_batch
from assay.conformal.scores import check_extension
from assay.errors import DataError
from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.model.isolation import Isolating
from assay.model.registry import Calibrated
from assay.runtime.tables import level_label
from assay.scoring import confidence
from assay.scoring.quality import REASONS, InputChecks

TEXTS = pa.list_(pa.string())
NOT_FOLLOWED = "not_followed"
ALSO = ("row_id", "time")  # used where they are there: for draws of sets, and for calibrations that follow time


def level_fields(levels: tuple[float, ...]) -> list[pa.Field]:
    """Bounds and widths of each level."""
    return [
        pa.field(f"{end}_{level_label(level)}", pa.float64()) for level in levels for end in ("lower", "upper", "width")
    ]


def class_fields(levels: tuple[float, ...]) -> list[pa.Field]:
    """What is said of classes besides."""
    return [
        pa.field("predicted_class", pa.string()),
        pa.field("probabilities", pa.list_(pa.float64())),
        *(pa.field(f"set_{level_label(level)}", TEXTS) for level in levels),
    ]


QUALITY_FIELDS = [
    pa.field("confidence", pa.float64()),
    pa.field("risk", pa.float64()),
    pa.field("quality", pa.string()),
    pa.field("quality_reasons", REASONS),
    pa.field("segment", pa.string()),
]


def scored_schema(levels: tuple[float, ...], *, classes: bool, members: bool) -> pa.Schema:
    """What a `Scorer` says of a row. classes: of classes there are sets, and widths, but no bounds.

    members: an ensemble's disagree.
    """
    of_levels = level_fields(levels)
    if classes:
        of_levels = [*class_fields(levels), *(field for field in of_levels if field.name.startswith("width_"))]
    spread = [pa.field("disagreement", pa.float64())] if members else []
    return pa.schema([pa.field("prediction", pa.float64()), *of_levels, *QUALITY_FIELDS, *spread])


@dataclasses.dataclass(frozen=True)
class Scorer:
    """Scores batches with one model and its calibration, each loaded once. Plain data until then: it goes to executors.

    following: quantiles by step in time, of a calibration that follows its misses; None takes those it was fitted with.
    still: whether rows say so, because it ought to follow and cannot.
    inputs: columns that are read.  texts: those of them that are texts; the others are numbers, taken as float32, as
    features are.  schema: of what is said.
    """

    carried: Carried
    calibration: dict[str, Any]
    calibration_version: str
    checks: InputChecks
    inputs: tuple[str, ...]
    texts: frozenset[str]
    schema: pa.Schema
    following: Following | None = None
    still: bool = False

    @classmethod
    def of(cls, found: Calibrated, config: ScoringConfig, following: Following | None = None) -> Scorer:
        """The scorer of a model."""
        model, segments = found.model, tuple(found.calibration["segment_columns"])
        if "score_of" in found.calibration:  # here, and not in the first task
            check_extension(found.calibration["score"], found.calibration["score_of"])
        return cls(
            Carried.of(model),
            found.calibration,
            found.calibration_version,
            InputChecks.of(model, config),
            tuple(found.columns),
            frozenset([*model.encoding.categories, *segments]),
            scored_schema(
                tuple(found.calibration["levels"]), classes=model.outcome.decides, members=model.engine == "ensemble"
            ),
            following,
        )

    @cached_property
    def model(self) -> Model:
        """The model, verified."""
        return self.carried.model()

    @cached_property
    def fitted(self) -> Calibration:
        """The calibration, read once."""
        return read_calibration(self.calibration, classes=self.model.outcome.decides)

    @cached_property
    def _typical(self) -> float:
        return float("nan") if self.model.outcome.decides else confidence.typical_width(self.fitted)

    @cached_property
    def _isolating(self) -> Isolating:
        return Isolating(self._scored)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Any batch with the columns `inputs` -> as many rows of `schema`. `ALSO` is passed on where it is there.

        A row that makes the model raise has no numbers; its quality is bad, and its reason names the kind of error.

        Raises:
            DataError: a column is missing.
            AssayError: a file of the model was changed, or it can score no row at all.
        """
        missing = [name for name in self.inputs if name not in batch.schema.names]
        if missing:
            raise DataError(
                f"the rows lack {len(missing)} of the model's {len(self.inputs)} columns, {missing[0]!r} among them"
            )
        also = [name for name in ALSO if name in batch.schema.names and name not in self.inputs]
        parts = list(self._isolating.parts(batch.select([*self.inputs, *also])))
        scored = [self._unscored(part) if isinstance(part, Exception) else part for part in parts]
        if len(scored) == 1:
            return scored[0]
        whole = pa.Table.from_batches(scored, self.schema).combine_chunks().to_batches()
        return whole[0] if whole else pa.RecordBatch.from_pylist([], schema=self.schema)

    def _unscored(self, error: Exception) -> pa.RecordBatch:
        row = {"quality": "bad", "quality_reasons": [f"not_scored:{type(error).__name__}"]}
        return pa.RecordBatch.from_pylist([row], schema=self.schema)

    def _scored(self, given: pa.RecordBatch) -> pa.RecordBatch:
        """Score a batch, or raise."""
        batch = self._typed(given)
        told = score_batch(self.model, self.fitted, batch, self.following)
        prediction = np.asarray(told["prediction"])
        found = self.checks.find(batch)
        found.add("no_prediction", ~np.isfinite(prediction), bad=True)
        if self.still:
            found.add(NOT_FOLLOWED, np.ones(len(prediction), dtype=bool))
        widths = self._widths(told)
        infinite = {label: np.isinf(width) for label, width in widths.items()}
        useless = np.logical_and.reduce([*infinite.values()])
        for label, where in infinite.items():
            found.add(f"infinite_interval:{label}", where & ~useless)
            found.add(f"infinite_interval:{label}", where & useless, bad=True)
        columns = {
            **told,
            **{f"width_{level}": width for level, width in widths.items()},
            **self._judged(told, prediction),
            "quality": found.quality(),
            "quality_reasons": found.lists(),
        }
        return pa.RecordBatch.from_arrays([_column(columns[f.name], f.type) for f in self.schema], schema=self.schema)

    def _widths(self, told: dict[str, Any]) -> dict[str, Any]:
        """Label of a level -> widths (n,): of an interval its length in the target's unit, of a set its classes."""
        labels = [level_label(level) for level in self.fitted.levels]
        if self.model.outcome.decides:
            return {
                label: pc.list_value_length(told[f"set_{label}"]).to_numpy(zero_copy_only=False) for label in labels
            }
        with np.errstate(invalid="ignore"):
            return {label: told[f"upper_{label}"] - told[f"lower_{label}"] for label in labels}

    def _judged(self, told: dict[str, Any], prediction: Any) -> dict[str, Any]:
        """Confidence and risk, as `confidence` defines them."""
        label = level_label(self.fitted.levels[confidence.widest_level(self.fitted.levels)])
        if self.model.outcome.decides:
            flat = told["probabilities"].values.to_numpy(zero_copy_only=False)
            probabilities = flat.reshape(len(prediction), len(self.model.outcome.classes))
            sizes = pc.list_value_length(told[f"set_{label}"]).to_numpy(zero_copy_only=False)
            return {
                "confidence": confidence.confidence_of_classes(probabilities, sizes),
                "risk": confidence.risk_of_classes(probabilities),
            }
        lower, upper = told[f"lower_{label}"], told[f"upper_{label}"]
        width = confidence.scaled_width(lower, upper, self.model.scale)
        return {
            "confidence": confidence.confidence_of_width(width, self._typical),
            "risk": confidence.risk_of_bound(prediction, lower),
        }

    def _typed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with the types that the features have: other tables may have doubles, whole numbers or texts."""
        wanted = [(batch.column(name), pa.string() if name in self.texts else pa.float32()) for name in self.inputs]
        columns = [column if column.type == kind else pc.cast(column, kind, safe=False) for column, kind in wanted]
        also = [name for name in batch.schema.names if name not in self.inputs]
        return pa.RecordBatch.from_arrays([*columns, *map(batch.column, also)], names=[*self.inputs, *also])


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    """An array or NumPy values as a column; a number that is unknown is null."""
    if isinstance(values, pa.Array):
        return values if values.type == kind else pc.cast(values, kind)
    if pa.types.is_floating(kind):
        unknown = np.isnan(values)
        return pa.array(values, kind, mask=unknown if unknown.any() else None)
    return pa.array(values, kind)
