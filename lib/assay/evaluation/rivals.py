"""Consumes losses per day of the model and of rivals on the same rows, produces how much better it is, how surely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from assay.evaluation.content import BASELINE_PREFIX
from assay.evaluation.over_time import Line, long_lines
from assay.evaluation.tally import Tally
from assay.model.comparison import difference_band, mean_loss

RESAMPLES, CONFIDENCE = 2_000, 0.95


@dataclass(frozen=True)
class RivalResult:
    """The model and a rival on the rows that both predict. rmse, rival_rmse: in the target's unit.

    low, high: 95 % band of their difference (model minus rival), by a paired bootstrap of whole days; NaN with one day.
    """

    name: str
    rows: int
    days: int
    rmse: float
    rival_rmse: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `not told apart`."""
        return "better" if self.high < 0 else "worse" if self.low > 0 else "not told apart"

    @property
    def gain(self) -> float:
        """Share of the rival's RMSE that the model saves; below 0 it errs more."""
        return 1 - self.rmse / self.rival_rmse if self.rival_rmse else float("nan")

    @property
    def gains(self) -> tuple[float, float]:
        """The band of `gain`, low and high, with the rival's RMSE as it is."""
        return (-self.high / self.rival_rmse, -self.low / self.rival_rmse) if self.rival_rmse else (np.nan, np.nan)


def compared(tally: Tally, *, seed: int) -> list[RivalResult]:
    """The model against each rival, the strongest rival first."""
    found = []
    for (rival,), part in tally.days.partition_by("rival", as_dict=True).items():
        ours, theirs, rows = (part.sort("day")[n].to_numpy().astype(np.float64) for n in ("model", "other", "rows"))
        total = rows.sum()
        band = difference_band(ours, theirs, rows, confidence=CONFIDENCE, resamples=RESAMPLES, seed=seed, root=True)
        rmse, other = (float(mean_loss(losses.sum(), total, root=True)) for losses in (ours, theirs))
        found.append(RivalResult(str(rival).removeprefix(BASELINE_PREFIX), int(total), len(rows), rmse, other, *band))
    return sorted(found, key=lambda one: (one.rival_rmse, one.name))


def rival_lines(found: Sequence[RivalResult]) -> pl.DataFrame:
    """Rows of the segment table: a rival's RMSE, and the difference (model minus rival) with its 95 % band."""
    lines: list[Line] = []
    for one in found:
        lines += [("compared with", one.name, "rmse", one.rival_rmse, None, None, one.rows)]
        lines += [
            ("compared with", one.name, "rmse_difference", one.rmse - one.rival_rmse, one.low, one.high, one.rows)
        ]
    return long_lines(lines)
