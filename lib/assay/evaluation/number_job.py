"""Consumes evaluated rows of a target of numbers, produces their segments and what their report says.

Rows are summed on executors (`tally.py`); the driver gets sums, and a sample of rows for what needs single ones.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from assay.config.dataset import stored_name
from assay.evaluation import plots, story_plots
from assay.evaluation.content import (
    BASELINE_PREFIX,
    BaselineResult,
    Content,
    CoverageResult,
    Figures,
    ReportContent,
)
from assay.evaluation.ensemble import COLUMN as DISAGREEMENT
from assay.evaluation.ensemble import ensemble_result, errors
from assay.evaluation.evaluated import BEFORE, PRICE_BAND, JudgeRows
from assay.evaluation.parts import TallySpec
from assay.evaluation.report import render
from assay.evaluation.risk import RankedDecisions, ranked_decisions
from assay.evaluation.segments import best_and_worst, rival_table, table_of
from assay.evaluation.story import cluster_table, rules_for, told
from assay.evaluation.tallied_job import TalliedEvaluation
from assay.evaluation.tally import Tally
from assay.evaluation.target_job import Pictures, Report
from assay.evaluation.wording import gate_outcome, headline, skill_sentence
from assay.metrics import binomial_band
from assay.model.row_sample import ROW, SampleRows, sample_threshold
from assay.pages.formats import number, percent
from assay.runtime.conditions import Condition
from assay.runtime.plane import Kernel
from assay.runtime.tables import DECISIONS, level_label

MIN_NAMED_ROWS = 30


class NumberEvaluation(TalliedEvaluation[ReportContent, Tally, TallySpec]):
    """One target's evaluation, of a number. `baseline_*` are predictions."""

    promise = "lower_"
    band = PRICE_BAND

    def told(self, names: Sequence[str]) -> list[str]:
        """Predictions, members' disagreement and the ends of intervals."""
        spread = [DISAGREEMENT] if DISAGREEMENT in names else []
        return ["prediction", *spread, *(name for name in names if name.startswith(("lower_", "upper_")))]

    def spec_of(self, given: TallySpec, levels: Sequence[float]) -> TallySpec:
        """With a segment column for each decision rule."""
        rules = [rule.name for rule in rules_for(self.settings, levels, self.past)]
        segments = tuple(dict.fromkeys([*given.segment_columns, *rules]))
        return dataclasses.replace(given, segment_columns=segments, kept=(*given.kept, *rules))

    def kernel(self, levels: Sequence[float]) -> Kernel:
        """See `JudgeRows`."""
        return JudgeRows(self.spec, self.past.bands, rules_for(self.settings, levels, self.past), self.dated)

    def merged(self, parts: pa.Table) -> Tally | None:
        """See `Tally`."""
        return Tally.unpacked(parts, self.spec)

    def segment_table(self, rows: pl.DataFrame, levels: list[float]) -> pl.DataFrame:
        """See `table_of`; and, from the same sums, all that the report tells besides."""
        table = table_of(self.tally, self.spec)
        self.story, lines = told(
            self.tally,
            table,
            self.past,
            self.settings,
            levels,
            columns=self.named,
            dated=self.dated,
            seed=self.config.profile.engine.seed,
            before_why=self.before_why,
            decisions=self._decisions(),
        )
        return pl.concat([table, lines])

    def _decisions(self) -> RankedDecisions | None:
        """How the combined score orders what came, of a sample; None where this target is no part of one."""
        version = self.context.plane.version(DECISIONS.name)
        weights = self.config.dataset.decision
        if version is None or self.target.name not in weights:
            return None
        most = self.settings.sample_rows
        kernel = SampleRows(sample_threshold(self.context.plane.rows(DECISIONS.name, version), most))
        flow = self.context.plane.read(
            DECISIONS.name,
            version=version,
            columns=[ROW, "score", "realised"],
            where=[Condition("realised", "not_null")],
        )
        found = pl.from_arrow(flow.map(kernel, flow.schema).collect())
        assert isinstance(found, pl.DataFrame)
        found = found.sort(ROW)
        return ranked_decisions(found["score"], found["realised"], list(weights))

    def content(self, common: Content, rows: pl.DataFrame, levels: list[float], pictures: Pictures) -> ReportContent:
        """Everything that the report says."""
        entity, name = stored_name(self.config.dataset.entity[0]), self.target.name
        return ReportContent(
            **vars(common),
            unit="",
            metrics=self._whole(common.segments),
            baselines=self._baselines(),
            coverage=self._coverage(common.segments, levels),
            figures=Figures(
                predicted=plots.predicted_against_actual(rows, name),
                residuals=plots.residuals_over_time(rows, name),
                fan=plots.fan(rows, entity, levels, name),
                rivals=story_plots.rivals(self.story.rivals),
                over_time=story_plots.coverage_over_time(self.story.over_time),
                kept=story_plots.rows_kept(self.story.abstentions),
                **pictures,
            ),
            ensemble=ensemble_result(self.model.facts, rows, errors(rows, self.target.transform)),
            refit=self.records.refit(),
            story=self.story,
        )

    def _whole(self, table: pl.DataFrame) -> dict[str, float]:
        """Metrics of all rows, NaN where undefined."""
        part = table.filter((pl.col("segment_column") == "") & (pl.col("segment") == ""))
        return {n: math.nan if v is None else v for n, v in part.select("metric", "value").iter_rows()}

    def _baselines(self) -> list[BaselineResult]:
        found = []
        for line in rival_table(self.tally, self.spec).iter_rows(named=True):
            if line["segment"] != BEFORE:
                metrics = {
                    n: math.nan if v is None else v for n, v in line.items() if isinstance(v, float | int | None)
                }
                found.append(BaselineResult(line["segment"].removeprefix(BASELINE_PREFIX), metrics, int(line["rows"])))
        order = {name: place for place, name in enumerate(self.baselines.names)}
        return sorted(found, key=lambda one: order[one.name])

    def _coverage(self, table: pl.DataFrame, levels: Sequence[float]) -> list[CoverageResult]:
        whole, calibrated = self._whole(table), self.records.calibration_rows()
        found = []
        for level in sorted(levels):
            suffix = f"_{level_label(level)}"
            metrics = {n.removesuffix(suffix): v for n, v in whole.items() if n.endswith(suffix)}
            given = round(self.tally.rows * (1 - metrics["missing_share"]))
            found.append(CoverageResult(level, metrics, *binomial_band(level, given, calibration_rows=calibrated)))
        return found

    def report(self, content: ReportContent) -> Report:
        """Page, plots, figures and a few lines."""
        clusters = cluster_table(self.past.clusters)
        tables = {"similar_rows": clusters.write_csv()} if clusters is not None else {}
        return Report(render(content), vars(content.figures), figures_of(content), summary_of(content), tables)


