"""Alphas of several step sizes against a plain loop of the published algorithm, in any order and with any delay."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from adaptive_cases import STOP, TREE, assert_same, scored, shuffled
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.conformal import Adaptation, ScoredRows, adapt
from assay.conformal.calibration import parts_of
from assay.conformal.experts import STEP_SIZES, learning_rate
from assay.conformal.pace import EXPERTS, Pace

DTACI = Adaptation((0.8, 0.9), 0.0, damping_rows=0, min_rows=1, bounded=False, step_sizes=STEP_SIZES)


def plain(scores, at, known, how: Adaptation, level: float, *, stop: int):
    """DtACI as the paper has it, a row at a time, in floats; a step's rows by their mean. Returns alphas (T,)."""
    aim, gammas, horizon = 1 - level, np.array(how.step_sizes), how.horizon
    k = len(gammas)
    eta = np.sqrt(3 / horizon) * np.sqrt(
        (np.log(k * horizon) + 2) / ((1 - aim) ** 2 * aim**3 + aim**2 * (1 - aim) ** 3)
    )
    assert eta == pytest.approx(learning_rate(aim, k, horizon))
    sigma, weights, alphas = 1 / (2 * horizon), np.ones(k), np.full(k, aim)
    said, found, betas = [], [], {}
    for step in range(stop):
        heard = [row for row in range(len(scores)) if known[row] == step and at[row] >= 0]
        if heard:
            gain = len(heard) / (len(heard) + how.damping_rows)
            beta = np.array([betas[row] for row in heard])[:, None]
            then = np.array([said[at[row]] for row in heard])
            loss = (aim * (beta - then) - np.minimum(0, beta - then)).mean(axis=0)
            weights = weights * np.exp(-eta * gain * loss)
            total = weights.sum()
            weights = (1 - sigma) * weights + total * sigma / k
            alphas = alphas + gammas * gain * (aim - (then >= beta - 1e-12).mean(axis=0))
            if how.bounded:
                alphas = np.clip(alphas, 0, 1)
        said.append(alphas)
        found.append(float((weights / weights.sum() * alphas).sum()))
        usable = [
            s for s, a, known_at in zip(scores, at, known, strict=True)
            if known_at <= step and (how.window is None or step - a <= how.window)
        ]  # fmt: skip
        for row in np.flatnonzero(at == step):
            betas[row] = (1 + sum(s >= scores[row] for s in usable)) / (len(usable) + 1)
    return np.array(found)


def series(seed, *, per_step=1, delay=1, steps=150):
    rng = np.random.default_rng(seed)
    at = np.repeat(np.arange(-40, steps), per_step)
    scores = rng.exponential(size=len(at)) * np.where(at >= 60, 3.0, 1.0)
    known = np.where(at < 0, 0, at + delay + rng.integers(0, delay, len(at)))
    return ScoredRows(np.zeros(len(at), dtype=int), scores, at, known)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"per_step": 7, "delay": 3},
        {"per_step": 5, "how": {"damping_rows": 10.0, "window": 30, "bounded": True}},
        {"how": {"step_sizes": (0.3, 0.05), "horizon": 20.0, "window": 25}},
    ],
    ids=["published", "late outcomes of many rows", "damped and bounded", "other experts"],
)
def test_alphas_are_those_of_a_plain_loop(changes):
    how = dataclasses.replace(DTACI, **changes.get("how", {}))
    rows = series(3, **{name: value for name, value in changes.items() if name != "how"})
    found = adapt(rows, [-1], how, stop=150)
    for place, level in enumerate(how.levels):
        expected = plain(rows.scores[:, 0], rows.at, rows.known, how, level, stop=150)
        np.testing.assert_allclose(found.alpha[:, 0, place], expected, atol=2e-7)
        assert np.ptp(expected) > 0.01
    for step in (0, 70, 149):  # quantiles are the conformal ones at 1 - alpha of what is known
        kept = (rows.known <= step) & (how.window is None or step - rows.at <= how.window)
        own = np.sort(rows.scores[kept, 0])
        rank = int(np.ceil((len(own) + 1) * (1 - found.alpha[step, 0, 0]) - 1e-6))
        expected = own[rank - 1] if 0 < rank <= len(own) else np.inf if rank > 0 else -np.inf
        if not (how.bounded and not np.isfinite(expected)):
            assert found.quantiles[step, 0, 0] == expected


def test_one_expert_alone_is_adaptive_inference_with_its_step_size():
    """Its intervals are those of the single step size, as long as alpha stays where scores can follow."""
    rows = series(5, per_step=4)
    one = adapt(rows, [-1], dataclasses.replace(DTACI, step_sizes=(0.05,)), stop=150)
    assert_same(one, adapt(rows, [-1], dataclasses.replace(DTACI, step_sizes=(), step_size=0.05), stop=150))


@settings(deadline=None)
@given(scored(), st.integers(0, 99), st.booleans(), st.sampled_from([None, 2.5]), st.integers(1, 6))
def test_no_order_of_rows_and_nothing_later_shows(rows, seed, bounded, halflife, min_rows):
    how = dataclasses.replace(DTACI, bounded=bounded, halflife=halflife, min_rows=min_rows, columns=(0, 1), window=5)
    whole = adapt(rows, TREE, how, stop=STOP)
    assert_same(whole, adapt(shuffled(rows, seed), TREE, how, stop=STOP))
    early = adapt(rows, TREE, how, stop=STOP - 3)
    for name in ("alpha", "quantiles", "source"):
        np.testing.assert_array_equal(getattr(early, name), getattr(whole, name)[: STOP - 3])
    served = whole.source[-1]
    np.testing.assert_array_equal(whole.alpha[-1], whole.alpha[-1][served])


def test_experts_begin_at_the_origin():
    rows = series(1)
    first = adapt(rows, [-1], DTACI, stop=50)
    with pytest.raises(ValueError, match="begin at the origin"):
        adapt(rows, [-1], DTACI, stop=60, earlier=first)
    with pytest.raises(ValueError, match="step_sizes must be above 0"):
        dataclasses.replace(DTACI, step_sizes=(0.1, 0.0))


def test_a_pace_is_read_back_and_older_ones_too():
    pace = Pace(1.0, 0.05, 10.0, way=EXPERTS)
    assert Pace.from_dict(pace.to_dict()) == pace
    parts = parts_of("absolute", (0.8,))
    assert pace.adaptation(parts, 5).step_sizes == STEP_SIZES
    single = Pace(1.0, 0.05, 10.0)
    assert single.adaptation(parts, 5).step_sizes == ()
    assert "way" not in single.to_dict()
    assert Pace.from_dict(single.to_dict()) == single
    with pytest.raises(ValueError, match="way must be one of widths, aci, dtaci"):
        Pace(1.0, 0.05, 10.0, way="other")
