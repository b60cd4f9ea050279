"""Consumes feature tables, checks what the job tune finds, records, trains at once, and goes on with later."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest
import yaml

from assay.config import load_run
from assay.errors import AssayError
from assay.runtime.job import JobContext
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings
from assay.runtime.tracking import Tracking
from assay.tuning import job
from assay.tuning.journal import COMPLETE, FAILED, best_of, read

pytestmark = pytest.mark.spark

PLAIN = [
    "training.enable_advanced_features=false",
    "training.force_production_quality=false",
    "engine.rounds=25",
    "engine.early_stopping_rounds=8",
]


@pytest.fixture(scope="module")
def built(run_in, towns, tmp_path_factory):
    """A workspace with features, and its dataset: a number, whether it rises, and a number that is always the same."""
    folder = tmp_path_factory.mktemp("tuning")
    dataset = towns(folder, months=120)
    pd.read_csv(folder / "towns.csv").assign(flat=5.0).to_csv(folder / "towns.csv", index=False)
    dataset["targets"] = [
        {"name": "price", "transform": "log"},
        {"name": "rose", "column": "price", "task": "binary", "above": "last_value"},
        {"name": "flat"},
    ]
    dataset["columns"] = {"categorical": ["city", "kind"], "numeric": ["stock"]}
    dataset |= {"groups": [["kind"]], "features": {"lags": [1, 12], "windows_days": [95]}}
    for name in ("ingest", "build_features"):
        run_in(folder / "workspace", name, dataset, overrides=PLAIN)
    return folder / "workspace", dataset


def some(dataset, *targets):
    """The dataset with some of its targets alone."""
    return {**dataset, "targets": [target for target in dataset["targets"] if target["name"] in targets]}


@pytest.fixture
def tuned(built, spark):
    """tuned(settings...) -> what the stage alone finds, with its study."""

    def tune(*told):
        folder, dataset = built
        (folder / "dataset.yml").write_text(yaml.safe_dump(some(dataset, "price")))
        before = set((folder / "studies").glob("*.jsonl"))
        config = load_run(dataset=folder / "dataset.yml", workspace=folder, overrides=[*PLAIN, *told])
        context = JobContext(config, SparkSettings(), Reporter(quiet=True))
        try:
            result, best = job.tuned(context, config.dataset.targets[0])
        finally:
            context.close()
        new = set((folder / "studies").glob("*.jsonl")) - before
        return result, best, read(new.pop()) if new else None

    return tune


def only_run(folder, name):
    tracking = Tracking(load_run(dataset=folder / "dataset.yml", workspace=folder))
    (run,) = tracking.client.search_runs([tracking.experiment_id], f"tags.`assay.job` = '{name}'")
    return tracking, run


def test_tune_finds_trains_and_is_unchanged_the_second_time(built, run_in, tmp_path):
    source, dataset = built[0], some(built[1], "price")
    folder = tmp_path / "workspace"
    shutil.copytree(source / "lake", folder / "lake")
    told = [*PLAIN, "training.max_evals=9"]
    result = run_in(folder, "tune", dataset, overrides=told)
    assert result.status == "done"
    (path,) = (folder / "studies").glob("*.jsonl")
    study = read(path)
    assert len([t for t in study.trials if t.finished]) == 9
    best, start = best_of(study.trials), next(t for t in study.trials if not t.params)
    assert best.loss <= start.loss
    assert result.metrics["best_loss"] == best.loss
    tracking, stage = only_run(folder, "tune")
    _, trained = only_run(folder, "train")
    assert trained.data.tags["assay.study"] == stage.data.tags["assay.study"] in path.stem
    assert trained.data.tags["assay.study_run"] == stage.info.run_id
    # what was trained is what the study judged: the same parameters, rows and loss
    curve = [m.value for m in tracking.client.get_metric_history(trained.info.run_id, "tune_rmse")]
    assert min(curve) == pytest.approx(best.loss, rel=1e-5)
    names = {a.path for a in tracking.client.list_artifacts(stage.info.run_id)}
    assert {"study.html", "trials.csv", "best.json", "figures", "study.json"} <= names
    assert list((folder / "reports").glob("tune-price-*.html"))
    again = run_in(folder, "tune", dataset, overrides=told)
    assert again.status == "unchanged"
    assert again.metrics["best_loss"] == best.loss
    # more trials go on with the study, and `train` does it when it is told to
    flags = ["training.enable_hyperparameter_tuning=true", "training.max_evals=11"]
    assert run_in(folder, "train", dataset, overrides=[*PLAIN, *flags]).metrics["trials"] == 11
    assert read(path).trials[:9] == study.trials
    assert len(read(path).trials) == 11


SCREENED = "tuning.screen_rows=100"


@pytest.mark.parametrize(
    "told",
    [
        ("engine.name=catboost", "tuning.sampler=hyperopt", "tuning.pruner=hyperband", "tuning.folds=2", SCREENED),
        ("engine.name=linear", "training.use_optuna=false", "tuning.sample_rows=200", "engine.weight_halflife_days=99"),
    ],
)
def test_other_engines_samplers_and_folds(tuned, told):
    result, best, study = tuned("training.max_evals=5", *told)
    assert result.status == "done"
    assert not [t for t in study.trials if t.state == FAILED]
    assert best.loss == study.best.loss == min(t.loss for t in study.trials if t.share == 1 and t.state == COMPLETE)
    assert any(t.share < 1 for t in study.trials) == (SCREENED in told)


def test_both_roads_give_a_trial_the_same_loss(tuned):
    # rows come in another order, which matters only where some of them are drawn
    told = ["training.max_evals=2", "tuning.sampler=random", "tuning.slots=1", "tuning.pruner=none", "tuning.thrift=1"]
    told += ["engine.params={subsample: 1.0, colsample_bytree: 1.0}"]
    _, __, arrow = tuned(*told)
    # another share of memory, which means nothing here, makes a study of its own
    _, __, spark = tuned(*told, "runtime.road=spark", "engine.memory_share=0.4")
    assert [t.loss for t in spark.trials] == pytest.approx([t.loss for t in arrow.trials], rel=1e-4)
    assert [t.params for t in spark.trials] == [t.params for t in arrow.trials]


QUANTILES = [*PLAIN, "engine.quantiles=[0.1, 0.5, 0.9]", "training.max_evals=4", "serving.learns_until=tune"]


def studies_in(folder):
    """Target -> its one study, and when that was last written, in milliseconds."""
    paths = (folder / "studies").glob("*.jsonl")
    return {path.stem.rpartition("-")[0]: (read(path), path.stat().st_mtime * 1000) for path in paths}


def test_quantiles_and_classes_are_tuned_at_once_and_trained_with_what_was_found(built, run_in, tmp_path):
    dataset, folder = some(built[1], "price", "rose"), tmp_path / "workspace"
    shutil.copytree(built[0] / "lake", folder / "lake")
    result = run_in(folder, "tune", dataset, overrides=QUANTILES)
    assert result.status == "done"
    tracking = Tracking(load_run(dataset=folder / "dataset.yml", workspace=folder))
    found = studies_in(folder)
    assert set(found) == {"price", "rose"}
    for target, loss in (("price", "tune_quantile"), ("rose", "tune_logloss")):
        study, written = found[target]
        assert sum(t.finished for t in study.trials) == 4
        best = best_of(study.trials)
        told = f"tags.`assay.target` = '{target}' and tags.`assay.job`"
        (stage,) = tracking.client.search_runs([tracking.experiment_id], f"{told} = 'tune'")
        (trained,) = tracking.client.search_runs([tracking.experiment_id], f"{told} = 'train'")
        assert stage.data.metrics["best_loss"] == best.loss
        assert trained.data.tags["assay.study_run"] == stage.info.run_id
        # what was trained is what the study judged: the same parameters, rows and loss
        curve = [m.value for m in tracking.client.get_metric_history(trained.info.run_id, loss)]
        assert min(curve) == pytest.approx(best.loss, rel=1e-5)
        assert (written < stage.info.start_time) == (target == "rose")  # made while those of the first target were
    assert "has pinball loss" in result.summary[1]
    assert any("rose: best of 4 trials" in line and "has log loss" in line for line in result.summary)
    assert len({trial.slot for study, _ in found.values() for trial in study.trials}) == 2  # both slots were at work
    assert run_in(folder, "tune", dataset, overrides=QUANTILES).status == "unchanged"


def test_a_target_that_cannot_be_tuned_costs_the_others_nothing_and_they_are_gone_on_with(built, spark):
    folder, dataset = built
    (folder / "dataset.yml").write_text(yaml.safe_dump(some(dataset, "price", "flat")))
    before = set((folder / "studies").glob("*.jsonl"))

    def run(*told):
        # CatBoost refuses to learn where all outcomes are equal
        told = [*PLAIN, "engine.name=catboost", "training.max_evals=4", *told]
        config = load_run(dataset=folder / "dataset.yml", workspace=folder, overrides=told)
        context = JobContext(config, SparkSettings(), Reporter(quiet=True))
        try:
            price, flat = config.dataset.targets
            studies = job.Studies(context, [flat, price])
            with pytest.raises(AssayError, match=r"3 trials failed.*equal"):
                studies.tuned(flat)
            return studies.tuned(price)[1]
        finally:
            context.close()

    first = run()
    new = {path.stem.rpartition("-")[0]: path for path in set((folder / "studies").glob("*.jsonl")) - before}
    assert {t.state for t in read(new["flat"]).trials} == {FAILED}
    again = run("training.max_evals=5")
    trials = read(new["price"]).trials
    assert [sum(t.finished for t in part) for part in (trials[: first.trials], trials)] == [4, 5]
    assert again.trials == len(trials)
    assert again.loss == best_of(trials).loss <= first.loss
