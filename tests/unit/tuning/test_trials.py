"""Consumes rows of folds, checks the losses of every engine's trials against the libraries alone, and what slots do."""

from __future__ import annotations

import dataclasses
import threading

import catboost
import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb
from sklearn.linear_model import Ridge

from assay.config.profile import EngineConfig
from assay.config.tuning import ParameterConfig
from assay.errors import AssayError, ConfigError
from assay.model.catboost_predictor import inputs
from assay.model.encoding import Encoding
from assay.model.row_sample import ROW, SampleRows
from assay.model.scale import TargetScale
from assay.runtime.signals import listen
from assay.tuning.engines import TUNED, check_names, setting, start_of, variants_of
from assay.tuning.journal import COMPLETE, opened
from assay.tuning.pruners import Never
from assay.tuning.samplers import sampler_named
from assay.tuning.space import SPACES, Number, Space, space_of
from assay.tuning.study import Budget, Study
from assay.tuning.trials import Fold, Metric, SlotTask, build

CITIES = ("a", "b", "c")
ENCODING = Encoding(("x0", "x1", "x2"), {"city": CITIES})
NUMBERS = Encoding(("x0", "x1", "x2"), {})
SCALE = TargetScale("y")


def batch(rows, seed):
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 3)).astype(np.float32)
    city = random.integers(0, 3, rows)
    y = 2 * x[:, 0] + x[:, 1] * city + random.normal(size=rows) * 0.3
    return pa.record_batch(
        {
            ROW: pa.array(np.arange(rows) + seed * 100_000),
            **{f"x{i}": pa.array(x[:, i]) for i in range(3)},
            "city": pa.array([CITIES[c] for c in city]),
            "y": pa.array(y),
        }
    )


def share(*batches):
    return lambda: iter(batches)


def matrix(*batches):
    together = pa.concat_batches(batches)
    return ENCODING.matrix(together), together.column("y").to_numpy().astype(np.float32)


TRAIN, LATER, LAST = batch(400, 1), batch(150, 2), batch(90, 3)
FOLD = Fold(share(TRAIN), share(LATER))
NEXT = Fold(share(TRAIN, LATER), share(LAST))


@pytest.fixture
def bench(ranks):
    """bench(engine name, folds, params, ...) -> what a slot has built."""

    def make(name, folds, params=None, *, encoding=ENCODING, **told):
        engine = EngineConfig(name=name, params=params or {}, **told)
        space = Space(SPACES[name])
        weights = [None] * len(folds)
        found = setting(engine, space, (), encoding, SCALE, weights, threads=1)
        return build(found, folds, ranks(1).context(0))

    return make


def never(*_):
    return False


def test_xgboosts_loss_is_the_one_of_its_own_training(bench):
    params = {"eta": 0.2, "max_depth": 3, "subsample": 1.0, "colsample_bytree": 1.0}
    found = bench("xgboost", [FOLD], rounds=60, early_stopping_rounds=5).score(params, never)
    told = {"feature_types": ENCODING.feature_types, "enable_categorical": True}
    train = xgb.QuantileDMatrix(*matrix(TRAIN), max_bin=256, **told)
    later = xgb.QuantileDMatrix(*matrix(LATER), ref=train, max_bin=256, **told)
    log = {}
    xgb.train(
        {**params, "min_child_weight": 5, "seed": 7},
        train,
        60,
        evals=[(later, "v")],
        early_stopping_rounds=5,
        evals_result=log,
        verbose_eval=False,
    )
    curve = log["v"]["rmse"]
    assert found.loss == pytest.approx(min(curve), rel=1e-6)
    assert found.rounds == int(np.argmin(curve)) + 1


def test_catboosts_loss_is_the_one_of_its_own_training_though_its_pool_is_binned_once(bench):
    made = bench("catboost", [FOLD], rounds=40, early_stopping_rounds=8, encoding=NUMBERS)
    trials = [{"depth": 3, "learning_rate": 0.2}, {"depth": 5, "learning_rate": 0.1}]
    found = [made.score(params, never) for params in (*trials, trials[0])]
    assert found[2] == found[0]
    mixed = bench("catboost", [FOLD], rounds=40, early_stopping_rounds=8)
    assert mixed.score(trials[0], never).loss < found[0].loss  # categories tell something
    for params, scored in zip(trials, found, strict=False):
        (x, y), (later_x, later_y) = matrix(TRAIN), matrix(LATER)
        # the bench's rows are in an order of their own, so draws differ: near, not equal
        pools = [
            catboost.Pool(inputs(np.asfortranarray(m[:, :3]), 3), label) for m, label in ((x, y), (later_x, later_y))
        ]
        model = catboost.CatBoost(
            {
                **params,
                "iterations": 40,
                "loss_function": "RMSE",
                "logging_level": "Silent",
                "allow_writing_files": False,
            }
        )
        model.fit(pools[0], eval_set=pools[1])
        assert scored.loss == pytest.approx(min(model.evals_result_["validation"]["RMSE"]), rel=0.1)


