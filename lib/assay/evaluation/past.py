"""Consumes rows before the test period, produces what later rows are cut by: bands, clusters, and what a direction is.

Nothing here looks at the test period: where a segment begins must not depend on the outcomes that it is to judge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.config import TargetConfig
from assay.config.dataset import DatasetConfig, stored_name
from assay.config.evaluation import EvaluationConfig
from assay.errors import DataError
from assay.evaluation.cuts import Cuts, numeric_cuts
from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.model.clusters import Clusters, find_clusters
from assay.model.row_sample import ROW, sample_threshold, sampled
from assay.model.scale import Floats, as_floats
from assay.runtime.conditions import Condition, any_of, period_conditions
from assay.runtime.plane import Plane
from assay.runtime.tables import FEATURES

FACTORS, LEADING = 12, 6
BOTH_WAYS = 0.05  # share of outcomes on either side of 0; a few below it, such as goods given back, change nothing
PREDICTED, OUTCOME = "prediction", "outcome"


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns results are cut by. All are of `features`.

    texts, numbers: segment columns by their type.  clustered: what similar rows are similar in.  factors: numbers among
    which the worst slab is looked for.
    """

    texts: tuple[str, ...]
    numbers: tuple[str, ...]
    clustered: tuple[str, ...]
    factors: tuple[str, ...]

    @classmethod
    def of(cls, dataset: DatasetConfig, config: EvaluationConfig, model: Model, schema: pa.Schema) -> Columns:
        """By configuration, attributes of the dataset, and what the model goes by.

        Raises:
            DataError: a configured column does not exist, or is no number where it has to be one.
        """
        kinds = {field.name: field.type for field in schema}
        segments = dict.fromkeys(stored_name(name) for name in (*dataset.segments, *config.segments))
        for name in segments:
            _there(name, kinds, "evaluation.segments")
        numeric = [n for n in segments if pa.types.is_floating(kinds[n]) or pa.types.is_integer(kinds[n])]
        attributes = [stored_name(name) for name in dataset.columns.numeric]
        gains = model.importance() or {}
        leading = [
            n for n in sorted(gains, key=lambda n: -gains[n]) if n in kinds and n not in model.encoding.categories
        ]
        chosen = tuple(stored_name(name) for name in config.clusters.columns)
        for name in chosen:
            _there(name, kinds, "evaluation.clusters.columns", number=True)
        there = [name for name in attributes if name in kinds]
        clustered = chosen or tuple(there if len(there) > 1 else leading[:LEADING])
        # What the model goes by first, then attributes, half of each where there are many.
        factors = dict.fromkeys([*numeric, *leading[: FACTORS // 2], *there, *leading])
        texts = tuple(name for name in segments if name not in numeric)
        return cls(texts, tuple(numeric), clustered, tuple(factors)[:FACTORS])

    @property
    def of_numbers(self) -> tuple[str, ...]:
        """All numeric columns, each once."""
        return tuple(dict.fromkeys((*self.numbers, *self.clustered, *self.factors)))


def _there(name: str, kinds: Mapping[str, pa.DataType], key: str, *, number: bool = False) -> None:
    if name not in kinds:
        raise DataError(f"{key}: the table features has no column {name!r}; take one that it has, or leave it out")
    if number and not pa.types.is_floating(kinds[name]):
        raise DataError(f"{key}: column {name!r} of the table features is {kinds[name]}, and K-means needs numbers")


@dataclasses.dataclass(frozen=True)
class Past:
    """What rows before the test period say. rows: how many of them it was read from.

    bands: of the prediction.  cuts: of numeric segment columns.  grid: factor -> its deciles.
    direction: what up and down are counted from: `last_value` of the entity, `zero` for a target that goes both ways by
        itself, or None; why: the reason for None.
    typical: of outcomes' sizes the median, by which interval widths are measured where predictions may be near 0.
    """

    rows: int
    bands: Cuts
    cuts: Mapping[str, Cuts]
    clusters: Clusters | None
    grid: Mapping[str, Floats]
    direction: Literal["last_value", "zero"] | None
    why: str
    typical: float | None


def past_rows(
    plane: Plane, version: int, model: Model, target: str, columns: Columns, where: Sequence[Condition], most: int
) -> pa.Table:
    """A sample of at most about `most` rows before the test: prediction of the tested model, outcome, numeric columns.

    The model may have learned from these rows; only where bands begin depends on it.
    """
    split = model.facts["split"]
    periods = [split[name] for name in ("train", "tune", "calibrate") if split[name].get("rows")]
    kernel = PastRows(
        Carried.of(model), target, columns.of_numbers, sample_threshold(sum(int(p["rows"]) for p in periods), most)
    )
    read = list(dict.fromkeys([ROW, target, *model.input_columns, *columns.of_numbers]))
    conditions = [*where, Condition(target, "not_null"), any_of(*(period_conditions(p) for p in periods))]
    flow = plane.read(FEATURES.name, version=version, columns=read, where=conditions)
    return flow.map(kernel, kernel.schema).collect()


@dataclasses.dataclass(frozen=True)
class PastRows:
    """Kernel: prediction, outcome and numbers of sampled rows."""

    carried: Carried
    target: str
    numbers: tuple[str, ...]
    threshold: int

    @property
    def schema(self) -> pa.Schema:
        """Columns that it gives; numbers behind a prefix, as they may be called like anything."""
        names = ("hash", PREDICTED, OUTCOME, *(f"of {name}" for name in self.numbers))
        return pa.schema([pa.field(n, pa.int64() if n == "hash" else pa.float64()) for n in names])

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Sample, then predict: only sampled rows cost a prediction."""
        model = self.carried.model()
        for rows, hashes in sampled(batches, self.threshold):
            columns = [hashes.view(np.int64), model.predict(rows), as_floats(rows.column(self.target))]
            columns += [as_floats(rows.column(name)) for name in self.numbers]
            arrays = [pa.array(c, field.type) for c, field in zip(columns, self.schema, strict=True)]
            yield pa.record_batch(arrays, schema=self.schema)


def looked_back(
    found: pa.Table, columns: Columns, config: EvaluationConfig, target: TargetConfig, last: str | None, *, seed: int
) -> Past:
    """What a sample of `past_rows` says. last: the column with the entity's last known value."""
    found = found.take(pc.sort_indices(found, sort_keys=[("hash", "ascending")]))  # tasks come in any order
    known = {name: as_floats(found.column(f"of {name}").combine_chunks()) for name in columns.of_numbers}
    predicted, outcome = (as_floats(found.column(name).combine_chunks()) for name in (PREDICTED, OUTCOME))
    both_ways = bool(outcome.size and min((outcome < 0).mean(), (outcome > 0).mean()) >= BOTH_WAYS)
    direction, why = _direction(target, last, both_ways=both_ways)
    inputs = [known[name][: config.clusters.sample_rows] for name in columns.clustered]
    grid = {name: _deciles(values) for name, values in known.items() if name in columns.factors}
    return Past(
        rows=found.num_rows,
        bands=Cuts.of(predicted, config.price_bands),
        cuts=numeric_cuts(known, columns.numbers),
        clusters=find_clusters(
            np.column_stack(inputs),
            columns.clustered,
            number=config.clusters.number,
            most=config.clusters.most,
            seed=seed,
        )
        if inputs
        else None,
        grid={"prediction": _deciles(predicted), **grid},
        direction=direction,
        why=why,
        typical=float(np.median(np.abs(outcome))) if both_ways else None,
    )


def _direction(
    target: TargetConfig, last: str | None, *, both_ways: bool
) -> tuple[Literal["last_value", "zero"] | None, str]:
    """What up and down are counted from, by what was known before the test period."""
    if both_ways and target.transform == "none" and target.relative_to == "nothing":
        return "zero", ""
    if last is None:
        return None, "the features have no last known value of the entity (features.lags)"
    return "last_value", ""


def _deciles(values: Floats) -> Floats:
    finite = values[np.isfinite(values)]
    return np.unique(np.quantile(finite, np.arange(1, 10) / 10)) if finite.size else np.empty(0)
