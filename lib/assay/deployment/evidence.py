"""Consumes both tables of predictions and outcomes since a deployment began, produces what is known of its challenger.

One join: every row that both models scored, whoever served it. Its days are an experiment (`experiment.py`), a guard
against harm (`experiment_harm.py`), and a check of what the challenger's intervals hold.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from typing import Any

import polars as pl
import pyarrow as pa

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.deployment.experiment import Decision, decide
from assay.deployment.experiment_harm import Harm, harm
from assay.deployment.moves import Known
from assay.deployment.pairs import (
    SHADOW,
    AsOther,
    Compared,
    PairSums,
    added,
    before,
    held_by,
    levels_of,
    misses_of,
    series_of,
)
from assay.model.deployments import Deployment, State
from assay.model.outcome_rows import OutcomeRows
from assay.model.registry import Champion
from assay.runtime.conditions import Condition
from assay.runtime.job import JobContext
from assay.runtime.monitoring_tables import HEALTH
from assay.runtime.tables import FEATURES, PREDICTIONS, SHADOW_PREDICTIONS, level_label

MIN_LACKING = 20  # rows without a prediction of the challenger, below which nothing is made of their share


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What the days since a deployment began say.

    days: of `Compared.schema`.  looked_until: the newest of them; None without any.
    """

    decision: Decision
    harm: Harm
    compared: Compared
    days: pl.DataFrame
    looked_until: dt.date | None


def gathered(
    context: JobContext, target: TargetConfig, deployment: Deployment, served: Champion, now: dt.datetime
) -> Evidence:
    """Both models' losses on the rows since the deployment was planned, as far as their outcomes have matured."""
    compared, days = _days(context, target, deployment, served, now)
    known = context.config.dataset.known_until(target.name, now)
    ripe = before(days, known.date())
    series, settings = series_of(ripe), deployment.experiments
    waited = (known - deployment.moves[0].at) / dt.timedelta(days=1)
    return Evidence(
        decide(series, settings, ended=waited > settings.max_days),
        harm(series, settings),
        compared,
        ripe,
        ripe["day"].max() if ripe.height else None,  # type: ignore[arg-type]
    )


def known_of(evidence: Evidence, deployment: Deployment, health: float | None) -> Known:
    """What the next move rests on."""
    found = evidence.decision
    worse = found.reasons[0] if found.high < 0 and found.decision == "reject" else None
    breach = evidence.harm.reason if evidence.harm.harmful else None
    return Known(
        decision=found.decision,
        why="; ".join(found.reasons),
        worse=worse,
        harm=breach or _lacking(evidence.days, deployment) or _short(evidence, deployment),
        health=health,
        figures=figures_of(evidence, health),
    )


def figures_of(evidence: Evidence, health: float | None) -> dict[str, Any]:
    """Figures that a move rests on, for the record."""
    found, days = evidence.decision, evidence.days
    told = {
        "days": found.days,
        "rows": found.rows,
        "lacking": float(days["lacking"].sum()) if days.height else 0.0,
        **{name: getattr(found, name) for name in ("champion_loss", "challenger_loss", "effect", "low", "high", "p")},
        "loss": evidence.compared.loss,
        "decision": found.decision,
        "harm_p": evidence.harm.p,
        "health": health,
    }
    if found.rows:
        for level in evidence.compared.levels:
            shares = held_by(days, level)
            told |= {f"{model}_coverage_{level_label(level)}": share for model, share in shares.items()}
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in told.items()}


def health_of(context: JobContext, deployment: Deployment, now: dt.datetime) -> float | None:
    """Health of a challenger that serves everybody, as the newest look since then has it; None where there is none."""
    plane, version = context.plane, context.plane.version(HEALTH.name)
    if version is None or deployment.last.state != State.WATCHED:
        return None
    where = [Condition("target", "==", deployment.target), Condition("part", "==", "all")]
    rows = plane.read(HEALTH.name, version=version, where=where).collect().to_pylist()
    first, last = (f"{at:%Y-%m-%d}" for at in (deployment.last.at, now))
    of_it = [r for r in rows if r["model_version"] == deployment.models[1] and first < r["as_of"] <= last]
    newest = max(of_it, key=lambda row: row["as_of"], default=None)
    return newest["score"] if newest is not None else None


