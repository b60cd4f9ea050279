"""Consumes labelled rows, prepared inputs and an engine's settings, produces what the engine learned from them."""

from __future__ import annotations

from assay.config.dataset import stored_name
from assay.config.profile import EngineConfig
from assay.model.scale import TargetScale
from assay.runtime import preflight
from assay.runtime.barrier import free_slots
from assay.runtime.memory import python_memory
from assay.runtime.plane import Flow
from assay.runtime.session import is_local
from assay.training.engine import FitRequest, FitResult, OnRound, engine_named
from assay.training.monotone import directions
from assay.training.preparation import Prepared
from assay.training.ranks import ranks_worth
from assay.training.rows import LabelledRows
from assay.training.split import Period, Split
from assay.training.weights import TimeDecay


def fit_engine(
    rows: LabelledRows, engine: EngineConfig, split: Split, prepared: Prepared, scale: TargetScale, on_round: OnRound
) -> FitResult:
    """Let an engine learn from the train period, judged by the tune period, on as many ranks as that is worth.

    Raises:
        ConfigError: more ranks are asked for than there are slots.
    """
    encoding, rule = prepared.encoding, prepared.teaches
    session = rows.context.spark()
    learner = engine_named(engine.name)
    worth = engine.ranks or ranks_worth(
        engine,
        train=split.train.rows,
        tune=split.tune.rows if engine.early_stopping_rounds else 0,
        numbers=len(encoding.numeric),
        categories=len(encoding.categories),
        memory=python_memory(session),
    )
    worth = 1 if learner.alone else worth
    slots = free_slots(session.sparkContext, worth)
    ranks = worth if engine.ranks else max(1, min(slots, worth))
    preflight.check_ranks(session, ranks, slots)
    cpus = int(session.conf.get("spark.task.cpus", "1"))
    threads = max(cpus, slots * cpus // ranks) if is_local(str(session.conf.get("spark.master", ""))) else cpus
    looked_at = tuple(rule.columns) if rule is not None else ()
    weights, refit_weights = (
        TimeDecay(period.last, engine.weight_halflife_days) if engine.weight_halflife_days is not None else None
        for period in (split.train, split.tune)
    )
    looked_at += weights.columns if weights is not None else ()
    columns = list(dict.fromkeys([*encoding.columns, *scale.columns, *learner.columns, *looked_at, rows.column]))

    left_out = {one.name for one in prepared.selection if not one.kept}  # what a model does not see moves nothing
    monotone = {n: d for n, d in engine.monotone.items() if {n, stored_name(n)}.isdisjoint(left_out)}

    def read(period: Period) -> Flow:
        return rows.read(columns, period)

    train = read(split.train)
    request = FitRequest(
        train=train if rule is None else train.map(rule, train.schema),
        tune=read(split.tune) if engine.early_stopping_rounds else None,
        encoding=encoding,
        scale=scale,
        params=engine.params,
        rounds=engine.rounds,
        early_stopping_rounds=engine.early_stopping_rounds,
        refit=engine.refit,
        seed=engine.seed,
        ranks=ranks,
        threads=threads,
        driver_host=str(session.conf.get("spark.driver.host", "127.0.0.1")),
        refit_encoding=prepared.again,
        refit_rule=rule,
        weights=weights,
        refit_weights=refit_weights,
        monotone=directions(monotone, encoding),
        checkpoint_rounds=engine.checkpoint_rounds,
        sample_rows=engine.sample_rows,
    )
    return learner.fit(rows.context.plane, request, on_round)