def figures_of(content: ReportContent) -> dict[str, float]:
    """The figures of `--json` and of MLflow."""
    point = ("r2", "rmse", "mae", "bias", "median_ape", "mape", "zero_actuals", "pinball_50")
    metrics = {f"test_{k}": v for k, v in content.metrics.items() if k in point or k.startswith("within_")}
    for result in content.coverage:
        label = level_label(result.level)
        for name in ("coverage", "width", "interval_score", "pinball"):
            if name in result.metrics:
                metrics[f"{name}_{label}"] = result.metrics[name]
        metrics[f"coverage_{label}_chance_low"], metrics[f"coverage_{label}_chance_high"] = result.low, result.high
    if content.strongest_baseline is not None:
        metrics["best_baseline_rmse"] = content.strongest_baseline.metrics["rmse"]
    if content.ensemble is not None and content.ensemble.disagreement is not None:
        metrics["disagreement_error_correlation"] = content.ensemble.disagreement.correlation
    if content.skill is not None:
        metrics["skill_over_best_baseline"] = content.skill
    return metrics | (content.story.figures if content.story is not None else {})


def summary_of(content: ReportContent) -> list[str]:
    """The result in a few lines, for the terminal."""
    lines = [headline(content), skill_sentence(content)]
    for result in content.coverage:
        lines.append(
            f"The {percent(result.level, 0)} interval held {percent(result.metrics['coverage'])} of the time "
            f"(chance allows {percent(result.low)} to {percent(result.high)}), "
            f"mean width {number(result.metrics['width'])}"
        )
    named = content.segments
    if content.story is not None:
        named = named.filter(pl.col("segment_column").is_in(list(content.story.columns)))
    extremes = best_and_worst(named, min_rows=MIN_NAMED_ROWS)
    if extremes is None:
        extremes = best_and_worst(named, min_rows=5)
    if extremes is not None and extremes.segments > 1:
        for word, found in (("Best", extremes.best), ("Worst", extremes.worst)):
            lines.append(
                f"{word} segment: {found.segment_column} {found.segment}, median error {percent(found.value)} "
                f"in {found.rows:,} rows"
            )
    if content.story is not None and content.story.slabs:
        slab = content.story.slabs[-1]
        lines.append(
            f"The {percent(slab.level, 0)} interval holds least where {slab.where}: {percent(slab.coverage)} of "
            f"{slab.rows:,} rows"
        )
    lines.append(gate_outcome(content)[1])
    return lines