def _days(
    context: JobContext, target: TargetConfig, deployment: Deployment, served: Champion, now: dt.datetime
) -> tuple[Compared, pl.DataFrame]:
    """What is compared, and its sums by day of rows since the deployment was planned."""
    plane, classes = context.plane, served.model.outcome.classes
    versions = {name: plane.version(name) for name in (PREDICTIONS.name, SHADOW_PREDICTIONS.name, FEATURES.name)}
    loss = "log" if classes else deployment.experiments.loss
    if any(version is None for version in versions.values()):
        nothing = Compared(loss, (), deployment.challenger, classes)
        return nothing, _frame(nothing.schema.empty_table())
    kinds = {name: plane.schema(name) for name in versions}
    names = [kinds[name].names for name in (PREDICTIONS.name, SHADOW_PREDICTIONS.name)]
    levels = levels_of(*names, levels=served.calibration["levels"], classes=bool(classes))
    compared = Compared(loss, levels, deployment.challenger, classes)
    after = served.model.version == deployment.models[1]
    others = (deployment.champion,) if after else (deployment.challenger, served.number)
    times = [Condition("time", ">=", deployment.moves[0].at), Condition("time", "<", now)]
    mine = [Condition("target", "==", target.name), *times]

    def read(table: str, columns: list[str], where: list[Condition]) -> Any:
        version = versions[table]
        assert version is not None
        return plane.read(table, version=version, columns=columns, where=where)

    as_other = AsOther(compared, kinds[SHADOW_PREDICTIONS.name])
    as_outcome = OutcomeRows(stored_name(target.name))
    told = read(PREDICTIONS.name, [*compared.columns, "time"], mine)
    other = read(SHADOW_PREDICTIONS.name, [*compared.columns, SHADOW], [*mine, Condition(SHADOW, "in", others)]).map(
        as_other, as_other.schema
    )
    outcome = read(FEATURES.name, ["row_id", as_outcome.outcome], times).map(as_outcome, as_outcome.schema)
    rows = plane.rows(PREDICTIONS.name, versions[PREDICTIONS.name] or 0)
    joined = told.join(other, ["row_id"], rows_hint=rows).join(outcome, ["row_id"], rows_hint=rows)
    return compared, added(_frame(joined.map(PairSums(compared), compared.schema).collect()), compared)


def _frame(rows: pa.Table) -> pl.DataFrame:
    found = pl.from_arrow(rows)
    assert isinstance(found, pl.DataFrame)
    return found


def _lacking(days: pl.DataFrame, deployment: Deployment) -> str | None:
    """Why it is a harm that the challenger has no prediction for some rows."""
    lacking, rows = (float(days[name].sum()) for name in ("lacking", "rows"))
    limit = deployment.config.unpriced_share
    if lacking < MIN_LACKING or lacking <= limit * (lacking + rows):
        return None
    return (
        f"the challenger has no prediction for {lacking:,.0f} of {lacking + rows:,.0f} rows that the champion priced, "
        f"more than {limit:.0%} (deployment.unpriced_share)"
    )


def _short(evidence: Evidence, deployment: Deployment) -> str | None:
    """Why the challenger's intervals hold too little: less than promised for sure, and less than the champion's."""
    days = evidence.days
    if evidence.decision.days < deployment.experiments.harm_min_days:
        return None
    points = deployment.config.coverage_points
    for level in evidence.compared.levels:
        margin = points / (1 - level)  # of the misses that are promised
        found = harm(misses_of(days, level), dataclasses.replace(deployment.experiments, harm_margin=margin))
        held = held_by(days, level)
        if found.harmful and held["challenger"] < held["champion"]:
            return (
                f"the challenger's {level:.0%} intervals hold {held['challenger']:.1%}, the champion's "
                f"{held['champion']:.1%}: more than {points:.0%} too little (deployment.coverage_points)"
            )
    return None
