"""Consumes rows of classes and of numbers, checks that trials are judged as training judges the same parameters."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from assay.config.profile import EngineConfig
from assay.config.tuning import ParameterConfig
from assay.errors import ConfigError
from assay.model.encoding import Encoding
from assay.model.outcome import Outcome
from assay.model.row_sample import ROW
from assay.model.scale import TargetScale
from assay.training.engine import FitRequest, engine_named
from assay.tuning.engines import TUNED, setting, start_of
from assay.tuning.space import SPACES, Space, own_space, space_of, without_use
from assay.tuning.trials import Fold, build

BINARY = Outcome("binary", ("no", "yes"))
THREE = Outcome("multiclass", ("low", "middle", "high"))
QUANTILES = Outcome("quantiles", levels=(0.025, 0.1, 1 / 3, 0.5, 0.9))
SPREAD = ("xgboost", "catboost")
CASES = [(name, outcome) for outcome in (BINARY, THREE) for name in TUNED]
CASES += [(name, QUANTILES) for name in SPREAD]
IDS = [f"{name}-{outcome.kind}" for name, outcome in CASES]
CITIES = ("a", "b", "c")
ENCODING = Encoding(("x0", "x1"), {"city": CITIES})
SCALE = TargetScale("y")
each_case = pytest.mark.parametrize(("engine", "outcome"), CASES, ids=IDS)


def batch(rows, seed, outcome):
    """Rows with two inputs that tell something, one of them missing now and then, and weights of 0, 1 and 2."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 2)).astype(np.float32)
    city = random.integers(0, 3, rows)
    y = 2 * x[:, 0] + city + random.logistic(size=rows)
    if outcome.decides:
        y = np.searchsorted([1.0] if outcome is BINARY else [0.0, 2.0], y).astype(float)
    x[random.random(rows) < 0.1, 1] = np.nan
    return pa.record_batch(
        {
            ROW: pa.array(np.arange(rows) + seed * 100_000),
            "x0": pa.array(x[:, 0]),
            "x1": pa.array(x[:, 1]),
            "city": pa.array([CITIES[c] for c in city]),
            "heavy": pa.array(random.choice([0.0, 1.0, 2.0], rows).astype(np.float32)),
            "y": pa.array(y),
        }
    )


def share(*batches):
    return lambda: iter(batches)


def fold(outcome):
    return Fold(share(batch(300, 1, outcome)), share(batch(140, 2, outcome)))


def longer(outcome):
    return Fold(share(batch(300, 1, outcome), batch(140, 2, outcome)), share(batch(90, 3, outcome)))


@dataclasses.dataclass(frozen=True)
class Heavy:
    """Weights as a column says them."""

    columns: tuple[str, ...] = ("heavy",)

    def __call__(self, rows):
        return rows.column("heavy").to_numpy().astype(np.float32)


@pytest.fixture
def bench(ranks):
    """bench(engine name, outcome, folds, params, ...) -> what a slot has built."""

    def make(name, outcome, folds, params=None, *, weights=None, **told):
        engine = EngineConfig(name=name, params=params or {}, **{"rounds": 20, "early_stopping_rounds": 6, **told})
        space = space_of(name, {}, engine.params, outcome)
        weights = [weights] * len(folds)
        found = setting(engine, space, (), ENCODING, SCALE, weights, threads=1, outcome=outcome)
        return build(found, folds, ranks(1).context(0))

    return make


@pytest.fixture
def trained(ranks):
    """trained(engine name, outcome, fold, params, weights) -> what training says of tune, per round."""

    class Plane:
        def train(self, flows, task, count):
            (found,) = ranks(1).run(task, [list(flows)])
            if isinstance(found, Exception):
                raise found
            return [found]

    def fit(name, outcome, one, params, weights=None):
        request = FitRequest(
            train=one.train, tune=one.validate, encoding=ENCODING, scale=SCALE, params=params, rounds=20,
            early_stopping_rounds=6, refit=False, seed=7, ranks=1, threads=1, driver_host="127.0.0.1",
            weights=weights, outcome=outcome,
        )  # fmt: skip
        history = engine_named(name).fit(Plane(), request, lambda *_: None).history
        return next(values for key, values in history.items() if "_unit_" not in key)

    return fit


def never(*_):
    return False


@each_case
def test_a_trials_loss_is_the_one_of_training_with_its_parameters(bench, trained, engine, outcome):
    drawn = Space(own_space(engine, {}, outcome)).draw(np.random.default_rng(4))
    for params, weights in (({}, None), (drawn, Heavy())):
        curve = trained(engine, outcome, fold(outcome), params, weights)
        found = bench(engine, outcome, [fold(outcome)], weights=weights).score(params, never)
        assert found.loss == pytest.approx(min(curve), rel=1e-6)
        assert found.rounds == int(np.argmin(curve)) + 1


@each_case
def test_any_point_of_the_space_has_a_loss_and_the_same_twice(bench, engine, outcome):
    made = bench(engine, outcome, [fold(outcome), longer(outcome)])
    random, space = np.random.default_rng(2), Space(own_space(engine, {}, outcome))
    for point in [space.draw(random) for _ in range(3)]:
        scored = made.score(point, never)
        assert 0 < scored.loss < 5
        assert scored == made.score(point, never)


