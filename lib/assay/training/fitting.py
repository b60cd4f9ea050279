"""Consumes labelled rows, prepared inputs and an engine's settings, produces what the engine learned from them."""

from __future__ import annotations

import dataclasses

from assay.config.profile import EngineConfig
from assay.model.encoding import Encoding
from assay.model.outcome import Outcome
from assay.model.scale import TargetScale
from assay.runtime import preflight
from assay.runtime.barrier import free_slots
from assay.runtime.memory import python_memory
from assay.training.engine import FitRequest, FitResult, OnRound, check_kind, engine_named
from assay.training.monotone import directions
from assay.training.preparation import Prepared
from assay.training.ranks import ranks_worth, threads_each, threads_worth
from assay.training.rows import LabelledRows
from assay.training.split import Period, Split
from assay.training.weights import TimeDecay


def fit_engine(
    rows: LabelledRows, engine: EngineConfig, split: Split, prepared: Prepared, scale: TargetScale, on_round: OnRound
) -> FitResult:
    """Let an engine learn from the train period, judged by the tune period, on as many ranks as that is worth.

    Raises:
        ConfigError: more ranks are asked for than there are slots, or what the engine cannot predict.
    """
    judged = bool(engine.early_stopping_rounds)
    request, columns = _request(rows, engine, prepared, scale, split.train, split.tune if judged else None)
    request = dataclasses.replace(
        request,
        tune=rows.read(columns, split.tune) if judged else None,
        refit=engine.refit,
        refit_encoding=prepared.again,
        refit_rule=prepared.teaches,
        refit_weights=_decay(engine, split.tune),
    )
    return engine_named(engine.name).fit(rows.context.plane, request, on_round)


def refit_engine(
    rows: LabelledRows,
    engine: EngineConfig,
    known: Period,
    prepared: Prepared,
    encoding: Encoding,
    scale: TargetScale,
    rounds: int,
    on_round: OnRound,
    *,
    first: Period,
) -> FitResult:
    """Let an engine learn from all rows of a period, with the rounds that were chosen earlier and nobody as a judge.

    prepared: what the earlier fit was given.  encoding: its inputs, as `known` has them.  first: what that fit learned
        from.
    """
    given = dataclasses.replace(prepared, encoding=encoding)
    request, _ = _request(rows, engine, given, scale, known, None)
    request = dataclasses.replace(request, rounds=rounds, early_stopping_rounds=0, sized_by=first.rows)
    return engine_named(engine.name).fit(rows.context.plane, request, on_round)


def _decay(engine: EngineConfig, period: Period) -> TimeDecay | None:
    halflife = engine.weight_halflife_days
    return TimeDecay(period.last, halflife) if halflife is not None else None


def _request(
    rows: LabelledRows,
    engine: EngineConfig,
    prepared: Prepared,
    scale: TargetScale,
    train: Period,
    tune: Period | None,
) -> tuple[FitRequest, list[str]]:
    """What one fit on a period is asked for, without a judge, and the columns it reads. tune: what its size counts."""
    encoding, rule = prepared.encoding, prepared.teaches
    session = rows.context.spark()
    learner = engine_named(engine.name)
    outcome = Outcome.of(rows.target, engine.quantiles)
    check_kind(learner, outcome, rows.target.name)
    worth = engine.ranks or ranks_worth(
        engine,
        train=train.rows,
        tune=tune.rows if tune is not None else 0,
        numbers=len(encoding.numeric),
        categories=len(encoding.categories),
        memory=python_memory(session),
    )
    worth = 1 if learner.alone else worth
    slots = free_slots(session.sparkContext, worth)
    ranks = worth if engine.ranks else max(1, min(slots, worth))
    preflight.check_ranks(session, ranks, slots)
    threads = threads_worth(engine.name, rows=train.rows // ranks, threads=threads_each(session, ranks))
    weights = _decay(engine, train)
    looked_at = tuple(rule.columns) if rule is not None else ()
    looked_at += weights.columns if weights is not None else ()
    columns = list(dict.fromkeys([*encoding.columns, *scale.columns, *learner.columns, *looked_at, rows.column]))

    left_out = {one.name for one in prepared.selection if not one.kept}
    taught = rows.read(columns, train)
    request = FitRequest(
        train=taught if rule is None else taught.map(rule, taught.schema),
        tune=None,
        encoding=encoding,
        scale=scale,
        params=engine.params,
        rounds=engine.rounds,
        early_stopping_rounds=engine.early_stopping_rounds,
        refit=False,
        seed=engine.seed,
        ranks=ranks,
        threads=threads,
        driver_host=str(session.conf.get("spark.driver.host", "127.0.0.1")),
        weights=weights,
        monotone=directions(engine.monotone, encoding, left_out),
        checkpoint_rounds=engine.checkpoint_rounds,
        sample_rows=engine.sample_rows,
        outcome=outcome,
        sized_by=train.rows,
    )
    return request, columns
