"""Consumes weekly sales of Walmart, compares searches for XGBoost's parameters: seconds until a loss is reached.

`assay`: the job's own study with its defaults, a slot per core, on the Delta table.  `optuna`: TPE and median pruner
with their defaults, every round reported, SQLite storage, a trial per core at once (`n_jobs`) with one thread each, and
a fresh `DMatrix` for each trial from a frame in memory. Rows, split, label, search space, most rounds and early
stopping are the same.

The loss to be reached is not chosen by hand: it is the median over seeds of the best that `optuna` has after all of its
trials (20, or `$ASSAY_BENCHMARK_TRIALS`). Ours, whose trials are shorter, may make three times as many; what counts is
the time. A search that never reaches the loss has `inf`. Losses are RMSE on the tune period, on the model's scale. Each
seed is a pair of contenders of its own; `--only 'seed1:*'` runs one. `--rows` takes so many rows, of whole series. The
data are looked for where their YAML says, in the current folder and in `$ASSAY_DATA`.
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks._plain import pruning
from benchmarks._session import CORES, open_warm, settings
from benchmarks.harness import Benchmark, Contender, Outcome

ROOT = Path(__file__).resolve().parents[2]
DATASET = ROOT / "conf" / "datasets" / "walmart_weekly.yml"
ALL_ROWS = 421_570
SEEDS = (1, 2, 3, 4, 5)
TRIALS = int(os.environ.get("ASSAY_BENCHMARK_TRIALS", "20"))
OURS_AT_MOST = 3 * TRIALS  # shorter ones: what is measured is the time to a loss, wherever in the study it is reached
ROUNDS, STOPPING = 300, 30
LABEL = "__label"


def generate(folder: Path, rows: int) -> None:
    """A lake with features of so many rows, and the same rows, split and labelled, as Parquet files."""
    import polars as pl
    import pyarrow.parquet as pq

    tree = yaml.safe_load(DATASET.read_text(encoding="utf-8"))
    name = Path(tree["source"]["path"]).name
    places = [DATASET.parent / tree["source"]["path"], Path(name), Path(os.environ.get("ASSAY_DATA", ".")) / name]
    source = pl.from_arrow(pq.read_table(next(path for path in places if path.is_file())))
    assert isinstance(source, pl.DataFrame)
    if rows < ALL_ROWS:
        series = source.select("Store", "Dept").unique().sort("Store", "Dept").sample(fraction=1, shuffle=True, seed=7)
        sizes = source.group_by("Store", "Dept").len()
        series = series.join(sizes, on=["Store", "Dept"], maintain_order="left")
        source = source.join(series.filter(pl.col("len").cum_sum() <= rows).drop("len"), on=["Store", "Dept"])
    source.write_parquet(folder / name)
    tree["source"]["path"] = str(folder / name)
    (folder / "dataset.yml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    context = _context(folder, 0)
    from assay.pipeline import JOBS

    for job in ("ingest", "build_features"):
        JOBS[job].run(context)
    _write_periods(folder, context)
    context.close()


def _context(folder: Path, seed: int) -> Any:
    from assay.config import load_run
    from assay.runtime.job import JobContext
    from assay.runtime.progress import Reporter

    told = [f"engine.rounds={ROUNDS}", f"engine.early_stopping_rounds={STOPPING}"]
    told += [f"training.max_evals={OURS_AT_MOST}", f"tuning.seed={seed}"]
    config = load_run(dataset=folder / "dataset.yml", workspace=folder / "workspace", overrides=told)
    return JobContext(config, settings(), Reporter(quiet=True))


def _write_periods(folder: Path, context: Any) -> None:
    """Inputs and label of the train and the tune period."""
    import polars as pl

    from assay.model.scale import as_floats
    from assay.training.job import Training

    target = context.config.dataset.targets[0]
    training = Training(context, target, context.plane.version("features"))
    times = training.rows.times()
    split = training.split(times)
    scale, encoding = (
        training.scale(training.baselines([split.train, split.tune], times)),
        training.rows.encoding(split.train),
    )
    for name, period in (("train", split.train), ("tune", split.tune)):
        columns = list(dict.fromkeys([*encoding.columns, *scale.columns, training.column]))
        (batch,) = training.rows.read(columns, period).collect().combine_chunks().to_batches()
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        label = scale.forward(as_floats(batch.column(training.column)), batch)
        frame.select(encoding.features).with_columns(pl.Series(LABEL, label)).write_parquet(folder / f"{name}.parquet")


def prepare_ours(data: Path, seed: int) -> Any:
    """A workspace with the features and no study yet, and warm workers."""
    folder = data / "runs" / f"seed{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(data / "workspace", folder / "workspace")
    shutil.copy(data / "dataset.yml", folder / "dataset.yml")
    open_warm(_import_libraries)
    context = _context(folder, seed)
    context.tracking  # noqa: B018  opened
    return context


def _import_libraries(_: int) -> str:
    import optuna
    import xgboost

    from assay.tuning import job, xgboost_trials

    return f"{xgboost.__version__} {optuna.__version__} {job.__name__} {xgboost_trials.__name__}"


def run_ours(context: Any) -> Sequence[tuple[float, float]]:
    """The stage as the job `tune` runs it; (seconds, loss) of each complete trial."""
    from assay.runtime.job import run_stage
    from assay.tuning import job
    from assay.tuning.journal import COMPLETE, read
    from assay.tuning.target_study import STUDIES

    run_stage(context, job.plan(context, context.config.dataset.targets[0]))
    (path,) = (context.config.workspace / STUDIES).glob("*.jsonl")
    record = read(path)
    context.close()
    assert record is not None
    return [(t.at_s, t.loss) for t in record.trials if t.state == COMPLETE and t.loss is not None and t.share == 1]


def prepare_optuna(data: Path, seed: int) -> Any:
    """Import what is needed."""
    import optuna
    import pandas  # noqa: F401
    import xgboost  # noqa: F401

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    database = data / f"optuna-{seed}.db"
    database.unlink(missing_ok=True)
    return data, seed, database


def run_optuna(state: Any) -> Sequence[tuple[float, float]]:
    """A study as Optuna's own examples have it; (seconds, loss) of each complete trial."""
    import optuna
    import pandas as pd
    import xgboost as xgb

    data, seed, database = state
    started = time.perf_counter()
    train, tune = pd.read_parquet(data / "train.parquet"), pd.read_parquet(data / "tune.parquet")
    for name in train.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in train.dtypes]]:
        kind = pd.CategoricalDtype(sorted(train[name].dropna().unique()))
        train[name], tune[name] = train[name].astype(kind), tune[name].astype(kind)
    train_label, tune_label = train.pop(LABEL), tune.pop(LABEL)
    found: list[tuple[float, float]] = []

    def objective(trial: Any) -> float:
        params = {
            "eta": trial.suggest_float("eta", 0.01, 0.3, log=True),
            "max_depth": trial.suggest_int("max_depth", 3, 10),
            "min_child_weight": trial.suggest_float("min_child_weight", 1, 100, log=True),
            "subsample": trial.suggest_float("subsample", 0.5, 1.0),
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.3, 1.0),
            "lambda": trial.suggest_float("lambda", 1e-3, 100, log=True),
            "alpha": trial.suggest_float("alpha", 1e-3, 10, log=True),
            "gamma": trial.suggest_float("gamma", 1e-4, 1.0, log=True),
        }
        told = {**params, "tree_method": "hist", "max_bin": 256, "nthread": 1, "seed": 7}
        dtrain = xgb.DMatrix(train, train_label, enable_categorical=True, nthread=1)
        dtune = xgb.DMatrix(tune, tune_label, enable_categorical=True, nthread=1)
        log: dict[str, Any] = {}
        xgb.train(
            told,
            dtrain,
            ROUNDS,
            evals=[(dtune, "tune")],
            evals_result=log,
            early_stopping_rounds=STOPPING,
            callbacks=[pruning(trial)],
            verbose_eval=False,
        )
        loss = float(np.min(log["tune"]["rmse"]))
        found.append((time.perf_counter() - started, loss))
        return loss

    study = optuna.create_study(
        storage=f"sqlite:///{database}",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(),
    )
    study.optimize(objective, n_trials=TRIALS, n_jobs=CORES)
    return found


