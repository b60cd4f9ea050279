"""Consumes `features` and the champion, produces `predictions` for every row later than its calibration.

Models of `scoring.shadows` score the same rows in the same pass, into a table of their own.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.conformal.following import Following
from assay.errors import DataError
from assay.model.registry import Champion, champion
from assay.runtime.conditions import Condition, any_of, columns_of, period_conditions
from assay.runtime.job import Done, JobContext, Plan
from assay.runtime.plane import Aside, Output
from assay.runtime.tables import FEATURES, PREDICTIONS, SHADOW_PREDICTIONS, Table
from assay.scoring.adapted import Adapted, adapted, adapted_shadow, follows, write_states
from assay.scoring.deployed import Deployed, deployed_of
from assay.scoring.kernel import NOTE, SHADOW, ScoreAll, ScoreRows, merged_counts, prediction_schema
from assay.scoring.scorer import NOT_FOLLOWED, Scorer
from assay.scoring.shadow import shadows_of

JOB = "score"
NOT_SCORED = "not_scored:"
NAMED_REASONS = 3  # of the summary
NOTES = pa.schema([pa.field(NOTE, pa.string())])


def plan(context: JobContext, target: TargetConfig) -> Plan:
    """What scoring is about to do.

    Raises:
        DataError: there is no champion, or the features were built by another plan than the champion's or a shadow's.
    """
    version = context.version(FEATURES.name, made_by="build_features")
    found = champion(context.tracking, target.name)
    commit = context.plane.last_commit(FEATURES.name, "all")
    built = str(commit.details.get("plan_hash", "")) if commit is not None else ""
    if built != found.model.plan_hash:
        raise DataError(
            f"the features were built by plan {built}, the champion of {target.name} learned from plan "
            f"{found.model.plan_hash}: run `build_features --plan champion`, or train again"
        )
    deployed = deployed_of(context, target, found, lambda text: context.reporter.say(f"score: {text}", "yellow"))
    shadows = beside(deployed, shadows_of(context, target, found))
    scoring = context.config.profile.scoring
    work = Scoring(context, target, version, found, shadows, deployed)
    return Plan(
        job=JOB,
        inputs={FEATURES.name: version},
        sections=("where",),
        slots=[(table.name, target.name) for table in work.tables],
        extra={
            "target": target.name,
            "model": found.model.version,
            "calibration": found.calibration_version,
            "tested": [found.tested.model.version, found.tested.calibration_version] if found.tested else [],
            "shadows": [[one.number, one.model.version, one.calibration_version] for one in shadows],
            **({"deployment": deployed.told} if deployed is not None else {}),
            "quality": [scoring.important_share, scoring.bad_missing_share],
            "entity": list(context.config.dataset.entity),
        },
        execute=work.run,
    )


def beside(deployed: Deployed | None, shadows: Sequence[Champion]) -> list[Champion]:
    """The models that score beside the champion, each once: the other one of a deployment first."""
    if deployed is None:
        return list(shadows)
    return [deployed.other, *(one for one in shadows if one.number != deployed.other.number)]


class Scoring:
    """One target's scoring by its champion and by shadows. version: of the features.  deployed: what is under way."""

    def __init__(
        self,
        context: JobContext,
        target: TargetConfig,
        version: int,
        found: Champion,
        shadows: Sequence[Champion],
        deployed: Deployed | None = None,
    ) -> None:
        self.context, self.target, self.version = context, target, version
        self.found, self.shadows, self.deployed = found, shadows, deployed
        self.arms = deployed.arms if deployed is not None else None
        self.column = stored_name(target.name)
        self.entity = tuple(stored_name(name) for name in context.config.dataset.entity)
        self.classes = any(one.decides for one in context.config.dataset.targets)

    @property
    def tables(self) -> list[Table]:
        """What is written. Shadows that are gone leave their table, where there is one."""
        there = self.context.plane.version(SHADOW_PREDICTIONS.name) is not None
        return [PREDICTIONS, *([SHADOW_PREDICTIONS] if self.shadows or there else [])]

    def run(self, identity: str) -> Done:
        """Read once, score by every model, write."""
        config, plane = self.context.config, self.context.plane
        chosen = [*(Condition(stored_name(c), "==", v) for c, v in config.where), *self.scored_rows(self.found)]
        state = adapted(self.context, self.target, self.found, self.version, chosen)
        following = state.following if state is not None else None
        others = [(one, adapted_shadow(self.context, self.target, one, self.version, chosen)) for one in self.shadows]
        models = [self.scorer(self.found, following), *(self.shadow(one, found) for one, found in others)]
        tables = self.tables
        schemas = {table.name: self.schema(table) for table in tables}
        fields = {field.name: field for schema in reversed(schemas.values()) for field in schema}
        every = pa.schema([*fields.values(), pa.field(NOTE, pa.string())])
        commit = self.context.commit(
            JOB, self.target.name, identity, model=self.found.model.version, run_id=self.found.run_id
        )
        outputs = [
            Output(
                table,
                schemas[table.name],
                commit,
                owns=self.owned(table, schemas[table.name]),
                only=SHADOW if len(tables) > 1 else None,
                keep="filled" if table is SHADOW_PREDICTIONS else "null",
            )
            for table in tables
        ]
        counts: dict[str, Counter[str]] = {}
        with self.context.reporter.step("scoring"):
            written = (
                plane.read(FEATURES.name, version=self.version, columns=self.columns(models), where=chosen)
                .map(ScoreAll(tuple(models), every, config.profile.scoring.batch_rows, self.arms), every)
                .write(outputs, aside=Aside(NOTES, NOTE, lambda notes: counts.update(merged_counts(notes))))
            )
        self.context.tracking.json({shadow or "champion": told for shadow, told in counts.items()}, "quality.json")
        own = counts.get("", Counter())
        metrics = {"predictions": float(written[0].rows), **figures(own)}
        found = self.found
        name = f"model {found.model.version}, version {found.label}"
        summary = [f"{written[0].rows:,} predictions of {self.target.name} by {name}", *told(own)]
        for shadow in self.shadows:
            of_shadow = figures(counts.get(shadow.number, Counter()))
            metrics |= {f"shadow_{shadow.number}.{key}": value for key, value in of_shadow.items()}
            rows = int(sum(of_shadow[f"quality_{quality}"] for quality in ("ok", "warn", "bad")))
            summary.append(self.told_of(shadow, rows))
        for one, its in ((self.found, state), *others):
            if its is not None and its.unpriced.count:
                metrics |= {_of(one, "unpriced_outcomes", self.found): float(its.unpriced.count)}
                summary.append(its.unpriced.line(f"with an outcome since version {one.label} was calibrated"))
            if its is None and follows(one):
                summary.append(
                    f"the intervals of version {one.label} are those it was fitted with: its conformity_scores are no "
                    f"longer on record ({NOT_FOLLOWED} in its rows)"
                )
        if state is not None:
            written = [*written, *write_states(self.context, self.target.name, found, state, commit)]
            steps, segments, _ = state.following.timeline.shape
            metrics |= {"adaptive_steps": float(steps), "outcomes_since": float(state.later)}
            summary.append(f"intervals followed the misses over {steps:,} steps in {segments:,} segments")
        return Done(metrics=metrics, written=written, summary=summary)

    def told_of(self, shadow: Champion, rows: int) -> str:
        """A line about the rows of a model that scored beside the champion."""
        deployed = self.deployed
        if deployed is None or shadow is not deployed.other:
            return f"{rows:,} by its shadow, version {shadow.label}, in {SHADOW_PREDICTIONS.name}"
        last = deployed.deployment.last
        serves = f", which serves {last.share:.0%} of the entities" if deployed.arms is not None else ""
        return f"{rows:,} by version {shadow.label}{serves}: {deployed.deployment.told} is {last.state}"

    def scorer(self, found: Champion, following: Following | None = None, *, shadow: bool = False) -> ScoreRows:
        """The rows of one model. A shadow's are those of its own test period and after.

        following: its quantiles in time, the same for the model that serves and the one that was tested.
        """
        scoring = self.context.config.profile.scoring
        one = ScoreRows(
            Scorer.of(found, scoring, following),
            self.target.name,
            self.entity,
            where=tuple(self.scored_rows(found)) if shadow else (),
            shadow=found.number if shadow else None,
        )
        if found.tested is None:
            return one
        tested = dataclasses.replace(one, scorer=Scorer.of(found.tested, scoring, following), where=())
        return dataclasses.replace(one, tested=tested, learned_column=self.column if found.model.drawn else None)

    def shadow(self, found: Champion, state: Adapted | None) -> ScoreRows:
        """The rows of a shadow. state: its quantiles in time; None of one that follows is said in each row."""
        rows = self.scorer(found, state.following if state is not None else None, shadow=True)
        if state is not None or not follows(found):
            return rows
        told = dataclasses.replace(rows, scorer=dataclasses.replace(rows.scorer, still=True))
        if rows.tested is None:
            return told
        scorer = dataclasses.replace(rows.tested.scorer, still=True)
        return dataclasses.replace(told, tested=dataclasses.replace(rows.tested, scorer=scorer))

    def scored_rows(self, found: Champion) -> list[Condition]:
        """Rows of the test period and after it; where parts were drawn, those of test and all with unknown outcome."""
        test = period_conditions(found.model.facts["split"]["test"])
        return [any_of(test, [Condition(self.column, "is_null")])] if found.model.drawn else test

    def columns(self, models: Sequence[ScoreRows]) -> list[str]:
        """What is read of the features, for all models together."""
        found = ["row_id", "time", *self.entity]
        for model in models:
            found += model.scorer.inputs + (model.tested.scorer.inputs if model.tested is not None else ())
            found += [model.learned_column] if model.learned_column is not None else []
            found += columns_of(model.where)
        return list(dict.fromkeys([*found, "month"]))

    def schema(self, table: Table) -> pa.Schema:
        """Schema of a table that is written. Without shadows that of theirs stays as it is, and gets no row."""
        if table is SHADOW_PREDICTIONS and not self.shadows:
            return self.context.plane.schema(table.name)
        models, shadow = ([self.found], False) if table is PREDICTIONS else (self.shadows, True)
        if self.deployed is not None and self.arms is not None:  # both models have rows in both tables
            models = [self.found, *self.shadows] if shadow else [self.found, self.deployed.other]
        return prediction_schema(self.levels(models), self.entity, classes=self.classes, shadow=shadow)

    def levels(self, models: Sequence[Champion]) -> tuple[float, ...]:
        """Levels of any of some models, those of the first in their order."""
        return tuple(dict.fromkeys(level for one in models for level in one.calibration["levels"]))

    def owned(self, table: Table, schema: pa.Schema) -> dict[str, str]:
        """What a write replaces: the target's rows. New levels or keys mean new columns: only a whole table takes them.

        Where several targets share the table, that would drop the others' rows: there the write is refused instead.
        """
        plane = self.context.plane
        fits = plane.version(table.name) is None or set(plane.schema(table.name).names) == set(schema.names)
        return {"target": self.target.name} if fits or len(self.context.config.dataset.targets) > 1 else {}


