"""Consumes `predictions` of one target and the outcomes known by now, produces its tables, plots and HTML report.

These are the steps of any target; what numbers and classes differ in is in `number_job` and `class_job`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import polars as pl
import pyarrow as pa
from matplotlib.figure import Figure

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.evaluation import plots
from assay.evaluation.content import Content
from assay.evaluation.explanations import Explained, ExplainRows, explainable, explained, explained_schema
from assay.evaluation.records import Records
from assay.model.carried import Carried
from assay.model.registry import load_trained
from assay.model.row_sample import ROW, sample_threshold
from assay.pages.canvas import to_svg
from assay.pages.published import publish, report_path
from assay.runtime.conditions import Condition, period_conditions
from assay.runtime.job import Done, JobContext
from assay.runtime.plane import Output
from assay.runtime.tables import EXPLANATIONS, FEATURES, SEGMENT_METRICS, Table

JOB = "evaluate"
KIND = "evaluation"  # of report
Pictures = Mapping[str, Figure | None]
C = TypeVar("C", bound=Content)


@dataclasses.dataclass(frozen=True)
class Report:
    """What content comes to. page: HTML.  pictures: by name.  metrics: of `--json` and of MLflow.

    summary: the result in a few lines, for the terminal.  tables: name -> CSV, for MLflow.
    """

    page: str
    pictures: Pictures
    metrics: dict[str, float]
    summary: list[str]
    tables: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Evaluation(ABC, Generic[C]):
    """One target's evaluation. C: what its report says.  promise: prefix of the predictions' columns for each level."""

    promise: ClassVar[str]

    def __init__(self, context: JobContext, target: TargetConfig, trained_run_id: str) -> None:
        self.context = context
        self.config = context.config
        self.target = target
        self.segments = [stored_name(s) for s in context.config.dataset.segments]
        trained = load_trained(context.tracking, trained_run_id)
        self.model = trained.model
        self.records = Records(context, target, trained)

    @abstractmethod
    def told(self, names: Sequence[str]) -> list[str]:
        """Which columns of `predictions` evaluated rows have. names: all that there are."""

    @abstractmethod
    def segment_table(self, rows: pl.DataFrame, levels: list[float]) -> pl.DataFrame:
        """Metrics of all evaluated rows and of their segments."""

    @abstractmethod
    def content(self, common: Content, rows: pl.DataFrame, levels: list[float], pictures: Pictures) -> C:
        """Everything that the report says. pictures: those that the reports of all targets have."""

    @abstractmethod
    def report(self, content: C) -> Report:
        """The content for people and for MLflow."""

    def run(self, identity: str, predictions: int, features: int) -> Done:
        """Join, measure, draw, write."""
        with self.context.reporter.step("joining predictions with outcomes"):
            rows, levels = self.rows(predictions, features)
        with self.context.reporter.step("what moves the predictions"):
            found = self.explained(features, self.extent(rows)[0])
            written = self._write_explanations(found, identity)
        with self.context.reporter.step(f"evaluating {self.extent(rows)[0]:,} outcomes"):
            table = self.segment_table(rows, levels)
            of_model = {"model_version": pl.lit(self.model.version), "target": pl.lit(self.target.name)}
            written += self._write(SEGMENT_METRICS, table.with_columns(**of_model), identity)
            versions = {"predictions": predictions, "features": features}
            common = self._common(rows, table, versions, found)
            content = self.content(common, rows, levels, self._pictures(common, levels, found))
        with self.context.reporter.step("plots and report"):
            report = self.report(content)
            path = self._publish(report, table)
        return Done(metrics=report.metrics, written=written, summary=report.summary, report=str(path))

    @abstractmethod
    def rows(self, predictions: int, features: int) -> tuple[pl.DataFrame, list[float]]:
        """Sum the evaluated rows where they are; a sample of them, and the levels promised."""

    @abstractmethod
    def extent(self, rows: pl.DataFrame) -> tuple[int, dt.datetime, dt.datetime]:
        """How many rows are evaluated, the first of their times and the last."""

    @property
    @abstractmethod
    def shown_segment(self) -> str | None:
        """Segment column whose coverage is drawn; None: the table's first."""

    def _evaluated(self) -> list[Condition]:
        """Rows with a known outcome of the test period and after."""
        test = period_conditions(self.model.facts["split"]["test"])
        return [Condition(stored_name(self.target.name), "not_null"), *test]

    def explained(self, features: int, evaluated: int) -> Explained | None:
        """What inputs add to the predictions of a sample of evaluated rows.

        None where the learner cannot say it, or where the features are no longer those that it was fed.
        """
        most = self.config.profile.explain.rows
        there = set(self.context.plane.schema(FEATURES.name).names)
        if not most or not explainable(self.model) or not set(self.model.input_columns) <= there:
            return None
        segments = tuple(dict.fromkeys(self.segments))
        columns = dict.fromkeys([ROW, "time", *segments, *self.model.input_columns])
        where = [*(Condition(stored_name(c), "==", v) for c, v in self.config.where), *self._evaluated()]
        flow = self.context.plane.read(FEATURES.name, version=features, columns=list(columns), where=where)
        kernel = ExplainRows(Carried.of(self.model), segments, sample_threshold(evaluated, most))
        return explained(flow.map(kernel, explained_schema(segments)).collect(), self.model, segments, most)

    def _write_explanations(self, found: Explained | None, identity: str) -> list[Any]:
        if found is None:
            return self._write(EXPLANATIONS, pl.from_arrow(EXPLANATIONS.schema().empty_table()), identity)
        most = self.config.profile.explain.features
        self.context.tracking.text(found.overall().write_csv(), "contributions.csv")
        for column in dict.fromkeys(self.segments):
            self.context.tracking.text(found.by_segment(column).write_csv(), f"contributions_by_{column}.csv")
        return self._write(EXPLANATIONS, found.table(self.model.version, self.target.name, most), identity)

    def _write(self, table: Table, rows: Any, identity: str) -> list[Any]:
        schema = table.schema()
        batches = rows.select(schema.names).to_arrow().to_batches()
        found = pa.Table.from_batches(batches) if batches else schema.empty_table()
        commit = self.context.commit(JOB, self.target.name, identity)
        flow = self.context.plane.rows_of(table, schema, found)
        return flow.write([Output(table, schema, commit, owns={"target": self.target.name})])

    def _common(
        self, rows: pl.DataFrame, table: pl.DataFrame, versions: Mapping[str, int], moves: Explained | None
    ) -> Content:
        """What the reports of all targets say."""
        dataset = self.config.dataset
        count, start, end = self.extent(rows)
        return Content(
            title=f"{dataset.name}: {self.target.name}",
            description=dataset.description,
            target=self.target.name,
            created=self.records.created,
            rows=count,
            start=start,
            end=end,
            segments=table,
            data=self.records.data_facts(),
            splits=self.records.splits(),
            run=self.records.run_facts(),
            tables=versions,
            drivers=moves.drivers(self.segments) if moves is not None else [],
            gates=self.records.gates(),
            gates_enforced=self.config.training.force_production_quality,
        )

    def _pictures(self, common: Content, levels: list[float], moves: Explained | None) -> Pictures:
        gains = self.model.importance()
        scale = "logit" if self.target.decides else self.target.transform
        return {
            "coverage": plots.coverage_per_segment(common.segments, levels, self.shown_segment),
            "importance": plots.importance(list(gains), list(gains.values())) if gains else None,
            "contributions": plots.contributions(moves, scale) if moves is not None else None,
            "missing": plots.missing(common.data.missing),
        }

    def _publish(self, report: Report, table: pl.DataFrame) -> Path:
        """Put the report where people find it, in one piece, and all of it on record."""
        path = publish(report_path(self.context.config, KIND, self.target.name), report.page)
        tracking = self.context.tracking
        tracking.text(report.page, "report.html")
        tracking.text(table.write_csv(), "segment_metrics.csv")
        for name, text in report.tables.items():
            tracking.text(text, f"tables/{name}.csv")
        for name, picture in report.pictures.items():
            if picture is not None:
                tracking.text(to_svg(picture, name, name), f"plots/{name}.svg")
        return path
