"""Consumes profiles with an ensemble, checks what its members are and which of them are refused."""

import pytest

from assay.config import load_run
from assay.config.ensemble import METHODS
from assay.config.members import members_of, methods_of
from assay.errors import ConfigError

ON = "training.enable_advanced_ensemble=true"


def test_the_usual_members_begin_with_the_engine_that_is_set(tree, load):
    assert list(members_of(load(tree).profile)) == ["xgboost", "catboost", "linear"]
    found = members_of(load(tree, "engine.name=knn", "engine.rounds=33", "engine.params.n_neighbors=4").profile)
    assert list(found) == ["knn", "xgboost", "catboost", "linear"]
    assert found["knn"].params == {"n_neighbors": 4}
    assert found["catboost"].params == {}
    assert {member.rounds for member in found.values()} == {33}


def test_members_have_names_of_their_own_and_what_they_change(tree, load):
    members = "ensemble.members={deep: {params: {max_depth: 9}}, forest: {name: random_forest}, linear: {}}"
    found = members_of(load(tree, ON, members, "engine.params.eta=0.1").profile)
    assert [member.name for member in found.values()] == ["xgboost", "random_forest", "linear"]
    assert found["deep"].params == {"max_depth": 9}
    assert found["forest"].params == {}
    assert found["linear"].rounds == load(tree).profile.engine.rounds


def test_only_members_that_can_keep_a_promise_are_usual(tree, load):
    assert list(members_of(load(tree, "engine.monotone.rooms=1").profile)) == ["xgboost", "catboost"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["ensemble.members={linear: {}}"], "ensemble.members has 1 member; an ensemble has 2 or more"),
        (
            ["ensemble.members={a: {name: lightgbm}, linear: {}}"],
            "ensemble.members.a.name=lightgbm: there is no such engine",
        ),
        (["ensemble.members={a: {round: 3}, linear: {}}"], "unknown key ensemble.members.a.round; did you mean rounds"),
        (["ensemble.members={a b: {}, linear: {}}"], "ensemble.members.a b: expected a name of letters"),
        (["ensemble.members={xgboost: {refit: false}, linear: {}}"], "ensemble.members.xgboost.refit: members share"),
        (
            ["ensemble.members={xgboost: {early_stopping_rounds: 0}, linear: {}}"],
            "early_stopping_rounds=0: 0 for one member is 0 for all",
        ),
        (
            ["ensemble.members={xgboost: {monotone: {rooms: 1}}, linear: {}}"],
            "xgboost.monotone: a promise of the whole",
        ),
        (
            ["engine.monotone.rooms=1", "ensemble.members={xgboost: {}, linear: {}}"],
            "ensemble.members.linear: engine.monotone is set, and linear cannot keep it; xgboost and catboost can",
        ),
        (
            ["ensemble.members={xgboost: {quantiles: [0.1, 0.9]}, catboost: {}}"],
            "ensemble.members.xgboost.quantiles: all members have the same; set engine.quantiles",
        ),
        (
            ["ensemble.members={linear: {sample_rows: 9}, knn: {}}"],
            "ensemble.members.linear.sample_rows: linear learns",
        ),
        (["ensemble.methods=[average, average]"], "ensemble.methods lists 'average' twice"),
        (["ensemble.methods=[mean]"], "ensemble.methods"),
        (["ensemble.folds=-1"], "ensemble.folds"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(tree, load, settings, message):
    with pytest.raises(ConfigError) as caught:
        load(tree, ON, *settings)
    assert message in str(caught.value)


def test_flags_leave_methods_out(tree, load):
    assert methods_of(load(tree).profile) == list(METHODS)
    plain = methods_of(load(tree, "training.use_stacking=false", "training.use_voting=false").profile)
    assert plain == ["weighted", "dynamic_rmse", "dynamic_sharpe", "dynamic_log_loss"]


def test_members_and_methods_are_part_of_what_a_training_is(tree, load):
    plain = load(tree, ON).hash_of("ensemble")
    for change in ("ensemble.folds=3", "ensemble.members={linear: {}, knn: {}}", "ensemble.methods=[average]"):
        assert load(tree, ON, change).hash_of("ensemble") != plain


def test_the_research_profile_has_an_ensemble(tree, load, tmp_path):
    load(tree)
    assert load_run(dataset=tmp_path / "flats.yml", profile="research").training.enable_advanced_ensemble
