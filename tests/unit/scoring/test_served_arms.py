"""Consumes rows of a market under deployment, checks who serves which row, and that both predictions are kept."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from assay.model.arms import place
from assay.scoring.deployed import Arms

START = dt.datetime(2024, 3, 1, tzinfo=dt.timezone.utc)
DAY = dt.timedelta(days=1)


def arms(*steps):
    return Arms("price-1-to-2", tuple((START + day * DAY, share) for day, share in steps), ("city", "kind"), "1", "2")


def market(days=10, entities=40):
    told = [(START + day * DAY, f"c{e % 8}", f"k{e // 8}") for day in range(days) for e in range(entities)]
    times, cities, kinds = zip(*told, strict=True)
    return pa.record_batch(
        {"time": pa.array(times, pa.timestamp("us", "UTC")), "city": pa.array(cities), "kind": pa.array(kinds)}
    )


def served(found, rows):
    return np.asarray(found.of_challenger(rows))


def test_rows_before_the_first_step_are_the_champions_and_a_step_begins_at_its_moment():
    found = served(arms((3, 1.0)), market())
    assert not found[: 3 * 40].any()
    assert found[3 * 40 :].all()


def test_an_entity_keeps_its_arm_as_the_share_grows():
    steps = arms((2, 0.2), (5, 0.6))
    by_day = served(steps, market()).reshape(10, 40)
    assert not by_day[:2].any()
    assert (by_day[2:5] == by_day[2]).all()
    assert (by_day[5:] == by_day[5]).all()
    assert (by_day[5] | ~by_day[2]).all()  # whom it served, it serves
    assert 0 < by_day[2].sum() < by_day[5].sum() < 40


def test_an_arm_is_that_of_the_entitys_place():
    rows, found = market(days=1), arms((0, 0.5))
    labels = [
        f"city={c}|kind={k}" for c, k in zip(*(rows.column(n).to_pylist() for n in ("city", "kind")), strict=True)
    ]
    assert served(found, rows).tolist() == [place(label, "price-1-to-2") < 0.5 for label in labels]


def test_a_row_has_its_arm_however_rows_are_cut_and_whatever_comes_later():
    rows, found = market(), arms((2, 0.3), (6, 0.5))
    whole = served(found, rows)
    parts = np.concatenate([served(found, rows.slice(start, 7)) for start in range(0, rows.num_rows, 7)])
    assert (parts == whole).all()
    longer = served(arms((2, 0.3), (6, 0.5), (8, 0.9)), rows)
    assert (longer[: 8 * 40] == whole[: 8 * 40]).all()


def test_the_number_of_who_does_not_serve_tells_rows_apart():
    rows, found = market(), arms((0, 0.4))
    its = served(found, rows)
    champion, challenger = (found.others(rows, shadow).to_pylist() for shadow in (None, "2"))
    assert champion == ["1" if one else None for one in its]
    assert challenger == [None if one else "2" for one in its]


@pytest.mark.parametrize("missing", ["city", "kind"])
def test_an_entity_without_a_name_has_an_arm_too(missing):
    rows = market(days=1)
    empty = pa.nulls(rows.num_rows, pa.string())
    rows = rows.set_column(rows.schema.get_field_index(missing), missing, empty)
    assert served(arms((0, 1.0)), rows).all()