@each_case
def test_folds_have_the_mean_loss_of_their_rows(bench, engine, outcome):
    params = {"xgboost": {"subsample": 1.0, "colsample_bytree": 1.0}}.get(engine, {})
    told = {"rounds": 1} if engine in SPREAD else {}
    one, other, both = (
        bench(engine, outcome, folds, **told).score(params, never).loss
        for folds in ([fold(outcome)], [longer(outcome)], [fold(outcome), longer(outcome)])
    )
    assert both == pytest.approx((140 * one + 90 * other) / 230, rel=1e-6)
    assert one != other


@pytest.mark.parametrize("engine", SPREAD)
@pytest.mark.parametrize("outcome", [BINARY, THREE, QUANTILES], ids=lambda o: o.kind)
def test_a_trial_that_is_told_to_stop_stops_there(bench, engine, outcome):
    seen = []

    def report(rounds, loss):
        seen.append(loss)
        return rounds == 4

    assert bench(engine, outcome, [fold(outcome)]).score({}, report) is None
    assert len(seen) == 4
    assert min(seen) > 0
    assert seen[-1] < seen[0]


@each_case
def test_a_part_of_the_rows_teaches_and_all_of_them_judge(bench, engine, outcome):
    part, whole = (bench(engine, outcome, [one]).score({}, never) for one in (fold(outcome).part(0.5), fold(outcome)))
    assert 0 < part.loss != whole.loss


@pytest.mark.parametrize("engine", TUNED)
@pytest.mark.parametrize("outcome", [BINARY, THREE], ids=lambda o: o.kind)
def test_a_fold_that_teaches_one_class_alone_costs_the_study_nothing(bench, engine, outcome):
    rows = batch(60, 5, outcome)
    alike = rows.set_column(rows.schema.names.index("y"), "y", pa.array(np.zeros(60)))
    poor = Fold(share(alike), share(batch(40, 6, outcome)))
    made = bench(engine, outcome, [poor, fold(outcome)])
    good = bench(engine, outcome, [fold(outcome)])
    space = Space(own_space(engine, {}, outcome))
    for params in ({}, space.draw(np.random.default_rng(1))):
        scored = made.score(params, never)
        assert good.score(params, never).loss < scored.loss < np.inf


def test_what_means_nothing_for_a_task_is_not_in_its_space():
    for engine, name in (("linear", "l1_ratio"), ("svm", "epsilon")):
        for outcome in (BINARY, THREE):
            assert set(space_of(engine, {}, {}, outcome).parameters) == set(SPACES[engine]) - {name}
            given = {name: ParameterConfig(low=0.1, high=0.2)}
            assert name not in space_of(engine, given, {}, outcome).parameters
            assert without_use(engine, {}, outcome) == (name,)
            assert name not in space_of(engine, {name: None}, {}, outcome).parameters
        assert set(space_of(engine, {}, {}).parameters) == set(SPACES[engine])
    usual = set(SPACES["catboost"])
    weighted = usual - {"subsample"} | {"bagging_temperature"}
    assert set(space_of("catboost", {}, {}, BINARY).parameters) == usual
    assert set(space_of("catboost", {}, {}, QUANTILES).parameters) == usual
    assert set(space_of("catboost", {}, {}, THREE).parameters) == weighted
    assert set(space_of("catboost", {}, {"bootstrap_type": "MVS"}, THREE).parameters) == usual
    assert set(space_of("catboost", {}, {"bootstrap_type": "Bayesian"}, BINARY).parameters) == weighted
    assert set(space_of("catboost", {}, {"bootstrap_type": "No"}).parameters) == usual - {"subsample"}


@pytest.mark.parametrize(
    ("engine", "params", "given", "outcome", "words"),
    [
        ("xgboost", {}, {"num_class": ParameterConfig(kind="int", low=2, high=4)}, THREE, r"num_class.*task"),
        ("xgboost", {"objective": "reg:squarederror"}, {}, BINARY, r"engine\.params\.objective"),
        ("catboost", {}, {"loss_function": ParameterConfig(kind="choice", choices=("RMSE",))}, QUANTILES, "quantiles"),
        ("linear", {"l1_ratio": 0.5}, {}, BINARY, r"engine\.params\.l1_ratio"),
    ],
)
def test_what_a_task_settles_is_refused(engine, params, given, outcome, words):
    told = EngineConfig(name=engine, params=params)
    space = space_of(engine, given, params, outcome)
    with pytest.raises(ConfigError, match=words):
        setting(told, space, list(given), ENCODING, SCALE, [None], threads=1, outcome=outcome)


@each_case
def test_the_study_starts_at_the_engines_own_parameters(bench, engine, outcome):
    space = space_of(engine, {}, {}, outcome)
    start = start_of(space, bench(engine, outcome, [fold(outcome)]).setting)
    assert set(start) == set(space.parameters)
    assert space.nearest(start) == start
