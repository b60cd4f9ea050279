"""Consumes a calibration and later rows' scores, produces the share that it holds and what the gate says of it."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from assay.conformal.calibration import Calibration, factorise, labels_in
from assay.conformal.following import Following, Known
from assay.conformal.scores import Floats, scores_in
from assay.model.verdict import Verdict


def coverage_of(calibration: Calibration, scored: pa.Table) -> list[float]:
    """Per level the share of rows of `SCORED` whose scores are within the quantiles of their segment."""
    quantiles, _ = calibration.quantiles_for(labels_in(scored.column("label")))
    return share_within(calibration, scores_in(scored), quantiles)


def share_followed(calibration: Calibration, later: Known, follows: Following) -> list[float]:
    """The same of quantiles that follow: each row's are those of its own step."""
    rows, distinct = factorise(later.labels)
    quantiles, _ = follows.quantiles_for(distinct, rows, later.times)
    return share_within(calibration, later.scores, quantiles)


def share_within(calibration: Calibration, scores: Floats, quantiles: Floats) -> list[float]:
    """Per level the share of rows whose scores (n, S) are within their quantiles (n, P)."""
    parts = calibration.parts
    within = scores[:, [part.column for part in parts]] <= quantiles
    own = [[place for place, part in enumerate(parts) if part.level == at] for at in range(len(calibration.levels))]
    return [float(within[:, places].all(axis=1).mean()) for places in own]


def verdict(held: Sequence[float], levels: Sequence[float], shortfall: float | None) -> list[Verdict]:
    """The gate's outcome for the level that falls short most; none without a gate."""
    if shortfall is None:
        return []
    coverage, level = min(zip(held, levels, strict=True), key=lambda pair: pair[0] - pair[1])
    least = level - shortfall
    rule = (
        f"the {level:.0%} interval holds {coverage:.1%} of the test period's outcomes, the least allowed {least:.1%} "
        "(gates.coverage_shortfall)"
    )
    return [Verdict("coverage", coverage >= least, coverage, least, rule)]
