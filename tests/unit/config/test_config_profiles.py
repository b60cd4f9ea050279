"""Consumes the profiles that ship with assay, checks flags, defaults and that every shipped file loads."""

import dataclasses

import pytest

from assay.config import AdvancedTrainingConfig, ProfileConfig, conf_root, load_dataset, load_run

FLAGS_AND_DEFAULTS = {
    "enable_advanced_features": False,
    "enable_temporal_features": True,
    "enable_market_features": True,
    "enable_interaction_features": False,
    "enable_hyperparameter_tuning": False,
    "use_optuna": True,
    "max_evals": 50,
    "enable_advanced_ensemble": False,
    "use_stacking": True,
    "use_voting": True,
    "force_production_quality": True,
    "min_r2_threshold": 0.75,
    "min_business_accuracy": 70.0,
}
CONF = conf_root()


def test_the_training_flags_and_their_defaults():
    found = dataclasses.asdict(AdvancedTrainingConfig())
    assert found == FLAGS_AND_DEFAULTS
    assert {k: type(v) for k, v in found.items()} == {k: type(v) for k, v in FLAGS_AND_DEFAULTS.items()}


def test_a_run_without_a_word_about_it_promises_80_and_90_percent():
    assert ProfileConfig().conformal.levels == (0.8, 0.9)


@pytest.mark.parametrize("profile", ["production", "research", "development"])
@pytest.mark.parametrize("dataset", sorted(p.stem for p in (CONF / "datasets").glob("*.yml")))
def test_every_shipped_dataset_loads_under_every_profile(dataset, profile):
    path = CONF / "datasets" / f"{dataset}.yml"
    config = load_run(dataset=path, profile=profile)
    assert config.dataset == load_dataset(path, profile=profile)
    assert config.dataset.name == dataset
    assert config.profile_name == profile


def test_profiles_differ_in_how_hard_they_try():
    path = CONF / "datasets" / "txhousing.yml"
    production, research, development = (
        load_run(dataset=path, profile=name) for name in ("production", "research", "development")
    )
    assert production.training.force_production_quality
    assert production.training.enable_advanced_features
    assert not research.training.force_production_quality
    assert not development.training.force_production_quality
    follow = [one.profile.conformal.adaptive for one in (production, research, development)]
    assert follow == [True, True, False]
    assert development.profile.engine.rounds < production.profile.engine.rounds < research.profile.engine.rounds


def test_configuration_is_frozen(tree, load):
    config = load(tree)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.profile.engine.rounds = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.dataset = None
