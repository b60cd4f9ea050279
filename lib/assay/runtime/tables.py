"""Consumes the dataset's columns, produces every table's declaration: grain, key, partitions, columns, units."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pyarrow as pa

from assay.config import DatasetConfig
from assay.config.dataset import stored_name

SOURCE_ROWS = "source_rows"
TIME = pa.timestamp("us", tz="UTC")


@dataclasses.dataclass(frozen=True)
class Table:
    """A declared table.

    grain: what one row is.  key: columns that identify a row.  partition_by: Hive-style partition columns, text.
    stage: the one stage that writes it.  columns: name -> (type, meaning and unit).
    open_columns: whether the dataset or the feature plan adds columns of its own.
    """

    name: str
    stage: str
    grain: str
    key: tuple[str, ...]
    partition_by: tuple[str, ...]
    columns: Mapping[str, tuple[pa.DataType, str]]
    open_columns: bool = False

    def schema(self, extra: Sequence[pa.Field] = ()) -> pa.Schema:
        """Arrow schema: declared columns, then `extra` ones, then partition columns last, as Delta lists them."""
        declared = [pa.field(name, kind) for name, (kind, _) in self.columns.items() if name not in self.partition_by]
        partitions = [pa.field(name, pa.string()) for name in self.partition_by]
        return pa.schema([*declared, *extra, *partitions])

    def described(self, schema: pa.Schema) -> pa.Schema:
        """Such a schema of the table with the meaning of each declared column, which Delta keeps as its comment."""
        told = {name: {"comment": meaning} for name, (_, meaning) in self.columns.items()}
        return pa.schema([field.with_metadata(told.get(field.name)) for field in schema])

    @property
    def statistics_columns(self) -> tuple[str, ...]:
        """Columns with file statistics: only keys and time, because those of a wide table cost more than they save."""
        return tuple(name for name in dict.fromkeys((*self.key, "time")) if name in self.columns)


OBSERVATIONS = Table(
    name="observations",
    stage="ingest",
    grain="one observation of an entity at a time",
    key=("row_id",),
    partition_by=("month",),
    columns={
        "row_id": (pa.int64(), "stable hash of entity, time and occurrence"),
        "time": (TIME, "time of the observation, UTC"),
        "source_file": (pa.string(), "name of the file or table that the row came from; of a period its last event's"),
        "source_row": (pa.int64(), "1-based row or line of the file; of a table's row, which has none, a hash"),
        "month": (pa.string(), "YYYY-MM of time"),
    },
    open_columns=True,
)
EVENTS = Table(
    name="events",
    stage="ingest",
    grain="one usable row of a source whose rows are events, of which observations are made",
    key=("row_id",),
    partition_by=("month",),
    columns=OBSERVATIONS.columns,
    open_columns=True,
)
QUARANTINE = Table(
    name="observations_quarantine",
    stage="ingest",
    grain="one source row that could not be used",
    key=("source_file", "source_row"),
    partition_by=(),
    columns={
        "source_file": (pa.string(), "name of the file or table that the row came from"),
        "source_row": (pa.int64(), "1-based row of the file, header not counted; of a table's row a hash"),
        "time": (TIME, "time of the row where it could be read, UTC"),
        "reasons": (pa.string(), "rules that the row broke, each with the setting to change; separated by '; '"),
        "raw": (pa.string(), "the source row as JSON text"),
    },
)
SOURCE_FILES = Table(
    name="source_files",
    stage="ingest",
    grain="one file whose rows are in observations and observations_quarantine",
    key=("source_file",),
    partition_by=(),
    columns={
        "source_file": (pa.string(), "name of the file below the source's folder"),
        "sha256": (pa.string(), "hash of its content"),
        "bytes": (pa.int64(), "size"),
        "modified_ns": (
            pa.int64(),
            "time of its last change, nanoseconds since 1970; null where it was too new to tell a later change",
        ),
    },
)
QUALITY_REPORTS = Table(
    name="quality_reports",
    stage="ingest",
    grain="one measure of one column, or of the whole table, in one ingest run",
    key=("run", "column", "measure"),
    partition_by=("run",),
    columns={
        "column": (pa.string(), "source column, or a check of two columns; empty for the whole table"),
        "measure": (pa.string(), "a quality metric, score_<name>, rows_in, rows_kept, rows_quarantined, or a reason"),
        "value": (pa.float64(), "in `unit`; null where it could not be measured"),
        "unit": (pa.string(), "share (0 to 1), points (0 to 100), rows or quarantined rows"),
        "score": (pa.string(), "score that it is part of: completeness, consistency or validity"),
        "weight": (pa.float64(), "its weight in that score; 0 where it is not scored"),
        "points_lost": (pa.float64(), "points of that score, 0 to 100, that it took away"),
        "limit": (pa.float64(), "limit that it missed, else the nearest one"),
        "at_least": (pa.bool_(), "whether the limit is a least value"),
        "status": (pa.string(), "ok, warn, fail, or info where nothing is judged"),
        "recommendation": (pa.string(), "what to do, with the setting that acts on it"),
        "detail": (pa.string(), "what the value was taken from, or why there is none"),
        "meaning": (pa.string(), "what the share is of"),
        "data_until": (TIME, "newest day with a usable target, UTC"),
        "run": (pa.string(), "identity of the ingest run; earlier runs stay"),
    },
)
FEATURES = Table(
    name="features",
    stage="features",
    grain="one observation",
    key=("row_id",),
    partition_by=("month",),
    columns={
        "row_id": (pa.int64(), "row of observations"),
        "time": (TIME, "time of the observation, UTC"),
        "month": (pa.string(), "YYYY-MM of time"),
    },
    open_columns=True,
)
FITTED, ADAPTIVE = "fitted", "adaptive"  # kinds of rows of `calibrations`
CALIBRATIONS = Table(
    name="calibrations",
    stage="conformal",
    grain="one conformal quantile of one segment and level: as it was fitted, for the model that serves or the one "
    "that was tested, or as adaptive calibration has it from one step on",
    key=("target", "kind", "calibration_version", "segment", "level", "part", "valid_from"),
    partition_by=("target", "kind"),
    columns={
        "segment": (
            pa.string(),
            "segment column=value, several joined by '|', empty for all rows; by class target=class is the first",
        ),
        "used": (pa.string(), "segment whose quantiles serve it: itself, or the nearest parent with enough rows"),
        "level": (pa.float64(), "promised coverage, 0 to 1"),
        "part": (pa.int64(), "which column of the score: of signed ones 0 is the lower end, 1 the upper one"),
        "score": (
            pa.string(),
            "kind of conformity score: absolute, signed, normalised, cqr, one of an extension, or one of classes",
        ),
        "quantile": (
            pa.float64(),
            "conformity score at that coverage, on the model's scale; infinite with too few rows",
        ),
        "rows": (pa.int64(), "calibration rows; of a step those whose outcome was known by then"),
        "valid_from": (TIME, "start of the step, UTC; null as it was fitted"),
        "miscoverage": (
            pa.float64(),
            "share of misses that those so far call for: it is aimed at or, by `widths`, moves the quantile; else null",
        ),
        "model_version": (pa.string(), "model that the scores belong to; of a step the one that serves"),
        "calibration_version": (pa.string(), "hash of the whole calibration"),
        "target": (pa.string(), "target column"),
        "kind": (pa.string(), "fitted, or adaptive"),
    },
)
CONFORMITY_SCORES = Table(
    name="conformity_scores",
    stage="conformal",
    grain="one labelled row that calibrates a target's champion, scored by a model that had not learned from it",
    key=("target", "row_id"),
    partition_by=("target",),
    columns={
        "row_id": (pa.int64(), "row of observations"),
        "time": (TIME, "time of the observation, UTC"),
        "segment": (
            pa.string(),
            "segment column=value, several joined by '|', empty for all rows; by class target=class is the first",
        ),
        "scores": (pa.list_(pa.float64()), "conformity scores on the model's scale, as many as their kind has columns"),
        "period": (pa.string(), "calibrate, test, or newest: after all that the champion has learned from"),
        "block": (pa.int64(), "part of that period, from 1, whose rows one model scored (conformal.folds)"),
        "model_version": (pa.string(), "model that scored it"),
        "learned_until": (TIME, "time of the newest row that this model learned from, UTC"),
        "calibration_version": (pa.string(), "hash of the calibration that serves"),
        "target": (pa.string(), "target column"),
    },
)
# Beside the entity and, per level, lower_80, upper_80 and width_80 (infinite with too few calibration rows); of classes
# predicted_class, probabilities, set_80, and as width_80 how many classes that has. All are null where a row has no
# prediction. How quality is judged is in `assay.scoring.quality`, confidence and risk in `assay.scoring.confidence`.
PREDICTIONS = Table(
    name="predictions",
    stage="scoring",
    grain="one scored observation of one target",
    key=("row_id", "target"),
    partition_by=("target", "month"),
    columns={
        "row_id": (pa.int64(), "row of observations"),
        "time": (TIME, "time of the observation, UTC"),
        "prediction": (
            pa.float64(),
            "in the target's unit; of classes the probability of the positive or likeliest one; null where the row "
            "could not be scored",
        ),
        "confidence": (
            pa.float64(),
            "0 to 1: w0 / (w0 + w), w the width of the widest level's interval on the model's scale, w0 that of all "
            "calibration rows; of K classes (p - 1/K) / (1 - 1/K) / s, p the probability of the likeliest, s the size "
            "of the widest level's set; null where w0 is unknown",
        ),
        "risk": (
            pa.float64(),
            "0 to 1: min(1, (prediction - lower) / |prediction|) at the widest level, the share of the prediction "
            "that may be lost; of classes 1 - p of the likeliest one",
        ),
        "quality": (pa.string(), "ok, warn or bad: the worst of `quality_reasons`"),
        "quality_reasons": (
            pa.list_(pa.string()),
            "null, or missing_input:COLUMN, many_missing_inputs, unseen_category:COLUMN, below_range:COLUMN, "
            "above_range:COLUMN, infinite_interval:LEVEL, no_prediction, not_scored:ERROR",
        ),
        "disagreement": (
            pa.float64(),
            "of an ensemble's members: weighted standard deviation on the model's scale, of classes mean total "
            "variation distance; null for a single model",
        ),
        "segment": (pa.string(), "segment whose calibration was used; empty for all rows together"),
        "model_version": (pa.string(), "hash of the model's content"),
        "calibration_version": (pa.string(), "hash of the calibration"),
        "target": (pa.string(), "target column"),
        "month": (pa.string(), "YYYY-MM of time"),
    },
    open_columns=True,
)
SHADOW_PREDICTIONS = Table(
    name="shadow_predictions",
    stage="scoring",
    grain="one observation of one target, as a model scores it that does not serve it: the other one of a deployment, "
    "or one of `scoring.shadows`",
    key=("row_id", "target", "shadow"),
    partition_by=("target", "month"),
    columns={
        **PREDICTIONS.columns,
        "shadow": (pa.string(), "number of that model in the registry"),
    },
    open_columns=True,
)
DECISIONS = Table(
    name="decisions",
    stage="scoring",
    grain="one scored observation, all targets of `dataset.decision` together",
    key=("row_id",),
    partition_by=("month",),
    columns={
        "row_id": (pa.int64(), "row of observations"),
        "time": (TIME, "time of the observation, UTC"),
        "score": (pa.float64(), "weighted mean of what the targets' predictions are worth, 0 to 1"),
        "realised": (pa.float64(), "the same of the outcomes; null where one is not known"),
        "month": (pa.string(), "YYYY-MM of time"),
    },
)
SEGMENT_METRICS = Table(
    name="segment_metrics",
    stage="evaluation",
    grain="one metric of one segment of one target",
    key=("target", "segment_column", "segment", "metric"),
    partition_by=("target",),
    columns={
        "segment_column": (
            pa.string(),
            "column that splits the rows; empty for all rows. Names of two words are none of the data's: price band, "
            "similar rows, month, window of N days, decision at LEVEL, share kept at LEVEL, worst slab, compared with",
        ),
        "segment": (pa.string(), "value of that column"),
        "metric": (
            pa.string(),
            "rmse, mae, r2, median_ape, within_20pct, coverage_80, width_80, ...; coverage_80_confidence has the band "
            "of the true coverage, coverage_80_adjusted_p says how likely chance puts it so far off its promise",
        ),
        "value": (pa.float64(), "target's unit, or a share from 0 to 1, or percent where the name says so"),
        "low": (
            pa.float64(),
            "lower end of a 95 % band: of a coverage what chance allows, of _confidence and _difference the truth",
        ),
        "high": (pa.float64(), "upper end of that band"),
        "rows": (pa.int64(), "rows with a known outcome"),
        "model_version": (pa.string(), "model that was evaluated"),
        "target": (pa.string(), "target column"),
    },
)
EXPLANATIONS = Table(
    name="explanations",
    stage="evaluation",
    grain="what one feature adds to the prediction of one sampled row",
    key=("target", "row_id", "feature"),
    partition_by=("target",),
    columns={
        "row_id": (pa.int64(), "row of observations"),
        "time": (TIME, "time of the observation, UTC"),
        "feature": (
            pa.string(),
            "input of the model; (base) is the value of a row of which nothing is known, (other) all others",
        ),
        "value": (pa.string(), "the input's own value; null where it is missing"),
        "contribution": (
            pa.float64(),
            "SHAP value, on the model's scale; a row's add up to its prediction on that scale",
        ),
        "model_version": (pa.string(), "model that is explained"),
        "target": (pa.string(), "target column"),
    },
)
SEGMENTS = Table(
    name="segments",
    stage="segmentation",
    grain="an entity, by the newest of its rows",
    key=("row_id",),
    partition_by=(),
    columns={
        "row_id": (pa.int64(), "row of features"),
        "time": (TIME, "its time, UTC"),
        "segment": (pa.int64(), "1 for the largest one when segments were found, 2, ..."),
        "name": (pa.string(), "the number, and what sets the segment apart"),
        "distance": (pa.float64(), "to the segment's centre, in standard deviations of the inputs"),
    },
    open_columns=True,
)
SEGMENT_PROFILES = Table(
    name="segment_profiles",
    stage="segmentation",
    grain="one input of one segment",
    key=("segment", "input"),
    partition_by=(),
    columns={
        "segment": (pa.int64(), "as in `segments`"),
        "name": (pa.string(), "as in `segments`"),
        "input": (pa.string(), "column that says what is similar"),
        "rows": (pa.int64(), "entities of the segment"),
        "share": (pa.float64(), "of all entities, 0 to 1"),
        "mean": (pa.float64(), "of the input in the segment, in its own unit; null where no value is known"),
        "mean_of_all": (pa.float64(), "of the input over all entities"),
        "distance": (pa.float64(), "mean of the segment's distances"),
    },
)

TABLES = {
    table.name: table
    for table in (
        OBSERVATIONS,
        EVENTS,
        QUARANTINE,
        SOURCE_FILES,
        QUALITY_REPORTS,
        FEATURES,
        CALIBRATIONS,
        PREDICTIONS,
        SHADOW_PREDICTIONS,
        DECISIONS,
        SEGMENT_METRICS,
        EXPLANATIONS,
        SEGMENTS,
        SEGMENT_PROFILES,
    )
}


def ingested_table(dataset: DatasetConfig) -> Table:
    """Where usable rows of the source go."""
    return EVENTS if dataset.is_of_events else OBSERVATIONS


def observation_fields(dataset: DatasetConfig) -> list[pa.Field]:
    """Columns that a dataset adds to `observations`: text as string, numbers as double, merged rows as a count."""
    merged = dataset.time.align is not None or (dataset.events is not None and not dataset.is_of_events)
    return [
        *([pa.field(SOURCE_ROWS, pa.int64())] if merged else []),  # how many rows of the source became this one
        *(pa.field(stored_name(name), pa.string()) for name in dataset.text_columns),
        *(pa.field(stored_name(name), pa.float64()) for name in dataset.numeric_columns),
    ]


def level_label(level: float) -> str:
    """Suffix of the columns and metrics of an interval level: 0.8 -> ``80``, 0.975 -> ``97_5``."""
    return f"{level * 100:.10g}".replace(".", "_")
