"""Consumes configurations with one wrong key or value each, checks the one line that says which and what instead."""

import copy

import pytest

from assay.config import load_dataset
from assay.errors import EXIT_USER_ERROR, ConfigError


def changed(tree, path, value):
    """A copy of the tree with the value at `path` replaced."""
    tree = copy.deepcopy(tree)
    node = tree
    for part in path[:-1]:
        node = node[part] if isinstance(part, int) else node.setdefault(part, {})
    node[path[-1]] = value
    return tree


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (("entitty",), "unknown key entitty; did you mean entity?"),
        (("source", "pth"), "unknown key source.pth; did you mean path?"),
        (("columns", "Categorical"), "unknown key columns.Categorical; did you mean categorical?"),
        (("targets", 0, "transfrm"), "unknown key targets[0].transfrm; did you mean transform?"),
        (("calendar", "contry"), "unknown key calendar.contry; did you mean country?"),
        (("training", "max_eval"), "unknown key training.max_eval; did you mean max_evals?"),
        (("time", "qqqq"), "unknown key time.qqqq (valid here: align, column, format, future, zone)"),
    ],
)
def test_an_unknown_key_of_a_dataset_has_its_path_and_the_nearest_valid_one(tree, load, tmp_path, path, message):
    wrong = changed(tree, path, "x")
    with pytest.raises(ConfigError) as caught:
        load(wrong)
    assert str(caught.value) == f"{tmp_path / 'flats.yml'}: {message}"
    assert caught.value.exit_code == EXIT_USER_ERROR
    with pytest.raises(ConfigError, match="unknown key"):
        load_dataset(tmp_path / "flats.yml")


def test_several_mistakes_are_told_at_once(tree, load):
    del tree["entity"]
    wrong = changed(changed(tree, ("source", "pth"), 1), ("duplicates",), "keep_both")
    with pytest.raises(ConfigError) as caught:
        load(wrong)
    told = str(caught.value)
    assert "unknown key source.pth" in told
    assert "entity: this key is required" in told
    assert "duplicates: input should be 'keep_first', 'keep_last' or 'allow' (found 'keep_both')" in told


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("name",), 2015, "name: expected text (put it in quotes) (found 2015)"),
        (("name",), "a b", "name: string should match pattern"),
        (("entity",), "flat", "entity: expected a list, such as [a, b] (found 'flat')"),
        (("entity",), [], "entity: list should have at least 1 item"),
        (("groups",), [[1]], "groups[0][0]: expected text"),
        (("source",), "flats.csv", "source: expected keys and values (found 'flats.csv')"),
        (("source", "path"), "", "source.path: this key is required"),
        (("source", "delimiter"), ";;", "source.delimiter: string should have at most 1 character"),
        (("targets", 0, "transform"), "ln", "targets[0].transform: input should be 'none' or 'log' (found 'ln')"),
        (("features",), {"lags": [0]}, "features.lags[0]: input should be greater than or equal to 1 (found 0)"),
        (("features",), {"lags": [1.5]}, "features.lags[0]: expected a whole number (found 1.5)"),
        (("features",), {"lags": [True]}, "features.lags[0]: expected a whole number (found True)"),
        (("bounds", "price"), [1, 2, 3], "bounds.price: list should have at most 2 items"),
        (
            ("availability_delay_days", "bids"),
            -1,
            "availability_delay_days.bids: input should be greater than or equal",
        ),
        (("training",), {"use_optuna": "yes"}, "training.use_optuna: expected true or false (found 'yes')"),
        (("training",), {"min_business_accuracy": 170}, "training.min_business_accuracy: input should be less than or"),
        (("training",), ["use_optuna"], "training: expected keys and values"),
    ],
)
def test_a_value_of_another_type_is_refused_and_never_bent(tree, load, path, value, message):
    with pytest.raises(ConfigError) as caught:
        load(changed(tree, path, value))
    assert message in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "path", [("bounds", "price", 1), ("availability_delay_days", "bids"), ("training", "min_r2_threshold")]
)
def test_nan_and_infinity_are_refused_at_any_depth(tree, load, path, value):
    with pytest.raises(ConfigError, match="expected a finite number") as caught:
        load(changed(tree, path, value))
    assert "bounds.price[1]" in str(caught.value) or path[0] != "bounds"
