"""Drawn rows and settings of adaptive inference, rows of one group, and what makes two timelines the same."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import strategies as st

from assay.conformal import Adaptation, ScoredRows, Timeline

TREE = np.array([4, 4, 5, 6, 6, 6, -1])  # segments 0 to 3 in 4 and 5, and 3 right below the top; 6 is all rows
STOP = 9
FIELDS = ("alpha", "quantiles", "rows", "source")


@st.composite
def scored(draw, columns: int = 2) -> ScoredRows:
    """Rows of the tree's segments: some calibration, some known late, some never within the timeline."""
    n = draw(st.integers(0, 45))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    at = rng.integers(-4, STOP, n)
    delay = rng.integers(1, draw(st.integers(2, 6)), n)
    known = np.where(at < 0, rng.integers(-3, 2, n), at + delay)
    if draw(st.booleans()):
        scores = rng.choice([-1.0, 0.0, 0.1, 0.2, 0.5, 1.0, np.inf], (n, columns))  # ties are the rule here
    else:
        scores = rng.exponential(size=(n, columns)) * (1 + 0.3 * at[:, None])
    return ScoredRows(rng.choice([0, 0, 0, 1, 2, 3, 6], n), scores, at, known)


adaptations = st.builds(
    Adaptation,
    levels=st.sampled_from([(0.8,), (0.5, 0.25), (0.6, 0.9, 0.7)]),
    step_size=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    damping_rows=st.sampled_from([0.0, 1.0, 7.5]),
    min_rows=st.integers(1, 6),
    window=st.sampled_from([None, 1, 3, 8]),
    halflife=st.sampled_from([None, 1.0, 2.5]),
    bounded=st.booleans(),
).flatmap(
    lambda one: st.sampled_from(
        [
            *(both := (one, dataclasses.replace(one, columns=tuple(place % 2 for place in range(len(one.levels)))))),
            *(of_widths(how, whose) for how in both for whose in (1, 2, 3)),
        ]
    )
)


def of_widths(how: Adaptation, whose: int) -> Adaptation:
    """The same where widths follow; whose: 1 for scores above 0, 2 for others, 3 for both kinds."""
    above_zero = tuple((whose, place % 2) in {(1, 0), (1, 1), (3, 0)} for place in range(len(how.levels)))
    return dataclasses.replace(how, bounded=True, above_zero=above_zero)


def series(scores, delay: int = 1, calibration=()) -> ScoredRows:
    """One row per step of one group; calibration in the steps before."""
    at = np.arange(-len(calibration), len(scores))
    values = np.concatenate([calibration, scores])
    return ScoredRows(np.zeros(len(at), dtype=int), values, at, np.where(at < 0, 0, at + delay))


def shuffled(rows: ScoredRows, seed: int) -> ScoredRows:
    return rows.where(np.random.default_rng(seed).permutation(len(rows.at)))


def assert_same(one: Timeline, other: Timeline) -> None:
    assert (one.origin, one.start, one.stop) == (other.origin, other.start, other.stop)
    for name in FIELDS:
        first, second = getattr(one, name), getattr(other, name)
        assert first.shape == second.shape, name
        np.testing.assert_array_equal(first, second, err_msg=name)
