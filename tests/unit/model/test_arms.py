"""Consumes labels of entities, checks that everybody keeps an arm, and that shares are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from assay.model.arms import place, places

NAMES = [f"store={number}" for number in range(20_000)]


def test_places_are_evenly_spread():
    found = np.sort(places(NAMES, "d1"))
    assert (found >= 0).all()
    assert (found < 1).all()
    assert np.abs(found - (np.arange(len(found)) + 0.5) / len(found)).max() < 1.63 / np.sqrt(len(found))  # KS, 1 %


def test_an_entity_has_one_place_in_any_order_and_company():
    found = dict(zip(NAMES, places(NAMES, "d1"), strict=True))
    some = [*NAMES[500:900][::-1], NAMES[0], NAMES[0]]
    assert places(some, "d1").tolist() == [found[name] for name in some]
    assert place(NAMES[3], "d1") == found[NAMES[3]]
    assert places([], "d1").shape == (0,)


def test_who_meets_a_challenger_still_does_when_its_share_grows():
    found = places(NAMES, "d1")
    small, large = found < 0.05, found < 0.25
    assert small.sum() == pytest.approx(1000, abs=4 * np.sqrt(1000 * 0.95))
    assert (large | ~small).all()


def test_another_deployment_has_other_places():
    one, other = places(NAMES, "d1"), places(NAMES, "d2")
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(len(NAMES))


def test_places_are_the_same_for_ever():
    """A place that moved with a release would give entities another arm in the middle of an experiment."""
    assert place("store=1", "d1") == 0.08799169317996092