def test_linears_loss_is_that_of_ridge(bench):
    made = bench("linear", [FOLD, NEXT], encoding=NUMBERS)
    for alpha in (0.001, 1.0):
        squares = count = 0.0
        for train, later in (((TRAIN,), (LATER,)), ((TRAIN, LATER), (LAST,))):
            (x, y), (later_x, later_y) = matrix(*train), matrix(*later)
            x, later_x = ((m[:, :3] - x[:, :3].mean(axis=0)) / x[:, :3].std(axis=0) for m in (x, later_x))
            model = Ridge(alpha=alpha * len(x)).fit(x, y)
            squares += float(np.sum((model.predict(later_x) - later_y) ** 2))
            count += len(later_y)
        scored = made.score({"alpha": alpha, "l1_ratio": 0.0}, never)
        assert scored.loss == pytest.approx(np.sqrt(squares / count), rel=1e-4)


@pytest.mark.parametrize("engine", TUNED)
def test_every_engine_scores_any_point_of_its_space_and_the_same_twice(bench, engine):
    made = bench(engine, [FOLD, NEXT], rounds=12, early_stopping_rounds=4)
    random = np.random.default_rng(2)
    space = Space(SPACES[engine])
    spread = np.std(np.concatenate([matrix(LATER)[1], matrix(LAST)[1]]))
    for point in [{}, *(space.draw(random) for _ in range(4))]:
        scored = made.score(point, never)
        assert 0 < scored.loss < 3 * spread
        assert scored == made.score(point, never)


def test_folds_have_one_loss_at_one_round(bench):
    params = {"eta": 0.3, "subsample": 1.0, "colsample_bytree": 1.0}
    curves = []
    for folds in ([FOLD], [NEXT], [FOLD, NEXT]):
        curve = []
        bench("xgboost", folds, rounds=15, early_stopping_rounds=15).score(params, lambda _, v, c=curve: c.append(v))
        curves.append(np.array(curve))
    first, second, both = curves
    rows = LATER.num_rows, LAST.num_rows
    assert both == pytest.approx(np.sqrt((rows[0] * first**2 + rows[1] * second**2) / sum(rows)), rel=1e-6)


@pytest.mark.parametrize("engine", ["xgboost", "catboost"])
def test_a_trial_that_is_told_to_stop_stops_there(bench, engine):
    seen = []

    def report(rounds, loss):
        seen.append(rounds)
        return rounds == 7

    assert bench(engine, [FOLD], rounds=40).score({}, report) is None
    assert seen == list(range(1, 8))


def test_slots_tune_over_a_real_connection(tmp_path, ranks):
    engine = EngineConfig(rounds=30, early_stopping_rounds=5)
    space = Space({"eta": Number(0.01, 0.5, log=True), "max_depth": Number(2, 6, whole=True)})
    found = setting(engine, space, (), ENCODING, SCALE, [None], threads=1)
    with opened(tmp_path / "s.jsonl", {}) as journal:
        study = Study(journal, sampler_named("tpe", space, seed=1, points=12), Never(), Budget(12))
        study.start = start_of(space, found)
        assert study.start == {"eta": 0.05, "max_depth": 6}
        with listen("127.0.0.1", lambda _: None, answer=study.answer) as address:
            shares = [[FOLD.train, FOLD.validate]] * 2
            made = ranks(2).run(SlotTask((found,), address), shares)
        assert study.error is None
        assert sum(made) == 12
        assert [t.state for t in study.trials] == [COMPLETE] * 12
        steps = {step for t in study.trials for step, _ in t.values}
        assert max(steps) <= 30
        (start,) = [t for t in study.trials if not t.params]
        assert study.best.loss <= start.loss


@pytest.mark.parametrize(
    ("engine", "start", "depths"),
    [
        ("xgboost", {"max_depth": 6, "eta": 0.05}, [8, 4]),
        ("catboost", {"depth": 6}, [8, 4]),
        ("xgboost", {"max_depth": 10}, [8]),
        ("xgboost", {"max_depth": 4}, [6, 3]),
    ],
)
def test_variants_of_the_start_are_deeper_and_shallower_within_the_space(engine, start, depths):
    name = next(n for n in start if "depth" in n)
    space = Space({name: Number(3, 10, whole=True), "eta": Number(0.01, 0.3, log=True)})
    start = space.nearest(start)
    assert [v[name] for v in variants_of(space, engine, start)] == depths
    assert all({**v, name: start[name]} == start for v in variants_of(space, engine, start))
    assert variants_of(Space({"eta": Number(0.01, 0.3)}), engine, {"eta": 0.05}) == []
    assert variants_of(space, "linear", start) == []


