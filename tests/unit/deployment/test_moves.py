"""Consumes deployments and what is known of them, checks every strategy's road, and that no other road is open."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.config.deployment import DeploymentConfig, check_deployment
from assay.config.experiments import ExperimentsConfig
from assay.deployment.moves import Known, next_move
from assay.errors import AssayError, ConfigError
from assay.model.deployments import FINAL, LEGAL, Deployment, Move, State, deployment_rows, deployments_in, name_of

START = dt.datetime(2024, 3, 1, tzinfo=dt.timezone.utc)
CONFIG = DeploymentConfig(bake_days=3, watch_days=5, steps=(0.1, 0.5), share=0.4)


def planned(strategy, config=CONFIG):
    first = Move(State.PLANNED, 0.0, 0, START, "assay", "passed its gates")
    settings = dataclasses.replace(config, strategy=strategy), ExperimentsConfig(max_days=40)
    return Deployment("d1", "price", "1", "2", ("aa", "bb"), *settings, (first,))


def road(strategy, known=lambda day: Known(), days=40, config=CONFIG):
    """The moves of a deployment that is looked at daily: (day, state, share)."""
    deployment, found = planned(strategy, config), []
    for day in range(days):
        now = START + dt.timedelta(days=day)
        while (move := next_move(deployment, now, known(day))) is not None:
            deployment = deployment.moved(move)
            found.append((day, move.state.value, move.share))
    return found


def test_immediate_serves_at_once_and_is_watched():
    assert road("immediate") == [(0, "watched", 1.0), (5, "completed", 1.0)]


def test_blue_green_scores_beside_the_champion_before_it_serves_all():
    assert road("blue_green") == [(0, "shadowing", 0.0), (3, "watched", 1.0), (8, "completed", 1.0)]


def test_a_canary_goes_step_by_step():
    assert road("canary") == [
        *[(0, "split", 0.1), (3, "split", 0.5), (6, "watched", 1.0), (11, "completed", 1.0)],
    ]


@pytest.mark.parametrize(("strategy", "first"), [("ab", ("split", 0.4)), ("shadow", ("shadowing", 0.0))])
@pytest.mark.parametrize(("decision", "then"), [("promote", ("watched", 1.0)), ("reject", ("rejected", 0.0))])
def test_experiments_decide_of_arms_and_shadows(strategy, first, decision, then):
    found = road(strategy, lambda day: Known(decision if day >= 20 else "extend"))
    assert found[:2] == [(0, *first), (20, *then)]


@pytest.mark.parametrize("strategy", ["canary", "blue_green"])
def test_a_challenger_that_is_worse_for_sure_goes_no_further(strategy):
    found = road(strategy, lambda day: Known("reject", worse="loses 3 %" if day >= 2 else None))
    assert found[-1] == (2, "rejected", 0.0)


@pytest.mark.parametrize("strategy", ["canary", "blue_green"])
def test_one_that_only_saves_too_little_goes_on(strategy):
    assert road(strategy, lambda day: Known("reject"))[-1][1] == "completed"


@pytest.mark.parametrize("strategy", ["immediate", "blue_green", "canary", "ab", "shadow"])
@pytest.mark.parametrize("day", [0, 1, 4, 7])
def test_harm_takes_a_challenger_back_at_any_time(strategy, day):
    config = dataclasses.replace(CONFIG, watch_days=30)
    found = road(strategy, lambda now: Known(harm="worse by 9 %" if now >= day else None), config=config)
    assert found[-1][:2] in ((day, "rolled_back"), (day, "rejected"))
    served = any(share > 0 for _, _, share in found[:-1])
    assert found[-1][1] == ("rolled_back" if served else "rejected")
    assert found[-1][2] == 0.0


def test_bad_health_takes_back_who_serves_and_nobody_else():
    sick = Known(health=30.0)
    assert road("canary", lambda day: sick)[-2:] == [(6, "watched", 1.0), (6, "rolled_back", 0.0)]
    assert road("shadow", lambda day: sick) == [(0, "shadowing", 0.0)]


def test_a_move_repeated_is_the_same():
    deployment = planned("canary")
    first = next_move(deployment, START, Known())
    assert next_move(deployment, START, Known()) == first
    moved = deployment.moved(first)
    assert next_move(moved, START, Known()) is None


def test_a_step_begins_with_its_first_day_however_often_it_is_told():
    deployment = planned("canary").moved(next_move(planned("canary"), START, Known()))
    again = dataclasses.replace(deployment.last, at=START + dt.timedelta(days=2), why="told again")
    found = next_move(deployment.moved(again), START + dt.timedelta(days=3), Known())
    assert (found.state, found.share) == (State.SPLIT, 0.5)


@given(st.sampled_from(State), st.sampled_from(State))
def test_only_legal_moves_are_made(before, after):
    deployment = dataclasses.replace(planned("canary"), moves=(Move(before, 0.5, 1, START, "assay", ""),))
    move = Move(after, 0.5, 1, START, "somebody", "")
    if after in LEGAL[before]:
        assert deployment.moved(move).last == move
    else:
        with pytest.raises(AssayError, match=f"is {before}: it cannot become {after}"):
            deployment.moved(move)


def test_what_has_ended_stays_ended_and_time_goes_forward():
    for state in FINAL:
        ended = dataclasses.replace(planned("canary"), moves=(Move(state, 0.0, 0, START, "assay", ""),))
        assert not ended.open
        assert next_move(ended, START + dt.timedelta(days=99), Known("promote", harm="x", health=0.0)) is None
    late = Move(State.SHADOWING, 0.0, 0, START - dt.timedelta(days=1), "assay", "")
    with pytest.raises(AssayError, match="comes too late"):
        planned("shadow").moved(late)


@pytest.mark.parametrize(
    "settings", [{"steps": ()}, {"steps": (0.5, 0.5)}, {"steps": (0.5, 0.1)}, {"share": 1.0}], ids=str
)
def test_roads_that_lead_nowhere_are_refused(settings):
    check_deployment(DeploymentConfig(), "here")
    with pytest.raises(ConfigError, match="here: deployment"):
        check_deployment(DeploymentConfig(**settings), "here")


def test_the_table_keeps_the_whole_log():
    deployment = planned("canary")
    for day in range(8):
        move = next_move(deployment, START + dt.timedelta(days=day), Known(figures={"effect": 0.01, "low": None}))
        deployment = deployment.moved(move) if move is not None else deployment
    later = dataclasses.replace(planned("ab"), deployment_id="d0")
    rows = deployment_rows([deployment, later])
    assert [row["number"] for row in rows.to_pylist()] == [0, 1, 2, 3, 0]
    backwards = rows.take(list(reversed(range(rows.num_rows)))).to_pylist()
    assert deployments_in(backwards) == [deployment, later]
    assert rows.to_pylist()[1]["evidence"] == '{"effect":0.01,"low":null}'


def test_each_deployment_of_a_pair_has_a_name_of_its_own():
    log = [dataclasses.replace(planned("canary"), champion=a, challenger=b) for a, b in ("12", "12", ("1", "10"))]
    names = [name_of("price", pair, log) for pair in (("1", "1"), ("1", "2"), ("1", "10"))]
    assert names == ["price-1-to-1", "price-1-to-2-3", "price-1-to-10-2"]
