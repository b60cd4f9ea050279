"""Consumes rows that champion and challenger both predicted, with their outcomes, produces sums of losses by day."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Literal

import polars as pl
import pyarrow as pa

from assay.class_metrics import log_losses
from assay.deployment.experiment_days import Series, paired_days
from assay.model.outcome_rows import OUTCOME
from assay.runtime.tables import level_label

OTHER = "__other_"  # before columns of `shadow_predictions`
SHADOW = "shadow"
MODELS = ("champion", "challenger")
Loss = Literal["absolute", "squared", "interval", "log"]


@dataclasses.dataclass(frozen=True)
class Compared:
    """What is compared of two models.

    levels: promised coverages that both have; the first one is that of interval scores.  classes: of a target that has
    some.  challenger: its number in the registry.
    """

    loss: Loss
    levels: tuple[float, ...]
    challenger: str
    classes: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """What is needed of either table of predictions."""
        ends = ["set"] if self.classes else ["lower", "upper"]
        figures = ["probabilities"] if self.classes else []
        return ["row_id", "prediction", *figures, *(f"{end}_{level_label(at)}" for at in self.levels for end in ends)]

    @property
    def sums(self) -> list[str]:
        """Names of what is summed of a day."""
        ends = ["", *(f"_missed_{level_label(level)}" for level in self.levels)]
        return ["rows", "lacking", *(f"{model}{end}" for model in MODELS for end in ends)]

    @property
    def schema(self) -> pa.Schema:
        """Of `PairSums`."""
        return pa.schema([("day", pa.date32()), *((name, pa.float64()) for name in self.sums)])


@dataclasses.dataclass(frozen=True)
class AsOther:
    """Kernel: columns of `shadow_predictions` under names that `predictions` has not, beside `row_id`."""

    compared: Compared
    kinds: pa.Schema

    @property
    def schema(self) -> pa.Schema:
        """Of the rows after it."""
        names = [*self.compared.columns[1:], SHADOW]
        return pa.schema([("row_id", pa.int64()), *((OTHER + name, self.kinds.field(name).type) for name in names)])

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same rows."""
        for batch in batches:
            columns = [batch.column(field.name.removeprefix(OTHER)) for field in self.schema]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)


@dataclasses.dataclass(frozen=True)
class PairSums:
    """Kernel: joined rows of a task -> one row per day (UTC), of `Compared.schema`.

    lacking: rows with an outcome that the champion priced and the challenger did not.  rows: with an outcome and both
    predictions; of these are each model's sum of losses (`champion`, `challenger`), and of each level the rows whose
    outcome was outside (`champion_missed_80`).
    """

    compared: Compared

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Sums of the whole share."""
        found = [self._summed(pl.from_arrow(pa.Table.from_batches([batch]))) for batch in batches if batch.num_rows]
        if found:
            yield from added(pl.concat(found), self.compared).to_arrow().cast(self.compared.schema).to_batches()

    def _summed(self, rows: pl.DataFrame | pl.Series) -> pl.DataFrame:
        assert isinstance(rows, pl.DataFrame)
        known = rows.filter(pl.col(OUTCOME).is_finite()).with_columns(pl.col("time").dt.date().alias("day"))
        # The table of those that did not serve says whose a row is; the one that served is the other.
        shadows = known[OTHER + SHADOW] == self.compared.challenger
        names = self.compared.columns[1:]
        sides = {
            model: known.select(
                OUTCOME,
                *(pl.when(own).then(pl.col(OTHER + name)).otherwise(pl.col(name)).alias(name) for name in names),
            )
            for model, own in (("challenger", shadows), ("champion", ~shadows))
        }
        priced = {model: side["prediction"].is_finite().fill_null(value=False) for model, side in sides.items()}
        both = priced["champion"] & priced["challenger"]
        days = known.select("day", lacking=(priced["champion"] & ~priced["challenger"]).cast(pl.Float64))
        figures = [known.filter(both).select("day", rows=pl.lit(1.0))]
        figures += [self._figures(sides[model].filter(both), model) for model in MODELS]
        return added(pl.concat([days, pl.concat(figures, how="horizontal")], how="diagonal"), self.compared)

    def _figures(self, rows: pl.DataFrame, model: str) -> pl.DataFrame:
        """Losses and misses of a model, one row each."""
        compared, classes = self.compared, list(self.compared.classes)
        if classes:
            codes = rows[OUTCOME].cast(pl.Int64)
            p = rows["probabilities"].explode().to_numpy().reshape(-1, len(classes))
            losses = pl.Series(model, log_losses(codes.to_numpy(), p), dtype=pl.Float64)
            true = pl.Series(classes, dtype=pl.String).gather(codes)
            frame = rows.with_columns(true.alias(OUTCOME))
            held = [pl.col(f"set_{level_label(level)}").list.contains(pl.col(OUTCOME)) for level in compared.levels]
        else:
            frame = rows.with_columns(self._loss().alias(model))
            losses = frame[model]
            ends = [level_label(level) for level in compared.levels]
            held = [pl.col(OUTCOME).is_between(f"lower_{end}", f"upper_{end}") for end in ends]
        missed = [
            (~one).cast(pl.Float64).alias(f"{model}_missed_{level_label(level)}")
            for one, level in zip(held, compared.levels, strict=True)
        ]
        return frame.select(losses, *missed)

    def _loss(self) -> pl.Expr:
        y, p = pl.col(OUTCOME), pl.col("prediction")
        if self.compared.loss == "squared":
            return (p - y).pow(2)
        if self.compared.loss == "interval":
            level = self.compared.levels[0]
            low, high = (pl.col(f"{end}_{level_label(level)}") for end in ("lower", "upper"))
            outside = pl.max_horizontal(low - y, y - high, pl.lit(0.0))
            return (high - low) + 2 / (1 - level) * outside
        return (p - y).abs()


def added(sums: pl.DataFrame, compared: Compared) -> pl.DataFrame:
    """Sums of the same day added up, in order of days."""
    return sums.group_by("day").agg(pl.exclude("day").sum()).sort("day").select("day", *compared.sums)


def series_of(days: pl.DataFrame) -> Series:
    """What both models lost, day by day."""
    some = days.filter(pl.col("rows") > 0)
    return paired_days(some["day"].to_numpy(), *(some[name].to_numpy() for name in ("rows", *MODELS)))


def misses_of(days: pl.DataFrame, level: float) -> Series:
    """Outcomes outside of the challenger's intervals, beside as many as its level promises."""
    some = days.filter(pl.col("rows") > 0)
    rows, missed = some["rows"].to_numpy(), some[f"challenger_missed_{level_label(level)}"].to_numpy()
    return paired_days(some["day"].to_numpy(), rows, (1 - level) * rows, missed)


def held_by(days: pl.DataFrame, level: float) -> dict[str, float]:
    """Share of outcomes inside of each model's intervals."""
    rows = float(days["rows"].sum())
    return {model: 1 - float(days[f"{model}_missed_{level_label(level)}"].sum()) / rows for model in MODELS}


def before(days: pl.DataFrame, day: dt.date) -> pl.DataFrame:
    """Days whose outcomes all had time to come in: those before `day`."""
    return days.filter(pl.col("day") < day)


def levels_of(*tables: Sequence[str], levels: Sequence[float], classes: bool) -> tuple[float, ...]:
    """Of some levels those that all tables with these columns have."""
    end = "set" if classes else "lower"
    return tuple(at for at in levels if all(f"{end}_{level_label(at)}" in names for names in tables))
