"""Consumes `features`, produces the best parameters of an engine for a target, on record in MLflow with a report."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.config import TargetConfig, canonical_json
from assay.config.dataset import stored_name
from assay.errors import AssayError, ConfigError
from assay.model.scale import TargetScale
from assay.runtime import preflight
from assay.runtime.barrier import free_slots
from assay.runtime.job import Done, JobContext, Plan, Result, run_stage
from assay.runtime.progress import figure
from assay.runtime.session import is_local
from assay.runtime.signals import listen
from assay.runtime.tables import FEATURES
from assay.training.engine import engine_named
from assay.training.job import Training
from assay.training.preparation import Prepared, prepare
from assay.training.tuned import Tuned, own_names
from assay.tuning import report, samplers
from assay.tuning.engines import check_names, setting, start_of
from assay.tuning.folds import FoldRows, folds_of
from assay.tuning.journal import PRUNED, Journal, Trial, opened
from assay.tuning.pruners import pruner_named
from assay.tuning.screening import Screening
from assay.tuning.space import space_of
from assay.tuning.study import Budget, Study
from assay.tuning.thrift import Thrifty
from assay.tuning.trials import Setting, SlotTask
from assay.version import __version__

JOB = "tune"
BEST = "best.json"
STUDIES = "studies"  # folder in the workspace
JUDGED_BY = ("dataset", "split", "preparation", "where")


def tuned(context: JobContext, target: TargetConfig) -> tuple[Result, Tuned]:
    """Have the best parameters of a target, from the record where an equal study is on it."""
    result = run_stage(context, plan(context, target))
    with context.tracking.download(result.run_id, BEST) as path:
        found = json.loads(path.read_text(encoding="utf-8"))
    return result, Tuned(run_id=result.run_id, **found)


def plan(context: JobContext, target: TargetConfig) -> Plan:
    """What is about to be tuned."""
    version = context.version(FEATURES.name, made_by="build_features")
    training = context.config.training
    sampler, notice = samplers.chosen(context.config.profile.tuning.sampler, use_optuna=training.use_optuna)
    tuning = Tuning(context, target, version, sampler, notice)
    return Plan(
        job=JOB,
        inputs={FEATURES.name: version},
        sections=("dataset", "split", "preparation", "engine", "tuning", "where"),
        slots=[],
        extra={"target": target.name, "max_evals": training.max_evals, "sampler": sampler},
        execute=lambda _: tuning.run(),
    )


class Tuning:
    """One target's study."""

    def __init__(
        self, context: JobContext, target: TargetConfig, version: int, sampler: str, notice: str | None
    ) -> None:
        self.context, self.target, self.version = context, target, version
        self.sampler, self.notice = sampler, notice
        self.profile = context.config.profile
        self.engine, self.settings = self.profile.engine, self.profile.tuning
        given = own_names(self.engine.name, self.settings.space)
        if len(given) < len(self.settings.space):
            raise ConfigError(f"tuning.space names a parameter of engine {self.engine.name} twice: leave one out")
        check_names(self.engine, given)
        if not self.engine.early_stopping_rounds:
            raise ConfigError(
                "engine.early_stopping_rounds=0 leaves training without a tune period, which tuning needs: set it to "
                "a number of rounds"
            )
        self.max_evals = self.profile.training.max_evals
        self.given = given
        self.space = space_of(self.engine.name, given, own_names(self.engine.name, self.engine.params))
        self.training = Training(context, target, version)
        if self.training.outcome.kind != "value":
            raise ConfigError(
                f"target {target.name!r}: only numbers are tuned, not classes or quantiles; leave engine.quantiles "
                "out, or set engine.params yourself and training.enable_hyperparameter_tuning=false"
            )

    @property
    def judge(self) -> str:
        """Hash of what judges trials: losses of studies with the same judge can be compared."""
        told = {
            "features": self.version,
            "target": self.target.name,
            "folds": self.settings.folds,
            "config": self.context.config.hash_of(*JUDGED_BY),
            "metric": [self.engine.params.get(n) for n in ("objective", "eval_metric", "loss_function")],
        }
        return hashlib.sha256(canonical_json(told).encode()).hexdigest()[:16]

    def told(self) -> dict[str, Any]:
        """What the study is a study of: everything that can change what a trial comes to or which ones are proposed."""
        return {
            "target": self.target.name,
            "engine": self.engine.name,
            "judge": self.judge,
            "learns": self.context.config.hash_of("engine"),
            "rows": [self.settings.sample_rows, self.settings.screen_rows],
            "space": self.space.to_dict(),
            "sampler": self.sampler,
            "pruner": self.settings.pruner,
            "thrift": self.settings.thrift,
            "warm_start": self.settings.warm_start,
            "seed": self.settings.seed,
            "version": __version__,
        }

    def run(self) -> Done:
        """Make the trials that are still to be made, and report."""
        told = self.told()
        study_id = hashlib.sha256(canonical_json(told).encode()).hexdigest()[:16]
        if self.notice:
            self.context.reporter.say(f"  {self.notice}", "yellow")
        folder = self.context.config.workspace / STUDIES
        path = folder / f"{stored_name(self.target.name)}-{study_id}.jsonl"
        with opened(path, told) as journal:
            before = len(journal.trials)
            if before:
                self.context.reporter.say(f"  going on with study {study_id}: {before} trial(s) are on record")
            study = self._study(journal)
            if study.left > 0:
                self._make_trials(study)
            best = study.best
            if best is None:
                raise AssayError(f"study {study_id}: no trial came to its end; see {path}")
            return self._done(study_id, study.trials, best, folder, path, before)

    def _study(self, journal: Journal) -> Study:
        most = self.max_evals
        reporter = self.context.reporter

        def on_trial(trial: Trial) -> None:
            best = study.best
            count = f"{study.finished:.3g} of {most} trials"
            if best is not None and best.number == trial.number:
                reporter.say(f"  trial {trial.number}: loss {best.loss:.5g}, the best so far ({count})")
            elif trial.reason:
                reporter.say(f"  trial {trial.number} failed: {trial.reason}", "yellow")
            reporter.note(count + (f", best {best.loss:.5g}" if best is not None else ""))

        def on_report(number: int, rounds: int, loss: float) -> None:
            best = study.best
            known = f", best {best.loss:.5g}" if best is not None else ""
            reporter.note(f"{study.finished:.3g} of {most} trials{known}; trial {number} round {rounds}: {loss:.5g}")

        study = Study(
            journal,
            self._sampler(most),
            pruner_named(self.settings.pruner, self.engine.rounds),
            Budget(most, self.settings.timeout_s),
            on_trial=on_trial,
            on_report=on_report,
        )
        return study

    def _sampler(self, points: int) -> samplers.Sampler:
        found = samplers.sampler_named(self.sampler, self.space, seed=self.settings.seed, points=points)
        thrifty = self.settings.thrift > 1 and self.sampler != "grid"
        return Thrifty(found, self.space, self.settings.thrift) if thrifty else found

    def _make_trials(self, study: Study) -> None:
        context, reporter, training = self.context, self.context.reporter, self.training
        left = study.left
        training.check()
        with reporter.step("splitting forward in time"):
            times = training.rows.times()
            split = training.split(times)
            delay = context.config.dataset.delay_days(self.target.name)
            folds = folds_of(
                self.training.rows,
                split,
                times,
                self.profile.split,
                folds=self.settings.folds,
                label_delay_days=delay,
            )
        with reporter.step("inputs"):
            # Of what no fold judges by.
            first = folds[0].train
            encoding = training.rows.encoding(first)
            scale = training.scale(training.baselines([split.train, split.tune], times))
            settings = self.profile.preparation
            rows = training.rows.training_rows(first)
            prepared = prepare(settings, encoding, scale, rows, None, seed=self.engine.seed)
        fold_rows = FoldRows(
            training.rows, folds, self.engine, self.settings.sample_rows, engine_named(self.engine.name).columns
        )
        study.screening = Screening.of(fold_rows.taught, self.settings.screen_rows)
        study.sampler = self._sampler(study.screening.points(self.max_evals))
        fold_rows = dataclasses.replace(fold_rows, screens=study.screening.active)
        session = context.spark()
        slots = self._slots(math.ceil(left / study.screening.share))
        cpus = int(session.conf.get("spark.task.cpus", "1"))
        local = is_local(str(session.conf.get("spark.master", "")))
        threads = max(cpus, free_slots(session.sparkContext, 1) * cpus // slots) if local else cpus
        found = self._setting(prepared, scale, fold_rows, threads)
        if self.settings.warm_start:
            study.start = start_of(self.space, found)
        host = str(session.conf.get("spark.driver.host", "127.0.0.1"))
        with (
            reporter.step(f"{left:.3g} trial(s) of {self.engine.name} on {fold_rows.taught:,} rows, {slots} at a time"),
            listen(host, lambda _: None, answer=study.answer) as address,
        ):
            if address is None:
                raise AssayError(f"the driver cannot listen at {host} for the trials' losses: set spark.driver.host")
            flows = fold_rows.flows(prepared, scale.columns)
            context.plane.train(flows, SlotTask(found, address), slots, whole=True)
            if study.error is not None:
                raise study.error

    def _slots(self, trials: int) -> int:
        """Trials at once: as many as is asked for, or as there is room for."""
        session, wanted = self.context.spark(), self.settings.slots
        free = free_slots(session.sparkContext, wanted or trials)
        if wanted:
            preflight.check_ranks(session, wanted, free, "tuning.slots")
        return max(1, min(wanted or free, free, trials))

    def _setting(self, prepared: Prepared, scale: TargetScale, fold_rows: FoldRows, threads: int) -> Setting:
        left_out = [name for one in prepared.selection if not one.kept for name in (one.name,)]
        return setting(
            self.engine,
            self.space,
            list(self.given),
            prepared.encoding,
            scale,
            fold_rows.weights,
            threads=threads,
            left_out=left_out,
        )

    def _done(self, study_id: str, trials: list[Trial], best: Trial, folder: Path, path: Path, before: int) -> Done:
        assert best.loss is not None
        tracking = self.context.tracking
        tracking.json({"study": study_id, "params": dict(best.params), "loss": best.loss, "trials": len(trials)}, BEST)
        tracking.tags({"assay.study": study_id, "assay.target": self.target.name})
        tracking.mlflow.log_params({f"best.{name}": value for name, value in _shown(best).items()})
        tracking.rounds(report.curves(trials))
        first = next((t for t in trials if not t.params and t.loss is not None), None)
        page = report.write(
            report.StudyView(
                study=study_id,
                target=self.target.name,
                told=self.told(),
                space=self.space,
                trials=trials,
                best=best,
                start=first,
                others=report.others(folder, self.judge, path),
            ),
            self.context,
        )
        gain = (
            f", {1 - best.loss / first.loss:.1%} under the {first.loss:.5g} of the parameters as they were"
            if (first is not None and first.loss and best.loss < first.loss)
            else ""
        )
        chosen = ", ".join(f"{name} {_short(value)}" for name, value in _shown(best).items())
        pruned = sum(t.state == PRUNED for t in trials)
        screened = sum(t.share < 1 for t in trials)
        seconds = max(t.at_s for t in trials)
        kinds = f"{screened} on a part of the rows, {pruned} ended early, {before} from before"
        summary = [
            f"{self.target.name}: best of {len(trials)} trials ({kinds}) has loss {best.loss:.5g}{gain}; {chosen} "
            f"(study {study_id}, {figure(seconds)} s)"
        ]
        metrics = {
            "best_loss": best.loss,
            "best_trial": float(best.number),
            "best_rounds": float(best.rounds),
            "trials": float(len(trials)),
            "trials_pruned": float(pruned),
            "trials_screened": float(screened),
            "study_seconds": seconds,
        }
        return Done(metrics=metrics, written=[], summary=summary, report=page)


def _shown(best: Trial) -> Mapping[str, Any]:
    """Its parameters; where it is the first trial, those that the engine has anyway."""
    return best.params or best.point


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
