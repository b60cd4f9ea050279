"""Consumes rows as tables would have them after a season, checks what is said of each fault, and every figure."""

import dataclasses
import datetime as dt
import math
from collections import Counter

import polars as pl
import pytest

from assay.season.faults import FIRST_DAY, calendar_of
from assay.season.judge import Seen, apart, bad_share, coverage_of, coverages, false_criticals, judged
from assay.season.market import NEW_REGION
from assay.season.outcome import missed

DAY = dt.timedelta(days=1)
CALENDAR = calendar_of(180, 7, {"deploy"})
NOTHING = Seen([], [], [], [], [], [], pl.DataFrame())
BAD, GOOD = "bad0", "good"


def fault(kind):
    return CALENDAR.fault(kind)


def noon(day):
    return dt.datetime.combine(day, dt.time(12), dt.timezone.utc)


def word(rule, day, level="HIGH", kind="opened", number="n1"):
    told = {"rule": rule, "subject": "", "level": level, "kind": kind, "raised_at": noon(day), "message": "so it is"}
    return {**told, "notification_id": number}


def drift(column, day, *, reasons=("distribution",), new=(), segment=""):
    told = {"column": column, "as_of": day.isoformat(), "segment": segment, "drifted": True, "psi": 0.5}
    return {**told, "reasons": list(reasons), "new_categories": list(new)}


def move(state, share, day, number=1, challenger="2"):
    return {"state": state, "share": share, "at": noon(day), "number": number, "challenger_version": challenger}


def said(shares):
    """Predictions of 100 entities a day; shares: day -> share of the bad challenger."""
    rows = []
    for day, share in shares.items():
        models = [BAD] * round(100 * share) + [GOOD] * (100 - round(100 * share))
        rows += [{"entity": f"e{i}", "day": day, "model_version": model} for i, model in enumerate(models)]
    return pl.DataFrame(rows)


def verdict(kind, **seen):
    return next(one for one in judged(CALENDAR, dataclasses.replace(NOTHING, **seen)) if one.fault.kind == kind)


def test_where_nothing_was_noticed_no_fault_went_as_expected():
    found = judged(CALENDAR, NOTHING)
    assert [one.fault.first for one in found] == sorted(one.first for one in CALENDAR.faults)
    assert not any(one.good for one in found)


@pytest.mark.parametrize("rule", ["error", "coverage"])
@pytest.mark.parametrize(("days", "good"), [(-1, False), (2, False), (3, True), (6, True), (7, False)])
def test_a_price_level_is_noticed_by_an_alert_of_misses_that_it_made_in_time(rule, days, good):
    day = fault("price_level").first + days * DAY
    assert verdict("price_level", notifications=[word(rule, day)]).noticed == (day if good else None)
    assert not verdict("price_level", notifications=[word("drift", day)]).good
    assert not verdict("price_level", notifications=[word(rule, day, kind="continues")]).good
    assert not verdict("price_level", notifications=[word(rule, day, kind="recovered")]).good


def test_the_first_alert_in_time_is_the_one_that_counts():
    first = fault("price_level").first
    words = [word("error", first + 5 * DAY), word("coverage", first + 4 * DAY), word("error", first - DAY)]
    assert verdict("price_level", notifications=words).noticed == first + 4 * DAY


def test_a_new_segment_is_noticed_where_drift_names_it():
    first = fault("new_segment").first
    named = drift("region", first, reasons=("new_categories",), new=(NEW_REGION,))
    assert verdict("new_segment", drift=[named]).noticed == first
    assert not verdict("new_segment", drift=[drift("region", first)]).good
    assert not verdict("new_segment", drift=[{**named, "column": "kind"}]).good
    assert not verdict("new_segment", drift=[{**named, "as_of": (first + 5 * DAY).isoformat()}]).good
    assert not verdict("new_segment", drift=[{**named, "segment": "kind=k000"}]).good


def test_a_broken_column_is_noticed_where_its_distribution_drifted():
    first = fault("broken_feature").first
    rows = [drift("condition", first + 3 * DAY), drift("condition", first + 2 * DAY)]
    assert verdict("broken_feature", drift=rows).noticed == first + 2 * DAY
    assert not verdict("broken_feature", drift=[drift("condition", first, reasons=("missing",))]).good
    assert not verdict("broken_feature", drift=[drift("size", first)]).good


