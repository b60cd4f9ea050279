"""Sums by day become the series of an experiment: order, gaps, weights, variance between entities, what is refused."""

import datetime as dt

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from experiment_rows import arm_series

from assay.deployment.experiment_days import Arm, EntityMoments, Series, arm_days, paired_days
from assay.errors import DataError

DAYS = np.array(["2024-01-03", "2024-01-01", "2024-01-02"], dtype="datetime64[D]")


def test_days_come_in_any_order_and_leave_in_theirs():
    found = paired_days(DAYS, [30, 10, 20], [3.0, 1.0, 2.0], [6.0, 0.5, 2.0])
    assert found.span == (dt.date(2024, 1, 1), dt.date(2024, 1, 3))
    np.testing.assert_array_equal(found.rows, [10, 20, 30])
    np.testing.assert_array_equal(found.champion, [1, 2, 3])
    np.testing.assert_array_equal(found.difference, [-0.5, 0, 3])
    assert found.losses == (6 / 60, 8.5 / 60)


def test_days_may_be_counted_since_1970():
    assert paired_days([0, 1], [1, 1], [1, 1], [1, 1]).span == (dt.date(1970, 1, 1), dt.date(1970, 1, 2))


def test_a_day_without_rows_is_left_out_and_no_day_at_all_is_a_series_too():
    assert len(paired_days(DAYS, [1, 0, 1], [1, 0, 1], [1, 0, 1]).days) == 2
    none = paired_days([], [], [], [])
    assert none.span is None
    assert np.isnan(none.losses).all()


def test_the_first_days_are_the_earliest():
    found = paired_days(DAYS, [30, 10, 20], [3.0, 1.0, 2.0], [6.0, 0.5, 2.0]).first(2)
    np.testing.assert_array_equal(found.champion, [1, 2])
    assert found.losses == (3 / 30, 2.5 / 30)
    assert found.span == (dt.date(2024, 1, 1), dt.date(2024, 1, 2))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"challenger": [1, np.inf, 1]},
            "1 of 3 days, first 2024-01-01, have losses of the challenger that are not finite",
        ),
        ({"champion": [np.nan, np.nan, 1]}, "2 of 3 days, first 2024-01-01, have losses of the champion that are not"),
        ({"champion": [1, 1, -1]}, "1 of 3 days, first 2024-01-02, have losses of the champion below 0"),
        ({"rows": [1, np.nan, 1]}, "have rows that are not finite"),
        ({"rows": [1, 0, 1]}, "1 of 3 days, first 2024-01-01, have losses without a row"),
        ({"days": ["2024-01-01", "2024-01-01", "2024-01-02"]}, "first 2024-01-01, have the same day twice"),
        ({"days": ["2024-01-01", "NaT", "2024-01-02"]}, "have no date"),
    ],
)
def test_what_is_refused(values, message):
    usual = {"days": DAYS, "rows": [1, 1, 1], "champion": [1, 1, 1], "challenger": [1, 1, 1]}
    with pytest.raises(DataError, match=message):
        paired_days(**(usual | values))


def test_an_infinite_loss_is_told_what_to_do_about():
    with pytest.raises(DataError, match="leave rows whose loss is missing or infinite out for both models"):
        paired_days(DAYS, [1, 1, 1], [1, 1, 1], [1, np.inf, 1])


def test_sums_of_another_length_are_our_own_mistake():
    with pytest.raises(ValueError, match=r"one value for each of 3 days, found shape \(2,\)"):
        paired_days(DAYS, [1, 1], [1, 1, 1], [1, 1, 1])


# --- arms -------------------------------------------------------------------------------------------------------------


def market(seed: int, *, entities: int = 40, days: int = 20, between: float = 0.3) -> pl.DataFrame:
    """Rows of entities that differ, on days that differ for all; the smaller arm has every fourth entity."""
    rng = np.random.default_rng(seed)
    level, shock = np.exp(between * rng.normal(size=entities)), np.exp(rng.normal(size=days))
    entity, day = rng.integers(0, entities, 2_000), rng.integers(0, days, 2_000)
    loss = level[entity] * shock[day] * rng.exponential(size=2_000)
    arm = np.where(entity % 4 == 0, "challenger", "champion")
    return pl.DataFrame({"arm": arm, "entity": entity, "day": day, "loss": loss})


