"""Consumes a trained model and its calibration period, produces `calibrations` and the registered, calibrated model."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.conformal.calibration import Calibration, fit
from assay.conformal.class_calibration import ClassCalibration, class_labels
from assay.conformal.class_rows import CLASS_ROWS_APART, PredictLabelled
from assay.conformal.class_stage import ClassStage, figures_of
from assay.conformal.conformity import ERRORS_APART, SCORED_APART, ConformityScores, ErrorRows, Older, score_of
from assay.conformal.difficulty import LEAST_ROWS, Difficulty
from assay.conformal.following import Following, after, followed, followed_classes, known_in, served_from
from assay.conformal.pace import Pace
from assay.conformal.scores import AbsoluteResidual, Floats, NormalisedResidual, scores_in
from assay.conformal.unpriced import Unpriced, split_apart
from assay.conformal.weighted import exponential_weights
from assay.errors import ConfigError
from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.model.registry import Calibrated, TrainedRun, load_trained, register
from assay.model.row_sample import sample_threshold
from assay.model.verdict import Verdict
from assay.runtime.conditions import Condition, period_conditions
from assay.runtime.job import Done, JobContext, Plan
from assay.runtime.plane import Flow, Output, Written
from assay.runtime.tables import CALIBRATIONS, CONFORMITY_SCORES, FEATURES, FITTED, level_label

JOB = "calibrate"
NEWEST = "newest"  # rows after all that a training run's models have seen
COVERAGE_GATE = "coverage_gate.json"  # beside the other gates of the training run
PROBABILITIES = "probabilities.json"  # what a map of probabilities was worth, beside the training run too
PYFUNC = Path(__file__).with_name("pyfunc.py")
SCALE_ROWS = 50_000  # most rows that a scale is learned from; more tell it little


def plan(context: JobContext, target: TargetConfig, trained_run_id: str) -> Plan:
    """What calibration is about to do for the models of one training run."""
    trained = load_trained(context.tracking, trained_run_id)
    version = context.version(FEATURES.name, made_by="build_features")
    # Of classes only those that follow are read again.
    scores = not target.decides or (context.config.profile.conformal.adaptive and not trained.model.drawn)
    return Plan(
        job=JOB,
        inputs={FEATURES.name: version},
        sections=("dataset", "training", "gates", "conformal", "where"),
        slots=[(name, target.name) for name in (CALIBRATIONS.name, *([CONFORMITY_SCORES.name] if scores else []))],
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
        self.unpriced: dict[str, Unpriced] = {}  # by period
        self.classes = (
            ClassStage(conformal, self.segments, len(outcome.classes), drawn=trained.model.drawn)
            if outcome.decides
            else None
        )

    def run(self, identity: str) -> Done:
        """Score, fit, judge the coverage, register."""
        trained, tracking = self.trained, self.context.tracking
        kind, difficulty, older = self.how()
        with self.context.reporter.step("conformity scores of the calibration period"):
            scored = self.scored(self.earlier, "calibrate", kind, difficulty)
            scored = older.without(scored) if older is not None else scored
        with self.context.reporter.step("conformity scores of the test period"):
            later = self.scored(trained.model, "test", kind, difficulty)
        newest = self.scored(trained.serves, NEWEST, kind, difficulty)
        pace, periods = self.pace(), {"calibrate": scored, "test": later, NEWEST: newest}
        tested = dataclasses.replace(self.fitted(scored, kind, difficulty), pace=pace)
        if pace is not None and self.classes is not None and isinstance(tested, ClassCalibration):
            periods = self.classes.scores(periods, tested, self.own(tested))
        follows = self.followed(periods, tested)
        held = self.held(tested, later, follows)
        found = verdict(held, tested.levels, self.config.profile.gates.coverage_shortfall)
        tracking.of_run(trained.run_id, [dataclasses.asdict(v) for v in found], COVERAGE_GATE)
        metrics = {f"test_coverage_{level_label(lv)}": c for lv, c in zip(tested.levels, held, strict=True)}
        metrics |= self.told_of_probabilities(tested, later)
        metrics["unpriced_rows"] = float(sum(lost.count for lost in self.unpriced.values()))
        failed = [v.rule for v in found if not v.passed]
        if failed and self.config.training.force_production_quality:
            told = [f"refused: {failed[0]}", *self.told_of_unpriced()]
            return Done(metrics=metrics, written=[], summary=told, refused="; ".join(failed))
        own = [scored, later, newest] if trained.served is not None or newest.num_rows else [scored]
        if follows is not None and self.classes is not None:
            served = served_from(tested, follows)  # with its map of probabilities: scores that follow are of one kind
        else:
            served = dataclasses.replace(self.fitted(pa.concat_tables(own), kind, difficulty), pace=pace)
            served = served_from(served, follows) if follows is not None else served
        with self.context.reporter.step("registering the calibrated model"):
            written = [*self.write(served, tested, identity)]
            if self.classes is None or pace is not None:
                written += self.write_scores(periods, served, identity)
            tracking.json(served.to_dict(), "calibration.json")
            number = register(
                tracking,
                trained,
                served.to_dict(),
                served.version,
                PYFUNC,
                tested=Calibrated(trained.model, tested.to_dict(), tested.version) if trained.served else None,
                row_ids=isinstance(served, ClassCalibration) and served.set_score.drawn,
            )
        everyone = served.quantiles[""]
        separate = sum(1 for label in served.quantiles if label and served.label_used(label) == label)
        what = "sets" if trained.model.outcome.decides else "intervals"
        summary = [
            *(f"below threshold, not enforced: {rule}" for rule in failed),
            f"calibrated on {everyone.rows:,} rows ({kind} scores); {separate} of {len(served.quantiles) - 1} segments "
            f"have {served.min_segment_rows} rows or more and {what} of their own",
            f"registered {trained.registered_name} version {number}, now champion",
            *self.told_of_unpriced(),
        ]
        metrics |= {"calibration_rows": float(everyone.rows), "calibrated_segments": float(separate)}
        metrics |= dict(zip(quantile_names(served), everyone.quantiles, strict=True))
        return Done(metrics=metrics, written=written, summary=summary)

    @property
    def earlier(self) -> Model:
        """The model that did not learn from the calibration period."""
        return self.trained.held_back or self.trained.model

    def how(self) -> tuple[str, Difficulty | None, Older | None]:
        """The kind of score, and for normalised ones the scale and the rows that it was learned from.

        Raises:
            ConfigError: the model cannot have that score.
        """
        conformal = self.config.profile.conformal
        if self.classes is not None:
            return conformal.set_score, None, None
        try:
            kind = score_of(self.trained.model, conformal.score, conformal.levels)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        if kind != NormalisedResidual.name:
            return kind, None, None
        with self.context.reporter.step("how large an error is usual"):
            rows = self.scored(self.earlier, "calibrate", AbsoluteResidual.name, None)
            older = Older.of(rows, conformal.scale_share, drawn=self.earlier.drawn)
            count = rows.num_rows - older.without(rows).num_rows
            if count >= LEAST_ROWS:
                return kind, self.learned_scale(older, count), older
        self.context.reporter.say(
            f"  {self.target.name}: {count} of {rows.num_rows:,} calibration rows are set apart for the scale of "
            f"normalised scores, which needs {LEAST_ROWS}: absolute scores instead (conformal.scale_share, "
            "split.calibrate)",
            "yellow",
        )
        return AbsoluteResidual.name, None, None

    def learned_scale(self, older: Older, count: int) -> Difficulty:
        """The scale, of a sample of the rows that are set apart; count: how many those are."""
        kernel = ErrorRows(Carried.of(self.earlier), older, sample_threshold(count, SCALE_ROWS))
        rows = self.labelled(self.earlier, "calibrate").map(kernel, ERRORS_APART).collect()
        found, _ = split_apart(rows)  # rows without a price are told of where they are scored
        types = self.earlier.encoding.feature_types
        inputs = found.column("inputs").combine_chunks().flatten().to_numpy().reshape(-1, len(types))
        return Difficulty.learned(inputs, found.column("error").to_numpy(), types)

    def scored(self, model: Model, period: str, kind: str, difficulty: Difficulty | None) -> pa.Table:
        """Conformity scores of the labelled rows of a period: rows of `SCORED`, of classes of `CLASS_ROWS`."""
        rows, levels = self.labelled(model, period), self.config.profile.conformal.levels
        if self.classes is not None:
            rows = rows.map(PredictLabelled(Carried.of(model), self.segments), CLASS_ROWS_APART)
        else:
            kernel = ConformityScores(Carried.of(model), self.segments, levels, kind, difficulty)
            rows = rows.map(kernel, SCORED_APART)
        found, self.unpriced[period] = split_apart(rows.collect())
        return found

    def labelled(self, model: Model, period: str) -> Flow:
        """The labelled rows of a period, with all that their scores need."""
        column = stored_name(self.target.name)
        where = [
            *(Condition(stored_name(c), "==", v) for c, v in self.config.where),
            Condition(column, "not_null"),
            *(self.after_all() if period == NEWEST else period_conditions(model.facts["split"][period])),
        ]
        columns = list(dict.fromkeys(["row_id", "time", *model.input_columns, *self.segments, column]))
        return self.context.plane.read(FEATURES.name, version=self.version, columns=columns, where=where)

    def after_all(self) -> list[Condition]:
        """Rows later than all that a model of this training run has learned from or was tested on."""
        times = [self.trained.serves.learned_until, self.trained.model.facts["split"]["test"]["last"]]
        newest = max(dt.datetime.fromisoformat(time) for time in times)
        return [Condition("time", ">=", newest + dt.timedelta(microseconds=1))]

    def pace(self) -> Pace | None:
        """How quantiles follow in time; None where they do not."""
        conformal = self.config.profile.conformal
        if not conformal.adaptive:
            return None
        if self.trained.model.drawn:
            self.context.reporter.say("  conformal.adaptive: left out, because these rows have no time", "yellow")
            return None
        return Pace(
            step_days=conformal.step_days,
            step_size=conformal.step_size,
            damping_rows=conformal.damping_rows,
            window_days=conformal.window_days,
            way=conformal.adaptive_way,
            halflife_days=conformal.halflife_days,
            delay_days=self.config.dataset.delay_days(self.target.name),
        )

    def followed(self, periods: Mapping[str, pa.Table], tested: Calibration) -> Following | None:
        """Quantiles in time; None where they do not follow. periods: rows of `SCORED`.

        What is known later changes no earlier step: one timeline serves the test period and what comes after it.
        """
        if tested.pace is None:
            return None
        known = known_in(pa.concat_tables(periods.values()))
        when = {"origin": self.trained.model.test_start, "until": after(known, tested.pace)}
        if isinstance(tested, ClassCalibration):
            return followed_classes(known, tested, tested.pace, self.own(tested), **when)
        return followed(known, tested, tested.pace, **when)

    def own(self, calibration: ClassCalibration) -> list[str]:
        """Labels of the classes, where sets are calibrated by class."""
        return class_labels(self.trained.model.outcome.classes, self.target.name) if calibration.by_class else []

    def fitted(self, scored: pa.Table, kind: str, difficulty: Difficulty | None) -> Calibration:
        """The calibration of rows of `SCORED`, of classes of `CLASS_ROWS`."""
        if self.classes is not None:
            return self.classes.fitted(scored)
        conformal, weights = self.config.profile.conformal, None
        if conformal.halflife_days is not None and not self.trained.model.drawn and scored.num_rows:
            times = scored.column("time").to_numpy().astype("datetime64[us]")
            weights = exponential_weights((times.max() - times) / np.timedelta64(1, "D"), conformal.halflife_days)
        return fit(
            scores_in(scored),
            np.array(scored.column("label").to_pylist(), dtype=object),
            conformal.levels,
            min_segment_rows=conformal.min_segment_rows,
            segment_columns=self.segments,
            score=kind,
            shrinkage_rows=conformal.shrinkage_rows,
            difficulty=difficulty,
            own_width=float(np.median(scored.column("own_width").to_numpy())) if scored.num_rows else 0.0,
            weights=weights,
        )

    def held(self, calibration: Calibration, later: pa.Table, follows: Following | None) -> list[float]:
        """Per level the share of later rows that are covered. follows: quantiles in time, where they follow."""
        if self.classes is not None and isinstance(calibration, ClassCalibration):
            return self.classes.coverage(calibration, later, follows)
        if follows is None:
            return coverage_of(calibration, later)
        new = known_in(later)
        distinct, rows = np.unique(new.labels.astype(str), return_inverse=True)
        quantiles, _ = follows.quantiles_for(distinct.tolist(), rows, new.times)
        return share_within(calibration, new.scores, quantiles)

    def told_of_unpriced(self) -> list[str]:
        """Lines about rows that no score could be had of."""
        return [
            lost.line("after all that the model has learned from" if period == NEWEST else f"of the {period} period")
            for period, lost in self.unpriced.items()
            if lost.count
        ]

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
            [Output(CALIBRATIONS, schema, commit, owns={"target": name, "kind": FITTED})]
        )

    def write_scores(self, periods: Mapping[str, pa.Table], served: Calibration, identity: str) -> Sequence[Written]:
        """Rows of `conformity_scores`."""
        schema, name = CONFORMITY_SCORES.schema(), self.target.name
        models = {"calibrate": self.earlier, "test": self.trained.model, NEWEST: self.trained.serves}
        parts = []
        for period, scored in periods.items():
            told = {
                "segment": scored.column("label"),
                "period": period,
                "model_version": models[period].version,
                "calibration_version": served.version,
                "target": name,
            }
            columns = {column: scored.column(column) for column in ("row_id", "time", "scores")}
            columns |= {k: pa.repeat(v, scored.num_rows) if isinstance(v, str) else v for k, v in told.items()}
            parts.append(pa.table({field.name: columns[field.name] for field in schema}, schema=schema))
        commit = self.context.commit(JOB, name, identity, calibration=served.version)
        return self.context.plane.rows_of(CONFORMITY_SCORES, schema, pa.concat_tables(parts)).write(
            [Output(CONFORMITY_SCORES, schema, commit, owns={"target": name})]
        )


def coverage_of(calibration: Calibration, scored: pa.Table) -> list[float]:
    """Per level the share of rows of `SCORED` whose scores are within the quantiles of their segment."""
    quantiles, _ = calibration.quantiles_for(np.array(scored.column("label").to_pylist(), dtype=object))
    return share_within(calibration, scores_in(scored), quantiles)


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


def quantile_names(calibration: Calibration) -> list[str]:
    """Metric names of a segment's quantiles: quantile_80, or, where each end has its own, quantile_80_0 and _1."""
    parts = calibration.parts
    alone = len(parts) == len(calibration.levels)
    return [
        f"quantile_{level_label(calibration.levels[part.level])}" + ("" if alone else f"_{part.column}")
        for part in parts
    ]


def _rows(calibration: Calibration, model: Model, target: str) -> pa.Table:
    """The calibration as rows of `calibrations`."""
    lines = [(label, calibration.label_used(label), found) for label, found in calibration.quantiles.items()]
    if isinstance(calibration, ClassCalibration):
        lines += calibration.lines_by_class(model.outcome.classes, target)
    rows = [
        {
            "segment": label,
            "used": used,
            "level": calibration.levels[part.level],
            "part": part.column,
            "score": calibration.score,
            "quantile": quantile,
            "rows": found.rows,
            "model_version": model.version,
            "calibration_version": calibration.version,
            "target": target,
            "kind": FITTED,
        }
        for label, used, found in lines
        for part, quantile in zip(calibration.parts, found.quantiles, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=CALIBRATIONS.schema())
