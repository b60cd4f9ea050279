"""Consumes days and seeds, checks which faults a season has, when they lie, and what each day does."""

import datetime as dt

import pytest

from assay.pipeline import JOBS
from assay.season.days import DAILY, Step, mode_of, steps_of
from assay.season.faults import FIRST_DAY, USUAL, calendar_of
from assay.season.judge import JUDGES

DAY = dt.timedelta(days=1)
ALL = {*JOBS, "retrain", "deploy"}
KINDS = {usual.kind for usual in USUAL}


@pytest.mark.parametrize("days", [30, 60, 180, 365])
@pytest.mark.parametrize("seed", range(20))
def test_every_fault_lies_in_the_season_with_time_to_be_noticed(days, seed):
    calendar = calendar_of(days, seed, ALL)
    assert {one.kind for one in calendar.faults} == KINDS == set(JUDGES)
    assert calendar.left_out == ()
    for fault in calendar.faults:
        assert FIRST_DAY < fault.first <= fault.last <= calendar.dates[-1]
        assert fault.first <= fault.due <= calendar.dates[-1]
        assert fault.echo >= fault.first


@pytest.mark.parametrize("seed", range(20))
def test_a_dead_webhook_comes_back_in_time_to_get_what_it_missed(seed):
    calendar = calendar_of(30, seed, ALL)
    dead, broken = calendar.fault("dead_webhook"), calendar.fault("broken_feature")
    assert dead.first == broken.first - dt.timedelta(days=1)
    modes = [mode_of(day, calendar) for day in calendar.dates]
    assert modes.count("hanging") == 2
    assert modes.count("refusing") == 4
    assert modes[-1] == "up"


def test_equal_seeds_give_equal_calendars_and_others_differ():
    assert calendar_of(180, 7, ALL) == calendar_of(180, 7, ALL)
    assert len({calendar_of(180, seed, ALL).faults for seed in range(10)}) > 5


def test_faults_of_jobs_that_are_not_there_and_those_without_time_are_left_out():
    assert calendar_of(180, 7, set(DAILY) - {"deploy"}).left_out == ("bad_challenger",)
    short = calendar_of(8, 7, ALL)
    assert {"bad_challenger", "price_level", "dead_webhook"} <= set(short.left_out)
    assert {one.kind for one in short.faults} | set(short.left_out) == KINDS
    assert all(one.due <= short.dates[-1] for one in short.faults)


def test_days_run_the_jobs_that_there_are_in_their_order():
    calendar = calendar_of(180, 7, ALL)
    quiet = calendar.dates[-1]
    assert steps_of(quiet, calendar, ALL) == [Step(job) for job in DAILY]
    assert [step.job for step in steps_of(quiet, calendar, {"ingest", "score"})] == ["ingest", "score"]


def test_what_befalls_jobs_befalls_them_on_the_days_of_the_calendar():
    calendar = calendar_of(180, 7, ALL)
    found = {(day, step) for day in calendar.dates for step in steps_of(day, calendar, ALL) if step.how != "run"}
    wanted = {
        "killed_ingest": Step("ingest", "kill"),
        "killed_score": Step("score", "kill"),
        "corrupted_artifact": Step("score", "corrupt"),
        "bad_challenger": Step("train", "poison"),
    }
    assert found == {(calendar.fault(kind).first, step) for kind, step in wanted.items()}
    corrupted = steps_of(calendar.fault("corrupted_artifact").first, calendar, ALL)
    assert corrupted.index(Step("score", "corrupt")) + 1 == corrupted.index(Step("score"))


def test_a_fault_that_began_later_is_due_and_explains_later():
    calendar = calendar_of(180, 7, ALL)
    planned, day = calendar.fault("broken_feature"), calendar.fault("broken_feature").first + 5 * DAY
    moved = calendar.postponed("broken_feature", day)
    found = moved.fault("broken_feature")
    assert (found.first, found.due, found.echo) == (day, planned.due + 5 * DAY, planned.echo + 5 * DAY)
    assert (found.last - found.first, found.kind) == (planned.last - planned.first, planned.kind)
    assert moved.starts("broken_feature", day)
    assert not moved.starts("broken_feature", planned.first)
    assert [one for one in moved.faults if one.kind != "broken_feature"] == [
        one for one in calendar.faults if one.kind != "broken_feature"
    ]
    assert moved.explains(planned.echo + 5 * DAY, planned.first)


def test_days_that_faults_explain_end_after_their_echo():
    calendar = calendar_of(180, 7, ALL)
    broken = calendar.fault("broken_feature")
    segment, after = calendar.fault("new_segment").first, broken.echo + dt.timedelta(days=1)
    assert calendar.explains(broken.first, segment)
    assert calendar.explains(broken.echo, segment)
    assert not calendar.explains(after, segment)
    assert calendar.explains(after, segment - dt.timedelta(days=1))  # what stays is in but one of the windows
    assert not calendar.explains(FIRST_DAY, FIRST_DAY)
