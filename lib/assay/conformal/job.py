"""Consumes a trained model and its calibration period, produces `calibrations` and the registered, calibrated model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.conformal.calibration import Calibration, fit
from assay.conformal.class_calibration import ClassCalibration
from assay.conformal.class_rows import CLASS_ROWS, PredictLabelled
from assay.conformal.class_sets import SET_SCORES
from assay.conformal.class_stage import ClassStage, figures_of
from assay.conformal.intervals import labels_of
from assay.conformal.scores import SCORES, AbsoluteResidual
from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.model.registry import Calibrated, TrainedRun, load_trained, register
from assay.model.row_sample import ROW
from assay.model.verdict import Verdict
from assay.runtime.conditions import Condition, period_conditions
from assay.runtime.job import Done, JobContext, Plan
from assay.runtime.plane import Output, Written
from assay.runtime.tables import CALIBRATIONS, FEATURES, level_label

JOB = "calibrate"
COVERAGE_GATE = "coverage_gate.json"  # beside the other gates of the training run
PROBABILITIES = "probabilities.json"  # what a map of probabilities was worth, beside the training run too
PYFUNC = Path(__file__).with_name("pyfunc.py")
SCORED = pa.schema([pa.field("label", pa.string()), pa.field("score", pa.float64())])


def plan(context: JobContext, target: TargetConfig, trained_run_id: str) -> Plan:
    """What calibration is about to do for the models of one training run."""
    trained = load_trained(context.tracking, trained_run_id)
    version = context.version(FEATURES.name, made_by="build_features")
    return Plan(
        job=JOB,
        inputs={FEATURES.name: version},
        sections=("dataset", "training", "gates", "conformal", "where"),
        slots=[(CALIBRATIONS.name, target.name)],
        extra={"target": target.name, "model": trained.serves.version, "tested": trained.model.version},
        execute=lambda identity: Calibrating(context, target, trained, version).run(identity),
    )


class Calibrating:
    """The calibration of one training run's models, each on rows that it, or its like of an earlier time, never saw."""

    def __init__(self, context: JobContext, target: TargetConfig, trained: TrainedRun, version: int) -> None:
        self.context = context
        self.config = context.config
        self.target = target
        self.trained = trained
        self.version = version
        self.segments = tuple(stored_name(s) for s in context.config.dataset.segments)
        outcome, conformal = trained.model.outcome, context.config.profile.conformal
        self.classes = (
            ClassStage(conformal, self.segments, len(outcome.classes), drawn=trained.model.drawn)
            if outcome.decides
            else None
        )

    def run(self, identity: str) -> Done:
        """Score, fit, judge the coverage, register."""
        trained, tracking = self.trained, self.context.tracking
        with self.context.reporter.step("conformity scores of the calibration period"):
            scored = self.scored(trained.held_back or trained.model, "calibrate")
        with self.context.reporter.step("conformity scores of the test period"):
            later = self.scored(trained.model, "test")
        tested = self.fitted(scored)
        held = self.held(tested, later)
        found = verdict(held, tested.levels, self.config.profile.gates.coverage_shortfall)
        tracking.of_run(trained.run_id, [dataclasses.asdict(v) for v in found], COVERAGE_GATE)
        metrics = {f"test_coverage_{level_label(lv)}": c for lv, c in zip(tested.levels, held, strict=True)}
        metrics |= self.told_of_probabilities(tested, later)
        failed = [v.rule for v in found if not v.passed]
        if failed and self.config.training.force_production_quality:
            return Done(metrics=metrics, written=[], summary=[f"refused: {failed[0]}"], refused="; ".join(failed))
        served = self.fitted(pa.concat_tables([scored, later])) if trained.served is not None else tested
        with self.context.reporter.step("registering the calibrated model"):
            written = self.write(served, tested, identity)
            tracking.json(served.to_dict(), "calibration.json")
            number = register(
                tracking,
                trained,
                served.to_dict(),
                served.version,
                PYFUNC,
                tested=Calibrated(trained.model, tested.to_dict(), tested.version) if trained.served else None,
                row_ids=self.classes is not None and SET_SCORES[served.score].drawn,
            )
        everyone = served.quantiles[""]
        own = sum(1 for label in served.quantiles if label and served.label_used(label) == label)
        what = "sets" if trained.model.outcome.decides else "intervals"
        summary = [
            *(f"below threshold, not enforced: {rule}" for rule in failed),
            f"calibrated on {everyone.rows:,} rows; {own} of {len(served.quantiles) - 1} segments have "
            f"{served.min_segment_rows} rows or more and {what} of their own",
            f"registered {trained.registered_name} version {number}, now champion",
        ]
        metrics |= {"calibration_rows": float(everyone.rows), "calibrated_segments": float(own)}
        metrics |= {
            f"quantile_{level_label(level)}": q for level, q in zip(served.levels, everyone.quantiles, strict=True)
        }
        return Done(metrics=metrics, written=written, summary=summary)

    def scored(self, model: Model, period: str) -> pa.Table:
        """The labelled rows of a period: label and conformity score (`SCORED`), of classes `CLASS_ROWS`."""
        column = stored_name(self.target.name)
        where = [
            *(Condition(stored_name(c), "==", v) for c, v in self.config.where),
            Condition(column, "not_null"),
            *period_conditions(model.facts["split"][period]),
        ]
        columns = list(dict.fromkeys([*model.input_columns, *self.segments, column]))
        if self.classes is not None:
            columns = list(dict.fromkeys([*columns, ROW, "time"]))
        flow = self.context.plane.read(FEATURES.name, version=self.version, columns=columns, where=where)
        if self.classes is not None:
            return flow.map(PredictLabelled(Carried.of(model), self.segments), CLASS_ROWS).collect()
        return flow.map(ConformityScores(Carried.of(model), self.segments), SCORED).collect()

    def fitted(self, scored: pa.Table) -> Calibration:
        """The calibration of rows of `SCORED`, of classes of `CLASS_ROWS`."""
        if self.classes is not None:
            return self.classes.fitted(scored)
        return fit(
            scored.column("score").to_numpy(),
            np.array(scored.column("label").to_pylist(), dtype=object),
            self.config.profile.conformal.levels,
            min_segment_rows=self.config.profile.conformal.min_segment_rows,
            segment_columns=self.segments,
            score=AbsoluteResidual.name,
        )

    def held(self, calibration: Calibration, scored: pa.Table) -> list[float]:
        """Per level the share of these rows that are covered."""
        if self.classes is not None and isinstance(calibration, ClassCalibration):
            return self.classes.coverage(calibration, scored)
        return coverage_of(calibration, scored)

    def told_of_probabilities(self, calibration: Calibration, later: pa.Table) -> dict[str, float]:
        """Put on record what calibrated probabilities of classes are worth; their figures."""
        if self.classes is None or not isinstance(calibration, ClassCalibration):
            return {}
        record = self.classes.record(calibration, later)
        self.context.tracking.of_run(self.trained.run_id, record, PROBABILITIES)
        return figures_of(record)

    def write(self, served: Calibration, tested: Calibration, identity: str) -> Sequence[Written]:
        """Both calibrations as rows of `calibrations`."""
        schema, name = CALIBRATIONS.schema(), self.target.name
        rows = _rows(served, self.trained.serves, name)
        if self.trained.served is not None:
            rows = pa.concat_tables([rows, _rows(tested, self.trained.model, name)])
        commit = self.context.commit(JOB, name, identity, calibration=served.version)
        return self.context.plane.rows_of(CALIBRATIONS, schema, rows.cast(schema)).write(
            [Output(CALIBRATIONS, schema, commit, owns={"target": name})]
        )


