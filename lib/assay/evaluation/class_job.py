"""Consumes `predictions` of classes and what came true, produces `segment_metrics`, plots and their report."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from assay.class_metrics import class_metrics, log_losses
from assay.config.dataset import stored_name
from assay.evaluation import class_plots, plots
from assay.evaluation.canvas import to_svg
from assay.evaluation.class_content import ClassContent, class_figures, class_summary, set_results
from assay.evaluation.class_report import render_classes
from assay.evaluation.class_segments import class_segment_table, probabilities_of
from assay.evaluation.ensemble import COLUMN as DISAGREEMENT
from assay.evaluation.ensemble import ensemble_result
from assay.evaluation.explanations import Explained
from assay.evaluation.job import Evaluation
from assay.evaluation.wording import gate_outcome
from assay.model.rates import RateBaselines
from assay.model.scale import as_floats
from assay.runtime.conditions import Condition
from assay.runtime.job import Done
from assay.runtime.tables import FEATURES, PREDICTIONS, SEGMENT_METRICS


class ClassEvaluation(Evaluation):
    """One target's evaluation, of classes."""

    def run(self, identity: str, predictions: int, features: int) -> Done:
        """Join, measure, draw, write."""
        reporter = self.context.reporter
        classes = self.model.outcome.classes
        with reporter.step("joining predictions with outcomes"):
            rows, levels = self.rows(predictions, features)
        with reporter.step("what moves the predictions"):
            found = self.explained(features, rows.height)
            written = self._write_explanations(found, identity)
        with reporter.step(f"evaluating {rows.height:,} outcomes"):
            table = class_segment_table(rows, self.segments, levels, classes)
            written += self._write(SEGMENT_METRICS, table, identity)
            versions = {"predictions": predictions, "features": features}
            content = self.class_content(rows, table, levels, versions, found)
        with reporter.step("plots and report"):
            page = render_classes(content)
            path = self.publish(page)
            tracking = self.context.tracking
            tracking.text(page, "report.html")
            tracking.text(table.write_csv(), "segment_metrics.csv")
            for name, figure in content.figures.items():
                if figure is not None:
                    tracking.text(to_svg(figure, name, name), f"plots/{name}.svg")
        summary = [*class_summary(content), gate_outcome(content)[1]]
        return Done(metrics=class_figures(content), written=written, summary=summary, report=str(path))

    def rows(self, predictions: int, features: int) -> tuple[pl.DataFrame, list[float]]:
        """One row per prediction with a known class, with the log loss of each baseline."""
        plane, column = self.context.plane, stored_name(self.target.name)
        baselines = RateBaselines.from_dict(self.model.facts["baselines"])
        there = plane.schema(PREDICTIONS.name).names
        sets = [n for n in there if n.startswith("set_")]
        spread = [DISAGREEMENT] if DISAGREEMENT in there else []
        levels = [float(name.removeprefix("set_").replace("_", ".")) / 100 for name in sets]
        extra = list(dict.fromkeys([*self.segments, *baselines.columns]))
        scored = plane.read(
            PREDICTIONS.name,
            version=predictions,
            columns=["row_id", "probabilities", *spread, *sets],
            where=[Condition("target", "==", self.target.name)],
        )
        known = plane.read(
            FEATURES.name,
            version=features,
            columns=list(dict.fromkeys(["row_id", "time", column, *extra])),
            where=self._evaluated(),
        )
        joined = scored.join(known, ["row_id"], rows_hint=plane.rows(PREDICTIONS.name, predictions))
        names = list(dict.fromkeys(["row_id", "time", "probabilities", *spread, *sets, column, *self.segments]))
        rules = [pa.field(f"baseline_{name}", pa.float64()) for name in baselines.names]
        schema = pa.schema([*(joined.schema.field(n) for n in names), *rules])
        table = joined.map(AddRuleLosses(baselines, column, tuple(names)), schema).collect()
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        if not frame.height:
            raise self.nothing_known()
        return frame.rename({column: "actual"}).sort("time", "row_id"), levels

    def class_content(
        self,
        rows: pl.DataFrame,
        table: pl.DataFrame,
        levels: list[float],
        versions: Mapping[str, int],
        moves: Explained | None,
    ) -> ClassContent:
        """Everything that the report says."""
        trained = self.context.tracking.client.get_run(self.trained_run_id)
        classes, gains, data = self.model.outcome.classes, self.model.importance(), self._data_facts()
        figures = {
            "reliability": class_plots.reliability_plot(rows, classes),
            "confusion": class_plots.confusion_plot(rows, classes),
            "loss": class_plots.loss_over_time(rows, classes, self.target.name),
            "coverage": plots.coverage_per_segment(table, levels),
            "importance": plots.importance(list(gains), list(gains.values())) if gains else None,
            "contributions": plots.contributions(moves, "logit") if moves is not None else None,
            "missing": plots.missing(data.missing),
        }
        start, end = rows["time"].min(), rows["time"].max()
        assert isinstance(start, dt.datetime)
        assert isinstance(end, dt.datetime)
        each = probabilities_of(rows, len(classes))
        rules = [name for name in rows.columns if name.startswith("baseline_")]
        return ClassContent(
            title=f"{self.config.dataset.name}: {self.target.name}",
            description=self.config.dataset.description,
            target=self.target.name,
            created=dt.datetime.fromtimestamp(trained.info.end_time / 1000, dt.UTC),
            classes=classes,
            rows=rows.height,
            start=start,
            end=end,
            metrics=class_metrics(rows["actual"].to_numpy(), each),
            baselines={name.removeprefix("baseline_"): float(rows[name].to_numpy().mean()) for name in rules},
            coverage=set_results(rows, levels, classes, self._calibration_rows() or None),
            segments=table,
            figures=figures,
            data=data,
            splits=self._splits(start, end),
            run=self.run_facts(trained),
            tables=versions,
            drivers=moves.drivers(self.segments) if moves is not None else [],
            ensemble=ensemble_result(self.model.facts, rows, log_losses(rows["actual"].to_numpy(), each)),
            gates=self._gates(),
            gates_enforced=self.config.training.force_production_quality,
        )


@dataclasses.dataclass(frozen=True)
class AddRuleLosses:
    """Kernel: joined rows with the log loss of each baseline instead of the columns that baselines are made from."""

    baselines: RateBaselines
    target: str
    keep: tuple[str, ...]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Columns of `keep` and `baseline_*`."""
        for batch in batches:
            columns: dict[str, Any] = {name: batch.column(name) for name in self.keep}
            actual = as_floats(batch.column(self.target))
            for name, found in self.baselines.predict(batch).items():
                columns[f"baseline_{name}"] = pa.array(log_losses(actual, found), pa.float64())
            yield pa.RecordBatch.from_pydict(columns)
