"""Consumes short seasons through the real jobs, checks that planted faults are noticed, no row is lost, seeds hold."""

import json

import pytest
from polars.testing import assert_frame_equal

from assay.runtime.session import SparkSettings
from assay.season import days as days_module
from assay.season.command import as_dict
from assay.season.faults import calendar_of
from assay.season.market import Stream
from assay.season.play import play
from assay.season.record import Record

pytestmark = pytest.mark.e2e
DAYS, FEW = 30, 3
SPARK = SparkSettings("local[2]")


class StoppedError(Exception):
    """Somebody stops the season."""


@pytest.fixture(scope="module")
def played(spark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("season")
    return folder, play(folder, days=DAYS, seed=7, spark=SPARK)


def test_every_planted_fault_is_noticed_in_time(played):
    outcome = played[1]
    assert [one for one in outcome.happened if not one.good] == []
    assert {one.fault for one in outcome.happened} == set(outcome.calendar.faults)
    assert len(outcome.happened) >= 7


def test_no_row_is_lost_or_doubled_and_no_alert_is_false(played):
    figures = played[1].figures
    assert (figures["rows_lost"], figures["rows_duplicated"], figures["false_critical_alerts"]) == (0, 0, 0)
    stream = Stream(calendar_of(DAYS, 7, days_module.JOBS))
    assert figures["predictions"] == sum(stream.scored(day).total() for day in stream.calendar.dates) > 3_000
    assert played[1].floors == []


def test_a_season_that_is_over_is_only_judged_again(played):
    folder, outcome = played
    path = folder / "season" / "season.json"
    before = path.read_bytes()
    assert as_dict(play(folder, days=DAYS, seed=7, spark=SPARK)) == as_dict(outcome)
    assert path.read_bytes() == before
    assert not list(path.parent.glob("twin*"))


def test_a_season_that_was_stopped_in_a_day_ends_as_one_that_never_was(spark, tmp_path, monkeypatch):
    def season(folder):
        return play(folder, days=FEW, seed=7, spark=SPARK, more=["engine.rounds=20"])

    ran = []

    def run_job(name, *, job=days_module.run_job, **told):
        ran.append((name, told["date"][:10]))
        if ran[-1] == ("score", "2025-01-02") and ran.count(ran[-1]) == 1:
            raise StoppedError
        return job(name, **told)

    quiet = season(tmp_path / "quiet")
    monkeypatch.setattr(days_module, "run_job", run_job)
    with pytest.raises(StoppedError):
        season(tmp_path / "stopped")
    record = json.loads((tmp_path / "stopped" / "season" / "season.json").read_text())
    assert list(record["days"]) == ["2024-12-31", "2025-01-01"]
    assert as_dict(season(tmp_path / "stopped")) == as_dict(quiet)
    assert ran.count(("train", "2024-12-31")) == ran.count(("ingest", "2025-01-01")) == 1
    dates = calendar_of(FEW, 7, days_module.JOBS).dates
    said = [Record.of(tmp_path / one, record["played"]).said(dates) for one in ("quiet", "stopped")]
    assert_frame_equal(*said, check_exact=True)
