"""Consumes feature tables, checks what the job tune finds, records, trains at once, and goes on with later."""

from __future__ import annotations

import shutil

import pytest

from assay.config import load_run
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
    """A workspace with features, and its dataset."""
    folder = tmp_path_factory.mktemp("tuning")
    dataset = {**towns(folder, months=120), "targets": [{"name": "price", "transform": "log"}]}
    dataset["columns"] = {"categorical": ["city", "kind"], "numeric": ["stock"]}
    for name in ("ingest", "build_features"):
        run_in(folder / "workspace", name, dataset, overrides=PLAIN)
    return folder / "workspace", dataset


@pytest.fixture
def tuned(built, spark):
    """tuned(settings...) -> what the stage alone finds, with its study."""

    def tune(*told):
        folder, _ = built
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
    source, dataset = built
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
