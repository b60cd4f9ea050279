"""Consumes a profile's section `conformal`, produces how predictions get intervals, or sets of classes, that hold."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.strict import STRICT

Share = Annotated[float, Field(gt=0, lt=1)]
SCORES = ("auto", "best", "absolute", "signed", "normalised", "cqr")
SET_SCORES = ("lac", "aps")  # of classes


@dataclass(frozen=True, config=STRICT)
class ConformalConfig:
    """Intervals of numbers, and sets of classes.

    levels: promised coverages.
    score: how an error is measured. `absolute` gives all rows of a segment the same width; `signed` lets each end have
        its own; `normalised` makes rows wider whose error is usually larger, as a scale model learns it (`scale_from`);
        `cqr` widens or narrows the model's own quantiles, which `engine.quantiles` must name for both ends of each
        level. `auto` is `cqr` for a model of such quantiles and `absolute` for others; `best` is `cqr`, too, and else
        that of `absolute` and `normalised` whose intervals score better on the newest calibration rows. Extensions may
        add others.
    scale_from: what teaches the scale. `errors`: those of the model in the oldest `scale_share` of the calibration
        rows, which then calibrate no more. `outcomes`: how far apart outcomes of such rows lie, in rows that the model
        learned from; it is believed by half.
    min_segment_rows: below it a segment uses its parent's intervals (without the last of `dataset.segments`), and at
        last those of all rows together.
    shrinkage_rows: a segment's widths move towards its parent's as if so many rows spoke for those; above 0 they are
        steadier in small segments, and no longer exact.
    folds: blocks of the calibration period; the scores of each come from a model that learned from all rows known
        before it began, so that the later ones are of models nearly as new as the one that serves. Each block but the
        first costs `train` one more fit. For dated rows, with `serving.learns_until: newest`.
    halflife_days: a calibration row that is so much older than the newest one counts half; None counts all alike.
    adaptive: let each segment's intervals, or sets, follow its misses, step by step in time: a row is given what
        outcomes known before its own step call for. For dated rows.
    adaptive_way: `widths` makes intervals wider and narrower by `step_size` (quantile tracking); `aci` moves the share
        of misses that they aim at (adaptive conformal inference), and `dtaci` that by eight step sizes from 0.001 to
        0.128 at once, each weighed by how well it did of late. Sets have no width: by `widths` they follow as by `aci`.
    step_days: how long a step is; None is the least time between two dates of the calibration period.
    step_size: how much of what the share of misses of a step was off is made up for at once, in the share that is
        aimed at, or in widths as if errors were normal; 0 lets only the rows behind the quantiles change. None is 0.45
        for `widths` and 0.2 for `aci`.
    damping_rows: known outcomes of a step that the segment above speaks for as well: with fewer of its own, a segment
        moves more as that does than on its own account. None is 15 for `widths` and 100 for the others.
    window_days: how long a score stays among those that quantiles are taken of; None keeps all.
    set_score: `lac` makes the smallest sets, `aps` sets that adapt to how sure the model is of a row.
    by_class: whether sets keep their promise in the rows of every class, and not only in all rows together.
    probabilities: how those of classes are made to keep their word, on rows that the model has not seen.
    probabilities_share: of the rows that calibrate, those that this takes; the later ones make the sets.
    """

    levels: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.8, 0.9)
    score: str = "auto"
    scale_from: Literal["errors", "outcomes"] = "outcomes"
    scale_share: Share = 1 / 3
    min_segment_rows: Annotated[int, Field(ge=1)] = 50
    shrinkage_rows: Annotated[float, Field(ge=0)] = 0.0
    folds: Annotated[int, Field(ge=1, le=20)] = 1
    halflife_days: Annotated[float, Field(gt=0)] | None = None
    adaptive: bool = False
    adaptive_way: Literal["widths", "aci", "dtaci"] = "widths"
    step_days: Annotated[float, Field(gt=0)] | None = None
    step_size: Annotated[float, Field(ge=0, le=1)] | None = None
    damping_rows: Annotated[float, Field(ge=0)] | None = None
    window_days: Annotated[float, Field(gt=0)] | None = None
    set_score: Literal["lac", "aps"] = "lac"
    by_class: bool = False
    probabilities: Literal["none", "isotonic", "temperature", "venn_abers"] = "none"
    probabilities_share: Share = 0.5


def tail_levels(level: float) -> tuple[float, float]:
    """Levels of the quantiles that an interval lies between: 0.8 -> 0.1 and 0.9."""
    exact = Fraction(str(level))
    return float((1 - exact) / 2), float((1 + exact) / 2)


def missing_quantiles(levels: Sequence[float], learned: Sequence[float]) -> list[float]:
    """Quantiles at the ends of intervals of these levels that are not among those learned, rising."""
    known = {round(level, 9) for level in learned}
    return sorted({end for level in levels for end in tail_levels(level) if round(end, 9) not in known})
