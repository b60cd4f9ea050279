"""Consumes a trained model and its calibration period, produces `calibrations` and the registered, calibrated model."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.conformal.blocks import Block, ScoredBlock, calibration_blocks, together
from assay.conformal.calibration import Calibration, fit, labels_in
from assay.conformal.calibration_rows import quantile_names, rows_of
from assay.conformal.class_calibration import ClassCalibration, labels_by_class
from assay.conformal.class_rows import CLASS_ROWS_APART, PredictLabelled
from assay.conformal.class_stage import ClassStage, figures_of
from assay.conformal.conformity import BEST, SCORED_APART, ConformityScores, Older, score_of
from assay.conformal.difficulty import LEAST_ROWS, Difficulty
from assay.conformal.following import Following, after, followed, known_in, own_step_days, served_from
from assay.conformal.held import coverage_of, share_followed, verdict
from assay.conformal.pace import Pace
from assay.conformal.scale_stage import ScaleStage
from assay.conformal.scores import NormalisedResidual, scores_in
from assay.conformal.unpriced import Unpriced, split_apart
from assay.conformal.weighted import exponential_weights
from assay.errors import ConfigError
from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.model.registry import Calibrated, TrainedRun, load_trained, register, version_label
from assay.model.registry_table import write_registry
from assay.model.versions import CHALLENGER, CHAMPION, pick, versions_of
from assay.runtime.conditions import Condition, period_conditions
from assay.runtime.job import Done, JobContext, Plan
from assay.runtime.plane import Flow, Output, Written
from assay.runtime.tables import CALIBRATIONS, CONFORMITY_SCORES, FEATURES, FITTED, level_label

JOB = "calibrate"
NEWEST = "newest"  # rows after all that a training run's models have seen
COVERAGE_GATE = "coverage_gate.json"  # beside the other gates of the training run
PROBABILITIES = "probabilities.json"  # what a map of probabilities was worth, beside the training run too
BLOCKS = "calibration_blocks.json"  # who scored which rows, beside the training run too
PYFUNC = Path(__file__).with_name("pyfunc.py")


def plan(context: JobContext, target: TargetConfig, trained_run_id: str) -> Plan:
    """What calibration is about to do for the models of one training run."""
    trained = load_trained(context.tracking, trained_run_id, blocks=context.config.profile.conformal.folds > 1)
    version = context.version(FEATURES.name, made_by="build_features")
    alias = alias_of(context, trained)
    # Of classes only those that follow are read again.
    scores = not target.decides or (context.config.profile.conformal.adaptive and not trained.model.drawn)
    return Plan(
        job=JOB,
        inputs={FEATURES.name: version},
        sections=("dataset", "training", "gates", "conformal", "where"),
        slots=[(name, target.name) for name in (CALIBRATIONS.name, *([CONFORMITY_SCORES.name] if scores else []))],
        extra={
            "target": target.name,
            "model": trained.serves.version,
            "tested": trained.model.version,
            **({"blocks": [model.version for model in trained.blocks]} if trained.blocks else {}),
            **({"alias": alias} if alias != CHAMPION else {}),
        },
        execute=lambda identity: Calibrating(context, target, trained, version, alias).run(identity),
    )


def alias_of(context: JobContext, trained: TrainedRun) -> str:
    """What a calibrated model is registered as: a challenger where another one serves, and deployments go step by step.

    The models of the training run that serves are its champion, calibrated anew or not.
    """
    if context.config.profile.deployment.strategy == "immediate":
        return CHAMPION
    served = pick(versions_of(context.tracking.client, trained.registered_name), CHAMPION)
    return CHAMPION if served is None or served.trained_run_id == trained.run_id else CHALLENGER


class Calibrating:
    """The calibration of one training run's models, each on rows that it, or its like of an earlier time, never saw."""

    def __init__(
        self, context: JobContext, target: TargetConfig, trained: TrainedRun, version: int, alias: str
    ) -> None:
        self.context = context
        self.config = context.config
        self.target = target
        self.trained = trained
        self.version, self.alias = version, alias
        self.segments = tuple(stored_name(s) for s in context.config.dataset.segments)
        outcome, conformal = trained.model.outcome, context.config.profile.conformal
        self.unpriced: dict[tuple[str, int], Unpriced] = {}  # by period and block
        self.scored_before: dict[tuple[str, int, str], ScoredBlock] = {}  # by period, block and kind of score
        self.chosen = ""  # what is told of a kind of score that was chosen among two
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
            blocks = [self.scored(block, kind, difficulty) for block in self.blocks]
            if older is not None:
                blocks = [dataclasses.replace(one, rows=older.without(one.rows)) for one in blocks]
            scored = together(blocks)
        with self.context.reporter.step("conformity scores of the test period"):
            blocks.append(self.scored(self.whole(trained.model, "test"), kind, difficulty))
        blocks.append(self.scored(self.whole(trained.serves, NEWEST), kind, difficulty))
        later, newest = (one.rows for one in blocks[-2:])
        pace, periods = self.pace(scored), {"calibrate": scored, "test": later, NEWEST: newest}
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
                written += self.write_scores([one.of(periods[one.block.period]) for one in blocks], served, identity)
            tracking.json(served.to_dict(), "calibration.json")
            tracking.of_run(trained.run_id, [one.facts() for one in blocks], BLOCKS)
            number = register(
                tracking,
                trained,
                served.to_dict(),
                served.version,
                PYFUNC,
                tested=Calibrated(trained.model, tested.to_dict(), tested.version) if trained.served else None,
                row_ids=isinstance(served, ClassCalibration) and served.set_score.drawn,
                alias=self.alias,
                coverage=dict(zip(tested.levels, held, strict=True)),
            )
            write_registry(self.context)
        everyone = served.quantiles[""]
        separate = sum(1 for label in served.quantiles if label and served.label_used(label) == label)
        what = "sets" if trained.model.outcome.decides else "intervals"
        summary = [
            *(f"below threshold, not enforced: {rule}" for rule in failed),
            f"calibrated on {everyone.rows:,} rows ({kind} scores{self.chosen}); {separate} of "
            f"{len(served.quantiles) - 1} segments have {served.min_segment_rows} rows or more and {what} of their own",
            *_told(self.blocks),
            f"registered {trained.registered_name} version {version_label(tracking, self.target.name, number)}, now "
            + (CHAMPION if self.alias == CHAMPION else f"{CHALLENGER}: the job deploy lets it serve step by step"),
            *self.told_of_unpriced(),
        ]
        metrics |= {"calibration_blocks": float(len(self.blocks))}
        metrics |= {"calibration_rows": float(everyone.rows), "calibrated_segments": float(separate)}
        metrics |= dict(zip(quantile_names(served), everyone.quantiles, strict=True))
        return Done(metrics=metrics, written=written, summary=summary)

    @property
    def earlier(self) -> Model:
        """The model that did not learn from the calibration period."""
        return self.trained.held_back or self.trained.model

    @cached_property
    def blocks(self) -> list[Block]:
        """The calibration period, and who scores it."""
        folds = self.config.profile.conformal.folds
        found = calibration_blocks(self.trained, folds=folds)
        if len(found) != folds:
            self.context.reporter.say(
                f"  conformal.folds={folds}: {self.target.name} was trained for {len(found)} block(s), which are used; "
                "train makes the models of others, for dated rows and with serving.learns_until=newest",
                "yellow",
            )
        return found

    def whole(self, model: Model, period: str) -> Block:
        """A period that one model scores."""
        split = model.facts["split"]
        return Block(period, 1, model, self.after_all() if period == NEWEST else period_conditions(split[period]))

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
        if kind not in (NormalisedResidual.name, BEST):
            return kind, None, None
        stage = ScaleStage(
            conformal,
            self.earlier,
            self.blocks,
            self.labelled,
            self.scored,
            lambda rows, kind: self.fitted(rows, kind, None),
        )
        with self.context.reporter.step("how large an error is usual"):
            found = stage.chosen(kind)
        self.chosen = found.told
        if found.lacking:
            self.context.reporter.say(
                f"  {self.target.name}: {found.lacking}; the scale of normalised scores needs {LEAST_ROWS}: absolute "
                "scores instead (conformal.scale_from, conformal.scale_share, split)",
                "yellow",
            )
        return found.kind, found.difficulty, found.older

    def scored(self, block: Block, kind: str, difficulty: Difficulty | None) -> ScoredBlock:
        """Conformity scores of the labelled rows of a block: rows of `SCORED`, of classes of `CLASS_ROWS`.

        What was scored to choose a kind is not scored again: a run has one scale.
        """
        if (key := (block.period, block.number, kind)) in self.scored_before:
            return self.scored_before[key]
        rows, carried, levels = self.labelled(block), Carried.of(block.model), self.config.profile.conformal.levels
        if self.classes is not None:
            rows = rows.map(PredictLabelled(carried, self.segments), CLASS_ROWS_APART)
        else:
            rows = rows.map(ConformityScores(carried, self.segments, levels, kind, difficulty), SCORED_APART)
        found, self.unpriced[block.period, block.number] = split_apart(rows.collect())
        self.scored_before[key] = ScoredBlock(block, found)
        return self.scored_before[key]

    def labelled(self, block: Block) -> Flow:
        """The labelled rows of a block, with all that their scores need."""
        column = stored_name(self.target.name)
        where = [
            *(Condition(stored_name(c), "==", v) for c, v in self.config.where),
            Condition(column, "not_null"),
            *block.where,
        ]
        columns = list(dict.fromkeys(["row_id", "time", *block.model.input_columns, *self.segments, column]))
        return self.context.plane.read(FEATURES.name, version=self.version, columns=columns, where=where)

    def after_all(self) -> list[Condition]:
        """Rows later than all that a model of this training run has learned from or was tested on."""
        times = [self.trained.serves.learned_until, self.trained.model.facts["split"]["test"]["last"]]
        newest = max(dt.datetime.fromisoformat(time) for time in times)
        return [Condition("time", ">=", newest + dt.timedelta(microseconds=1))]

    def pace(self, scored: pa.Table) -> Pace | None:
        """How quantiles follow in time; None where they do not. scored: rows that calibrate."""
        conformal = self.config.profile.conformal
        if not conformal.adaptive:
            return None
        if self.trained.model.drawn:
            self.context.reporter.say("  intervals stay as they are fitted: these rows have no time")
            return None
        return Pace.of(
            conformal,
            step_days=own_step_days(scored.column("time").to_numpy()),
            delay_days=self.config.dataset.delay_days(self.target.name),
            classes=self.classes is not None,
        )

    def followed(self, periods: Mapping[str, pa.Table], tested: Calibration) -> Following | None:
        """Quantiles in time; None where they do not follow. periods: rows of `SCORED`.

        What is known later changes no earlier step: one timeline serves the test period and what comes after it.
        """
        if tested.pace is None:
            return None
        known = known_in(pa.concat_tables(periods.values()))
        origin, until = self.trained.model.test_start, after(known, tested.pace)
        return followed(known, tested, tested.pace, origin=origin, until=until, own=self.own(tested))

    def own(self, calibration: Calibration) -> list[str]:
        """Labels of the classes, where sets are calibrated by class."""
        return labels_by_class(calibration, self.trained.model.outcome.classes, self.target.name)

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
            labels_in(scored.column("label")),
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
        return share_followed(calibration, known_in(later), follows)

    def told_of_unpriced(self) -> list[str]:
        """Lines about rows that no score could be had of."""
        return [
            lost.line("after all that the model has learned from" if period == NEWEST else f"of the {period} period")
            for (period, _), lost in self.unpriced.items()
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
        rows = rows_of(served, self.trained.serves, name)
        if self.trained.served is not None:
            rows = pa.concat_tables([rows, rows_of(tested, self.trained.model, name)])
        commit = self.context.commit(JOB, name, identity, calibration=served.version)
        return self.context.plane.rows_of(CALIBRATIONS, schema, rows.cast(schema)).write(
            [Output(CALIBRATIONS, schema, commit, owns={"target": name, "kind": FITTED})]
        )

    def write_scores(self, blocks: Sequence[ScoredBlock], served: Calibration, identity: str) -> Sequence[Written]:
        """Rows of `conformity_scores`."""
        schema, name = CONFORMITY_SCORES.schema(), self.target.name
        parts = [one.table(schema, calibration_version=served.version, target=name) for one in blocks]
        commit = self.context.commit(JOB, name, identity, calibration=served.version)
        return self.context.plane.rows_of(CONFORMITY_SCORES, schema, pa.concat_tables(parts)).write(
            [Output(CONFORMITY_SCORES, schema, commit, owns={"target": name})]
        )


def _told(blocks: Sequence[Block]) -> list[str]:
    """What is said of the blocks of the calibration period; nothing of one."""
    if len(blocks) == 1:
        return []
    days = ", ".join(f"{dt.datetime.fromisoformat(block.model.learned_until):%Y-%m-%d}" for block in blocks)
    return [f"scores of {len(blocks)} blocks, each by a model that had learned from earlier rows alone: until {days}"]
