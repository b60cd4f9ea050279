"""Sets of classes that follow their misses: alike in any cut of rows and after any restart, blind to the future."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from assay.config.conformal import ConformalConfig
from assay.config.profile import ScoringConfig
from assay.conformal.calibration import ALL_ROWS
from assay.conformal.class_calibration import class_labels, classes_of, of_class
from assay.conformal.class_rows import CLASS_ROWS, ClassRows
from assay.conformal.class_stage import ClassStage, taught
from assay.conformal.following import followed, known_in, latest, served_from
from assay.conformal.intervals import score_batch
from assay.conformal.pace import Pace
from assay.model.registry import Calibrated
from assay.scoring.scorer import Scorer

ORIGIN = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
START = np.datetime64("2020-01-01", "us")
DAYS, A_DAY, BEFORE = 120, 20, 60
WAYS = [("lac", "none", False), ("aps", "temperature", False), ("aps", "none", True)]


def stream(market, sold, *, shift=0.0, seed=5):
    """Rows of 60 days that calibrate and 120 that follow, and of all what came true; from day 0 on the world is other.

    shift: share of outcomes that from then on are drawn by a coin.
    """
    rows = (BEFORE + DAYS) * A_DAY
    batch, random = market(rows, seed=seed), np.random.default_rng(seed)
    day = np.arange(rows) // A_DAY - BEFORE
    codes = batch.column("sold").to_numpy().astype(float)
    flipped = (day >= 0) & (random.uniform(size=rows) < shift)
    codes = np.where(flipped, (random.uniform(size=rows) < 0.5).astype(float), codes)
    times = pa.array(START + day * np.timedelta64(1, "D") + np.timedelta64(6, "h"), pa.timestamp("us", "UTC"))
    batch = batch.append_column("row_id", pa.array(np.arange(rows))).append_column("time", times)
    labels = [f"city={city}" for city in batch.column("city").to_pylist()]
    each = sold.model.probabilities(batch)
    columns = [labels, np.arange(rows), batch.column("time").cast(pa.int64()), codes, each.tolist()]
    return batch, pa.table([pa.array(c, f.type) for c, f in zip(columns, CLASS_ROWS, strict=True)], schema=CLASS_ROWS)


def follow(way, table, *, pace=None):
    """The stage, the tested calibration, and its quantiles in time, as the job `calibrate` makes them."""
    score, probabilities, by_class = way
    pace = pace or Pace(step_days=1.0, step_size=0.1, damping_rows=5.0, delay_days=1.0)
    config = ConformalConfig(set_score=score, probabilities=probabilities, by_class=by_class)
    stage = ClassStage(config, ("city",), 2, drawn=False)
    before = np.arange(table.num_rows) < BEFORE * A_DAY
    periods = {"calibrate": table.filter(pa.array(before)), "test": table.filter(pa.array(~before))}
    tested = dataclasses.replace(stage.fitted(periods["calibrate"]), pace=pace)
    own = class_labels(("no", "yes"), "sold") if by_class else []
    known = known_in(pa.concat_tables(stage.scores(periods, tested, own).values()))
    return stage, tested, followed(known, tested, pace, own=own, origin=ORIGIN, until=latest(known)), periods


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_sets_that_follow_hold_their_promise_where_others_lose_it(market, sold, way):
    _, table = stream(market, sold, shift=0.6)
    stage, tested, following, periods = follow(way, table)
    still = stage.coverage(tested, periods["test"])
    held = stage.coverage(tested, periods["test"], following)
    for level, moved, stood in zip(tested.levels, held, still, strict=True):
        assert stood < level - 0.06  # the control: it stays as it was fitted, and the world does not
        assert abs(moved - level) < 0.035
    if way[2]:
        rows, distinct = ClassRows.of(periods["test"], 2), ["city=Austin", "city=Waco"]
        place = np.array([distinct.index(label) for label in rows.labels])
        quantiles = following.class_quantiles(distinct, place, rows.times.astype("datetime64[us]"), 2)
        (sets, *_) = tested.sets_within(tested.calibrated(rows.probabilities), quantiles, rows.draws)
        for code in (0, 1):
            own = rows.codes == code
            assert abs(sets[own, code].mean() - 0.8) < 0.05


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_any_cut_and_order_of_rows_gives_the_sets_of_their_own_steps(market, sold, way):
    batch, table = stream(market, sold, shift=0.3)
    _, tested, following, _ = follow(way, table)
    later = batch.slice(BEFORE * A_DAY)
    whole = score_batch(sold.model, tested, later, following)
    scorer = Scorer.of(Calibrated(sold.model, tested.to_dict(), tested.version), ScoringConfig(), following)
    order = np.random.default_rng(0).permutation(later.num_rows)
    for rows in (order[:777], order[777:]):
        found = scorer(later.take(pa.array(rows)))
        for name in ("set_80", "set_90", "segment", "probabilities"):
            column = whole[name] if isinstance(whole[name], pa.Array) else pa.array(whole[name])
            assert found.column(name).to_pylist() == column.take(pa.array(rows)).to_pylist()
    fixed = score_batch(sold.model, tested, later)
    assert fixed["set_80"].to_pylist() != whole["set_80"].to_pylist()


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_restart_gives_the_same_states_and_later_outcomes_change_no_earlier_step(market, sold, way):
    _, table = stream(market, sold, shift=0.3)
    one = follow(way, table)[2]
    again = follow(way, table.take(pa.array(np.r_[BEFORE * A_DAY - 1 : -1 : -1, BEFORE * A_DAY : table.num_rows])))[2]
    other_codes = np.where(np.arange(table.num_rows) >= (BEFORE + 90) * A_DAY, 1.0, table.column("code").to_numpy())
    changed = table.set_column(table.schema.get_field_index("code"), "code", pa.array(other_codes))
    other = follow(way, changed)[2]
    for first, second, third in zip(
        (one, *one.by_class), (again, *again.by_class), (other, *other.by_class), strict=True
    ):
        np.testing.assert_array_equal(first.timeline.quantiles, second.timeline.quantiles)
        np.testing.assert_array_equal(first.timeline.alpha, second.timeline.alpha)
        # predicted on day 90 at 06:00, known a day later: day 92 is the first that may use it
        np.testing.assert_array_equal(first.timeline.quantiles[:92], third.timeline.quantiles[:92])
        assert (first.timeline.quantiles[92:] != third.timeline.quantiles[92:]).any()


def test_what_serves_from_the_last_step_on_says_what_that_step_says(market, sold):
    batch, table = stream(market, sold, shift=0.3)
    for way in WAYS:
        _, tested, following, _ = follow(way, table)
        served = served_from(tested, following)
        assert served.probabilities == tested.probabilities
        last = batch.slice(batch.num_rows - A_DAY)
        now, then = score_batch(sold.model, served, last), score_batch(sold.model, tested, last, following)
        assert now["set_80"].to_pylist() == then["set_80"].to_pylist()
        assert type(served).from_dict(served.to_dict()) == served


def test_scores_that_make_sets_are_of_rows_that_the_map_has_not_seen(market, sold):
    _, table = stream(market, sold)
    stage, tested, *_, periods = follow(WAYS[1], table)
    found = stage.scores(periods, tested, [])
    left = taught(ClassRows.of(periods["calibrate"], 2), stage.config, drawn=False)[1]
    assert found["calibrate"].column("row_id").to_pylist() == left.row_ids.tolist()
    assert 0 < len(left.row_ids) < periods["calibrate"].num_rows
    assert found["test"].num_rows == periods["test"].num_rows


def test_labels_of_classes_and_segments_are_told_apart_again():
    own = class_labels(("a", "a|b", "∅"), "to=ld")
    labels = [of_class(label, rest) for label in own for rest in (ALL_ROWS, "city=x", "city=x|grade=1")]
    codes, rest = classes_of(np.array(labels, dtype=object), own)
    assert codes.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert rest.tolist() == [ALL_ROWS, "city=x", "city=x|grade=1"] * 3
    with pytest.raises(ValueError, match="is of none of the classes"):
        classes_of(np.array(["city=x"], dtype=object), own)
