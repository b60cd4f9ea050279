"""Consumes a target and its features, produces its study: what it is one of, what its trials need, what it found."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.config import TargetConfig, canonical_json
from assay.config.dataset import stored_name
from assay.config.profile import ENGINES
from assay.errors import AssayError, ConfigError
from assay.extensions import digests
from assay.runtime.job import Done, JobContext
from assay.runtime.plane import Flow
from assay.runtime.progress import figure
from assay.training.engine import check_kind, engine_named
from assay.training.job import Training
from assay.training.judging import WORDS
from assay.training.preparation import prepare
from assay.training.tuned import own_names
from assay.tuning import report, samplers
from assay.tuning.engines import check_names, setting, start_of, variants_of
from assay.tuning.folds import FoldRows, folds_of
from assay.tuning.journal import PRUNED, Journal, Trial, opened
from assay.tuning.pruners import pruner_named
from assay.tuning.screening import Screening
from assay.tuning.space import space_of, without_use
from assay.tuning.study import Budget, Study
from assay.tuning.thrift import Thrifty
from assay.tuning.trials import Setting
from assay.version import __version__

BEST = "best.json"
STUDIES = "studies"  # folder in the workspace
JUDGED_BY = ("dataset", "split", "preparation", "where")
PROPOSE = ("tpe", "hyperopt")  # samplers that learn from trials; a grid and independent draws stay what they are
JUDGED_AS = ("objective", "eval_metric", "loss_function")  # parameters that say by what


@dataclasses.dataclass(frozen=True)
class Ready:
    """A study whose trials can begin. flows: of each fold, what teaches and what judges.  rows: that teach in the last.

    setting: but for the threads of a slot.
    """

    study: Study
    setting: Setting
    flows: Sequence[Flow]
    rows: int

    @property
    def trials(self) -> float:
        """That may still be made, those on a part of the rows among them."""
        return self.study.left / self.study.screening.share


class TargetStudy:
    """One target's study. name: of the target, before what is said of it where there are several; else empty."""

    def __init__(
        self,
        context: JobContext,
        target: TargetConfig,
        version: int,
        sampler: str,
        *,
        name: str = "",
        note: Callable[[str], None],
    ) -> None:
        """note: takes how far the study is, for a live line.

        Raises:
            ConfigError: the engine cannot learn the target or be tuned, or `tuning.space` asks for what there is not.
        """
        self.context, self.target, self.version, self.sampler, self._note = context, target, version, sampler, note
        self._name = f"{name}: " if name else ""
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
        self.training = Training(context, target, version)
        self.outcome = self.training.outcome
        check_kind(engine_named(self.engine.name), self.outcome, target.name)
        fixed = own_names(self.engine.name, self.engine.params)
        self.idle = [n for n in without_use(self.engine.name, fixed, self.outcome) if given.get(n) is not None]
        self.given = [n for n in given if n not in self.idle]
        self.space = space_of(self.engine.name, given, fixed, self.outcome)
        self.trials: list[Trial] = []
        self.before = 0

    @property
    def judge(self) -> str:
        """Hash of what judges trials: losses of studies with the same judge can be compared."""
        told = {
            "features": self.version,
            "target": self.target.name,
            "folds": self.settings.folds,
            "config": self.context.config.hash_of(*JUDGED_BY),
            "metric": [self.engine.params.get(n) for n in JUDGED_AS],
            "levels": list(self.outcome.levels),
        }
        return hashlib.sha256(canonical_json(told).encode()).hexdigest()[:16]

    @property
    def loss(self) -> str:
        """What trials are judged by, in words."""
        if self.outcome.kind == "value" or any(name in self.engine.params for name in JUDGED_AS):
            return "loss"
        return WORDS["log_loss" if self.outcome.decides else "pinball"]

    def told(self) -> dict[str, Any]:
        """What the study is a study of: everything that can change what a trial comes to or which ones are proposed."""
        code = {} if self.engine.name in ENGINES else {"extensions": digests([("engine", self.engine.name)])}
        return {
            **code,
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

    @property
    def identity(self) -> str:
        """Hash of `told`."""
        return hashlib.sha256(canonical_json(self.told()).encode()).hexdigest()[:16]

    @property
    def path(self) -> Path:
        """The study's file."""
        folder = self.context.config.workspace / STUDIES
        return folder / f"{stored_name(self.target.name)}-{self.identity}.jsonl"

    def ready(self, stack: contextlib.ExitStack) -> Ready | None:
        """The study with what its trials need; None where all are on record. Its file is held until the stack closes.

        Raises:
            AssayError: another run is at work on it, or the rows do not make such folds.
        """
        if self.idle:
            names = ", ".join(f"tuning.space.{name}" for name in self.idle)
            self._say(f"{names}: left out, without use for {self.engine.name} here", "yellow")
        journal = stack.enter_context(opened(self.path, self.told()))
        self.trials, self.before = journal.trials, len(journal.trials)
        if self.before:
            self._say(f"going on with study {self.identity}: {self.before} trial(s) are on record")
        study = self._study(journal)
        return self._ready(study) if study.left > 0 else None

    def _say(self, text: str, style: str | None = None) -> None:
        self.context.reporter.say(f"  {self._name}{text}", style)

    def _study(self, journal: Journal) -> Study:
        most = self.max_evals

        def on_trial(trial: Trial) -> None:
            best = study.best
            count = f"{study.finished:.3g} of {most} trials"
            if best is not None and best.number == trial.number:
                self._say(f"trial {trial.number}: {self.loss} {best.loss:.5g}, the best so far ({count})")
            elif trial.reason:
                self._say(f"trial {trial.number} failed: {trial.reason}", "yellow")
            self._note(self._name + count + (f", best {best.loss:.5g}" if best is not None else ""))

        def on_report(number: int, rounds: int, loss: float) -> None:
            best = study.best
            known = f", best {best.loss:.5g}" if best is not None else ""
            self._note(
                f"{self._name}{study.finished:.3g} of {most} trials{known}; trial {number} round {rounds}: {loss:.5g}"
            )

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

    def _ready(self, study: Study) -> Ready:
        context, reporter, training = self.context, self.context.reporter, self.training
        training.check()
        forward = training.split_method() == "forward"
        with reporter.step(f"{self._name}{'splitting forward in time' if forward else 'drawing parts of rows'}"):
            times = training.rows.times()
            split = training.split(times)
            folds = folds_of(
                training.rows,
                split,
                times,
                self.profile.split,
                folds=self.settings.folds,
                label_delay_days=context.config.dataset.delay_days(self.target.name),
                by=training.column if training.split_method() == "stratified" else None,
            )
        with reporter.step(f"{self._name}inputs"):
            # Of what no fold judges by.
            first = folds[0].train
            encoding = training.rows.encoding(first)
            scale = training.scale(training.baselines([split.train, split.tune], times))
            rows = training.rows.training_rows(first)
            prepared = prepare(self.profile.preparation, encoding, scale, rows, None, seed=self.engine.seed)
        fold_rows = FoldRows(
            training.rows, folds, self.engine, self.settings.sample_rows, engine_named(self.engine.name).columns
        )
        study.screening = Screening.of(fold_rows.taught, self.settings.screen_rows)
        study.sampler = self._sampler(study.screening.points(self.max_evals))
        fold_rows = dataclasses.replace(fold_rows, screens=study.screening.active)
        found = setting(
            self.engine,
            self.space,
            self.given,
            prepared.encoding,
            scale,
            fold_rows.weights,
            threads=1,
            rows=split.train.rows,
            left_out=[one.name for one in prepared.selection if not one.kept],
            outcome=self.outcome,
        )
        if self.settings.warm_start:
            study.start = start_of(self.space, found)
            study.variants = variants_of(self.space, found.engine, study.start) if self.sampler in PROPOSE else []
        return Ready(study, found, fold_rows.flows(prepared, scale.columns), fold_rows.taught)

    def done(self, best: Trial) -> Done:
        """Put what was found on record."""
        assert best.loss is not None
        tracking, trials, study_id = self.context.tracking, self.trials, self.identity
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
                others=report.others(self.path.parent, self.judge, self.path),
                loss=self.loss,
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
        kinds = f"{screened} on a part of the rows, {pruned} ended early, {self.before} from before"
        summary = [
            f"{self.target.name}: best of {len(trials)} trials ({kinds}) has {self.loss} {best.loss:.5g}{gain}; "
            f"{chosen} (study {study_id}, {figure(seconds)} s)"
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

    def nothing(self) -> AssayError:
        """What is raised where no trial came to its end."""
        return AssayError(f"study {self.identity}: no trial came to its end; see {self.path}")


def _shown(best: Trial) -> Mapping[str, Any]:
    """Its parameters; where it is the first trial, those that the engine has anyway."""
    return best.params or best.point


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
