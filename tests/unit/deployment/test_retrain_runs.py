"""Consumes monitored workspaces with real registries, checks what `retrain` queues, runs, repeats and tells."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os

import pytest

from assay.deployment import retrain_job
from assay.deployment import retrain_queue as q
from assay.deployment.retrain_table import QueueTable
from assay.deployment.retrain_triggers import Trigger
from assay.errors import AssayError, DataError, UserError
from assay.runtime.deployment_tables import UNDERPERFORMERS
from assay.runtime.job import DONE, REFUSED, UNCHANGED, Result
from assay.runtime.monitoring_tables import DRIFT_DETECTIONS, HEALTH, PERFORMANCE

DAYS = ("2024-01-01", "2024-01-08", "2024-01-15")


class Trainer:
    """Stands in for training: registers a new version, or does what it is told. asked: targets, in order."""

    def __init__(self, lab):
        self.lab, self.asked, self.acts = lab, [], []

    def __call__(self, inside, target):
        self.asked.append(target)
        with inside.reporter.step("fitting"):
            act = self.acts.pop(0) if self.acts else None
            if act is not None:
                return act()
            trained = self.lab.train(target=target)
            self.lab.register(trained)
            return Result("train", DONE, trained.run_id, "i", {"test_rmse": 1.0}, {}, ["learned anew"])


@pytest.fixture
def trainer(lab):
    return Trainer(lab)


def monitor(lab, *, changes=(0.0, 0.3, 0.3), dates=DAYS, model=None, target="price", performance=()):
    """Rows of monitoring: how much more error there was on each date."""
    common = {"model_version": model or lab.tags(1)["assay.model_version"], "target": target}
    rows = [
        {"part": "error", "value": 10 * (1 + c), "reference": 10.0, "change": c, "low": c / 2, "as_of": d, **common}
        for c, d in zip(changes, dates, strict=True)
    ]
    lab.write(HEALTH, rows, HEALTH.schema(), target, {"target": target})
    lab.write(DRIFT_DETECTIONS, [], DRIFT_DETECTIONS.schema(), target, {"target": target})
    days = [{"target": target, "matured": True, "known": 10.0, **row} for row in performance]
    lab.write(PERFORMANCE, days, PERFORMANCE.schema(), target, {"target": target})


def retrain(lab, trainer, *overrides, date=None):
    return retrain_job.run(lab.context(*overrides, date=date), trainer)


def states(lab):
    return [row["state"] for row in sorted(lab.table("retrain_queue"), key=lambda r: (r["job_id"], r["move"]))]


def test_a_champion_that_does_badly_is_learned_anew_once(lab, trainer):
    lab.add()
    monitor(lab)
    result = retrain(lab, trainer)
    assert (result.status, result.job, trainer.asked) == (DONE, "retrain", ["price"])
    assert states(lab) == ["queued", "leased", "done"]
    last = next(row for row in lab.table("retrain_queue") if row["is_last"])
    assert (last["triggers"], last["as_of"], last["attempt"]) == (["performance"], dt.date(2024, 1, 15), 1)
    assert last["detail"] == "model towns.price version 2 (1.0.1), serving"
    assert lab.client.get_run(last["run_id"]).data.tags["assay.job"] == "train"
    assert str(os.getpid()) in last["runner"]
    assert result.metrics["retrain_done"] == 1
    assert any("to be learned anew: the error was 13, +30.0% against 10" in line for line in result.summary)
    run = lab.client.get_run(result.run_id)
    assert (run.data.tags["assay.job"], run.data.tags["assay.status"]) == ("retrain", "done")
    again = retrain(lab, trainer)
    assert (again.status, trainer.asked, again.summary) == (UNCHANGED, ["price"], ["nothing to do"])


def test_evidence_against_a_former_champion_counts_no_more(lab, trainer):
    lab.add()
    monitor(lab)
    lab.add()
    assert retrain(lab, trainer).summary == ["nothing to do"]
    assert trainer.asked == []


def test_the_same_evidence_against_a_champion_that_stays_makes_no_second_job(lab, trainer):
    """As where challengers have to prove themselves first."""
    lab.add()
    monitor(lab)
    trainer.acts = [lambda: Result("train", DONE, "r", "i", {}, {}), lambda: Result("train", DONE, "r", "i", {}, {})]
    free = "retraining.cooldown_days=0"
    assert retrain(lab, trainer, free).metrics["retrain_done"] == 1
    assert retrain(lab, trainer, free).status == UNCHANGED
    monitor(lab, changes=(0.3, 0.3, 0.3), dates=(*DAYS[1:], "2024-01-16"))
    assert retrain(lab, trainer).status != REFUSED
    assert len(trainer.asked) == 1  # within the cooldown
    assert retrain(lab, trainer, free).metrics["retrain_done"] == 1


def test_a_run_of_an_earlier_date_does_not_know_later_ones(lab, trainer):
    lab.add()
    monitor(lab)
    assert retrain(lab, trainer, date="2024-01-10").metrics["retrain_done"] == 0
    assert trainer.asked == []


def test_a_failure_waits_is_tried_again_and_in_the_end_fails_the_run(lab, trainer):
    lab.add()
    monitor(lab)

    def dies():
        raise DataError("table features has no column 'size'\nand more")

    trainer.acts = [dies, dies]
    settings = ("retraining.retries=1", "retraining.backoff_minutes=60")
    first = retrain(lab, trainer, *settings)
    assert (first.status, first.metrics["retrain_waiting"]) == (DONE, 1)
    assert any("retraining is waiting, tried again from" in line for line in first.summary)
    assert retrain(lab, trainer, *settings).status == UNCHANGED  # not yet
    table = QueueTable(lab.plane)
    table.change(_waited)
    with pytest.raises(AssayError, match="failed for good: price after 2 attempts: table features has no column"):
        retrain(lab, trainer, *settings)
    assert states(lab) == ["queued", "leased", "waiting", "leased", "failed"]
    assert retrain(lab, trainer, *settings).status == UNCHANGED
    assert len(trainer.asked) == 2


def _waited(queue, now):
    """The queue as if the time of waiting had passed."""
    last = dataclasses.replace(queue[0].last, until=now)
    return (dataclasses.replace(queue[0], moves=(*queue[0].moves[:-1], last)), *queue[1:])


def test_a_refusal_is_an_outcome_and_no_failure(lab, trainer):
    lab.add()
    monitor(lab)
    trainer.acts = [lambda: Result("train", REFUSED, "r", "i", {}, {}, ["worse than the champion"])]
    result = retrain(lab, trainer)
    assert result.status == REFUSED
    assert states(lab) == ["queued", "leased", "refused"]
    assert retrain(lab, trainer).status == UNCHANGED


def test_a_runner_that_died_is_followed_by_another_once_its_lease_has_run_out(lab, trainer):
    lab.add()
    monitor(lab)

    class Killed(BaseException):
        pass

    def stopped():
        raise Killed

    trainer.acts = [stopped]
    with pytest.raises(Killed):  # one that has time to say so gives the job back
        retrain(lab, trainer)
    assert states(lab) == ["queued", "leased", "queued"]
    context = lab.context()
    table, config = QueueTable(lab.plane), context.config.profile.retraining
    table.change(lambda queue, now: q.taken(queue, "dead", now, config)[0])
    assert retrain(lab, trainer).metrics["retrain_under_way"] == 1
    assert len(trainer.asked) == 1
    late = QueueTable(lab.plane, lambda: dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=2))
    late.change(lambda queue, now: q.renewed(queue, queue[0].job_id, "dead", now, config, "x"))
    assert retrain(lab, trainer).metrics["retrain_done"] == 1
    assert states(lab)[-3:] == ["leased", "leased", "done"]


def test_a_job_that_was_lost_is_left_to_its_new_runner(lab, trainer):
    lab.add()
    monitor(lab)
    late = QueueTable(lab.plane, lambda: dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=1))
    config = lab.context().config.profile.retraining

    def robbed():
        late.change(lambda queue, now: q.taken(queue, "robber", now, config)[0])
        return Result("train", DONE, "r", "i", {}, {})

    trainer.acts = [robbed]
    result = retrain(lab, trainer)
    assert any("robber has it" in line for line in result.summary)
    (job,) = QueueTable(lab.plane).read()[0]
    assert (job.state, job.last.runner) == ("leased", "robber")


def test_no_more_jobs_than_may_be_under_way(lab, trainer):
    lab.add()
    monitor(lab)
    table = QueueTable(lab.plane)
    config = lab.context("retraining.concurrency=1").config.profile.retraining

    def others(queue, now):
        queue = q.opened(queue, "rent", "m", [Trigger("drift", "d")], dt.date(2024, 1, 1), now, config)
        return q.taken(queue, "elsewhere", now, config)[0]

    table.change(others)
    assert retrain(lab, trainer, "retraining.concurrency=1").metrics["retrain_queued"] == 1
    assert trainer.asked == []
    assert retrain(lab, trainer).metrics["retrain_done"] == 1


def test_a_schedule_goes_by_what_the_champion_learned_and_by_the_last_retraining(lab, trainer):
    lab.add()  # learned until 2020-01-01
    monitor(lab, changes=(0.0, 0.0, 0.0))
    run_id = lab.tags(1)["assay.run_id"]
    trainer.acts = [lambda: Result("train", UNCHANGED, run_id, "i", {}, {})] * 2
    often = "retraining.schedule_days=30"
    assert retrain(lab, trainer).status == DONE  # underperformers of the day: none
    assert retrain(lab, trainer, often).metrics["retrain_done"] == 1
    last = next(row for row in lab.table("retrain_queue") if row["is_last"])
    assert last["reasons"] == ["1475 days since 2020-01-01 (retraining.schedule_days 30)"]
    assert last["detail"] == "nothing new to learn from: model towns.price version 1 (1.0.0), serving"
    assert retrain(lab, trainer, often, date="2024-02-13").metrics["retrain_done"] == 0
    assert retrain(lab, trainer, often, date="2024-02-14").metrics["retrain_done"] == 1


def test_who_keeps_losing_is_told_and_on_record_with_its_number(lab, trainer):
    lab.add()
    shadow = lab.add(alias="challenger")
    versions = {"champion": lab.tags(1)["assay.model_version"], "shadow": lab.tags(shadow)["assay.model_version"]}
    days = [
        {"day": dt.date(2024, 1, 15) - dt.timedelta(days=b), "role": role, "model_version": version, "mse": loss}
        for b in range(28)
        for role, version, loss in (("champion", versions["champion"], 1.0), ("shadow", versions["shadow"], 2.0))
    ]
    monitor(lab, changes=(0.0, 0.0, 0.0), performance=days)
    result = retrain(lab, trainer)
    assert result.summary == [
        "price: version 2 (shadow) lost to the champion in 4 of the last 4 periods of 7 days "
        "(retraining.prune_margin 1%)"
    ]
    (row,) = lab.table("underperformers")
    assert (row["number"], row["role"], row["lost"], row["as_of"]) == (2, "shadow", 4, "2024-01-15")
    assert (row["loss"], row["champion_loss"], row["win_rate"]) == (2.0, 1.0, None)
    assert set(row) == set(UNDERPERFORMERS.columns)
    again = retrain(lab, trainer)
    assert (again.status, again.summary) == (UNCHANGED, result.summary)


def test_what_is_missing_is_told(lab, trainer):
    with pytest.raises(DataError, match=r"table health does not exist .* run the job monitor first"):
        retrain(lab, trainer)
    monitor(lab, model="m")
    assert retrain(lab, trainer).summary == ["price: no champion; run the job train first"]
    lab.add()
    monitor(lab, changes=(), dates=())
    assert retrain(lab, trainer).summary == ["price: no day was monitored; run the job monitor first"]
    context = lab.context()
    context.config = dataclasses.replace(context.config, where=(("city", "a"),))
    with pytest.raises(UserError, match="leave out --where"):
        retrain_job.run(context, trainer)


def test_nothing_is_learned_anew_while_a_challenger_is_under_way(lab, trainer):
    lab.add()
    lab.add(alias="challenger")
    monitor(lab)
    lab.deploy(("d1", ["split"], "1", "2"))
    result = retrain(lab, trainer)
    assert trainer.asked == []
    assert "deployment d1 (version 2 in place of 1) is under way: nothing newer is learned yet" in result.summary[0]
    lab.deploy(("d1", ["split", "rejected"], "1", "2"))
    retrain(lab, trainer)
    assert trainer.asked == ["price"]
