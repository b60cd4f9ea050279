"""Consumes invented calendars, checks that each row of the calibration period is scored by a model of earlier rows."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools

import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st

from assay.conformal import fit
from assay.conformal.blocks import ScoredBlock, calibration_blocks, together
from assay.conformal.conformity import SCORED_APART, ConformityScores
from assay.conformal.scores import scores_in
from assay.conformal.unpriced import split_apart
from assay.errors import AssayError
from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.model.encoding import Encoding
from assay.model.registry import BLOCK, TrainedRun
from assay.model.scale import TargetScale
from assay.runtime.conditions import mask
from assay.runtime.progress import Reporter
from assay.training.forward import fitted_blocks, forward_blocks
from assay.training.split import Period
from assay.training.validation import period

START = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
DAY = dt.timedelta(days=1)
ENCODING, SCALE = Encoding(("x",), {}), TargetScale("price", "none", None, 0.0)
QUIET = Reporter(quiet=True)

calendars = st.lists(st.integers(1, 50), min_size=12, max_size=60)


def cut(counts, share, blocks, gap):
    """Times, the calibration period that begins after `share` of them and ends 2 before the last, and its blocks."""
    times = [START + i * DAY for i in range(len(counts))]
    calibrate = period(times, counts, times[int(share * len(times))], times[-2])
    assert calibrate is not None
    return times, calibrate, forward_blocks(times, counts, calibrate, blocks=blocks, gap=gap * DAY)


def of(split, learned_until, stored=b""):
    facts = {"split": split, "learned_until": learned_until.isoformat()}
    return Model("xgboost", stored, ENCODING, SCALE, {}, "", facts)


def trained_on(folds, calibrate, fitted):
    """A run whose held-back model scores the first block."""
    blocks = fitted_blocks(folds, fitted, QUIET)
    assert list(blocks) == [f"{BLOCK}_{number}" for number in range(2, len(folds) + 1)]
    first = fitted(folds[0].train)
    return TrainedRun("r", "price", first, "towns.price", held_back=first, blocks=tuple(blocks.values()))


@given(calendars, st.floats(0.3, 0.7), st.integers(1, 6), st.integers(0, 3))
def test_every_row_is_scored_once_by_a_model_of_rows_known_before_its_block(counts, share, blocks, gap):
    times, calibrate, folds = cut(counts, share, blocks, gap)
    split = {"calibrate": calibrate.to_dict()}
    trained = trained_on(folds, calibrate, lambda known: of(split, known.last))
    batch = pa.record_batch({"time": pa.array(times, pa.timestamp("us", "UTC"))})
    found = calibration_blocks(trained, folds=blocks)
    scored = [mask(batch, block.where).column("time").to_pylist() for block in found]
    assert list(itertools.chain(*scored)) == [t for t in times if calibrate.first <= t <= calibrate.last]
    for block, fold, own in zip(found, folds, scored, strict=True):
        known = [t for t in times if t < own[0] - gap * DAY]
        assert dt.datetime.fromisoformat(block.model.learned_until) == known[-1]
        assert mask(batch, fold.train.conditions()).column("time").to_pylist() == known
        assert fold.validate.rows == sum(c for t, c in zip(times, counts, strict=True) if t in set(own))
    assert sum(fold.validate.rows for fold in folds) == calibrate.rows


def test_blocks_have_about_as_many_rows_and_later_models_know_the_earlier_blocks():
    _, calibrate, folds = cut([3] * 62, 0.5, 3, 2)
    assert [fold.validate.rows for fold in folds] == [30, 30, 27]
    assert [fold.train.last for fold in folds] == [START + day * DAY for day in (28, 38, 48)]
    assert folds[-1].validate.end == calibrate.end


def test_there_are_no_more_blocks_than_times_and_none_that_knows_no_more_than_the_one_before():
    assert len(cut([3] * 10, 0.6, 20, 0)[2]) == 2
    times = [START + i * DAY for i in (0, 1, 60, 61, 62, 63, 64)]
    calibrate = period(times, [5] * 7, times[2], times[6])
    assert calibrate is not None
    (only,) = forward_blocks(times, [5] * 7, calibrate, blocks=4, gap=10 * DAY)
    assert (only.train.last, only.validate.rows) == (times[1], 20)


def test_a_model_that_knows_rows_of_its_block_is_refused():
    _, calibrate, folds = cut([3] * 40, 0.5, 3, 0)
    split = {"calibrate": calibrate.to_dict()}
    trained = trained_on(folds, calibrate, lambda known: of(split, known.last))
    assert len(calibration_blocks(trained, folds=3)) == 3
    late = of(split, folds[1].validate.first)
    late.facts[BLOCK] = trained.blocks[0].facts[BLOCK]
    with pytest.raises(AssayError, match="cannot calibrate rows from 2020-"):
        calibration_blocks(dataclasses.replace(trained, blocks=(late, trained.blocks[1])), folds=3)


def test_one_fold_is_the_held_back_model_alone():
    _, calibrate, folds = cut([3] * 40, 0.5, 3, 0)
    trained = trained_on(folds, calibrate, lambda known: of({"calibrate": calibrate.to_dict()}, known.last))
    (block,) = calibration_blocks(trained, folds=1)
    assert (block.number, block.model) == (1, trained.held_back)


def test_pooled_scores_of_all_blocks_calibrate_as_by_hand():
    """Prices drift, so the models of the blocks differ, and with them the errors."""
    rng, rows = np.random.default_rng(3), 120
    x = rng.uniform(0, 1, rows).astype(np.float32)
    y = np.arange(rows) * 0.2 + 5 * x + rng.normal(0, 0.5, rows)
    times, calibrate, folds = cut([1] * rows, 0.5, 3, 1)
    ids, towns = pa.array(np.arange(rows)), pa.array(["a", "b"] * (rows // 2))
    batch = pa.record_batch(
        {"row_id": ids, "time": pa.array(times, pa.timestamp("us", "UTC")), "town": towns, "x": x, "price": y}
    )
    split = {"calibrate": calibrate.to_dict()}

    def fitted(known: Period) -> Model:
        taught = mask(batch, known.conditions())
        data = xgb.DMatrix(ENCODING.matrix(taught), taught.column("price").to_numpy())
        stored = xgb.train({"max_depth": 2, "nthread": 1}, data, 5).save_raw("ubj")
        return of(split, known.last, bytes(stored))

    found = []
    for block in calibration_blocks(trained_on(folds, calibrate, fitted), folds=3):
        kernel = ConformityScores(Carried.of(block.model), ("town",), (0.8, 0.9), "absolute")
        found.append(
            ScoredBlock(
                block, split_apart(pa.Table.from_batches(kernel(iter([mask(batch, block.where)])), SCORED_APART))[0]
            )
        )
    pooled = together(found)
    labels = np.array(pooled.column("label").to_pylist(), dtype=object)
    calibration = fit(scores_in(pooled), labels, (0.8, 0.9), min_segment_rows=5, segment_columns=("town",))

    errors = np.full(rows, np.nan)
    for fold in folds:
        own = np.array([fold.validate.first <= t <= fold.validate.last for t in times])
        errors[own] = np.abs(y - fitted(fold.train).predict(batch))[own]
    for label, chosen in (("", np.ones(rows, bool)), ("town=a", np.arange(rows) % 2 == 0)):
        known = np.sort(errors[chosen & ~np.isnan(errors)])
        ranks = [int(np.ceil((len(known) + 1) * level - 1e-9)) for level in (0.8, 0.9)]
        assert calibration.quantiles[label].rows == len(known)
        assert calibration.quantiles[label].quantiles == tuple(known[rank - 1] for rank in ranks)
    one_model = np.sort(np.abs(y - fitted(folds[0].train).predict(batch))[~np.isnan(errors)])
    assert calibration.quantiles[""].quantiles[0] < one_model[int(np.ceil((len(one_model) + 1) * 0.8)) - 1]
    told = [one.facts() for one in found]
    assert [one["block"] for one in told] == [1, 2, 3]
    assert sum(one["rows"] for one in told) == calibrate.rows
    assert [one["learned_until"] for one in told] == [fold.train.last.isoformat() for fold in folds]
