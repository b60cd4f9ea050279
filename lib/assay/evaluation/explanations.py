"""Consumes a model and evaluated rows, produces what each input adds to predictions: of rows, of segments, of all.

Contributions are the boosters' own exact SHAP values on the model's scale (of a `log` target 0.01 is about 1 %), of a
sample of rows that no cutting into tasks changes. Of a binary target the scale is the logit of the probability.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from assay.evaluation.content import Drivers
from assay.evaluation.segments import MISSING_SEGMENT
from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.model.encoding import Encoding
from assay.model.predictors import Explains
from assay.model.row_sample import sampled
from assay.runtime.tables import TIME

BASE, OTHER = "(base)", "(other)"
NAMED_INPUTS, NAMED_SEGMENTS = 3, 8
SAMPLED = [pa.field("hash", pa.int64()), pa.field("row_id", pa.int64()), pa.field("time", TIME)]


def explainable(model: Model) -> bool:
    """Whether the model's learner can say what its inputs add to one number; of two classes it is the logit."""
    return isinstance(model.predictor, Explains) and model.outcome.width == 1


def explained_schema(segments: Sequence[str]) -> pa.Schema:
    """Sampled rows with their segments, inputs and contributions."""
    numbers = [pa.field(name, pa.list_(pa.float32())) for name in ("inputs", "contributions")]
    return pa.schema([*SAMPLED, *(pa.field(name, pa.string()) for name in segments), *numbers])


