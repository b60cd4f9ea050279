"""Consumes aliases, predictions and the log of moves, produces the next moves of each target's deployment.

Run by a scheduler, each run makes the moves that are due, and none twice. The champion's alias in MLflow says who
serves; the table `deployments` says why. An alias that a person moved is heeded: the log follows it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from functools import cached_property

from assay.config import TargetConfig
from assay.config.deployment import DeploymentConfig
from assay.deployment.cut import cut_of
from assay.deployment.evidence import Evidence, figures_of, gathered, health_of, known_of
from assay.deployment.experiment_table import write_look
from assay.deployment.moves import Known, next_move
from assay.deployment.registry_verify import version_problems
from assay.errors import AssayError, ConfigError, DataError, Overtaken
from assay.model.deployments import (
    FINAL,
    OURSELVES,
    Deployment,
    Move,
    State,
    deployment_rows,
    name_of,
    read_deployments,
)
from assay.model.registry import champion, model_name
from assay.model.registry_table import write_registry
from assay.model.versions import CHALLENGER, CHAMPION, PREVIOUS, Version, make_champion, pick, versions_of
from assay.runtime.deployment_tables import DEPLOYMENTS
from assay.runtime.job import Done, JobContext, Plan
from assay.runtime.newest import newest_time
from assay.runtime.plane import NEVER, Output, Written
from assay.runtime.tables import FEATURES, PREDICTIONS, SHADOW_PREDICTIONS

JOB = "deploy"
MICROSECOND = dt.timedelta(microseconds=1)


@dataclasses.dataclass(frozen=True)
class Order:
    """What a person told a run to do, beyond making the moves that are due.

    challenger: version to deploy.  back: take the challenger back, or the champion where nothing is under way.  abort:
    end what is under way.  by, why: for the record.  dry: say what would be done, and do nothing.
    """

    challenger: str | None = None
    back: bool = False
    abort: bool = False
    by: str = OURSELVES
    why: str = ""
    dry: bool = False

    @property
    def orders(self) -> bool:
        """Whether there is anything."""
        return self.challenger is not None or self.back or self.abort


def plan(context: JobContext, target: TargetConfig, order: Order) -> Plan:
    """What deploying is about to look at.

    Raises:
        DataError: there is no champion, or no features.
        ConfigError: the strategy needs days, and rows have no time.
        UserError: the run is of a slice.
    """
    context.refuse_slice("deploy")
    plane = context.plane
    strategy = context.config.profile.deployment.strategy
    if not context.config.dataset.time.dated and strategy != "immediate":
        raise ConfigError(
            f"deployment.strategy={strategy}: rows of {context.config.dataset.name} have no time, so nobody can tell "
            "those of a day apart; use deployment.strategy=immediate"
        )
    deploying = Deploying(context, target, order)
    tables = (FEATURES.name, PREDICTIONS.name, SHADOW_PREDICTIONS.name)
    there = {name: plane.version(name) for name in tables}
    return Plan(
        job=JOB,
        inputs={name: version for name, version in there.items() if version is not None},
        sections=("deployment", "experiments", "as_of"),
        slots=[(DEPLOYMENTS.name, target.name)],
        extra={"target": target.name, "order": dataclasses.asdict(order), "aliases": deploying.aliases},
        execute=deploying.run,
        still_valid=lambda _: False,  # what is due depends on the log, which each run may add to
    )


class Deploying:
    """One target's deployments."""

    def __init__(self, context: JobContext, target: TargetConfig, order: Order) -> None:
        self.context, self.target, self.order = context, target, order
        self.tracking = context.tracking
        self.name = model_name(context.config, target.name)
        if pick(self.versions, CHAMPION) is None:
            raise DataError(f"no model of {self.name} is champion: run the job train first")
        version = context.plane.version(DEPLOYMENTS.name)
        self.read_at = NEVER if version is None else version
        self.log = read_deployments(context.plane, target.name)
        self.made: list[str] = []
        self.warned: list[str] = []
        self.evidence: Evidence | None = None

    @property
    def versions(self) -> list[Version]:
        """All versions, with their aliases as they are."""
        return versions_of(self.tracking.client, self.name)

    @property
    def serving(self) -> Version:
        """The champion as it is now; its files may be broken."""
        return next(one for one in self.versions if CHAMPION in one.aliases)

    @property
    def aliases(self) -> dict[str, int]:
        """Alias -> number."""
        return {alias: one.number for one in self.versions for alias in one.aliases}

    @property
    def current(self) -> Deployment | None:
        """The deployment under way."""
        return self.log[-1] if self.log and self.log[-1].open else None

    def run(self, identity: str) -> Done:
        """Heed the aliases, do what was ordered, make the moves that are due, write."""
        self.identity, self.written = identity, list[Written]()
        before = self.current
        with self.context.reporter.step(f"deployments of {self.target.name}"):
            self._heed_alias()
            self._obey()
            if self.current is None and not self.order.back:
                self._plan_next()
            while self._step():
                pass
        if not self.order.dry:
            if self.evidence is not None and self.log:
                self.written += write_look(self.context, self.log[-1], self.evidence, JOB, self.identity)
            write_registry(self.context)
        now = self.current or before
        last = self.log[-1].last if self.log else None
        metrics = {"moves": float(len(self.made)), "share": last.share if last is not None and self.current else 0.0}
        lines = self.made or [self._waiting(now)]
        dry = ["dry run: nothing was done"] if self.order.dry and self.made else []
        return Done(metrics=metrics, written=self.written, summary=[*lines, *self.warned, *dry])

    @cached_property
    def now(self) -> dt.datetime:
        """From when on a move holds: right after `--date`, else after the newest row; rows until then were served."""
        config = self.context.config
        if config.as_of is not None:
            return config.as_of + MICROSECOND
        version = self.context.version(FEATURES.name, made_by="build_features")
        newest = newest_time(self.context.plane.read(FEATURES.name, version=version, columns=["time"]))
        if newest is None:
            raise DataError("the features have no row: run the jobs ingest and build_features first")
        return newest + MICROSECOND

    def _heed_alias(self) -> None:
        """Let the log follow an alias that was moved by hand, or by a run that died before it wrote."""
        current = self.current
        if current is None:
            return
        state, serving = current.last.state, self.serving.tag("model_version")
        old, new = current.models
        if state != State.WATCHED and serving == new:
            self._move(State.WATCHED, 1.0, "it has the alias champion (`registry promote`)", by="registry")
        elif state == State.WATCHED and serving == old:
            self._move(State.ROLLED_BACK, 0.0, "the champion before has the alias again", by="registry")
        elif serving not in (old, new):
            self._move(State.ABORTED, 0.0, f"version {self.serving.label} became champion", by="registry")

    def _obey(self) -> None:
        """Do what was ordered.

        Raises:
            DataError: it cannot be done; says what can.
        """
        order, current = self.order, self.current
        why = order.why or "by command"
        if order.challenger is not None:
            if current is not None:
                raise DataError(f"{current.told} is under way: end it first (`deploy --abort`), then start another one")
            self._plan(self._chosen(order.challenger), why)
        elif order.abort:
            if current is None:
                raise DataError(f"no deployment of {self.target.name} is under way: there is nothing to abort")
            self._move(State.ABORTED, 0.0, why)
        elif order.back and current is not None:
            self._move(State.ROLLED_BACK if current.last.share > 0 else State.ABORTED, 0.0, why)
        elif order.back:
            self._go_back(why)

    def _go_back(self, why: str) -> None:
        """Let the champion before serve again, by a deployment of its own that is watched by nobody."""
        previous = pick(self.versions, PREVIOUS)
        if previous is None:
            raise DataError(
                f"no version of {self.target.name} has the alias {PREVIOUS}: there is nothing to go back to"
            )
        self._plan(previous, why, DeploymentConfig(strategy="immediate"))
        self._move(State.COMPLETED, 1.0, why)

    def _chosen(self, which: str) -> Version:
        versions = self.versions
        able = [one for one in versions if CHAMPION not in one.aliases and not one.retired]
        found = pick(versions, which)
        if found in able:
            return found
        what = "is no version" if found is None else "is retired" if found.retired else "is champion already"
        others = ", ".join(one.label for one in able) or "no other: train one"
        raise DataError(f"--challenger {which} {what}; {self.name} has {others}")

    def _plan_next(self) -> None:
        """Plan the deployment of the newest challenger, or watch a champion that got there without one."""
        versions = self.versions
        challenger, previous, serving = pick(versions, CHALLENGER), pick(versions, PREVIOUS), self.serving
        if challenger is not None:
            self._plan(challenger, "trained, and passed its gates")
            return
        if previous is None or previous.tag("model_version") == serving.tag("model_version"):
            return
        met = {one.models[1] for one in self.log} | {one.models[0] for one in self.log}
        if serving.tag("model_version") in met:
            return
        first = self._deployment(serving, previous, "it became champion without a deployment", self._config)
        self.log.append(first)
        self._move(State.WATCHED, 1.0, "it has the alias champion")

    @property
    def _config(self) -> DeploymentConfig:
        return self.context.config.profile.deployment

    def _plan(self, challenger: Version, why: str, config: DeploymentConfig | None = None) -> None:
        """Begin a deployment; one of a broken version, or of one that reads other features, ends at once."""
        serving = self.serving
        self.log.append(self._deployment(challenger, serving, why, config or self._config))
        if challenger.tag("plan_hash") != serving.tag("plan_hash"):
            told = "it learned from other features than the champion; no reading feeds both: `registry promote` it"
            self._move(State.REJECTED, 0.0, told, by=OURSELVES)
        else:
            self._say(self.log[-1])

    def _deployment(self, challenger: Version, serving: Version, why: str, config: DeploymentConfig) -> Deployment:
        first = Move(State.PLANNED, 0.0, 0, self.now, self.order.by, why)
        pair = str(serving.number), str(challenger.number)
        return Deployment(
            name_of(self.target.name, pair, self.log),
            self.target.name,
            *pair,
            (serving.tag("model_version"), challenger.tag("model_version")),
            config,
            self.context.config.profile.experiments,
            (first,),
        )

    def _step(self) -> bool:
        """Make the next move that is due; False where none is."""
        current = self.current
        if current is None or self.now < current.last.at:
            return False
        move = next_move(current, self.now, self._known(current))
        if move is None:
            return False
        self._record(current, self._cut(current, move))
        return True

    def _cut(self, current: Deployment, move: Move) -> Move:
        """A move that gives the challenger a share of the entities, with the place below which they are its own."""
        if move.state != State.SPLIT:
            return move
        found = cut_of(self.context, current, move.share, self.now)
        below = max(found.below, current.last.cut)  # whom it serves, it goes on serving
        if not below:
            self.warned.append(
                f"{move.share:.0%} of {found.entities} entities is less than one: the challenger serves nobody "
                "(deployment.steps, deployment.share)"
            )
        counts = {"entities": found.entities, "its_entities": found.its}
        return dataclasses.replace(move, below=below, evidence={**move.evidence, **counts})

    def _known(self, current: Deployment) -> Known:
        """What the next move rests on. A challenger whose files were changed does harm, whether it serves or not."""
        watched = current.last.state == State.WATCHED
        wrong = self._problems(current.challenger)
        if wrong:
            return Known(harm=f"its files are not those that were registered: {wrong}")
        fallback = self._problems(current.champion) if watched else ""
        if fallback:
            self.warned = [f"version {current.champion}, the champion before, could not be gone back to: {fallback}"]
        try:
            served = champion(self.tracking, self.target.name)
        except AssayError as error:
            raise AssayError(f"{error}; promote another version (`registry promote`), or train again") from None
        self.evidence = gathered(self.context, self.target, current, served, self.now)
        return known_of(self.evidence, current, health_of(self.context, current, self.now))

    def _move(self, state: State, share: float, why: str, *, by: str | None = None) -> None:
        current = self.log[-1]
        at = max(self.now, current.last.at)
        figures = figures_of(self.evidence, None) if self.evidence is not None else {}
        self._record(current, Move(state, share, 0, at, by or self.order.by, why, figures))

    def _record(self, current: Deployment, move: Move) -> None:
        """Make a move: the alias first, so that a run that dies in between is understood by the next one."""
        moved = current.moved(move)
        if not self.order.dry:
            self._name(moved)
        self.log[-1] = moved
        self._say(moved)

    def _name(self, moved: Deployment) -> None:
        """Give aliases as a deployment that has just moved needs them.

        Raises:
            AssayError: the version that would serve, or the one to fall back on, has other files than were registered.
        """
        client, state = self.tracking.client, moved.last.state
        aliases, serving = self.aliases, self.serving
        serves = serving.tag("model_version") == moved.models[1]
        if state in {State.WATCHED, State.COMPLETED} and not serves:
            self._verified(moved.challenger, "cannot serve")
            if state == State.WATCHED:
                self._verified(str(serving.number), "could not be gone back to")
            make_champion(client, self.name, moved.challenger)
        elif state == State.ROLLED_BACK and serves:
            self._verified(moved.champion, "cannot serve again; promote another version (`registry promote`)")
            make_champion(client, self.name, moved.champion)
        if state in FINAL and state != State.COMPLETED and aliases.get(CHALLENGER) == int(moved.challenger):
            client.delete_registered_model_alias(self.name, CHALLENGER)

    def _verified(self, number: str, otherwise: str) -> None:
        wrong = self._problems(number)
        if wrong:
            raise AssayError(f"version {number} of {self.name} {otherwise}: {wrong}")

    def _problems(self, number: str) -> str:
        """What is wrong with the files of a version; nothing of one that can be loaded."""
        version = pick(self.versions, number)
        wrong = version_problems(self.tracking, version) if version is not None else ["it was removed"]
        return wrong[0] if wrong else ""

    def _say(self, deployment: Deployment) -> None:
        """Put the move on record, and tell of it."""
        last = deployment.last
        serves = f", serves {last.share:.0%} of the entities" if 0 < last.share < 1 else ""
        self.made.append(f"{deployment.told}: {last.state}{serves} from {last.at:%Y-%m-%d %H:%M}: {last.why}")
        if self.order.dry:
            return
        table, name = deployment_rows([deployment]), self.target.name
        owns = {"target": name, "deployment_id": deployment.deployment_id}
        commit = self.context.commit(JOB, name, self.identity)
        output = Output(DEPLOYMENTS, table.schema, commit, owns=owns, expects=self.read_at)
        try:
            done = self.context.plane.rows_of(DEPLOYMENTS, table.schema, table).write([output])
        except Overtaken:
            raise AssayError(
                f"another run moved the deployments of {name} at the same time; run deploy again: it goes on from there"
            ) from None
        self.read_at = done[0].version
        self.written += done

    def _waiting(self, current: Deployment | None) -> str:
        """What is said where no move is due."""
        if current is None or not current.open:
            return f"no deployment of {self.target.name} is under way"
        last = current.last
        reasons = self.evidence.decision.reasons if self.evidence is not None else ()
        more = f"; {'; '.join(reasons)}" if reasons else ""
        return f"{current.told}: {last.state} since {last.at:%Y-%m-%d %H:%M}, no move is due{more}"