def test_a_killed_job_is_good_where_it_died_and_its_twin_has_the_same():
    day = fault("killed_score").first.isoformat()
    died = {"event": "killed", "day": day, "job": "score", "died": True}
    same = {"event": "outlived", "day": day, "job": "score", "same": True}
    assert verdict("killed_score", events=[died, same]).good
    assert not verdict("killed_score", events=[{**died, "died": False}, same]).good
    assert not verdict("killed_score", events=[died, {**same, "same": False}]).good
    assert not verdict("killed_score", events=[died]).good
    assert not verdict("killed_ingest", events=[died, same]).good


def test_a_corrupted_champion_is_good_where_it_was_refused_for_what_it_is():
    day = fault("corrupted_artifact").first.isoformat()
    told = "model season.price version 1: file booster.ubj was changed after it was saved; refusing to load it"
    assert verdict("corrupted_artifact", events=[{"event": "refused", "day": day, "error": told}]).good
    assert not verdict("corrupted_artifact", events=[{"event": "refused", "day": day, "error": "KeyError"}]).good


def test_a_dead_webhook_is_good_where_it_told_of_itself_and_nothing_was_lost():
    first = fault("dead_webhook").first
    alert = [word("webhook", first + 3 * DAY)]
    posted = [word("error", first, number="a"), word("error", first, number="b")]
    good = verdict("dead_webhook", notifications=alert, posted=posted, received=["b", "a", "a"])
    assert good.noticed == first + 3 * DAY
    lost = verdict("dead_webhook", notifications=alert, posted=posted, received=["b"])
    assert (lost.good, "1 never arrived" in lost.told) == (False, True)
    assert not verdict("dead_webhook", notifications=[], posted=posted, received=["a", "b"]).good


EVENT = {
    "event": "challenger",
    "day": CALENDAR.fault("bad_challenger").first.isoformat(),
    "number": "2",
    "model_version": BAD,
}


class TestBadChallenger:
    first = CALENDAR.fault("bad_challenger").first

    def judge(self, *moves, shares=None):
        served = said({self.first + DAY: 0.25} if shares is None else shares)
        return verdict("bad_challenger", events=[EVENT], moves=moves, said=served)

    @pytest.mark.parametrize("state", ["rolled_back", "rejected", "aborted"])
    def test_it_is_good_where_it_was_taken_back_in_time(self, state):
        back = self.first + 9 * DAY
        moves = [move("planned", 0, self.first, 0), move("split", 0.25, self.first), move(state, 0, back, 2)]
        assert self.judge(*moves).noticed == back
        assert not self.judge(*moves[:2]).good
        assert not self.judge(*moves[:2], move(state, 0, self.first + 17 * DAY, 2)).good

    def test_it_is_not_where_it_went_on_to_serve_more(self):
        back = move("rolled_back", 0, self.first + 9 * DAY, 3)
        assert not self.judge(move("split", 0.25, self.first), move("split", 0.5, self.first + 8 * DAY, 2), back).good
        assert not self.judge(move("watched", 1.0, self.first + 8 * DAY, 2), back).good

    def test_it_is_not_where_it_served_more_than_its_share(self):
        moves = [move("split", 0.25, self.first), move("rolled_back", 0, self.first + 5 * DAY, 2)]
        assert self.judge(*moves, shares={self.first: 0.1, self.first + DAY: 0.25}).good
        assert not self.judge(*moves, shares={self.first: 0.1, self.first + DAY: 0.26}).good

    def test_moves_of_others_are_not_its_own(self):
        assert not self.judge(move("rolled_back", 0, self.first + 5 * DAY, challenger="3")).good
        assert not verdict("bad_challenger", moves=[move("rejected", 0, self.first + DAY)]).good

    def test_its_share_is_the_largest_of_any_day(self):
        shares = {self.first: 0.1, self.first + DAY: 0.3, self.first + 2 * DAY: 0.0}
        seen = dataclasses.replace(NOTHING, events=[EVENT], said=said(shares))
        assert bad_share(seen) == pytest.approx(0.3)
        assert bad_share(dataclasses.replace(seen, events=[])) == 0.0

    def test_entities_that_are_not_there_on_a_day_count_all_the_same(self):
        served = said({self.first: 0.0, self.first + DAY: 0.3})
        some = served.filter((pl.col("day") == self.first) | (pl.col("model_version") == BAD))
        seen = dataclasses.replace(NOTHING, events=[EVENT], said=some)
        assert bad_share(seen) == pytest.approx(0.3)


