"""Consumes labelled rows, checks that every engine keeps the contract. A new engine is one more entry of `CASES`."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pyarrow as pa
import pytest
from engine_harness import CITIES, Heavy, LocalPlane, changed, fit, labelled, rmse

from assay import extensions
from assay.config.profile import ENGINES, SAMPLED
from assay.errors import AssayError, ConfigError
from assay.model.bundle import Model
from assay.model.encoding import Encoding
from assay.model.predictors import LOADERS, Explains
from assay.model.scale import TargetScale
from assay.training.engine import engine_named
from assay.training.learner_params import NoParams
from assay.training.sampled_engine import SAMPLE_ROWS


@dataclasses.dataclass(frozen=True)
class Case:
    """What is true of one engine beyond the contract.

    reaches: error on later rows, whose own noise is 0.1 and of which one in ten lacks a number.
    twice: parameters with which a row of weight 2 is the same as two rows; None where rows are drawn at random, or
        neighbours counted, which tells two from one.
    traceless: a row without weight leaves no trace; boosters bin numbers and draw rows by all that they are given.
    typo: a parameter that it does not know, and what was meant.  bad: a value that it does not take.
    constant: how far off a constant target may be.  ranks: by how much several ranks may change the error.
    """

    reaches: float
    typo: tuple[str, str]
    bad: dict
    twice: dict | None = None
    traceless: bool = True
    constant: float = 1e-9
    ranks: float = 0.05
    params: dict = dataclasses.field(default_factory=dict)


CASES = {
    "xgboost": Case(
        reaches=1.2, typo=("max_dept", "max_depth"), bad={"eta": "fast"}, traceless=False, params={"eta": 0.3}
    ),
    "catboost": Case(
        reaches=1.2,
        typo=("dept", "depth"),
        bad={"learning_rate": "fast"},
        traceless=False,
        constant=1e-6,
        ranks=0.15,  # shards of a third of the rows, averaged
        params={"learning_rate": 0.3},
    ),
    "linear": Case(reaches=1.4, typo=("l1_ration", "l1_ratio"), bad={"alpha": -1}, twice={}, ranks=1e-9),
    "knn": Case(reaches=1.2, typo=("n_neighbours", "n_neighbors"), bad={"n_neighbors": 0}),
    "svm": Case(reaches=1.2, typo=("epsilom", "epsilon"), bad={"C": "big"}, twice={"tol": 1e-8}),
    "decision_tree": Case(
        reaches=1.2,
        typo=("depth", "max_depth"),
        bad={"max_depth": 0},
        twice={"min_samples_leaf": 1, "max_leaf_nodes": 8},
    ),
    "random_forest": Case(
        reaches=1.2, typo=("n_estimator", "n_estimators"), bad={"max_features": 2.0}, params={"n_estimators": 20}
    ),
    **{
        cell: Case(
            reaches=1.2,
            typo=("hiden", "hidden"),
            bad={"dropout": 1.0},
            ranks=1e-5,  # sums of three parts are rounded otherwise
            params={"lookback": 2, "hidden": 12, "dropout": 0.0, "batch_size": 128, "learning_rate": 0.03},
        )
        for cell in ("lstm", "gru")
    },
}
OWN = tuple(CASES)


def extended(name):
    """What is true of an engine of an extension: of the rest that the contract asks for it says nothing."""
    item = extensions.get("engine", name).item
    known = [field.name for field in dataclasses.fields(getattr(item, "params", NoParams))]
    typo = (f"{known[0]}x", known[0]) if known else ("strange", "")
    bad = {known[0]: [None]} if known else {"strange": 1}
    return Case(reaches=2.0, typo=typo, bad=bad, traceless=False, constant=1e-6, ranks=0.2)


# ASSAY_EXTENSIONS=my_module.py pytest tests/unit/training/test_engine_contract.py -k my_engine
CASES |= {name: extended(name) for name in extensions.names("engine")}
every_engine = pytest.mark.parametrize("engine", CASES)


def learn(engine, train, **options):
    return fit(engine, train, **{"params": CASES[engine].params, **options})


def test_every_engine_that_can_be_asked_for_is_here():
    assert set(OWN) == set(ENGINES) == set(LOADERS) - {"ensemble"}
    assert set(SAMPLED) == set(SAMPLE_ROWS) == {name for name in OWN if engine_named(name).alone}


@every_engine
def test_it_learns_and_is_the_same_after_it_was_saved(engine, tmp_path):
    result, model = learn(engine, [labelled(1500)])
    later = labelled(400, seed=9)
    assert rmse(model, later) < CASES[engine].reaches  # the outcome's own spread is about 4
    model.save(tmp_path / "bundle")
    again = Model.load(tmp_path / "bundle")
    np.testing.assert_array_equal(again.predict(later), model.predict(later))
    assert again.version == model.version
    assert again.importance() == model.importance()
    assert set(model.importance()) <= set(model.encoding.features)
    assert result.rounds >= 1
    assert result.sample is None


@every_engine
def test_a_stored_learner_holds_no_pickle(engine):
    stored = learn(engine, [labelled(60)])[0].stored
    assert not stored.startswith(b"\x80")
    assert b"numpy.core" not in stored
    assert b"sklearn" not in stored


@every_engine
def test_missing_values_and_unseen_categories_get_a_prediction(engine):
    _, model = learn(engine, [labelled(600)])
    batch = labelled(5, seed=3)
    strange = changed(
        batch, size=[np.nan, None, np.inf, -np.inf, 0.0], age=[None] * 5, city=["Houston", None, "", "Waco", "Wäco"]
    )
    assert np.isfinite(model.predict(strange)).all()
    unseen, missing = (model.predict(changed(batch, city=[value] * 5)) for value in ("Houston", None))
    np.testing.assert_array_equal(unseen, missing)


@every_engine
def test_extreme_numbers_are_borne_in_training_and_after(engine):
    batch = labelled(300)
    size = batch.column("size").to_numpy().copy()
    size[:3] = [3e38, -3e38, 1e-40]
    _, model = learn(engine, [changed(batch, size=size)])
    assert np.isfinite(model.predict(changed(batch, size=size))).all()
    _, model = learn(engine, [changed(batch, size=size * np.float32(1e-38))])
    assert np.isfinite(model.predict(changed(batch, size=np.full(300, 3e38, np.float32)))).all()


@every_engine
def test_a_column_that_was_never_known_is_no_hindrance(engine):
    _, model = learn(engine, [changed(labelled(300), age=[np.nan] * 300)])
    assert rmse(model, labelled(200, seed=4)) < 3


@every_engine
@pytest.mark.parametrize(
    ("encoding", "reaches"),
    [
        (Encoding(("size",), {}), 3.2),
        (Encoding((), {"city": CITIES}), 3.8),
        (Encoding((), {"city": ()}), 4.5),
    ],
    ids=["one number", "one category", "no category known"],
)
def test_narrow_inputs(engine, encoding, reaches):
    _, model = learn(engine, [labelled(800)], encoding=encoding)
    assert rmse(model, labelled(300, seed=4)) < reaches


@every_engine
def test_a_constant_target_is_predicted(engine):
    _, model = learn(engine, [changed(labelled(200), y=[12.5] * 200)])
    np.testing.assert_allclose(model.predict(labelled(50, seed=3)), 12.5, rtol=0, atol=CASES[engine].constant)


@every_engine
def test_one_row(engine):
    _, model = learn(engine, [labelled(1)])
    assert np.isfinite(model.predict(labelled(5, seed=1))).all()


@every_engine
def test_equal_seeds_give_equal_bytes(engine):
    train = [labelled(300), labelled(200, seed=1, first=300)]
    assert learn(engine, train)[0].stored == learn(engine, train)[0].stored


@every_engine
def test_how_rows_are_cut_into_batches_changes_nothing(engine):
    whole = labelled(1500)
    slices = [whole.slice(start, 7) for start in range(0, 1500, 7)]
    assert learn(engine, slices)[0].stored == learn(engine, [whole.slice(0, 0), whole])[0].stored


@every_engine
def test_a_row_is_predicted_the_same_alone_and_among_others(engine):
    _, model = learn(engine, [labelled(400)])
    many = labelled(600, seed=2)
    alone = np.concatenate([model.predict(many.slice(row, 1)) for row in (0, 1, 299, 599)])
    np.testing.assert_array_equal(alone, model.predict(many)[[0, 1, 299, 599]])
    assert model.predict(many.slice(0, 0)).shape == (0,)


@every_engine
def test_what_inputs_add_is_the_prediction_where_an_engine_says_it(engine):
    _, model = learn(engine, [labelled(400)])
    later = labelled(100, seed=2)
    if isinstance(model.predictor, Explains):
        found = model.predictor.contributions(model.encoding.matrix(later))
        assert found.shape == (100, 4)
        np.testing.assert_allclose(found.sum(axis=1), model.predict_scaled(later), rtol=1e-4, atol=1e-4)
    if engine in OWN:
        assert isinstance(model.predictor, Explains) == (engine in {"xgboost", "catboost", "linear"})


@every_engine
def test_it_learns_on_the_targets_scale(engine):
    whole = changed(labelled(300), y=labelled(300).column("y").to_numpy() / 10)
    prices = changed(whole, y=np.exp(whole.column("y").to_numpy()))
    direct, logged = learn(engine, [whole])[1], learn(engine, [prices], scale=TargetScale("y", "log"))[1]
    later = labelled(50, seed=6)
    np.testing.assert_allclose(np.log(logged.predict(later)), direct.predict(later), rtol=1e-6)


@every_engine
def test_the_later_period_is_measured_and_refit_learns_from_both(engine):
    train, tune = [labelled(400)], [labelled(300, seed=1, first=400)]
    options = {"rounds": 15}
    plain, model = learn(engine, train, tune=tune, **options)
    refitted, _ = learn(engine, train, tune=tune, refit=True, **options)
    best = min(plain.history["tune_rmse"])
    if engine != "xgboost":  # it may go on past its best round
        assert best == pytest.approx(rmse(model, tune[0]), rel=1e-6)
    assert refitted.history == plain.history
    assert refitted.rounds == plain.rounds
    both, _ = learn(engine, [*train, *tune], **{**options, "rounds": plain.rounds})
    assert refitted.stored == both.stored != plain.stored


@pytest.mark.parametrize("engine", [name for name, case in CASES.items() if case.traceless])
def test_a_row_of_no_weight_is_as_if_it_were_not_there(engine):
    whole = labelled(400)
    keep = whole.column("heavy").to_numpy() > 0
    wrong = np.where(keep, whole.column("y").to_numpy(), 1e6)
    ones = np.where(keep, 1.0, 0.0).astype(np.float32)
    weighed, _ = learn(engine, [changed(whole, y=wrong, heavy=ones)], weights=Heavy())
    assert weighed.sample is None
    assert weighed.stored == learn(engine, [whole.filter(pa.array(keep))])[0].stored


@every_engine
def test_refit_has_weights_of_its_own_and_the_later_period_is_not_weighted(engine):
    train, tune = labelled(200), labelled(150, seed=1, first=200)
    options = {"tune": [tune], "rounds": 15, "params": CASES[engine].params}
    plain, _ = fit(engine, [train], **options)
    weighed, leaning = fit(engine, [train], weights=Heavy(), **options)
    assert min(weighed.history["tune_rmse"]) == pytest.approx(rmse(leaning, tune), rel=1e-6)
    refitted, _ = fit(engine, [train], refit=True, refit_weights=Heavy(), **options)
    assert refitted.history == plain.history != weighed.history
    both, _ = fit(engine, [train, tune], weights=Heavy(), rounds=plain.rounds, params=CASES[engine].params)
    assert refitted.stored == both.stored


@pytest.mark.parametrize("engine", [name for name, case in CASES.items() if case.twice is not None])
def test_a_row_of_twice_the_weight_counts_as_two(engine):
    whole, later = labelled(300), labelled(100, seed=5)
    heavy = whole.column("heavy").to_numpy()
    copies = np.repeat(np.arange(300), heavy.astype(int))
    doubled = changed(whole.take(pa.array(copies)), row_id=np.arange(len(copies)))
    options = {"params": {**CASES[engine].params, **CASES[engine].twice}}
    weighed, twice = learn(engine, [whole], weights=Heavy(), **options)[1], learn(engine, [doubled], **options)[1]
    np.testing.assert_allclose(weighed.predict(later), twice.predict(later), rtol=1e-5)
    plain = learn(engine, [whole], **options)[1]
    assert not np.allclose(plain.predict(later), twice.predict(later), rtol=1e-4)


@every_engine
def test_predictions_lean_to_the_heavier_rows(engine):
    whole = changed(labelled(400), city=["Austin"] * 400)
    odd = np.arange(400) % 2 == 1
    whole = changed(whole, y=np.where(odd, 100.0, 0.0), heavy=np.where(odd, 9.0, 1.0).astype(np.float32))
    flat = changed(whole, size=[0.0] * 400, age=[0.0] * 400)
    encoding = Encoding(("size", "age"), {"city": ("Austin",)})
    later = flat.slice(0, 10)
    plain = learn(engine, [flat], encoding=encoding)[1].predict(later)
    leaning = learn(engine, [flat], encoding=encoding, weights=Heavy())[1].predict(later)
    assert (leaning > plain).all()


@every_engine
def test_any_number_of_ranks_learns_about_the_same(engine):
    batches = [labelled(300, seed=n, first=300 * n) for n in range(4)]
    plane, later = LocalPlane(), labelled(300, seed=9)
    one, three = (learn(engine, batches, ranks=ranks, plane=plane)[1] for ranks in (1, 3))
    if engine_named(engine).alone:
        assert plane.asked_for == [1, 1]
        assert one.stored == three.stored
    assert rmse(three, later) == pytest.approx(rmse(one, later), rel=CASES[engine].ranks)


@pytest.mark.parametrize("engine", SAMPLED)
def test_a_sample_knows_neither_batches_nor_order_and_says_its_size(engine):
    whole = labelled(2000)
    shuffled = whole.take(pa.array(np.random.default_rng(1).permutation(2000)))
    one, model = learn(engine, [whole], sample_rows=500)
    other, _ = learn(engine, [shuffled.slice(n, 31) for n in range(0, 2000, 31)], sample_rows=500)
    assert one.sample == other.sample == (500, 2000)
    assert one.stored == other.stored != learn(engine, [whole])[0].stored
    assert rmse(model, labelled(300, seed=9)) < 1.5


@every_engine
def test_nothing_of_engine_and_plane_goes_to_the_ranks(engine):
    chosen, plane = engine_named(engine), LocalPlane()  # whose lock no pickle takes
    object.__setattr__(chosen, "planted", threading.Lock())
    assert learn_with(chosen, plane)


def learn_with(chosen, plane):
    params = CASES[chosen.name].params
    return fit(chosen, [labelled(50)], tune=[labelled(30, seed=1)], params=params, plane=plane)[0].stored


@every_engine
@pytest.mark.parametrize("kind", ["typo", "bad", "seed"])
def test_bad_parameters_are_refused_in_one_line_before_a_stage_starts(engine, kind):
    case, plane = CASES[engine], LocalPlane()
    wrong, meant = case.typo
    params = {"typo": {wrong: 3}, "bad": case.bad, "seed": {"seed": 1}}[kind]
    with pytest.raises(ConfigError, match=rf"engine\.params\.{next(iter(params))}\b") as caught:
        fit(engine, [labelled(50)], params=params, plane=plane)
    assert "\n" not in str(caught.value)
    assert "http" not in str(caught.value)
    expected = {"typo": f"did you mean {meant}?" if meant else "", "bad": "", "seed": "engine.seed"}[kind]
    assert expected in str(caught.value).replace("mean engine.params.", "mean ")
    assert plane.asked_for == []


@every_engine
def test_a_target_that_no_number_stands_for_is_one_plain_line(engine):
    with pytest.raises(AssayError, match=rf"(?i){engine}") as caught:
        learn(engine, [changed(labelled(50), y=[np.nan] * 50)])
    assert "\n" not in str(caught.value)
