"""Consumes models registered one after the other in a real MLflow store, checks semantic versions, lineage, aliases."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest

from assay.errors import DataError
from assay.model.registry import champion, champion_before, load_trained, registered, version_before, version_label
from assay.model.versions import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    RETIRED,
    SEMANTIC,
    Semantic,
    keep_taken,
    make_champion,
    pick,
    settle,
    versions_of,
)
from small_models import calibrate_model


def semantics(registry):
    return [str(one.semantic) for one in versions_of(registry.client, registry.name)]


def aliases(registry):
    return {alias: one.number for one in versions_of(registry.client, registry.name) for alias in one.aliases}


def test_training_and_calibrating_again_are_patches_features_minor_and_the_outcome_major(registry):
    first = registry.train()
    registry.register(first)
    registry.register(first, calibration=calibrate_model(first.serves, seed=9))
    registry.add()
    registry.register(registry.train(registry.changed(plan_hash="another plan")))
    fewer = dataclasses.replace(registry.model.encoding, numeric=("size",))
    scale = dataclasses.replace(registry.model.scale, anchor=None)
    narrower = registry.changed(encoding=fewer, scale=scale, plan_hash="another plan")
    registry.register(registry.train(narrower), calibration=calibrate_model(registry.model))
    wider = calibrate_model(registry.model, levels=(0.5, 0.8, 0.9))
    registry.register(registry.train(registry.changed(plan_hash="another plan")), calibration=wider)
    assert semantics(registry) == ["1.0.0", "1.0.1", "1.0.2", "1.1.0", "1.2.0", "2.0.0"]
    changes = [registry.tags(str(number))["assay.change"] for number in range(1, 7)]
    assert changes == ["first", "patch", "patch", "minor", "minor", "major"]


def test_another_meaning_of_the_target_is_a_major_change(registry):
    registry.add()
    (target,) = registry.tracking.config.dataset.targets
    moved = dataclasses.replace(registry.tracking.config.dataset, targets=(dataclasses.replace(target, column="ask"),))
    registry.tracking.config = dataclasses.replace(registry.tracking.config, dataset=moved)
    registry.add()
    scaled = dataclasses.replace(target, column="ask", transform="log")  # how it is learned is not what it is
    moved = dataclasses.replace(moved, targets=(scaled,))
    registry.tracking.config = dataclasses.replace(registry.tracking.config, dataset=moved)
    registry.add()
    assert semantics(registry) == ["1.0.0", "2.0.0", "2.0.1"]


def test_a_challenger_is_compared_with_the_champion_and_does_not_serve(registry):
    assert registry.add() == "1"
    assert registry.add(alias=CHALLENGER) == "2"
    assert registry.add(alias=CHALLENGER) == "3"
    assert aliases(registry) == {CHAMPION: 1, CHALLENGER: 3}
    assert [one.state for one in versions_of(registry.client, registry.name)] == ["serving", "registered", "challenger"]
    assert {registry.tags(number)["assay.parent"] for number in "23"} == {"1"}
    assert semantics(registry) == ["1.0.0", "1.0.1", "1.0.2"]
    trained = registry.train()
    registry.register(trained)
    assert champion_before(registry.tracking, "price", trained.run_id).number == "1"  # no challenger served before it
    assert version_before(registry.tracking, "price", registry.tags("1")["assay.run_id"]) is None


def test_a_version_that_was_removed_leaves_its_number_taken(registry):
    registry.add()
    registry.add(alias=CHALLENGER)
    keep_taken(registry.client, registry.name, [Semantic(1, 0, 1)])
    keep_taken(registry.client, registry.name, [Semantic(1, 0, 0), Semantic(0, 9, 9)])
    registry.client.delete_model_version(registry.name, "2")
    registry.add()
    assert semantics(registry) == ["1.0.0", "1.0.2"]


def test_of_two_registered_at_once_with_one_semantic_version_the_later_one_takes_the_next(registry):
    registry.add()
    registry.add()
    registry.client.set_model_version_tag(registry.name, "2", SEMANTIC, "1.0.0")
    assert str(settle(registry.client, registry.name, 1)) == "1.0.0"
    assert str(settle(registry.client, registry.name, 2)) == "1.0.1"
    assert semantics(registry) == ["1.0.0", "1.0.1"]


def test_a_registered_model_that_another_job_makes_meanwhile_is_taken(registry, monkeypatch):
    create = registry.client.create_registered_model

    def late(name):
        create(name)  # by the other job, after this one looked
        create(name)

    monkeypatch.setattr(registry.tracking.client, "create_registered_model", late)
    registry.add()
    assert semantics(registry) == ["1.0.0"]


def test_lineage_says_what_a_version_was_made_from(registry):
    registry.add()
    study = {
        "assay.study": "s1",
        "assay.study_run": "r1",
        "mlflow.source.git.commit": "c0ffee",
        "assay.git_dirty": "true",
    }
    trained = registry.train(features=7, **study)
    before = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
    number = registry.register(trained, features=8, coverage={0.8: 0.81, 0.9: 0.895})
    tags = registry.tags(number)
    run = registry.client.get_run(trained.run_id)
    expected = {
        "parent": "1",
        "parent_semantic_version": "1.0.0",
        "run_id": trained.run_id,
        "features_version": "7",
        "observations_version": "2",
        "calibration_features_version": "8",
        "code": "c0ffee-dirty",
        "config_hash": run.data.tags["assay.config_hash"],
        "study": "s1",
        "study_run_id": "r1",
        "engine": "xgboost",
        "plan_hash": "abc123",
        "learned_rows": "400",
        "learned_until": "2020-01-01T00:00:00+00:00",
        "coverage": '{"0.8": 0.81, "0.9": 0.895}',
    }
    assert {key: tags[f"assay.{key}"] for key in expected} == expected
    assert before <= dt.datetime.fromisoformat(tags["assay.registered_at"]) <= dt.datetime.now(dt.timezone.utc)
    assert "assay.parent" not in registry.tags("1")


def test_the_champion_before_stays_as_previous_and_can_be_gone_back_to(registry):
    trained = registry.train()
    registry.register(trained)
    assert aliases(registry) == {CHAMPION: 1}
    registry.add()
    assert aliases(registry) == {CHAMPION: 2, PREVIOUS: 1}
    registry.register(trained)
    assert aliases(registry) == {CHAMPION: 1, PREVIOUS: 2}
    registry.register(trained)
    assert aliases(registry) == {CHAMPION: 1, PREVIOUS: 2}


def test_a_challenger_that_becomes_champion_is_challenger_no_more_even_where_it_was_killed_half_way(registry):
    registry.add()
    registry.add(alias=CHALLENGER)
    make_champion(registry.client, registry.name, "2")
    assert aliases(registry) == {CHAMPION: 2, PREVIOUS: 1}
    registry.client.set_registered_model_alias(registry.name, CHALLENGER, "2")  # killed before the last step
    make_champion(registry.client, registry.name, "2")
    assert aliases(registry) == {CHAMPION: 2, PREVIOUS: 1}


def test_a_retired_model_that_is_registered_again_is_retired_no_more(registry):
    trained = registry.train()
    registry.register(trained)
    registry.add()
    registry.client.set_model_version_tag(registry.name, "1", RETIRED, "2024-01-01T00:00:00+00:00")
    assert versions_of(registry.client, registry.name)[0].retired
    assert registry.register(trained) == "1"
    assert not versions_of(registry.client, registry.name)[0].retired


def test_versions_are_found_by_number_semantic_version_and_alias(registry):
    registry.add()
    registry.add()
    versions = versions_of(registry.client, registry.name)
    names = ("1", "1.0.0", PREVIOUS, "2", "1.0.1", CHAMPION)
    assert [pick(versions, which).number for which in names] == [1, 1, 1, 2, 2, 2]
    assert pick(versions, "3") is None
    found = registered(registry.tracking, "price", "1.0.1")
    assert (found.number, found.semantic, found.label) == ("2", "1.0.1", "2 (1.0.1)")
    assert version_label(registry.tracking, "price", "1") == "1 (1.0.0)"
    with pytest.raises(
        DataError, match=r"no version or alias '7'; it has 1 \(1\.0\.0\), 2 \(1\.0\.1\) and champion, prev"
    ):
        registered(registry.tracking, "price", "7")


def test_versions_without_a_semantic_version_are_told_by_number_and_the_next_one_begins(registry):
    trained = registry.train()
    registry.register(trained)
    for tag in (SEMANTIC, "assay.files_sha256", "assay.output_hash", "assay.input_hash"):
        registry.client.delete_model_version_tag(registry.name, "1", tag)
    found = champion(registry.tracking, "price")
    assert (found.semantic, found.label) == ("", "1")
    registry.add()
    assert semantics(registry) == ["None", "1.0.0"]
    assert registry.tags("2")["assay.parent"] == "1"


def test_models_that_clean_up_removed_are_told_so(registry):
    trained = registry.train()
    registry.client.set_tag(trained.run_id, "assay.models_removed_at", "2024-01-01T00:00:00+00:00")
    with pytest.raises(DataError, match=r"were removed by `registry cleanup`; train again"):
        load_trained(registry.tracking, trained.run_id)