def _of(one: Champion, name: str, served: Champion) -> str:
    """Name of a figure: of the model that serves as it is, of a shadow with its version."""
    return name if one is served else f"shadow_{one.number}.{name}"


def figures(counts: Mapping[str, int]) -> dict[str, float]:
    """Rows of each quality, and those that could not be scored."""
    qualities = {name: float(counts.get(name, 0)) for name in ("quality_ok", "quality_warn", "quality_bad")}
    return {**qualities, "not_scored": float(sum(n for kind, n in counts.items() if kind.startswith(NOT_SCORED)))}


def told(counts: Mapping[str, int]) -> list[str]:
    """What a person should know of the rows' quality; nothing where all are ok."""
    found, lines = figures(counts), []
    if found["not_scored"]:
        kinds = sorted(kind.removeprefix(NOT_SCORED) for kind in counts if kind.startswith(NOT_SCORED))
        lines.append(
            f"{found['not_scored']:,.0f} rows could not be scored ({', '.join(kinds)}); they have no prediction"
        )
    reasons = Counter({kind: n for kind, n in counts.items() if not kind.startswith(("quality_", NOT_SCORED))})
    if reasons:
        most = ", ".join(f"{kind} {n:,}" for kind, n in reasons.most_common(NAMED_REASONS))
        lines.append(f"quality: {found['quality_warn']:,.0f} rows warn, {found['quality_bad']:,.0f} bad; most: {most}")
    return lines
