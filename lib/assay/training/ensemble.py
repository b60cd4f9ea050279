"""Consumes a run's periods and members, produces one learner: members fitted, predicted out of time, chosen, refitted.

Each member learns from the train period, the tune period choosing its rounds; with these rounds it learns from the rows
before each of a few blocks at the end of the train period. So there are predictions of all members for those blocks and
for tune, made without rows of their own time or later; by them `ensemble_choice` decides. What was chosen is fitted
again on train and tune, and on whatever else is known, as a single engine is. Members learn one after another, each on
all slots that it is worth. Where rows are drawn by their hash, "later" is nothing but "other".
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from assay.config.members import LEAST, members_of, methods_of
from assay.config.profile import EngineConfig, ProfileConfig
from assay.errors import DataError
from assay.model.encoding import Encoding
from assay.model.ensemble import Combination, Member, packed
from assay.model.outcome import Outcome
from assay.model.row_sample import sample_threshold
from assay.model.scale import TargetScale
from assay.runtime.progress import Reporter, figure
from assay.training.engine import SETTINGS, FitResult, OnRound, engine_named
from assay.training.ensemble_choice import Choice, choose
from assay.training.fitting import fit_engine, refit_engine
from assay.training.out_of_time import out_of_time, predict_members
from assay.training.preparation import Prepared
from assay.training.rows import LabelledRows
from assay.training.slope import NONE, Slope
from assay.training.split import Period, Split, together
from assay.training.validation import Fold, rolling_origin

Refit = Callable[[EngineConfig, int], FitResult]
LOSSES = {"rmse": "RMSE", "pinball": "pinball loss", "log_loss": "log loss"}


@dataclasses.dataclass(frozen=True)
class Learned:
    """What training found: what learns, for how many rounds, and how that is combined.

    members: name -> engine and rounds, of what serves; one alone unless there is a combination, with weights in the
    same order.  record: of an ensemble, for its facts; None for a single engine.  slope: by which outcomes follow
    it, once that is known.
    """

    fitted: FitResult
    members: Mapping[str, tuple[EngineConfig, int]]
    combination: Combination | None = None
    record: Mapping[str, Any] | None = None
    summary: Sequence[str] = ()
    slope: Slope = NONE

    @classmethod
    def alone(cls, engine: EngineConfig, fitted: FitResult) -> Learned:
        """Of one engine."""
        return cls(fitted, {engine.name: (engine, fitted.rounds)})

    @property
    def engine(self) -> str:
        """Of the model."""
        return next(iter(self.members.values()))[0].name if self.combination is None else "ensemble"

    def again(self, refit: Refit) -> Learned:
        """The same from other rows: `refit` lets an engine learn for so many rounds."""
        found = {name: refit(engine, rounds) for name, (engine, rounds) in self.members.items()}
        return dataclasses.replace(self, fitted=self.joined(found))

    def joined(self, parts: Mapping[str, FitResult]) -> FitResult:
        """Fits of the members as one."""
        if self.combination is None:
            (alone,) = parts.values()
            return alone
        stored = [Member(name, self.members[name][0].name, part.stored) for name, part in parts.items()]
        return FitResult(
            stored=packed(stored, self.combination),
            rounds=sum(rounds for _, rounds in self.members.values()),
            history={},
            devices=max((part.devices for part in parts.values()), key=len),
        )


@dataclasses.dataclass(frozen=True)
class EnsembleTraining:
    """One run's ensemble.

    members: that can learn the outcome, by name.  times: labelled rows at each time.  profile: the run's, with
    parameters that a study found.  gap_days: between rows that teach and rows that judge.
    """

    members: Mapping[str, EngineConfig]
    outcome: Outcome
    rows: LabelledRows
    split: Split
    prepared: Prepared
    scale: TargetScale
    times: Mapping[dt.datetime, int]
    profile: ProfileConfig
    gap_days: float
    delay_days: float

    def run(self) -> Learned:
        """All of it."""
        members, settings, reporter = self.members, self.profile.ensemble, self.rows.context.reporter
        drawn = self.split.train.drawn is not None
        first: dict[str, FitResult] = {}
        for name, engine in members.items():
            with reporter.step(f"training member {name} on {self.split.train.rows:,} rows"):
                judged = dataclasses.replace(engine, refit=False)
                first[name] = fit_engine(self.rows, judged, self.split, self.prepared, self.scale, self._told(name))
        folds = self.folds()
        threshold = sample_threshold(self.split.tune.rows + sum(f.validate.rows for f in folds), settings.rows)
        tables = []
        for number, fold in enumerate(folds, start=1):
            with reporter.step(f"members up to {fold.train.last:%Y-%m-%d}, block {number} of {len(folds)}"):
                fitted = {name: self._again(name, engine, first[name], fold.train) for name, engine in members.items()}
                tables.append(self._predicted(fold.validate, members, fitted, threshold))
        with reporter.step("choosing among members and combinations"):
            tables.append(self._predicted(self.split.tune, members, first, threshold))
            choice = choose(
                out_of_time(tables, tuple(members), most=settings.rows, outcome=self.outcome, drawn=drawn),
                methods_of(self.profile),
                share=settings.choose_share,
                gap_days=self.gap_days,
                delay_days=self.delay_days,
                halflife_days=settings.halflife_days,
                drawn=drawn,
            )
        weights = dict(zip(members, choice.chosen.combination.weights, strict=True))
        last = {name: first[name] for name, weight in weights.items() if weight > 0}
        if self.profile.engine.refit and self.profile.engine.early_stopping_rounds:
            both = together([self.split.train, self.split.tune])
            encoding = self.prepared.again or self.prepared.encoding
            for name in last:
                with reporter.step(f"training member {name} again on {both.rows:,} rows"):
                    last[name] = self._again(name, members[name], first[name], both, encoding)
        return learned(choice, members, first, last)

    def folds(self) -> list[Fold]:
        """Blocks at the end of the train period; fewer where it has too few times, none where rows are drawn."""
        train, settings = self.split.train, self.profile.ensemble
        if train.drawn is not None:
            return []
        inside = {time: rows for time, rows in self.times.items() if train.first <= time <= train.last}
        gap = dt.timedelta(days=self.gap_days)
        for wanted in range(settings.folds, 0, -1):
            try:
                found = rolling_origin(
                    list(inside), list(inside.values()), folds=wanted, share=settings.fold_share, gap=gap
                )
            except DataError as error:
                if wanted == 1:
                    self.rows.context.reporter.say(f"  ensemble.folds: none, only the tune period: {error}", "yellow")
                continue
            return found
        return []

    def _again(
        self, name: str, engine: EngineConfig, first: FitResult, period: Period, encoding: Encoding | None = None
    ) -> FitResult:
        """The member from the rows of another period, with the rounds of its first fit."""
        given = period, self.prepared, encoding or self.prepared.encoding, self.scale, first.rounds
        return refit_engine(self.rows, engine, *given, self._told(name), first=self.split.train)

    def _predicted(
        self,
        period: Period,
        members: Mapping[str, EngineConfig],
        fitted: Mapping[str, FitResult],
        threshold: int,
    ) -> pa.Table:
        stored = [Member(name, engine.name, fitted[name].stored) for name, engine in members.items()]
        return predict_members(
            self.rows,
            period,
            stored,
            self.prepared.encoding,
            self.scale,
            outcome=self.outcome,
            threshold=threshold,
        )

    def _told(self, name: str) -> OnRound:
        def on_round(number: int, metrics: Mapping[str, float]) -> None:
            figures = " ".join(f"{k} {v:.5g}" for k, v in metrics.items())
            self.rows.context.reporter.note(f"{name}, round {number + 1}: {figures}")

        return on_round


def learned(
    choice: Choice, members: Mapping[str, EngineConfig], first: Mapping[str, FitResult], last: Mapping[str, FitResult]
) -> Learned:
    """What serves, as one learner. first: fits on train, of all members.  last: what serves, of those with a weight."""
    combination = choice.chosen.combination
    weights = dict(zip(members, combination.weights, strict=True))
    record = choice.to_dict()
    record["members"] = [
        {"name": name, "engine": engine.name, "rounds": first[name].rounds, "weight": float(weights[name])}
        for name, engine in members.items()
    ]
    history = {f"{name}_{key}": values for name, one in first.items() for key, values in one.history.items()}
    figures = {f"{name}_{key}": value for name, one in first.items() for key, value in one.figures.items()}
    figures |= {f"choose_{choice.loss}_{c.name}": c.loss for c in choice.candidates}
    samples = [
        f"member {name} learned from a sample of {one.sample[0]:,} of {one.sample[1]:,} rows"
        for name, one in last.items()
        if one.sample is not None and not choice.single
    ]
    serving = combination.of([i for i, name in enumerate(members) if name in last])
    found = Learned(
        fitted=next(iter(last.values())),
        members={name: (members[name], first[name].rounds) for name in last},
        combination=None if choice.single else serving,
        record=record,
        summary=[_sentence(choice, weights), *samples],
    )
    fitted = dataclasses.replace(found.joined(last), rounds=sum(first[name].rounds for name in last))
    return dataclasses.replace(found, fitted=dataclasses.replace(fitted, history=history, figures=figures))


def able_members(profile: ProfileConfig, outcome: Outcome, target: str, reporter: Reporter) -> dict[str, EngineConfig]:
    """Members that can learn the target, by name; none where fewer than two can. Who is left out is said."""
    given = members_of(profile)
    able = {name: one for name, one in given.items() if outcome.kind in engine_named(one.name).kinds}
    unable = [name for name in profile.ensemble.members if name not in able]
    if unable:
        left_out = f"{', '.join(unable)}: cannot learn {target} with {SETTINGS[outcome.kind]}"
        reporter.say(f"  ensemble.members: {left_out}", "yellow")
    if len(able) < LEAST:
        reporter.say(
            f"  training.enable_advanced_ensemble: {target} is learned by {profile.engine.name} alone: "
            f"{len(able)} of {len(given)} members can learn it, and an ensemble has {LEAST} or more",
            "yellow",
        )
        return {}
    return able


def _sentence(choice: Choice, weights: Mapping[str, float]) -> str:
    best, chosen, loss = choice.best_member, choice.chosen, LOSSES[choice.loss]
    scale = "" if choice.judge.outcome.decides else " and the model's scale"
    on = f"on {len(choice.judge.truth):,} later rows{scale}"
    if choice.single:
        rest = [c for c in choice.candidates if c.name not in choice.names]
        second = min(rest, key=lambda c: c.loss, default=None)
        told = f", the best combination ({second.name}) {figure(second.loss)}" if second is not None else ""
        if second is not None and second.loss < best.loss:
            told += ", but with a larger mean absolute error"
        return f"ensemble: member {best.name} serves alone: {loss} {figure(best.loss)} {on}{told}"
    parts = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items() if weight > 0)
    return (
        f"ensemble: {chosen.name} of {parts}: {loss} {figure(chosen.loss)} {on}, "
        f"the best member ({best.name}) {figure(best.loss)}"
    )
