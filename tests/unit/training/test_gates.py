"""Consumes figures of a test period, checks that each gate opens and closes where it should."""

from __future__ import annotations

import math

import pytest

from assay.config import AdvancedTrainingConfig
from assay.training.gates import judge

GOOD = {"test_r2": 0.8, "test_within_20pct": 75.0, "test_rmse": 9.0, "best_baseline_rmse": 10.0}
FLAGS = AdvancedTrainingConfig(min_r2_threshold=0.75, min_business_accuracy=70.0)


def failed(**changes):
    return [v.gate for v in judge({**GOOD, **changes}, FLAGS) if not v.passed]


def test_a_good_model_passes_all_gates():
    assert failed() == []
    assert [v.gate for v in judge(GOOD, FLAGS)] == ["min_r2", "min_business_accuracy", "beats_best_baseline"]


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"test_r2": 0.7499}, "min_r2"),
        ({"test_r2": math.nan}, "min_r2"),
        ({"test_within_20pct": 69.9}, "min_business_accuracy"),
        ({"test_within_20pct": math.nan}, "min_business_accuracy"),
        ({"test_rmse": 10.0}, "beats_best_baseline"),
        ({"test_rmse": 11.0}, "beats_best_baseline"),
        ({"test_rmse": math.nan}, "beats_best_baseline"),
        ({"best_baseline_rmse": math.nan}, "beats_best_baseline"),
    ],
)
def test_one_bad_figure_closes_its_gate_alone(changes, gate):
    assert failed(**changes) == [gate]


def test_a_figure_at_its_threshold_passes_but_a_tie_with_the_baseline_does_not():
    assert failed(test_r2=0.75, test_within_20pct=70.0) == []
    assert failed(test_rmse=0.0, best_baseline_rmse=0.0) == ["beats_best_baseline"]


def test_verdicts_say_figure_threshold_and_setting():
    r2, within, baseline = judge({**GOOD, "test_r2": 0.5, "test_rmse": 12345.6}, FLAGS)
    assert (r2.figure, r2.threshold) == (0.5, 0.75)
    assert "0.500" in r2.rule
    assert "training.min_r2_threshold" in r2.rule
    assert "training.min_business_accuracy" in within.rule
    assert "12,346" in baseline.rule
    assert baseline.threshold == 10.0
