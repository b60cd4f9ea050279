"""Consumes real registries without predictions, checks what `deploy` makes of aliases, orders and runs side by side."""

from __future__ import annotations

import dataclasses

import pytest

from assay.deployment.job import Deploying, Order, plan
from assay.errors import AssayError, ConfigError, DataError, UserError
from assay.model.deployments import read_deployments
from assay.model.versions import CHALLENGER, CHAMPION

DAY = "2024-03-01"
SHADOW = "deployment.strategy=shadow"


def deploying(lab, *overrides, date=DAY, **order):
    context = lab.context(*overrides, date=date)
    return Deploying(context, context.config.dataset.targets[0], Order(**order))


def deploy(lab, *overrides, date=DAY, **order):
    return deploying(lab, *overrides, date=date, **order).run("i")


def log(lab):
    return [
        (one.deployment_id, [move.state.value for move in one.moves]) for one in read_deployments(lab.plane, "price")
    ]


def aliases(lab):
    return {alias: str(n) for alias, n in lab.client.get_registered_model(lab.name).aliases.items()}


def test_a_first_champion_needs_no_deployment(lab):
    lab.add()
    result = deploy(lab)
    assert (log(lab), result.summary) == ([], ["no deployment of price is under way"])


def test_without_a_champion_it_is_said_what_to_do(lab):
    with pytest.raises(DataError, match="is champion: run the job train first"):
        deploying(lab)


def test_a_champion_that_came_without_a_deployment_is_watched_and_then_left_alone(lab):
    lab.add()
    lab.add()
    deploy(lab)
    assert log(lab) == [("price-1-to-2", ["planned", "watched"])]
    assert deploy(lab).metrics["moves"] == 0
    deploy(lab, date="2024-03-20")
    assert log(lab) == [("price-1-to-2", ["planned", "watched", "completed"])]
    assert deploy(lab, date="2024-04-20").summary == ["no deployment of price is under way"]


def test_of_two_runs_at_the_same_time_one_moves_and_the_other_says_so(lab):
    lab.add()
    lab.add(alias=CHALLENGER)
    first, second = (deploying(lab, SHADOW) for _ in range(2))
    first.run("i")
    with pytest.raises(AssayError, match="another run moved the deployments of price at the same time"):
        second.run("i")
    assert log(lab) == [("price-1-to-2", ["planned", "shadowing"])]
    assert deploy(lab, SHADOW).metrics["moves"] == 0


def test_a_run_that_died_between_alias_and_log_is_gone_on_with(lab):
    lab.add()
    lab.add(alias=CHALLENGER)
    deploy(lab, SHADOW)
    lab.client.set_registered_model_alias(lab.name, CHAMPION, "2")
    deploy(lab, SHADOW)
    assert log(lab)[0][1] == ["planned", "shadowing", "watched"]
    lab.client.set_registered_model_alias(lab.name, CHAMPION, "1")
    deploy(lab, SHADOW)
    assert log(lab)[0][1] == ["planned", "shadowing", "watched", "rolled_back"]


def test_settings_hold_as_they_were_when_it_was_planned(lab):
    lab.add()
    lab.add(alias=CHALLENGER)
    deploy(lab, "deployment.strategy=blue_green", "deployment.bake_days=20")
    deploy(lab, "deployment.strategy=immediate", date="2024-03-15")
    assert log(lab)[0][1] == ["planned", "shadowing"]
    deploy(lab, "deployment.strategy=immediate", date="2024-03-22")
    assert log(lab)[0][1] == ["planned", "shadowing", "watched"]
    assert aliases(lab) == {CHAMPION: "2", "previous": "1"}


def test_a_challenger_that_reads_other_features_is_rejected(lab):
    lab.add()
    lab.add(alias=CHALLENGER)
    lab.client.set_model_version_tag(lab.name, "2", "assay.plan_hash", "another")
    result = deploy(lab, SHADOW)
    assert log(lab)[0][1] == ["planned", "rejected"]
    assert "`registry promote` it" in result.summary[0]
    assert aliases(lab) == {CHAMPION: "1"}


def test_an_aborted_challenger_is_not_planned_again_but_may_be_ordered(lab):
    lab.add()
    lab.add(alias=CHALLENGER)
    deploy(lab, SHADOW)
    deploy(lab, SHADOW, abort=True, by="ann", why="wrong data")
    assert log(lab) == [("price-1-to-2", ["planned", "shadowing", "aborted"])]
    assert deploy(lab, SHADOW).metrics["moves"] == 0
    deploy(lab, SHADOW, challenger="2", by="ann")
    assert log(lab)[1] == ("price-1-to-2-2", ["planned", "shadowing"])
    with pytest.raises(DataError, match="is under way: end it first"):
        deploy(lab, SHADOW, challenger="2")


def test_a_rollback_of_a_shadow_leaves_the_champion(lab):
    lab.add()
    lab.add()
    lab.add(alias=CHALLENGER)
    deploy(lab, SHADOW)
    deploy(lab, SHADOW, back=True, by="ann")
    assert aliases(lab) == {CHAMPION: "2", "previous": "1"}
    assert log(lab)[-1] == ("price-2-to-3", ["planned", "shadowing", "aborted"])


def test_it_cannot_go_back_where_there_was_nobody_before(lab):
    lab.add()
    with pytest.raises(DataError, match="no version of price has the alias previous"):
        deploy(lab, back=True)


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        (lambda config: {"where": (("city", "a"),)}, UserError, "leave out --where"),
        (lambda config: {"dataset": undated(config.dataset)}, ConfigError, "deployment.strategy=shadow: rows of towns"),
    ],
    ids=["a slice", "no time"],
)
def test_slices_and_shares_of_rows_without_a_time_are_refused(lab, changes, error, told):
    lab.add()
    context = lab.context(SHADOW, date=DAY)
    target = context.config.dataset.targets[0]
    assert plan(context, target, Order()).job == "deploy"
    context.config = dataclasses.replace(context.config, **changes(context.config))
    with pytest.raises(error, match=told):
        plan(context, target, Order())


def undated(dataset):
    return dataclasses.replace(dataset, time=dataclasses.replace(dataset.time, column=""))
