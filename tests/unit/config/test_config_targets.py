"""Consumes targets of every task, checks what they mean and that contradictions are told with their keys."""

from __future__ import annotations

import pytest

from assay.config import DatasetConfig, ProfileConfig, TargetConfig
from assay.config.consistency import check_dataset
from assay.config.strict import check
from assay.errors import ConfigError
from assay.model.outcome import Outcome


def dataset(*targets, **more):
    tree = {
        "name": "shop",
        "source": {"path": "shop.csv"},
        "time": {"column": "day"},
        "entity": ["town"],
        "targets": list(targets),
        **more,
    }
    found = check(DatasetConfig, tree, origin="shop.yml")
    check_dataset(found, "shop.yml")
    return found


BINARY = {"name": "churn", "task": "binary", "positive": "Yes"}


@pytest.mark.parametrize(
    ("target", "classes"),
    [
        ({"name": "price"}, ()),
        ({"name": "flag", "task": "binary"}, ("0", "1")),
        (BINARY, ("not Yes", "Yes")),
        ({**BINARY, "negative": "No"}, ("No", "Yes")),
        ({"name": "left", "task": "binary", "positive": True, "negative": False}, ("false", "true")),
        ({"name": "up", "column": "price", "task": "binary", "above": 5}, ("not above", "above")),
        ({"name": "grade", "task": "multiclass", "classes": ["low", 2, 3]}, ("low", "2", "3")),
    ],
)
def test_classes_by_their_code(target, classes):
    (found,) = dataset(target).targets
    assert found.class_names == classes
    assert found.decides == bool(classes)
    assert Outcome.of(found).classes == classes


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (
            {**BINARY, "transform": "log"},
            r"targets\[0\]\.transform has no use with task binary; it is of task regression",
        ),
        ({**BINARY, "relative_to": "last_value"}, r"targets\[0\]\.relative_to has no use"),
        ({**BINARY, "classes": ["a", "b"]}, r"targets\[0\]\.classes has no use with task binary"),
        ({"name": "price", "positive": "Yes"}, r"targets\[0\]\.positive has no use with task regression"),
        ({"name": "price", "above": 3.0}, r"targets\[0\]\.above has no use with task regression"),
        ({"name": "grade", "task": "multiclass"}, r"targets\[0\]\.classes: task multiclass needs all classes"),
        ({"name": "grade", "task": "multiclass", "classes": ["a", "a"]}, r"targets\[0\]\.classes: 'a' comes twice"),
        ({**BINARY, "negative": "Yes"}, r"targets\[0\]\.negative: 'Yes' comes twice"),
        ({"name": "flag", "task": "binary", "negative": "No"}, r"targets\[0\]\.negative needs positive"),
        ({**BINARY, "column": "price", "above": 3}, r"targets\[0\]\.above and positive"),
        ({"name": "up", "task": "binary", "above": "last_value"}, r"targets\[0\]\.column: name the numeric column"),
        ({"name": "up", "task": "binary", "above": "last_valu"}, r"targets\[0\]\.above"),
        ({"name": "up", "task": "clustering"}, r"targets\[0\]\.task"),
    ],
)
def test_contradictions_are_told(target, told):
    with pytest.raises(ConfigError, match=told):
        dataset(target)


def test_what_a_target_is_made_from_is_no_input():
    up = {"name": "up", "column": "price", "task": "binary", "above": "last_value"}
    with pytest.raises(ConfigError, match=r"column 'price' is both a target and in columns\.numeric"):
        dataset(up, columns={"numeric": ["price"]})
    with pytest.raises(ConfigError, match=r"'feeling' is both a target and in columns\.categorical"):
        dataset({**BINARY, "column": "feeling"}, columns={"categorical": ["feeling"]})
    found = dataset(up, columns={"outcomes": ["price", "sold"]})
    assert found.numeric_columns == ("price", "sold")
    with pytest.raises(ConfigError, match="compares 'churn', which is no number"):
        dataset(BINARY, {**up, "column": "churn"})


def test_columns_of_several_targets():
    found = dataset(
        {"name": "price"},
        {**BINARY, "name": "left", "column": "churn"},
        {"name": "up", "column": "price", "task": "binary", "above": "last_value"},
        {"name": "big", "column": "volume", "task": "binary", "above": 10},
    )
    assert found.numeric_columns == ("price", "left", "volume")
    assert found.source_columns == ("day", "town", "price", "churn", "volume")
    assert [t.name for t in found.observed_targets] == ["price", "left", "volume"]
    assert set(found.labels) == {"left"}


def test_quantiles_are_of_numbers_alone():
    engine = ProfileConfig().engine
    assert engine.quantiles == ()
    assert Outcome.of(TargetConfig("price"), (0.9, 0.1)).levels == (0.1, 0.9)
    assert Outcome.of(TargetConfig("flag", task="binary"), (0.1, 0.9)).levels == ()