@dataclasses.dataclass(frozen=True)
class ExplainRows:
    """Kernel: rows of `explained_schema`, of those whose hash is at most `threshold`."""

    carried: Carried
    segments: tuple[str, ...]
    threshold: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Inputs (features,) as the learner gets them, contributions (features + 1,) with the base value last."""
        model, schema = self.carried.model(), explained_schema(self.segments)
        predictor = model.predictor
        assert isinstance(predictor, Explains)
        for rows, hashes in sampled(batches, self.threshold):
            matrix = model.encoding.matrix(rows)
            columns: dict[str, Any] = {"hash": hashes.view(np.int64), "inputs": _lists(matrix)}
            contributions = predictor.contributions(matrix)
            if model.slope != 1.0:
                contributions = (contributions * model.followed(rows)[:, None]).astype(contributions.dtype)
            columns["contributions"] = _lists(contributions)
            columns |= {name: rows.column(name) for name in ("row_id", "time", *self.segments)}
            yield pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _lists(matrix: npt.NDArray[np.float32]) -> pa.Array:
    """(n, k) as n lists of k numbers."""
    offsets = np.arange(0, matrix.size + 1, max(1, matrix.shape[1]), dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.reshape(-1)))


@dataclasses.dataclass(frozen=True)
class Explained:
    """Sampled rows, in order of their hash.

    rows: row_id, time and segments (as text).  names: the k inputs.  inputs: (n, k), missing as NaN.
    contributions: (n, k) on the model's scale.  base: (n,) what is added to each row.
    """

    rows: pl.DataFrame
    names: tuple[str, ...]
    encoding: Encoding
    inputs: npt.NDArray[np.float32]
    contributions: npt.NDArray[np.float64]
    base: npt.NDArray[np.float64]

    @property
    def order(self) -> npt.NDArray[np.intp]:
        """Inputs by their mean absolute contribution, greatest first; of equal ones the first."""
        return np.argsort(-np.abs(self.contributions).mean(axis=0), kind="stable")

    def table(self, model_version: str, target: str, most: int) -> pl.DataFrame:
        """Rows of `explanations`: per row its base, the `most` inputs that add most, and the sum of the others."""
        count, k = self.contributions.shape
        most = min(most, k)
        top = np.argsort(-np.abs(self.contributions), axis=1, kind="stable")[:, :most]
        named = np.take_along_axis(self.contributions, top, axis=1)
        values = [[self._told(row, int(column)) for column in columns] for row, columns in enumerate(top)]
        ids = self.rows.select("row_id", "time")

        def lines(feature: Any, value: Any, contribution: Any) -> pl.DataFrame:
            found = {"feature": feature, "value": value, "contribution": contribution}
            return ids.with_columns(**{name: pl.Series(name, column) for name, column in found.items()})

        names = np.array(self.names, dtype=object)
        none = pl.Series([None] * count, dtype=pl.String)
        parts = [lines([BASE] * count, none, self.base)]
        for place in range(most):
            told = pl.Series([row[place] for row in values], dtype=pl.String)
            parts.append(lines(names[top[:, place]].tolist(), told, named[:, place]))
        if most < k:
            parts.append(lines([OTHER] * count, none, self.contributions.sum(axis=1) - named.sum(axis=1)))
        found = pl.concat(parts).sort("row_id", maintain_order=True)
        return found.with_columns(model_version=pl.lit(model_version), target=pl.lit(target))

    def _told(self, row: int, column: int) -> str | None:
        value = float(self.inputs[row, column])
        if np.isnan(value):
            return None
        known = self.encoding.categories.get(self.names[column])
        return known[int(value)] if known is not None else f"{value:.7g}"

    def overall(self) -> pl.DataFrame:
        """feature, mean_abs, share (of the sum of mean_abs), greatest first."""
        mean = np.abs(self.contributions).mean(axis=0)[self.order]
        names = [self.names[i] for i in self.order]
        return pl.DataFrame({"feature": names, "mean_abs": mean, "share": mean / (mean.sum() or 1.0)})

    def by_segment(self, column: str) -> pl.DataFrame:
        """segment, rows, feature, mean_abs: of each segment and each input, segments with most rows first."""
        labels = self.rows[column].fill_null(MISSING_SEGMENT)
        counts = labels.value_counts().sort("count", column, descending=[True, False])
        parts = []
        for segment, rows in counts.iter_rows():
            mean = np.abs(self.contributions[(labels == segment).to_numpy()]).mean(axis=0)[self.order]
            names = [self.names[i] for i in self.order]
            parts.append(pl.DataFrame({"feature": names, "mean_abs": mean}).select(
                pl.lit(segment).alias("segment"), pl.lit(rows).alias("rows"), "feature", "mean_abs"))  # fmt: skip
        return pl.concat(parts)

    def drivers(self, columns: Sequence[str]) -> list[Drivers]:
        """What moves predictions most: of all rows, then of the largest segments of each column."""

        def told(frame: pl.DataFrame) -> list[tuple[str, float]]:
            total = float(frame["mean_abs"].sum()) or 1.0
            top = frame.sort("mean_abs", descending=True, maintain_order=True).head(NAMED_INPUTS)
            return [(name, mean / total) for name, mean in top.select("feature", "mean_abs").iter_rows()]

        found = [Drivers("", "", self.rows.height, told(self.overall()))]
        for column in columns:
            parts = self.by_segment(column).partition_by("segment", maintain_order=True)
            found += [Drivers(column, p["segment"][0], int(p["rows"][0]), told(p)) for p in parts[:NAMED_SEGMENTS]]
        return found


def explained(found: pa.Table, model: Model, segments: Sequence[str], most: int) -> Explained | None:
    """Rows of `explained_schema` as one sample of at most `most` rows; None without any."""
    frame = pl.from_arrow(found)
    assert isinstance(frame, pl.DataFrame)
    if not frame.height:
        return None
    frame = frame.with_columns(pl.col("hash").reinterpret(signed=False)).sort("hash", "row_id").head(most)
    width = len(model.encoding.features)
    inputs = frame["inputs"].explode().to_numpy().reshape(-1, width)
    contributions = frame["contributions"].explode().to_numpy().reshape(-1, width + 1).astype(np.float64)
    return Explained(
        rows=frame.select("row_id", "time", *segments),
        names=tuple(model.encoding.features),
        encoding=model.encoding,
        inputs=inputs,
        contributions=contributions[:, :-1],
        base=contributions[:, -1],
    )
