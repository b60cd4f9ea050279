"""Consumes what was summed and sampled of evaluated rows, produces what the report of numbers tells beyond errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from assay.config.evaluation import EvaluationConfig
from assay.evaluation.decisions import Rule, rules_of
from assay.evaluation.evaluated import CLUSTER, FACTOR, PRICE_BAND
from assay.evaluation.over_time import LevelOverTime, Line, coverage_over_time, long_lines, time_lines
from assay.evaluation.past import Past
from assay.evaluation.risk import (
    Abstention,
    Decided,
    Direction,
    LowerBound,
    RankedDecisions,
    abstention,
    decided,
    direction,
    lower_bounds,
    risk_lines,
)
from assay.evaluation.rivals import RivalResult, compared, rival_lines
from assay.evaluation.slabs import Slab, worst_slab
from assay.evaluation.tally import Tally
from assay.model.clusters import Clusters
from assay.runtime.tables import level_label


@dataclass(frozen=True, kw_only=True)
class Story:
    """What is told beyond errors and coverage of all rows.

    columns: segment columns that the dataset or the configuration names.  cut: further ones, of bands and clusters.
    sampled: rows behind figures of single rows.  before_why: why there is no comparison with the champion before.
    past_rows: rows before the test period that bands and clusters come from.
    """

    columns: Sequence[str] = ()
    cut: Sequence[str] = ()
    sampled: int = 0
    past_rows: int = 0
    rivals: Sequence[RivalResult] = ()
    before_why: str = ""
    over_time: Sequence[LevelOverTime] = ()
    slabs: Sequence[Slab] = ()
    clusters: Clusters | None = None
    lower_bounds: Sequence[LowerBound] = ()
    abstentions: Sequence[Abstention] = ()
    decided: Sequence[Decided] = ()
    direction: Direction = field(default_factory=Direction)
    decisions: RankedDecisions | None = None
    false_discovery_rate: float = 0.05

    @property
    def before(self) -> RivalResult | None:
        """The comparison with the champion before."""
        return next((one for one in self.rivals if one.name == "champion before"), None)

    @property
    def figures(self) -> dict[str, float]:
        """What MLflow and `--json` get of it."""
        found: dict[str, float] = {}
        for each in self.over_time:
            label = level_label(each.level)
            if each.worst_month is not None:
                found[f"worst_month_coverage_{label}"] = each.worst_month.coverage
            if each.drift is not None:
                found[f"coverage_drift_{label}"] = each.drift.change
        found |= {f"worst_slab_coverage_{level_label(one.level)}": one.coverage for one in self.slabs}
        found |= {f"abstention_area_{level_label(one.level)}": one.area for one in self.abstentions}
        for bound in self.lower_bounds:
            label = level_label(bound.level)
            found |= {f"lower_total_{label}": bound.lower, f"below_lower_{label}": bound.below}
        if not self.direction.why:
            found |= {"direction_accuracy": self.direction.accuracy, "win_rate": self.direction.win_rate}
            found |= {"sharpe": self.direction.sharpe} if self.direction.sharpe is not None else {}
        if self.before is not None:
            found |= {"champion_before_rmse": self.before.rival_loss, "rmse_over_champion_before_low": self.before.low}
            found |= {"rmse_over_champion_before_high": self.before.high}
        return found


def rules_for(config: EvaluationConfig, levels: Sequence[float], past: Past) -> tuple[Rule, ...]:
    """Decision rules with the widths' measure that rows before the test period give."""
    return rules_of(config, levels, past.typical)


def told(
    tally: Tally,
    table: pl.DataFrame,
    past: Past,
    config: EvaluationConfig,
    levels: Sequence[float],
    *,
    columns: Sequence[str],
    dated: bool,
    seed: int,
    before_why: str,
    decisions: RankedDecisions | None,
) -> tuple[Story, pl.DataFrame]:
    """The story, and its lines for the segment table. dated: whether rows have a time of their own."""
    rules = rules_for(config, levels, past)
    over_time = (
        coverage_over_time(
            tally, levels, window_days=config.window_days, false_discovery_rate=config.false_discovery_rate
        )
        if dated
        else []
    )
    factors = {f"{FACTOR}{name}": name for name in past.grid if f"{FACTOR}{name}" in tally.sample.columns}
    there = tally.sample.select(
        "hash",
        "actual",
        "prediction",
        pl.col("^(lower|upper)_[0-9_]+$"),
        *(pl.col(k).alias(v) for k, v in factors.items()),
    )
    slabs = [worst_slab(there, level, past.grid, least_share=config.slab_share) for level in sorted(levels)]
    abstentions = [abstention(tally.sample, rule.level, past.typical) for rule in rules]
    cut = [name for name in (PRICE_BAND, CLUSTER) if (table["segment_column"] == name).any()]
    found = Story(
        columns=columns,
        cut=cut,
        sampled=tally.sample.height,
        past_rows=past.rows,
        rivals=compared(tally, seed=seed, dated=dated),
        before_why=before_why,
        over_time=over_time,
        slabs=[one for one in slabs if one is not None],
        clusters=past.clusters,
        lower_bounds=lower_bounds(tally, levels),
        abstentions=[one for one in abstentions if one is not None],
        decided=decided(table, rules, tally.rows),
        direction=direction(tally, past.direction, past.why) if dated else Direction(why="rows have no time"),
        decisions=decisions,
        false_discovery_rate=config.false_discovery_rate,
    )
    lines = [
        rival_lines(found.rivals),
        time_lines(over_time),
        risk_lines(found.abstentions, found.direction),
        slab_lines(found.slabs),
    ]
    return found, pl.concat(lines)


def slab_lines(found: Sequence[Slab]) -> pl.DataFrame:
    """Rows of the segment table: a level's worst slab, on the half of the sample that it was not found on."""
    lines: list[Line] = []
    for one in found:
        name = f"coverage_{level_label(one.level)}"
        lines += [("worst slab", one.where, f"{name}_confidence", one.coverage, one.low, one.high, one.rows)]
        lines += [("worst slab", one.where, f"{name}_adjusted_p", one.p_value, None, None, one.rows)]
    return long_lines(lines)


def cluster_table(clusters: Clusters | None) -> pl.DataFrame | None:
    """What sets clusters apart, for MLflow; None without clusters."""
    return pl.DataFrame(clusters.described()) if clusters is not None else None
