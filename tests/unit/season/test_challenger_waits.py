"""Consumes days on which a deployment is under way or has ended, checks when the season's bad challenger comes."""

from __future__ import annotations

import datetime as dt

import pytest

from assay.config.deployment import DeploymentConfig
from assay.config.experiments import ExperimentsConfig
from assay.model.deployments import Deployment, Move, State, deployment_rows
from assay.runtime.deployment_tables import DEPLOYMENTS
from assay.runtime.local_plane import LocalPlane
from assay.runtime.plane import Commit, Output
from assay.runtime.session import SparkSettings
from assay.season.days import Player
from assay.season.faults import calendar_of
from assay.season.market import Stream
from assay.season.receiver import Receiver
from assay.season.record import Record

DAY = dt.timedelta(days=1)
CALENDAR = calendar_of(30, 7, {"deploy"})
FIRST = CALENDAR.fault("bad_challenger").first


@pytest.fixture
def player(tmp_path):
    record = Record.of(tmp_path, {"days": 30})
    (tmp_path / "assay.json").write_text("{}", encoding="utf-8")
    return Player(record, Stream(CALENDAR), Receiver(tmp_path / "received.txt"), SparkSettings())


def stand(player, *states):
    """One deployment that went through these states."""
    at = dt.datetime(2025, 1, 2, tzinfo=dt.timezone.utc)
    moves = tuple(Move(State(state), 0.0, 0, at, "a test", "", made_at=at) for state in ("planned", *states))
    one = Deployment("d", "price", "1", "2", ("a", "b"), DeploymentConfig(), ExperimentsConfig(), moves)
    rows, plane = deployment_rows([one]), LocalPlane(player.record.workspace / "lake")
    output = Output(DEPLOYMENTS, rows.schema, Commit(-1, "deploy", "price", "i"))
    plane.rows_of(DEPLOYMENTS, rows.schema, rows).write([output])


def comes(player, day):
    return player.turned_out(day).starts("bad_challenger", day)


def test_it_comes_when_it_is_due_where_nobody_is_on_its_way(player):
    assert next(day for day in CALENDAR.dates if comes(player, day)) == FIRST
    assert not comes(player, FIRST - DAY)


def test_it_waits_for_one_that_is_on_its_way_and_comes_once(player):
    stand(player, "shadowing")
    assert not comes(player, FIRST)
    stand(player, "watched")
    assert not comes(player, FIRST + DAY)
    stand(player, "watched", "completed")
    assert comes(player, FIRST + 2 * DAY)
    player.record.add(FIRST + 2 * DAY, "challenger", number="3", model_version="m")
    stand(player, "shadowing")  # its own, after it was planned
    assert comes(player, FIRST + 2 * DAY)  # the day is played again
    assert not comes(player, FIRST + 3 * DAY)
    assert not comes(player, FIRST)
