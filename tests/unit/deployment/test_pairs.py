"""Consumes rows that two models predicted, checks sums of days against a plain loop, whoever served which row."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from assay.config.deployment import DeploymentConfig
from assay.config.experiments import ExperimentsConfig
from assay.deployment.evidence import Evidence, known_of
from assay.deployment.experiment import decide
from assay.deployment.experiment_harm import harm
from assay.deployment.pairs import OTHER, Compared, PairSums, added, before, held_by, series_of
from assay.model.deployments import Deployment, Move, State
from assay.model.outcome_rows import OUTCOME

START = dt.datetime(2024, 3, 1, tzinfo=dt.timezone.utc)
COMPARED = Compared("absolute", (0.8, 0.9), challenger="2")
SIDES = ("champion", "challenger")


def rows(days=6, a_day=7, seed=3, *, error=(1.0, 1.0), half=(3.0, 3.0), noise=1.0):
    """Rows of both models, by name: row_id, time, outcome, and of each model its prediction and interval ends."""
    rng, found = np.random.default_rng(seed), []
    for day in range(days):
        for place in range(a_day):
            outcome = 50 + 10 * rng.standard_normal()
            row = {
                "row_id": day * a_day + place,
                "time": START + dt.timedelta(days=day, minutes=place),
                OUTCOME: outcome,
            }
            for model, size, width in zip(SIDES, error, half, strict=True):
                p = outcome + size * noise * rng.standard_normal()
                row[model] = {"prediction": p}
                for level, wide in (("80", 1.0), ("90", 1.5)):
                    row[model] |= {f"lower_{level}": p - wide * width, f"upper_{level}": p + wide * width}
            found.append(row)
    return found


def joined(told, served=lambda row: row["row_id"] % 3 == 0):
    """As a join of both tables has them. served: whether the challenger served the row."""
    flat = []
    for row in told:
        ours, other = (row[m] for m in (SIDES[::-1] if served(row) else SIDES))
        number = "1" if served(row) else "2"
        flat.append(
            {
                **{name: row[name] for name in ("row_id", "time", OUTCOME)},
                **ours,
                **{OTHER + name: value for name, value in other.items()},
                f"{OTHER}shadow": number,
            }
        )
    table = pa.Table.from_pylist(flat)
    return table.set_column(1, "time", table.column("time").cast(pa.timestamp("us", "UTC")))


def sums(table, compared=COMPARED, tasks=3):
    """Through several tasks, as executors do it."""
    size = -(-table.num_rows // tasks)
    parts = [
        batch for place in range(tasks) for batch in PairSums(compared)(table.slice(place * size, size).to_batches())
    ]
    return added(pl.from_arrow(pa.Table.from_batches(parts)), compared)


def evidence(table, settings=None, compared=COMPARED):
    settings = settings or ExperimentsConfig(min_rows=10, min_days=14)
    days = sums(table, compared)
    return Evidence(decide(series_of(days), settings), harm(series_of(days), settings), compared, days, None)


def deployment(**settings):
    config = DeploymentConfig(strategy="canary", **settings)
    move = Move(State.SPLIT, 0.1, 1, START, "assay", "")
    return Deployment("d", "price", "1", "2", ("a", "b"), config, ExperimentsConfig(min_rows=10), (move,))


@pytest.mark.parametrize("loss", ["absolute", "squared", "interval"])
def test_sums_are_those_of_a_plain_loop(loss):
    told = rows()
    found = sums(joined(told), dataclasses.replace(COMPARED, loss=loss))
    assert found["day"].to_list() == [dt.date(2024, 3, 1 + day) for day in range(6)]
    for day, got in enumerate(found.to_dicts()):
        of_day = told[day * 7 : day * 7 + 7]
        assert got["rows"] == 7
        for model in SIDES:
            losses, missed = [], 0
            for row in of_day:
                y, its = row[OUTCOME], row[model]
                low, high = its["lower_80"], its["upper_80"]
                outside = max(low - y, y - high, 0.0)
                each = {"absolute": abs(its["prediction"] - y), "squared": (its["prediction"] - y) ** 2}
                losses.append(each.get(loss, high - low + 2 / 0.2 * outside))
                missed += not low <= y <= high
            assert got[model] == pytest.approx(math.fsum(losses))
            assert got[f"{model}_missed_80"] == missed


def test_it_does_not_matter_who_served():
    told = rows()
    wanted = sums(joined(told, lambda row: False))
    for served in (lambda row: True, lambda row: row["row_id"] % 2 == 0):
        assert sums(joined(told, served)).equals(wanted)


def test_classes_are_compared_by_log_loss():
    compared = Compared("log", (0.8,), "2", classes=("no", "yes"))
    told = []
    for number in range(4):
        row = {"row_id": number, "time": START, OUTCOME: float(number % 2)}
        for model, p in (("champion", 0.6), ("challenger", 0.9)):
            right = [p, 1 - p] if number % 2 == 0 else [1 - p, p]
            row[model] = {"prediction": right[1], "probabilities": right, "set_80": [["no", "yes"][number % 2]]}
        told.append(row)
    told[3]["challenger"]["set_80"] = ["no"]
    (got,) = sums(joined(told), compared, tasks=1).to_dicts()
    assert got["champion"] == pytest.approx(-4 * math.log(0.6))
    assert got["challenger"] == pytest.approx(-4 * math.log(0.9))
    assert (got["champion_missed_80"], got["challenger_missed_80"]) == (0, 1)


def test_rows_without_outcome_count_nowhere_and_those_one_model_failed_on_count_as_lacking():
    told = rows(days=1, a_day=10)
    told[0][OUTCOME] = told[1][OUTCOME] = None
    for place in (2, 3, 4):
        told[place]["challenger"]["prediction"] = None
    told[5]["champion"]["prediction"] = None
    (got,) = sums(joined(told), tasks=1).to_dicts()
    assert (got["rows"], got["lacking"]) == (4, 3)


def test_a_challenger_as_good_as_the_champion_does_no_harm():
    known = known_of(evidence(joined(rows(days=20))), deployment(), None)
    assert (known.harm, known.worse) == (None, None)
    assert known.figures["rows"] == 140
    shares = held_by(sums(joined(rows(days=20))), 0.8)
    assert known.figures["challenger_coverage_80"] == pytest.approx(shares["challenger"])


def test_a_challenger_that_errs_much_more_does_harm():
    known = known_of(evidence(joined(rows(days=8, a_day=100, error=(1.0, 2.0), half=(3.0, 6.0)))), deployment(), None)
    assert "does harm" in known.harm
    assert known.figures["effect"] < -0.5


def test_intervals_that_hold_too_little_do_harm_where_the_champions_hold_more():
    known = known_of(evidence(joined(rows(days=10, a_day=100, half=(3.0, 0.5)))), deployment(), None)
    assert "the challenger's 80% intervals hold" in known.harm
    assert "deployment.coverage_points" in known.harm

    few = evidence(joined(rows(days=3, a_day=100, half=(3.0, 0.5))))
    assert known_of(few, deployment(), None).harm is None


def test_rows_that_the_challenger_cannot_price_do_harm():
    told = rows(days=8)
    for row in told[:25]:
        row["challenger"]["prediction"] = None
    known = known_of(evidence(joined(told)), deployment(), None)
    assert known.harm.startswith("the challenger has no prediction for 25 of 56 rows")
    assert known_of(evidence(joined(told)), deployment(unpriced_share=0.5), None).harm is None


def test_only_matured_days_are_looked_at():
    assert before(sums(joined(rows())), dt.date(2024, 3, 3))["day"].to_list() == [
        dt.date(2024, 3, 1),
        dt.date(2024, 3, 2),
    ]
