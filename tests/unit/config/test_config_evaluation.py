"""Consumes settings of `evaluation`, checks what is refused, and that a dataset's own lie over the profile's."""

import pytest

from assay.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["evaluation.act_width=2"], "evaluation.act_width 2 is above evaluation.review_width 1"),
        (["evaluation.segments=[rooms, rooms]"], "evaluation.segments lists 'rooms' twice"),
        (["evaluation.clusters.columns=[rooms, rooms]"], "evaluation.clusters.columns lists 'rooms' twice"),
        (["evaluation.clusters.numbr=3"], "did you mean evaluation.clusters.number?"),
        (["evaluation.price_bands=0"], "evaluation.price_bands"),
        (["dataset.evaluation.windowdays=3"], "evaluation.windowdays"),
    ],
)
def test_what_is_refused_and_the_setting_that_is_named(tree, load, overrides, message):
    with pytest.raises(ConfigError) as caught:
        load(tree, *overrides)
    assert message in str(caught.value)


def test_a_datasets_settings_lie_over_the_profiles_and_below_set(tree, load):
    tree["evaluation"] = {"segments": ["rooms"], "price_bands": 3}
    found = load(tree, "evaluation.price_bands=4").profile.evaluation
    assert (found.segments, found.price_bands, found.window_days) == (("rooms",), 4, 28)


def test_how_results_are_looked_at_does_not_train_anew(tree, load):
    """Only the section `evaluation` of the hash differs: training, which hashes `dataset`, stays what it was."""
    one = load(tree)
    other = load({**tree, "evaluation": {"price_bands": 3}})
    assert one.hash_of("dataset", "training") == other.hash_of("dataset", "training")
    assert one.hash_of("evaluation") != other.hash_of("evaluation")