def outputs(found: Sequence[tuple[float, float]]) -> Mapping[str, float]:
    """Seconds and best loss after each complete trial, in order."""
    best = np.minimum.accumulate([loss for _, loss in found])
    seconds = {f"seconds_{place:04d}": at for place, (at, _) in enumerate(found)}
    return {**seconds, **{f"best_{place:04d}": float(loss) for place, loss in enumerate(best)}}


def reached(figures: Mapping[str, float], loss: float) -> float:
    """Seconds until the loss; infinite where it was not reached."""
    places = [name.removeprefix("best_") for name in figures if name.startswith("best_")]
    return min((figures[f"seconds_{p}"] for p in places if figures[f"best_{p}"] <= loss), default=math.inf)


def report(outcome: Outcome) -> tuple[str, Mapping[str, Any]]:
    """A line per search: median and range over seeds of the seconds to the loss, and of the best loss at the end."""
    finals = {n: min(v for k, v in f.items() if k.startswith("best_")) for n, f in outcome.outputs.items()}
    theirs = [loss for name, loss in finals.items() if name.endswith(":optuna")]
    if not theirs:
        return outcome.table(), {}
    goal = statistics.median(theirs)
    lines = [
        f"tune, {outcome.rows:,} rows, {TRIALS} trials: loss {goal:.6g}, optuna's median over {len(theirs)} seed(s)"
    ]
    summary: dict[str, Any] = {"loss": goal}
    for kind in ("assay", "optuna"):
        names = [name for name in outcome.outputs if name.endswith(f":{kind}")]
        if not names:
            continue
        times = [reached(outcome.outputs[name], goal) for name in names]
        ends = [finals[name] for name in names]
        median, all_of_it = statistics.median(times), statistics.median(outcome.seconds[n] for n in names)
        lines.append(
            f"  {kind:8s} {median:8.1f} s to that loss ({min(times):.1f} to {max(times):.1f}); all trials "
            f"{all_of_it:.1f} s; best loss {statistics.median(ends):.6g} ({min(ends):.6g} to {max(ends):.6g}); "
            f"{max(outcome.peak_python_mb[n] for n in names):,.0f} MB without Java"
        )
        summary[kind] = {"seconds_to_loss": times, "median": median, "all_trials": all_of_it, "best_losses": ends}
    if "assay" in summary:
        ratio = summary["optuna"]["median"] / summary["assay"]["median"]
        lines.append(f"  ours is {ratio:.2f} times as fast to that loss")
        summary["times_faster"] = ratio
    return "\n".join(lines), {"tune": summary}


BENCHMARK = Benchmark(
    name="tune",
    rows=ALL_ROWS,
    generate=generate,
    contenders={
        f"seed{seed}:{kind}": Contender(partial(prepare, seed=seed), run, outputs, against=f"seed{seed}:assay")
        for seed in SEEDS
        for kind, prepare, run in (("assay", prepare_ours, run_ours), ("optuna", prepare_optuna, run_optuna))
    },
    report=report,
    repeats=1,
)
