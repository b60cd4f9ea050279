"""Inputs and errors of rows, checks what the scale of normalised scores learns of them, and what it refuses."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest

from assay.conformal import Calibration, fit
from assay.conformal.difficulty import LEAST_ROWS, Difficulty
from assay.model.encoding import Encoding
from assay.model.preparation import Preparation


def hard_rows(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One input that says how large errors are, one that says nothing, and errors."""
    rng = np.random.default_rng(seed)
    inputs = rng.uniform(-2, 2, (rows, 2)).astype(np.float32)
    return inputs, np.abs(np.exp(inputs[:, 0]) * rng.standard_normal(rows))


def test_a_scale_tells_hard_rows_from_easy_ones_on_rows_it_has_not_seen():
    difficulty = Difficulty.learned(*hard_rows(4_000, seed=1), ["q", "q"])
    inputs, _ = hard_rows(1_000, seed=2)
    scale = difficulty.scale(inputs)
    assert (scale > 0).all()
    assert np.corrcoef(np.log(scale), inputs[:, 0])[0, 1] > 0.9
    again = Difficulty.from_dict(json.loads(json.dumps(difficulty.to_dict())))
    assert np.array_equal(again.scale(inputs), scale)


def test_a_scale_that_has_nothing_to_learn_makes_intervals_of_few_rows_hardly_worse():
    """Errors that no input explains: the interval score against that of one width, calibrated on the same rows."""
    worse = []
    for seed in range(6):
        random = np.random.default_rng(seed)
        inputs = random.standard_normal((2_600, 60)).astype(np.float32)
        errors = np.abs(random.standard_normal(2_600))
        scale = Difficulty.learned(inputs[:600], errors[:600], ["q"] * 60).scale(inputs[600:])
        later = errors[600:]
        scores = []
        for widths in (scale, np.ones_like(later)):
            half = np.quantile(later / widths, 0.9) * widths
            scores.append(np.mean(2 * half + 2 / 0.1 * np.maximum(later - half, 0)))
        worse.append(scores[0] / scores[1] - 1)
    assert np.mean(worse) < 0.02  # 0.07 after a hundred rounds


def outcomes(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same inputs, and outcomes that one of them moves and spreads."""
    rng = np.random.default_rng(seed)
    inputs = rng.uniform(-2, 2, (rows, 2)).astype(np.float32)
    return inputs, 3 * inputs[:, 0] + np.exp(inputs[:, 0]) * rng.standard_normal(rows)


def test_outcomes_teach_how_far_apart_they_lie_and_not_where():
    whole = dataclasses.replace(Difficulty.learned_apart(*outcomes(8_000, seed=1), ["q", "q"]), power=1.0)
    inputs, _ = outcomes(1_000, seed=2)
    scale = whole.scale(inputs)
    assert np.corrcoef(np.log(scale), inputs[:, 0])[0, 1] > 0.9
    inner = np.abs(inputs[:, 0]) < 1  # in deviations, as errors of a normal distribution would be
    assert np.median(scale[inner] / np.exp(inputs[inner, 0])) == pytest.approx(1, rel=0.25)
    again = Difficulty.from_dict(json.loads(json.dumps(whole.to_dict())))
    assert again == whole
    assert np.array_equal(again.scale(inputs), scale)


def test_a_scale_of_outcomes_is_believed_by_half_and_makes_rows_half_as_unlike():
    half = Difficulty.learned_apart(*outcomes(4_000, seed=1), ["q", "q"])
    assert half.power == 0.5
    whole = dataclasses.replace(half, power=1.0)
    inputs, _ = outcomes(1_000, seed=2)
    np.testing.assert_allclose(
        np.log(half.scale(inputs) / half.typical), np.log(whole.scale(inputs) / whole.typical) / 2, atol=1e-9
    )
    assert Difficulty.from_dict(half.to_dict()) == half
    assert half.to_dict() != whole.to_dict()


def test_quantiles_that_touch_still_leave_a_scale():
    inputs, told = outcomes(2_000, seed=1)
    flat = np.where(inputs[:, 1] < 0, 1.0, told)  # half of the rows have one outcome
    for found in (flat, np.ones(2_000)):
        scale = Difficulty.learned_apart(inputs, found, ["q", "q"]).scale(inputs)
        assert np.isfinite(scale).all()
        assert (scale > 0).all()
    assert Difficulty.learned_apart(inputs, told, ["q", "q"]).scale(inputs[:0]).shape == (0,)


def test_a_scale_of_outcomes_refuses_what_teaches_nothing():
    inputs, told = outcomes(LEAST_ROWS, seed=1)
    with pytest.raises(ValueError, match=f"needs {LEAST_ROWS} rows or more"):
        Difficulty.learned_apart(inputs[1:], told[1:], ["q", "q"])
    with pytest.raises(ValueError, match="1 of 200 outcomes are missing"):
        Difficulty.learned_apart(inputs, np.where(np.arange(LEAST_ROWS) == 3, np.inf, told), ["q", "q"])


def test_a_scale_numbers_categories_as_it_learned_them_whatever_the_model_knows():
    """A model that is fitted again has new categories, other codes for the old ones, and inputs prepared anew."""
    random = np.random.default_rng(5)
    noise, town = random.uniform(-1, 1, 2_000).astype(np.float32), random.choice(["calm", "wild"], 2_000)
    batch = pa.record_batch({"noise": noise, "town": pa.array(town.tolist())})
    centred = Preparation(("noise",), centre=np.array([0.5]), spread=np.array([2.0]))
    learned = Encoding(("noise",), {"town": ("calm", "wild")}, centred)
    errors = np.where(town == "wild", 3.0, 0.3) * np.abs(random.standard_normal(2_000))
    difficulty = Difficulty.learned(learned.matrix(batch), errors, learned.feature_types, encoding=learned)
    again = Difficulty.from_dict(json.loads(json.dumps(difficulty.to_dict())))
    assert again == difficulty
    newer = Encoding(("noise",), {"town": ("anew", "calm", "wild")})
    found = again.of(batch, newer)
    assert np.array_equal(found, difficulty.scale(learned.matrix(batch)))
    assert found[town == "wild"].min() > found[town == "calm"].max()


def test_a_calibration_carries_its_scale_and_its_version_is_of_it():
    one, other = (Difficulty.learned(*hard_rows(500, seed=seed), ["q", "q"]) for seed in (1, 2))
    made = [
        fit(
            np.ones(5),
            np.array(["a=1"] * 5, dtype=object),
            (0.8,),
            min_segment_rows=1,
            score="normalised",
            difficulty=found,
        )
        for found in (one, other)
    ]
    assert Calibration.from_dict(json.loads(json.dumps(made[0].to_dict()))) == made[0]
    assert made[0].version != made[1].version


def test_a_scale_refuses_what_teaches_nothing():
    inputs, errors = hard_rows(LEAST_ROWS, seed=1)
    with pytest.raises(ValueError, match=f"needs {LEAST_ROWS} rows or more"):
        Difficulty.learned(inputs[1:], errors[1:], ["q", "q"])
    with pytest.raises(ValueError, match="1 of 200 errors are missing"):
        Difficulty.learned(inputs, np.where(np.arange(LEAST_ROWS) == 3, np.nan, errors), ["q", "q"])
    with pytest.raises(ValueError, match="errors have shape"):
        Difficulty.learned(inputs, errors[1:], ["q", "q"])
    assert (Difficulty.learned(inputs, np.zeros(LEAST_ROWS), ["q", "q"]).scale(inputs) > 0).all()
