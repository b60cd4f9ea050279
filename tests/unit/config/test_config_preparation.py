"""Consumes settings of `preparation`, checks that contradictions and unknown keys are named, and what counts as on."""

import pytest

from assay.config import PreparationConfig
from assay.errors import ConfigError

KNOWN = "preparation.impute.columns.rooms={method: median}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["preparation.pca.enabled=true"],
            "preparation.pca.enabled takes no missing values, but preparation.impute.default is keep; set it to median",
        ),
        (
            ["preparation.pca.enabled=true", "preparation.impute.default=mean", KNOWN.replace("median", "keep")],
            "but preparation.impute.columns.rooms.method is keep",
        ),
        (["preparation.selection.max_features=5"], "preparation.selection.max_features needs scores; set"),
        (["preparation.selection.min_score=0.5"], "preparation.selection.min_score needs scores"),
        (["preparation.outliers.winsorize=[0.9, 0.1]"], "winsorize [0.9, 0.1]: expected a lower and a higher quantile"),
        (
            ["preparation.outliers.bounds={rooms: [9, 1]}"],
            "bounds.rooms: the lowest value 9.0 is above the highest 1.0",
        ),
        (["preparation.outliers.columns=[rooms, rooms]"], "preparation.outliers.columns lists 'rooms' twice"),
        (
            ["preparation.impute.columns.rooms={method: median, value: 3}"],
            "preparation.impute.columns.rooms.value has no use with method median",
        ),
        (["preparation.impute.columns.rooms={methd: median}"], "unknown key preparation.impute.columns.rooms.methd"),
        (["preparation.impute.columns.rooms={methd: median}"], "did you mean method?"),
        (["preparation.impute.default=ffill"], "preparation.impute.default: input should be 'keep', 'mean'"),
        (["preparation.scalling=minmax"], "did you mean preparation.scaling?"),
        (["preparation.pca.variance=1.5"], "preparation.pca.variance"),
        (["preparation.selection.method=gini"], "preparation.selection.method: input should be 'none'"),
    ],
)
def test_what_is_refused_and_the_setting_that_is_named(tree, load, overrides, message):
    with pytest.raises(ConfigError) as caught:
        load(tree, *overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        KNOWN,
        "preparation.impute.default=knn",
        "preparation.impute.indicators=true",
        "preparation.outliers.bounds={rooms: [1, 9]}",
        "preparation.outliers.winsorize=[0.01, 0.99]",
        "preparation.outliers.remove=iqr",
        "preparation.outliers.isolation_forest=flag",
        "preparation.scaling=robust",
        "preparation.selection.method=importance",
        "preparation.selection.max_correlation=0.999",
        "preparation.selection.min_variance=0",
    ],
)
def test_each_method_switches_preparation_on_and_changes_the_hash_of_its_section(tree, load, override):
    plain, changed = load(tree), load(tree, override)
    assert not plain.profile.preparation.active
    assert changed.profile.preparation.active
    assert changed.hash_of("preparation") != plain.hash_of("preparation")
    assert changed.hash_of("engine", "split") == plain.hash_of("engine", "split")


def test_sizes_alone_switch_nothing_on(tree, load):
    assert not load(tree, "preparation.sample_rows=5000", "preparation.pca.variance=0.5").profile.preparation.active
    assert not PreparationConfig().active


def test_a_dataset_overrides_the_profile_and_the_command_line_both(tree, load):
    tree["preparation"] = {
        "scaling": "robust",
        "impute": {"default": "median", "columns": {"rooms": {"method": "mean"}}},
    }
    found = load(tree, "preparation.impute.default=knn").profile.preparation
    assert (found.scaling, found.impute.default, found.impute.columns["rooms"].method) == ("robust", "knn", "mean")
    plain = load({**tree, "preparation": {}})
    assert load(tree).hash_of("dataset") == plain.hash_of("dataset")  # other features are not built for it
    assert load(tree).hash_of("preparation") != plain.hash_of("preparation")
    tree["preparation"] = {"impute": {"columns": {"rooms": {"methd": "mean"}}}}
    with pytest.raises(ConfigError, match=r"unknown key preparation.impute.columns.rooms.methd; did you mean method\?"):
        load(tree)


def test_a_column_may_have_a_rule_of_its_own(tree, load):
    impute = load(tree, "preparation.impute.columns.rooms={method: constant, value: 2}").profile.preparation.impute
    assert impute.columns["rooms"].value == 2.0
    assert impute.otherwise.method == "keep"