def coverage_of(calibration: Calibration, scored: pa.Table) -> list[float]:
    """Per level the share of rows of `SCORED` whose score is within the quantile of their segment."""
    quantiles, _ = calibration.quantiles_for(np.array(scored.column("label").to_pylist(), dtype=object))
    within = scored.column("score").to_numpy()[:, None] <= quantiles
    return [float(share) for share in within.mean(axis=0)]


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


def _rows(calibration: Calibration, model: Model, target: str) -> pa.Table:
    """The calibration as rows of `calibrations`."""
    quantiles = calibration.quantiles
    if isinstance(calibration, ClassCalibration):
        quantiles = calibration.quantiles_of(model.outcome.classes, target)
    rows = [
        {
            "segment": label,
            "level": level,
            "quantile": quantile,
            "rows": found.rows,
            "model_version": model.version,
            "calibration_version": calibration.version,
            "target": target,
        }
        for label, found in quantiles.items()
        for level, quantile in zip(calibration.levels, found.quantiles, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=CALIBRATIONS.schema())


@dataclasses.dataclass(frozen=True)
class ConformityScores:
    """Kernel: segment label and conformity score of labelled rows of a number, on the model's scale."""

    carried: Carried
    segments: tuple[str, ...]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `SCORED`."""
        model = self.carried.model()
        for batch in batches:
            score = SCORES[AbsoluteResidual.name].score(*model.residual_inputs(batch))
            yield pa.record_batch([pa.array(labels_of(batch, self.segments)), pa.array(score)], schema=SCORED)
