"""Consumes a training run's models, produces who scores which rows of the calibration period."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assay.errors import AssayError
from assay.model.bundle import Model
from assay.model.registry import BLOCK, TrainedRun
from assay.model.row_sample import ROW
from assay.runtime.conditions import Condition, period_conditions


@dataclasses.dataclass(frozen=True)
class Block:
    """Rows of a period, and the model that scores them, which learned from none of them nor of later ones.

    period: calibrate, test or newest.  number: of the block in its period, from 1.  where: its rows.
    """

    period: str
    number: int
    model: Model
    where: Sequence[Condition]


@dataclasses.dataclass(frozen=True)
class ScoredBlock:
    """A block with the scores of its rows, a table of `SCORED`, or of classes of `CLASS_ROWS`."""

    block: Block
    rows: pa.Table

    def of(self, period: pa.Table) -> ScoredBlock:
        """The same block with other scores, which are among those of its period."""
        return ScoredBlock(self.block, period.filter(pc.is_in(period.column(ROW), self.rows.column(ROW))))

    def facts(self) -> dict[str, Any]:
        """Plain data: the block, how many rows it has, by which model they were scored and what that knew last."""
        model = self.block.model
        return {
            "period": self.block.period,
            "block": self.block.number,
            "rows": self.rows.num_rows,
            "model_version": model.version,
            "learned_until": model.learned_until,
        }

    def table(self, schema: pa.Schema, **told: str) -> pa.Table:
        """Rows of `conformity_scores`, whose schema is given. told: columns that say the same of all rows."""
        model = self.block.model
        same = {"period": self.block.period, "block": self.block.number, "model_version": model.version, **told}
        until = dt.datetime.fromisoformat(model.learned_until)
        columns = {name: self.rows.column(name) for name in ("row_id", "time", "scores")}
        columns |= {"segment": self.rows.column("label")}
        for name, value in {**same, "learned_until": until}.items():
            columns[name] = pa.repeat(pa.scalar(value, schema.field(name).type), self.rows.num_rows)
        return pa.table({field.name: columns[field.name] for field in schema}, schema=schema)


def calibration_blocks(trained: TrainedRun, *, folds: int) -> list[Block]:
    """Blocks of the calibration period, in order.

    folds: `conformal.folds`; with 1 the model that was held back from the whole period scores all of it.

    Raises:
        AssayError: a model had learned from rows of its own block, or of later ones.
    """
    earlier = trained.held_back or trained.model
    whole = trained.model.facts["split"]["calibrate"]
    later = trained.blocks if folds > 1 else ()
    starts = [whole["start"], *(model.facts[BLOCK]["start"] for model in later)]
    ends = [*starts[1:], whole["end"]]
    models = [earlier, *later]
    for model, start in zip(models, starts, strict=True):
        if start is not None and dt.datetime.fromisoformat(model.learned_until) >= dt.datetime.fromisoformat(start):
            raise AssayError(
                f"model {model.version} learned until {model.learned_until} and cannot calibrate rows from {start} on"
            )
    return [
        Block("calibrate", number, model, period_conditions({**whole, "start": start, "end": end}))
        for number, (model, start, end) in enumerate(zip(models, starts, ends, strict=True), start=1)
    ]


def together(scored: Sequence[ScoredBlock]) -> pa.Table:
    """Rows of all blocks."""
    return pa.concat_tables(one.rows for one in scored)
