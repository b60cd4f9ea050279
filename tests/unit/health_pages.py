"""Produces what monitoring knows of an invented target: what the tests of its page share."""

from __future__ import annotations

import datetime as dt

import polars as pl

from assay.config.deployment import DeploymentConfig
from assay.config.experiments import ExperimentsConfig
from assay.model.deployments import Deployment, Move, State
from assay.monitoring.health_report import HealthView

FIRST = dt.date(2024, 3, 1)


def at(day):
    return dt.datetime(2024, 3, 1, tzinfo=dt.timezone.utc) + dt.timedelta(days=day)


def days(count=40, roles=("champion", "shadow")):
    rows = [
        {
            "day": FIRST + dt.timedelta(days=day),
            "role": role,
            "known": 10.0 + day % 3,
            "mse": 4.0 + day,
            "rmse": (4.0 + day) ** 0.5,
            "log_loss": None,
            "coverage_80": 0.75 + day / 1_000,
        }
        for day in range(count)
        for role in roles
    ]
    return pl.DataFrame(rows, schema_overrides={"log_loss": pl.Float64})


def part(name, score, **more):
    told = {"weight": 0.3, "value": 12.5, "reference": 10.0, "unit": "RMSE", "detail": "1,200 outcomes <b>"}
    return {"part": name, "score": score, **told, **more}


def alert(level="HIGH", status="open", message="the error is 12.5 & rising"):
    return {"level": level, "status": status, "opened_at": at(3), "seen_at": at(9), "seen": 4, "message": message}


def view(**more):
    moves = (
        Move(State.PLANNED, 0.0, 0, at(2), "assay", "trained"),
        Move(State.SPLIT, 0.25, 1, at(2), "assay", "first step"),
        Move(State.ROLLED_BACK, 0.0, 0, at(9), "assay", "it does harm"),
    )
    settings = DeploymentConfig(), ExperimentsConfig()
    drift = {"column": "size", "psi": 0.31, "ks": 0.2, "missing_reference": 0.0, "missing_current": 0.0001}
    told = {
        "target": "price",
        "as_of": "2024-04-09",
        "version": "3 (1.0.2)",
        "levels": (0.8,),
        "parts": [part("all", 62.4), part("error", 20.0), part("volume", None)],
        "history": [(FIRST + dt.timedelta(days=day), 100.0 - day) for day in range(30)],
        "days": days(),
        "alerts": [alert(), alert("LOW", "recovered")],
        "drifted": [{**drift, "reasons": ["distribution", "new_categories"]}],
        "deployments": [Deployment("price-2-to-3", "price", "2", "3", ("a", "b"), *settings, moves)],
    }
    return HealthView(**{**told, **more})
