"""Consumes segment labels and times, checks that quantiles follow misses and see nothing of what is to come."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from assay.conformal import fit
from assay.conformal.following import Known, after, followed, latest, own_step_days
from assay.conformal.pace import Pace

ORIGIN = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
START = np.datetime64("2020-01-01", "us")
DAYS, TOWNS = 60, ("a", "b")
PACE = Pace(step_days=1.0, step_size=0.1, damping_rows=10.0, delay_days=2.5)


def panel(seed: int = 1, *, grows: float = 1.0) -> Known:
    """Ten rows a day of two towns of one state, 40 days before the origin and 60 after; errors grow from day 20 on."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(-40, DAYS), 10 * len(TOWNS))
    town = np.tile(np.repeat(TOWNS, 10), DAYS + 40)
    labels = np.array([f"state=x|town={name}" for name in town], dtype=object)
    times = START + day * np.timedelta64(1, "D") + np.timedelta64(6, "h")
    scores = np.abs(rng.standard_normal(len(day))) * np.where(day >= 20, grows, 1.0) * np.where(town == "a", 1.0, 3.0)
    return Known(labels, times, scores[:, None])


def calibrated(known: Known):
    before = known.times < START
    return fit(known.scores[before], known.labels[before], (0.8, 0.9), min_segment_rows=30)


def until_the_end(known: Known, pace: Pace = PACE):
    return followed(known, calibrated(known), pace, origin=ORIGIN, until=latest(known))


def test_the_first_step_has_the_quantiles_of_the_calibration():
    known = panel()
    following, calibration = until_the_end(known, Pace(1.0, 0.1, 10.0)), calibrated(known)
    labels = ["state=x|town=a", "state=x|town=new", "state=y|town=b"]
    found, used = following.quantiles_for(labels, np.arange(3), np.repeat(START, 3))
    assert [following.labels[place] for place in used] == ["state=x|town=a", "state=x", ""]
    expected, _ = calibration.quantiles_for(["state=x|town=a", "state=x", ""])
    np.testing.assert_array_equal(found, expected)


def test_what_becomes_known_later_changes_nothing_before():
    known = panel()
    changed = Known(known.labels, known.times, known.scores.copy())
    day = START + np.timedelta64(30, "D")
    changed.scores[known.times >= day] *= 50
    one, other = until_the_end(known), followed(changed, calibrated(known), PACE, origin=ORIGIN, until=latest(known))
    # predicted on day 30 at 06:00, known on day 32 at 18:00: day 33 is the first that may use it
    first = np.flatnonzero((one.timeline.quantiles != other.timeline.quantiles).any(axis=(1, 2)))[0]
    assert first == 33


def test_quantiles_grow_after_errors_have_and_coverage_comes_back():
    known = panel(grows=3.0)
    following, calibration = until_the_end(known), calibrated(known)
    new = known.times >= START + np.timedelta64(45, "D")
    distinct, rows = np.unique(known.labels[new].astype(str), return_inverse=True)
    quantiles, _ = following.quantiles_for(distinct.tolist(), rows, known.times[new])
    held = (known.scores[new] <= quantiles).mean(axis=0)
    fixed = (known.scores[new] <= calibration.quantiles_for(known.labels[new])[0]).mean(axis=0)
    assert (fixed < [0.45, 0.5]).all()
    assert held == pytest.approx([0.8, 0.9], abs=0.06)


def test_states_are_a_row_per_step_segment_and_part():
    known = panel()
    following, calibration = until_the_end(known), calibrated(known)
    table = following.table(calibration)
    assert len(table["quantile"]) == DAYS * 4 * 2
    assert set(table["segment"].to_pylist()) == {"", "state=x", "state=x|town=a", "state=x|town=b"}
    assert table["valid_from"][0].as_py() == ORIGIN
    assert table["valid_from"][-1].as_py() == ORIGIN + dt.timedelta(days=DAYS - 1)


def test_the_latest_state_knows_every_outcome():
    known = panel()
    following = followed(known, calibrated(known), PACE, origin=ORIGIN, until=after(known, PACE))
    found = following.latest()
    assert found[""].rows == len(known.times)
    assert found["state=x|town=b"].rows == len(known.times) // 2


def test_order_of_rows_changes_nothing():
    known = panel()
    order = np.random.default_rng(5).permutation(len(known.times))
    mixed = Known(known.labels[order], known.times[order], known.scores[order])
    np.testing.assert_array_equal(until_the_end(mixed).timeline.quantiles, until_the_end(known).timeline.quantiles)


@pytest.mark.parametrize(
    ("days", "step"),
    [
        ([0, 7, 14, 21], 7.0),
        ([0, 1, 2, 3, 6, 7, 8], 1.0),  # a weekend
        ([0, 31, 59, 90, 120], 28.0),
        ([0, 0, 0], 1.0),
        ([], 1.0),
    ],
)
def test_a_step_never_holds_two_dates(days, step):
    times = np.datetime64("2024-01-01T05:00", "us") + np.array(days, dtype="timedelta64[D]")
    again = np.concatenate([times, times + np.timedelta64(9, "h")])  # hours of a day are one date
    assert own_step_days(again) == own_step_days(again.astype(np.int64)) == step
