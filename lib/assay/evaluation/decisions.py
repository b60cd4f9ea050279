"""Consumes intervals and the widths that one may act on, produces what to do with a row: act, review or abstain."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import polars as pl

from assay.config.evaluation import EvaluationConfig
from assay.runtime.tables import level_label

ACT, REVIEW, ABSTAIN = "act", "review", "abstain"
DECISION = "decision at "


@dataclasses.dataclass(frozen=True)
class Rule:
    """What to do with a row at a level.

    Its interval's width over the size of its prediction decides: up to `act_width` act on the prediction, up to
    `review_width` have a person look at it, else, or without a finite interval, abstain. stakes: what the level is for.
    typical: stands for the prediction's size where a target goes both ways and a prediction near 0 means nothing.
    """

    level: float
    stakes: str
    act_width: float
    review_width: float
    typical: float | None = None

    @property
    def name(self) -> str:
        """Segment column that it fills."""
        return f"{DECISION}{level_label(self.level)}"

    def relative_width(self) -> pl.Expr:
        """Width over size, null where there is no finite interval."""
        return relative_width(level_label(self.level), self.typical)

    def expression(self) -> pl.Expr:
        """`act`, `review` or `abstain`."""
        width = self.relative_width()
        found = pl.when(width <= self.act_width).then(pl.lit(ACT)).when(width <= self.review_width)
        return found.then(pl.lit(REVIEW)).otherwise(pl.lit(ABSTAIN))


def relative_width(label: str, typical: float | None = None) -> pl.Expr:
    """Width of a level's interval over the prediction's size, or over `typical`; null where it is not finite."""
    low, high = pl.col(f"lower_{label}").fill_nan(None), pl.col(f"upper_{label}").fill_nan(None)
    size = pl.col("prediction").abs() if typical is None else pl.lit(typical)
    width = (high - low) / size
    return pl.when(width.is_finite()).then(width)


def rules_of(config: EvaluationConfig, levels: Sequence[float], typical: float | None = None) -> tuple[Rule, ...]:
    """The rules for little and much at stake, at the promised levels nearest to those configured; one where equal."""
    if not levels:
        return ()
    wanted = {"standard": config.standard_level, "high stakes": config.high_stakes_level}
    found: dict[float, Rule] = {}
    for stakes, level in wanted.items():
        nearest = min(levels, key=lambda one: (abs(one - level), one))
        if nearest not in found:
            found[nearest] = Rule(nearest, stakes, config.act_width, config.review_width, typical)
    return tuple(found.values())
