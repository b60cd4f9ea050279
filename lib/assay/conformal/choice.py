"""Consumes calibration rows scored in two ways, produces which of them makes the better intervals of newer rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from assay.conformal.calibration import Calibration, labels_in
from assay.conformal.conformity import Older
from assay.conformal.scores import AbsoluteResidual, Floats, NormalisedResidual, scores_in

MARGIN = 0.05  # by how much a scale must better the intervals to be worth the rows that it takes
FREE_MARGIN = 0.02  # the same for one that takes none


def relative_interval_score(
    absolute: pa.Table, normalised: pa.Table, older: Older, fitted: Callable[[pa.Table, str], Calibration]
) -> float:
    """Interval score of normalised intervals relative to that of absolute ones, its mean over levels.

    absolute, normalised: rows of `SCORED`; normalised lacks those that its scale was learned from, if it was from any
    of them. Both kinds are fitted to what they have of `older`, and judged by the other rows, which are the same.
    fitted: rows and kind -> calibration.
    Infinite where normalised intervals are, 1 where both are.
    """
    found = []
    for rows, kind in ((absolute, AbsoluteResidual.name), (normalised, NormalisedResidual.name)):
        taught, judged = older.parted(rows)
        if not judged.num_rows:
            return 1.0
        found.append(interval_scores(fitted(taught, kind), judged))
    ours, plain = found[1], found[0]
    with np.errstate(invalid="ignore"):
        ratios = np.where(np.isfinite(plain), ours / plain, np.where(np.isfinite(ours), 0.0, 1.0))
    return float(ratios.mean())


def interval_scores(calibration: Calibration, rows: pa.Table) -> Floats:
    """Mean interval score at each level, (levels,), in units of the model's scale; less is better.

    rows: of `SCORED`, of a score with one width on both sides. Gneiting and Raftery 2007: the width, and
    2 / (1 - level) for each unit that the outcome lies outside.
    """
    quantiles, _ = calibration.quantiles_for(labels_in(rows.column("label")))
    outside = np.maximum(scores_in(rows)[:, [part.column for part in calibration.parts]] - quantiles, 0.0)
    punished = 2.0 / (1.0 - np.array(calibration.levels))
    scale = rows.column("scale").to_numpy()[:, None]
    return np.asarray((scale * (2.0 * quantiles + punished * outside)).mean(axis=0))
