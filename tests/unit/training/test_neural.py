"""Consumes invented series, checks recurrent networks: windows, what they learn from them, ranks, checkpoints."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from checkpoint_harness import with_checkpoints
from engine_harness import LAGS, changed, fit, labelled, rmse
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import ConfigError, NeighbourLost
from assay.model.encoding import Encoding
from assay.model.neural import gru_states, load_neural, lstm_states
from assay.model.neural_inputs import BLOCK_ROWS, ZERO
from assay.model.row_sample import row_hash
from assay.model.scale import TargetScale
from assay.runtime.barrier import Failure, run_rank
from assay.training.learner_params import NeuralParams
from assay.training.neural_engine import NeuralTask
from assay.training.neural_epochs import REFIT, TRAIN, Progress, dealt
from assay.training.neural_group import joined
from assay.training.neural_inputs import arranged
from thread_ranks import Ranks

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'assay[neural]'")
SMALL = {"lookback": 2, "hidden": 6, "dropout": 0.0, "batch_size": 64, "learning_rate": 0.03}
STEPS = 6
PAST = tuple(f"y__own__lag_{lag}" for lag in range(1, STEPS + 1))


def series(rows, seed=0, *, first=0, factor=1.0):
    """Rows with their past: the next value is the mean of the second and fourth last, of series of many sizes."""
    random = np.random.default_rng(seed)
    level, size = random.normal(0, 5, rows), 10 ** random.uniform(-1, 1, rows)
    lags = level[:, None] + size[:, None] * random.normal(size=(rows, STEPS))
    y = lags[:, [1, 3]].mean(axis=1) + 0.05 * size * random.normal(size=rows)
    columns = {name: pa.array((lags[:, i] * factor).astype(np.float32)) for i, name in enumerate(PAST)}
    return pa.record_batch({"row_id": pa.array(np.arange(first, first + rows)), **columns, "y": pa.array(y * factor)})


def places(encoding, scale=None, **params):
    return arranged("lstm", encoding, scale or TargetScale("y"), NeuralParams(**params))


def test_a_window_is_all_lags_of_a_column_oldest_first():
    names = (
        "a__own__lag_3",
        "size",
        "y__own__lag_1",
        "a__own__lag_1",
        "a__own__lag_2",
        "y__own__lag_3",
        "y__all__lag_1",
    )
    found = places(Encoding(names, {"city": ("x", "y")}), lookback=3, history=True)
    assert found.window.tolist() == [[0, 4, 3]]
    assert found.plain.tolist() == [1, 2, 5, 6]
    assert (found.target, found.categories.tolist(), found.known.tolist()) == (-1, [7], [2])
    both = places(Encoding((*names, "y__own__lag_2"), {}), lookback=3)
    assert both.plain.tolist() == [1]
    assert sorted(both.window.tolist()) == [[0, 4, 3], [5, 7, 2]]
    assert both.window[both.target].tolist() == [5, 7, 2]


def test_lags_relative_to_the_last_value_stand_for_the_levels():
    levels = [f"y__own__lag_{lag}" for lag in (1, 2, 3, 52)]
    names = (*levels, *(f"{name}__relative" for name in levels[1:]), "y__own__mean_7d")
    for history, plain in ((True, ["y__own__lag_1", "y__own__mean_7d"]), (False, ["y__own__lag_1"])):
        found = places(Encoding(names, {}), TargetScale("y", anchor=levels[0]), lookback=3, history=history)
        assert found.window.tolist() == [[5, 4, ZERO]]
        assert [names[i] for i in found.plain] == plain


def test_farther_ahead_nothing_nearer_is_seen():
    names = (*PAST, "size", "y__own__mean_7d", "y__all__lag_1", "calendar__year", "y__city__market_level")
    found = places(Encoding(names, {}), lookback=3, horizon=4)
    assert [names[i] for i in found.window[0]] == ["y__own__lag_6", "y__own__lag_5", "y__own__lag_4"]
    assert [names[i] for i in found.plain] == ["size", "calendar__year"]
    encoding = Encoding(PAST, {})
    options = {"encoding": encoding, "params": {**SMALL, "lookback": 2, "horizon": 5}, "rounds": 2}
    nearer = changed(series(100), **{name: np.zeros(100) for name in PAST[:4]})
    assert fit("gru", [nearer], **options)[0].stored == fit("gru", [series(100)], **options)[0].stored


@pytest.mark.parametrize(
    ("encoding", "scale", "params", "said"),
    [
        (Encoding(("size", *PAST), {}), None, {"lookback": 7}, r"lags 1 to 7 .*dataset\.features\.lookback=7"),
        (Encoding(PAST, {}), None, {"lookback": 6, "horizon": 2}, r"lags 2 to 7 .*dataset\.features\.lookback=7"),
        (Encoding(("size",), {}), None, {}, r"engine\.name=lstm reads the last 20 .*engine\.params\.lookback"),
        (Encoding(PAST, {}), TargetScale("y", anchor=PAST[0]), {"horizon": 2, "lookback": 2}, "features.horizon_days"),
    ],
)
def test_without_windows_there_is_one_line_that_says_what_to_set(encoding, scale, params, said):
    with pytest.raises(ConfigError, match=said) as caught:
        places(encoding, scale, **params)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("cell", "ours"), [("LSTM", lstm_states), ("GRU", gru_states)])
@pytest.mark.parametrize("steps", [1, 9])
def test_states_are_those_of_pytorch(cell, ours, steps):
    layer = getattr(torch.nn, cell)(5, 7, batch_first=True)
    given = np.random.default_rng(1).normal(0, 2, (33, steps, 5)).astype(np.float32)
    weights = {name.removesuffix("_l0"): weight.detach().numpy() for name, weight in layer.named_parameters()}
    with torch.inference_mode():
        expected = layer(torch.from_numpy(given))[0].numpy()
    np.testing.assert_allclose(ours(given, **weights), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_what_is_served_is_what_pytorch_learned(cell):
    train, tune = labelled(500), labelled(400, seed=1, first=500)
    result, model = fit(cell, [train], tune=[tune], rounds=3, params={**SMALL, "layers": 3})
    assert min(result.history["tune_rmse"]) == pytest.approx(rmse(model, tune), rel=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_rows_are_predicted_the_same_wherever_they_stand(cell):
    _, model = fit(cell, [labelled(300)], rounds=2, params=SMALL)
    many = labelled(BLOCK_ROWS + 9, seed=2)
    matrix = model.encoding.matrix(many)
    turned = np.roll(matrix, 7, axis=0)
    np.testing.assert_array_equal(np.roll(model.predictor.predict(turned), -7), model.predictor.predict(matrix))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("anchored", [False, True])
def test_the_past_is_learned_from_whatever_its_size(cell, anchored):
    relative = [f"{name}__relative" for name in PAST[1:]]

    def rows(*given, **more):
        batch = series(*given, **more)
        for name in PAST[1:]:
            values = batch.column(name).to_numpy() - batch.column(PAST[0]).to_numpy()
            batch = batch.append_column(f"{name}__relative", pa.array(values))
        return batch

    encoding = Encoding((*PAST, *relative) if anchored else PAST, {})
    scale = TargetScale("y", anchor=PAST[0] if anchored else None)
    params = {**SMALL, "lookback": STEPS, "hidden": 12}
    train, later = rows(2000), rows(500, seed=1)
    _, model = fit(cell, [train], encoding=encoding, scale=scale, params=params, rounds=25)
    naive = np.mean([later.column(name).to_numpy() for name in PAST], axis=0)
    assert rmse(model, later) < 0.5 * np.sqrt(np.mean((later.column("y").to_numpy() - naive) ** 2))
    worth = model.importance()
    told = [name.removesuffix("__relative") for name in list(worth)[:6]]
    assert {PAST[1], PAST[3]} <= set(told)


def test_a_missing_past_is_told_from_zeros():
    train = labelled(600)
    lost = np.arange(600) % 2 == 0
    past = {name: np.where(lost, np.nan, train.column(name).to_numpy()) for name in LAGS}
    train = changed(train, y=np.where(lost, 100.0, 0.0), **past)
    _, model = fit("lstm", [train], params=SMALL, rounds=20)
    predicted = model.predict(train)
    assert abs(predicted[lost].mean() - 100) < 10
    assert abs(predicted[~lost].mean()) < 10


def test_numbers_are_held_in_the_range_of_training():
    train = labelled(300)
    _, model = fit("gru", [train], params=SMALL, rounds=3)
    highest = np.full(300, train.column("size").to_numpy().max(), np.float32)
    ends = [model.predict(changed(train, size=values)) for values in (highest, highest * 10, np.full(300, 1e30))]
    np.testing.assert_array_equal(ends[0], ends[1])
    np.testing.assert_array_equal(ends[0], ends[2])


def test_dropout_is_drawn_from_the_seed():
    options = {"params": {**SMALL, "dropout": 0.4, "layers": 2}, "rounds": 3}
    stored = [fit("lstm", [labelled(200)], seed=seed, **options)[0].stored for seed in (1, 1, 2)]
    assert stored[0] == stored[1] != stored[2]
    assert fit("lstm", [labelled(200)], seed=1, rounds=3, params={**SMALL, "layers": 2})[0].stored != stored[0]


def test_the_processs_own_random_numbers_and_order_of_rows_do_not_show():
    whole = labelled(300)
    shuffled = whole.take(pa.array(np.random.default_rng(3).permutation(300)))
    torch.manual_seed(5)
    first = fit("lstm", [whole], params=SMALL, rounds=2)[0].stored
    torch.manual_seed(6)
    assert fit("lstm", [shuffled], params=SMALL, rounds=2)[0].stored == first


def test_training_ends_when_patience_does_and_keeps_the_best():
    train, tune = [labelled(60, noise=5.0)], [labelled(200, seed=1, first=60, noise=5.0)]
    params = {**SMALL, "hidden": 32, "patience": 3, "epochs": 80}
    result, model = fit("lstm", train, tune=tune, params=params, rounds=200)
    errors = result.history["tune_rmse"]
    assert result.rounds == int(np.argmin(errors)) + 1 == len(errors) - 3
    assert rmse(model, tune[0]) == pytest.approx(min(errors), rel=1e-6)
    assert len(result.history["train_rmse"]) == len(errors)
    assert len(fit("lstm", train, params={**params, "epochs": 4}, rounds=200)[0].history["train_rmse"]) == 4


def test_an_error_without_bounds_is_one_line():
    with pytest.raises(Exception, match=r"lower engine\.params\.learning_rate=1e\+30"):
        fit("lstm", [labelled(50)], params={**SMALL, "learning_rate": 1e30}, rounds=5)


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(-(2**62), 2**62), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 5))
def test_every_row_has_one_step_whoever_else_is_there(ids, steps, epoch):
    hashes = np.sort(row_hash(np.array(sorted(ids), np.int64)))
    whole = [hashes[rows].tolist() for rows in dealt(hashes, steps, 7, epoch)]
    assert len(whole) == steps
    assert sorted(h for step in whole for h in step) == hashes.tolist()
    for part in (hashes[::2], hashes[1::2]):
        mine = [hashes_of.tolist() for hashes_of in (part[rows] for rows in dealt(part, steps, 7, epoch))]
        assert mine == [[h for h in step if h in set(part.tolist())] for step in whole]


def test_epochs_are_dealt_anew():
    hashes = np.sort(row_hash(np.arange(200)))
    one, other = (np.concatenate(list(dealt(hashes, 4, 7, epoch))) for epoch in (0, 1))
    assert (one != other).any()


class OverRanks:
    """A plane whose ranks get the shares that a test says."""

    def __init__(self, shares):
        self.shares = shares

    def train(self, reads, task, ranks):
        shares = [[lambda b=b: iter(b) for b in flows] for flows in self.shares]
        results = Ranks(ranks).run(task, shares)
        for result in results:
            if isinstance(result, BaseException):
                raise result
            assert not isinstance(result, Failure), result.words
        return results


@pytest.mark.parametrize("sizes", [(300, 0), (299, 1), (90, 210)], ids=["empty", "one row", "uneven"])
def test_ranks_with_any_shares_learn_what_one_does(sizes):
    train, tune = labelled(300), labelled(100, seed=1, first=300)
    parts = [train.slice(0, sizes[0]), train.slice(sizes[0])]
    shares = [[[parts[0]], [tune.slice(0, 100)]], [[parts[1]], [tune.slice(0, 0)]]]
    options = {"tune": [tune], "params": SMALL, "rounds": 6, "refit": True}
    alone, model = fit("gru", [train], **options)
    both, other = fit("gru", [train], plane=OverRanks(shares), ranks=2, **options)
    assert both.rounds == alone.rounds
    np.testing.assert_allclose(both.history["tune_rmse"], alone.history["tune_rmse"], rtol=1e-5)
    np.testing.assert_allclose(other.predict(tune), model.predict(tune), rtol=1e-5)
    assert list(other.importance()) == list(model.importance())


def test_a_rank_that_fails_ends_the_others():
    def task(context, shares):
        with joined(context) as group:
            if context.rank == 1:
                raise ValueError("no more")
            group.sum(np.ones(3))
        return "ended well"

    first, second = Ranks(2).run(task)
    assert isinstance(first, Failure)
    assert first.follows
    assert isinstance(second, Failure)
    assert "no more" in second.words
    assert not second.follows


def test_a_group_adds_takes_the_greatest_and_hands_on():
    def task(context, shares):
        with joined(context) as group:
            mine = np.array([1.0, float(context.rank)])
            return group.sum(mine).tolist(), group.greatest(mine).tolist(), group.of_first(b"\x00\xff" * context.ranks)

    assert Ranks(3).run(task) == [([3.0, 3.0], [1.0, 2.0], b"\x00\xff" * 3)] * 3
    assert run_rank(Ranks(1).context(0), [], task) == ([1.0, 0.0], [1.0, 0.0], b"\x00\xff")
    assert issubclass(NeighbourLost, Exception)


def test_whichever_checkpoint_training_goes_on_from_it_ends_alike():
    train, tune = labelled(150, noise=3.0), labelled(150, seed=1, first=150, noise=3.0)
    params = NeuralParams(**{**SMALL, "dropout": 0.3})
    encoding = Encoding(("size", "age", *LAGS), {"city": ("Austin", "Dallas", "Waco")})

    def fit_from(address):
        task = NeuralTask(
            encoding=encoding,
            scale=TargetScale("y"),
            refit=True,
            cell="lstm",
            params=params,
            epochs=9,
            patience=3,
            seed=7,
            threads=1,
            checkpoints=True,
            address=address,
        )
        return task(Ranks(1).context(0), [lambda: iter([train]), lambda: iter([tune])])

    whole, left, heard = with_checkpoints(fit_from)
    phases = [phase for (phase, _), _ in left]
    assert heard == list(range(len(whole["history"]["tune_rmse"])))
    assert phases.count(TRAIN) >= 3
    assert phases.count(REFIT) == whole["epochs"]  # before the first, and after each but the last
    for (phase, done), stored in left:
        again, _, rest = with_checkpoints(fit_from, stored)
        assert again == whole
        assert rest == (heard[done:] if phase == TRAIN else [])


def test_progress_survives_the_way():
    told = Progress(REFIT, 3, {"tune_rmse": [0.1 + 0.2]}, 4, 17, *(np.arange(n, dtype=np.float32) for n in range(4)))
    back = Progress.from_bytes(told.to_bytes())
    for name, value in vars(told).items():
        np.testing.assert_array_equal(getattr(back, name), value)
    assert Progress.from_bytes(b"").done == 0
    assert Progress(REFIT, 0).order > Progress(TRAIN, 900).order


def test_without_pytorch_there_is_one_line_that_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'assay\[neural\]'"):
        fit("lstm", [labelled(20)], params=SMALL)


def test_a_network_is_served_without_pytorch(tmp_path):
    later = labelled(20, seed=5)
    result, model = fit("gru", [labelled(100)], params=SMALL, rounds=2)
    (tmp_path / "network.npz").write_bytes(result.stored)
    np.save(tmp_path / "matrix.npy", model.encoding.matrix(later))
    code = (
        "import sys, numpy as np; sys.modules['torch'] = None; from assay.model.predictors import load_predictor; "
        "p = load_predictor('gru', open('network.npz', 'rb').read(), threads=1); "
        "print(p.predict(np.load('matrix.npy')).tobytes().hex())"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, env=env
    )
    np.testing.assert_allclose(np.frombuffer(bytes.fromhex(found.stdout.strip())), model.predict(later), rtol=1e-6)
    assert load_neural(result.stored).cell == "gru"
