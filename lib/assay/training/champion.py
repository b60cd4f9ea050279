"""Consumes the champion and a new model's errors on its test period, produces the verdict: not worse, or worse."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from assay.config.profile import GatesConfig
from assay.model.bundle import Model
from assay.model.comparison import difference_band, mean_loss, why_incomparable
from assay.model.registry import Champion
from assay.model.scale import Floats
from assay.model.verdict import Verdict
from assay.runtime.progress import figure
from assay.training.split import Period

GATE = "not_worse_than_champion"


def incomparable(champion: Champion, model: Model, test: Period, columns: set[str]) -> str | None:
    """Why the champion cannot be asked about the new model's test period; None if it can.

    columns: what the features have.
    """
    return why_incomparable(champion, model, test.first, columns)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two models on the same rows. rmse, champion_rmse: of all rows, in the target's unit; of classes the log loss.

    low, high: ends of the confidence interval of their difference (new minus champion); NaN with fewer than two days.
    """

    rmse: float
    champion_rmse: float
    low: float
    high: float

    @property
    def worse(self) -> bool:
        """Whether the new model is worse beyond doubt; with fewer than two days, whether it is worse at all."""
        return self.low > 0 if np.isfinite(self.low) else self.rmse > self.champion_rmse


def compare(
    actual: Floats, new: Floats, champion: Floats, days: np.ndarray[Any, Any], config: GatesConfig, *, seed: int
) -> Comparison:
    """RMSE of both, and how sure their difference is: `compare_losses` of squared errors.

    actual, new, champion: (n,) in the target's unit.  days: (n,) the day of each row.
    """
    return compare_losses((new - actual) ** 2, (champion - actual) ** 2, days, config, seed=seed, root=True)


def compare_losses(
    new: Floats, champion: Floats, days: np.ndarray[Any, Any], config: GatesConfig, *, seed: int, root: bool = False
) -> Comparison:
    """Mean losses of both, and a paired bootstrap of their difference, by whole days: rows of a day err together.

    new, champion: (n,) losses.  days: (n,) the day of each row.  root: the means' roots are compared.  The bound is
    one-sided: with `champion_confidence` the difference is above `low`. See `difference_band`.
    """
    _, place = np.unique(days, return_inverse=True)
    rows = np.bincount(place).astype(np.float64)
    ours, theirs = (np.bincount(place, losses).astype(np.float64) for losses in (new, champion))
    low, high = difference_band(
        ours,
        theirs,
        rows,
        confidence=2 * config.champion_confidence - 1,  # both ends, each with this confidence
        resamples=config.champion_resamples,
        seed=seed,
        root=root,
    )
    total = rows.sum()
    rmse, champion_rmse = (float(mean_loss(losses.sum(), total, root=root)) for losses in (ours, theirs))
    return Comparison(rmse, champion_rmse, low, high)


def verdict(found: Comparison, champion: Champion, config: GatesConfig, loss: str = "RMSE") -> Verdict:
    """The gate's outcome in words. loss: what was compared."""
    said = f"{loss} on the test period is {figure(found.rmse)}, that of the champion, version {champion.label}, "
    said += figure(found.champion_rmse)
    if found.worse and np.isfinite(found.low):
        said += f"; with {config.champion_confidence:.0%} confidence it is worse by {figure(found.low)} or more"
    return Verdict(GATE, not found.worse, found.rmse, found.champion_rmse, f"{said} (gates.champion)")