def test_false_criticals_are_new_critical_words_that_no_fault_explains():
    quiet = CALENDAR.fault("new_segment").first - DAY
    assert not CALENDAR.explains(quiet, quiet)
    words = [word("error", quiet, "CRITICAL"), word("error", quiet, "HIGH"), word("health", quiet, "CRITICAL")]
    words += [word("error", quiet, "CRITICAL", "continues"), word("error", fault("price_level").first, "CRITICAL")]
    assert false_criticals(CALENDAR, dataclasses.replace(NOTHING, notifications=words)) == [words[0], words[2]]


def test_a_change_that_stays_explains_what_is_compared_with_days_before_it():
    shock = fault("price_level")
    late = shock.echo + 5 * DAY
    seen = dataclasses.replace(NOTHING, notifications=[word("error", late, "CRITICAL")])
    for reference, false in ((shock.first - DAY, 0), (shock.first, 1)):
        assert len(false_criticals(CALENDAR, dataclasses.replace(seen, references={late: reference}))) == false


def test_rows_that_are_missing_and_that_are_there_too_often_are_told_apart():
    expected = Counter({("a", 1): 1, ("b", 1): 1, ("c", 1): 1})
    assert apart(expected, Counter({("a", 1): 1, ("b", 1): 3, ("d", 1): 1})) == (1, 3)
    assert apart(expected, expected) == (0, 0)


def test_coverage_is_of_what_was_said_against_what_came():
    days = [FIRST_DAY, FIRST_DAY + DAY]
    rows = [("a", days[0], 1.0, 3.0), ("b", days[0], 1.0, 3.0), ("a", days[1], 1.0, 3.0), ("b", days[1], None, None)]
    told = pl.DataFrame(rows, schema=["entity", "day", "lower_80", "upper_80"], orient="row")
    prices = [("a", days[0], 2.0), ("b", days[0], 3.5), ("a", days[1], 1.0), ("b", days[1], 2.0)]
    outcomes = pl.DataFrame(prices, schema=["entity", "day", "price"], orient="row")
    found = coverages(told, outcomes)
    assert found.rows() == [(days[0], 2, 1), (days[1], 2, 1)]  # no interval holds nothing
    assert coverage_of(found) == (0.5, 0.5)


def test_the_worst_month_is_of_thirty_days_in_a_row():
    days = [FIRST_DAY + place * DAY for place in range(90)]
    held = [8] * 30 + [5] * 30 + [9] * 30
    frame = pl.DataFrame({"day": days, "known": [10] * 90, "held": held})
    assert coverage_of(frame) == (pytest.approx(22 / 30), pytest.approx(0.5))
    assert coverage_of(frame.head(10)) == (pytest.approx(0.8), pytest.approx(0.8))
    assert all(math.isnan(one) for one in coverage_of(frame.clear()))


GOOD_FIGURES = {
    **dict.fromkeys(("undetected_faults", "rows_lost", "rows_duplicated"), 0.0),
    "false_critical_alerts": 1.0,
    "coverage_80": 0.795,
    "worst_month_coverage_80": 0.76,
}


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("undetected_faults", 1.0),
        ("rows_lost", 1.0),
        ("rows_duplicated", 1.0),
        ("false_critical_alerts", 2.0),
        ("coverage_80", 0.785),
        ("coverage_80", 0.815),
        ("coverage_80", float("nan")),
        ("worst_month_coverage_80", 0.745),
    ],
)
def test_a_broken_promise_is_told(figure, value):
    assert missed(GOOD_FIGURES, CALENDAR) == []
    (told,) = missed({**GOOD_FIGURES, figure: value}, CALENDAR)
    assert figure in told or "30 days" in told
    short = calendar_of(30, 7, set())
    assert len(missed({**GOOD_FIGURES, figure: value}, short)) == ("coverage" not in figure)
