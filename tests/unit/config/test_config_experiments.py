"""Consumes settings of `experiments`, checks the promised defaults and what is refused."""

import pytest

from assay.config import ProfileConfig
from assay.errors import ConfigError


def test_what_experiments_promise_without_a_word_about_them():
    found = ProfileConfig().experiments
    assert (found.alpha, found.min_effect) == (0.05, 0.01)
    assert (found.min_rows, found.min_days, found.max_days, found.block_days) == (1_000, 14, 56, 7)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["experiments.max_days=13"], "experiments.max_days 13 is below experiments.min_days 14"),
        (["experiments.block_days=8"], "experiments.min_days 14 is below 2 blocks of experiments.block_days 8"),
        (["experiments.alpha=0"], "experiments.alpha"),
        (["experiments.min_efect=0.02"], "did you mean experiments.min_effect?"),
        (["experiments.harm_variance_inflation=0.5"], "experiments.harm_variance_inflation"),
    ],
)
def test_what_is_refused_and_the_setting_that_is_named(tree, load, overrides, message):
    with pytest.raises(ConfigError) as caught:
        load(tree, *overrides)
    assert message in str(caught.value)


def test_settings_of_experiments_train_nothing_anew(tree, load):
    one, other = load(tree), load(tree, "experiments.max_days=28")
    assert other.profile.experiments.max_days == 28
    assert one.hash_of("dataset", "training") == other.hash_of("dataset", "training")
