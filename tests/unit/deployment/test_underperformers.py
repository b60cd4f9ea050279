"""Consumes days of performance, checks which models keep losing, by whom that is said and by how much."""

from __future__ import annotations

import datetime as dt
import math

import polars as pl
import pytest

from assay.config.retraining import RetrainingConfig
from assay.deployment.underperformers import underperformers_of

CONFIG = RetrainingConfig()
LAST = dt.date(2024, 6, 30)


def day(back, role, version, mse=None, *, win_rate=None, known=10.0, matured=True, **more):
    when = LAST - dt.timedelta(days=back)
    row = {"day": when, "role": role, "model_version": version, "matured": matured, "known": known}
    return {**row, "mse": mse, "log_loss": None, "win_rate": win_rate, **more}


def found(rows, config=CONFIG, champion="c"):
    kinds = {"mse": pl.Float64, "log_loss": pl.Float64, "win_rate": pl.Float64}
    return underperformers_of(pl.DataFrame(rows, schema_overrides=kinds), champion, config)


def weeks(role, version, losses, **more):
    """A row a day; losses: by week, oldest first."""
    return [
        day(7 * (len(losses) - 1 - week) + d, role, version, loss, **more)
        for week, loss in enumerate(losses)
        for d in range(7)
        if loss is not None
    ]


CHAMPION = weeks("champion", "c", [1.0] * 6)


@pytest.mark.parametrize(
    ("losses", "lost"),
    [
        ([2, 2, 2, 2], 4),
        ([0.5, 2, 2, 2], 3),
        ([2, 2, 0.5, 2], 3),
        ([2, 2, 2, 0.5], None),  # it has caught up
        ([0.5, 0.5, 2, 2], None),
        ([2, 2, 0.5, 0.5, 0.5, 2], None),  # too long ago
        ([1.005] * 4, None),  # within the margin
        ([2, 2], None),  # too few weeks
        ([2, 2, 2], 3),
        ([2, 2, 2, None], None),  # it no longer predicts
    ],
)
def test_a_shadow_that_lost_three_of_four_weeks_and_the_newest_is_named(losses, lost):
    some = found([*CHAMPION, *weeks("shadow", "s", losses)])
    assert [one.lost for one in some] == ([lost] if lost else [])
    assert all((one.role, one.model_version) == ("shadow", "s") for one in some)


def test_figures_are_of_days_that_both_predicted_and_whose_outcomes_came_in():
    rows = [day(b, "champion", "c", 1.0) for b in range(0, 28, 2)]
    rows += [day(b, "shadow", "s", 1.5 if b % 2 == 0 else 1000.0, known=1.0 + b) for b in range(28)]
    rows += [day(-1, "shadow", "s", 0.0, matured=False), day(-1, "champion", "c", 9.0, matured=False)]
    rows += [day(-2, "shadow", "s", None, known=0.0), day(-2, "champion", "c", None, known=0.0)]
    (one,) = found(rows)
    assert (one.loss, one.champion_loss) == (1.5, 1.0)
    assert math.isnan(one.win_rate)
    assert (one.first_day, one.last_day) == (LAST - dt.timedelta(days=27), LAST)
    assert one.reasons == ("lost to the champion in 4 of the last 4 periods of 7 days (retraining.prune_margin 1%)",)


def test_a_means_weight_is_its_rows():
    few, many = day(0, "shadow", "s", 100.0, known=1.0), day(1, "shadow", "s", 0.5, known=1000.0)
    config = RetrainingConfig(prune_of_last=1, prune_at_least=1)
    assert found([*CHAMPION, few, many], config) == []
    assert len(found([*CHAMPION, few, many | {"known": 1.0}], config)) == 1


def test_several_models_of_a_day_are_one_champion():
    rows = [day(b, "champion", v, loss) for b in range(28) for v, loss in (("c", 1.0), ("before", 3.0))]
    assert found([*rows, *weeks("shadow", "s", [1.9] * 4)]) == []
    (one,) = found([*rows, *weeks("shadow", "s", [2.5] * 4)])
    assert one.champion_loss == 2.0


def test_who_foresees_fewer_directions_than_a_coin_loses_to_the_last_value_the_champion_too():
    rows = [*weeks("champion", "c", [1.0] * 4, win_rate=0.4), *weeks("shadow", "s", [0.9] * 4, win_rate=0.6)]
    (one,) = found(rows)
    assert (one.role, one.lost, one.win_rate) == ("champion", 4, pytest.approx(0.4))
    assert math.isnan(one.champion_loss)
    assert "foresaw the direction of too few changes in 4 of the last 4 periods" in one.reasons[0]
    assert found(rows, RetrainingConfig(prune_win_rate=0)) == []
    assert found(rows, champion="another") == []


def test_classes_are_compared_by_log_loss():
    rows = [
        day(b, role, v, log_loss=loss)
        for b in range(28)
        for role, v, loss in (("champion", "c", 0.3), ("shadow", "s", 0.4))
    ]
    (one,) = found(rows)
    assert (one.loss, one.champion_loss) == (pytest.approx(0.4), pytest.approx(0.3))
    assert found([{k: v for k, v in row.items() if k != "mse"} for row in rows]) == [one]


def test_no_day_names_nobody():
    assert found([day(0, "champion", "c", 1.0)], RetrainingConfig()) == []
    assert found([day(0, "shadow", "s", 1.0, matured=False)]) == []