def test_arms_are_compared_day_by_day_with_the_weights_of_mantel_and_haenszel():
    rows = market(1)
    found = arm_series(rows)
    weights = champion = difference = 0.0
    for _, of in rows.group_by("day"):
        ours, theirs = (of.filter(pl.col("arm") == arm)["loss"] for arm in ("champion", "challenger"))
        weight = len(ours) * len(theirs) / len(of)
        weights += weight
        champion += weight * ours.mean()
        difference += weight * (theirs.mean() - ours.mean())
    assert found.design == "arms"
    assert found.rows.sum() == len(rows)
    np.testing.assert_allclose(found.losses, (champion / weights, (champion + difference) / weights))


def plain_arm(rows, losses, *, entities: int = 5) -> Arm:
    """Sums of days of entities that do not differ."""
    none = np.zeros(len(rows))
    return Arm(rows, losses, none, none, none, EntityMoments(entities, 0, 0, 0))


def test_a_shock_of_a_day_that_meets_both_arms_is_no_difference():
    """Rows of one loss on calm days and of a hundred on wild ones, on which the challenger has more rows."""
    found = arm_days([0, 1], plain_arm([90, 10], [90, 1_000]), plain_arm([10, 90], [10, 9_000]))
    np.testing.assert_allclose(found.difference, 0, atol=1e-12)


def test_a_day_on_which_an_arm_has_no_rows_says_nothing():
    found = arm_days([0, 1], plain_arm([5, 5], [5, 50]), plain_arm([5, 0], [4, 0]))
    assert found.losses == (1.0, 0.8)


def persistent(found: Series) -> tuple[float, float]:
    assert found.persistent is not None
    return found.persistent.champion, found.persistent.challenger


def test_variance_between_entities_is_that_of_clustered_errors():
    """statsmodels' variance of the mean by clusters of entities, less that of days' residuals by entity and day.

    It is a mean over pairs of different days.
    """
    rows = market(2, between=1.0)
    champion, _ = persistent(arm_series(rows))
    ours = rows.filter(pl.col("arm") == "champion").with_columns(
        apart=pl.col("loss") - pl.col("loss").mean().over("day")
    )
    how = {"groups": ours["entity"].to_numpy(), "use_correction": False}
    fit = sm.OLS(ours["loss"].to_numpy(), np.ones(len(ours))).fit(cov_type="cluster", cov_kwds=how)
    entities = ours["entity"].n_unique()
    within = (ours.group_by("entity", "day").agg(pl.col("apart").sum())["apart"] ** 2).sum() / len(ours) ** 2
    apart = fit.cov_params()[0, 0] * entities / (entities - 1) - within
    expected = apart / (1 - ((ours.group_by("day").len()["len"] / len(ours)) ** 2).sum())
    assert expected > 0
    assert champion == pytest.approx(expected, rel=1e-9)


def test_variance_between_entities_is_right_on_average():
    """Entities with a mean of their own, one row a day: the mean of E of them varies by their variance over E."""
    rng = np.random.default_rng(3)
    entity, day = (part.ravel() for part in np.meshgrid(np.arange(80), np.arange(15), indexing="ij"))
    found = []
    for _ in range(200):
        loss = 5 + rng.normal(size=80)[entity] + 2 * rng.random(15)[day] + rng.random(1_200)
        arm = np.where(entity % 2 == 0, "challenger", "champion")
        found.append(persistent(arm_series(pl.DataFrame({"arm": arm, "entity": entity, "day": day, "loss": loss}))))
    assert np.mean(found) == pytest.approx(1 / 40, rel=0.05)


def test_one_entity_tells_nothing_of_how_entities_differ():
    found = arm_days([0, 1], plain_arm([5, 5], [5, 5], entities=1), plain_arm([5, 5], [4, 4]))
    assert persistent(found) == (np.inf, 0.0)


def test_rows_of_no_entity_are_refused():
    with pytest.raises(DataError, match="the challenger's arm has 10 rows of no entity"):
        arm_days([0, 1], plain_arm([5, 5], [5, 5]), plain_arm([5, 5], [4, 4], entities=0))
