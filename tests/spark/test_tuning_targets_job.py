"""Consumes feature tables of several targets, checks that the job tune finds, records and trains each, all at once."""

from __future__ import annotations

import pandas as pd
import pytest

from assay.config import load_run
from assay.errors import AssayError
from assay.runtime.job import JobContext
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings
from assay.runtime.tracking import Tracking
from assay.tuning.job import Studies
from assay.tuning.journal import COMPLETE, FAILED, best_of, read

pytestmark = pytest.mark.spark

PLAIN = [
    "training.enable_advanced_features=false",
    "training.force_production_quality=false",
    "serving.learns_until=tune",
    "engine.rounds=15",
    "engine.early_stopping_rounds=5",
    "training.max_evals=4",
]
QUANTILES = "engine.quantiles=[0.1, 0.5, 0.9]"


@pytest.fixture(scope="module")
def built(run_in, towns, tmp_path_factory):
    """A workspace with features of a number, whether it rises, and a number that is always the same; its dataset."""
    folder = tmp_path_factory.mktemp("targets")
    dataset = towns(folder, months=120)
    rows = pd.read_csv(folder / "towns.csv")
    rows.assign(flat=5.0).to_csv(folder / "towns.csv", index=False)
    dataset["targets"] = [
        {"name": "price", "transform": "log"},
        {"name": "rose", "column": "price", "task": "binary", "above": "last_value"},
        {"name": "flat"},
    ]
    dataset["columns"] = {"categorical": ["city", "kind"], "numeric": ["stock"]}
    for name in ("ingest", "build_features"):
        run_in(folder / "workspace", name, dataset, overrides=PLAIN)
    return folder / "workspace", dataset


def studies_in(folder):
    """Target -> its one study, and when that was last written, in milliseconds."""
    paths = (folder / "studies").glob("*.jsonl")
    return {path.stem.rpartition("-")[0]: (read(path), path.stat().st_mtime * 1000) for path in paths}


def test_quantiles_and_classes_are_tuned_at_once_and_trained_with_what_was_found(built, run_in):
    folder, dataset = built
    result = run_in(folder, "tune", dataset, overrides=[*PLAIN, QUANTILES])
    assert result.status == "done"
    assert len(result.summary) > 6
    tracking = Tracking(load_run(dataset=folder / "dataset.yml", workspace=folder))
    found = studies_in(folder)
    assert set(found) == {"price", "rose", "flat"}
    for target, loss in (("price", "tune_quantile"), ("rose", "tune_logloss"), ("flat", "tune_quantile")):
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
        if target != "price":
            assert written < stage.info.start_time  # its trials were made while the first target's were
    assert "has pinball loss" in result.summary[1]
    assert any("rose: best of 4 trials" in line and "has log loss" in line for line in result.summary)
    # both slots were at work for different targets from the beginning
    assert len({min(study.trials, key=lambda t: t.number).slot for study, _ in found.values()}) == 2
    assert run_in(folder, "tune", dataset, overrides=[*PLAIN, QUANTILES]).status == "unchanged"


def test_a_target_that_cannot_be_tuned_costs_the_others_nothing_and_they_are_gone_on_with(built, spark):
    folder, _ = built
    before = set((folder / "studies").glob("*.jsonl"))

    def run(*told):
        # CatBoost refuses to learn where all outcomes are equal
        told = [*PLAIN, "engine.name=catboost", *told]
        config = load_run(dataset=folder / "dataset.yml", workspace=folder, overrides=told)
        context = JobContext(config, SparkSettings(), Reporter(quiet=True))
        try:
            price, rose, flat = config.dataset.targets
            studies = Studies(context, [flat, price, rose])
            with pytest.raises(AssayError, match=r"3 trials failed.*equal"):
                studies.tuned(flat)
            return [studies.tuned(target)[1] for target in (price, rose)]
        finally:
            context.close()

    first = run()
    new = {path.stem.rpartition("-")[0]: path for path in set((folder / "studies").glob("*.jsonl")) - before}
    assert {t.state for t in read(new["flat"]).trials} == {FAILED}
    again = run("training.max_evals=5")
    for target, early, late in zip(("price", "rose"), first, again, strict=True):
        trials = read(new[target]).trials
        assert [sum(t.finished for t in part) for part in (trials[: early.trials], trials)] == [4, 5]
        assert late.trials == len(trials)
        assert late.loss == best_of(trials).loss <= early.loss
        assert {t.state for t in trials if t.loss is not None} >= {COMPLETE}
