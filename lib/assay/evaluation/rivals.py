"""Consumes losses per day of the model and of rivals on the same rows, produces how much better it is, how surely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from assay.evaluation.content import BASELINE_PREFIX
from assay.evaluation.over_time import Line, long_lines
from assay.evaluation.parts import Sums
from assay.model.comparison import difference_band, mean_loss
from assay.pages.formats import count

RESAMPLES, CONFIDENCE = 2_000, 0.95
COMPARED = "compared with"  # segment column of the table


@dataclass(frozen=True)
class RivalResult:
    """The model and a rival on the rows that both predict. loss, rival_loss: RMSE, of classes the mean log loss.

    low, high: 95 % band of their difference (model minus rival), by a paired bootstrap of whole days; NaN with one day.
    dated: whether they are days, or groups of rows that have none.
    """

    name: str
    rows: int
    days: int
    loss: float
    rival_loss: float
    low: float
    high: float
    dated: bool = True

    @property
    def drawn(self) -> str:
        """What is drawn again as a whole, and how many there are."""
        return count(self.days, "day" if self.dated else "random group")

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `not told apart`."""
        return "better" if self.high < 0 else "worse" if self.low > 0 else "not told apart"

    @property
    def gain(self) -> float:
        """Share of the rival's loss that the model saves; below 0 it errs more."""
        return 1 - self.loss / self.rival_loss if self.rival_loss else float("nan")

    @property
    def gains(self) -> tuple[float, float]:
        """The band of `gain`, low and high, with the rival's loss as it is."""
        return (-self.high / self.rival_loss, -self.low / self.rival_loss) if self.rival_loss else (np.nan, np.nan)


def compared(tally: Sums[Any], *, seed: int, root: bool = True, dated: bool = True) -> list[RivalResult]:
    """The model against each rival, the strongest rival first. root: of mean losses their roots are compared.

    dated: whether rows have days.
    """
    found = []
    for (rival,), part in tally.days.partition_by("rival", as_dict=True).items():
        ours, theirs, rows = (part.sort("day")[n].to_numpy().astype(np.float64) for n in ("model", "other", "rows"))
        total = rows.sum()
        band = difference_band(ours, theirs, rows, confidence=CONFIDENCE, resamples=RESAMPLES, seed=seed, root=root)
        loss, other = (float(mean_loss(losses.sum(), total, root=root)) for losses in (ours, theirs))
        name = str(rival).removeprefix(BASELINE_PREFIX)
        found.append(RivalResult(name, int(total), len(rows), loss, other, *band, dated=dated))
    return sorted(found, key=lambda one: (one.rival_loss, one.name))


def rival_lines(found: Sequence[RivalResult], loss: str = "rmse") -> pl.DataFrame:
    """Rows of the segment table: a rival's loss, and the difference (model minus rival) with its 95 % band.

    loss: its name.
    """
    lines: list[Line] = []
    for one in found:
        difference = one.loss - one.rival_loss
        lines += [(COMPARED, one.name, loss, one.rival_loss, None, None, one.rows)]
        lines += [(COMPARED, one.name, f"{loss}_difference", difference, one.low, one.high, one.rows)]
    return long_lines(lines)
