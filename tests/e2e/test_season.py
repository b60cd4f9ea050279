"""Consumes short seasons through the real jobs, checks that planted faults are noticed, no row is lost, seeds hold."""

import datetime as dt
import json
import math

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import assay
from assay.runtime.session import SparkSettings
from assay.season import days as days_module
from assay.season.command import as_dict
from assay.season.faults import LABEL_DAYS, calendar_of
from assay.season.judge import coverages
from assay.season.market import Stream
from assay.season.play import play
from assay.season.record import Record
from notebook_runs import FOLDER, executed, pages

pytestmark = pytest.mark.e2e
DAYS, FEW = 30, 2
SPARK = SparkSettings("local[2]")
FRAMES = (
    *("faults", "coverage", "whole", "parts", "drifted", "alerts", "told"),
    *("shares", "moves", "looks", "jobs", "registry", "waiting", "delayed"),
)


class StoppedError(Exception):
    """Somebody stops the season."""


@pytest.fixture(scope="module")
def played(spark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("played") / "season"
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
    assert as_dict(assay.play_season(folder, days=DAYS)) == as_dict(outcome)
    assert path.read_bytes() == before
    assert not list(path.parent.glob("twin*"))


def test_the_notebook_shows_what_an_operator_needs_to_see(played, monkeypatch):
    """It only judges again; each fault and what was done about it is in its frames, on its days."""
    folder, outcome = played
    monkeypatch.setenv("ASSAY_FOLDER", str(folder.parent))
    monkeypatch.setenv("ASSAY_SEASON_DAYS", str(DAYS))
    before = (folder / "season" / "season.json").read_bytes()
    outputs, found = executed(FOLDER / "04_season.ipynb", FRAMES)
    assert (folder / "season" / "season.json").read_bytes() == before
    text = "".join(o.get("text", "") for o in outputs)
    assert all(line in text for line in outcome.lines())
    inline = pages(outputs)
    assert len(inline) == 1
    assert "&lt;title&gt;" in inline[0]
    days = {one.fault.kind: one.fault for one in outcome.happened}
    assert found["faults"]["fault"].to_list() == list(days)
    assert found["faults"]["noticed"].to_list() == [one.noticed.isoformat() for one in outcome.happened]
    check_coverage(found["coverage"], folder, outcome)
    check_health(found, days)
    check_drift_and_alerts(found, outcome)
    check_deployments(found, outcome, days["bad_challenger"])
    check_deliveries(found, days["dead_webhook"])


def check_coverage(shown, folder, outcome):
    """Of all days whose outcomes are known, what the outcome's figure is made of; of the last ones nothing."""
    dates = outcome.calendar.dates
    played = json.loads((folder / "season" / "season.json").read_text())["played"]
    expected = coverages(Record.of(folder, played).said(dates), Stream(outcome.calendar).outcomes())
    assert expected["held"].sum() / expected["known"].sum() == outcome.figures["coverage_80"]
    known = expected.filter(pl.col("day") <= dates[-1 - LABEL_DAYS])
    assert known.height == DAYS - LABEL_DAYS
    assert shown["day"].to_list() == [day.isoformat() for day in known["day"]]
    assert shown.select("known", "held").rows() == known.select("known", "held").rows()
    week = known.tail(7)
    assert math.isclose(shown["week"][-1], week["held"].sum() / week["known"].sum())


def check_health(found, days):
    """Each day has its health; the jump of prices costs some of it, and the broken feature some of that part."""
    whole, parts = found["whole"], found["parts"]
    assert whole.height == DAYS
    assert parts.height == DAYS * parts["part"].n_unique()
    for kind, frame in (("price_level", whole), ("broken_feature", parts.filter(pl.col("part") == "features"))):
        first = days[kind].first.isoformat()
        earlier, later = (frame.filter(when)["score"].min() for when in (pl.col("day") < first, pl.col("day") > first))
        assert later < earlier - 10


def check_drift_and_alerts(found, outcome):
    """What drift or an alert tells of a fault is there on the day on which it was noticed."""
    noticed = {one.fault.kind: one.noticed.isoformat() for one in outcome.happened}
    firsts = dict(found["drifted"].group_by("column").agg(pl.col("day").min()).rows())
    assert (firsts["condition"], firsts["region"]) == (noticed["broken_feature"], noticed["new_segment"])
    told, alerts = found["told"], found["alerts"]
    assert sorted(told.filter(pl.col("kind") == "opened")["alert_id"]) == sorted(alerts["alert_id"])
    assert alerts.filter(pl.col("rule") == "webhook")["start"].to_list() == [noticed["dead_webhook"]]
    misses = told.filter(pl.col("rule").is_in(["error", "coverage"]), pl.col("kind").is_in(["opened", "escalated"]))
    assert noticed["price_level"] in misses["day"].to_list()
    recovered = told.filter(pl.col("kind") == "recovered")["alert_id"]
    assert set(alerts.filter(pl.col("status") == "recovered")["alert_id"]) <= set(recovered)


def check_deployments(found, outcome, fault):
    """The bad challenger: its share of rows, its way, the look that ended it; and models that were learned later."""
    shares, moves, looks = found["shares"], found["moves"], found["looks"]
    assert shares["rows"].sum() == outcome.figures["predictions"]
    assert all(math.isclose(one, 1) for one in shares.group_by("day").agg(pl.col("share").sum())["share"])
    way = moves.filter(pl.col("deployment_id") == moves["deployment_id"][0])
    assert way["state"].to_list() == ["planned", "split", "rolled_back"]
    assert way["day"][0] == fault.first.isoformat()
    bad = int(way["challenger_version"][0])
    served = shares.filter(pl.col("number") == bad)
    assert served["share"].max() == outcome.figures["bad_challenger_share"]
    assert way["day"][0] <= served["day"].min() <= served["day"].max() <= way["day"][-1]
    last = looks.filter(pl.col("experiment") == way["deployment_id"][0]).row(-1, named=True)
    assert last["effect"] < -0.3
    assert last["harm_p"] < 0.05
    registry = {row["number"]: row for row in found["registry"].to_dicts()}
    assert registry[bad]["predictions"] == served["rows"].sum()
    assert [row["state"] for row in registry.values()].count("serving") == 1
    learned = found["jobs"].filter(pl.col("state") == "done")
    assert len(registry) == 2 + learned.height
    assert moves["challenger_version"].n_unique() == outcome.figures["challengers"]


def check_deliveries(found, fault):
    """While the receiver is dead what is raised waits, and nothing arrives; on the day it is back all of it does."""
    waiting, delayed = found["waiting"], found["delayed"]
    dead = pl.col("day").is_between(pl.lit(fault.first.isoformat()), pl.lit(fault.last.isoformat()))
    back = (fault.last + dt.timedelta(days=1)).isoformat()
    during, others = waiting.filter(dead), waiting.filter(~dead)
    assert during["arrived"].sum() == 0
    assert during["waiting"].to_list() == during["raised"].cum_sum().to_list()
    assert during["waiting"][-1] == delayed.height > 0
    assert others["waiting"].unique().to_list() == [0]
    on_the_day = others.filter(pl.col("day") != back)
    assert on_the_day["arrived"].to_list() == on_the_day["raised"].to_list()
    assert waiting["arrived"].sum() == waiting["raised"].sum() > delayed.height
    assert delayed["arrived"].unique().to_list() == [back]
    assert (delayed["attempts"] > 1).all()


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
