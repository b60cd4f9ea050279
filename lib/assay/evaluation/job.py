"""Consumes `predictions` and the outcomes known by now, produces `segment_metrics`, plots and the HTML report."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.conformal.job import COVERAGE_GATE
from assay.errors import DataError
from assay.evaluation import plots
from assay.evaluation.canvas import to_svg
from assay.evaluation.content import (
    DataFacts,
    Figures,
    Gate,
    Refit,
    ReportContent,
    Split,
    baseline_results,
    coverage_results,
)
from assay.evaluation.data_facts import COLUMNS, data_facts
from assay.evaluation.ensemble import COLUMN as DISAGREEMENT
from assay.evaluation.ensemble import ensemble_result, errors
from assay.evaluation.explanations import Explained, ExplainRows, explainable, explained, explained_schema
from assay.evaluation.report import render
from assay.evaluation.segments import best_and_worst, segment_table
from assay.evaluation.wording import gate_outcome, headline, number, percent, readable, skill_sentence
from assay.model.baselines import Baselines
from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.model.registry import load_trained
from assay.model.row_sample import ROW, sample_threshold
from assay.runtime.conditions import Condition, period_conditions
from assay.runtime.job import Done, JobContext, Plan, reports_folder
from assay.runtime.plane import Output
from assay.runtime.tables import (
    EXPLANATIONS,
    FEATURES,
    OBSERVATIONS,
    PREDICTIONS,
    QUALITY_REPORTS,
    SEGMENT_METRICS,
    Table,
    level_label,
)

JOB = "evaluate"
MIN_NAMED_ROWS = 30


def plan(context: JobContext, target: TargetConfig) -> Plan:
    """What evaluation is about to compare."""
    predictions = context.version(PREDICTIONS.name, made_by="score")
    features = context.version(FEATURES.name, made_by="build_features")
    commit = context.plane.last_commit(PREDICTIONS.name, target.name)
    if commit is None:
        raise DataError(f"table predictions has none of {target.name!r}: run the job score first")
    return Plan(
        job=JOB,
        inputs={PREDICTIONS.name: predictions, FEATURES.name: features},
        sections=("dataset", "training", "explain", "where"),
        slots=[(EXPLANATIONS.name, target.name), (SEGMENT_METRICS.name, target.name)],
        extra={"target": target.name, "predictions": commit.identity, "data": _ingested(context)},
        execute=lambda identity: evaluation_of(target)(context, target, commit.details["run_id"]).run(
            identity, predictions, features
        ),
        still_valid=lambda _: _report_path(context, target).is_file(),
    )


def evaluation_of(target: TargetConfig) -> type[Evaluation]:
    """What evaluates a target, by its task."""
    from assay.evaluation.class_job import ClassEvaluation  # which stands on this module

    return ClassEvaluation if target.decides else Evaluation


def _ingested(context: JobContext) -> str:
    """Identity of the ingest run whose observations are in the table; empty where nobody knows."""
    commit = context.plane.last_commit(OBSERVATIONS.name, "all")
    return commit.identity if commit is not None else ""


def _report_path(context: JobContext, target: TargetConfig) -> Path:
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in target.name)
    return reports_folder(context.config) / f"evaluation-{safe}.html"


class Evaluation:
    """One target's evaluation."""

    def __init__(self, context: JobContext, target: TargetConfig, trained_run_id: str) -> None:
        self.context = context
        self.config = context.config
        self.target = target
        self.segments = [stored_name(s) for s in context.config.dataset.segments]
        self.trained_run_id = trained_run_id
        trained = load_trained(context.tracking, trained_run_id)
        self.model: Model = trained.model
        self.served = trained.served

    def run(self, identity: str, predictions: int, features: int) -> Done:
        """Join, measure, draw, write."""
        with self.context.reporter.step("joining predictions with outcomes"):
            rows, levels = self.rows(predictions, features)
        with self.context.reporter.step("what moves the predictions"):
            found = self.explained(features, rows.height)
            written = self._write_explanations(found, identity)
        with self.context.reporter.step(f"evaluating {rows.height:,} outcomes"):
            table = segment_table(rows, self.segments, levels)
            written += self._write(SEGMENT_METRICS, table, identity)
            content = self.content(rows, table, levels, {"predictions": predictions, "features": features}, found)
        with self.context.reporter.step("plots and report"):
            page = render(content)
            path = self.publish(page)
            self._log(content, page, table)
        return Done(metrics=figures_of(content), written=written, summary=summary_of(content), report=str(path))

    def publish(self, page: str) -> Path:
        """Put the report where people find it, in one piece."""
        path = _report_path(self.context, self.target)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(page, encoding="utf-8")
        part.replace(path)
        return path

    def nothing_known(self) -> DataError:
        """What is said where no prediction has an outcome."""
        return DataError(
            f"none of the predictions of {self.target.name!r} has a known outcome yet: ingest outcomes, then run "
            "build_features, score and evaluate again"
        )

    def rows(self, predictions: int, features: int) -> tuple[pl.DataFrame, list[float]]:
        """One row per prediction with a known outcome; slim columns only (about 100 bytes a row on the driver)."""
        plane, column = self.context.plane, stored_name(self.target.name)
        baselines = Baselines.from_dict(self.model.facts["baselines"])
        schema = plane.schema(PREDICTIONS.name)
        ends = [n for n in schema.names if n.startswith(("lower_", "upper_"))]
        spread = [DISAGREEMENT] if DISAGREEMENT in schema.names else []
        labels = [n.removeprefix("lower_") for n in ends if n.startswith("lower_")]
        levels = [float(label.replace("_", ".")) / 100 for label in labels]
        entity = [stored_name(n) for n in self.config.dataset.entity]
        extra = list(dict.fromkeys([*entity, *self.segments, *baselines.columns]))
        scored = plane.read(
            PREDICTIONS.name,
            version=predictions,
            columns=["row_id", "prediction", *spread, *ends],
            where=[Condition("target", "==", self.target.name)],
        )
        outcomes = plane.read(
            FEATURES.name,
            version=features,
            columns=list(dict.fromkeys(["row_id", "time", column, *extra])),
            where=self._evaluated(),
        )
        hint = self.context.plane.rows(PREDICTIONS.name, predictions)
        joined = scored.join(outcomes, ["row_id"], rows_hint=hint)
        names = ["row_id", "time", "prediction", *spread, *ends, column, *dict.fromkeys([*entity, *self.segments])]
        named = [f"baseline_{n}" for n in baselines.names]
        wanted = pa.schema([*(joined.schema.field(n) for n in names), *(pa.field(n, pa.float64()) for n in named)])
        table = joined.map(AddBaselines(baselines, tuple(names)), wanted).collect()
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        if not frame.height:
            raise self.nothing_known()
        return frame.rename({column: "actual"}).sort("time", "row_id"), levels

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
        full = rows.with_columns(model_version=pl.lit(self.model.version), target=pl.lit(self.target.name))
        schema = table.schema()
        batches = full.select(schema.names).to_arrow().to_batches()
        found = pa.Table.from_batches(batches) if batches else schema.empty_table()
        commit = self.context.commit(JOB, self.target.name, identity)
        flow = self.context.plane.rows_of(table, schema, found)
        return flow.write([Output(table, schema, commit, owns={"target": self.target.name})])

    def content(
        self,
        rows: pl.DataFrame,
        table: pl.DataFrame,
        levels: list[float],
        versions: Mapping[str, int],
        moves: Explained | None,
    ) -> ReportContent:
        """Everything that the report says."""
        from assay.metrics import point_metrics

        tracking, dataset = self.context.tracking, self.config.dataset
        trained = tracking.client.get_run(self.trained_run_id)
        calibration_rows = self._calibration_rows()
        gains = self.model.importance()
        data = self._data_facts()
        entity = stored_name(dataset.entity[0])
        figures = Figures(
            predicted=plots.predicted_against_actual(rows, self.target.name),
            residuals=plots.residuals_over_time(rows, self.target.name),
            coverage=plots.coverage_per_segment(table, levels),
            importance=plots.importance(list(gains), list(gains.values())) if gains else None,
            fan=plots.fan(rows, entity, levels, self.target.name),
            missing=plots.missing(data.missing),
            contributions=plots.contributions(moves, self.target.transform) if moves is not None else None,
        )
        times = rows["time"]
        start, end = times.min(), times.max()
        assert isinstance(start, dt.datetime)
        assert isinstance(end, dt.datetime)
        return ReportContent(
            title=f"{dataset.name}: {self.target.name}",
            description=dataset.description,
            target=self.target.name,
            unit="",
            created=dt.datetime.fromtimestamp(trained.info.end_time / 1000, dt.UTC),
            rows=rows.height,
            start=start,
            end=end,
            metrics=point_metrics(rows["actual"].to_numpy(), rows["prediction"].to_numpy()),
            baselines=baseline_results(rows),
            coverage=coverage_results(rows, levels, calibration_rows=calibration_rows or None),
            segments=table,
            figures=figures,
            data=data,
            splits=self._splits(start, end),
            run=self.run_facts(trained),
            tables=versions,
            drivers=moves.drivers(self.segments) if moves is not None else [],
            ensemble=ensemble_result(self.model.facts, rows, errors(rows, self.target.transform)),
            gates=self._gates(),
            refit=self._refit(trained.data.metrics),
            gates_enforced=self.config.training.force_production_quality,
        )

    def _refit(self, trained: Mapping[str, float]) -> Refit | None:
        without = trained.get("test_rmse_without_refit")
        if self.served is None or without is None:
            return None
        until = None if self.model.drawn else dt.datetime.fromisoformat(self.served.learned_until)
        return Refit(until, trained["test_rmse"], without)

    def run_facts(self, trained: Any) -> dict[str, str]:
        """What was run, by the record of the training run."""
        return {
            "Dataset": self.config.dataset.name,
            "Profile": self.config.profile_name,
            "Model version": self.model.version,
            **({"Model that serves": self.served.version} if self.served is not None else {}),
            "Engine": f"{' and '.join(self.model.engines)}, {self.model.facts['rounds']} rounds",
            "Seed": str(self.model.facts["seed"]),
            "MLflow run": self.trained_run_id,
            "Configuration hash": trained.data.tags.get("assay.config_hash", "")[:16],
            "Git revision": trained.data.tags.get("mlflow.source.git.commit", "not from a checkout")[:12],
            "assay version": trained.data.tags.get("assay.version", ""),
        }

    def _artifact(self, run_id: str, name: str) -> Any:
        with self.context.tracking.download(run_id, name) as path:
            return json.loads(path.read_text(encoding="utf-8"))

    def _gates(self) -> list[Gate]:
        units = {"min_r2": ("", True), "min_business_accuracy": ("%", True)}
        units |= {"beats_best_baseline": ("", False), "not_worse_than_champion": ("", False)}
        found = []
        verdicts = [v for name in ("gates.json", COVERAGE_GATE) for v in self._artifact(self.trained_run_id, name)]
        for verdict in verdicts:
            unit, at_least = units.get(verdict["gate"], ("", True))
            gate = Gate(
                readable(verdict["gate"]), verdict["figure"], verdict["threshold"], verdict["passed"], unit, at_least
            )
            found.append(gate)
        return found

    def _calibration_rows(self) -> int:
        version = self.context.plane.version("calibrations")
        if version is None:
            return 0
        where = [
            Condition("target", "==", self.target.name),
            Condition("segment", "==", ""),
            Condition("model_version", "==", self.model.version),
        ]
        rows = self.context.plane.read("calibrations", version=version, columns=["rows"], where=where).collect()
        return int(rows.column("rows")[0].as_py()) if rows.num_rows else 0

    def _data_facts(self) -> DataFacts:
        """Quality of the observations that are in the table, and the patterns of their series."""
        plane, run = self.context.plane, _ingested(self.context)
        version = plane.version(QUALITY_REPORTS.name)
        if version is None:
            return data_facts([])
        where = [Condition("run", "==", run)]
        rows = plane.read(QUALITY_REPORTS.name, version=version, columns=COLUMNS, where=where).collect()
        past = self.context.tracking.finished("ingest", run)
        patterns = self._artifact(past.run_id, "patterns.json") if past is not None else []
        return data_facts(rows.to_pylist(), patterns)

    def _splits(self, start: dt.datetime, end: dt.datetime) -> list[Split]:
        found = []
        for name in ("train", "tune", "calibrate", "test"):
            period = self.model.facts["split"][name]
            first, last = period.get("first"), period.get("last")
            if first and last:
                moments = dt.datetime.fromisoformat(first), dt.datetime.fromisoformat(last)
                found.append(Split(name, *moments, int(period["rows"])))
        return found

    def _log(self, content: ReportContent, page: str, table: pl.DataFrame) -> None:
        tracking = self.context.tracking
        tracking.text(page, "report.html")
        tracking.text(table.write_csv(), "segment_metrics.csv")
        for field in dataclasses.fields(content.figures):
            figure = getattr(content.figures, field.name)
            if figure is not None:
                tracking.text(to_svg(figure, field.name, field.name), f"plots/{field.name}.svg")


