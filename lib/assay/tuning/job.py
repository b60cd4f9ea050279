"""Consumes `features`, produces the best parameters of an engine for targets, on record in MLflow with a report each.

Trials of all targets that have some left are made in one stage, whose slots the studies share. What they came to is put
on record target by target.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Sequence

from assay.config import TargetConfig
from assay.errors import AssayError
from assay.runtime import preflight
from assay.runtime.barrier import free_slots
from assay.runtime.job import Done, JobContext, Plan, Result, on_record, run_stage
from assay.runtime.signals import listen
from assay.runtime.tables import FEATURES
from assay.training.ranks import threads_each, threads_worth
from assay.training.tuned import Tuned
from assay.tuning import samplers
from assay.tuning.dealer import Dealer
from assay.tuning.journal import best_of
from assay.tuning.target_study import BEST, Ready, TargetStudy
from assay.tuning.trials import SlotTask

JOB = "tune"


def tuned(context: JobContext, target: TargetConfig) -> tuple[Result, Tuned]:
    """Have the best parameters of one target, from the record where an equal study is on it."""
    return Studies(context, [target]).tuned(target)


def plan(context: JobContext, target: TargetConfig) -> Plan:
    """What is about to be tuned, of one target."""
    return Studies(context, [target]).plan(target)


class Studies:
    """Studies of a run's targets."""

    def __init__(self, context: JobContext, targets: Sequence[TargetConfig]) -> None:
        """Nothing is made yet.

        Raises:
            ConfigError: of one of the targets, see `TargetStudy`.
        """
        self.context, self.targets = context, targets
        self.version = context.version(FEATURES.name, made_by="build_features")
        training, settings = context.config.training, context.config.profile.tuning
        self.sampler, self.notice = samplers.chosen(settings.sampler, use_optuna=training.use_optuna)
        self._notes = {target.name: "" for target in targets}
        self._studies = {target.name: self._study_of(target) for target in targets}
        self._made: set[str] = set()
        self._failed: dict[str, Exception] = {}

    def tuned(self, target: TargetConfig) -> tuple[Result, Tuned]:
        """Have the best parameters of a target, from the record where an equal study is on it.

        Raises:
            AssayError: its study failed. Those of the others have gone on to their end.
        """
        result = run_stage(self.context, self.plan(target))
        with self.context.tracking.download(result.run_id, BEST) as path:
            found = json.loads(path.read_text(encoding="utf-8"))
        return result, Tuned(run_id=result.run_id, **found)

    def plan(self, target: TargetConfig) -> Plan:
        """What is about to be tuned."""
        return Plan(
            job=JOB,
            inputs={FEATURES.name: self.version},
            sections=("dataset", "split", "preparation", "engine", "tuning", "where"),
            slots=[],
            extra={
                "target": target.name,
                "max_evals": self.context.config.training.max_evals,
                "sampler": self.sampler,
            },
            execute=lambda _: self._run(target),
        )

    def _study_of(self, target: TargetConfig) -> TargetStudy:
        def note(text: str) -> None:
            self._notes[target.name] = text
            self.context.reporter.note("; ".join(filter(None, self._notes.values())))

        name = target.name if len(self.targets) > 1 else ""
        return TargetStudy(self.context, target, self.version, self.sampler, name=name, note=note)

    def _run(self, target: TargetConfig) -> Done:
        """Make the trials that are still to be made, with those of targets whose turn comes, and report."""
        if target.name not in self._made:
            later = self.targets[self.targets.index(target) + 1 :]
            wanted = [target, *(t for t in later if not on_record(self.context, self.plan(t)))]
            self._made |= {one.name for one in wanted}
            if self.notice:
                self.context.reporter.say(f"  {self.notice}", "yellow")
            self._make([self._studies[one.name] for one in wanted])
        if target.name in self._failed:
            raise self._failed[target.name]
        study = self._studies[target.name]
        best = best_of(study.trials)
        if best is None:
            raise study.nothing()
        return study.done(best)

    def _make(self, studies: Sequence[TargetStudy]) -> None:
        """Make all trials. What ends one study before its time is kept until it is its target's turn."""
        with contextlib.ExitStack() as stack:
            found = {study.target.name: study.ready(stack) for study in studies}
            ready = {name: one for name, one in found.items() if one is not None}
            if ready:
                self._make_trials(ready)

    def _make_trials(self, ready: dict[str, Ready]) -> None:
        context, session = self.context, self.context.spark()
        slots = self._slots(sum(math.ceil(one.trials) for one in ready.values()))
        threads = threads_each(session, slots)
        settings = tuple(
            dataclasses.replace(one.setting, threads=threads_worth(one.setting.engine, rows=one.rows, threads=threads))
            for one in ready.values()
        )
        left, rows = sum(one.study.left for one in ready.values()), max(one.rows for one in ready.values())
        several = f" for {len(ready)} targets" if len(ready) > 1 else ""
        what = f"{left:.3g} trial(s) of {settings[0].engine}{several} on {rows:,} rows, {slots} at a time"
        host = str(session.conf.get("spark.driver.host", "127.0.0.1"))
        dealer = Dealer([one.study for one in ready.values()])
        with (
            context.reporter.step(what),
            listen(host, lambda _: None, answer=dealer.answer) as address,
        ):
            if address is None:
                raise AssayError(f"the driver cannot listen at {host} for the trials' losses: set spark.driver.host")
            flows = [flow for one in ready.values() for flow in one.flows]
            try:
                context.plane.train(flows, SlotTask(settings, address), slots, whole=True)
            except Exception as error:
                broken = [name for name, one in ready.items() if one.study.broken]
                unfinished = [name for name, one in ready.items() if one.study.left > 0]
                self._failed |= dict.fromkeys(broken or unfinished or ready, error)
        for name, one in ready.items():
            if one.study.error is not None:
                self._failed.setdefault(name, one.study.error)

    def _slots(self, trials: int) -> int:
        """Trials at once: as many as is asked for, or as there is room for."""
        session, wanted = self.context.spark(), self.context.config.profile.tuning.slots
        free = free_slots(session.sparkContext, wanted or trials)
        if wanted:
            preflight.check_ranks(session, wanted, free, "tuning.slots")
        return max(1, min(wanted or free, free, trials))
