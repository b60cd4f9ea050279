"""Consumes `features`, produces a trained model on record in MLflow, judged on the test period by the quality gates."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.errors import DataError
from assay.model.baselines import Baselines
from assay.model.bundle import Model
from assay.model.encoding import Encoding
from assay.model.lineage import OBSERVATIONS
from assay.model.outcome import Outcome
from assay.model.registry import record_models
from assay.model.scale import TargetScale
from assay.runtime import preflight
from assay.runtime.barrier import free_slots
from assay.runtime.job import Done, JobContext, Plan
from assay.runtime.tables import FEATURES
from assay.runtime.training_tables import TRAINING_METRICS
from assay.training.baselines import fit_baselines
from assay.training.crossvalidation import folds_of, over_folds
from assay.training.drawing import drawn_split, spread_of
from assay.training.engine import FitResult, check_kind, engine_named
from assay.training.ensemble import EnsembleTraining, Learned, able_members
from assay.training.fitting import fit_engine, refit_engine
from assay.training.forward import fitted_blocks, forward_blocks
from assay.training.group_tables import TrainingGroups
from assay.training.holdout import Holdout, Rules, figures_on
from assay.training.judging import (
    blocks_sentence,
    folds_sentence,
    gates,
    merged_sentence,
    missed_sentences,
    refit_sentence,
    sentence,
)
from assay.training.monotone import directions
from assay.training.preparation import Prepared, prepare, prepare_again
from assay.training.rates import fit_rates
from assay.training.record import Trained, record, write_metrics
from assay.training.rows import LabelledRows
from assay.training.served_probabilities import served_map
from assay.training.slope import follows
from assay.training.split import Period, Split, forward_split, together
from assay.training.tuned import Tuned
from assay.training.validation import period

JOB = "train"
SECTIONS = (
    *("dataset", "training", "split", "validation", "preparation"),
    *("engine", "ensemble", "gates", "serving", "where"),
)


def plan(context: JobContext, target: TargetConfig, tuned: Tuned | None = None) -> Plan:
    """What training is about to learn. tuned: parameters that a study found, in place of those of the profile."""
    version = context.version(FEATURES.name, made_by="build_features")
    conformal = context.config.profile.conformal
    mapped = target.decides and conformal.probabilities != "none"  # then the gates judge what comes of the map
    return Plan(
        job=JOB,
        inputs={FEATURES.name: version},
        sections=SECTIONS,
        slots=[],
        reports=[TRAINING_METRICS.name],
        extra={
            "target": target.name,
            **({"tuned": tuned.identity} if tuned is not None else {}),
            **({"folds": folds} if (folds := conformal.folds) > 1 else {}),
            **({"probabilities": [conformal.probabilities, conformal.probabilities_share]} if mapped else {}),
        },
        execute=lambda identity: Training(context, target, version, tuned).run(identity),
    )


class Training:
    """One target's training run: split, baselines, vocabulary, fit, test, judge."""

    def __init__(self, context: JobContext, target: TargetConfig, version: int, tuned: Tuned | None = None) -> None:
        self.context = context
        self.config = context.config
        self.tuned = tuned
        if tuned is not None:
            profile = self.config.profile
            profile = dataclasses.replace(profile, engine=tuned.engine(profile.engine))
            self.config = dataclasses.replace(self.config, profile=profile)
        self.target = target
        self.column = stored_name(target.name)
        self.outcome = Outcome.of(target, context.config.profile.engine.quantiles)
        self.version = version
        self.rows = LabelledRows(context, target, version)
        commit = context.plane.last_commit(FEATURES.name, "all")
        details = commit.details if commit is not None else {}
        self.plan_hash, self.feature_plan = str(details.get("plan_hash", "")), dict(details.get("plan", {}))
        self.made_from = {OBSERVATIONS: str(details["observations"])} if "observations" in details else {}

    def run(self, identity: str) -> Done:
        """Do all of it and report."""
        reporter = self.context.reporter
        self.check()
        with reporter.step(
            "splitting forward in time" if self.split_method() == "forward" else "drawing parts of rows"
        ):
            times = self.rows.times()
            split = self.split(times)
        with reporter.step("baselines and vocabulary"):
            baselines = self.baselines([split.train, split.tune], times)
            encoding = self.encoding(split)
        directions(self.config.profile.engine.monotone, encoding)  # refused before anything is fitted
        scale = self.scale(baselines)
        with reporter.step("preparing inputs") if self.config.profile.preparation.active else contextlib.nullcontext():
            prepared = self.prepare(split, encoding, scale)
        learned = self.learn(split, prepared, scale, times)
        model = self.model(learned, prepared.again or prepared.encoding, scale, split, baselines)
        if self.config.profile.engine.shrink_changes:
            learned = dataclasses.replace(learned, slope=follows(self.rows, model, split.calibrate))
            model = dataclasses.replace(model, slope=learned.slope.used)
        held_back, served, taught = None, None, self.first(split)
        blocks: dict[str, Model] = {}
        if self.config.profile.serving.learns_until == "newest":
            held_back = model
            blocks = self.of_blocks(learned, prepared, scale, split, times, baselines)
            known, taught = self.known(times, split)
            baselines = self.baselines([known], times)
            with reporter.step(f"fitting again on {known.rows:,} rows known before the test period"):
                model = self.fitted_again(learned, prepared, scale, split, known, baselines)
            with reporter.step(f"fitting again on all {taught.rows:,} rows, to serve"):
                served = self.fitted_again(learned, prepared, scale, split, taught, baselines)
        with reporter.step(f"testing on {split.test.rows:,} later rows"):
            holdout = Holdout(self.context, self.target, self.version, self.rows.where(split.test), split.test)
            probabilities = served_map(self.rows, held_back or model, split.calibrate)
            metrics, compared = holdout.figures(model, baselines, held_back, probabilities)
        if (method := self.config.profile.validation.method) != "none":
            metrics |= self.over_folds(times, split, learned, prepared, scale, baselines)
        verdicts = [*gates(metrics, self.config.training, self.outcome), *compared]
        failed = [v for v in verdicts if not v.passed]
        refused = "; ".join(v.rule for v in failed) if self.config.training.force_production_quality else ""
        trained = Trained(
            target=self.target.name,
            model=model,
            learned=learned,
            prepared=prepared,
            baselines=baselines,
            split=split,
            verdicts=verdicts,
            taught=taught,
            made_from=self.made_from,
            tuned=self.tuned,
        )
        record(self.context, trained)
        record_models(self.context.tracking, {"model": model, "served": served, "held_back": held_back, **blocks})
        metrics |= {**prepared.metrics, **learned.fitted.told, **learned.slope.figures}
        summary = [sentence(self.target.name, metrics, self.outcome)]
        if held_back is not None:
            summary.append(refit_sentence(metrics, self.outcome, None if split.test.drawn is not None else taught.last))
        summary += [*blocks_sentence(len(blocks)), *folds_sentence(metrics, self.outcome, method)]
        summary += [*learned.fitted.sample_sentences, *merged_sentence(learned.fitted.figures)]
        summary += [*learned.summary, *learned.slope.sentences, *missed_sentences(failed, enforced=bool(refused))]
        written = write_metrics(self.context, trained, metrics, refused=bool(refused), job=JOB, identity=identity)
        return Done(metrics=metrics, written=written, summary=summary, refused=refused or None)

    def check(self) -> None:
        """What would fail late: an engine that cannot do it, missing columns, a stage that could never start."""
        dataset, ranks = self.config.dataset, self.config.profile.engine.ranks
        check_kind(engine_named(self.config.profile.engine.name), self.outcome, self.target.name)
        names = (
            self.target.name,
            *dataset.columns.categorical,
            *dataset.segments,
            *(g for h in dataset.groups for g in h),
        )
        missing = {stored_name(name) for name in names} - set(self.context.plane.schema(FEATURES.name).names)
        if missing:
            raise DataError(
                f"table features has no column {sorted(missing)[0]!r}, which dataset {dataset.name} names: "
                "run build_features again"
            )
        session = self.context.spark()
        preflight.check_ranks(session, ranks, free_slots(session.sparkContext, ranks) if ranks else 0)

    def split(self, times: Mapping[dt.datetime, int]) -> Split:
        """Train, tune, calibrate and test over labelled rows."""
        config = self.config.profile.split
        if (method := self.split_method()) != "forward":
            spread = spread_of(self.rows, times, self.column if method == "stratified" else None)
            return drawn_split(spread, tune=config.tune, calibrate=config.calibrate, test=config.test)
        delay = self.config.dataset.delay_days(self.target.name)
        return forward_split(list(times), list(times.values()), config, label_delay_days=delay)

    def split_method(self) -> str:
        """`split.method`, where that is left open as rows and target have it."""
        method = self.config.profile.split.method
        if method != "auto":
            return method
        drawn = "stratified" if self.outcome.decides else "random"
        return "forward" if self.config.dataset.time.dated else drawn

    def over_folds(
        self,
        times: Mapping[dt.datetime, int],
        split: Split,
        learned: Learned,
        prepared: Prepared,
        scale: TargetScale,
        baselines: Rules,
    ) -> dict[str, float]:
        """The model's error on folds of the rows before the test period, with what the first fit chose."""
        config, delay = self.config.profile.validation, self.config.dataset.delay_days(self.target.name)
        folds = folds_of(config, self.rows, times, self.known(times, split)[0], delay_days=delay)

        def fold_fitted(period: Period) -> Model:
            return self.fitted_again(learned, prepared, scale, split, period, baselines)

        def figures(model: Model, period: Period) -> dict[str, float]:
            return figures_on(self.rows, model, period)

        with self.context.reporter.step(f"validating on {len(folds)} folds ({config.method})"):
            metrics, told = over_folds(folds, fold_fitted, figures)
        self.context.tracking.json(told, "validation.json")
        return metrics

    def known(self, times: Mapping[dt.datetime, int], split: Split) -> tuple[Period, Period]:
        """All rows whose outcome was known when the test period began, and all rows with a known outcome."""
        moments, counts = list(times), list(times.values())
        if split.test.drawn is not None:
            parts = [split.train, split.tune, split.calibrate]
            return together(parts), together([*parts, split.test])
        assert split.test.start is not None
        known = period(moments, counts, None, split.test.start - dt.timedelta(days=self.gap_days))
        everything = period(moments, counts, None, None, last=moments[-1])
        assert known is not None  # train is part of it
        assert everything is not None
        return known, everything

    def of_blocks(
        self,
        learned: Learned,
        prepared: Prepared,
        scale: TargetScale,
        split: Split,
        times: Mapping[dt.datetime, int],
        baselines: Rules,
    ) -> dict[str, Model]:
        """Models for blocks of the calibration period; none where one scores all of it."""
        blocks, gap = self.config.profile.conformal.folds, dt.timedelta(days=self.gap_days)
        if blocks == 1 or split.calibrate.drawn is not None:
            return {}
        folds = forward_blocks(list(times), list(times.values()), split.calibrate, blocks=blocks, gap=gap)

        def fold_fitted(period: Period) -> Model:
            return self.fitted_again(learned, prepared, scale, split, period, baselines)

        return fitted_blocks(folds, fold_fitted, self.context.reporter)

    @property
    def gap_days(self) -> float:
        """Between rows that teach and those that are scored: the embargo, or the target's delay."""
        return max(self.config.profile.split.embargo_days, self.config.dataset.delay_days(self.target.name))

    def fitted_again(
        self,
        learned: Learned,
        prepared: Prepared,
        scale: TargetScale,
        split: Split,
        known: Period,
        baselines: Rules,
    ) -> Model:
        """The model that learned from all rows of a period as the first fit chose to: inputs, parameters, rounds."""
        engine, settings, rows = self.config.profile.engine, self.config.profile.preparation, self.rows
        encoding = prepare_again(
            settings, prepared, rows.encoding(known), scale, rows.training_rows(known), seed=engine.seed
        )
        given = known, prepared, encoding, scale
        again = learned.again(
            lambda one, rounds: refit_engine(rows, one, *given, rounds, self._on_round, first=split.train)
        )
        return self.model(again, encoding, scale, split, baselines, learned_until=known.last)

    def baselines(self, periods: Sequence[Period], times: Mapping[dt.datetime, int]) -> Rules:
        """Baselines that saw consecutive periods: as much as the model will have seen."""
        dataset = self.config.dataset
        groups = dataset.segments or next((g for g in dataset.groups if g), ())
        rows = TrainingGroups(
            plane=self.context.plane,
            version=self.version,
            where=self.rows.where(*periods),
            target=self.column,
            group_columns=tuple(stored_name(g) for g in groups),
            periods=periods,
            times=sum(periods[0].first <= time <= periods[-1].last for time in times),
        )
        if self.outcome.decides:
            return fit_rates(rows, len(self.outcome.classes))
        return fit_baselines(rows, self.target.transform)

    def scale(self, baselines: Rules) -> TargetScale:
        """The scale on which the target is learned."""
        anchor = f"{self.column}__own__lag_1" if self.target.relative_to == "last_value" else None
        typical = baselines.global_median if isinstance(baselines, Baselines) else 0.0
        return TargetScale(self.column, self.target.transform, anchor, typical)

    def encoding(self, split: Split) -> Encoding:
        """Numeric features and the vocabulary of each category over everything that is trained on."""
        return self.rows.encoding(split.train, *((split.tune,) if self.tune_teaches else ()))

    def prepare(self, split: Split, encoding: Encoding, scale: TargetScale) -> Prepared:
        """Inputs as the model gets them, fitted on what it learns from."""
        settings, seed = self.config.profile.preparation, self.config.profile.engine.seed
        again = self.rows.training_rows(split.train, split.tune) if self.tune_teaches else None
        return prepare(settings, encoding, scale, self.rows.training_rows(split.train), again, seed=seed)

    def learn(self, split: Split, prepared: Prepared, scale: TargetScale, times: Mapping[dt.datetime, int]) -> Learned:
        """Run the engine, or the members of an ensemble."""
        engine, reporter, profile = self.config.profile.engine, self.context.reporter, self.config.profile
        wanted = self.config.training.enable_advanced_ensemble
        members = able_members(profile, self.outcome, self.target.name, reporter) if wanted else {}
        if not members:
            with reporter.step(f"training {engine.name} on {split.train.rows:,} rows"):
                return Learned.alone(engine, self.fit(split, prepared, scale))
        delay = self.config.dataset.delay_days(self.target.name)
        given = self.rows, split, prepared, scale, times, profile
        return EnsembleTraining(members, self.outcome, *given, gap_days=self.gap_days, delay_days=delay).run()

    def fit(self, split: Split, prepared: Prepared, scale: TargetScale) -> FitResult:
        """Run the engine."""
        return fit_engine(self.rows, self.config.profile.engine, split, prepared, scale, self._on_round)

    def _on_round(self, number: int, metrics: Mapping[str, float]) -> None:
        figures = " ".join(f"{k} {v:.5g}" for k, v in metrics.items())
        self.context.reporter.note(f"round {number + 1} of at most {self.config.profile.engine.rounds}: {figures}")

    def model(
        self,
        learned: Learned,
        encoding: Encoding,
        scale: TargetScale,
        split: Split,
        baselines: Rules,
        learned_until: dt.datetime | None = None,
    ) -> Model:
        """Everything that belongs to the model, in one piece."""
        return Model(
            engine=learned.engine,
            stored=learned.fitted.stored,
            encoding=encoding,
            scale=scale,
            plan=self.feature_plan,
            plan_hash=self.plan_hash,
            outcome=self.outcome,
            slope=learned.slope.used,
            facts={
                "target": self.target.name,
                "split": split.to_dict(),
                "rounds": learned.fitted.rounds,
                "baselines": baselines.to_dict(),
                "seed": self.config.profile.engine.seed,
                "learned_until": (learned_until or self.first(split).last).isoformat(),
                **({"ensemble": dict(learned.record)} if learned.record is not None else {}),
            },
        )

    @property
    def tune_teaches(self) -> bool:
        """Whether the first fit ends with one on train and tune together."""
        return self.config.profile.engine.refit and self.config.profile.engine.early_stopping_rounds > 0

    def first(self, split: Split) -> Period:
        """What the first fit learned from."""
        return together([split.train, split.tune]) if self.tune_teaches else split.train