@dataclasses.dataclass(frozen=True)
class AddBaselines:
    """Kernel: joined rows with one column per baseline instead of the columns that baselines are made from."""

    baselines: Baselines
    keep: tuple[str, ...]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Columns of `keep` and `baseline_*`."""
        for batch in batches:
            predicted = self.baselines.predict(batch)
            columns = {name: batch.column(name) for name in self.keep}
            columns |= {f"baseline_{name}": pa.array(values, pa.float64()) for name, values in predicted.items()}
            yield pa.RecordBatch.from_pydict(columns)


def figures_of(content: ReportContent) -> dict[str, float]:
    """The figures of `--json` and of MLflow."""
    metrics = {f"test_{k}": v for k, v in content.metrics.items()}
    for result in content.coverage:
        label = level_label(result.level)
        metrics[f"coverage_{label}"] = result.metrics["coverage"]
        metrics[f"width_{label}"] = result.metrics["width"]
        metrics[f"interval_score_{label}"] = result.metrics["interval_score"]
        metrics[f"coverage_{label}_chance_low"], metrics[f"coverage_{label}_chance_high"] = result.low, result.high
    if content.strongest_baseline is not None:
        metrics["best_baseline_rmse"] = content.strongest_baseline.metrics["rmse"]
    if content.ensemble is not None and content.ensemble.disagreement is not None:
        metrics["disagreement_error_correlation"] = content.ensemble.disagreement.correlation
    if content.skill is not None:
        metrics["skill_over_best_baseline"] = content.skill
    return metrics


def summary_of(content: ReportContent) -> list[str]:
    """The result in a few lines, for the terminal."""
    lines = [headline(content), skill_sentence(content)]
    for result in content.coverage:
        lines.append(
            f"The {percent(result.level, 0)} interval held {percent(result.metrics['coverage'])} of the time "
            f"(chance allows {percent(result.low)} to {percent(result.high)}), "
            f"mean width {number(result.metrics['width'])}"
        )
    extremes = best_and_worst(content.segments, min_rows=MIN_NAMED_ROWS)
    if extremes is None:
        extremes = best_and_worst(content.segments, min_rows=5)
    if extremes is not None and extremes.segments > 1:
        for word, found in (("Best", extremes.best), ("Worst", extremes.worst)):
            lines.append(
                f"{word} segment: {found.segment_column} {found.segment}, median error {percent(found.value)} "
                f"in {found.rows:,} rows"
            )
    lines.append(gate_outcome(content)[1])
    return lines
