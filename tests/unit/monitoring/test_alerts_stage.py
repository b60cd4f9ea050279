"""Consumes runs over real Delta tables, killed, repeated and at once, checks alerts, outbox and what receivers got."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import time

import pytest
from alert_context import ALL, TARGET, Outside, day, found
from alert_receiver import HANG, PATH, listening

from assay.errors import AssayError
from assay.monitoring.alerts_outbox import Status
from assay.monitoring.alerts_stage import raise_alerts, send_waiting
from assay.monitoring.findings import Examined, Level
from assay.runtime.monitoring_tables import ALERT_DELIVERIES, ALERTS
from assay.workspace import Workspace

WRITTEN = {table.name: table for table in (ALERTS, ALERT_DELIVERIES)}

LOW, MEDIUM, HIGH, CRITICAL = Level
TO_BOTH = (
    "alerts.sinks=[log, webhook]",
    "alerts.webhook.min_level=LOW",
    "alerts.webhook.backoff_seconds=0.001",
)
IMPATIENT = (*TO_BOTH, "alerts.webhook.timeout_seconds=0.3", "alerts.webhook.budget_seconds=0.5")
KEY = "k3y-hushhush"


class Killed(BaseException):
    """The end of a process."""


@pytest.fixture
def receiver(monkeypatch):
    with listening() as one:
        monkeypatch.setenv("ASSAY_WEBHOOK_URL", one.address)
        monkeypatch.setenv("ASSAY_WEBHOOK_KEY", KEY)
        yield one


@pytest.fixture
def outside(tmp_path):
    return Outside(tmp_path, *TO_BOTH)


def run(outside, number, *findings, examined=ALL, target=TARGET, identity="run"):
    return raise_alerts(outside, target, findings, examined, day(number), identity)


def test_a_run_leaves_alerts_and_deliveries_as_they_are_declared(outside, receiver):
    raised = run(outside, 0, found(HIGH), found(LOW, "health", "", "health 61 < 70"))
    assert {one.table for one in raised.written} == set(WRITTEN)
    for name, table in WRITTEN.items():
        rows = outside.plane.read(name, version=outside.plane.version(name)).collect()
        assert rows.schema.names == table.schema().names
        assert len(set(zip(*(rows.column(key).to_pylist() for key in table.key), strict=True))) == rows.num_rows
        assert all(meaning for _, meaning in table.columns.values())
    high, low = sorted(outside.rows("alerts"), key=lambda row: row["rule"])
    assert (high["status"], high["level"], high["opened_at"], high["seen"]) == ("open", "HIGH", day(0), 1)
    assert (low["subject"], low["message"], low["recovered_at"]) == ("", "health 61 < 70", None)
    rows = outside.rows("alert_deliveries")
    assert sorted((row["sink"], row["status"], row["level"]) for row in rows) == [
        ("log", "delivered", "HIGH"),
        ("log", "delivered", "LOW"),
        ("webhook", "delivered", "HIGH"),
        ("webhook", "delivered", "LOW"),
    ]
    assert receiver.posts[0].tree["alerts"][0]["subject"] == "rooms"


def test_an_alert_goes_through_its_life_on_record(outside, receiver):
    run(outside, 0, found(MEDIUM))
    run(outside, 1, found(CRITICAL))
    run(outside, 2)
    raised = run(outside, 3)
    (row,) = outside.rows("alerts")
    assert (row["status"], row["seen"], row["escalated_at"], row["recovered_at"]) == ("recovered", 2, day(1), day(3))
    assert [post.tree["alerts"][0]["kind"] for post in receiver.posts] == ["opened", "escalated", "recovered"]
    assert (raised.metrics["alerts_open"], raised.metrics["alerts_recovered"]) == (0.0, 1.0)
    assert raised.summary == [
        "CRITICAL recovered: drift.psi of rooms (price, 2024-01-04): PSI 0.3 > 0.2",
        "alerts of price that are open: none",
    ]


def test_a_run_again_adds_nothing(outside, receiver):
    first = run(outside, 0, found(HIGH))
    again = run(outside, 0, found(HIGH))
    assert again.alerts == first.alerts
    assert again.deliveries == first.deliveries
    assert again.notifications == ()
    assert len(receiver.posts) == 1


def test_targets_have_alerts_of_their_own(outside, receiver):
    run(outside, 0, found(HIGH), target="price")
    run(outside, 0, found(HIGH), target="größe")
    run(outside, 5, target="price")
    run(outside, 6, target="price")
    assert {(row["target"], row["status"]) for row in outside.rows("alerts")} == {
        ("price", "recovered"),
        ("größe", "open"),
    }
    assert len({row["alert_id"] for row in outside.rows("alerts")}) == 2


def test_a_run_of_an_earlier_day_changes_no_alert_and_says_so(outside, receiver):
    run(outside, 5)
    before = outside.plane.version("alerts")
    raised = run(outside, 3, found(CRITICAL))
    assert outside.plane.version("alerts") == before
    assert raised.alerts == ()
    assert raised.summary[0] == "alerts of price are those of 2024-01-06 06:00, later than this run: they stay"


def test_commits_carry_the_identity_of_the_run_and_its_day(outside, receiver):
    run(outside, 0, found(HIGH), identity="abc")
    commits = [outside.plane.last_commit(name, TARGET) for name in WRITTEN]
    assert {(one.job, one.identity) for one in commits} == {("monitor", "abc")}
    assert commits[0].details["as_of"] == day(0).isoformat()


DEATHS = [
    (table, number, when)
    for table, most in (("alerts", 1), ("alert_deliveries", 2))
    for number in range(most)
    for when in ("before", "after")
]


@pytest.mark.parametrize(("table", "number", "when"), DEATHS)
@pytest.mark.parametrize("comes_back", [1, 2])  # the same day, or the next
def test_a_run_that_is_killed_at_any_write_ends_like_one_that_was_not(
    tmp_path, receiver, table, number, when, comes_back
):
    days = {0: [found(MEDIUM)], 1: [found(CRITICAL), found(HIGH, "health", "")], 2: [found(CRITICAL)], 3: [], 4: []}
    calm = Outside(tmp_path / "calm", *TO_BOTH)
    for at, findings in days.items():
        run(calm, at, *findings)
    expected, calm_posts = sorted(calm.rows("alerts"), key=str), receiver.ids
    receiver.taken.clear()

    outside = Outside(tmp_path / "killed", *TO_BOTH)
    run(outside, 0, *days[0])
    seen = []

    def die(name):
        seen.append(name)
        if name == table and seen.count(table) == number + 1:
            raise Killed

    setattr(outside.plane, when, die)
    with pytest.raises(Killed):
        run(outside, 1, *days[1])
    setattr(outside.plane, when, lambda name: None)
    for at in range(comes_back, 5):
        run(outside, at, *days[at])
    if comes_back == 1 or not (table == "alerts" and when == "before"):
        assert sorted(outside.rows("alerts"), key=str) == expected
        assert receiver.ids == calm_posts
    else:  # the killed run left no trace: its day was not monitored, and the next one finds what is still there
        assert [one.tree["alerts"][0]["kind"] for one in receiver.taken[1:2]] == ["escalated"]
    assert all(row["status"] == "delivered" for row in outside.rows("alert_deliveries"))


def test_two_runs_at_once_lose_nothing_of_either(tmp_path, receiver):
    outside, other = Outside(tmp_path, *TO_BOTH), Outside(tmp_path, *TO_BOTH)
    run(outside, 0)
    for table in ("alerts", "alert_deliveries"):
        rules = {"alerts": ("a", "b"), "alert_deliveries": ("c", "d")}[table]

        def meanwhile(name, table=table, rule=rules[1]):
            if name == table:
                outside.plane.before = lambda _: None
                run(other, 1, found(HIGH, rule), examined=Examined.of([rule]))

        outside.plane.before = meanwhile
        run(outside, 1, found(CRITICAL, rules[0]), examined=Examined.of([rules[0]]))
    assert sorted((row["rule"], row["status"]) for row in outside.rows("alerts")) == [(r, "open") for r in "abcd"]
    rows = outside.rows("alert_deliveries")
    assert sorted(row["rule"] for row in rows if row["sink"] == "webhook") == list("abcd")
    assert {row["status"] for row in rows} == {"delivered"}
    assert len(receiver.ids) == 4


def test_a_table_that_others_write_all_the_time_ends_the_run_with_a_word(tmp_path, receiver):
    outside, other = Outside(tmp_path, *TO_BOTH), Outside(tmp_path, *TO_BOTH)
    outside.plane.before = lambda _: run(other, 0)
    with pytest.raises(AssayError, match="alerts of price: others wrote them 5 times"):
        run(outside, 0, found(HIGH))


def test_a_webhook_that_is_dead_for_days_is_an_alert_and_gets_all_when_it_is_back(outside, receiver, caplog):
    receiver.close()
    rules = ["a", "b", "c", "d", "e", "f", "g"]
    for number, rule in enumerate(rules):
        raised = run(outside, number, found(HIGH, rule), examined=Examined())
        assert raised.metrics["deliveries_pending"] == number + 1
    assert raised.summary[-1] == (
        "7 notifications wait for the webhook: no connection, or it was dropped: Connection refused"
    )
    (dead,) = (row for row in outside.rows("alerts") if row["rule"] == "webhook")
    assert (dead["level"], dead["status"], dead["opened_at"]) == ("HIGH", "open", day(2))
    assert "HIGH opened: webhook (price, 2024-01-03)" in caplog.text
    receiver.open()
    raised = run(outside, 7, examined=Examined())
    (post,) = receiver.posts
    assert [one["rule"] for one in post.tree["alerts"]] == rules  # in one digest, and not a word of the webhook itself
    assert raised.metrics["deliveries_pending"] == 0
    run(outside, 8, examined=Examined())
    run(outside, 9, examined=Examined())
    assert "HIGH recovered: webhook (price, 2024-01-10)" in caplog.text
    assert len(receiver.posts) == 1


def test_what_waits_can_be_sent_without_a_run(outside, receiver):
    receiver.says(500)
    run(outside, 0, found(HIGH))
    receiver.says(200)
    version = outside.plane.version("alerts")
    raised = send_waiting(outside, TARGET, day(0), "later")
    assert [one.status for one in raised.deliveries] == [Status.DELIVERED] * 2
    assert outside.plane.version("alerts") == version
    assert len(receiver.taken) == 1


def test_a_dead_receiver_fails_no_run_and_holds_it_up_for_its_budget_alone(tmp_path, receiver):
    outside = Outside(tmp_path, *IMPATIENT)
    receiver.says(HANG)
    started = time.monotonic()
    raised = run(outside, 0, found(CRITICAL))
    assert time.monotonic() - started < 5.0  # tables included; the receiver would take 20
    assert raised.metrics["deliveries_pending"] == 1
    assert raised.notifications[0].level == CRITICAL


def test_no_secret_is_in_any_file_log_or_summary(receiver, tmp_path, caplog, capfd):
    outside = Outside(tmp_path, *IMPATIENT)
    caplog.set_level(logging.DEBUG)
    told = []
    for number, answer in enumerate([500, 404, HANG, "closed"]):
        receiver.close() if answer == "closed" else receiver.says(answer)
        told += run(outside, number, found(HIGH, f"rule {number}"), examined=Examined()).summary
    receiver.open().says(200)
    again = Outside(tmp_path, *TO_BOTH)
    told += run(again, 4, found(HIGH, "rule 4"), examined=Examined()).summary
    assert receiver.ids
    assert all(post.path == PATH for post in receiver.posts)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    rows = [outside.rows(name) for name in WRITTEN]
    output = capfd.readouterr()
    everything = f"{told} {rows} {caplog.text} {output.out} {output.err} {outside.config.resolved()}"
    assert "hushhush" not in everything
    assert b"hushhush" not in written


def test_logs_that_are_cleaned_away_do_not_turn_time_back(outside, receiver):
    run(outside, 5, found(HIGH))
    outside.plane.last_commit = lambda *_, **__: None  # as if nobody knew who wrote the tables
    assert run(outside, 3).summary[0].endswith("later than this run: they stay")


def test_times_of_tables_are_those_of_the_run_and_of_deliveries_the_clocks(outside, receiver):
    run(outside, 0, found(HIGH))
    row = outside.rows("alert_deliveries")[0]
    assert row["raised_at"] == day(0)
    assert abs(row["delivered_at"] - dt.datetime.now(dt.timezone.utc)) < dt.timedelta(minutes=1)


def test_figures_and_rows_survive_a_round_trip_whatever_they_are(outside, receiver):
    odd = dataclasses.replace(
        found(HIGH), value=float("inf"), limit=None, message="größer 東京 'x'; \"y\"", subject="a=b|c"
    )
    first = run(outside, 0, odd)
    again = run(outside, 0, odd)
    assert again.alerts == first.alerts
    assert again.alerts[0].value == float("inf")
    assert (ALERTS.partition_by, ALERT_DELIVERIES.partition_by) == (("target",), ("target",))


def test_a_workspace_lists_the_tables_of_alerts_with_the_others(outside, receiver, tmp_path):
    run(outside, 0, found(HIGH))
    (tmp_path / "assay.json").write_text("{}", encoding="utf-8")
    listed = {row["table"]: (row["rows"], row["stage"]) for row in Workspace(tmp_path).tables().to_dicts()}
    assert listed == {"alerts": (1, "monitoring"), "alert_deliveries": (2, "monitoring")}