def test_a_slot_that_cannot_build_ends_all_of_them(tmp_path, ranks):
    engine = EngineConfig(rounds=30, early_stopping_rounds=5)
    space = Space({"eta": Number(0.01, 0.5, log=True)})
    found = setting(engine, space, (), ENCODING, SCALE, [None], threads=1)

    def broken():
        raise AssayError("this disk is full")

    with opened(tmp_path / "s.jsonl", {}) as journal:
        study = Study(journal, sampler_named("random", space, seed=1, points=100_000), Never(), Budget(100_000))
        with listen("127.0.0.1", lambda _: None, answer=study.answer) as address:
            shares = [[FOLD.train, FOLD.validate], [broken, FOLD.validate]]
            worker = threading.Thread(target=ranks(2).run, args=(SlotTask((found,), address), shares))
            worker.start()
            worker.join(30)
            assert not worker.is_alive()
        assert study.error is not None
        assert len(study.trials) < 100_000


@pytest.mark.parametrize(
    ("engine", "given", "words"),
    [
        ("xgboost", {"etta": ParameterConfig(low=0.1, high=0.2)}, r"tuning\.space\.etta.*did you mean .*eta"),
        ("xgboost", {"max_depth": ParameterConfig(low=-5, high=3, kind="int")}, r"tuning\.space\.max_depth"),
        ("catboost", {"dept": ParameterConfig(low=2, high=3, kind="int")}, r"tuning\.space\.dept.*did you mean"),
        ("knn", {"n_neighbours": ParameterConfig(low=2, high=3, kind="int")}, r"tuning\.space\.n_neighbours"),
        ("random_forest", {"max_features": ParameterConfig(low=0.5, high=2)}, r"tuning\.space\.max_features"),
    ],
)
def test_a_space_that_the_engine_does_not_take_is_told_by_its_key(engine, given, words):
    space = space_of(engine, given, fixed={})
    with pytest.raises(ConfigError, match=words):
        setting(EngineConfig(name=engine), space, list(given), ENCODING, SCALE, [None], threads=1)


def test_what_the_matrix_is_built_with_is_not_tuned():
    with pytest.raises(ConfigError, match=r"tuning\.space\.max_bin"):
        check_names(EngineConfig(), {"max_bin": None})


def test_a_sample_has_about_as_many_rows_whatever_their_cut():
    rows = batch(2000, 5)
    sample = SampleRows((1 << 64) // 4)
    whole = [r for b in sample(iter([rows])) for r in b.column(ROW).to_pylist()]
    parts = [r for b in sample(rows.slice(s, 77) for s in range(0, 2000, 77)) for r in b.column(ROW).to_pylist()]
    assert whole == parts
    assert 420 < len(whole) < 580


@pytest.mark.parametrize("engine", ["xgboost", "catboost", "linear", "random_forest"])
def test_a_part_of_the_rows_teaches_and_all_of_them_judge(bench, engine):
    parts = [fold.part(0.5) for fold in (FOLD, NEXT)]
    drawn = [sum(b.num_rows for b in fold.train()) for fold in parts]
    assert 150 < drawn[0] < 250
    assert drawn[1] > drawn[0]
    assert sum(b.num_rows for b in parts[1].validate()) == LAST.num_rows
    part, whole = (bench(engine, folds, rounds=30, early_stopping_rounds=9) for folds in (parts, [FOLD, NEXT]))
    assert 0 < part.score({}, never).loss != whole.score({}, never).loss


def test_metrics_of_which_more_is_better_are_losses_below_zero():
    assert Metric("auc").pooled([0.7, 0.9], [100, 300]) == pytest.approx(-0.85)
    assert Metric("rmse").pooled([3.0, 4.0], [1, 1]) == pytest.approx(np.sqrt(12.5))
    assert Metric("mae").pooled([1.0, 2.0], [3, 1]) == pytest.approx(1.25)


def test_settings_travel_by_value(bench):
    import cloudpickle

    made = bench("xgboost", [FOLD], rounds=5).setting
    assert dataclasses.asdict(cloudpickle.loads(cloudpickle.dumps(made)))["params"] == made.params
