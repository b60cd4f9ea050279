"""Consumes what monitoring knows of a target, checks the page that people read: well-formed, alone, and true."""

from __future__ import annotations

import datetime as dt
import re
import xml.etree.ElementTree as ET

import polars as pl
import pytest

from assay.config.deployment import DeploymentConfig
from assay.config.experiments import ExperimentsConfig
from assay.model.deployments import Deployment, Move, State
from assay.monitoring import health_plots
from assay.monitoring.health_report import HealthView, figures_of, headline, page

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


def shown(of):
    text = page(of, figures_of(of))
    root = ET.fromstring(text.replace("<!DOCTYPE html>", ""))
    return text, " ".join(" ".join(root.itertext()).split())


def test_the_page_is_well_formed_alone_and_says_what_there_is():
    text, words = shown(view())
    assert not re.findall(r'(?:src|href)="(?!#)', text)
    assert "<script" not in text
    assert "price is at 62 of 100, mostly for its error" in words
    assert "1,200 outcomes <b>" in words  # escaped
    assert "the error is 12.5 & rising" in words
    assert "version 3 (1.0.2)" in words
    assert "price-2-to-3 rolled back 0" in words
    assert "distribution, new categories" in words
    assert text.count("<figure") == 3


def test_a_target_without_a_past_has_a_page_too():
    empty = view(parts=[], history=[], days=days(1), alerts=[])
    text, words = shown(empty)
    assert "How price does is not known yet" in words
    assert "There was none." in words
    assert "<figure" not in text


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([part("all", 100.0), part("error", 100.0)], "price is at 100 of 100: all is as it was tested"),
        ([part("all", 80.0), part("coverage", 40.0)], "price is at 80 of 100, mostly for its coverage"),
    ],
)
def test_the_headline_names_the_worst_part(parts, said):
    assert headline(view(parts=parts)) == said


def test_long_tables_end_with_how_many_more_there_are():
    _, words = shown(view(alerts=[alert()] * 27))
    assert "7 more alerts in the table alerts" in words


def test_rolling_figures_are_means_by_rows_and_not_by_days():
    rows = days(30, ("champion",))
    found = health_plots._rolled(rows, "mse", 7).to_dicts()
    last = rows.tail(7)
    assert found[-1]["rolled"] == pytest.approx((last["mse"] * last["known"]).sum() / last["known"].sum())
    assert len(found) == 30
