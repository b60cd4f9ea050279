"""Checks how far widths move by themselves, where they stop, and that they come back."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from assay.config.conformal import ConformalConfig
from assay.conformal import Adaptation, ScoredRows, adapt
from assay.conformal.calibration import parts_of
from assay.conformal.pace import Pace

CALIBRATION = 20_000


def followed(scores: list[np.ndarray], level: float, *, above_zero: bool, step_size: float = 1.0, damping: float = 0.0):
    """Quantiles (T,) of one group: the first scores calibrate, then those of each step are judged."""
    at = np.repeat(np.arange(-1, len(scores) - 1), [len(each) for each in scores])
    rows = ScoredRows(np.zeros(len(at), int), np.concatenate(scores), at, at + 1)
    how = Adaptation((level,), step_size, damping_rows=damping, above_zero=(above_zero,))
    return adapt(rows, [-1], how, stop=len(scores)).quantiles[:, 0, 0]


def normal(rows: int, seed: int, deviation: float = 1.0) -> np.ndarray:
    return deviation * np.random.default_rng(seed).standard_normal(rows)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("above_zero", [True, False])
@pytest.mark.parametrize("grown", [0.8, 0.9, 1.1, 1.2])
def test_a_step_size_of_one_sets_right_at_once_what_normal_errors_were_off(level, above_zero, grown):
    kind = np.abs if above_zero else np.asarray
    one = NormalDist(0, grown)
    *_, given = followed([kind(normal(CALIBRATION, 1)), kind(normal(1_000, 2, grown))], level, above_zero=above_zero)
    held = 2 * one.cdf(given) - 1 if above_zero else one.cdf(given)
    fitted = NormalDist().inv_cdf((1 + level) / 2 if above_zero else level)
    off = (2 * one.cdf(fitted) - 1 if above_zero else one.cdf(fitted)) - level
    assert abs(held - level) < 0.35 * abs(off) + 0.02


def test_widths_stop_where_more_would_only_have_to_be_undone():
    """Errors of 0 for 60 steps, then as before; outcomes that are all missed for as long."""
    calibration, usual = np.abs(normal(CALIBRATION, 1)), np.abs(normal(50, 3))
    told = {"step_size": 0.45, "damping": 15.0, "above_zero": True}
    calm = followed([calibration, *[np.zeros(50)] * 60, *[usual] * 8], 0.8, **told)
    assert calm[60] == pytest.approx(0.05 * np.quantile(np.r_[calibration, np.zeros(3_000)], 0.8), rel=0.01)
    assert (usual <= calm[64]).mean() > 0.7
    missed = followed([calibration, *[np.full(50, 1e9)] * 60], 0.8, **told)
    assert missed[60] == pytest.approx(10 * np.quantile(np.r_[calibration, np.full(3_000, 1e9)], 0.8), rel=0.01)


def test_quantiles_of_scores_on_both_sides_of_0_are_never_below_all_of_them():
    scores = normal(500, 4) - 3.0
    found = followed([scores, *[np.full(50, -99.0)] * 40], 0.9, above_zero=False)
    assert found[1] < found[0] < 0
    assert (found >= -99.0).all()


def test_too_few_rows_stay_infinite_and_one_value_is_kept():
    few = followed([np.ones(3), np.ones(2), np.ones(2)], 0.9, above_zero=False)
    assert np.isposinf(few).all()
    same = followed([np.ones(60), np.ones(10), np.full(10, 2.0)], 0.8, above_zero=False)
    assert (same[:2] == 1.0).all()


def test_each_way_has_a_step_size_and_a_damping_of_its_own_unless_they_are_said():
    def pace(classes: bool = False, **settings) -> Pace:
        return Pace.of(ConformalConfig(adaptive=True, **settings), step_days=7.0, delay_days=1.0, classes=classes)

    assert (pace().way, pace().step_size, pace().damping_rows, pace().step_days) == ("widths", 0.45, 15.0, 7.0)
    assert (pace(classes=True).way, pace(classes=True).step_size, pace(classes=True).damping_rows) == (
        "aci",
        0.2,
        100.0,
    )
    aci = pace(adaptive_way="aci", step_size=0.0, damping_rows=0.0, step_days=1.0)
    assert (aci.step_size, aci.damping_rows, aci.step_days) == (0.0, 0.0, 1.0)
    assert pace().adaptation(parts_of("absolute", (0.8, 0.9)), 5).above_zero == (True, True)
    assert pace().adaptation(parts_of("signed", (0.8,)), 5).above_zero == (False, False)
    assert pace(adaptive_way="aci").adaptation(parts_of("absolute", (0.8,)), 5).above_zero == ()
    assert Pace.from_dict(pace().to_dict()) == pace()


@pytest.mark.parametrize(
    "wrong", [{"above_zero": (True, True)}, {"above_zero": (True,), "bounded": False}, {"step_sizes": (0.1,)}]
)
def test_widths_refuse_what_they_do_not_do(wrong):
    with pytest.raises(ValueError, match="above_zero must be one of each of 1 levels"):
        Adaptation((0.8,), 0.1, **({"above_zero": (True,)} | wrong))
