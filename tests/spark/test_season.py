"""Consumes a short season through the real jobs, checks that each planted fault is noticed, and no row is lost."""

import json

import pytest

from assay.runtime.session import SparkSettings
from assay.season.command import as_dict
from assay.season.play import play

pytestmark = pytest.mark.spark
DAYS = 30


@pytest.fixture(scope="module")
def played(spark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("season")
    return folder, play(folder, days=DAYS, seed=7, spark=SparkSettings("local[2]"))


def test_every_planted_fault_is_noticed_in_time(played):
    _, outcome = played
    assert [one for one in outcome.happened if not one.good] == []
    assert {one.fault for one in outcome.happened} == set(outcome.calendar.faults)


def test_no_row_is_lost_or_doubled_and_no_alert_is_false(played):
    figures = played[1].figures
    assert (figures["rows_lost"], figures["rows_duplicated"], figures["false_critical_alerts"]) == (0, 0, 0)
    assert figures["days"] == DAYS


def test_a_season_that_is_over_is_only_judged_again(played):
    folder, outcome = played
    before = json.loads((folder / "season" / "season.json").read_text())
    again = play(folder, days=DAYS, seed=7, spark=SparkSettings("local[2]"))
    assert json.loads((folder / "season" / "season.json").read_text()) == before
    assert as_dict(again) == as_dict(outcome)
